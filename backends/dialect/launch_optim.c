/* SPDX-License-Identifier: Apache-2.0 */
/* launch_optim.c: the sum of squares behind the gradient's norm, and the AdamW and SGD steps. */
#include <math.h>

#include "launch.h"

static const char *const family = "optim";

enum { CHUNK = 65536 }; /* of sumsq, ops.h */

static DpsStatus sumsq_check (const DpsLaunch *l, DpsOpCall *c)
{
    uint32_t x = c->in[0]->dtype, y = c->out[0]->dtype;
    (void)l;
    if ((x == DPS_DTYPE_F32 || x == DPS_DTYPE_BF16 || x == DPS_DTYPE_F16) && (y == DPS_DTYPE_F64 || y == DPS_DTYPE_F32))
        return DPS_OK;
    return dps_fail (c->err, DPS_ERR_DTYPE, "%s sumsq: from dtype number %u to %u; a float and f64 are expected", c->who, x, y);
}

/* The sums of chunks come to the host, which has f64 where a device may not. */
static DpsStatus sumsq (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t n = dps_view_count (c->in[0]), chunks = (n + CHUNK - 1) / CHUNK;
    DpsView partial;
    float *sums = dps_malloc ((size_t)chunks + 1, sizeof *sums);
    DpsStatus st = sums ? dps_launch_temp (l, DPS_SCRATCH_OP, DPS_DTYPE_F32, 1, &chunks, &partial, c->err)
                        : dps_fail (c->err, DPS_ERR_NOMEM, "%s sumsq: out of memory", c->who);
    double total = 0;
    if (st == DPS_OK && n) {
        DpsKernel k = dps_kernel (family, "dps_sumsq");
        dps_arg (&k, c->in[0]);
        dps_arg_of (&k, &partial);
        dps_arg_i64 (&k, n);
        st = dps_launch_rows_of (l, &k, chunks, c->err);
        if (st == DPS_OK)
            st = l->read (l->ctx, &partial, sums, (uint64_t)chunks * sizeof *sums, c->err);
        for (int64_t i = 0; st == DPS_OK && i < chunks; i++)
            total += (double)sums[i];
    }
    dps_free (sums);
    float rounded = (float)total;
    if (st == DPS_OK)
        st = c->out[0]->dtype == DPS_DTYPE_F64 ? l->write (l->ctx, &total, c->out[0], sizeof total, c->err)
                                               : l->write (l->ctx, &rounded, c->out[0], sizeof rounded, c->err);
    return st;
}

static double grad_scale (const DpsOpCall *c) { return dps_opcall_f (c, 6) == 0 ? 1 : dps_opcall_f (c, 6); }

static DpsStatus adamw_step (const DpsLaunch *l, DpsOpCall *c)
{
    double lr = dps_opcall_f (c, 0), b1 = dps_opcall_f (c, 1), b2 = dps_opcall_f (c, 2), t = (double)dps_opcall_i (c, 5);
    int64_t n = dps_view_count (c->in[0]);
    if (t < 1)
        return dps_fail (c->err, DPS_ERR_INVALID, "%s adamw_step: t is %lld, expected 1 for the first step", c->who,
                         (long long)dps_opcall_i (c, 5));
    DpsKernel k = dps_kernel (family, "dps_adamw");
    for (int i = 0; i < 4; i++)
        dps_arg (&k, c->in[i]);
    for (int i = 0; i < 4; i++)
        dps_arg (&k, c->out[i]);
    const double numbers[] = {b1,
                              1 - b1,
                              b2,
                              1 - b2,
                              dps_opcall_f (c, 3),
                              1 - lr * dps_opcall_f (c, 4),
                              lr / (1 - pow (b1, t)),
                              1 / (1 - pow (b2, t)),
                              grad_scale (c)};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        dps_arg_f32 (&k, numbers[i]);
    dps_arg_i64 (&k, n);
    return dps_launch_flat (l, &k, n, c->err);
}

static DpsStatus sgd_check (const DpsLaunch *l, DpsOpCall *c)
{
    (void)l;
    if (!c->in[2] != !c->out[1])
        return dps_fail (c->err, DPS_ERR_INVALID, "%s sgd_step: m must be both an input and an output, or neither", c->who);
    return DPS_OK;
}

static DpsStatus sgd_step (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t n = dps_view_count (c->in[0]);
    DpsKernel k = dps_kernel (family, "dps_sgd");
    for (int i = 0; i < 3; i++)
        dps_arg (&k, c->in[i]);
    for (int i = 0; i < 3; i++)
        dps_arg (&k, c->out[i]);
    dps_arg_f32 (&k, dps_opcall_f (c, 1));
    dps_arg_f32 (&k, dps_opcall_f (c, 4));
    dps_arg_f32 (&k, dps_opcall_f (c, 0));
    dps_arg_f32 (&k, grad_scale (c));
    dps_arg_i64 (&k, n);
    return dps_launch_flat (l, &k, n, c->err);
}

const DpsLaunchOp dps_launch_optim[] = {
    {"sumsq", "x:~", "y:1:any", sumsq_check, sumsq},
    {"adamw_step", "p:* g:* m:* v:* ?shadow:*", "p:* m:* v:* ?shadow:*", NULL, adamw_step},
    {"sgd_step", "p:* g:* ?m:* ?shadow:*", "p:* ?m:* ?shadow:*", sgd_check, sgd_step},
    {NULL, NULL, NULL, NULL, NULL},
};
