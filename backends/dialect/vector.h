/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vector.h: WIDTH floats at once, for loops in which compilers do not find vectors by themselves. One where a group has many lanes: there the lanes
 * are the vector. A tail is loaded with zeros behind it, so that it goes through the same operations.
 */
#ifndef DPS_DIALECT_VECTOR_H
#define DPS_DIALECT_VECTOR_H

/* A loop over an array of vectors, which must become registers. PoCL 3.1 crashes on the pragma where there are barriers. */
#if DPS_LANES == 1 || defined(__CUDACC__)
#define UNROLL _Pragma ("unroll")
#else
#define UNROLL
#endif

#if DPS_LANES == 1 && !defined(__CUDACC__)

#define WIDTH 8
typedef float8 vf;

FN vf vf_splat (float x) { return (vf)(x); }
FN vf vf_load_f32 (GLOBAL const float *p) { return vload8 (0, p); }

FN vf vf_load (GLOBAL const void *p, i64 i, i32 t)
{
    if (t == DT_F32)
        return vload8 (0, (GLOBAL const float *)p + i);
    if (t == DT_BF16)
        return as_float8 (convert_uint8 (vload8 (0, (GLOBAL const u16 *)p + i)) << 16);
    return vload_half8 (0, (GLOBAL const half *)p + i);
}

FN vf vf_load_n (GLOBAL const void *p, i64 i, i32 t, i64 n)
{
    if (n >= WIDTH)
        return vf_load (p, i, t);
    float v[WIDTH];
    for (i32 k = 0; k < WIDTH; k++)
        v[k] = k < n ? dps_load (p, i + k, t) : 0;
    return vload8 (0, v);
}

/* n floats, and `fill` behind them. */
FN vf vf_load_or (GLOBAL const float *p, i64 i, i64 n, float fill)
{
    if (n >= WIDTH)
        return vload8 (0, p + i);
    float v[WIDTH];
    for (i32 k = 0; k < WIDTH; k++)
        v[k] = k < n ? p[i + k] : fill;
    return vload8 (0, v);
}

/* x with zeros behind the first n. */
FN vf vf_keep (vf x, i64 n) { return n >= WIDTH ? x : select ((vf)(0.0f), x, (int8)(0, 1, 2, 3, 4, 5, 6, 7) < (i32)n); }

FN void vf_store_n (GLOBAL void *p, i64 i, i32 t, vf x, i64 n)
{
    if (n >= WIDTH && t == DT_F32) {
        vstore8 (x, 0, (GLOBAL float *)p + i);
        return;
    }
    if (n >= WIDTH && t == DT_BF16) {
        const uint8 u = as_uint8 (x), even = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
        vstore8 (convert_ushort8 (select (even, u >> 16 | 0x40u, (u & 0x7fffffffu) > 0x7f800000u)), 0, (GLOBAL u16 *)p + i);
        return;
    }
    float v[WIDTH];
    vstore8 (x, 0, v);
    for (i32 k = 0; k < WIDTH && k < n; k++)
        dps_store (p, i + k, t, v[k]);
}

FN vf vf_local (const LOCAL_PTR float *p) { return vload8 (0, p); }
FN void vf_put_local (LOCAL_PTR float *p, vf x) { vstore8 (x, 0, p); }

FN float vf_sum (vf x)
{
    const float4 a = x.lo + x.hi;
    const float2 b = a.lo + a.hi;
    return b.x + b.y;
}

FN float vf_top (vf x)
{
    const float4 a = fmax (x.lo, x.hi);
    const float2 b = fmax (a.lo, a.hi);
    return fmax (b.x, b.y);
}

#else

#define WIDTH 1
typedef float vf;

FN vf vf_splat (float x) { return x; }
FN vf vf_load_f32 (GLOBAL const float *p) { return *p; }
FN vf vf_load (GLOBAL const void *p, i64 i, i32 t) { return dps_load (p, i, t); }

FN vf vf_load_n (GLOBAL const void *p, i64 i, i32 t, i64 n) { return n > 0 ? dps_load (p, i, t) : 0; }

FN vf vf_load_or (GLOBAL const float *p, i64 i, i64 n, float fill) { return n > 0 ? p[i] : fill; }
FN vf vf_keep (vf x, i64 n) { return n > 0 ? x : 0; }

FN void vf_store_n (GLOBAL void *p, i64 i, i32 t, vf x, i64 n)
{
    if (n > 0)
        dps_store (p, i, t, x);
}

FN vf vf_local (const LOCAL_PTR float *p) { return *p; }
FN void vf_put_local (LOCAL_PTR float *p, vf x) { *p = x; }
FN float vf_sum (vf x) { return x; }
FN float vf_top (vf x) { return x; }

#endif
#endif
