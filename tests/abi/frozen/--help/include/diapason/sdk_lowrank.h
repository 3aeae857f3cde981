/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sdk_lowrank.h: the low-rank pair that LoRA and its relatives add to a weight W (O,K): W + s·B·A with A (r,K), B (O,r), written once.
 * Inline, compiled into the plugin, no part of the ABI.
 *
 * Source: Hu et al., LoRA, arXiv:2106.09685; scale of rsLoRA: Kalajdzievski, arXiv:2312.03732; names, initialisation and the place of
 * dropout as in PEFT 0.21.
 */
#ifndef DIAPASON_SDK_LOWRANK_H
#define DIAPASON_SDK_LOWRANK_H

#include "diapason/adapter.h"
#include "diapason/sdk.h"

typedef struct DpsLowRank {
    int64_t r;
    double scale;   /* s = alpha/r, or alpha/√r */
    double dropout; /* of x on its way to A */
} DpsLowRank;

/* The parameters, in the order dps_low_rank_init reads them; a relative may append its own. Defaults: TRL's. */
static const DpsParam dps_low_rank_r = DPS_SDK_PARAM ("r", DPS_PARAM_I64, 16, 1, 65536, NULL, "rank of the update");
static const DpsParam dps_low_rank_alpha = DPS_SDK_PARAM ("alpha", DPS_PARAM_F64, 32, 0, 1e9, NULL, "the update is scaled by alpha/r");
static const DpsParam dps_low_rank_dropout =
    DPS_SDK_PARAM ("dropout", DPS_PARAM_F64, 0.05, 0, 0.999, NULL, "dropout on the adapter's input while training");
static const DpsParam dps_low_rank_rslora =
    DPS_SDK_PARAM ("use_rslora", DPS_PARAM_BOOL, 0, 0, 1, NULL, "scale by alpha/sqrt(r): rank-stabilised LoRA");
#define DPS_LOW_RANK_PARAMS &dps_low_rank_r, &dps_low_rank_alpha, &dps_low_rank_dropout, &dps_low_rank_rslora
enum { DPS_LOW_RANK_N_PARAMS = 4 };

/** From the values of DPS_LOW_RANK_PARAMS; root: √num[0] (this header uses no libm). [any] */
static inline DpsLowRank dps_low_rank_init (const double *num, double root)
{
    DpsLowRank self;
    self.r = (int64_t)num[0];
    self.scale = num[1] / (num[3] != 0 ? root : num[0]);
    self.dropout = num[2];
    return self;
}

/**
 * DpsAdapter.attach for the pair: out[0] A, uniform in ±1/√K, and out[1] B, zero: the adapted model starts as the base.
 * *n: room on entry, 2 on return. Errors: SHAPE. [any]
 */
static inline DpsStatus dps_low_rank_attach (const DpsLowRank *self, int64_t out_features, int64_t in_features, DpsAdapterParam *const *out,
                                             uint32_t *n, DpsError *err)
{
    if (*n < 2 || out_features < 1 || in_features < 1)
        return dps_sdk_fail (err, DPS_ERR_SHAPE, "a low-rank adapter needs a matrix (O,K) and room for two parameters");
    dps_sdk_adapter_param (out[0], "lora_A.weight", DPS_INIT_KAIMING_UNIFORM, self->r, in_features);
    dps_sdk_adapter_param (out[1], "lora_B.weight", DPS_INIT_ZERO, out_features, self->r);
    *n = 2;
    return DPS_OK;
}

/** x as the pair receives it. The host answers x itself outside training. [any] */
static inline DpsNode dps_low_rank_drop (const DpsLowRank *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x)
{
    return self->dropout > 0 ? ops->dropout (b, x, self->dropout) : x;
}

/** y + s·B·A·x. [any] */
static inline DpsNode dps_low_rank_add (const DpsLowRank *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x,
                                        const DpsNode *params, DpsNode y)
{
    return ops->linear (b, ops->linear (b, x, params[0], -1, 1), params[1], y, self->scale);
}

enum { DPS_LOW_RANK_BLOCK = 256 };

/** Columns [first, first+n) of row o of W + s·B·A from host f32 parameters, n ≤ DPS_LOW_RANK_BLOCK; w: row o of W. [any] */
static inline void dps_low_rank_merged (const DpsLowRank *self, const float *const *params, int64_t in_features, int64_t o, int64_t first,
                                        int64_t n, const float *w, double *out)
{
    double sum[DPS_LOW_RANK_BLOCK] = {0};
    for (int64_t i = 0; i < self->r; i++) {
        double b = (double)params[1][o * self->r + i];
        const float *a = params[0] + i * in_features + first;
        for (int64_t k = 0; k < n; k++)
            sum[k] += b * (double)a[k];
    }
    for (int64_t k = 0; k < n; k++)
        out[k] = (double)w[first + k] + self->scale * sum[k];
}

/** The length of the block of columns that starts at `first`. [any] */
static inline int64_t dps_low_rank_block (int64_t first, int64_t in_features)
{
    int64_t most = DPS_LOW_RANK_BLOCK;
    return in_features - first < most ? in_features - first : most;
}

#endif
