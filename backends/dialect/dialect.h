/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect.h: what the kernels of this folder are written in: OpenCL C 1.2 or CUDA C, by whatever compiles them. It is put before each FAMILY.cl.
 *
 *     KERNEL (dps_mul) (IN (a), IN (b), OUT (y), i64 n)
 *     {
 *         for (i64 i = FIRST; i < LAST (n); i += STEP)
 *             STORE (y, i, LOAD (a, i) * LOAD (b, i));
 *     }
 *
 * Operands of ops are (pointer, offset in elements, dtype): dtype is a DPS_DTYPE_* number, uniform over the launch, 0 for an absent operand whose
 * pointer must not be read. Arithmetic is f32; f32, bf16 and f16 are ways to store it. No contraction of products and sums: fma is written where
 * it is meant. No float atomics; a sum's order depends on the shape of its own row only.
 *
 * A group has DPS_LANES work-items (1 on a CPU, a power of two elsewhere): a row's work is cut over the lanes of one group (LANE), a flat array
 * over blocks of DPS_BLOCK elements (FIRST, LAST, STEP). Kernels that need another geometry say so at their head.
 *
 * FN is always inlined: PoCL 3.1 takes LOCAL memory out of kernels only. Where a function stays one (it has barriers and is called twice) LLVM has
 * put the memory's own name into it for the parameter, and it reads what nobody wrote.
 */
#ifndef DPS_DIALECT_H
#define DPS_DIALECT_H

#ifndef DPS_LANES
#define DPS_LANES 64
#endif

#ifdef __CUDACC__

typedef long long i64;
typedef unsigned long long u64;
typedef int i32;
typedef unsigned int u32;
typedef unsigned short u16;
typedef short i16;
typedef unsigned char u8;
typedef signed char i8;
#define KERNEL(name) extern "C" __global__ void name
#define FN           static __device__ __forceinline__
#define GLOBAL
#define LOCAL            __shared__ /* on declarations at the head of a kernel */
#define LOCAL_PTR                   /* on pointers to such memory */
#define CONSTANT         static __device__ const
#define BARRIER()        __syncthreads ()
#define GROUP(axis)      ((i64)((axis) == 0 ? blockIdx.x : (axis) == 1 ? blockIdx.y : blockIdx.z))
#define GROUPS(axis)     ((i64)((axis) == 0 ? gridDim.x : (axis) == 1 ? gridDim.y : gridDim.z))
#define LOCAL_ID(axis)   ((i32)((axis) == 0 ? threadIdx.x : (axis) == 1 ? threadIdx.y : threadIdx.z))
#define AS_F32(bits)     __uint_as_float (bits)
#define AS_U32(value)    __float_as_uint (value)
#define FMA(a, b, c)     __fmaf_rn (a, b, c)
#define EXP(x)           expf (x)
#define LOG(x)           logf (x)
#define TANH(x)          tanhf (x)
#define SQRT(x)          sqrtf (x)
#define FABS(x)          fabsf (x)
#define FMAX(a, b)       fmaxf (a, b)
#define FMIN(a, b)       fminf (a, b)
#define COS(x)           cosf (x)
#define SIN(x)           sinf (x)
#define FLOOR(x)         floorf (x)
#define F16_GET(p, i)    __half2float (((const __half *)(p))[i])
#define F16_PUT(p, i, v) (((__half *)(p))[i] = __float2half_rn (v))

#else

#pragma OPENCL FP_CONTRACT OFF
typedef long i64;
typedef ulong u64;
typedef int i32;
typedef uint u32;
typedef ushort u16;
typedef short i16;
typedef uchar u8;
typedef char i8;
#define KERNEL(name) __kernel void name
#define FN           static __attribute__ ((always_inline))
#define GLOBAL       __global
#if DPS_LANES == 1 /* nobody to share with, nobody to wait for */
#define LOCAL
#define LOCAL_PTR
#define BARRIER()
#else
#define LOCAL     __local
#define LOCAL_PTR __local
#define BARRIER() barrier (CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#endif
#define CONSTANT         __constant
#define GROUP(axis)      ((i64)get_group_id (axis))
#define GROUPS(axis)     ((i64)get_num_groups (axis))
#define LOCAL_ID(axis)   ((i32)get_local_id (axis))
#define AS_F32(bits)     as_float (bits)
#define AS_U32(value)    as_uint (value)
#define FMA(a, b, c)     fma (a, b, c)
#define EXP(x)           exp (x)
#define LOG(x)           log (x)
#define TANH(x)          tanh (x)
#define SQRT(x)          sqrt (x)
#define FABS(x)          fabs (x)
#define FMAX(a, b)       fmax (a, b)
#define FMIN(a, b)       fmin (a, b)
#define COS(x)           cos (x)
#define SIN(x)           sin (x)
#define FLOOR(x)         floor (x)
#define F16_GET(p, i)    vload_half (i, (GLOBAL const half *)(p))
#define F16_PUT(p, i, v) vstore_half_rte (v, i, (GLOBAL half *)(p))

#endif

