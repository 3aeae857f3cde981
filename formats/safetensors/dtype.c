/* SPDX-License-Identifier: Apache-2.0 */
/* dtype.c: the dtypes of safetensors, and their numbers as f32. */
#include <string.h>

#include "file.h"

enum { F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL, F8_E4M3, F8_E5M2, N_DTYPES };

static const Dtype dtypes[N_DTYPES] = {
    [F64] = {"F64", 8}, [F32] = {"F32", 4}, [F16] = {"F16", 2},   [BF16] = {"BF16", 2},       [I64] = {"I64", 8},
    [I32] = {"I32", 4}, [I16] = {"I16", 2}, [I8] = {"I8", 1},     [U64] = {"U64", 8},         [U32] = {"U32", 4},
    [U16] = {"U16", 2}, [U8] = {"U8", 1},   [BOOL] = {"BOOL", 1}, [F8_E4M3] = {"F8_E4M3", 1}, [F8_E5M2] = {"F8_E5M2", 1},
};

const Dtype *dtype_at (size_t i) { return i < N_DTYPES ? &dtypes[i] : NULL; }

int dtype_find (const char *name, size_t len)
{
    for (int i = 0; i < N_DTYPES; i++)
        if (strlen (dtypes[i].name) == len && !memcmp (dtypes[i].name, name, len))
            return i;
    return -1;
}

static float from_bits (uint32_t u)
{
    float f;
    memcpy (&f, &u, 4);
    return f;
}

/* IEEE binary16, subnormals included. */
static float from_f16 (uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
    if (e == 31)
        return from_bits (sign | 0x7f800000 | m << 13);
    if (e)
        return from_bits (sign | (e + 112) << 23 | m << 13);
    float f = (float)m * 0x1p-24f;
    return sign ? -f : f;
}

#define EACH(type, expression)                                                                                                             \
    for (uint64_t i = 0; i < n; i++) {                                                                                                     \
        type v;                                                                                                                            \
        memcpy (&v, src + i * sizeof v, sizeof v);                                                                                         \
        dst[i] = (expression);                                                                                                             \
    }                                                                                                                                      \
    return 1

int dtype_to_f32 (int dtype, const unsigned char *src, uint64_t n, float *dst)
{
    switch (dtype) {
    case F32: memcpy (dst, src, n * 4); return 1;
    case F64: EACH (double, (float)v);
    case F16: EACH (uint16_t, from_f16 (v));
    case BF16: EACH (uint16_t, from_bits ((uint32_t)v << 16));
    case I64: EACH (int64_t, (float)v);
    case I32: EACH (int32_t, (float)v);
    case I16: EACH (int16_t, (float)v);
    case I8: EACH (int8_t, (float)v);
    case U64: EACH (uint64_t, (float)v);
    case U32: EACH (uint32_t, (float)v);
    case U16: EACH (uint16_t, (float)v);
    case U8: EACH (uint8_t, (float)v);
    case BOOL: EACH (uint8_t, (float)(v != 0));
    default: return 0;
    }
}
