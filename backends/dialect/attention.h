/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention.h: what the kernels of attention share. A group of lanes works on PAIRS (query row, head) pairs that have one key head; a pair
 * is numbered row·R + head within its key head, R = H/G. Keys come in blocks of KEYS positions of the sequence, counted from its beginning.
 */
#include "segments.h"
#include "vector.h"

enum { KEYS = 64, PAIRS = 8 };

/* Over sums that are in registers, all pairs' at once. */
#define EACH_PAIR(x) UNROLL for (i32 x = 0; x < PAIRS; x++)

typedef struct Attention {
    Segments segments;
    i64 n_rows;          /* of q */
    i32 heads, kv, h, R; /* heads of q and of k, their width, heads that share a key head */
    i32 window;
    float scale, cap;
} Attention;

/* A group's pairs, and one block of scores. */
typedef struct Pairs {
    i64 at[PAIRS];      /* first element of the pair's head in (N, H·h) */
    i64 head[PAIRS];    /* its number in (N, H) */
    i32 segment[PAIRS]; /* −1: a row of no segment, or no such pair */
    i32 exists[PAIRS];
    i32 lo[PAIRS], hi[PAIRS]; /* the positions it sees */
    i32 rows[KEYS];           /* key rows of the block, −1: no key at that position, or none that the group sees */
    float s[PAIRS][KEYS], ds[PAIRS][KEYS];
    float top[PAIRS], sum[PAIRS], shrink[PAIRS];
} Pairs;

/* Pairs of group `unit`, key head after key head, with zeros in their rows of acc. Returns the key head. */
FN i32 open_pairs (const Attention *a, i64 unit, GLOBAL float *acc, LOCAL_PTR Pairs *u)
{
    const i64 n = a->n_rows * a->R, units = (n + PAIRS - 1) / PAIRS, first = unit % units * PAIRS;
    const i32 g = (i32)(unit / units);
    for (i32 x = LANE; x < PAIRS; x += DPS_LANES) {
        const i32 exists = first + x < n;
        const i64 pair = exists ? first + x : n - 1, row = pair / a->R;
        const i32 s = exists ? segment_of (&a->segments, row) : -1;
        i32 lo = 0, hi = -1;
        if (s >= 0)
            seen_by (&a->segments, s, query_position (&a->segments, s, row), a->window, &lo, &hi);
        u->head[x] = row * a->heads + g * a->R + pair % a->R;
        u->at[x] = u->head[x] * a->h;
        u->exists[x] = exists;
        u->segment[x] = s;
        u->lo[x] = lo;
        u->hi[x] = hi;
        u->top[x] = -INFINITY;
        u->sum[x] = 0;
    }
    BARRIER ();
    for (i32 x = 0; x < PAIRS; x++)
        for (i32 d = LANE; u->exists[x] && d < a->h; d += DPS_LANES)
            acc[u->at[x] + d] = 0;
    BARRIER ();
    return g;
}

/* The positions that pairs of x's segment see; 0 when an earlier pair has that segment: then they were done with it. */
FN i32 segment_range (const LOCAL_PTR Pairs *u, i32 x, i32 *from, i32 *to)
{
    if (u->segment[x] < 0)
        return 0;
    *from = u->lo[x];
    *to = u->hi[x];
    for (i32 y = 0; y < PAIRS; y++) {
        if (u->segment[y] != u->segment[x])
            continue;
        if (y < x)
            return 0;
        *from = u->lo[y] < *from ? u->lo[y] : *from;
        *to = u->hi[y] > *to ? u->hi[y] : *to;
    }
    return 1;
}

/* Key rows of the block that begins at position `first`, of segment s; those outside from … to are left out. */
FN void find_keys (const Attention *a, i32 s, i32 first, i32 from, i32 to, LOCAL_PTR Pairs *u)
{
    for (i32 j = LANE; j < KEYS; j += DPS_LANES)
        u->rows[j] = first + j < from || first + j > to ? -1 : key_row (&a->segments, s, first + j);
    BARRIER ();
}

/* out[x·step] = y·(row at[x] of `rows`), h elements from y's element `from`. */
FN void dot_rows (IN (y), i64 from, GLOBAL const float *rows, const LOCAL_PTR i64 *at, i32 h, LOCAL_PTR float *out, i32 step)
{
    vf sum[PAIRS];
    EACH_PAIR (x) { sum[x] = vf_splat (0); }
    i32 d = 0;
    for (; d + WIDTH <= h; d += WIDTH) {
        const vf yd = vf_load (y, y_off + from + d, y_t);
        EACH_PAIR (x) { sum[x] = FMA (yd, vf_load_f32 (rows + at[x] + d), sum[x]); }
    }
    if (d < h) {
        const vf yd = vf_load_n (y, y_off + from + d, y_t, h - d);
        EACH_PAIR (x) { sum[x] = FMA (yd, vf_load_n (rows, at[x] + d, DT_F32, h - d), sum[x]); }
    }
    EACH_PAIR (x) { out[x * step] = vf_sum (sum[x]); }
}

/* s[x][j] = q·k of every pair and every key of the block; nothing where there is no key. */
FN void products (const Attention *a, GLOBAL const float *q, IN (k), i32 g, LOCAL_PTR Pairs *u, LOCAL_PTR float (*s)[KEYS])
{
    for (i32 j = LANE; j < KEYS; j += DPS_LANES)
        if (u->rows[j] >= 0)
            dot_rows (k, k_off, k_t, ((i64)u->rows[j] * a->kv + g) * a->h, q, u->at, a->h, &s[0][j], KEYS);
    BARRIER ();
}

/* Does pair x, of segment s, see key j of the block at position `first`? */
FN i32 sees (const LOCAL_PTR Pairs *u, i32 x, i32 s, i32 first, i32 j)
{
    return u->segment[x] == s && u->rows[j] >= 0 && first + j >= u->lo[x] && first + j <= u->hi[x];
}

/* acc[x] = acc[x]·shrink[x] + Σ_j w[x][j]·row j of v, for the pairs of segment s. */
FN void add_rows (const Attention *a, i32 s, GLOBAL float *acc, IN (v), i32 g, const LOCAL_PTR Pairs *u, LOCAL_PTR float (*w)[KEYS],
                  i32 shrinks)
{
    for (i32 d = LANE * WIDTH; d < a->h; d += DPS_LANES * WIDTH) {
        const i32 n = a->h - d;
        vf sum[PAIRS];
        EACH_PAIR (x) { sum[x] = vf_load_n (acc, u->at[x] + d, DT_F32, n) * (shrinks ? u->shrink[x] : 1); }
        for (i32 j = 0; j < KEYS; j++) {
            if (u->rows[j] < 0)
                continue;
            const vf vd = vf_load_n (v, v_off + ((i64)u->rows[j] * a->kv + g) * a->h + d, v_t, n);
            EACH_PAIR (x) { sum[x] = FMA (vd, vf_splat (w[x][j]), sum[x]); }
        }
        EACH_PAIR (x)
        {
            if (u->segment[x] == s)
                vf_store_n (acc, u->at[x] + d, DT_F32, sum[x], n);
        }
    }
}
