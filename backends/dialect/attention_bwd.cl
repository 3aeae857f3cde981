/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_bwd.cl: gradients of attention, the weights made again from lse:
 *
 *     p = exp (cap (scale·q·k) − lse)     ds = p·(do·v − do·o)·cap'·scale     dq = Σ ds·k     dk = Σ ds·q     dv = Σ p·do
 *
 * Three launches: dps_attention_delta, an item for every (row, head): Σ do·o. dps_attention_dq, groups as in attention.cl. dps_attention_dkv, a
 * group for every PAIRS key rows of each key head. q, k, v, do and the accumulators are float.
 * Bits: dq sums over keys in position order; dk and dv over segments in table order, rows, heads; nothing depends on the batch.
 */
#include "attention.h"

KERNEL (dps_attention_delta) (IN (o), IN_OF (float, d_o), OUT_OF (float, delta), i64 n, i32 h)
{
    const i64 i = GROUP (0) * DPS_LANES + LANE;
    if (i >= n)
        return;
    vf sum = vf_splat (0);
    for (i32 d = 0; d < h; d += WIDTH)
        sum += vf_load_n (o, o_off + i * h + d, o_t, h - d) * vf_load_n (d_o, d_o_off + i * h + d, DT_F32, h - d);
    AT (delta, i) = vf_sum (sum);
}

/* From s = q·k and t = do·v: the weight p, and in *ds its gradient with respect to s. */
FN float weight (const Attention *a, float s, float t, float lse, float delta, float *ds)
{
    float slope = a->scale;
    s *= a->scale;
    if (a->cap > 0) {
        const float u = TANH (s / a->cap);
        s = u * a->cap;
        slope *= 1 - u * u;
    }
    const float p = EXP (s - lse);
    *ds = p * (t - delta) * slope;
    return p;
}

KERNEL (dps_attention_dq) (IN_OF (float, q), IN_OF (float, k), IN_OF (float, v),
                         IN (lse), IN_OF (float, d_o), IN_OF (float, delta),
                         IN_OF (i32, seg), i32 seg_stride, i32 n_segments, OUT_OF (float, acc),
                         OUT (dq), i64 n_rows, i32 heads, i32 kv, i32 h, float scale, i32 window, float cap)
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
            products (&a, q + q_off, k, k_off, DT_F32, g, &u, u.s);
            products (&a, d_o + d_o_off, v, v_off, DT_F32, g, &u, u.ds);
            for (i32 i = LANE; i < PAIRS * KEYS; i += DPS_LANES) {
                const i32 y = i / KEYS, j = i % KEYS;
                float ds = 0;
                if (sees (&u, y, s, first, j))
                    weight (&a, u.s[y][j], u.ds[y][j], LOAD (lse, u.head[y]), AT (delta, u.head[y]), &ds);
                u.ds[y][j] = ds;
            }
            BARRIER ();
            add_rows (&a, s, acc, k, k_off, DT_F32, g, &u, u.ds, 0);
            BARRIER ();
        }
    }
    for (i32 x = 0; x < PAIRS; x++)
        for (i32 d = LANE; u.exists[x] && d < h; d += DPS_LANES)
            STORE (dq, u.at[x] + d, acc[u.at[x] + d]);
}

/* A group's key rows, and one block of KEYS (query row, head) pairs. */
typedef struct KeyRows {
    i64 at[PAIRS]; /* first element of the key's head in (M, G·h) */
    i32 exists[PAIRS];
    i32 lo[PAIRS], hi[PAIRS];           /* the pairs of the segment that see it */
    float p[KEYS][PAIRS], ds[KEYS][PAIRS];
} KeyRows;

/* Which pairs (row·R + head within segment d) see the group's keys as keys of segment `holder`, d itself or an ancestor. 0: none. */
FN i32 seeing_pairs (const Attention *a, i32 d, i32 holder, i64 first_row, i64 m, LOCAL_PTR KeyRows *u, i32 *from, i32 *to)
{
    const Segments *t = &a->segments;
    const i32 q_len = segment_field (t, d, Q_LEN), p0 = segment_field (t, d, POSITION);
    const i32 ahead = d == holder && is_bidirectional (t, d);
    *from = q_len * a->R;
    *to = 0;
    for (i32 x = 0; x < PAIRS; x++) {
        const i64 j = first_row + x - segment_field (t, holder, KV_START);
        const i32 held = first_row + x < m && j >= 0 && j < segment_field (t, holder, KV_LEN);
        const i32 p = first_key (t, holder) + (i32)j;
        i32 lo = p - p0, hi = q_len;
        if (ahead)
            lo = a->window > 0 ? p - a->window + 1 - p0 : 0;
        if (a->window > 0 && p + a->window - p0 < hi)
            hi = p + a->window - p0;
        lo = held && lo > 0 ? lo * a->R : 0;
        hi = held && hi > 0 ? hi * a->R : 0;
        if (LANE == 0) {
            u->lo[x] = lo;
            u->hi[x] = hi;
        }
        if (lo < hi) {
            *from = lo < *from ? lo : *from;
            *to = hi > *to ? hi : *to;
        }
    }
    BARRIER ();
    return *from < *to;
}

/* The number in (N, H) of pair i of segment d. */
FN i64 head_of (const Attention *a, i32 d, i32 i, i32 g)
{
    return (segment_field (&a->segments, d, Q_START) + (i64)(i / a->R)) * a->heads + g * a->R + i % a->R;
}

