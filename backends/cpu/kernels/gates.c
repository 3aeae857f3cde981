/* SPDX-License-Identifier: Apache-2.0 */
/* gates.c: geglu (GELU in its tanh form) and swiglu, forward and backward. */
#include "ops.h"

/*
 * ½·x·(1 + tanh u), u = √(2/π)·(x + 0.044715·x³), and its derivative; as x·σ(2u), since 1 + tanh u keeps no digit where x < -4, and a norm
 * behind the gate can make those small numbers large again.
 */
INLINE vf gelu (vf x, vf *slope)
{
    const vf a = splat (2 * 0.7978845608f), b = splat (0.044715f), one = splat (1);
    vf s = one / (one + vexp (-a * (x + b * x * x * x)));
    *slope = s + x * s * (one - s) * a * (one + splat (3) * b * x * x);
    return x * s;
}

INLINE vf silu (vf x, vf *slope)
{
    vf s = splat (1) / (splat (1) + vexp (-x));
    *slope = s * (splat (1) + x * (splat (1) - s));
    return x * s;
}

#define GATE(op, f)                                                                                                                        \
    DpsStatus ISA_NAME (cpu_##op) (CpuCall * c)                                                                                            \
    {                                                                                                                                      \
        const DpsView *gate = cpu_in (c, 0), *up = cpu_in (c, 1), *y = cpu_out (c, 0);                                                     \
        int gb = IS_BF (gate), ub = IS_BF (up), yb = IS_BF (y);                                                                            \
        EACH_VECTOR (cpu_count (y), 16, {                                                                                                  \
            vf slope, a = f (load_n (gate->host, i, gb, n), &slope);                                                                       \
            store_n (y->host, i, yb, a *load_n (up->host, i, ub, n), n);                                                                   \
        });                                                                                                                                \
        return DPS_OK;                                                                                                                     \
    }                                                                                                                                      \
    DpsStatus ISA_NAME (cpu_##op##_bwd) (CpuCall * c)                                                                                      \
    {                                                                                                                                      \
        const DpsView *gate = cpu_in (c, 0), *up = cpu_in (c, 1), *dy = cpu_in (c, 2), *dgate = cpu_out (c, 0), *dup = cpu_out (c, 1);     \
        int gb = IS_BF (gate), ub = IS_BF (up), yb = IS_BF (dy), dgb = IS_BF (dgate), dub = IS_BF (dup);                                   \
        EACH_VECTOR (cpu_count (gate), 16, {                                                                                               \
            vf slope, a = f (load_n (gate->host, i, gb, n), &slope), g = load_n (dy->host, i, yb, n);                                      \
            store_n (dgate->host, i, dgb, g *load_n (up->host, i, ub, n) * slope, n);                                                      \
            store_n (dup->host, i, dub, g *a, n);                                                                                          \
        });                                                                                                                                \
        return DPS_OK;                                                                                                                     \
    }
GATE (geglu, gelu)
GATE (swiglu, silu)
