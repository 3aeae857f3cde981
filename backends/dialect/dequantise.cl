/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dequantise.cl: rows of a quantised weight (ops.h, "Quantised weights") as numbers. One kernel for each block type of GGUF; nibbles for NF4 and FP4,
 * codes for DYNAMIC8, rows for INT8.
 *
 * Launch: DPS_RUNS runs of RUN elements a group; a run is part of one row. Row i of y is row ids[i] of the weight, or first + i where ids_t is
 * absent; y = value·scale, the value rounded to bf16 first when `rounded`. An id out of range writes zeros.
 * Exact: every value has the bits of base/quant.h; products and sums are rounded one by one.
 */

enum { RUN = 32 };
#define DPS_RUNS (DPS_LANES == 1 ? 64 : DPS_LANES)

#define WEIGHT_PARTS                                                                                                                       \
    IN_OF (u8, codes), IN_OF (float, book), IN (absmax), IN_OF (i32, block), IN_OF (float, nested_absmax), IN_OF (float, nested_book),      \
        IN_OF (float, nested_offset), IN_OF (float, scales), IN (ids), i64 rows, i64 first, i64 n, i64 cols, float scale, i32 rounded,     \
        OUT (y)

/* Runs of this lane. Sees: row, its row of the weight `from`, the run's first column, how many columns it has; v is for its values. */
#define EACH_RUN(row, from, column, count, v)                                                                                              \
    float v[RUN];                                                                                                                          \
    for (i64 run_ = GROUP (0) * DPS_RUNS + LANE, runs_ = (cols + RUN - 1) / RUN, row, from, column, count;                                 \
         run_ < (GROUP (0) + 1) * DPS_RUNS && (row = run_ / runs_) < n;                                                                    \
         write_run (y, y_off, y_t, row * cols + column, count, scale, rounded, v), run_ += DPS_LANES)                                      \
        if (from = ids_t == DT_NONE ? first + row : ((GLOBAL const i32 *)ids)[ids_off + row], column = run_ % runs_ * RUN,                 \
            count = cols - column < RUN ? cols - column : RUN, from < 0 || from >= rows)                                                   \
            clear_run (v);                                                                                                                 \
        else

FN void clear_run (float *v)
{
    for (i32 i = 0; i < RUN; i++)
        v[i] = 0;
}

FN void write_run (OUT (y), i64 at, i64 n, float scale, i32 rounded, const float *v)
{
    for (i64 i = 0; i < n; i++)
        STORE (y, at + i, (rounded ? dps_rounded (v[i], DT_BF16) : v[i]) * scale);
}

