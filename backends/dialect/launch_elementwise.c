/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch_elementwise.c: ops on numbers one by one (fill, copy, add, mul, exp …), with a vector for every row, and sums of columns: checks,
 * arguments, launches.
 */
#include <string.h>

#include "launch.h"

static const char *const family = "elementwise";

static int is_float (const DpsView *v) { return v->dtype == DPS_DTYPE_F32 || v->dtype == DPS_DTYPE_BF16 || v->dtype == DPS_DTYPE_F16; }

/* The number as one element of a dtype, in the low bytes. Errors: DTYPE. */
static DpsStatus bits_of (const DpsOpCall *c, uint32_t dtype, double value, int64_t *out)
{
    uint32_t bytes = dps_launch_bytes (dtype), word;
    float f = (float)value;
    memcpy (&word, &f, sizeof word);
    *out = 0;
    if (dtype == DPS_DTYPE_F32)
        *out = word;
    else if (dtype == DPS_DTYPE_BF16)
        *out = value != value ? 0x7fc0 : (word + 0x7fff + (word >> 16 & 1)) >> 16;
    else if (dtype == DPS_DTYPE_F64)
        memcpy (out, &value, sizeof value);
    else if (value == 0)
        *out = 0;
    else if (!bytes || dtype == DPS_DTYPE_F16)
        return dps_fail (c->err, DPS_ERR_DTYPE, "%s %s: dtype number %u is filled with 0 only", c->who, c->name, dtype);
    else
        *out = dtype == DPS_DTYPE_BOOL ? 1 : (int64_t)value;
    return DPS_OK;
}

static DpsStatus fill_check (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t bits;
    (void)l;
    return bits_of (c, c->out[0]->dtype, dps_opcall_f (c, 0), &bits);
}

static DpsStatus fill (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t bits, n = dps_view_count (c->out[0]);
    DpsKernel k = dps_kernel (family, "dps_fill");
    DPS_TRY (bits_of (c, c->out[0]->dtype, dps_opcall_f (c, 0), &bits));
    dps_arg_of (&k, c->out[0]);
    dps_arg_i32 (&k, dps_launch_bytes (c->out[0]->dtype));
    dps_arg_i64 (&k, bits);
    dps_arg_i64 (&k, n);
    return dps_launch_flat (l, &k, n, c->err);
}

static DpsStatus copy_check (const DpsLaunch *l, DpsOpCall *c)
{
    const DpsView *x = c->in[0], *y = c->out[0];
    (void)l;
    if (dps_launch_bytes (x->dtype) && (x->dtype == y->dtype || (is_float (x) && is_float (y))))
        return DPS_OK;
    return dps_fail (c->err, DPS_ERR_DTYPE, "%s copy: from dtype number %u to %u; f32, bf16 and f16 are cast", c->who, x->dtype, y->dtype);
}

static DpsStatus copy (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t n = dps_view_count (c->in[0]);
    int same = c->in[0]->dtype == c->out[0]->dtype;
    DpsKernel k = dps_kernel (family, same ? "dps_copy_bytes" : "dps_copy");
    (same ? dps_arg_of : dps_arg) (&k, c->in[0]);
    (same ? dps_arg_of : dps_arg) (&k, c->out[0]);
    if (same)
        dps_arg_i32 (&k, dps_launch_bytes (c->in[0]->dtype));
    dps_arg_i64 (&k, n);
    return dps_launch_flat (l, &k, n, c->err);
}

/* One or two operands, then `n_numbers` factors. */
static DpsStatus flat (const DpsLaunch *l, DpsOpCall *c, const char *name, const double *numbers, int n_numbers)
{
    int64_t n = dps_view_count (c->out[0]);
    DpsKernel k = dps_kernel (family, name);
    dps_arg (&k, c->in[0]);
    if (c->in[1])
        dps_arg (&k, c->in[1]);
    dps_arg (&k, c->out[0]);
    for (int i = 0; i < n_numbers; i++)
        dps_arg_f32 (&k, numbers[i]);
    dps_arg_i64 (&k, n);
    return dps_launch_flat (l, &k, n, c->err);
}

