/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lora.c: y = W·x + s·B·A·dropout (x), W frozen; s = alpha/r, or alpha/√r with use_rslora.
 * Merged: W + s·B·A. Everything but the adapter's table is in sdk_lowrank.h, which DoRA shares.
 */
#include <math.h>

#include "base/mem.h"
#include "diapason/sdk_lowrank.h"

static const DpsParam *const params[] = {DPS_LOW_RANK_PARAMS};

static const DpsAdapterInfo info = {
    .size = sizeof info,
    .name = "lora",
    .summary = "low-rank update of frozen linear maps; use_rslora for the rank-stabilised scale",
    .reference = "arXiv:2106.09685, arXiv:2312.03732; PEFT 0.21",
    .params = params,
    .n_params = DPS_LOW_RANK_N_PARAMS,
};

static const DpsAdapterInfo *describe (void) { return &info; }

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    DpsLowRank *self = dps_calloc (1, sizeof *self);
    if (!self)
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "lora: no memory");
    *self = dps_low_rank_init (num, sqrt (num[0]));
    *out = self;
    return DPS_OK;
}

static void destroy (void *self) { dps_free (self); }

static DpsStatus attach (void *self, DpsStr name, int64_t out_features, int64_t in_features, DpsAdapterParam *const *out, uint32_t *n,
                         DpsError *err)
{
    (void)name;
    return dps_low_rank_attach (self, out_features, in_features, out, n, err);
}

static DpsStatus forward (void *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x, const DpsNode *p, uint32_t n_params,
                          DpsNode *out_y, DpsError *err)
{
    if (n_params != 2)
        return dps_sdk_fail (err, DPS_ERR_INVALID, "lora: expected the parameters A and B");
    *out_y = dps_low_rank_add (self, ops, b, dps_low_rank_drop (self, ops, b, x), p, ops->base (b, x));
    return DPS_OK;
}

static DpsStatus merge (void *self, const float *const *p, int64_t out_features, int64_t in_features, int64_t row, int64_t rows, float *w,
                        DpsError *err)
{
    (void)out_features, (void)err;
    double v[DPS_LOW_RANK_BLOCK];
    for (int64_t o = 0; o < rows; o++)
        for (int64_t first = 0, n; first < in_features; first += n) {
            float *at = w + o * in_features;
            n = dps_low_rank_block (first, in_features);
            dps_low_rank_merged (self, p, in_features, row + o, first, n, at, v);
            for (int64_t k = 0; k < n; k++)
                at[first + k] = (float)v[k];
        }
    return DPS_OK;
}

static const DpsAdapter adapter = {.size = sizeof adapter,
                                   .describe = describe,
                                   .create = create,
                                   .destroy = destroy,
                                   .attach = attach,
                                   .forward = forward,
                                   .merge = merge};

DPS_PLUGIN_ONE (DPS_ADAPTER_ID, adapter);
