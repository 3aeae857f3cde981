/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention.cl: softmax attention over segments with ancestors, windows, softcap and grouped key heads.
 *
 *     s = cap (scale·q·k)     p = exp (s − lse)     o = Σ p·v
 *
 * Launch: a group for every PAIRS pairs of each key head (attention.h). q and acc, (N, H·h), are float; acc may be o where that is float too.
 * Bits: online softmax over blocks of KEYS positions counted from the beginning of the sequence, whichever segments and cache pages hold them; all
 * sums in position order; what the other pairs of the group see adds exact zeros. So a row does not depend on the batch, nor on what is cached.
 * Rows of no segment give zeros, and lse 0, as does a query that sees no key.
 */
#include "attention.h"

/* Scores of pair x against a block → weights; the pair's maximum and sum brought up to date; by how much what it has so far shrinks. */
FN void soften (const Attention *a, LOCAL_PTR Pairs *u, i32 x, i32 s, i32 first)
{
    LOCAL_PTR float *w = u->s[x];
    i32 seen = 0;
    for (i32 j = 0; j < KEYS; j++)
        seen |= sees (u, x, s, first, j);
    u->shrink[x] = 1;
    if (!seen) {
        for (i32 j = 0; j < KEYS; j++)
            w[j] = 0;
        return;
    }
    for (i32 j = 0; j < KEYS; j += WIDTH) {
        vf v = vf_local (w + j) * a->scale;
        if (a->cap > 0)
            v = TANH (v / a->cap) * a->cap;
        vf_put_local (w + j, v);
    }
    for (i32 j = 0; j < KEYS; j++)
        w[j] = sees (u, x, s, first, j) ? w[j] : -INFINITY;
    vf top = vf_local (w);
    for (i32 j = WIDTH; j < KEYS; j += WIDTH)
        top = FMAX (top, vf_local (w + j));
    const float old = u->top[x], high = FMAX (old, vf_top (top)), shrink = old == -INFINITY ? 0 : EXP (old - high);
    vf sum = vf_splat (0);
    for (i32 j = 0; j < KEYS; j += WIDTH) {
        const vf e = EXP (vf_local (w + j) - high);
        vf_put_local (w + j, e);
        sum += e;
    }
    u->sum[x] = u->sum[x] * shrink + vf_sum (sum);
    u->top[x] = high;
    u->shrink[x] = shrink;
}

KERNEL (dps_attention) (IN_OF (float, q), IN (k), IN (v), IN_OF (i32, seg), i32 seg_stride, i32 n_segments, OUT_OF (float, acc),
                      OUT (o), OUT (lse), i64 n_rows, i32 heads, i32 kv,
                      i32 h, float scale, i32 window, float cap)
{
    LOCAL Pairs u;
    const Attention a = {{seg + seg_off, seg_stride, n_segments}, n_rows, heads, kv, h, heads / kv, window, scale, cap};
    acc += acc_off;
    const i32 g = open_pairs (&a, GROUP (0), acc, &u);
    i32 from, to;
    for (i32 x = 0; x < PAIRS; x++) {
        const i32 s = u.segment[x];
        if (!segment_range (&u, x, &from, &to))
            continue;
        for (i32 first = from / KEYS * KEYS; first <= to; first += KEYS) {
            find_keys (&a, s, first, from, to, &u);
            products (&a, q + q_off, k, k_off, k_t, g, &u, u.s);
            for (i32 y = LANE; y < PAIRS; y += DPS_LANES)
                soften (&a, &u, y, s, first);
            BARRIER ();
            add_rows (&a, s, acc, v, v_off, v_t, g, &u, u.s, 1);
            BARRIER ();
        }
    }
    for (i32 x = 0; x < PAIRS; x++) {
        if (!u.exists[x])
            continue;
        const float inverse = u.sum[x] != 0 ? 1 / u.sum[x] : 0;
        for (i32 d = LANE; d < h; d += DPS_LANES)
            STORE (o, u.at[x] + d, acc[u.at[x] + d] * inverse);
        if (LANE == 0 && lse_t != DT_NONE)
            STORE (lse, u.head[x], u.sum[x] != 0 ? u.top[x] + LOG (u.sum[x]) : 0);
    }
}
