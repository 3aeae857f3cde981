/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logprobs.cl: log-probs of given tokens, the vocabulary going by in chunks of columns:
 *
 *     l = cap (z)/T     logp = l[t] − lse (l)     entropy = lse − Σ p·l     dl/dz = cap'/T
 *     dir = Σ_v ([v = t] − p_v)·dl_v/dz_v·W_v     dW_v += dlogp·([v = t] − p_v)·dl_v/dz_v·h
 *
 * z of a chunk is a product made before; dps_logprobs_chunk brings each row's maximum, sums and arg max up to date, gives eˡ⁻ᵐᵃˣ·dl/dz for the second
 * product, and shrinks what that has summed so far. scale_rows is the adjoint in h. Launch: a group for every row; the host's chunks
 * have one size, whatever the call, and row_logprobs has the same ones: so the bits of a row are the same in both, and in any batch.
 */
#include "vector.h"

/* What a row carries from chunk to chunk: the largest l, Σ eˡ⁻ᵐᵃˣ, Σ eˡ⁻ᵐᵃˣ·(l − max), the target's l and dl/dz, the largest z. */
enum { ROW_TOP, ROW_SUM, ROW_SUM_L, ROW_TARGET, ROW_SLOPE, ROW_BEST, ROW_STATE };

FN vf logit (vf z, float cap, float k, vf *slope)
{
    if (cap > 0) {
        const vf t = TANH (z / cap);
        *slope = (1.0f - t * t) * k;
        return t * cap * k;
    }
    *slope = vf_splat (k);
    return z * k;
}

/* The first column that holds `value`; 0: none, all are NaN. looks: 0 where nobody wants to know. */
FN i32 column_of (GLOBAL const float *z, i64 n, float value, i32 looks, LOCAL_PTR float *tmp)
{
    i64 at = looks ? LANE : n;
    while (at < n && z[at] != value)
        at += DPS_LANES;
    const i64 first = (i64)-dps_lanes_max (-(float)(at < n ? at : n), tmp);
    return first < n ? (i32)first : 0;
}

/* k: 1/temperature. p and acc may be absent. */
KERNEL (dps_logprobs_chunk) (IN_OF (float, z), i64 ld, IN_OF (i32, targets), OUT_OF (float, state), OUT_OF (i32, best), OUT (p), OUT (acc),
                             i64 width, i64 first, i64 n, float cap, float k)
{
    LOCAL float tmp[DPS_LANES];
    const i64 row = GROUP (0), t = AT (targets, row) - first;
    GLOBAL const float *zr = z + z_off + row * ld;
    GLOBAL float *at = state + state_off + row * ROW_STATE;
    const float old = first ? at[ROW_TOP] : -INFINITY, old_sum = first ? at[ROW_SUM] : 0, old_sum_l = first ? at[ROW_SUM_L] : 0;
    const float old_best = first ? at[ROW_BEST] : -INFINITY;
    vf top = vf_splat (-INFINITY), slope, sum = vf_splat (0), sum_l = vf_splat (0);
    for (i64 i = LANE * WIDTH; i < n; i += DPS_LANES * WIDTH)
        top = FMAX (top, vf_load_or (zr, i, n - i, -INFINITY));
    float largest = dps_lanes_max (vf_top (top), tmp);
    const i32 is_new = !first || largest > old_best, column = column_of (zr, n, largest, is_new, tmp);
    if (is_new && LANE == 0)
        AT (best, row) = (i32)first + column;
    largest = is_new ? largest : old_best;
    /* l grows with z, so that the largest l is that of the largest z */
    const float high = vf_top (logit (vf_splat (largest), cap, k, &slope));
    const float shrink = old == -INFINITY ? 0 : EXP (old - high);
    for (i64 i = LANE * WIDTH; i < n; i += DPS_LANES * WIDTH) {
        const vf l = logit (vf_load_or (zr, i, n - i, 0), cap, k, &slope) - high, e = vf_keep (EXP (l), n - i);
        sum += e;
        sum_l += e * l;
        if (p_t != DT_NONE)
            vf_store_n (p, p_off + row * ld + i, p_t, e * slope, n - i);
    }
    const float total = dps_lanes_sum (vf_sum (sum), tmp), total_l = dps_lanes_sum (vf_sum (sum_l), tmp);
    for (i64 d = LANE * WIDTH; acc_t != DT_NONE && shrink != 1 && d < width; d += DPS_LANES * WIDTH) {
        const i64 place = acc_off + row * width + d;
        vf_store_n (acc, place, DT_F32, first ? vf_load_n (acc, place, DT_F32, width - d) * shrink : vf_splat (0), width - d);
    }
    if (LANE > 0)
        return;
    at[ROW_TOP] = high;
    at[ROW_SUM] = old_sum * shrink + total;
    at[ROW_SUM_L] = (shrink > 0 ? (old_sum_l + old_sum * (old - high)) * shrink : 0) + total_l;
    at[ROW_BEST] = largest;
    if (t >= 0 && t < n) {
        at[ROW_TARGET] = vf_top (logit (vf_splat (zr[t]), cap, k, &slope));
        at[ROW_SLOPE] = vf_top (slope);
    } else if (!first)
        at[ROW_TARGET] = at[ROW_SLOPE] = NAN; /* stays so where the target is no token */
}

