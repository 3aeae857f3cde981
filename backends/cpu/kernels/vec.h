/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec.h: a register of floats at a time, in GCC's vector extension: the same source makes SSE, AVX2 and AVX-512 code (CMakeLists.txt compiles
 * each kernel file once for each). A vector is exactly one register: of wider ones GCC 12 makes code that goes through memory at every step.
 * Tails go through small buffers, so memory past an array is never touched.
 */
#ifndef DPS_CPU_VEC_H
#define DPS_CPU_VEC_H

#include <math.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "../cpu.h"

#define ISA_JOIN(a, b)       a##_##b
#define ISA_NAME_(name, isa) ISA_JOIN (name, isa)
#define ISA_NAME(name)       ISA_NAME_ (name, CPU_ISA)

#define INLINE static inline __attribute__ ((always_inline))

#if defined(CPU_LANES) /* a test's */
#elif defined(__AVX512F__)
#define CPU_LANES 16
#elif defined(__AVX2__)
#define CPU_LANES 8
#else
#define CPU_LANES 4
#endif
enum { LANES = CPU_LANES };

/* A constant vector of f (lane, x). */
#define FOUR_LANES(f, l, x) f ((l), x), f ((l) + 1, x), f ((l) + 2, x), f ((l) + 3, x)
#if CPU_LANES == 16
#define EACH_LANE(f, x)                                                                                                                    \
    {                                                                                                                                      \
        FOUR_LANES (f, 0, x), FOUR_LANES (f, 4, x), FOUR_LANES (f, 8, x), FOUR_LANES (f, 12, x)                                            \
    }
#elif CPU_LANES == 8
#define EACH_LANE(f, x)                                                                                                                    \
    {                                                                                                                                      \
        FOUR_LANES (f, 0, x), FOUR_LANES (f, 4, x)                                                                                         \
    }
#else
#define EACH_LANE(f, x)                                                                                                                    \
    {                                                                                                                                      \
        FOUR_LANES (f, 0, x)                                                                                                               \
    }
#endif
#define LANE_NUMBER(l, first) ((l) + (first))
typedef float vf __attribute__ ((vector_size (LANES * 4)));
typedef int32_t vi __attribute__ ((vector_size (LANES * 4)));
typedef uint32_t vu __attribute__ ((vector_size (LANES * 4)));
typedef uint16_t vh __attribute__ ((vector_size (LANES * 2)));

INLINE vf splat (float x) { return x - (vf){0}; }

INLINE vf load_f32 (const float *p)
{
    vf v;
    memcpy (&v, p, sizeof v);
    return v;
}

INLINE void store_f32 (float *p, vf v) { memcpy (p, &v, sizeof v); }

