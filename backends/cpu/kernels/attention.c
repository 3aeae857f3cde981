/* SPDX-License-Identifier: Apache-2.0 */
/* attention.c: the forward pass: online softmax over key blocks, one accumulator row per (query, head). */
#include "attention.h"

/* Scratch of one thread, in floats. */
typedef struct Work {
    float *q, *o, *s, *k_t, *v, *rows, *max, *sum;
} Work;

static uint64_t work_floats (const Attention *a)
{
    uint64_t m = (uint64_t)(QUERIES * a->R), hp = (uint64_t)a->hp;
    return 2 * m * hp + m * KEYS + 3 * KEYS * hp + 2 * m + 64;
}

static Work work_at (const Attention *a, float *base)
{
    uint64_t m = (uint64_t)(QUERIES * a->R), hp = (uint64_t)a->hp;
    Work w = {.q = base};
    w.o = w.q + m * hp;
    w.k_t = w.o + m * hp;
    w.v = w.k_t + KEYS * hp;
    w.rows = w.v + KEYS * hp;
    w.s = w.rows + KEYS * hp;
    w.max = w.s + m * KEYS;
    w.sum = w.max + m;
    return w;
}

/* Row r of a unit is query position r / R of the block, head r % R. */
static void load_queries (const Attention *a, int64_t row, int64_t n, int64_t g, float *q)
{
    int bf = IS_BF (a->q);
    for (int64_t r = 0; r < n * a->R; r++) {
        int64_t at = ((row + r / a->R) * a->H + g * a->R + r % a->R) * a->h;
        for (int64_t d = 0; d < a->hp; d += LANES) {
            int64_t left = a->h - d;
            store_f32 (q + r * a->hp + d, left >= LANES ? load (a->q->host, at + d, bf)
                                          : left > 0    ? load_n (a->q->host, at + d, bf, left)
                                                        : splat (0));
        }
    }
}

/* Scores of one row against a block → weights in place; the row's running maximum and sum; its accumulator rescaled. */
static void soften (const Attention *a, float *s, int64_t lo, int64_t hi, float *max, float *sum, float *o)
{
    vf x[KEYS / LANES], top = splat (-INFINITY);
    const vi lane = EACH_LANE (LANE_NUMBER, 0);
    for (int i = 0; i < KEYS / LANES; i++) {
        vi at = lane + i * LANES;
        vi seen = (at >= (int32_t)lo) & (at <= (int32_t)hi);
        vf v = load_f32 (s + i * LANES) * splat (a->scale);
        if (a->softcap > 0)
            v = splat (a->softcap) * vtanh (v / splat (a->softcap));
        x[i] = vselect (seen, v, splat (-INFINITY));
        top = vmax (top, x[i]);
    }
    float high = max_lanes (top), old = *max;
    if (hi < 0 || lo >= KEYS || hi < lo) { /* no key is seen; scores that are all NaN have no maximum either, but must reach the output */
        memset (s, 0, KEYS * sizeof *s);
        return;
    }
    high = high > old ? high : old;
    float shrink = old == -INFINITY ? 0 : vexp (splat (old - high))[0];
    vf total = splat (0);
    for (int i = 0; i < KEYS / LANES; i++) {
        vf e = vexp (x[i] - splat (high));
        store_f32 (s + i * LANES, e);
        total += e;
    }
    *sum = *sum * shrink + sum_lanes (total);
    *max = high;
    if (shrink != 1)
        for (int64_t d = 0; d < a->hp; d += LANES)
            store_f32 (o + d, load_f32 (o + d) * splat (shrink));
}

static void finish (const Attention *a, const DpsView *out, float *lse, int64_t row, int64_t n, int64_t g, const Work *w)
{
    int bf = IS_BF (out);
    for (int64_t r = 0; r < n * a->R; r++) {
        int64_t head = (row + r / a->R) * a->H + g * a->R + r % a->R;
        vf inverse = splat (w->sum[r] != 0 ? 1 / w->sum[r] : 0);
        for (int64_t d = 0; d < a->h; d += LANES) {
            vf v = load_f32 (w->o + r * a->hp + d) * inverse;
            if (a->h - d >= LANES)
                store (out->host, head * a->h + d, bf, v);
            else
                store_n (out->host, head * a->h + d, bf, v, a->h - d);
        }
        if (lse)
            lse[head] = w->sum[r] != 0 ? w->max[r] + logf (w->sum[r]) : 0;
    }
}

