/* SPDX-License-Identifier: Apache-2.0 */
/* parity_run.h: a trainer on a tiny model of the parity set, opened as a recipe opens it, and its gradients against the recorded ones. */
#ifndef DPS_TESTS_PARITY_RUN_H
#define DPS_TESTS_PARITY_RUN_H

#include <unistd.h>

#include "objective/tape.h"
#include "parity_kit.h"
#include "places.h"

static DpsError err = DPS_ERROR_INIT;
static const char *const models[] = {"gemma2", "gemma3", "llama", "mistral", "qwen2", "qwen3"};
static char folder[] = "/tmp/diapason-test-XXXXXX";

/** A loss of the parity set and the recipe that asks for it. */
typedef struct Loss {
    const char *name, *stage, *keys;
    int pairs; /* its rows are pairs */
} Loss;

typedef struct Run {
    DpsRegistry *reg;
    DpsRecipe *recipe;
    DpsTrainer t;
    json_t *batch;
    double loss, norm;
} Run;

/* The recorded heads of this model, instead of fresh ones. */
static inline void take_heads (Run *r, const char *model)
{
    const DpsModel *m = &r->t.session.model;
    char rest[128];
    StFile heads;
    snprintf (rest, sizeof rest, "models/%s/heads.safetensors", model);
    st_open (&heads, parity_path (rest));
    for (size_t i = m->n_base; i < m->n_weights; i++) {
        if (!dps_model_is_head (m, (int32_t)i))
            continue;
        StTensor x = st_get (&heads, m->weights[i].name);
        set_weight (&r->t.session.weights, (int32_t)i, &x);
    }
    st_close (&heads);
}

static inline void open_run (Run *r, const Loss *loss, const char *model, const char *device, int checkpointing, const char *adapter)
{
    char text[2048], rows[128], rest[128], parity[512];
    static const DpsTrainOptions quiet = {0};
    snprintf (rows, sizeof rows, "%s/rows.jsonl", folder);
    write_rows (rows, loss->pairs);
    snprintf (rest, sizeof rest, "models/%s", model);
    snprintf (parity, sizeof parity, "%s", parity_path (rest));
    int n =
        snprintf (text, sizeof text,
                  "model_name_or_path: %s\nstage: %s\n%sdevice: %s\nstrict_device: true\ndtype: float32\noutput_dir: %s/run\nmax_steps: 2\n"
                  "per_device_train_batch_size: 4\ngradient_checkpointing: %s\noverwrite_output_dir: true\ndatasets: %s\n%s%s\n%s",
                  parity, loss->stage, loss->keys, device, folder, checkpointing ? "true" : "false", rows,
                  adapter ? "adapter_init: " : "adapter: none", adapter ? adapter : "", adapter ? "lora_dropout: 0\n" : "");
    CU_ASSERT_FATAL (n > 0 && (size_t)n < sizeof text);
    CHECK_OK (dps_recipe_parse (text, (size_t)n, "run", NULL, NULL, 0, &r->recipe, &err));
    CHECK_OK (dps_registry_open (NULL, &r->reg, &err));
    CHECK_OK (dps__trainer_open (&r->t, r->reg, r->recipe, &quiet, 0, &err));
    r->t.session.ex.sealed = 0; /* the batches below are not those the recipe planned */
    snprintf (rest, sizeof rest, "models/%s/batch.json", model);
    r->batch = parity_json (rest);
    take_heads (r, model);
}

static inline void close_run (Run *r)
{
    dps__trainer_close (&r->t);
    dps_registry_close (r->reg);
    dps_recipe_free (r->recipe);
    json_decref (r->batch);
}

static inline double metric_of (const DpsTrainer *t, const char *name)
{
    for (size_t i = 0; i < t->sums.n_metrics; i++)
        if (!strcmp (t->sums.metrics[i].name, name))
            return dps_step_metric (&t->sums, i);
    printf ("\n    no metric '%s'\n", name);
    CU_ASSERT_FATAL (0);
    return 0;
}

static inline size_t check_gradients (Run *r, const StFile *expected, const char *loss, const char *where)
{
    const DpsModel *m = &r->t.session.model;
    size_t seen = 0;
    for (size_t i = 0; i < m->n_weights; i++) {
        char name[256], label[400];
        float *g = gradient_of (&r->t.session.weights, (int32_t)i);
        StTensor want;
        snprintf (name, sizeof name, "grad.%s.%s%s", loss, i < m->n_base || dps_model_is_head (m, (int32_t)i) ? "" : "base_model.model.",
                  m->weights[i].name);
        snprintf (label, sizeof label, "%s %s", where, name);
        int known = st_find (expected, name, &want);
        seen += (size_t)known;
        if (!g) {
            CU_ASSERT (!known);
            continue;
        }
        check_gradient (label, g, dps_weight_elements (&m->weights[i]), known ? &want : NULL, 1e-4);
        free (g);
    }
    return seen;
}

static inline size_t count_gradients (const StFile *expected, const char *loss)
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

/* The suite in a scratch folder of its own. */
static inline int in_folder (int (*suite) (void))
{
    DpsError ignored;
    if (!mkdtemp (folder) || dps_tape_provide (&err) != DPS_OK)
        return 2;
    int code = suite ();
    return dps_remove_tree (folder, &ignored) == DPS_OK ? code : 2;
}

#endif