KERNEL (dps_logprobs_end) (IN_OF (i32, targets), IN_OF (float, state), IN_OF (i32, best), OUT (logp), OUT (entropy), OUT (hit), i64 n)
{
    for (i64 row = FIRST; row < LAST (n); row += STEP) {
        GLOBAL const float *at = state + state_off + row * ROW_STATE;
        const float log_sum = LOG (at[ROW_SUM]);
        if (logp_t != DT_NONE)
            STORE (logp, row, at[ROW_TARGET] - at[ROW_TOP] - log_sum);
        if (entropy_t != DT_NONE)
            STORE (entropy, row, log_sum - at[ROW_SUM_L] / at[ROW_SUM]);
        if (hit_t != DT_NONE)
            STORE (hit, row, AT (best, row) == AT (targets, row) ? 1.0f : 0.0f);
    }
}

/* w: the targets' rows of the head. */
KERNEL (dps_logprobs_dir) (IN (w), IN_OF (float, state), IN_OF (float, acc), OUT (dir), i64 width)
{
    const i64 row = GROUP (0);
    const float slope = AT (state, row * ROW_STATE + ROW_SLOPE), inverse = 1 / AT (state, row * ROW_STATE + ROW_SUM);
    for (i64 d = LANE * WIDTH; d < width; d += DPS_LANES * WIDTH) {
        const i64 i = row * width + d, left = width - d;
        vf_store_n (dir, dir_off + i, dir_t, vf_load_n (w, w_off + i, w_t, left) * slope - vf_load_n (acc, acc_off + i, DT_F32, left) * inverse,
                    left);
    }
}

/* dz = dlogp·([v = t] − p)·dl/dz of a chunk, once the sums are whole. */
KERNEL (dps_logprobs_dz) (IN_OF (float, z), i64 ld, IN_OF (i32, targets), IN_OF (float, state), IN (dlogp), OUT_OF (float, dz), i64 first,
                          i64 n, float cap, float k)
{
    const i64 row = GROUP (0), t = AT (targets, row) - first;
    const float top = AT (state, row * ROW_STATE + ROW_TOP), inverse = 1 / AT (state, row * ROW_STATE + ROW_SUM), g = LOAD (dlogp, row);
    for (i64 i = LANE * WIDTH; i < n; i += DPS_LANES * WIDTH) {
        vf slope;
        const vf l = logit (vf_load_or (z, z_off + row * ld + i, n - i, 0), cap, k, &slope);
        vf x = EXP (l - top) * inverse * slope * -g;
        vf_store_n (dz, dz_off + row * ld + i, DT_F32, x, n - i);
        for (i64 v = i; v < i + WIDTH && v < n; v++)
            if (v == t)
                AT (dz, row * ld + v) += g * AT (state, row * ROW_STATE + ROW_SLOPE);
    }
}

KERNEL (dps_scale_rows) (IN (x), IN (v), OUT (y), i64 width)
{
    const i64 row = GROUP (0);
    const float by = LOAD (v, row);
    for (i64 d = LANE * WIDTH; d < width; d += DPS_LANES * WIDTH)
        vf_store_n (y, y_off + row * width + d, y_t, vf_load_n (x, x_off + row * width + d, x_t, width - d) * by, width - d);
}