static void unit (const Attention *a, const Work *w, int64_t s, int64_t g, int64_t block, const DpsView *out, float *lse)
{
    DpsSegment seg = ISA_NAME (attention_segment) (a, s);
    Chain chain;
    ISA_NAME (attention_chain) (a, s, &chain);
    int64_t first = block * QUERIES, n = seg.q_len - first < QUERIES ? seg.q_len - first : QUERIES, m = n * a->R;
    int64_t p0 = seg.position + first, last = p0 + n - 1;
    load_queries (a, seg.q_start + first, n, g, w->q);
    memset (w->o, 0, (size_t)(m * a->hp) * 4);
    for (int64_t r = 0; r < m; r++) {
        w->max[r] = -INFINITY;
        w->sum[r] = 0;
    }
    for (int64_t b = first_block (a, p0); b * KEYS <= last; b++) {
        ISA_NAME (attention_gather) (a, a->k, &chain, g, b, w->rows, w->k_t);
        ISA_NAME (attention_gather) (a, a->v, &chain, g, b, w->v, NULL);
        ISA_NAME (gemm64) (m, KEYS, a->h, w->q, a->hp, 1, w->k_t, KEYS, w->s, KEYS, 0);
        for (int64_t r = 0; r < m; r++) {
            int64_t p = p0 + r / a->R, lo = a->window > 0 && p >= a->window ? p - a->window + 1 : 0;
            soften (a, w->s + r * KEYS, lo - b * KEYS, p - b * KEYS, &w->max[r], &w->sum[r], w->o + r * a->hp);
        }
        ISA_NAME (gemm64) (m, a->hp, KEYS, w->s, KEYS, 1, w->v, a->hp, w->o, a->hp, 1);
    }
    finish (a, out, lse, seg.q_start + first, n, g, w);
}

/* Rows of no segment are zeros. */
static void clear_strays (const Attention *a, const DpsView *out, float *lse)
{
    int64_t rows = 0;
    for (int64_t s = 0; s < a->n_segments; s++)
        rows += ISA_NAME (attention_segment) (a, s).q_len;
    if (rows >= a->N)
        return;
    memset (out->host, 0, (size_t)cpu_count (out) * (IS_BF (out) ? 2 : 4));
    if (lse)
        memset (lse, 0, (size_t)(a->N * a->H) * sizeof *lse);
}

DpsStatus ISA_NAME (cpu_attention) (CpuCall *c)
{
    const DpsView *out = cpu_out (c, 0);
    float *lse = cpu_out (c, 1) ? cpu_out (c, 1)->host : NULL;
    Attention a;
    DPS_TRY (ISA_NAME (attention_open) (c, &a, 3));
    int64_t n_units = 0;
    for (int64_t s = 0; s < a.n_segments; s++)
        n_units += a.G * ((ISA_NAME (attention_segment) (&a, s).q_len + QUERIES - 1) / QUERIES);
    clear_strays (&a, out, lse);
    struct {
        int32_t s, g, block;
    } *units = cpu_scratch (CPU_SLOT_A, (uint64_t)(n_units + 1) * sizeof *units);
    int threads = cpu_threads (n_units > 1 && a.N * a.h > 256 ? (int)(n_units < 1024 ? n_units : 1024) : 1);
    float *work = cpu_scratch (CPU_SLOT_B, (uint64_t)threads * work_floats (&a) * 4);
    if (!units || !work)
        return dps_fail (c->err, DPS_ERR_NOMEM, "cpu: out of memory for attention");
    int64_t at = 0;
    for (int64_t s = 0; s < a.n_segments; s++)
        for (int64_t b = (ISA_NAME (attention_segment) (&a, s).q_len + QUERIES - 1) / QUERIES; b-- > 0;) /* the longest first */
            for (int64_t g = 0; g < a.G; g++, at++)
                units[at].s = (int32_t)s, units[at].g = (int32_t)g, units[at].block = (int32_t)b;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < n_units; i++) {
        Work w = work_at (&a, work + (uint64_t)cpu_thread () * work_floats (&a));
        unit (&a, &w, units[i].s, units[i].g, units[i].block, out, lse);
    }
    return DPS_OK;
}
