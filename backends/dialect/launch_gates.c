/* SPDX-License-Identifier: Apache-2.0 */
/* launch_gates.c: GeGLU and SwiGLU with their adjoints, and dropout. */
#include <math.h>

#include "launch.h"

static const char *const family = "gates";

static DpsStatus gate (const DpsLaunch *l, DpsOpCall *c, const char *name)
{
    int64_t n = dps_view_count (c->in[0]);
    DpsKernel k = dps_kernel (family, name);
    for (uint32_t i = 0; i < 3 && c->in[i]; i++)
        dps_arg (&k, c->in[i]);
    for (uint32_t i = 0; i < 2 && c->out[i]; i++)
        dps_arg (&k, c->out[i]);
    dps_arg_i64 (&k, n);
    return dps_launch_flat (l, &k, n, c->err);
}

#define GATE(op)                                                                                                                           \
    static DpsStatus op (const DpsLaunch *l, DpsOpCall *c) { return gate (l, c, "dps_" #op); }
GATE (geglu)
GATE (swiglu)
GATE (geglu_bwd)
GATE (swiglu_bwd)

static DpsStatus dropout_check (const DpsLaunch *l, DpsOpCall *c)
{
    double p = dps_opcall_f (c, 0);
    (void)l;
    return p >= 0 && p < 1 ? DPS_OK : dps_fail (c->err, DPS_ERR_INVALID, "%s dropout: p is %g, expected 0 ≤ p < 1", c->who, p);
}

static DpsStatus dropout (const DpsLaunch *l, DpsOpCall *c)
{
    double p = dps_opcall_f (c, 0);
    DpsKernel k = dps_kernel (family, "dps_dropout");
    dps_arg (&k, c->in[0]);
    dps_arg_of (&k, c->in[1]);
    dps_arg (&k, c->out[0]);
    dps_arg_i64 (&k, c->dim['D']);
    dps_arg_i64 (&k, dps_opcall_i (c, 1));
    dps_arg_i64 (&k, dps_opcall_i (c, 2));
    dps_arg_i64 (&k, (int64_t)ceil (p * 0x1p53));
    dps_arg_f32 (&k, 1 - p);
    return dps_launch_rows_of (l, &k, c->dim['N'], c->err);
}

const DpsLaunchOp dps_launch_gates[] = {
    {"geglu", "gate:N,D up:N,D", "y:N,D", NULL, geglu},
    {"swiglu", "gate:N,D up:N,D", "y:N,D", NULL, swiglu},
    {"geglu_bwd", "gate:N,D up:N,D dy:N,D", "dgate:N,D dup:N,D", NULL, geglu_bwd},
    {"swiglu_bwd", "gate:N,D up:N,D dy:N,D", "dgate:N,D dup:N,D", NULL, swiglu_bwd},
    {"dropout", "x:N,D keys:N:i64", "y:N,D", dropout_check, dropout},
    {NULL, NULL, NULL, NULL, NULL},
};
