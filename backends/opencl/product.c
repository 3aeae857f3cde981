/* SPDX-License-Identifier: Apache-2.0 */
/*
 * product.c: DpsLaunch.multiply, but for those who ask for CLBlast. Devices with many work-items a group take the dialect's tiles in local memory; a CPU has matmul.cl, rows times rows:
 * what is turned is transposed in scratch first, and what need be f32 becomes it there.
 */
#include "opencl.h"

static const char *const family = "matmul";

enum { BLOCK_BYTES = 96 << 10 /* of rows that stay in the second-level cache */, COLUMN_BLOCK = 96, SHORT = 64, SHORT_ROWS = 64 };

/* x (rows, cols), or what it is turned over, as f32: itself, or in scratch. shape: borrowed by out. */
static DpsStatus to_f32 (const DpsLaunch *l, const DpsView *x, int64_t rows, int64_t cols, int turn, uint32_t slot, int64_t shape[2],
                         DpsView *out, DpsError *err)
{
    if (!turn)
        return dps_launch_as_dtype (l, x, DPS_DTYPE_F32, slot, shape, out, err);
    shape[0] = cols;
    shape[1] = rows;
    DPS_TRY (dps_launch_temp (l, slot, DPS_DTYPE_F32, 2, shape, out, err));
    DpsKernel k = dps_kernel (family, "dps_transpose");
    dps_arg (&k, x);
    dps_arg_of (&k, out);
    dps_arg_i64 (&k, rows);
    dps_arg_i64 (&k, cols);
    k.groups[0] = (cols + 15) / 16;
    k.groups[1] = (rows + 15) / 16;
    return dps_launch_grid (l, &k, err);
}

static void add_ends (DpsKernel *k, const DpsMatrices *p)
{
    dps_arg_i64 (k, p->M);
    dps_arg_i64 (k, p->N);
    dps_arg_i64 (k, p->K);
    dps_arg_f32 (k, (double)p->alpha);
    dps_arg (k, p->bias);
    dps_arg (k, p->c);
    dps_arg (k, p->y);
    dps_arg_i64 (k, p->ldy);
}

/* A sum of a few terms: with b as (K,N) the sums are vectors of columns. */
static DpsStatus run_short (const DpsLaunch *l, const DpsMatrices *p, const DpsView *a, DpsError *err)
{
    const struct DpsQueue *q = l->ctx;
    int64_t shape[2];
    DpsView b;
    DPS_TRY (p->b_turned ? to_f32 (l, p->b, p->K, p->N, 0, DPS_SCRATCH_PANELS, shape, &b, err)
                         : to_f32 (l, p->b, p->N, p->K, 1, DPS_SCRATCH_PANELS, shape, &b, err));
    DpsKernel k = dps_kernel (family, "dps_short");
    dps_arg_of (&k, a);
    dps_arg_of (&k, &b);
    add_ends (&k, p);
    dps_arg_i64 (&k, SHORT_ROWS);
    k.groups[0] = (p->N + 2 * q->dev->width - 1) / (2 * q->dev->width);
    k.groups[1] = (p->M + SHORT_ROWS - 1) / SHORT_ROWS;
    return dps_launch_grid (l, &k, err);
}

static DpsStatus run_nt (const DpsLaunch *l, const DpsMatrices *p, const DpsView *a, DpsError *err)
{
    int64_t shape[2];
    DpsView b = *p->b;
    if (p->b_turned)
        DPS_TRY (to_f32 (l, p->b, p->K, p->N, 1, DPS_SCRATCH_PANELS, shape, &b, err));
    DpsKernel k = dps_kernel (family, "dps_nt");
    dps_arg_of (&k, a);
    dps_arg (&k, &b);
    add_ends (&k, p);
    int64_t rows = BLOCK_BYTES / (4 * (p->K ? p->K : 1)) / 4 * 4;
    rows = rows < 8 ? 8 : rows > 64 ? 64 : rows;
    dps_arg_i64 (&k, rows);
    dps_arg_i64 (&k, COLUMN_BLOCK);
    k.groups[0] = (p->N + COLUMN_BLOCK - 1) / COLUMN_BLOCK;
    k.groups[1] = (p->M + rows - 1) / rows;
    return dps_launch_grid (l, &k, err);
}

DpsStatus opencl_multiply (const DpsLaunch *l, const DpsMatrices *p, DpsError *err)
{
    int64_t shape[2];
    DpsView a;
    if (!p->M || !p->N)
        return DPS_OK;
    if (opencl_clblast_used () && p->K)
        return opencl_clblast_multiply (l, p, err);
    if (dps_launch_tiles (l))
        return dps_launch_multiply (l, p, err);
    DPS_TRY (p->a_turned ? to_f32 (l, p->a, p->K, p->M, 1, DPS_SCRATCH_A, shape, &a, err)
                         : to_f32 (l, p->a, p->M, p->K, 0, DPS_SCRATCH_A, shape, &a, err));
    return p->K > 0 && p->K <= SHORT ? run_short (l, p, &a, err) : run_nt (l, p, &a, err);
}
