/* SPDX-License-Identifier: Apache-2.0 */
/* parity.h: what the parity tests share: a tiny model of tests/data/parity on one backend, its batch, comparisons at the set's limits. */
#ifndef DPS_TESTS_PARITY_H
#define DPS_TESTS_PARITY_H

#include "base/mem.h"
#include "exec/stage.h"
#include "infer/pass.h"
#include "safetensors_mini.h"

typedef struct Tiny {
    DpsRegistry *reg;
    DpsExec ex;
    DpsModel model;
    DpsWeights weights;
    StFile file;
    json_t *batch;
} Tiny;

static inline json_t *parity_json (const char *rest)
{
    json_t *j = NULL;
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_json_file (parity_path (rest), 1 << 26, 0, &j, &err));
    return j;
}

/* Registry, device and configuration; adapters may be attached before tiny_load. */
static inline void tiny_open (Tiny *t, const char *name, const char *config, const char *device)
{
    char rest[256];
    DpsError err = DPS_ERROR_INIT;
    memset (t, 0, sizeof *t);
    CHECK_OK (dps_registry_open (NULL, &t->reg, &err));
    CHECK_OK (dps_exec_open (&t->ex, t->reg, &device, 1, &err));
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
        CU_ASSERT_EQUAL_FATAL (x.n, dps_weight_elements (&t->model.weights[i]));
        float *copy = malloc (x.bytes);
        memcpy (copy, x.data, x.bytes);
        CHECK_OK (dps_weights_set (&t->weights, (int32_t)i, copy, &err));
        free (copy);
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

/* A weight's gradient in host memory, wherever the device keeps it; free it. */
static inline float *tiny_grad (Tiny *t, int32_t weight)
{
    DpsError err = DPS_ERROR_INIT;
    size_t bytes = (size_t)dps_weight_elements (&t->model.weights[weight]) * sizeof (float);
    float *g = malloc (bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL (g);
    CHECK_OK (dps_weights_join_grad (&t->weights, weight, &err));
    CHECK_OK (dps_block_get (&t->ex, &t->weights.stores[weight].grad, 0, g, bytes, &err));
    return g;
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

/* Largest difference, printed with the tensor's name when it is over the limit. */
static inline void check_close (const char *name, const float *got, const StTensor *want, double limit)
{
    const float *w = want->data;
    double worst = 0;
    for (int64_t i = 0; i < want->n; i++) {
        float expected;
        memcpy (&expected, (const char *)w + 4 * i, 4);
        double d = fabs ((double)got[i] - (double)expected);
        worst = !(d <= worst) ? d : worst;
    }
    if (!(worst <= limit))
        printf ("\n    %s: differs by %g, limit %g\n", name, worst, limit);
    CU_ASSERT (worst <= limit);
}

/* ‖g − g'‖ / ‖g'‖; a tensor without a reference must be zero. */
static inline void check_gradient (const char *name, const float *got, int64_t n, const StTensor *want, double limit)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        float expected = 0;
        if (want)
            memcpy (&expected, (const char *)want->data + 4 * i, 4);
        diff += ((double)got[i] - (double)expected) * ((double)got[i] - (double)expected);
        norm += (double)expected * (double)expected;
    }
    double relative = norm > 0 ? sqrt (diff / norm) : sqrt (diff);
    if (!(relative <= limit))
        printf ("\n    %s: gradient off by %g of its norm, limit %g\n", name, relative, limit);
    CU_ASSERT (relative <= limit);
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
