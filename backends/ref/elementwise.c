/* SPDX-License-Identifier: Apache-2.0 */
/* elementwise.c: fill, copy, add, mul, div, exp, log, sqrt, softcap, dropout, and the products with one vector (mul_cols, scale_rows). */
#include "base/rng.h"
#include "ref.h"

#include <math.h>
#include <string.h>

DpsStatus dps__ref_fill (DpsRefCall *c)
{
    const DpsView *y = c->out[0];
    int64_t rows = dps__ref_rows (y), cols = dps__ref_cols (y);
    double *row, value = dps__ref_f (c, 0);
    DPS_TRY (dps__ref_scratch (c, cols, &row));
    for (int64_t j = 0; j < cols; j++)
        row[j] = value;
    for (int64_t i = 0; i < rows; i++)
        dps__ref_store (y, i, row);
    return DPS_OK;
}

/* Same dtype, both contiguous: the bytes themselves, so that 64-bit integers do not pass through f64. */
static int copy_bytes (const DpsView *x, const DpsView *y)
{
    if (x->dtype != y->dtype || x->stride || y->stride)
        return 0;
    static const uint8_t bytes[] = {
#define DPS_X(name, number, text, size) [number] = size,
        DPS_DTYPES (DPS_X)
#undef DPS_X
    };
    size_t n = (size_t)dps__ref_count (x) * bytes[x->dtype];
    if (n && dps__ref_data (x) != dps__ref_data (y))
        memmove (dps__ref_data (y), dps__ref_data (x), n);
    return 1;
}

DpsStatus dps__ref_copy (DpsRefCall *c)
{
    const DpsView *x = c->in[0], *y = c->out[0];
    if (copy_bytes (x, y))
        return DPS_OK;
    int64_t rows = dps__ref_rows (x);
    double *row;
    DPS_TRY (dps__ref_scratch (c, dps__ref_cols (x), &row));
    for (int64_t i = 0; i < rows; i++) {
        dps__ref_load (x, i, row);
        dps__ref_store (y, i, row);
    }
    return DPS_OK;
}

/* y = f (a, b) for every element; p, q are the op's numbers. */
typedef double (*Binary) (double a, double b, double p, double q);

static DpsStatus each_pair (DpsRefCall *c, Binary f, double p, double q)
{
    int64_t rows = dps__ref_rows (c->out[0]), cols = dps__ref_cols (c->out[0]);
    double *a, *b;
    DPS_TRY (dps__ref_scratch (c, cols, &a));
    DPS_TRY (dps__ref_scratch (c, cols, &b));
    for (int64_t i = 0; i < rows; i++) {
        dps__ref_load (c->in[0], i, a);
        if (c->in[1])
            dps__ref_load (c->in[1], i, b);
        for (int64_t j = 0; j < cols; j++)
            a[j] = f (a[j], b[j], p, q);
        dps__ref_store (c->out[0], i, a);
    }
    return DPS_OK;
}

static double add_scaled (double a, double b, double alpha, double beta) { return alpha * a + beta * b; }

static double multiply (double a, double b, double p, double q)
{
    (void)p, (void)q;
    return a * b;
}

static double divide (double a, double b, double p, double q)
{
    (void)p, (void)q;
    return a / b;
}

static double cap_tanh (double x, double b, double cap, double q)
{
    (void)b, (void)q;
    return cap * tanh (x / cap);
}

#define UNARY(name)                                                                                                                        \
    static double unary_##name (double x, double b, double p, double q)                                                                    \
    {                                                                                                                                      \
        (void)b, (void)p, (void)q;                                                                                                         \
        return name (x);                                                                                                                   \
    }                                                                                                                                      \
    DpsStatus dps__ref_##name (DpsRefCall *c) { return each_pair (c, unary_##name, 0, 0); }
UNARY (exp)
UNARY (log)
UNARY (sqrt)

DpsStatus dps__ref_add (DpsRefCall *c)
{
    double alpha = dps__ref_f (c, 0), beta = dps__ref_f (c, 1);
    int plain = alpha == 0 && beta == 0;
    return each_pair (c, add_scaled, plain ? 1 : alpha, plain ? 1 : beta);
}

