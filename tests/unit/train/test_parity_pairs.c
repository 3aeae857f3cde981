/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objectives on pairs through the whole engine against PyTorch: loss, metrics, gradient norm of the six tiny models and every gradient that
 * the parity set has, on ref and cpu, with the prompt shared; and a shared prompt against a repeated one.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "objective/tape.h"
#include "places.h"
#include "safetensors_mini.h"

static DpsError err = DPS_ERROR_INIT;
static const char *const devices[] = {"ref", "cpu"}, *const models[] = {"gemma2", "gemma3", "llama", "mistral", "qwen2", "qwen3"};
static char folder[] = "/tmp/diapason-test-XXXXXX";
enum { N_PAIRS = 6 };

/** A loss of the parity set and the recipe that asks for it. */
typedef struct Loss {
    const char *name, *stage, *keys;
} Loss;

static const Loss losses[] = {
    {"simpo", "simpo", "beta: 2\nsimpo_gamma: 1\ncpo_alpha: 0\n"},
    {"dpo", "dpo", "beta: 0.1\n"},
    {"reward", "reward", ""},
    {"reward_centered", "reward", "center_rewards_coefficient: 0.01\n"},
};
enum { N_LOSSES = sizeof losses / sizeof *losses };

static json_t *read_json (const char *rest)
{
    json_t *j = NULL;
    CHECK_OK (dps_json_file (parity_path (rest), 1 << 26, 0, &j, &err));
    return j;
}

typedef struct Run {
    DpsRegistry *reg;
    DpsRecipe *recipe;
    DpsTrainer t;
    json_t *batch;
    double loss, norm;
} Run;

/* The recorded score head, instead of a fresh one. */
static void take_head (Run *r, const char *model)
{
    char rest[128];
    StFile heads;
    int32_t score = r->t.session.model.score;
    if (score < 0)
        return;
    snprintf (rest, sizeof rest, "models/%s/heads.safetensors", model);
    st_open (&heads, parity_path (rest));
    StTensor x = st_get (&heads, "score.weight");
    CU_ASSERT_EQUAL_FATAL (x.n, dps_weight_elements (&r->t.session.model.weights[score]));
    float *copy = malloc (x.bytes);
    memcpy (copy, x.data, x.bytes);
    CHECK_OK (dps_weights_set (&r->t.session.weights, score, copy, &err));
    free (copy);
    st_close (&heads);
}

static void open_run (Run *r, const Loss *loss, const char *model, const char *device, int checkpointing, const char *adapter)
{
    char text[2048], rows[128], rest[128], parity[512];
    static const DpsTrainOptions quiet = {0};
    snprintf (rows, sizeof rows, "%s/rows.jsonl", folder);
    write_rows (rows, 1);
    snprintf (rest, sizeof rest, "models/%s", model);
    snprintf (parity, sizeof parity, "%s", parity_path (rest));
    int n = snprintf (text, sizeof text,
                      "model_name_or_path: %s\nstage: %s\n%sdevice: %s\ndtype: float32\noutput_dir: %s/run\nmax_steps: 2\n"
                      "per_device_train_batch_size: 4\ngradient_checkpointing: %s\noverwrite_output_dir: true\ndatasets: %s\n%s%s\n%s",
                      parity, loss->stage, loss->keys, device, folder, checkpointing ? "true" : "false", rows,
                      adapter ? "adapter_init: " : "adapter: none", adapter ? adapter : "", adapter ? "lora_dropout: 0\n" : "");
    CU_ASSERT_FATAL (n > 0 && (size_t)n < sizeof text);
    CHECK_OK (dps_recipe_parse (text, (size_t)n, "run", NULL, NULL, 0, &r->recipe, &err));
    CHECK_OK (dps_registry_open (NULL, &r->reg, &err));
    CHECK_OK (dps__trainer_open (&r->t, r->reg, r->recipe, &quiet, 0, &err));
    r->t.session.ex.sealed = 0; /* the batches below are not those the recipe planned */
    snprintf (rest, sizeof rest, "models/%s/batch.json", model);
    r->batch = read_json (rest);
    take_head (r, model);
}

