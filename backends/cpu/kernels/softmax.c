/* SPDX-License-Identifier: Apache-2.0 */
/*
 * softmax.c: a vocabulary chunk of token_logprobs, row by row: raw products z → logits l = softcap(z)/temperature; running maximum, Σ eˡ,
 * Σ eˡ·l, the target's l, the first arg max; and the weights eˡ⁻ᵐᵃˣ·dl/dz for the second product, with the accumulator rescaled.
 */
#include "ops.h"

/* The logits of 16 raw products and, where asked, dl/dz. */
INLINE vf logits (const CpuSoftmax *s, vf z, vf *slope)
{
    vf k = splat ((float)(1 / s->temperature));
    if (!(s->softcap > 0)) {
        *slope = k;
        return z * k;
    }
    vf cap = splat ((float)s->softcap), t = vtanh (z / cap);
    *slope = (splat (1) - t * t) * k;
    return cap * t * k;
}

INLINE vf chunk_at (const float *z, int64_t i, int64_t n, float fill)
{
    if (n >= LANES)
        return load_f32 (z + i);
    vf v = load_n (z, i, 0, n);
    for (int64_t l = n; l < LANES; l++)
        v[l] = fill;
    return v;
}

static void row_chunk (const CpuSoftmax *s, int64_t row, int64_t first, int64_t n)
{
    const float *z = s->z + row * s->ld;
    const int capped = s->softcap > 0;
    vf top = splat (-INFINITY), slope;
    for (int64_t i = 0; i < n; i += LANES)
        top = vmax (top, chunk_at (z, i, n - i, -INFINITY));
    float best = max_lanes (top);
    if (first == 0 || best > s->best[row]) {
        int64_t at = 0;
        while (at < n && !(z[at] == best))
            at++;
        s->best[row] = best;
        s->best_id[row] = (int32_t)(first + (at < n ? at : 0));
    }
    /* logits grow with z, so the maximum logit is that of the maximum product */
    float high = logits (s, splat (s->best[row]), &slope)[0], old = first ? s->max[row] : -INFINITY;
    float shrink = first && old > -INFINITY ? vexp (splat (old - high))[0] : 0;
    vf sum = splat (0), sum_l = splat (0), m = splat (high);
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t left = n - i;
        vf l = logits (s, chunk_at (z, i, left, 0), &slope), e = vexp (l - m);
        for (int64_t k = left; k < LANES; k++)
            e[k] = 0;
        sum += e;
        sum_l += e * l;
        if (s->p) {
            vf p = capped ? e * slope : e * slope;
            if (left >= LANES)
                store (s->p, row * s->ld + i, s->p_dtype == DPS_DTYPE_BF16, p);
            else
                store_n (s->p, row * s->ld + i, s->p_dtype == DPS_DTYPE_BF16, p, left);
        }
    }
    s->sum[row] = (first ? s->sum[row] * shrink : 0) + sum_lanes (sum);
    s->sum_z[row] = (first ? s->sum_z[row] * shrink : 0) + sum_lanes (sum_l);
    s->max[row] = high;
    int64_t t = s->targets[row] - first;
    if (t >= 0 && t < n) {
        s->target[row] = logits (s, splat (z[t]), &slope)[0];
        s->target_factor[row] = slope[0];
    }
    if (s->acc && shrink != 1)
        for (int64_t d = 0; d < s->D; d += LANES) {
            int64_t left = s->D - d < LANES ? s->D - d : LANES;
            float *a = s->acc + row * s->D;
            store_n (a, d, 0, load_n (a, d, 0, left) * splat (shrink), left);
        }
}

void ISA_NAME (cpu_softmax_rows) (const CpuSoftmax *s, int64_t row, int64_t n_rows, int64_t first, int64_t n)
{
    for (int64_t i = row; i < row + n_rows; i++)
        row_chunk (s, i, first, n);
}

void ISA_NAME (cpu_softmax_end) (const CpuSoftmax *s)
{
    for (int64_t row = 0; row < s->S; row++) {
        double lse = (double)s->max[row] + log ((double)s->sum[row]);
        s->logp[row] = (float)((double)s->target[row] - lse);
        s->entropy[row] = (float)(lse - (double)s->sum_z[row] / (double)s->sum[row]);
        s->hit[row] = s->best_id[row] == s->targets[row];
    }
}

void ISA_NAME (cpu_softmax_grad) (const CpuSoftmax *s, int64_t from, int64_t n_rows, int64_t first, int64_t n, const float *dlogp,
                                  float *dz)
{
    for (int64_t row = from; row < from + n_rows; row++) {
        const float *z = s->z + row * s->ld;
        float *out = dz + row * s->ld;
        vf m = splat (s->max[row]), inverse = splat (1 / s->sum[row]), g = splat (dlogp[row]), slope;
        for (int64_t i = 0; i < n; i += LANES) {
            int64_t left = n - i < LANES ? n - i : LANES;
            vf l = logits (s, chunk_at (z, i, left, 0), &slope);
            store_n (out, i, 0, -g * vexp (l - m) * inverse * slope, left);
        }
        int64_t t = s->targets[row] - first;
        if (t >= 0 && t < n)
            out[t] += dlogp[row] * s->target_factor[row];
    }
}
