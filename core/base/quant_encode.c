/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quant_encode.c: numbers to bitsandbytes' codes. NF4: arXiv:2305.14314, appendix E. FP4: sign, two bits of exponent, one of mantissa, over 12.
 * dynamic8: arXiv:2110.02861, section 1.3: a decade a power of two, linear within it, both signs.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/quant.h"

static const float nf4[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};
static const float fp4[16] = {
    0.0f,  0.0625f / 12,  8.0f / 12,  12.0f / 12,  4.0f / 12,  6.0f / 12,  2.0f / 12,  3.0f / 12,
    -0.0f, -0.0625f / 12, -8.0f / 12, -12.0f / 12, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12,
};

/* Means of equal parts of [0.1, 1] times a power of ten: 1 part at 1e-6, 2 at 1e-5 … 64 at 1; their negatives; 0; 1. In order. */
static void dynamic8 (float out[256])
{
    double scale = 1e-6;
    int above = 128; /* out[127] is 0 */
    for (int decade = 0; decade < 7; decade++, scale *= 10)
        for (int parts = 1 << decade, k = 0; k < parts; k++, above++) {
            double mean = 0.1 + 0.9 * (k + 0.5) / parts;
            out[above] = (float)(scale * mean);
            out[254 - above] = -out[above];
        }
    out[127] = 0;
    out[255] = 1;
}

size_t dps_quant_code_book (DpsQuantType type, float out[256])
{
    if (type == DPS_QUANT_DYNAMIC8) {
        dynamic8 (out);
        return 256;
    }
    memcpy (out, type == DPS_QUANT_FP4 ? fp4 : nf4, sizeof nf4);
    return 16;
}

/* The code book in rising order, and where one level ends and the next begins. */
typedef struct Levels {
    size_t n; /* a power of two */
    float middle[256];
    unsigned char code[256];
} Levels;

static int rising (const void *a, const void *b)
{
    float x, y;
    memcpy (&x, a, sizeof x);
    memcpy (&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void open_levels (DpsQuantType type, Levels *l)
{
    struct {
        float level;
        unsigned char code;
    } sorted[256];
    float book[256];
    l->n = dps_quant_code_book (type, book);
    for (size_t i = 0; i < l->n; i++) {
        sorted[i].level = book[i];
        sorted[i].code = (unsigned char)i;
    }
    qsort (sorted, l->n, sizeof *sorted, rising);
    for (size_t i = 0; i < l->n; i++) {
        l->code[i] = sorted[i].code;
        l->middle[i] = i + 1 < l->n ? (sorted[i].level + sorted[i + 1].level) / 2 : 0;
    }
}

static unsigned char nearest (const Levels *l, float x)
{
    size_t at = 0;
    for (size_t step = l->n / 2; step > 0; step /= 2)
        at += x > l->middle[at + step - 1] ? step : 0;
    return l->code[at];
}

static float largest (const float *x, int64_t n, int *out_finite)
{
    float most = 0;
    int finite = 1;
    for (int64_t i = 0; i < n; i++) {
        float a = fabsf (x[i]);
        finite &= a <= 3.402823466e38f; /* false for NaN too */
        most = a > most ? a : most;
    }
    *out_finite = finite;
    return most;
}

static DpsStatus not_finite (DpsError *err) { return dps_fail (err, DPS_ERR_NONFINITE, "a weight that is not finite cannot be quantised"); }

DpsStatus dps_quant_encode (DpsQuantType type, int64_t block, const float *x, int64_t n, unsigned char *codes, float *absmax, DpsError *err)
{
    Levels l;
    open_levels (type, &l);
    for (int64_t first = 0; first < n; first += block, absmax++) {
        int64_t end = first + block < n ? first + block : n;
        int finite;
        *absmax = largest (x + first, end - first, &finite);
        if (!finite)
            return not_finite (err);
        float divisor = *absmax > 0 ? *absmax : 1;
        for (int64_t i = first; i < end; i++) {
            unsigned char code = nearest (&l, x[i] / divisor);
            if (l.n == 256)
                codes[i] = code;
            else if (i % 2)
                codes[i / 2] |= code;
            else
                codes[i / 2] = (unsigned char)(code << 4);
        }
    }
    return DPS_OK;
}

DpsStatus dps_quant_encode_absmax (float *absmax, int64_t n, unsigned char *codes, float *nested_absmax, float *out_offset, DpsError *err)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)absmax[i];
    *out_offset = n ? (float)(sum / (double)n) : 0;
    for (int64_t i = 0; i < n; i++)
        absmax[i] -= *out_offset;
    return dps_quant_encode (DPS_QUANT_DYNAMIC8, DPS_QUANT_NESTED, absmax, n, codes, nested_absmax, err);
}

DpsStatus dps_quant_encode_row (const float *x, int64_t n, int8_t *codes, float *out_scale, DpsError *err)
{
    int finite;
    *out_scale = largest (x, n, &finite);
    if (!finite)
        return not_finite (err);
    float divisor = *out_scale > 0 ? *out_scale : 1;
    for (int64_t i = 0; i < n; i++)
        codes[i] = (int8_t)lrintf (x[i] / divisor * 127);
    return DPS_OK;
}
