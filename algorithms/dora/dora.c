/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dora.c: weight-decomposed LoRA. With V = W + s·B·A and the norm of each of its rows taken as a constant in the backward pass:
 *
 *     y = m ⊙ (V·x)/‖V‖           merged: m ⊙ V/‖V‖
 *
 * m starts as the row norms of W, so the adapted model starts as the base. With dropout only V·x sees the dropped x', the rest of the base
 * does not (PEFT's rule):  y = W·x − W·x' + m ⊙ (V·x')/‖V‖. A row of zeros counts as 2⁻¹²⁶ long (PEFT divides 0 by 0).
 */
#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "diapason/sdk_lowrank.h"

static const DpsParam *const params[] = {DPS_LOW_RANK_PARAMS};

static const DpsAdapterInfo info = {
    .size = sizeof info,
    .name = "dora",
    .summary = "LoRA on the direction of each row of a frozen W, its length learned apart",
    .reference = "arXiv:2402.09353 eq. 5 and section 4.3; PEFT 0.21",
    .params = params,
    .n_params = DPS_LOW_RANK_N_PARAMS,
};

enum { A, B, MAGNITUDE, N_PARTS };

static const DpsAdapterInfo *describe (void) { return &info; }

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    DpsLowRank *self = dps_calloc (1, sizeof *self);
    if (!self)
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "dora: no memory");
    *self = dps_low_rank_init (num, sqrt (num[0]));
    *out = self;
    return DPS_OK;
}

static void destroy (void *self) { dps_free (self); }

static DpsStatus attach (void *self, DpsStr name, int64_t out_features, int64_t in_features, DpsAdapterParam *const *out, uint32_t *n,
                         DpsError *err)
{
    (void)name;
    uint32_t room = *n;
    DpsStatus st = dps_low_rank_attach (self, out_features, in_features, out, n, err);
    if (st != DPS_OK)
        return st;
    if (room < N_PARTS)
        return dps_sdk_fail (err, DPS_ERR_SHAPE, "dora: no room for its third parameter");
    dps_sdk_adapter_param (out[MAGNITUDE], "lora_magnitude_vector", DPS_INIT_WEIGHT_NORM, out_features, 0);
    *n = N_PARTS;
    return DPS_OK;
}

static DpsStatus forward (void *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x, const DpsNode *p, uint32_t n_params,
                          DpsNode *out_y, DpsError *err)
{
    const DpsLowRank *lora = self;
    if (n_params != N_PARTS)
        return dps_sdk_fail (err, DPS_ERR_INVALID, "dora: expected the parameters A, B and magnitude");
    DpsNode dropped = dps_low_rank_drop (lora, ops, b, x), base = ops->base (b, dropped);
    DpsNode unit = ops->div (b, dps_low_rank_add (lora, ops, b, dropped, p, base), ops->weight_norm (b, p[A], p[B], lora->scale));
    DpsNode y = ops->mul_cols (b, unit, p[MAGNITUDE]);
    if (dropped != x)
        y = ops->add (b, y, ops->sub (b, ops->base (b, x), base));
    *out_y = y;
    return DPS_OK;
}

/* ‖V‖² of row o: the blocks are computed again afterwards rather than kept, since a row may be long. */
static double row_square (const DpsLowRank *self, const float *const *p, int64_t in_features, int64_t o, const float *w)
{
    double v[DPS_LOW_RANK_BLOCK], sum = 0;
    for (int64_t first = 0, n; first < in_features; first += n) {
        n = dps_low_rank_block (first, in_features);
        dps_low_rank_merged (self, p, in_features, o, first, n, w, v);
        for (int64_t k = 0; k < n; k++)
            sum += v[k] * v[k];
    }
    return sum;
}

static DpsStatus merge (void *self, const float *const *p, int64_t out_features, int64_t in_features, int64_t row, int64_t rows, float *w,
                        DpsError *err)
{
    (void)out_features, (void)err;
    double v[DPS_LOW_RANK_BLOCK];
    for (int64_t o = 0; o < rows; o++) {
        float *at = w + o * in_features;
        double norm = fmax (sqrt (row_square (self, p, in_features, row + o, at)), FLT_MIN), factor = (double)p[MAGNITUDE][row + o] / norm;
        for (int64_t first = 0, n; first < in_features; first += n) {
            n = dps_low_rank_block (first, in_features);
            dps_low_rank_merged (self, p, in_features, row + o, first, n, at, v);
            for (int64_t k = 0; k < n; k++)
                at[first + k] = (float)(factor * v[k]);
        }
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
