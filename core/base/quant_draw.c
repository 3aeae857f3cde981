/* SPDX-License-Identifier: Apache-2.0 */
#include "base/quant_draw.h"

#include <string.h>

#include "base/rng.h"

enum { CODES, SCALES, NESTED }; /* streams */

/* Where f16 scales stand in a block; -1: nowhere. */
static const int scale_at[DPS_QUANT_TYPES][2] = {
    [DPS_QUANT_Q4_0] = {0, -1}, [DPS_QUANT_Q4_1] = {0, 2},    [DPS_QUANT_Q5_0] = {0, -1},   [DPS_QUANT_Q5_1] = {0, 2},
    [DPS_QUANT_Q8_0] = {0, -1}, [DPS_QUANT_Q2_K] = {80, 82},  [DPS_QUANT_Q3_K] = {108, -1}, [DPS_QUANT_Q4_K] = {0, 2},
    [DPS_QUANT_Q5_K] = {0, 2},  [DPS_QUANT_Q6_K] = {208, -1}, [DPS_QUANT_IQ4_NL] = {0, -1},
};

static void draw_bytes (uint64_t seed, uint64_t stream, unsigned char *to, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += 16) {
        uint32_t words[4];
        dps_philox (seed, stream, i / 16, words);
        memcpy (to + i, words, n - i < sizeof words ? n - i : sizeof words);
    }
}

/* Of either sign, sometimes 0 or subnormal. */
static uint16_t draw_half (uint64_t seed, uint64_t i, int exponent)
{
    uint64_t draw = dps_rng_below (seed, SCALES, i, 1 << 16);
    if (draw % 13 == 0 || draw % 11 == 0)
        return draw % 13 == 0 ? 0 : 7;
    return (uint16_t)((draw & 0x8000) | (uint64_t)(exponent + (int)(draw % 4)) << 10 | (draw >> 5 & 1023));
}

/* From `least` to four times as much; a block of zeros now and then. */
static void draw_floats (uint64_t seed, uint64_t stream, float least, float *to, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes / sizeof *to; i++)
        to[i] = i % 7 == 3 ? 0 : least * (float)(1 + 3 * dps_rng_uniform (seed, stream, i));
}

static void draw_absmax (const DpsQuantForm *form, const uint64_t bytes[DPS_QPARTS], uint64_t seed, float least,
                         void *const parts[DPS_QPARTS])
{
    float book[256];
    dps_quant_code_book (form->type, book);
    memcpy (parts[DPS_QPART_CODE_BOOK], book, bytes[DPS_QPART_CODE_BOOK]);
    memcpy (parts[DPS_QPART_BLOCK], &form->block, sizeof form->block);
    if (!form->nested) {
        draw_floats (seed, SCALES, least, parts[DPS_QPART_ABSMAX], bytes[DPS_QPART_ABSMAX]);
        return;
    }
    draw_bytes (seed, SCALES, parts[DPS_QPART_ABSMAX], bytes[DPS_QPART_ABSMAX]);
    dps_quant_code_book (DPS_QUANT_DYNAMIC8, parts[DPS_QPART_NESTED_CODE_BOOK]);
    draw_floats (seed, NESTED, least, parts[DPS_QPART_NESTED_ABSMAX], bytes[DPS_QPART_NESTED_ABSMAX]);
    memcpy (parts[DPS_QPART_NESTED_OFFSET], &least, sizeof least);
}

DpsStatus dps_quant_draw (const DpsQuantForm *form, int64_t rows, int64_t cols, uint64_t seed, int exponent, void *codes,
                          void *const parts[DPS_QPARTS], DpsError *err)
{
    uint64_t n, bytes[DPS_QPARTS];
    unsigned char *at = codes;
    const DpsBlockType *blocks = dps_block_type_named (dps_str (dps_quant_name (form->type)));
    const uint32_t bits = (uint32_t)(exponent + 112) << 23;
    float least;
    memcpy (&least, &bits, sizeof least);
    DPS_TRY (dps_quant_bytes (form, rows, cols, &n, bytes, err));
    draw_bytes (seed, CODES, at, n);
    if (form->type == DPS_QUANT_INT8) {
        for (uint64_t i = 0; i < n; i++)
            at[i] = at[i] == 0x80 ? 0x7f : at[i]; /* no encoder makes -128 */
        draw_floats (seed, SCALES, least, parts[DPS_QPART_SCALES], bytes[DPS_QPART_SCALES]);
    } else if (!blocks)
        draw_absmax (form, bytes, seed, least, parts);
    for (uint64_t b = 0; blocks && b < n / blocks->bytes; b++)
        for (int k = 0; k < 2; k++)
            if (scale_at[form->type][k] >= 0) {
                const uint16_t half = draw_half (seed, 2 * b + (uint64_t)k, exponent);
                memcpy (at + b * blocks->bytes + scale_at[form->type][k], &half, sizeof half);
            }
    return DPS_OK;
}
