/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GRPO's family through the whole engine against PyTorch: recorded rollouts of groups are scored, then loss, metrics and gradient norm of the six
 * tiny models and every gradient that the parity set has, on every backend, each group's prompt shared; without a recorded rollout the ratio is 1.
 */
#include "parity_run.h"

enum { N_GROUPS = 3, GROUP = 4, N_CRITERIA = 3 };

/* Entry `index` of batch.json's groups, with the prompt once for all its answers, and what they earned. */
static DpsPlace place_of_group (const json_t *batch, size_t index)
{
    DpsPlace p = {0};
    for (size_t k = 0; k < GROUP; k++) {
        size_t at = (size_t)json_integer_value (json_array_get (json_array_get (json_object_get (batch, "groups"), index), k));
        json_t *s = json_array_get (json_object_get (batch, "sequences"), at);
        place_add (&p, batch, at, "completion_mask", (size_t)json_integer_value (json_object_get (s, "prompt_length")));
        p.sequences[k].row = index;
    }
    dps_batch_count (p.sequences, p.n, &p.counts);
    p.rewards = dps_calloc (GROUP * N_CRITERIA, sizeof *p.rewards);
    for (size_t i = 0; i < GROUP * N_CRITERIA; i++) {
        json_t *v = json_array_get (json_array_get (json_object_get (batch, "rewards"), GROUP * index + i / N_CRITERIA), i % N_CRITERIA);
        p.rewards[i] = json_is_number (v) ? json_number_value (v) : NAN;
    }
    return p;
}

/* What batch.json's `key` says of a group's tokens, as signal logp of a role, where the objective reads that. */
static void record (const DpsTrainer *t, DpsPlace *p, const json_t *batch, const char *key, size_t group, const char *role)
{
    float values[256];
    size_t n = 0, i;
    json_t *value;
    int signal = dps_objective_signal (t->objective, "logp", role);
    if (signal < 0)
        return;
    for (size_t k = 0; k < GROUP; k++)
        json_array_foreach (json_array_get (json_object_get (batch, key), GROUP * group + k), i, value)
            values[n++] = (float)json_number_value (value);
    CU_ASSERT_EQUAL_FATAL ((int64_t)n, p->counts.scored);
    CHECK_OK (dps__places_record (t, (uint32_t)signal, p, 1, values, &err));
}

static void gradients (Run *r, int recorded)
{
    double weights[N_CRITERIA];
    static const DpsStr names[N_CRITERIA] = {{"a", 1}, {"b", 1}, {"c", 1}};
    const DpsRewards meta = {.size = sizeof meta, .n_criteria = N_CRITERIA, .weights = weights, .names = names};
    DpsPlace places[N_GROUPS];
    for (size_t c = 0; c < N_CRITERIA; c++)
        weights[c] = json_number_value (json_array_get (json_object_get (r->batch, "reward_weights"), c));
    for (size_t i = 0; i < N_GROUPS; i++) {
        places[i] = place_of_group (r->batch, i);
        if (recorded)
            record (&r->t, &places[i], r->batch, "old_logps", i, "rollout");
        record (&r->t, &places[i], r->batch, "ref_logps", i, "reference");
    }
    CHECK_OK (dps__trainer_score (&r->t, places, N_GROUPS, &meta, &err));
    CHECK_OK (dps__trainer_gradients (&r->t, places, N_GROUPS, &r->loss, &r->norm, &err));
    for (size_t i = 0; i < N_GROUPS; i++)
        dps_place_free (&places[i]);
}

/* A variant of batch.json as keys of a recipe. */
static void write_keys (const json_t *v, char *out, size_t size)
{
    const char *mode = json_string_value (json_object_get (v, "advantages"));
    const int sum = !strncmp (mode, "sum_", 4);
    snprintf (out, size,
              "loss_type: %s\nimportance_sampling_level: %s\nepsilon: %g\nepsilon_high: %g\nbeta: %g\nuse_bias_correction_kl: %s\n"
              "scale_rewards: %s\nmulti_objective_aggregation: %s\nmax_completion_length: 16\n",
              json_string_value (json_object_get (v, "loss_type")), json_string_value (json_object_get (v, "level")),
              json_number_value (json_object_get (v, "epsilon_low")), json_number_value (json_object_get (v, "epsilon_high")),
              json_number_value (json_object_get (v, "beta")), json_is_true (json_object_get (v, "kl_correction")) ? "true" : "false",
              sum ? mode + 4 : "group", sum ? "sum_then_normalize" : "normalize_then_sum");
}