/* DPS_DTYPE_* of the ABI. */
#define DT_NONE 0
#define DT_F32  1
#define DT_BF16 2
#define DT_F16  3
#define DT_I32  5
#define DT_I64  6
#define DT_U8   7

/* Parameters of a kernel: an operand that is read, one that is written (or both), and plain arrays of one type. */
#define IN(x)           GLOBAL const void *x, i64 x##_off, i32 x##_t
#define OUT(x)          GLOBAL void *x, i64 x##_off, i32 x##_t
#define IN_OF(type, x)  GLOBAL const type *x, i64 x##_off
#define OUT_OF(type, x) GLOBAL type *x, i64 x##_off

/* Element i of an operand. An f32 by any storage; AT for arrays of one type. */
#define LOAD(x, i)     dps_load (x, x##_off + (i), x##_t)
#define STORE(x, i, v) dps_store (x, x##_off + (i), x##_t, v)
#define AT(x, i)       ((x)[x##_off + (i)])

/* Eight elements at once: loops over v[0..8) are what compilers make vectors of. */
#define LOAD8(x, i, v)  dps_load8 (x, x##_off + (i), x##_t, v)
#define STORE8(x, i, v) dps_store8 (x, x##_off + (i), x##_t, v)
#define EACH8(k)        for (i32 k = 0; k < 8; k++)

#define LANE      LOCAL_ID (0)
#define DPS_BLOCK (DPS_LANES == 1 ? 4096 : DPS_LANES * 32)
/* Work of this lane in a flat array of n: single elements, or eights with what is left over in LEFT. */
#define FIRST   (GROUP (0) * DPS_BLOCK + LANE)
#define LAST(n) ((GROUP (0) + 1) * DPS_BLOCK < (n) ? (GROUP (0) + 1) * DPS_BLOCK : (n))
#define STEP    DPS_LANES

FN float dps_from_bf16 (u16 h) { return AS_F32 ((u32)h << 16); }

/* Round to nearest even; NaN stays NaN. */
FN u16 dps_to_bf16 (float v)
{
    u32 bits = AS_U32 (v);
    return (u16)((bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* v as it would come back from storage of this dtype. */
FN float dps_rounded (float v, i32 dtype) { return dtype == DT_BF16 ? dps_from_bf16 (dps_to_bf16 (v)) : v; }

FN float dps_load (GLOBAL const void *p, i64 i, i32 dtype)
{
    if (dtype == DT_F32)
        return ((GLOBAL const float *)p)[i];
    return dtype == DT_BF16 ? dps_from_bf16 (((GLOBAL const u16 *)p)[i]) : F16_GET (p, i);
}

FN void dps_store (GLOBAL void *p, i64 i, i32 dtype, float v)
{
    if (dtype == DT_F32)
        ((GLOBAL float *)p)[i] = v;
    else if (dtype == DT_BF16)
        ((GLOBAL u16 *)p)[i] = dps_to_bf16 (v);
    else
        F16_PUT (p, i, v);
}

FN void dps_load8 (GLOBAL const void *p, i64 i, i32 dtype, float *v)
{
    if (dtype == DT_F32)
        EACH8 (k)
    v[k] = ((GLOBAL const float *)p)[i + k];
    else if (dtype == DT_BF16) EACH8 (k) v[k] = dps_from_bf16 (((GLOBAL const u16 *)p)[i + k]);
    else EACH8 (k) v[k] = F16_GET (p, i + k);
}

FN void dps_store8 (GLOBAL void *p, i64 i, i32 dtype, const float *v)
{
    if (dtype == DT_F32)
        EACH8 (k)
    ((GLOBAL float *)p)[i + k] = v[k];
    else if (dtype == DT_BF16) EACH8 (k) ((GLOBAL u16 *)p)[i + k] = dps_to_bf16 (v[k]);
    else EACH8 (k) F16_PUT (p, i + k, v[k]);
}

/* (s0+s4)+(s2+s6) + … : the one order in which eight sums become one. */
FN float dps_sum8 (const float *s) { return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])); }

/* The sum (largest) of every lane's v, for all lanes, in an order that depends on DPS_LANES only. tmp: DPS_LANES floats. All lanes must call it. */
FN float dps_lanes_sum (float v, LOCAL_PTR float *tmp)
{
#if DPS_LANES > 1
    BARRIER ();
    tmp[LANE] = v;
    BARRIER ();
    for (i32 n = DPS_LANES / 2; n > 0; n /= 2) {
        if (LANE < n)
            tmp[LANE] += tmp[LANE + n];
        BARRIER ();
    }
    v = tmp[0];
#endif
    return v;
}

FN float dps_lanes_max (float v, LOCAL_PTR float *tmp)
{
#if DPS_LANES > 1
    BARRIER ();
    tmp[LANE] = v;
    BARRIER ();
    for (i32 n = DPS_LANES / 2; n > 0; n /= 2) {
        if (LANE < n)
            tmp[LANE] = FMAX (tmp[LANE], tmp[LANE + n]);
        BARRIER ();
    }
    v = tmp[0];
#endif
    return v;
}

#endif