INLINE vf load_bf16 (const uint16_t *p)
{
#if defined(__AVX2__) && CPU_LANES == 8 /* GCC 12 widens sixteen bits in five steps here */
    return (vf)((vu)_mm256_cvtepu16_epi32 (_mm_loadu_si128 ((const __m128i *)p)) << 16);
#else
    vh h;
    memcpy (&h, p, sizeof h);
    return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

/* Round to nearest even; NaN stays NaN. */
INLINE vu bf16_bits (vf v)
{
    vu u = (vu)v;
    vu rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    vu is_nan = (vu)(v != v);
    return (rounded & ~is_nan) | (((u >> 16) | 64) & is_nan);
}

INLINE void store_bf16 (uint16_t *p, vf v)
{
    vh h = __builtin_convertvector(bf16_bits (v), vh);
    memcpy (p, &h, sizeof h);
}

/* Element i of an array of dtype bf (1: bf16, 0: f32). */
INLINE vf load (const void *p, int64_t i, int bf) { return bf ? load_bf16 ((const uint16_t *)p + i) : load_f32 ((const float *)p + i); }

INLINE void store (void *p, int64_t i, int bf, vf v)
{
    if (bf)
        store_bf16 ((uint16_t *)p + i, v);
    else
        store_f32 ((float *)p + i, v);
}

/* At most LANES elements, zeros behind them. */
INLINE vf load_n (const void *p, int64_t i, int bf, int64_t n)
{
    vf v = splat (0);
    if (n >= LANES)
        return load (p, i, bf);
    if (bf) {
        uint16_t room[LANES] = {0};
        memcpy (room, (const uint16_t *)p + i, (size_t)n * 2);
        return load_bf16 (room);
    }
    memcpy (&v, (const float *)p + i, (size_t)n * 4);
    return v;
}

INLINE void store_n (void *p, int64_t i, int bf, vf v, int64_t n)
{
    if (n >= LANES)
        store (p, i, bf, v);
    else if (bf) {
        uint16_t room[LANES];
        store_bf16 (room, v);
        memcpy ((uint16_t *)p + i, room, (size_t)n * 2);
    } else
        memcpy ((float *)p + i, &v, (size_t)n * 4);
}

/* Lanes added in one fixed order. */
INLINE float sum_lanes (vf v)
{
    float a[LANES];
    memcpy (a, &v, sizeof a);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            a[i] += a[i + half];
    return a[0];
}

INLINE float max_lanes (vf v)
{
    float m = v[0];
    for (int i = 1; i < LANES; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

INLINE vf vselect (vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
INLINE vf vmax (vf a, vf b) { return vselect (a > b, a, b); }
INLINE vf vmin (vf a, vf b) { return vselect (a < b, a, b); }

/*
 * eˣ: x = n·ln 2 + r, |r| ≤ ln2/2; a degree-6 polynomial for eʳ (Cephes' expf coefficients); about 1 ulp. Below -87.3 the result is 0, above
 * 88.7 infinity, NaN stays NaN.
 */
INLINE vf vexp (vf x)
{
    const vf magic = splat (12582912.0f);
    vf t = vmin (vmax (x, splat (-87.33654f)), splat (88.72283f));
    vf n = t * splat (1.44269504088896341f) + magic;
    vi e = (vi)n;
    n = n - magic;
    vf r = (t - n * splat (0.693359375f)) + n * splat (2.12194440e-4f);
    vf p = splat (1.9875691500e-4f);
    p = p * r + splat (1.3981999507e-3f);
    p = p * r + splat (8.3334519073e-3f);
    p = p * r + splat (4.1665795894e-2f);
    p = p * r + splat (1.6666665459e-1f);
    p = p * r + splat (5.0000001201e-1f);
    p = p * (r * r) + r + splat (1.0f);
    /* 2ⁿ in two halves, so that n = 128 does not overflow the exponent field */
    vi k = e - (vi)magic, half = k >> 1;
    vf y = p * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
    y = vselect (x < splat (-87.33654f), splat (0), y);
    y = vselect (x > splat (88.72283f), splat (INFINITY), y);
    return vselect (x != x, x, y);
}

/* tanh: 1 - 2/(e²ˣ + 1), and x - x³/3 + 2x⁵/15 where that cancels. */
INLINE vf vtanh (vf x)
{
    vf e = vexp (x + x);
    vf big = splat (1) - splat (2) / (e + splat (1));
    vf s = x * x;
    vf small = x + x * s * (splat (-0.333333343f) + s * (splat (0.133333340f) - s * splat (0.0539682540f)));
    return vselect ((x < splat (0.1f)) & (x > splat (-0.1f)), small, big);
}

/* Rows or elements in parallel when there is enough work for it. Body sees i. */
#define PRAGMA(text) _Pragma (#text)
#define PARALLEL_FOR(i, n, work)                                                                                                           \
    PRAGMA (omp parallel for schedule (static) if ((work) > CPU_SERIAL_WORK))                                                              \
    for (int64_t i = 0; i < (n); i++)

/* Body sees i, a vector's first element, and n, how many of it there are. Blocks of 4096 elements are shared out; `cost`: of an element. */
enum { VECTOR_BLOCK = 4096 };
#define EACH_VECTOR(total, cost, ...)                                                                                                      \
    do {                                                                                                                                   \
        int64_t total_ = (total), blocks_ = (total_ + VECTOR_BLOCK - 1) / VECTOR_BLOCK;                                                    \
        PARALLEL_FOR (block_, blocks_, (cost)*total_)                                                                                      \
        {                                                                                                                                  \
            int64_t end_ = (block_ + 1) * VECTOR_BLOCK < total_ ? (block_ + 1) * VECTOR_BLOCK : total_;                                    \
            for (int64_t i = block_ * VECTOR_BLOCK; i < end_; i += LANES) {                                                                \
                int64_t n = end_ - i < LANES ? end_ - i : LANES;                                                                           \
                __VA_ARGS__                                                                                                                \
            }                                                                                                                              \
        }                                                                                                                                  \
    } while (0)

/* Of two rows that exchange squares of `half` lanes, lane l of the first and of the second. As constants: GCC 12 makes them anew for each square else. */
#define SQUARES_FIRST(l, half)  ((l) & (half) ? LANES + (l) - (half) : (l))
#define SQUARES_SECOND(l, half) ((l) & (half) ? LANES + (l) : (l) + (half))

/* Across the diagonal of every 2·half × 2·half square, its half × half squares change places. */
#define EXCHANGE(m, half)                                                                                                                  \
    PRAGMA (GCC unroll 16)                                                                                                                 \
    for (int i = 0; i < LANES; i++)                                                                                                        \
        if (!(i & (half))) {                                                                                                               \
            vf a = (m)[i], b = (m)[i + (half)];                                                                                            \
            (m)[i] = __builtin_shuffle (a, b, (vi)EACH_LANE (SQUARES_FIRST, half));                                                        \
            (m)[i + (half)] = __builtin_shuffle (a, b, (vi)EACH_LANE (SQUARES_SECOND, half));                                              \
        }

/* LANES rows of as many columns. */
INLINE void transpose_square (vf m[LANES])
{
#if CPU_LANES > 8
    EXCHANGE (m, 8)
#endif
#if CPU_LANES > 4
    EXCHANGE (m, 4)
#endif
    EXCHANGE (m, 2)
    EXCHANGE (m, 1)
}

#define IS_BF(v) ((v)->dtype == DPS_DTYPE_BF16)

#endif