static double scalar (const StFile *expected, const char *kind, const char *loss, const char *rest)
{
    char key[96];
    snprintf (key, sizeof key, "%s.%s%s", kind, loss, rest);
    return st_scalar (expected, key);
}

/* One token or answer on a clip's bound. */
static double slack_of (const char *metric, const char *loss)
{
    return strncmp (metric, ".clip", 5) ? 0 : strncmp (loss, "gspo", 4) ? 1.0 / 80 : 1.0 / 12;
}

static void check_scalars (const Run *r, const StFile *expected, const char *loss, double beta)
{
    static const char *const names[] = {".clip_ratio/low_mean", ".clip_ratio/high_mean", ".clip_ratio/region_mean", ".entropy", ".kl"};
    double want = scalar (expected, "loss", loss, "");
    CHECK_NEAR (r->loss, want, 2e-5 + 1e-5 * fabs (want));
    CHECK_NEAR (r->norm / scalar (expected, "grad_norm", loss, ""), 1, 1e-4);
    for (size_t i = 0; i < (beta > 0 ? 5 : 4); i++) {
        want = scalar (expected, "metric", loss, names[i]);
        CHECK_NEAR (metric_of (&r->t, names[i] + 1), want, 2e-5 + 1e-5 * fabs (want) + slack_of (names[i], loss));
    }
}

static void check_variant (const char *model, const char *device, const char *name, const json_t *variant, int checkpointing)
{
    char where[128], rest[128], keys[512];
    Run r;
    StFile expected;
    const Loss loss = {name, "grpo", keys, 1};
    write_keys (variant, keys, sizeof keys);
    snprintf (where, sizeof where, "%s on %s:", model, device);
    snprintf (rest, sizeof rest, "models/%s/expected.safetensors", model);
    st_open (&expected, parity_path (rest));
    size_t known = count_gradients (&expected, name);
    open_run (&r, &loss, model, device, checkpointing, NULL);
    gradients (&r, 1);
    check_scalars (&r, &expected, name, json_number_value (json_object_get (variant, "beta")));
    if (known)
        CU_ASSERT_EQUAL (check_gradients (&r, &expected, name, where), known);
    close_run (&r);
    st_close (&expected);
}

/* Every variant on every model: where gradients are recorded on every device, elsewhere the devices take turns. */
static void test_models (void)
{
    size_t n_devices = 0;
    while (parity_devices ()[n_devices])
        n_devices++;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        const int whole = !strcmp (models[m], "gemma3") || !strcmp (models[m], "llama");
        char rest[128];
        const char *name;
        json_t *variant;
        size_t i = 0;
        snprintf (rest, sizeof rest, "models/%s/batch.json", models[m]);
        json_t *batch = parity_json (rest);
        json_object_foreach (json_object_get (batch, "grpo_variants"), name, variant) {
            for (size_t d = 0; d < n_devices; d++)
                if (whole || d == (i + m) % n_devices)
                    check_variant (models[m], parity_devices ()[d], name, variant, (int)((i / 2 + d) % 2));
            i++;
        }
        json_decref (batch);
    }
}

/* Answers that were given: the rollout is the policy itself, to the last bit, so the loss at beta 0 is minus the mean advantage. */
static void test_given_answers_are_at_ratio_1 (void)
{
    EACH_DEVICE (device) {
        Run r;
        const Loss loss = {"grpo", "grpo", "loss_type: grpo\nepsilon: 0\n", 1};
        open_run (&r, &loss, "gemma3", device, 0, NULL);
        gradients (&r, 0);
        CHECK_NEAR (r.loss, 0, 1e-15); /* advantages of a group add up to 0 */
        CU_ASSERT (r.norm > 1e-3);
        CU_ASSERT_EQUAL (metric_of (&r.t, "clip_ratio/region_mean"), 0);
        close_run (&r);
    }
}

CHECK_SUITE (check_all, "parity: groups of answers", T (test_models), T (test_given_answers_are_at_ratio_1))

int main (void) { return in_folder (check_all); }
