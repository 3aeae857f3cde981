/* SPDX-License-Identifier: Apache-2.0 */
/* attention_common.c: what attention and its adjoint share: the segment table checked, chains of segments, keys turned into columns. */
#include "attention.h"

#include "base/opcall.h"

DpsSegment ISA_NAME (attention_segment) (const Attention *a, int64_t s)
{
    DpsSegment g;
    memcpy (&g, (const char *)a->segments->host + s * a->stride, sizeof g);
    return g;
}

static DpsStatus check_segments (CpuCall *c, const Attention *a)
{
    for (int64_t s = 0; s < a->n_segments; s++) {
        DpsSegment g = ISA_NAME (attention_segment) (a, s);
        int rows = g.q_len >= 0 && g.q_start >= 0 && g.q_start + (int64_t)g.q_len <= a->N;
        int keys = g.kv_len >= 0 && g.kv_start >= 0 && g.kv_start + (int64_t)g.kv_len <= a->Nkv;
        int place = g.position >= 0 && g.position + (int64_t)g.q_len - g.kv_len >= 0 && g.parent >= -1 && g.parent < s;
        int depth = 0;
        for (int64_t p = s; place && p >= 0; depth++)
            p = ISA_NAME (attention_segment) (a, p).parent;
        if (!rows || !keys || !place || depth > MAX_CHAIN)
            return dps_fail (c->err, DPS_ERR_INVALID, "cpu: %s: segment %lld does not fit its rows, its keys or its parents", c->name,
                             (long long)s);
        if (g.flags & DPS_SEGMENT_BIDIRECTIONAL)
            return dps_fail (c->err, DPS_ERR_UNSUPPORTED, "cpu: %s: bidirectional segments have no kernel", c->name);
    }
    return DPS_OK;
}

DpsStatus ISA_NAME (attention_open) (CpuCall *c, Attention *a, int segments_at)
{
    *a = (Attention){.q = cpu_in (c, 0), .k = cpu_in (c, 1), .v = cpu_in (c, 2), .segments = cpu_in (c, (uint32_t)segments_at)};
    a->H = cpu_i (c, 0), a->G = cpu_i (c, 1), a->h = cpu_i (c, 2), a->scale = (float)cpu_f (c, 3), a->window = cpu_i (c, 4);
    a->softcap = (float)cpu_f (c, 5);
    if (a->H <= 0 || a->G <= 0 || a->h <= 0 || a->H % a->G || !dps_heads_fit (cpu_cols (a->q), a->H, a->h) ||
        !dps_heads_fit (cpu_cols (a->k), a->G, a->h))
        return dps_fail (c->err, DPS_ERR_SHAPE, "cpu: %s: %lld and %lld heads of %lld do not fit q and k", c->name, (long long)a->H,
                         (long long)a->G, (long long)a->h);
    a->R = a->H / a->G;
    a->hp = (a->h + 63) / 64 * 64;
    a->N = cpu_rows (a->q), a->Nkv = cpu_rows (a->k);
    a->n_segments = a->segments->shape[0], a->stride = a->segments->shape[1];
    return check_segments (c, a);
}

void ISA_NAME (attention_chain) (const Attention *a, int64_t s, Chain *out)
{
    int64_t path[MAX_CHAIN];
    int depth = 0;
    out->n = 0;
    out->end = 0;
    for (int64_t p = s; p >= 0 && depth < MAX_CHAIN; p = ISA_NAME (attention_segment) (a, p).parent)
        path[depth++] = p;
    while (depth > 0) {
        DpsSegment g = ISA_NAME (attention_segment) (a, path[--depth]);
        int64_t first = g.position + (int64_t)g.q_len - g.kv_len;
        out->runs[out->n++] = (Run){first, g.kv_len, g.kv_start};
        out->end = first + g.kv_len;
    }
}

static void copy_key (const Attention *a, const DpsView *x, int64_t row, int64_t g, float *to)
{
    int64_t at = (row * a->G + g) * a->h;
    int bf = IS_BF (x);
    for (int64_t d = 0; d < a->h; d += LANES) {
        if (a->h - d >= LANES)
            store_f32 (to + d, load (x->host, at + d, bf));
        else
            store_n (to, d, 0, load_n (x->host, at + d, bf, a->h - d), a->h - d);
    }
    for (int64_t d = a->h; d < a->hp; d++)
        to[d] = 0;
}

/* rows (KEYS, hp) → (hp, KEYS) */
static void transpose (const float *rows, int64_t hp, float *to)
{
    for (int64_t d = 0; d < hp; d += LANES)
        for (int i = 0; i < KEYS; i += LANES) {
            vf x[LANES];
#pragma GCC unroll 16
            for (int r = 0; r < LANES; r++)
                x[r] = load_f32 (rows + (i + r) * hp + d);
            transpose_square (x);
#pragma GCC unroll 16
            for (int r = 0; r < LANES; r++)
                store_f32 (to + (d + r) * KEYS + i, x[r]);
        }
}

void ISA_NAME (attention_gather) (const Attention *a, const DpsView *x, const Chain *chain, int64_t g, int64_t b, float *rows,
                                  float *transposed)
{
    int64_t from = b * KEYS;
    int filled[KEYS] = {0};
    for (int r = 0; r < chain->n; r++) {
        const Run *run = &chain->runs[r];
        int64_t lo = run->first > from ? run->first : from, hi = run->first + run->n < from + KEYS ? run->first + run->n : from + KEYS;
        for (int64_t p = lo; p < hi; p++) {
            copy_key (a, x, run->row + p - run->first, g, rows + (p - from) * a->hp);
            filled[p - from] = 1;
        }
    }
    for (int i = 0; i < KEYS; i++)
        if (!filled[i])
            memset (rows + i * a->hp, 0, (size_t)a->hp * 4);
    if (transposed)
        transpose (rows, a->hp, transposed);
}
