/* SPDX-License-Identifier: Apache-2.0 */
/* launch_rows.c: rows by number: embedding, gather, scatter, caches, and the simple ops on rows that decompositions use. */
#include "launch.h"

static const char *const family = "rows";

DpsStatus dps_launch_take_rows (const DpsLaunch *l, const DpsView *table, const DpsView *ids, double scale, const DpsView *y, DpsError *err)
{
    if (dps_launch_quantised (l, table))
        return dps_launch_dequantise_ids (l, table, ids, scale, y, err);
    DpsKernel k = dps_kernel (family, "dps_take_rows");
    dps_arg (&k, table);
    dps_arg_of (&k, ids);
    dps_arg (&k, y);
    dps_arg_f32 (&k, scale);
    dps_arg_i64 (&k, table->shape[0]);
    dps_arg_i64 (&k, table->shape[1]);
    return dps_launch_rows_of (l, &k, ids->shape[0], err);
}

static DpsStatus embed_check (const DpsLaunch *l, DpsOpCall *c)
{
    (void)l;
    if (c->in[0]->layout != DPS_LAYOUT_ROW_MAJOR)
        return dps_fail (c->err, DPS_ERR_UNSUPPORTED, "%s embed: the table is packed; rows are expected", c->who);
    return DPS_OK;
}

static double scale_of (const DpsOpCall *c) { return dps_opcall_f (c, 0) == 0 ? 1 : dps_opcall_f (c, 0); }

static DpsStatus embed (const DpsLaunch *l, DpsOpCall *c)
{
    DPS_TRY (dps_launch_indices (c, c->in[1], "ids", c->dim['V']));
    return dps_launch_take_rows (l, c->in[0], c->in[1], scale_of (c), c->out[0], c->err);
}

static DpsStatus gather_rows (const DpsLaunch *l, DpsOpCall *c)
{
    DPS_TRY (dps_launch_indices (c, c->in[1], "rows", c->dim['N']));
    return dps_launch_take_rows (l, c->in[0], c->in[1], 1, c->out[0], c->err);
}

static DpsStatus embed_dw (const DpsLaunch *l, DpsOpCall *c)
{
    DPS_TRY (dps_launch_indices (c, c->in[1], "ids", c->dim['V']));
    DPS_TRY (dps_launch_roots (c, c->in[2], c->dim['N']));
    DpsKernel k = dps_kernel (family, "dps_embed_dw");
    dps_arg (&k, c->in[0]);
    dps_arg_of (&k, c->in[1]);
    dps_arg_of (&k, c->in[2]);
    dps_arg (&k, c->out[0]);
    dps_arg_f32 (&k, scale_of (c));
    dps_arg_i32 (&k, c->in[2]->shape[0] - 1);
    dps_arg_i64 (&k, c->dim['N']);
    dps_arg_i64 (&k, c->dim['D']);
    dps_arg_i64 (&k, c->dim['V']);
    return dps_launch_rows_of (l, &k, c->dim['N'], c->err);
}

static DpsStatus scatter_rows (const DpsLaunch *l, DpsOpCall *c)
{
    DPS_TRY (dps_launch_indices (c, c->in[1], "rows", c->dim['N']));
    DpsKernel k = dps_kernel (family, "dps_scatter_rows");
    dps_arg (&k, c->in[0]);
    dps_arg_of (&k, c->in[1]);
    dps_arg (&k, c->out[0]);
    dps_arg_i64 (&k, c->dim['S']);
    dps_arg_i64 (&k, c->dim['D']);
    return dps_launch_rows_of (l, &k, c->dim['N'], c->err);
}

static DpsStatus put_rows (const DpsLaunch *l, DpsOpCall *c)
{
    DPS_TRY (dps_launch_indices (c, c->in[1], "rows", c->dim['M']));
    DpsKernel k = dps_kernel (family, "dps_put_rows");
    dps_arg (&k, c->in[0]);
    dps_arg_of (&k, c->in[1]);
    dps_arg (&k, c->out[0]);
    dps_arg_i64 (&k, c->dim['M']);
    dps_arg_i64 (&k, c->dim['D']);
    return dps_launch_rows_of (l, &k, c->dim['N'], c->err);
}

static DpsStatus range (const DpsLaunch *l, DpsOpCall *c)
{
    DpsKernel k = dps_kernel (family, "dps_range");
    dps_arg_of (&k, c->out[0]);
    dps_arg_i64 (&k, dps_opcall_i (c, 0));
    dps_arg_i64 (&k, dps_opcall_i (c, 1));
    dps_arg_i64 (&k, c->dim['n']);
    return dps_launch_flat (l, &k, c->dim['n'], c->err);
}

static DpsStatus one_hot (const DpsLaunch *l, DpsOpCall *c)
{
    DPS_TRY (dps_launch_indices (c, c->in[0], "ids", c->dim['V']));
    DpsKernel k = dps_kernel (family, "dps_one_hot");
    dps_arg_of (&k, c->in[0]);
    dps_arg (&k, c->out[0]);
    dps_arg_i64 (&k, c->dim['V']);
    return dps_launch_rows_of (l, &k, c->dim['N'], c->err);
}

static DpsStatus row_max (const DpsLaunch *l, DpsOpCall *c)
{
    DpsKernel k = dps_kernel (family, "dps_row_max");
    dps_arg (&k, c->in[0]);
    dps_arg (&k, c->out[0]);
    dps_arg_of (&k, c->out[1]);
    dps_arg_i32 (&k, c->out[1] != NULL);
    dps_arg_i64 (&k, c->dim['N']);
    dps_arg_i64 (&k, c->dim['D']);
    return dps_launch_flat (l, &k, c->dim['N'], c->err);
}

const DpsLaunchOp dps_launch_rows[] = {
    {"embed", "table:V,D:weight ids:N:i32", "y:N,D", embed_check, embed},
    {"embed_dw", "dy:N,D ids:N:i32 roots:R:i32", "dtable:V,D", NULL, embed_dw},
    {"gather_rows", "x:N,D rows:S:i32", "y:S,D", NULL, gather_rows},
    {"scatter_rows", "dy:S,D rows:S:i32", "dx:N,D", NULL, scatter_rows},
    {"put_rows", "x:N,D rows:N:i32", "y:M,D", NULL, put_rows},
    {"range", "", "y:n:i32", NULL, range},
    {"one_hot", "ids:N:i32", "y:N,V", NULL, one_hot},
    {"row_max", "x:N,D", "y:N,1 ?at:N:i32", NULL, row_max},
    {NULL, NULL, NULL, NULL, NULL},
};
