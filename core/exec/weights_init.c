/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights_init.c: how adapter weights begin: zeros, random numbers that depend on seed, name and place alone, row norms of the base, or as the
 * plugin itself says.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "exec/weights.h"

/* ‖W‖ per row of a base weight: dora_norm with empty A and B. */
static DpsStatus init_weight_norm (DpsWeights *w, const DpsWeight *spec, float *out, DpsError *err)
{
    const DpsWeight *base = &w->model->weights[spec->base];
    int64_t a_shape[2] = {0, base->shape[1]}, b_shape[2] = {base->shape[0], 0};
    DpsView weight = dps_view (w->compute, 2, base->shape, NULL), a = dps_view (DPS_DTYPE_F32, 2, a_shape, out),
            b = dps_view (DPS_DTYPE_F32, 2, b_shape, out), norm = dps_view (DPS_DTYPE_F32, 1, spec->shape, out);
    DPS_TRY (dps_weights_resolve (w, DPS_TENSOR_PARAM, spec->base, DPS_OP_dora_norm, 0, &weight, err));
    return dps_exec_op (w->ex, DPS_OP_dora_norm, (DpsOp){DPS_IN (&weight, &a, &b, NULL), DPS_OUT (NULL, &norm), DPS_ATTRS ({.f = 0})}, err);
}

typedef struct Rows {
    DpsWeights *w;
    int32_t weight;
} Rows;

/* DpsAdapterRows.read over a base weight. */
static DpsStatus read_rows (void *ctx, int64_t row, int64_t rows, float *dst, DpsError *err)
{
    const Rows *r = ctx;
    return dps_weights_rows (r->w, r->weight, row, rows, dst, err);
}

/* The plugin's own start, which may read the base weight. */
static DpsStatus init_own (DpsWeights *w, const DpsWeight *spec, float *out, DpsError *err)
{
    const DpsModel *m = w->model;
    const DpsWeight *base = &m->weights[spec->base];
    const DpsSite *site = &m->sites[spec->base];
    Rows rows = {w, spec->base};
    const DpsAdapterRows source = {
        .size = sizeof source, .ctx = &rows, .out_features = base->shape[0], .in_features = base->shape[1], .read = read_rows};
    uint32_t param = 0;
    while (param < site->n && &m->weights[site->weight[param]] != spec)
        param++;
    if (!site->adapter->init)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "adapter: '%s' is to start as its plugin says, and the plugin has no init", spec->name);
    return site->adapter->init (site->self, (DpsStr){base->name, strlen (base->name) - strlen (".weight")}, param, &source, out, err);
}

static DpsStatus init_values (DpsWeights *w, const DpsWeight *spec, uint64_t seed, float *out, DpsError *err)
{
    int64_t n = dps_weight_elements (spec);
    uint64_t stream = dps_rng_stream (spec->name);
    double bound = spec->rank > 1 && spec->shape[1] > 0 ? 1 / sqrt ((double)spec->shape[1]) : 0;
    switch (spec->init) {
    case DPS_INIT_ZERO: memset (out, 0, (size_t)n * sizeof *out); return DPS_OK;
    case DPS_INIT_KAIMING_UNIFORM:
        for (int64_t k = 0; k < n; k++)
            out[k] = (float)((2 * dps_rng_uniform (seed, stream, (uint64_t)k) - 1) * bound);
        return DPS_OK;
    case DPS_INIT_NORMAL:
        for (int64_t k = 0; k < n; k++)
            out[k] = (float)(dps_rng_normal (seed, stream, (uint64_t)k) * spec->init_scale);
        return DPS_OK;
    case DPS_INIT_WEIGHT_NORM: return init_weight_norm (w, spec, out, err);
    case DPS_INIT_OWN: return init_own (w, spec, out, err);
    default:
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "adapter: '%s' asks for initialisation %u, which this host does not know", spec->name,
                         spec->init);
    }
}

DpsStatus dps_weights_init_one (DpsWeights *w, int32_t weight, uint64_t seed, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[weight];
    float *values = dps_malloc ((size_t)dps_weight_elements (spec), sizeof *values);
    if (!values)
        return dps_fail (err, DPS_ERR_NOMEM, "weights: out of memory");
    DpsStatus st = init_values (w, spec, seed, values, err);
    if (st == DPS_OK)
        st = dps_weights_set (w, weight, values, err);
    dps_free (values);
    return st;
}

DpsStatus dps_weights_init (DpsWeights *w, uint64_t seed, DpsError *err)
{
    for (size_t i = w->model->n_base; i < w->model->n_weights; i++)
        if (!w->model->weights[i].frozen && !dps_model_is_head (w->model, (int32_t)i))
            DPS_TRY (dps_weights_init_one (w, (int32_t)i, seed, err));
    return DPS_OK;
}