FN float half_at (GLOBAL const u8 *p)
{
    const u32 h = (u32)p[0] | (u32)p[1] << 8, sign = (h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 1023u;
    if (e == 31)
        return AS_F32 (sign | 0x7f800000u | m << 13);
    if (e)
        return AS_F32 (sign | (e + 112) << 23 | m << 13);
    const float f = (float)m * 5.9604644775390625e-8f; /* 2⁻²⁴ */
    return sign ? -f : f;
}

FN u32 word_at (GLOBAL const u8 *p) { return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }

/* Run `part` of a block. The layouts are in base/blocks.c. */
FN void decode_q4_0 (GLOBAL const u8 *b, i32 part, float *y)
{
    const float d = half_at (b);
    for (i32 i = 0; i < 16; i++) {
        y[i] = (float)((b[2 + i] & 15) - 8) * d;
        y[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
    }
}

FN void decode_q4_1 (GLOBAL const u8 *b, i32 part, float *y)
{
    const float d = half_at (b), m = half_at (b + 2);
    for (i32 i = 0; i < 16; i++) {
        y[i] = (float)(b[4 + i] & 15) * d + m;
        y[i + 16] = (float)(b[4 + i] >> 4) * d + m;
    }
}

FN void decode_q5_0 (GLOBAL const u8 *b, i32 part, float *y)
{
    const float d = half_at (b);
    const u32 high = word_at (b + 2);
    for (i32 i = 0; i < 16; i++) {
        y[i] = (float)((i32)((b[6 + i] & 15) | (high >> i & 1u) << 4) - 16) * d;
        y[i + 16] = (float)((i32)((b[6 + i] >> 4) | (high >> (i + 16) & 1u) << 4) - 16) * d;
    }
}

FN void decode_q5_1 (GLOBAL const u8 *b, i32 part, float *y)
{
    const float d = half_at (b), m = half_at (b + 2);
    const u32 high = word_at (b + 4);
    for (i32 i = 0; i < 16; i++) {
        y[i] = (float)((b[8 + i] & 15) | (high >> i & 1u) << 4) * d + m;
        y[i + 16] = (float)((b[8 + i] >> 4) | (high >> (i + 16) & 1u) << 4) * d + m;
    }
}

FN void decode_q8_0 (GLOBAL const u8 *b, i32 part, float *y)
{
    const float d = half_at (b);
    for (i32 i = 0; i < 32; i++)
        y[i] = (float)(i8)b[2 + i] * d;
}

FN void decode_q2_k (GLOBAL const u8 *b, i32 part, float *y)
{
    const float d = half_at (b + 80), dmin = half_at (b + 82);
    for (i32 side = 0; side < 2; side++) {
        const u8 scale = b[2 * part + side];
        const float dl = d * (float)(scale & 15), ml = dmin * (float)(scale >> 4);
        for (i32 i = 0; i < 16; i++)
            y[16 * side + i] = dl * (float)(b[16 + part / 4 * 32 + 16 * side + i] >> part % 4 * 2 & 3) - ml;
    }
}

FN void decode_q3_k (GLOBAL const u8 *b, i32 part, float *y)
{
    GLOBAL const u8 *s = b + 96;
    const float d = half_at (b + 108);
    for (i32 side = 0; side < 2; side++) {
        const i32 k = 2 * part + side, low = k < 8 ? s[k] & 15 : s[k - 8] >> 4, up = s[8 + k % 4] >> 2 * (k / 4) & 3;
        const float dl = d * (float)((low | up << 4) - 32);
        for (i32 i = 0; i < 16; i++) {
            const i32 q = b[32 + part / 4 * 32 + 16 * side + i] >> part % 4 * 2 & 3;
            y[16 * side + i] = dl * (float)(q - (b[16 * side + i] >> part & 1 ? 0 : 4));
        }
    }
}

/* Scale and min number j of 8, 6 bits each in 12 bytes. */
FN void scale_min (GLOBAL const u8 *s, i32 j, float d, float dmin, float *out_d, float *out_m)
{
    const i32 scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
    const i32 min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
    *out_d = d * (float)scale;
    *out_m = dmin * (float)min;
}

FN void decode_q4_k (GLOBAL const u8 *b, i32 part, float *y)
{
    float d, m;
    scale_min (b + 4, part, half_at (b), half_at (b + 2), &d, &m);
    for (i32 i = 0; i < 32; i++)
        y[i] = d * (float)(b[16 + part / 2 * 32 + i] >> part % 2 * 4 & 15) - m;
}

FN void decode_q5_k (GLOBAL const u8 *b, i32 part, float *y)
{
    float d, m;
    scale_min (b + 4, part, half_at (b), half_at (b + 2), &d, &m);
    for (i32 i = 0; i < 32; i++)
        y[i] = d * (float)((b[48 + part / 2 * 32 + i] >> part % 2 * 4 & 15) + (b[16 + i] >> part & 1) * 16) - m;
}

FN void decode_q6_k (GLOBAL const u8 *b, i32 part, float *y)
{
    const i32 quarter = part % 4;
    GLOBAL const u8 *low = b + part / 4 * 64 + quarter % 2 * 32, *top = b + 128 + part / 4 * 32;
    const float d = half_at (b + 208);
    for (i32 side = 0; side < 2; side++) {
        const float dl = d * (float)(i8)b[192 + part / 4 * 8 + 2 * quarter + side];
        for (i32 i = 16 * side; i < 16 * side + 16; i++)
            y[i] = dl * (float)(((low[i] >> quarter / 2 * 4 & 15) | (top[i] >> 2 * quarter & 3) << 4) - 32);
    }
}

CONSTANT float iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

FN void decode_iq4_nl (GLOBAL const u8 *b, i32 part, float *y)
{
    const float d = half_at (b);
    for (i32 i = 0; i < 16; i++) {
        y[i] = d * iq4_levels[b[2 + i] & 15];
        y[i + 16] = d * iq4_levels[b[2 + i] >> 4];
    }
}

#define BLOCKS(type, elements, bytes)                                                                                                      \
    KERNEL (dps_dequantise_##type) (WEIGHT_PARTS)                                                                                          \
    {                                                                                                                                      \
        EACH_RUN (row, from, column, count, v)                                                                                             \
        {                                                                                                                                  \
            const i64 at = from * cols + column;                                                                                           \
            decode_##type (codes + codes_off + at / (elements) * (bytes), (i32)(at % (elements) / RUN), v);                                \
        }                                                                                                                                  \
    }
BLOCKS (q4_0, 32, 18)
BLOCKS (q4_1, 32, 20)
BLOCKS (q5_0, 32, 22)
BLOCKS (q5_1, 32, 24)
BLOCKS (q8_0, 32, 34)
BLOCKS (q2_k, 256, 84)
BLOCKS (q3_k, 256, 110)
BLOCKS (q4_k, 256, 144)
BLOCKS (q5_k, 256, 176)
BLOCKS (q6_k, 256, 210)
BLOCKS (iq4_nl, 32, 18)

/* Codes of `bits` bits: code_book[code]·absmax of the block; blocks cross rows. */
#define CODES(type, code_at)                                                                                                               \
    KERNEL (dps_dequantise_##type) (WEIGHT_PARTS)                                                                                          \
    {                                                                                                                                      \
        const i64 elements = AT (block, 0);                                                                                                \
        EACH_RUN (row, from, column, count, v)                                                                                             \
        {                                                                                                                                  \
            float largest = 0;                                                                                                             \
            const i64 at = from * cols + column;                                                                                           \
            i64 left = 0;                                                                                                                  \
            for (i64 i = 0; i < count; i++, left--) {                                                                                      \
                const i64 e = at + i;                                                                                                      \
                if (left <= 0) {                                                                                                           \
                    left = elements - e % elements;                                                                                        \
                    largest = absmax_t == DT_U8 ? AT (nested_book, ((GLOBAL const u8 *)absmax)[absmax_off + e / elements]) *               \
                                                          AT (nested_absmax, e / elements / 256) +                                         \
                                                      AT (nested_offset, 0)                                                                \
                                                : ((GLOBAL const float *)absmax)[absmax_off + e / elements];                               \
                }                                                                                                                          \
                v[i] = AT (book, code_at (e)) * largest;                                                                                   \
            }                                                                                                                              \
        }                                                                                                                                  \
    }
#define NIBBLE(e) (AT (codes, (e) / 2) >> ((e) % 2 ? 0 : 4) & 15)
#define BYTE(e)   AT (codes, e)
CODES (nibbles, NIBBLE)
CODES (bytes, BYTE)

KERNEL (dps_dequantise_rows) (WEIGHT_PARTS)
{
    EACH_RUN (row, from, column, count, v)
    {
        for (i64 i = 0; i < count; i++)
            v[i] = (float)(i8)AT (codes, from * cols + column + i) * AT (scales, from) * (1.0f / 127);
    }
}
