/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.c: the block types as arithmetic. Each decoder states its block in bytes; f16 and integers little-endian. Scales multiply first, in
 * f32, as the reference quantiser's own dequantisation does. Source: the format as ggml defines it (ggml-common.h), checked by parity/quant.
 */
#include "base/blocks.h"

#include <string.h>

static float bits (uint32_t u)
{
    float f;
    memcpy (&f, &u, 4);
    return f;
}

static float half (const unsigned char *p)
{
    uint32_t h = (uint32_t)p[0] | (uint32_t)p[1] << 8, u;
    float f = bits ((h & 0x7fff) << 13) * 0x1p112f; /* exact, subnormal numbers too; infinity and NaN want their exponent back */
    memcpy (&u, &f, 4);
    return bits (u | (h & 0x8000) << 16 | ((h & 0x7c00) == 0x7c00 ? 0x7f800000 : 0));
}

/* 16 bytes: low nibbles are values 0–15, high ones 16–31. */
static void nibbles (const unsigned char *restrict b, unsigned char *restrict q)
{
    for (int i = 0; i < 16; i++)
        q[i] = b[i] & 15;
    for (int i = 0; i < 16; i++)
        q[i + 16] = b[i] >> 4;
}

/* To 32 nibbles a fifth bit each: bit i of a byte stays in byte i of eight copies, and carries into its top bit. */
static void fifth_bits (const unsigned char *restrict from, unsigned char *restrict q)
{
    for (int k = 0; k < 4; k++) {
        uint64_t eight, one_each = (from[k] * 0x0101010101010101u) & 0x8040201008040201u;
        memcpy (&eight, q + 8 * k, sizeof eight);
        eight |= ((one_each + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u) >> 3;
        memcpy (q + 8 * k, &eight, sizeof eight);
    }
}

/* (q - zero)·d */
static void centred (const unsigned char *restrict q, int zero, float d, float *restrict y)
{
    for (int i = 0; i < 32; i++)
        y[i] = (float)(q[i] - zero) * d;
}

/* q·d + m */
static void raised (const unsigned char *restrict q, float d, float m, float *restrict y)
{
    for (int i = 0; i < 32; i++)
        y[i] = (float)q[i] * d + m;
}

/* f16 d | 16 bytes of nibbles */
static void decode_q4_0 (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (unsigned char q[32]; n--; b += 18, y += 32) {
        nibbles (b + 2, q);
        centred (q, 8, half (b), y);
    }
}

/* f16 d | f16 m | 16 bytes of nibbles */
static void decode_q4_1 (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (unsigned char q[32]; n--; b += 20, y += 32) {
        nibbles (b + 4, q);
        raised (q, half (b), half (b + 2), y);
    }
}

/* f16 d | 32 fifth bits | 16 bytes of nibbles */
static void decode_q5_0 (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (unsigned char q[32]; n--; b += 22, y += 32) {
        nibbles (b + 6, q);
        fifth_bits (b + 2, q);
        centred (q, 16, half (b), y);
    }
}

/* f16 d | f16 m | 32 fifth bits | 16 bytes of nibbles */
static void decode_q5_1 (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (unsigned char q[32]; n--; b += 24, y += 32) {
        nibbles (b + 8, q);
        fifth_bits (b + 4, q);
        raised (q, half (b), half (b + 2), y);
    }
}

/* f16 d | 32 signed bytes */
static void decode_q8_0 (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (; n--; b += 34, y += 32) {
        float d = half (b);
        for (int i = 0; i < 32; i++)
            y[i] = (float)(signed char)b[2 + i] * d;
    }
}

/* 16 × (4-bit scale | 4-bit min) | 64 bytes of 2-bit q | f16 d | f16 dmin */
static void decode_q2_k (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (; n--; b += 84) {
        const unsigned char *scale = b, *q = b + 16;
        float d = half (b + 80), dmin = half (b + 82);
        for (int part = 0; part < 2; part++, q += 32)
            for (int shift = 0; shift < 8; shift += 2)
                for (int side = 0; side < 32; side += 16, scale++, y += 16) {
                    float dl = d * (float)(*scale & 15), ml = dmin * (float)(*scale >> 4);
                    for (int i = 0; i < 16; i++)
                        y[i] = dl * (float)(q[side + i] >> shift & 3) - ml;
                }
    }
}

/* 32 bytes of third bits | 64 bytes of 2-bit q | 16 6-bit scales in 12 bytes | f16 d; a third bit that is 0 subtracts 4 */
static void decode_q3_k (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (; n--; b += 110) {
        const unsigned char *high = b, *q = b + 32, *s = b + 96;
        float d = half (b + 108);
        for (int k = 0; k < 16; k++, y += 16) {
            int low = k < 8 ? s[k] & 15 : s[k - 8] >> 4, up = s[8 + k % 4] >> (2 * (k / 4)) & 3;
            float dl = d * (float)((low | up << 4) - 32);
            int part = k / 8, shift = k % 8 / 2 * 2, side = k % 2 * 16, bit = part * 4 + k % 8 / 2;
            for (int i = 0; i < 16; i++) {
                int v = (q[32 * part + side + i] >> shift & 3) - (high[side + i] >> bit & 1 ? 0 : 4);
                y[i] = dl * (float)v;
            }
        }
    }
}

/* Scale and min number j of 8, 6 bits each in 12 bytes. */
static void scale_min (const unsigned char *s, int j, float d, float dmin, float *out_d, float *out_m)
{
    int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4, min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
    *out_d = d * (float)scale;
    *out_m = dmin * (float)min;
}

/* f16 d | f16 dmin | 12 bytes of scales and mins | 128 bytes of 4-bit q: 4 × (32 low nibbles, 32 high ones) */
static void decode_q4_k (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (; n--; b += 144) {
        const unsigned char *q = b + 16;
        float d = half (b), dmin = half (b + 2), d0, m0, d1, m1;
        for (int j = 0; j < 8; j += 2, q += 32, y += 64) {
            scale_min (b + 4, j, d, dmin, &d0, &m0);
            scale_min (b + 4, j + 1, d, dmin, &d1, &m1);
            for (int i = 0; i < 32; i++)
                y[i] = d0 * (float)(q[i] & 15) - m0;
            for (int i = 0; i < 32; i++)
                y[i + 32] = d1 * (float)(q[i] >> 4) - m1;
        }
    }
}

/* f16 d | f16 dmin | 12 bytes of scales and mins | 32 bytes of fifth bits | 128 bytes of 4-bit q */
static void decode_q5_k (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (; n--; b += 176) {
        const unsigned char *high = b + 16, *q = b + 48;
        float d = half (b), dmin = half (b + 2), d0, m0, d1, m1;
        for (int j = 0; j < 8; j += 2, q += 32, y += 64) {
            scale_min (b + 4, j, d, dmin, &d0, &m0);
            scale_min (b + 4, j + 1, d, dmin, &d1, &m1);
            for (int i = 0; i < 32; i++) {
                y[i] = d0 * (float)((q[i] & 15) + (high[i] >> j & 1) * 16) - m0;
                y[i + 32] = d1 * (float)((q[i] >> 4) + (high[i] >> (j + 1) & 1) * 16) - m1;
            }
        }
    }
}

/* 128 bytes of low nibbles | 64 bytes of 2-bit tops | 16 signed scales | f16 d; (q - 32)·scale·d */
static void decode_q6_k (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (; n--; b += 210) {
        float d = half (b + 208);
        for (int part = 0; part < 2; part++, y += 128) {
            const unsigned char *low = b + 64 * part, *top = b + 128 + 32 * part;
            const signed char *scale = (const signed char *)b + 192 + 8 * part;
            for (int k = 0; k < 8; k++) {
                float dl = d * (float)scale[k];
                int quarter = k / 2, at = k % 2 * 16;
                const unsigned char *l = low + quarter % 2 * 32 + at;
                for (int i = 0; i < 16; i++) {
                    int q = (quarter < 2 ? l[i] & 15 : l[i] >> 4) | (top[at + i] >> (2 * quarter) & 3) << 4;
                    y[32 * quarter + at + i] = dl * (float)(q - 32);
                }
            }
        }
    }
}

/* f16 d | 16 bytes: nibbles index a fixed non-linear table */
static void decode_iq4_nl (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    static const float level[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    for (; n--; b += 18, y += 32) {
        float d = half (b);
        for (int i = 0; i < 16; i++) {
            y[i] = d * level[b[2 + i] & 15];
            y[i + 16] = d * level[b[2 + i] >> 4];
        }
    }
}

static void decode_f32 (const unsigned char *restrict b, uint64_t n, float *restrict y) { memcpy (y, b, n * 4); }

static void decode_f16 (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (uint64_t i = 0; i < n; i++)
        y[i] = half (b + 2 * i);
}

static void decode_bf16 (const unsigned char *restrict b, uint64_t n, float *restrict y)
{
    for (uint64_t i = 0; i < n; i++)
        y[i] = bits (((uint32_t)b[2 * i] | (uint32_t)b[2 * i + 1] << 8) << 16);
}

#define PLAIN(name, type)                                                                                                                  \
    static void decode_##name (const unsigned char *restrict b, uint64_t n, float *restrict y)                                             \
    {                                                                                                                                      \
        for (uint64_t i = 0; i < n; i++) {                                                                                                 \
            type v;                                                                                                                        \
            memcpy (&v, b + i * sizeof v, sizeof v);                                                                                       \
            y[i] = (float)v;                                                                                                               \
        }                                                                                                                                  \
    }
PLAIN (i8, int8_t)
PLAIN (i16, int16_t)
PLAIN (i32, int32_t)
PLAIN (i64, int64_t)
PLAIN (f64, double)

static const DpsBlockType types[] = {
    {"F32", 0, 1, 4, decode_f32},          {"F16", 1, 1, 2, decode_f16},        {"Q4_0", 2, 32, 18, decode_q4_0},
    {"Q4_1", 3, 32, 20, decode_q4_1},      {"Q5_0", 6, 32, 22, decode_q5_0},    {"Q5_1", 7, 32, 24, decode_q5_1},
    {"Q8_0", 8, 32, 34, decode_q8_0},      {"Q2_K", 10, 256, 84, decode_q2_k},  {"Q3_K", 11, 256, 110, decode_q3_k},
    {"Q4_K", 12, 256, 144, decode_q4_k},   {"Q5_K", 13, 256, 176, decode_q5_k}, {"Q6_K", 14, 256, 210, decode_q6_k},
    {"IQ4_NL", 20, 32, 18, decode_iq4_nl}, {"I8", 24, 1, 1, decode_i8},         {"I16", 25, 1, 2, decode_i16},
    {"I32", 26, 1, 4, decode_i32},         {"I64", 27, 1, 8, decode_i64},       {"F64", 28, 1, 8, decode_f64},
    {"BF16", 30, 1, 2, decode_bf16},
};

const DpsBlockType *dps_block_type (uint32_t gguf)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].gguf == gguf)
            return &types[i];
    return NULL;
}

const DpsBlockType *dps_block_type_named (DpsStr name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (dps_str_is (name, types[i].name))
            return &types[i];
    return NULL;
}

/* Whole blocks go straight to out; a block cut by the range's ends goes through a small buffer. */
void dps_block_decode (const DpsBlockType *type, const unsigned char *blocks, uint64_t first, uint64_t n, float *out)
{
    const uint64_t per = type->elements;
    while (n) {
        const unsigned char *at = blocks + first / per * type->bytes;
        uint64_t skip = first % per, done;
        if (skip == 0 && n >= per) {
            done = n / per * per;
            type->decode (at, n / per, out);
        } else {
            float one[DPS_BLOCK_MAX];
            type->decode (at, 1, one);
            done = per - skip < n ? per - skip : n;
            memcpy (out, one + skip, done * sizeof *out);
        }
        first += done;
        out += done;
        n -= done;
    }
}
