/* SPDX-License-Identifier: Apache-2.0 */
/*
 * product.c: DpsLaunch.multiply. cuBLASLt multiplies bf16 by bf16 or f32 by f32, with f32 sums: operands of two dtypes become f32 first. It
 * writes y itself where its epilogue rounds as ops.h says; elsewhere an f32 sum in scratch is finished by the dialect. Where cuBLASLt is missing,
 * not wanted, or has no algorithm, dialect/product.cl does it all. Codes of int8 it multiplies into sums of i32, where DIAPASON_CUDA_GEMM=int8 asks.
 */
#include "cuda.h"

static CuPointer address (const DpsView *v) { return v->buffer->ptr + v->offset; }

/* cuBLASLt rounds alpha·sum + y once: right when y is all there is to add and has a dtype it writes from these operands. */
static int writes_y (const DpsMatrices *p, uint32_t ab)
{
    return dps_launch_adds_to_y (p) && (p->y->dtype == DPS_DTYPE_F32 || (p->y->dtype == DPS_DTYPE_BF16 && ab == DPS_DTYPE_BF16));
}

static DpsStatus by_lt (const DpsLaunch *l, const DpsMatrices *p, DpsError *err)
{
    uint32_t ab = p->a->dtype == DPS_DTYPE_BF16 && p->b->dtype == DPS_DTYPE_BF16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
    int direct = writes_y (p, ab);
    int64_t shapes[3] = {0, 0, p->M * p->N};
    DpsView a, b, sum;
    DPS_TRY (dps_launch_as_dtype (l, p->a, ab, DPS_SCRATCH_A, &shapes[0], &a, err));
    DPS_TRY (dps_launch_as_dtype (l, p->b, ab, DPS_SCRATCH_PANELS, &shapes[1], &b, err));
    if (!direct)
        DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_SUM, DPS_DTYPE_F32, 1, &shapes[2], &sum, err));
    const CudaProduct lt = {.M = p->M,
                            .N = p->N,
                            .K = p->K,
                            .lda = p->a_turned ? p->M : p->K,
                            .ldb = p->b_turned ? p->N : p->K,
                            .ldd = direct ? p->ldy : p->N,
                            .a = address (&a),
                            .b = address (&b),
                            .d = address (direct ? p->y : &sum),
                            .ab_dtype = ab,
                            .d_dtype = direct ? p->y->dtype : DPS_DTYPE_F32,
                            .a_transposed = p->a_turned,
                            .b_transposed = !p->b_turned,
                            .alpha = p->alpha,
                            .beta = direct && p->c ? 1.0f : 0.0f};
    DPS_TRY (cuda_gemm_run (l->ctx, &lt, err));
    return direct ? DPS_OK : dps_launch_finish (l, p, &sum, err);
}

DpsStatus cuda_multiply (const DpsLaunch *l, const DpsMatrices *p, DpsError *err)
{
    struct DpsQueue *q = l->ctx;
    DpsError why = DPS_ERROR_INIT;
    if (!p->M || !p->N)
        return DPS_OK;
    DpsStatus st = q->dev->gemm && p->K ? by_lt (l, p, &why) : DPS_ERR_UNSUPPORTED; /* of nothing there need be no buffer */
    if (st == DPS_ERR_UNSUPPORTED)
        return dps_launch_multiply (l, p, err);
    if (st != DPS_OK && err)
        dps_table_copy (err, sizeof *err, &why);
    return st;
}

/* It takes codes at whole words only: a weight may begin anywhere in its buffer. */
DpsStatus cuda_multiply_codes (const DpsLaunch *l, const DpsView *a, const DpsView *b, const DpsView *sum, DpsError *err)
{
    const CudaProduct lt = {.M = a->shape[0],
                            .N = b->shape[0],
                            .K = b->shape[1],
                            .lda = b->shape[1],
                            .ldb = b->shape[1],
                            .ldd = b->shape[0],
                            .a = address (a),
                            .b = address (b),
                            .d = address (sum),
                            .ab_dtype = DPS_DTYPE_I8,
                            .d_dtype = DPS_DTYPE_I32,
                            .b_transposed = 1,
                            .alpha = 1};
    if (lt.b % 4)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "cuda: cuBLASLt takes codes at a multiple of 4 bytes");
    return cuda_gemm_run (l->ctx, &lt, err);
}
