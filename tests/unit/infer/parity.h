/* SPDX-License-Identifier: Apache-2.0 */
/* parity.h: a tiny model of tests/data/parity on one backend, its batch, and passes over it. */
#ifndef DPS_TESTS_PARITY_H
#define DPS_TESTS_PARITY_H

#include "infer/pass.h"
#include "parity_kit.h"

typedef struct Tiny {
    DpsRegistry *reg;
    DpsExec ex;
    DpsModel model;
    DpsWeights weights;
    StFile file;
    json_t *batch;
} Tiny;

/* Registry, device and configuration; adapters may be attached before tiny_load. */
static inline void tiny_open (Tiny *t, const char *name, const char *config, const char *device)
{
    char rest[256];
    DpsError err = DPS_ERROR_INIT;
    memset (t, 0, sizeof *t);
    CHECK_OK (dps_registry_open (NULL, &t->reg, &err));
    open_device (&t->ex, t->reg, device);
    snprintf (rest, sizeof rest, "models/%s/%s", name, config);
    json_t *j = parity_json (rest);
    CHECK_OK (dps_model_init (&t->model, j, &err));
    json_decref (j);
    snprintf (rest, sizeof rest, "models/%s/batch.json", name);
    t->batch = parity_json (rest);
    snprintf (rest, sizeof rest, "models/%s/model.safetensors", name);
    st_open (&t->file, parity_path (rest));
}

static inline void tiny_load_as (Tiny *t, uint32_t compute, int training)
{
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_weights_load (&t->weights, &t->ex, &t->model, NULL, compute, training, 2, &err));
    for (size_t i = 0; i < t->model.n_base; i++) {
        StTensor x = st_get (&t->file, t->model.weights[i].name);
        set_weight (&t->weights, (int32_t)i, &x);
    }
}

static inline void tiny_load (Tiny *t, int training) { tiny_load_as (t, DPS_DTYPE_F32, training); }

static inline void tiny_close (Tiny *t)
{
    dps_weights_free (&t->weights);
    dps_model_free (&t->model);
    dps_exec_close (&t->ex);
    dps_registry_close (t->reg);
    st_close (&t->file);
    json_decref (t->batch);
}

/* Sequences of batch.json; mask: "sft_mask", "completion_mask" or NULL (every token but the first). Free with sequences_free. */
static inline DpsSequence *sequences_of (json_t *batch, const char *mask, size_t *out_n)
{
    json_t *all = json_object_get (batch, "sequences");
    size_t n = json_array_size (all);
    DpsSequence *seqs = calloc (n, sizeof *seqs);
    for (size_t i = 0; i < n; i++) {
        json_t *s = json_array_get (all, i), *ids = json_object_get (s, "ids"), *m = mask ? json_object_get (s, mask) : NULL;
        size_t len = json_array_size (ids);
        int32_t *copy = calloc (len, sizeof *copy);
        float *weights = m ? calloc (len, sizeof *weights) : NULL;
        for (size_t k = 0; k < len; k++) {
            copy[k] = (int32_t)json_integer_value (json_array_get (ids, k));
            if (m)
                weights[k] = (float)json_integer_value (json_array_get (m, k));
        }
        seqs[i] = (DpsSequence){.ids = copy, .weights = weights, .n = len, .key = i};
    }
    *out_n = n;
    return seqs;
}

static inline void sequences_free (DpsSequence *seqs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free ((void *)seqs[i].ids);
        free ((void *)seqs[i].weights);
    }
    free (seqs);
}

static double pass_hits, pass_scored; /* of the last nll_pass */

/* metric.LOSS.token_accuracy and .tokens against the last nll_pass. */
static inline void check_metrics (const StFile *expected, const char *loss)
{
    char name[128];
    snprintf (name, sizeof name, "metric.%s.tokens", loss);
    CHECK_NEAR (pass_scored, st_scalar (expected, name), 0);
    snprintf (name, sizeof name, "metric.%s.token_accuracy", loss);
    CHECK_NEAR (pass_hits / pass_scored, st_scalar (expected, name), 3e-5);
}

/* Mean NLL over the scored tokens, and with training the gradients of it added to the weights. */
static inline double nll_pass (Tiny *t, const DpsSequence *seqs, size_t n, int training, int checkpoint, double total)
{
    DpsError err = DPS_ERROR_INIT;
    DpsBatch b;
    DpsPass p;
    CHECK_OK (dps_batch_build (seqs, n, t->model.dec.vocab, &b, &err));
    DpsPassOptions o = {.training = training, .checkpoint = checkpoint};
    CHECK_OK (dps_pass_open (&p, &t->weights, &b, &o, &err));
    CHECK_OK (dps_pass_forward (&p, &err));
    const float *logp = dps_pass_logp (&p);
    float *dlogp = malloc ((size_t)b.n_scored * sizeof *dlogp + 4);
    double sum = 0, count = total > 0 ? total : (double)b.n_scored;
    const float *hit = dps_pass_hit (&p);
    pass_hits = 0;
    pass_scored = (double)b.n_scored;
    for (int64_t i = 0; i < b.n_scored; i++) {
        pass_hits += (double)hit[i];
        sum -= (double)logp[i];
        dlogp[i] = (float)(-1 / count);
    }
    if (training)
        CHECK_OK (dps_pass_backward (&p, dlogp, &err));
    free (dlogp);
    dps_pass_close (&p);
    dps_batch_free (&b);
    return sum / count;
}

#endif
