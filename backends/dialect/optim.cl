/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim.cl: sums of squares, AdamW and SGD. Formulas: ops.h and parity/README "optim".
 * Geometry: dps_sumsq: one group a chunk of 65536 elements; the updates: flat blocks.
 * Sums: a lane adds eights, folded every 256 elements, so that no sum has more than a few hundred terms; the host adds the chunks in f64.
 */

enum { CHUNK = 65536, FOLD = 32 };

KERNEL (dps_sumsq) (IN (x), OUT_OF (float, partial), i64 n)
{
    LOCAL float tmp[DPS_LANES];
    i64 first = GROUP (0) * CHUNK, end = first + CHUNK < n ? first + CHUNK : n, whole = first + (end - first) / 8 * 8;
    float v[8], s[8], total = 0, rest = 0;
    for (i64 at = first + LANE * 8; at < whole;) {
        EACH8 (k)
            s[k] = 0;
        for (i32 i = 0; i < FOLD && at < whole; i++, at += DPS_LANES * 8) {
            LOAD8 (x, at, v);
            EACH8 (k)
                s[k] += v[k] * v[k];
        }
        total += dps_sum8 (s);
    }
    for (i64 i = whole + LANE; i < end; i += DPS_LANES)
        rest += LOAD (x, i) * LOAD (x, i);
    total = dps_lanes_sum (total + rest, tmp);
    if (LANE == 0)
        AT (partial, GROUP (0)) = total;
}

/* decay = 1 − lr·weight_decay, step = lr/(1 − beta1ᵗ), fix = 1/(1 − beta2ᵗ): made by the host in f64. */
KERNEL (dps_adamw) (OUT (p), IN (g), OUT (m), OUT (v), OUT (p_out), OUT (m_out), OUT (v_out), OUT (shadow), float beta1, float rest1, float beta2,
                    float rest2, float eps, float decay, float step, float fix, float scale, i64 n)
{
    for (i64 i = FIRST; i < LAST (n); i += STEP) {
        float grad = LOAD (g, i) * scale;
        float m1 = beta1 * LOAD (m, i) + rest1 * grad;
        float v1 = beta2 * LOAD (v, i) + rest2 * grad * grad;
        float p1 = LOAD (p, i) * decay - step * m1 / (SQRT (v1 * fix) + eps);
        STORE (p_out, i, p1);
        STORE (m_out, i, m1);
        STORE (v_out, i, v1);
        if (shadow_t)
            STORE (shadow, i, LOAD (p_out, i));
    }
}

KERNEL (dps_sgd) (IN (p), IN (g), IN (m), OUT (p_out), OUT (m_out), OUT (shadow), float momentum, float weight_decay, float lr, float scale, i64 n)
{
    for (i64 i = FIRST; i < LAST (n); i += STEP) {
        float grad = LOAD (g, i) * scale + weight_decay * LOAD (p, i);
        if (m_t) {
            grad += momentum * LOAD (m, i);
            STORE (m_out, i, grad);
        }
        STORE (p_out, i, LOAD (p, i) - lr * grad);
        if (shadow_t)
            STORE (shadow, i, LOAD (p_out, i));
    }
}