/* The recorded log-probs of the reference, instead of those of the policy as it starts. */
static void take_reference (Run *r)
{
    json_t *all = json_object_get (r->batch, "ref_logps"), *value;
    for (size_t i = 0; i < N_PAIRS && r->t.reference.n; i++) {
        float logp[128];
        size_t n = 0, k, at;
        for (k = 0; k < 2; k++)
            json_array_foreach (json_array_get (all, 2 * i + k), at, value)
                logp[n++] = (float)json_number_value (value);
        CHECK_OK (dps__reference_set (&r->t.reference, i, logp, n, &err));
    }
}

/* Gradients of all pairs' mean loss. */
static void gradients (Run *r, int shared)
{
    DpsPlace places[N_PAIRS];
    take_reference (r);
    for (size_t i = 0; i < N_PAIRS; i++)
        places[i] = place_of_pair (r->batch, i, shared, dps__trainer_scores (&r->t));
    CHECK_OK (dps__trainer_gradients (&r->t, places, N_PAIRS, &r->loss, &r->norm, &err));
    for (size_t i = 0; i < N_PAIRS; i++)
        dps_place_free (&places[i]);
}

static void close_run (Run *r)
{
    dps__trainer_close (&r->t);
    dps_registry_close (r->reg);
    dps_recipe_free (r->recipe);
    json_decref (r->batch);
}

static double metric_of (const DpsTrainer *t, const char *name)
{
    for (size_t i = 0; i < t->sums.n_metrics; i++)
        if (!strcmp (t->sums.metrics[i].name, name))
            return dps_step_metric (&t->sums, i);
    printf ("\n    no metric '%s'\n", name);
    CU_ASSERT_FATAL (0);
    return 0;
}

/* ‖g − want‖ / ‖want‖; without a reference the gradient must be zero. */
static double off_by (const float *g, int64_t n, const float *want)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        float w = 0;
        if (want)
            memcpy (&w, (const char *)want + 4 * i, 4);
        diff += ((double)g[i] - (double)w) * ((double)g[i] - (double)w);
        norm += (double)w * (double)w;
    }
    return norm > 0 ? sqrt (diff / norm) : sqrt (diff);
}

static size_t check_gradients (const Run *r, const StFile *expected, const char *loss, const char *where)
{
    const DpsModel *m = &r->t.session.model;
    size_t seen = 0;
    for (size_t i = 0; i < m->n_weights; i++) {
        char name[256];
        const float *g = dps_weights_grad (&r->t.session.weights, (int32_t)i);
        snprintf (name, sizeof name, "grad.%s.%s%s", loss,
                  i < m->n_base || m->weights[i].role == DPS_WEIGHT_SCORE ? "" : "base_model.model.", m->weights[i].name);
        int known = json_object_get (expected->header, name) != NULL;
        seen += (size_t)known;
        if (!g) {
            CU_ASSERT (!known);
            continue;
        }
        const float *want = known ? st_get (expected, name).data : NULL;
        double off = off_by (g, dps_weight_elements (&m->weights[i]), want);
        if (!(off <= 1e-4))
            printf ("\n    %s %s: off by %g\n", where, name, off);
        CU_ASSERT (off <= 1e-4);
    }
    return seen;
}

static size_t count_gradients (const StFile *expected, const char *loss)
{
    char prefix[64];
    const char *name;
    json_t *ignored;
    size_t n = 0;
    snprintf (prefix, sizeof prefix, "grad.%s.", loss);
    json_object_foreach (expected->header, name, ignored)
        n += !strncmp (name, prefix, strlen (prefix));
    return n;
}

static void check_scalars (const Run *r, const StFile *expected, const char *loss)
{
    static const char *const names[][2] = {{"rewards/accuracies", "accuracy"},
                                           {"rewards/chosen", "chosen_reward"},
                                           {"rewards/rejected", "rejected_reward"},
                                           {"rewards/margins", "margin"}};
    char key[128];
    snprintf (key, sizeof key, "loss.%s", loss);
    double want = st_scalar (expected, key);
    CHECK_NEAR (r->loss, want, 2e-5 + 1e-5 * fabs (want));
    snprintf (key, sizeof key, "grad_norm.%s", loss);
    CHECK_NEAR (r->norm / st_scalar (expected, key), 1, 1e-4);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf (key, sizeof key, "metric.%s.%s", loss, names[i][1]);
        want = st_scalar (expected, key);
        CHECK_NEAR (metric_of (&r->t, names[i][0]), want, 2e-5 + 1e-5 * fabs (want));
    }
}

