/* SPDX-License-Identifier: Apache-2.0 */
/* view.c: views as rows of f64: dtypes, strides, rounding; scratch; the checks of index tables that every op needs. */
#include "ref.h"

#include <math.h>
#include <string.h>

int64_t dps__ref_cols (const DpsView *v) { return v->rank ? v->shape[v->rank - 1] : 1; }

int64_t dps__ref_rows (const DpsView *v)
{
    int64_t n = 1;
    for (uint32_t i = 0; i + 1 < v->rank; i++)
        n *= v->shape[i];
    return n;
}

/* Element number of the first element of a row. */
static int64_t row_start (const DpsView *v, int64_t row)
{
    if (!v->stride || v->rank < 2)
        return row * dps__ref_cols (v);
    int64_t at = 0;
    for (uint32_t axis = v->rank - 1; axis-- > 0; row /= v->shape[axis])
        at += row % v->shape[axis] * v->stride[axis];
    return at;
}

static int64_t col_step (const DpsView *v) { return v->stride && v->rank ? v->stride[v->rank - 1] : 1; }

static double f32_from_bits (uint32_t bits)
{
    float f;
    memcpy (&f, &bits, sizeof f);
    return (double)f;
}

static double bf16_get (uint16_t x) { return f32_from_bits ((uint32_t)x << 16); }

static uint16_t bf16_put (double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy (&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u); /* NaN stays NaN */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static double f16_get (uint16_t x)
{
    int exponent = x >> 10 & 31;
    double m = (double)(x & 1023), sign = x & 0x8000 ? -1.0 : 1.0;
    if (exponent == 31)
        return m != 0 ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp (1024 + m, exponent - 25) : ldexp (m, -24));
}

static uint16_t f16_put (double value)
{
    uint16_t sign = signbit (value) ? 0x8000 : 0;
    double a = fabs (value);
    if (isnan (a))
        return (uint16_t)(sign | 0x7e00);
    if (a >= 65520)
        return (uint16_t)(sign | 0x7c00);
    int exponent = a > 0 ? ilogb (a) : -14;
    exponent = exponent < -14 ? -14 : exponent;
    double units = nearbyint (ldexp (a, 10 - exponent)); /* of the last place; a carry into the exponent adds up by itself */
    return (uint16_t)(sign | ((int)units + (exponent + 14) * 1024));
}

#define LOAD(type, expr)                                                                                                                   \
    {                                                                                                                                      \
        const type *s = (const type *)p + first;                                                                                           \
        for (int64_t i = 0; i < n; i++)                                                                                                    \
            dst[i] = (expr);                                                                                                               \
        return;                                                                                                                            \
    }
static void load (const DpsView *v, int64_t first, int64_t step, int64_t n, double *dst)
{
    const void *p = dps__ref_data (v);
    switch (v->dtype) {
    case DPS_DTYPE_F32: LOAD (float, (double)s[i * step])
    case DPS_DTYPE_F64: LOAD (double, s[i * step])
    case DPS_DTYPE_BF16: LOAD (uint16_t, bf16_get (s[i * step]))
    case DPS_DTYPE_F16: LOAD (uint16_t, f16_get (s[i * step]))
    case DPS_DTYPE_I32: LOAD (int32_t, (double)s[i * step])
    case DPS_DTYPE_I64: LOAD (int64_t, (double)s[i * step])
    case DPS_DTYPE_I16: LOAD (int16_t, (double)s[i * step])
    case DPS_DTYPE_I8: LOAD (int8_t, (double)s[i * step])
    default: LOAD (uint8_t, (double)s[i * step]) /* u8, bool */
    }
}

#define STORE(type, expr)                                                                                                                  \
    {                                                                                                                                      \
        type *d = (type *)p + first;                                                                                                       \
        for (int64_t i = 0; i < n; i++)                                                                                                    \
            d[i * step] = (expr);                                                                                                          \
        return;                                                                                                                            \
    }
static void store (const DpsView *v, int64_t first, int64_t step, int64_t n, const double *src)
{
    void *p = dps__ref_data (v);
    switch (v->dtype) {
    case DPS_DTYPE_F32: STORE (float, (float)src[i])
    case DPS_DTYPE_F64: STORE (double, src[i])
    case DPS_DTYPE_BF16: STORE (uint16_t, bf16_put (src[i]))
    case DPS_DTYPE_F16: STORE (uint16_t, f16_put (src[i]))
    case DPS_DTYPE_I32: STORE (int32_t, (int32_t)nearbyint (src[i]))
    case DPS_DTYPE_I64: STORE (int64_t, (int64_t)nearbyint (src[i]))
    case DPS_DTYPE_I16: STORE (int16_t, (int16_t)nearbyint (src[i]))
    case DPS_DTYPE_I8: STORE (int8_t, (int8_t)nearbyint (src[i]))
    case DPS_DTYPE_BOOL: STORE (uint8_t, src[i] != 0)
    default: STORE (uint8_t, (uint8_t)nearbyint (src[i]))
    }
}

DpsQuantNames dps__ref_quants;

int dps__ref_quantised (const DpsView *v) { return dps_quant_find (&dps__ref_quants, v->dtype) != DPS_QUANT_NONE; }

/* The view was checked with the call. */
static void load_quantised (const DpsView *v, int64_t row, double *dst)
{
    enum { PIECE = 256 };
    DpsQuantised q;
    float piece[PIECE];
    int64_t cols = dps__ref_cols (v);
    if (dps_quant_from_view (&dps__ref_quants, v, 1, &q, NULL) != DPS_OK)
        return;
    for (int64_t first = 0; first < cols; first += PIECE) {
        int64_t n = cols - first < PIECE ? cols - first : PIECE;
        dps_quant_decode (&q, row * cols + first, n, piece);
        for (int64_t i = 0; i < n; i++)
            dst[first + i] = (double)piece[i];
    }
}

