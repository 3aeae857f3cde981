/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rope.c: rotary positions. Sines are dear and every layer asks for the same ones, so those of the last few frequency tables are kept, for
 * positions 0, 1, 2 … as far as they were asked for; far positions are computed for the call alone.
 */
#include "ops.h"

enum { KEPT_TABLES = 4, KEPT_POSITIONS = 8192 };

/* The angles of one position: f64 sine and cosine of position × the f32 frequency, rounded to f32. */
static void angles (const float *inv_freq, int64_t half, int64_t position, float *cosine, float *sine)
{
    for (int64_t i = 0; i < half; i++) {
        double a = (double)position * (double)inv_freq[i];
        cosine[i] = (float)cos (a);
        sine[i] = (float)sin (a);
    }
}

/* (positions, 2·half): cosines, then sines. */
typedef struct Sines {
    float *inv_freq, *values;
    int64_t half, positions;
    uint64_t used;
} Sines;

static Sines kept[KEPT_TABLES];
static uint64_t calls;

static Sines *find_sines (const float *inv_freq, int64_t half)
{
    Sines *oldest = kept;
    for (int i = 0; i < KEPT_TABLES; i++) {
        if (kept[i].half == half && !memcmp (kept[i].inv_freq, inv_freq, (size_t)half * sizeof *inv_freq))
            return &kept[i];
        if (kept[i].used < oldest->used)
            oldest = &kept[i];
    }
    dps_free (oldest->inv_freq);
    dps_free (oldest->values);
    memset (oldest, 0, sizeof *oldest);
    oldest->inv_freq = dps_malloc ((size_t)half, sizeof *inv_freq);
    if (!oldest->inv_freq)
        return NULL;
    memcpy (oldest->inv_freq, inv_freq, (size_t)half * sizeof *inv_freq);
    oldest->half = half;
    return oldest;
}

/* Sines of positions [0, n), or NULL: out of memory. */
static const float *sines_of (const float *inv_freq, int64_t half, int64_t n)
{
    Sines *s = find_sines (inv_freq, half);
    if (!s)
        return NULL;
    s->used = ++calls;
    if (s->positions < n) {
        int64_t want = n < 2 * s->positions ? 2 * s->positions : n;
        float *values = dps_malloc ((size_t)(want * 2 * half), sizeof *values);
        if (!values)
            return NULL;
        PARALLEL_FOR (i, want, 64 * want * half) angles (inv_freq, half, i, values + i * 2 * half, values + i * 2 * half + half);
        dps_free (s->values);
        s->values = values;
        s->positions = want;
    }
    return s->values;
}

static void rotate (const DpsView *x, const DpsView *y, int64_t at, int64_t half, const float *cosine, const float *sine, float scale,
                    float sign)
{
    for (int64_t i = 0; i < half; i += LANES) {
        int64_t n = half - i < LANES ? half - i : LANES;
        vf a = load_n (x->host, at + i, IS_BF (x), n), b = load_n (x->host, at + half + i, IS_BF (x), n);
        vf co = load_n (cosine, i, 0, n), si = load_n (sine, i, 0, n) * splat (sign), k = splat (scale);
        store_n (y->host, at + i, IS_BF (y), (a * co - b * si) * k, n);
        store_n (y->host, at + half + i, IS_BF (y), (b * co + a * si) * k, n);
    }
}

/* The position of every row; -1: of no segment. */
static DpsStatus find_positions (CpuCall *c, const DpsView *table, int64_t N, int32_t *position, int32_t *out_most)
{
    int64_t stride = table->shape[1];
    memset (position, 0xff, (size_t)N * 4);
    for (int64_t s = 0; s < table->shape[0]; s++) {
        DpsSegment g;
        memcpy (&g, (const char *)table->host + s * stride, sizeof g);
        if (g.q_len < 0 || g.q_start < 0 || g.q_start + (int64_t)g.q_len > N || g.position < 0)
            return dps_fail (c->err, DPS_ERR_INVALID, "cpu: rope: segment %lld lies outside the rows", (long long)s);
        for (int32_t i = 0; i < g.q_len; i++)
            position[g.q_start + i] = g.position + i;
    }
    *out_most = 0;
    for (int64_t i = 0; i < N; i++)
        *out_most = position[i] > *out_most ? position[i] : *out_most;
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_rope) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *table = cpu_in (c, 1), *inv_freq = cpu_in (c, 2), *y = cpu_out (c, 0);
    int64_t h = cpu_i (c, 0), half = h / 2, D = cpu_cols (x), N = cpu_rows (x);
    float scale = cpu_f (c, 2) != 0 ? (float)cpu_f (c, 2) : 1, sign = cpu_i (c, 1) ? -1.0f : 1.0f;
    int32_t most = 0;
    if (h <= 0 || h % 2 || D % h || table->shape[1] < (int64_t)sizeof (DpsSegment))
        return dps_fail (c->err, DPS_ERR_SHAPE, "cpu: rope: rows of %lld do not divide into heads of %lld", (long long)D, (long long)h);
    int32_t *position = cpu_scratch (CPU_SLOT_A, (uint64_t)N * 4);
    if (!position)
        return dps_fail (c->err, DPS_ERR_NOMEM, "cpu: out of memory for rope");
    DPS_TRY (find_positions (c, table, N, position, &most));
    int near = most < KEPT_POSITIONS;
    float *own = near ? NULL : cpu_scratch (CPU_SLOT_B, (uint64_t)N * (uint64_t)h * 4);
    const float *sines = near ? sines_of (inv_freq->host, half, most + 1) : own;
    if (!sines)
        return dps_fail (c->err, DPS_ERR_NOMEM, "cpu: out of memory for rope");
    if (own)
        PARALLEL_FOR (i, N, 64 * N * half)
    angles (inv_freq->host, half, position[i] < 0 ? 0 : position[i], own + i * h, own + i * h + half);
    PARALLEL_FOR (i, N, N * D)
    {
        if (position[i] < 0) {
            memset ((char *)y->host + (size_t)(i * D) * (IS_BF (y) ? 2 : 4), 0, (size_t)D * (IS_BF (y) ? 2 : 4));
            continue;
        }
        const float *co = sines + (near ? position[i] : i) * h;
        for (int64_t at = 0; at < D; at += h)
            rotate (x, y, i * D + at, half, co, co + half, scale, sign);
    }
    return DPS_OK;
}