static void test_models (void)
{
    for (size_t d = 0; d < 2; d++)
        for (size_t m = 0; m < sizeof models / sizeof *models; m++)
            for (size_t l = 0; l < N_LOSSES; l++) {
                char where[128], rest[128];
                Run r;
                StFile expected;
                snprintf (where, sizeof where, "%s on %s:", models[m], devices[d]);
                snprintf (rest, sizeof rest, "models/%s/expected.safetensors", models[m]);
                st_open (&expected, parity_path (rest));
                size_t gradients_known = count_gradients (&expected, losses[l].name);
                open_run (&r, &losses[l], models[m], devices[d], (m + l) % 2, NULL);
                gradients (&r, 1);
                check_scalars (&r, &expected, losses[l].name);
                if (gradients_known)
                    CU_ASSERT_EQUAL (check_gradients (&r, &expected, losses[l].name, where), gradients_known);
                close_run (&r);
                st_close (&expected);
            }
}

static void test_adapters (void)
{
    static const char *const kinds[] = {"lora", "rslora", "dora"}, *const bases[] = {"gemma3", "llama"};
    for (size_t i = 0; i < 12; i++) {
        char adapter[512], rest[128], where[128];
        const char *base = bases[i % 2], *kind = kinds[i / 2 % 3], *device = devices[i / 6];
        Run r;
        StFile expected;
        snprintf (where, sizeof where, "%s-%s on %s:", base, kind, device);
        snprintf (rest, sizeof rest, "lora/%s-%s", base, kind);
        snprintf (adapter, sizeof adapter, "%s", parity_path (rest));
        snprintf (rest, sizeof rest, "lora/%s-%s/expected.safetensors", base, kind);
        st_open (&expected, parity_path (rest));
        open_run (&r, &losses[0], base, device, i % 2, adapter);
        gradients (&r, 1);
        check_scalars (&r, &expected, "simpo");
        CU_ASSERT_EQUAL (check_gradients (&r, &expected, "simpo", where), count_gradients (&expected, "simpo"));
        close_run (&r);
        st_close (&expected);
    }
}

/* DESIGN section 2: the same bits in the forward pass, 1e-5 in gradients. */
static void test_a_shared_prompt_is_a_repeated_one (void)
{
    for (size_t d = 0; d < 2; d++) {
        Run r;
        open_run (&r, &losses[0], "gemma3", devices[d], 0, NULL);
        DpsWeights *w = &r.t.session.weights;
        gradients (&r, 0);
        double loss = r.loss;
        size_t n = r.t.session.model.n_weights;
        float **kept = dps_calloc (n, sizeof *kept);
        for (size_t i = 0; i < n; i++) {
            size_t bytes = (size_t)dps_weight_elements (&r.t.session.model.weights[i]) * sizeof (float);
            kept[i] = dps_malloc (bytes, 1);
            memcpy (kept[i], dps_weights_grad (w, (int32_t)i), bytes);
        }
        gradients (&r, 1);
        CU_ASSERT_EQUAL (memcmp (&loss, &r.loss, sizeof loss), 0);
        for (size_t i = 0; i < n; i++) {
            double off = off_by (dps_weights_grad (w, (int32_t)i), dps_weight_elements (&r.t.session.model.weights[i]), kept[i]);
            if (!(off <= 1e-5))
                printf ("\n    %s: off by %g\n", r.t.session.model.weights[i].name, off);
            CU_ASSERT (off <= 1e-5);
            dps_free (kept[i]);
        }
        dps_free (kept);
        close_run (&r);
    }
}

CHECK_SUITE (check_all, "parity: preference pairs", T (test_models), T (test_adapters), T (test_a_shared_prompt_is_a_repeated_one))

int main (void)
{
    DpsError ignored;
    if (!mkdtemp (folder) || dps_tape_provide (&err) != DPS_OK)
        return 2;
    int code = check_all ();
    return dps_remove_tree (folder, &ignored) == DPS_OK ? code : 2;
}
