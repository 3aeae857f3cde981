/* SPDX-License-Identifier: Apache-2.0 */
/* launch_norm.c: RMS norm over groups of columns and its two adjoints; the weight's is summed root by root. */
#include "launch.h"

static const char *const family = "norm";

static int64_t group_of (const DpsOpCall *c)
{
    int64_t asked = dps_opcall_i (c, 2);
    return asked ? asked : c->in[0]->shape[1];
}

static DpsStatus check_groups (const DpsOpCall *c, const DpsView *rstd)
{
    int64_t d = c->dim['D'], n = c->dim['N'], h = group_of (c), want = h > 0 ? n * (d / h) : 0;
    if (c->dim['h'] != h)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: w has %lld elements, expected h = %lld", c->who, c->name, (long long)c->dim['h'],
                         (long long)h);
    if (d == 0)
        return DPS_OK;
    if (h < 1 || d % h)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: rows of %lld elements do not divide into groups of h = %lld", c->who, c->name,
                         (long long)d, (long long)h);
    if (rstd && dps_view_count (rstd) != want)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: rstd has %lld elements, expected N·D/h = %lld", c->who, c->name,
                         (long long)dps_view_count (rstd), (long long)want);
    return DPS_OK;
}

static DpsStatus check (const DpsLaunch *l, DpsOpCall *c)
{
    (void)l;
    return check_groups (c, c->out[1] ? c->out[1] : c->in[2]);
}

static DpsStatus dw_check (const DpsLaunch *l, DpsOpCall *c)
{
    (void)l;
    return check_groups (c, c->in[1]);
}

static int64_t groups (const DpsOpCall *c) { return c->dim['D'] ? c->dim['N'] * (c->dim['D'] / group_of (c)) : 0; }

static DpsStatus rms_norm (const DpsLaunch *l, DpsOpCall *c)
{
    DpsKernel k = dps_kernel (family, "dps_rms_norm");
    dps_arg (&k, c->in[0]);
    dps_arg (&k, c->in[1]);
    dps_arg (&k, c->out[0]);
    dps_arg (&k, c->out[1]);
    dps_arg_f32 (&k, dps_opcall_f (c, 0));
    dps_arg_f32 (&k, dps_opcall_f (c, 1));
    dps_arg_i64 (&k, group_of (c));
    return dps_launch_rows_of (l, &k, groups (c), c->err);
}

static DpsStatus rms_norm_dx (const DpsLaunch *l, DpsOpCall *c)
{
    DpsKernel k = dps_kernel (family, "dps_rms_norm_dx");
    for (int i = 0; i < 5; i++)
        dps_arg (&k, c->in[i]);
    dps_arg (&k, c->out[0]);
    dps_arg_f32 (&k, dps_opcall_f (c, 1));
    dps_arg_i64 (&k, group_of (c));
    return dps_launch_rows_of (l, &k, groups (c), c->err);
}

static DpsStatus rms_norm_dw (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t h = group_of (c), items = c->dim['D'] ? (h + 7) / 8 : 0;
    DPS_TRY (dps_launch_roots (c, c->in[3], c->dim['N']));
    DpsKernel k = dps_kernel (family, "dps_rms_norm_dw");
    dps_arg (&k, c->in[0]);
    dps_arg (&k, c->in[1]);
    dps_arg (&k, c->in[2]);
    dps_arg_of (&k, c->in[3]);
    dps_arg (&k, c->out[0]);
    dps_arg_i32 (&k, c->in[3]->shape[0] - 1);
    dps_arg_i64 (&k, c->dim['N']);
    dps_arg_i64 (&k, c->dim['D']);
    dps_arg_i64 (&k, h);
    return dps_launch_rows_of (l, &k, (items + l->lanes - 1) / l->lanes, c->err);
}

const DpsLaunchOp dps_launch_norm[] = {
    {"rms_norm", "x:N,D w:h", "y:N,D ?rstd:~", check, rms_norm},
    {"rms_norm_dx", "x:N,D w:h rstd:~ dy:N,D ?c:N,D", "dx:N,D", check, rms_norm_dx},
    {"rms_norm_dw", "x:N,D rstd:~ dy:N,D roots:R:i32", "dw:h", dw_check, rms_norm_dw},
    {NULL, NULL, NULL, NULL, NULL},
};
