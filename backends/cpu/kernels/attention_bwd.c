/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_bwd.c: gradients of attention, with weights recomputed from lse: P = exp(s − lse), dP = dO·Vᵀ, dS = P·(dP − Σ dO·O).
 * Two passes, so that threads never write the same place and sums have one order: queries (dQ, over key blocks in order), then keys (dK, dV: over
 * every query block of the segment and of its descendants, in table order).
 */
#include "attention.h"

typedef struct Gradient {
    Attention a;
    const DpsView *o, *d_o;
    const float *lse;
    float *delta; /* (N, H): Σ dO·O */
} Gradient;

/* Scratch of one thread, in floats. */
typedef struct Work {
    float *q, *d_o, *s, *dp, *k, *k_t, *v, *v_t, *acc, *acc2;
} Work;

static uint64_t work_floats (const Attention *a)
{
    uint64_t m = (uint64_t)(QUERIES * a->R), hp = (uint64_t)a->hp;
    return 3 * m * hp + 2 * m * KEYS + 6 * KEYS * hp + 64;
}

static Work work_at (const Attention *a, float *base)
{
    uint64_t m = (uint64_t)(QUERIES * a->R), hp = (uint64_t)a->hp;
    Work w = {.q = base};
    w.d_o = w.q + m * hp;
    w.acc = w.d_o + m * hp; /* dQ (m, hp); in the second pass dK and dV (64, hp) each: R·64 ≥ 64 rows, and acc2 */
    w.acc2 = w.acc + m * hp;
    w.k = w.acc2 + KEYS * hp;
    w.k_t = w.k + KEYS * hp;
    w.v = w.k_t + KEYS * hp;
    w.v_t = w.v + KEYS * hp;
    w.s = w.v_t + KEYS * hp;
    w.dp = w.s + m * KEYS;
    return w;
}

static void load_heads (const Attention *a, const DpsView *x, int64_t row, int64_t n, int64_t g, float *to)
{
    int bf = IS_BF (x);
    for (int64_t r = 0; r < n * a->R; r++) {
        int64_t at = ((row + r / a->R) * a->H + g * a->R + r % a->R) * a->h;
        for (int64_t d = 0; d < a->hp; d += LANES) {
            int64_t left = a->h - d;
            store_f32 (to + r * a->hp + d, left >= LANES ? load (x->host, at + d, bf)
                                           : left > 0    ? load_n (x->host, at + d, bf, left)
                                                         : splat (0));
        }
    }
}

/* In: s = q·k, dp = dO·v. Out: s = P, dp = dS·scale. */
static void row_gradient (const Gradient *t, float *s, float *dp, int64_t lo, int64_t hi, float lse, float delta)
{
    const Attention *a = &t->a;
    const vi lane = EACH_LANE (LANE_NUMBER, 0);
    for (int i = 0; i < KEYS / LANES; i++) {
        vi at = lane + i * LANES, seen = (at >= (int32_t)lo) & (at <= (int32_t)hi);
        vf x = load_f32 (s + i * LANES) * splat (a->scale), slope = splat (a->scale);
        if (a->softcap > 0) {
            vf u = vtanh (x / splat (a->softcap));
            x = splat (a->softcap) * u;
            slope = slope * (splat (1) - u * u);
        }
        vf p = vselect (seen, vexp (x - splat (lse)), splat (0));
        store_f32 (s + i * LANES, p);
        store_f32 (dp + i * LANES, p * (load_f32 (dp + i * LANES) - splat (delta)) * slope);
    }
}

/* One (query block, key block): w->s = P, w->dp = dS. Keys and queries are already in w. */
static void block_pair (const Gradient *t, const Work *w, int64_t row, int64_t p0, int64_t n, int64_t g, int64_t b)
{
    const Attention *a = &t->a;
    int64_t m = n * a->R;
    ISA_NAME (gemm64) (m, KEYS, a->h, w->q, a->hp, 1, w->k_t, KEYS, w->s, KEYS, 0);
    ISA_NAME (gemm64) (m, KEYS, a->h, w->d_o, a->hp, 1, w->v_t, KEYS, w->dp, KEYS, 0);
    for (int64_t r = 0; r < m; r++) {
        int64_t p = p0 + r / a->R, lo = a->window > 0 && p >= a->window ? p - a->window + 1 : 0;
        int64_t head = (row + r / a->R) * a->H + g * a->R + r % a->R;
        row_gradient (t, w->s + r * KEYS, w->dp + r * KEYS, lo - b * KEYS, p - b * KEYS, t->lse[head], t->delta[head]);
    }
}

