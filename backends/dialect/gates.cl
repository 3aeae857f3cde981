/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gates.cl: geglu (GELU in its tanh form), swiglu, their adjoints; softcap; dropout. Launch: geglu … softcap over blocks of a flat array, dropout a
 * group for every row.
 * Exact: which elements dropout keeps (base/rng.h: Philox4x32-10, its 53 bits compared as integers).
 */
#include "vector.h"

/* Eights of this lane in a flat array of n; `left` of them exist. */
#define EACH_VECTOR(i, left, n)                                                                                                            \
    for (i64 i = GROUP (0) * DPS_BLOCK + LANE * WIDTH, left = LAST (n) - i; left > 0; i += DPS_LANES * WIDTH, left -= DPS_LANES * WIDTH)

/*
 * ½·x·(1 + tanh u), u = √(2/π)·(x + 0.044715·x³), and its derivative; as x·σ(2u), since 1 + tanh u keeps no digit where x < −4, and a norm behind
 * the gate can make those small numbers large again.
 */
FN vf gelu (vf x, vf *slope)
{
    const float a = 2 * 0.7978845608f, b = 0.044715f;
    const vf s = 1.0f / (1.0f + EXP (-a * (x + b * x * x * x)));
    *slope = s + x * s * (1.0f - s) * a * (1.0f + 3 * b * x * x);
    return x * s;
}

FN vf silu (vf x, vf *slope)
{
    const vf s = 1.0f / (1.0f + EXP (-x));
    *slope = s * (1.0f + x * (1.0f - s));
    return x * s;
}

#define GATE(op, act)                                                                                                                      \
    KERNEL (dps_##op) (IN (gate), IN (up), OUT (y), i64 n)                                                                                 \
    {                                                                                                                                      \
        EACH_VECTOR (i, left, n)                                                                                                           \
        {                                                                                                                                  \
            vf slope;                                                                                                                      \
            const vf a = act (vf_load_n (gate, gate_off + i, gate_t, left), &slope);                                                       \
            vf_store_n (y, y_off + i, y_t, a * vf_load_n (up, up_off + i, up_t, left), left);                                              \
        }                                                                                                                                  \
    }                                                                                                                                      \
    KERNEL (dps_##op##_bwd) (IN (gate), IN (up), IN (dy), OUT (dgate), OUT (dup), i64 n)                                                   \
    {                                                                                                                                      \
        EACH_VECTOR (i, left, n)                                                                                                           \
        {                                                                                                                                  \
            vf slope;                                                                                                                      \
            const vf a = act (vf_load_n (gate, gate_off + i, gate_t, left), &slope);                                                       \
            const vf g = vf_load_n (dy, dy_off + i, dy_t, left);                                                                           \
            vf_store_n (dgate, dgate_off + i, dgate_t, g * vf_load_n (up, up_off + i, up_t, left) * slope, left);                          \
            vf_store_n (dup, dup_off + i, dup_t, g * a, left);                                                                             \
        }                                                                                                                                  \
    }
GATE (geglu, gelu)
GATE (swiglu, silu)

KERNEL (dps_softcap) (IN (x), OUT (y), float cap, i64 n)
{
    EACH_VECTOR (i, left, n)
    {
        vf_store_n (y, y_off + i, y_t, TANH (vf_load_n (x, x_off + i, x_t, left) / cap) * cap, left);
    }
}

/* The first 64 bits of Philox4x32-10 for counter (stream, index). */
FN u64 philox (u64 seed, u64 stream, u64 index)
{
    u32 c0 = (u32)index, c1 = (u32)(index >> 32), c2 = (u32)stream, c3 = (u32)(stream >> 32);
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
    for (i32 round = 0; round < 10; round++) {
        const u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (u32)p1;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (u64)c1 << 32 | c0;
}

/* below: p·2⁵³, rounded up. keep: 1 − p. */
KERNEL (dps_dropout) (IN (x), IN_OF (i64, keys), OUT (y), i64 width, i64 seed, i64 site, i64 below, float keep)
{
    const i64 row = GROUP (0);
    const u64 key = (u64)AT (keys, row) << 20;
    for (i64 d = LANE; d < width; d += DPS_LANES) {
        const i32 kept = philox ((u64)seed, (u64)site, key + (u64)d) >> 11 >= (u64)below;
        STORE (y, row * width + d, kept ? LOAD (x, row * width + d) / keep : 0);
    }
}