void dps__ref_load (const DpsView *v, int64_t row, double *dst)
{
    if (dps__ref_quantised (v))
        load_quantised (v, row, dst);
    else
        load (v, row_start (v, row), col_step (v), dps__ref_cols (v), dst);
}

void dps__ref_store (const DpsView *v, int64_t row, const double *src)
{
    store (v, row_start (v, row), col_step (v), dps__ref_cols (v), src);
}

int64_t dps__ref_index (const DpsView *v, int64_t i)
{
    int64_t at = i * col_step (v);
    if (v->dtype == DPS_DTYPE_I64) /* not through f64: dropout keys use all 64 bits */
        return ((const int64_t *)dps__ref_data (v))[at];
    return ((const int32_t *)dps__ref_data (v))[at];
}

/* Any shape is read as one run of elements in row-major order. */
static int64_t element_start (const DpsView *v, int64_t i)
{
    int64_t cols = dps__ref_cols (v);
    return row_start (v, i / cols) + i % cols * col_step (v);
}

double dps__ref_at (const DpsView *v, int64_t i)
{
    double value;
    load (v, element_start (v, i), 1, 1, &value);
    return value;
}

void dps__ref_put (const DpsView *v, int64_t i, double value) { store (v, element_start (v, i), 1, 1, &value); }

static double round_to (uint32_t dtype, double x)
{
    switch (dtype) {
    case DPS_DTYPE_F32: return (double)(float)x;
    case DPS_DTYPE_BF16: return bf16_get (bf16_put (x));
    case DPS_DTYPE_F16: return f16_get (f16_put (x));
    default: return x;
    }
}

void dps__ref_load_weight (const DpsView *w, int64_t row, const DpsView *x, double *dst)
{
    dps__ref_load (w, row, dst);
    for (int64_t i = 0; x->dtype == DPS_DTYPE_BF16 && dps__ref_quantised (w) && i < dps__ref_cols (w); i++)
        dst[i] = round_to (DPS_DTYPE_BF16, dst[i]);
}

void dps__ref_add_partial (const DpsView *v, int64_t row, const double *partial, double *tmp)
{
    int64_t n = dps__ref_cols (v);
    dps__ref_load (v, row, tmp);
    for (int64_t i = 0; i < n; i++)
        tmp[i] += round_to (v->dtype, partial[i]);
    dps__ref_store (v, row, tmp);
}

DpsStatus dps__ref_scratch_bytes (DpsRefCall *c, int64_t n, int64_t size, void **out)
{
    if (c->n_scratch == DPS_OPCALL_SCRATCH)
        return dps_fail (c->err, DPS_ERR_INTERNAL, "ref %s: more than %d blocks of scratch", c->name, (int)DPS_OPCALL_SCRATCH);
    void *p = dps_calloc ((size_t)n, (size_t)size);
    if (!p)
        return dps_fail (c->err, DPS_ERR_NOMEM, "ref %s: no memory for %lld elements of scratch", c->name, (long long)n);
    c->scratch[c->n_scratch++] = p;
    *out = p;
    return DPS_OK;
}

DpsStatus dps__ref_scratch (DpsRefCall *c, int64_t n, double **out)
{
    void *p = NULL;
    DPS_TRY (dps__ref_scratch_bytes (c, n, (int64_t)sizeof **out, &p));
    *out = p;
    return DPS_OK;
}

DpsStatus dps__ref_matrix (DpsRefCall *c, const DpsView *v, double **out)
{
    int64_t rows = dps__ref_rows (v), cols = dps__ref_cols (v);
    DPS_TRY (dps__ref_scratch (c, rows * cols, out));
    for (int64_t i = 0; i < rows; i++)
        dps__ref_load (v, i, *out + i * cols);
    return DPS_OK;
}

DpsStatus dps__ref_roots (DpsRefCall *c, const DpsView *roots, int64_t rows, int64_t *out_n)
{
    int64_t n = dps__ref_count (roots), before = 0;
    if (n < 1)
        return dps_fail (c->err, DPS_ERR_INVALID, "ref %s: roots is empty, expected at least the offset 0", c->name);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = dps__ref_index (roots, i);
        if (at < before || at > rows)
            return dps_fail (c->err, DPS_ERR_INVALID, "ref %s: roots[%lld] is %lld, expected %lld to %lld", c->name, (long long)i,
                             (long long)at, (long long)before, (long long)rows);
        before = at;
    }
    *out_n = n - 1;
    return DPS_OK;
}

DpsStatus dps__ref_indices (DpsRefCall *c, const DpsView *v, const char *what, int64_t limit)
{
    int64_t n = dps__ref_count (v);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = dps__ref_index (v, i);
        if (at < 0 || at >= limit)
            return dps_fail (c->err, DPS_ERR_INVALID, "ref %s: %s[%lld] is %lld, expected 0 to %lld", c->name, what, (long long)i,
                             (long long)at, (long long)limit - 1);
    }
    return DPS_OK;
}

double dps__ref_dot (const double *a, const double *b, int64_t n)
{
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        s0 += a[i] * b[i];
        s1 += a[i + 1] * b[i + 1];
        s2 += a[i + 2] * b[i + 2];
        s3 += a[i + 3] * b[i + 3];
    }
    for (; i < n; i++)
        s0 += a[i] * b[i];
    return (s0 + s1) + (s2 + s3);
}