/* s[i] = row i of y·the group's keys' rows, for pairs [first, first + KEYS) of segment d. */
FN void pair_products (const Attention *a, i32 d, i32 first, i32 end, i32 g, GLOBAL const float *y, GLOBAL const float *keys,
                       const LOCAL_PTR i64 *at, LOCAL_PTR float (*s)[PAIRS])
{
    for (i32 i = LANE; i < KEYS && first + i < end; i += DPS_LANES)
        dot_rows (y, 0, DT_F32, head_of (a, d, first + i, g) * a->h, keys, at, a->h, s[i], 1);
    BARRIER ();
}

/* p and ds of those pairs, from q·k in p and do·v in ds. */
FN void key_weights (const Attention *a, IN (lse), GLOBAL const float *delta, i32 d, i32 first, i32 end, i32 g, LOCAL_PTR KeyRows *u)
{
    for (i32 i = LANE; i < KEYS && first + i < end; i += DPS_LANES) {
        const i64 head = head_of (a, d, first + i, g);
        for (i32 x = 0; x < PAIRS; x++) {
            float p = 0, ds = 0;
            if (first + i >= u->lo[x] && first + i < u->hi[x])
                p = weight (a, u->p[i][x], u->ds[i][x], LOAD (lse, head), delta[head], &ds);
            u->p[i][x] = p;
            u->ds[i][x] = ds;
        }
    }
    BARRIER ();
}

/* acc[x] += Σ_i w[i][x]·row i of y, over pairs [first, first + KEYS) of segment d, for the keys that its pairs see. */
FN void add_pairs (const Attention *a, i32 d, i32 first, i32 end, i32 g, GLOBAL const float *y, GLOBAL float *acc, const LOCAL_PTR KeyRows *u,
                   LOCAL_PTR float (*w)[PAIRS])
{
    for (i32 c = LANE * WIDTH; c < a->h; c += DPS_LANES * WIDTH) {
        const i32 n = a->h - c;
        vf sum[PAIRS];
        EACH_PAIR (x)
        {
            sum[x] = vf_load_n (acc, u->at[x] + c, DT_F32, n);
        }
        for (i32 i = 0; i < KEYS && first + i < end; i++) {
            const vf yc = vf_load_n (y, head_of (a, d, first + i, g) * a->h + c, DT_F32, n);
            EACH_PAIR (x)
            {
                sum[x] = FMA (yc, vf_splat (w[i][x]), sum[x]);
            }
        }
        EACH_PAIR (x)
        {
            if (u->lo[x] < u->hi[x])
                vf_store_n (acc, u->at[x] + c, DT_F32, sum[x], n);
        }
    }
    BARRIER ();
}

KERNEL (dps_attention_dkv) (IN_OF (float, q), IN_OF (float, k), IN_OF (float, v),
                          IN (lse), IN_OF (float, d_o), IN_OF (float, delta),
                          IN_OF (i32, seg), i32 seg_stride, i32 n_segments, OUT_OF (float, acc_k),
                          OUT_OF (float, acc_v), OUT (dk), OUT (dv), i64 m, i32 heads, i32 kv, i32 h, float scale, i32 window, float cap)
{
    LOCAL KeyRows u;
    const Attention a = {{seg + seg_off, seg_stride, n_segments}, 0, heads, kv, h, heads / kv, window, scale, cap};
    const i64 units = (m + PAIRS - 1) / PAIRS, first_row = GROUP (0) % units * PAIRS;
    const i32 g = (i32)(GROUP (0) / units);
    i32 from, to;
    acc_k += acc_k_off;
    acc_v += acc_v_off;
    for (i32 x = LANE; x < PAIRS; x += DPS_LANES) {
        const i64 row = first_row + x < m ? first_row + x : m - 1;
        u.at[x] = (row * kv + g) * h;
        u.exists[x] = first_row + x < m;
    }
    BARRIER ();
    for (i32 x = 0; x < PAIRS; x++)
        for (i32 c = LANE; u.exists[x] && c < h; c += DPS_LANES)
            acc_k[u.at[x] + c] = acc_v[u.at[x] + c] = 0;
    BARRIER ();
    for (i32 d = 0; d < n_segments; d++)
        for (i32 holder = d; holder >= 0; holder = segment_field (&a.segments, holder, PARENT)) {
            const i32 any = seeing_pairs (&a, d, holder, first_row, m, &u, &from, &to);
            for (i32 first = from; any && first < to; first += KEYS) {
                pair_products (&a, d, first, to, g, q + q_off, k + k_off, u.at, u.p);
                pair_products (&a, d, first, to, g, d_o + d_o_off, v + v_off, u.at, u.ds);
                key_weights (&a, lse, lse_off, lse_t, delta + delta_off, d, first, to, g, &u);
                add_pairs (&a, d, first, to, g, q + q_off, acc_k, &u, u.ds);
                add_pairs (&a, d, first, to, g, d_o + d_o_off, acc_v, &u, u.p);
            }
            BARRIER ();
        }
    for (i32 x = 0; x < PAIRS; x++)
        for (i32 c = LANE; u.exists[x] && c < h; c += DPS_LANES) {
            STORE (dk, u.at[x] + c, acc_k[u.at[x] + c]);
            STORE (dv, u.at[x] + c, acc_v[u.at[x] + c]);
        }
}