static void store_heads (const Attention *a, const DpsView *y, int64_t at, const float *from)
{
    int bf = IS_BF (y);
    for (int64_t d = 0; d < a->h; d += LANES) {
        if (a->h - d >= LANES)
            store (y->host, at + d, bf, load_f32 (from + d));
        else
            store_n (y->host, at + d, bf, load_f32 (from + d), a->h - d);
    }
}

static void query_unit (const Gradient *t, const Work *w, int64_t s, int64_t g, int64_t block, const DpsView *dq)
{
    const Attention *a = &t->a;
    DpsSegment seg = ISA_NAME (attention_segment) (a, s);
    Chain chain;
    ISA_NAME (attention_chain) (a, s, &chain);
    int64_t first = block * QUERIES, n = seg.q_len - first < QUERIES ? seg.q_len - first : QUERIES;
    int64_t row = seg.q_start + first, p0 = seg.position + first;
    load_heads (a, a->q, row, n, g, w->q);
    load_heads (a, t->d_o, row, n, g, w->d_o);
    memset (w->acc, 0, (size_t)(n * a->R * a->hp) * 4);
    for (int64_t b = first_block (a, p0); b * KEYS <= p0 + n - 1; b++) {
        ISA_NAME (attention_gather) (a, a->k, &chain, g, b, w->k, w->k_t);
        ISA_NAME (attention_gather) (a, a->v, &chain, g, b, w->v, w->v_t);
        block_pair (t, w, row, p0, n, g, b);
        ISA_NAME (gemm64) (n * a->R, a->hp, KEYS, w->dp, KEYS, 1, w->k, a->hp, w->acc, a->hp, 1);
    }
    for (int64_t r = 0; r < n * a->R; r++)
        store_heads (a, dq, ((row + r / a->R) * a->H + g * a->R + r % a->R) * a->h, w->acc + r * a->hp);
}

/* 1 when segment `s` is `ancestor` or below it. */
static int descends (const Attention *a, int64_t s, int64_t ancestor)
{
    while (s > ancestor)
        s = ISA_NAME (attention_segment) (a, s).parent;
    return s == ancestor;
}

/* Gradients of the keys of segment s that lie in block b of its positions. */
static void key_unit (const Gradient *t, const Work *w, int64_t s, int64_t g, int64_t b, const DpsView *dk, const DpsView *dv)
{
    const Attention *a = &t->a;
    DpsSegment own = ISA_NAME (attention_segment) (a, s);
    Chain chain;
    ISA_NAME (attention_chain) (a, s, &chain);
    chain.runs[0] = chain.runs[chain.n - 1]; /* this segment's keys alone: others' count elsewhere */
    chain.n = 1;
    int64_t first = chain.runs[0].first, end = first + own.kv_len;
    int64_t lo = first > b * KEYS ? first : b * KEYS, hi = end < (b + 1) * KEYS ? end : (b + 1) * KEYS;
    float *acc_k = w->acc, *acc_v = w->acc2;
    ISA_NAME (attention_gather) (a, a->k, &chain, g, b, w->k, w->k_t);
    ISA_NAME (attention_gather) (a, a->v, &chain, g, b, w->v, w->v_t);
    memset (acc_k, 0, (size_t)(KEYS * a->hp) * 4);
    memset (acc_v, 0, (size_t)(KEYS * a->hp) * 4);
    for (int64_t d = s; d < a->n_segments; d++) {
        if (!descends (a, d, s))
            continue;
        DpsSegment seg = ISA_NAME (attention_segment) (a, d);
        for (int64_t q = 0; q < seg.q_len; q += QUERIES) {
            int64_t n = seg.q_len - q < QUERIES ? seg.q_len - q : QUERIES, row = seg.q_start + q, p0 = seg.position + q, m = n * a->R;
            if (p0 + n - 1 < lo || (a->window > 0 && p0 - a->window + 1 >= hi))
                continue;
            load_heads (a, a->q, row, n, g, w->q);
            load_heads (a, t->d_o, row, n, g, w->d_o);
            block_pair (t, w, row, p0, n, g, b);
            ISA_NAME (gemm64) (KEYS, a->hp, m, w->s, 1, KEYS, w->d_o, a->hp, acc_v, a->hp, 1);
            ISA_NAME (gemm64) (KEYS, a->hp, m, w->dp, 1, KEYS, w->q, a->hp, acc_k, a->hp, 1);
        }
    }
    for (int64_t p = lo; p < hi; p++) {
        int64_t at = ((own.kv_start + p - first) * a->G + g) * a->h;
        store_heads (a, dk, at, acc_k + (p - b * KEYS) * a->hp);
        store_heads (a, dv, at, acc_v + (p - b * KEYS) * a->hp);
    }
}