DpsStatus dps__ref_mul (DpsRefCall *c) { return each_pair (c, multiply, 0, 0); }

DpsStatus dps__ref_div (DpsRefCall *c) { return each_pair (c, divide, 0, 0); }

DpsStatus dps__ref_softcap (DpsRefCall *c) { return each_pair (c, cap_tanh, dps__ref_f (c, 0), 0); }

static DpsStatus each_column (DpsRefCall *c, int multiplies)
{
    int64_t n_rows = c->dim['N'], d = c->dim['D'];
    double *x, *v;
    DPS_TRY (dps__ref_scratch (c, d, &x));
    DPS_TRY (dps__ref_matrix (c, c->in[1], &v));
    for (int64_t n = 0; n < n_rows; n++) {
        dps__ref_load (c->in[0], n, x);
        for (int64_t j = 0; j < d; j++)
            x[j] = multiplies ? x[j] * v[j] : x[j] + v[j];
        dps__ref_store (c->out[0], n, x);
    }
    return DPS_OK;
}

DpsStatus dps__ref_mul_cols (DpsRefCall *c) { return each_column (c, 1); }

DpsStatus dps__ref_add_cols (DpsRefCall *c) { return each_column (c, 0); }

/* The adjoint of mul_cols in v; in x it is mul_cols (dy, v). */
DpsStatus dps__ref_mul_cols_dv (DpsRefCall *c)
{
    int64_t d = c->dim['D'], n_roots;
    double *x, *dy, *dv;
    DPS_TRY (dps__ref_roots (c, c->in[2], c->dim['N'], &n_roots));
    DPS_TRY (dps__ref_scratch (c, d, &x));
    DPS_TRY (dps__ref_scratch (c, d, &dy));
    DPS_TRY (dps__ref_scratch (c, d, &dv));
    for (int64_t r = 0; r < n_roots; r++) {
        memset (dv, 0, (size_t)d * sizeof *dv);
        for (int64_t n = dps__ref_index (c->in[2], r); n < dps__ref_index (c->in[2], r + 1); n++) {
            dps__ref_load (c->in[0], n, x);
            dps__ref_load (c->in[1], n, dy);
            for (int64_t j = 0; j < d; j++)
                dv[j] += x[j] * dy[j];
        }
        dps__ref_add_partial (c->out[0], 0, dv, x);
    }
    return DPS_OK;
}

DpsStatus dps__ref_scale_rows (DpsRefCall *c)
{
    int64_t s_rows = c->dim['S'], d = c->dim['D'];
    double *x;
    DPS_TRY (dps__ref_scratch (c, d, &x));
    for (int64_t s = 0; s < s_rows; s++) {
        double v = dps__ref_at (c->in[1], s);
        dps__ref_load (c->in[0], s, x);
        for (int64_t j = 0; j < d; j++)
            x[j] *= v;
        dps__ref_store (c->out[0], s, x);
    }
    return DPS_OK;
}

/*
 * A row's key comes from its sequence and position, not from its place in the call, so a token is dropped alike whatever the batch.
 * Forward and backward are the same op with the same numbers.
 */
DpsStatus dps__ref_dropout (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], d = c->dim['D'];
    double p = dps__ref_f (c, 0), *x;
    uint64_t seed = (uint64_t)dps__ref_i (c, 1), site = (uint64_t)dps__ref_i (c, 2);
    if (!(p >= 0 && p < 1))
        return dps_fail (c->err, DPS_ERR_INVALID, "ref dropout: p is %g, expected 0 ≤ p < 1", p);
    DPS_TRY (dps__ref_scratch (c, d, &x));
    for (int64_t n = 0; n < n_rows; n++) {
        uint64_t key = (uint64_t)dps__ref_index (c->in[1], n) << 20;
        dps__ref_load (c->in[0], n, x);
        for (int64_t j = 0; j < d; j++)
            x[j] = dps_rng_uniform (seed, site, key + (uint64_t)j) >= p ? x[j] / (1 - p) : 0;
        dps__ref_store (c->out[0], n, x);
    }
    return DPS_OK;
}