static DpsStatus add (const DpsLaunch *l, DpsOpCall *c)
{
    double factors[2] = {dps_opcall_f (c, 0), dps_opcall_f (c, 1)};
    if (factors[0] == 0 && factors[1] == 0)
        factors[0] = factors[1] = 1;
    return flat (l, c, "dps_add", factors, 2);
}

static DpsStatus softcap (const DpsLaunch *l, DpsOpCall *c) { return flat (l, c, "dps_softcap", (double[]){dps_opcall_f (c, 0)}, 1); }

#define PLAIN(op)                                                                                                                          \
    static DpsStatus op_##op (const DpsLaunch *l, DpsOpCall *c) { return flat (l, c, "dps_" #op, NULL, 0); }
PLAIN (mul)
PLAIN (div)
PLAIN (exp)
PLAIN (log)
PLAIN (sqrt)

static DpsStatus with_vector (const DpsLaunch *l, DpsOpCall *c, const char *name)
{
    DpsKernel k = dps_kernel (family, name);
    dps_arg (&k, c->in[0]);
    dps_arg (&k, c->in[1]);
    dps_arg (&k, c->out[0]);
    dps_arg_i64 (&k, c->in[0]->shape[1]);
    return dps_launch_rows_of (l, &k, c->in[0]->shape[0], c->err);
}

static DpsStatus mul_cols (const DpsLaunch *l, DpsOpCall *c) { return with_vector (l, c, "dps_mul_cols"); }
static DpsStatus add_cols (const DpsLaunch *l, DpsOpCall *c) { return with_vector (l, c, "dps_add_cols"); }
static DpsStatus scale_rows (const DpsLaunch *l, DpsOpCall *c) { return with_vector (l, c, "dps_scale_rows"); }

static DpsStatus column_sums (const DpsLaunch *l, DpsOpCall *c, const DpsView *x, const DpsView *dy, const DpsView *roots)
{
    int64_t rows = dy->shape[0], d = dy->shape[1], items = (d + 7) / 8;
    DPS_TRY (dps_launch_roots (c, roots, rows));
    DpsKernel k = dps_kernel (family, "dps_column_sums");
    dps_arg (&k, x);
    dps_arg (&k, dy);
    dps_arg_of (&k, roots);
    dps_arg (&k, c->out[0]);
    dps_arg_i32 (&k, roots->shape[0] - 1);
    dps_arg_i64 (&k, rows);
    dps_arg_i64 (&k, d);
    return dps_launch_rows_of (l, &k, (items + l->lanes - 1) / l->lanes, c->err);
}

static DpsStatus mul_cols_dv (const DpsLaunch *l, DpsOpCall *c) { return column_sums (l, c, c->in[0], c->in[1], c->in[2]); }
static DpsStatus bias_db (const DpsLaunch *l, DpsOpCall *c) { return column_sums (l, c, NULL, c->in[0], c->in[1]); }

const DpsLaunchOp dps_launch_elementwise[] = {
    {"fill", "", "y:*:any", fill_check, fill},
    {"copy", "x:*:any", "y:*:any", copy_check, copy},
    {"add", "a:* b:*", "y:*", NULL, add},
    {"mul", "a:* b:*", "y:*", NULL, op_mul},
    {"div", "a:* b:*", "y:*", NULL, op_div},
    {"exp", "x:*", "y:*", NULL, op_exp},
    {"log", "x:*", "y:*", NULL, op_log},
    {"sqrt", "x:*", "y:*", NULL, op_sqrt},
    {"softcap", "x:*", "y:*", NULL, softcap},
    {"mul_cols", "x:N,D v:D", "y:N,D", NULL, mul_cols},
    {"add_cols", "x:N,D v:D", "y:N,D", NULL, add_cols},
    {"scale_rows", "x:S,D v:S", "y:S,D", NULL, scale_rows},
    {"mul_cols_dv", "x:N,D dy:N,D roots:R:i32", "dv:D", NULL, mul_cols_dv},
    {"bias_db", "dy:N,O roots:R:i32", "db:O", NULL, bias_db},
    {NULL, NULL, NULL, NULL, NULL},
};