typedef struct Unit {
    int32_t s, g, block, keys;
} Unit;

/* Query units, then key units. */
static int64_t list_units (const Attention *a, Unit *units)
{
    int64_t at = 0;
    for (int keys = 0; keys < 2; keys++)
        for (int64_t s = 0; s < a->n_segments; s++) {
            DpsSegment g = ISA_NAME (attention_segment) (a, s);
            int64_t first = g.position + (int64_t)g.q_len - g.kv_len;
            int64_t lo = keys ? first / KEYS : 0;
            int64_t hi = keys ? (g.kv_len ? (first + g.kv_len - 1) / KEYS + 1 : lo) : (g.q_len + QUERIES - 1) / QUERIES;
            for (int64_t b = lo; b < hi; b++)
                for (int64_t head = 0; head < a->G; head++, at++)
                    if (units)
                        units[at] = (Unit){(int32_t)s, (int32_t)head, (int32_t)b, keys};
        }
    return at;
}

static void fill_delta (const Gradient *t)
{
    const Attention *a = &t->a;
    PARALLEL_FOR (i, a->N * a->H, a->N * a->H * a->h)
    {
        vf sum = splat (0);
        for (int64_t d = 0; d < a->h; d += LANES) {
            int64_t n = a->h - d < LANES ? a->h - d : LANES;
            sum += load_n (t->o->host, i * a->h + d, IS_BF (t->o), n) * load_n (t->d_o->host, i * a->h + d, IS_BF (t->d_o), n);
        }
        t->delta[i] = sum_lanes (sum);
    }
}

static void zero (const DpsView *y) { memset (y->host, 0, (size_t)cpu_count (y) * (IS_BF (y) ? 2 : 4)); }

DpsStatus ISA_NAME (cpu_attention_bwd) (CpuCall *c)
{
    const DpsView *dq = cpu_out (c, 0), *dk = cpu_out (c, 1), *dv = cpu_out (c, 2);
    Gradient t = {.o = cpu_in (c, 3), .lse = cpu_in (c, 4)->host, .d_o = cpu_in (c, 5)};
    DPS_TRY (ISA_NAME (attention_open) (c, &t.a, 6));
    const Attention *a = &t.a;
    int64_t n_units = list_units (a, NULL);
    Unit *units = cpu_scratch (CPU_SLOT_A, (uint64_t)(n_units + 1) * sizeof *units);
    t.delta = cpu_scratch (CPU_SLOT_C, (uint64_t)(a->N * a->H) * 4);
    int threads = cpu_threads (n_units > 1 && a->N * a->h > 256 ? (int)(n_units < 1024 ? n_units : 1024) : 1);
    float *work = cpu_scratch (CPU_SLOT_B, (uint64_t)threads * work_floats (a) * 4);
    if (!units || !t.delta || !work)
        return dps_fail (c->err, DPS_ERR_NOMEM, "cpu: out of memory for attention_bwd");
    list_units (a, units);
    zero (dq);
    zero (dk);
    zero (dv);
    fill_delta (&t);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < n_units; i++) {
        Work w = work_at (a, work + (uint64_t)cpu_thread () * work_floats (a));
        if (units[i].keys)
            key_unit (&t, &w, units[i].s, units[i].g, units[i].block, dk, dv);
        else
            query_unit (&t, &w, units[i].s, units[i].g, units[i].block, dq);
    }
    return DPS_OK;
}
