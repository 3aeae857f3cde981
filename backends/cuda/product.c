/* SPDX-License-Identifier: Apache-2.0 */
/*
 * product.c: DpsLaunch.product and .outer. cuBLASLt multiplies bf16 by bf16 or f32 by f32, with f32 sums: operands of two dtypes become f32 first. It
 * writes y itself where its epilogue rounds as ops.h says; elsewhere an f32 sum in scratch is finished by the dialect. Where cuBLASLt is missing,
 * not wanted, or has no algorithm, dialect/product.cl does it all.
 */
#include <string.h>

#include "cuda.h"

/* y (M,N) = alpha·Σ_k a·b + bias + c. Matrices are dense rows: a is (M,K), or (K,M) when turned; b is (N,K), or (K,N) when turned. */
typedef struct Matrices {
    const DpsView *a, *b, *bias, *c, *y;
    int a_turned, b_turned;
    int64_t M, N, K, ldy;
    float alpha;
} Matrices;

static CuPointer address (const DpsView *v) { return v->buffer->ptr + v->offset; }

static int same_place (const DpsView *a, const DpsView *b) { return a->buffer == b->buffer && a->offset == b->offset; }

/* The dialect's own. */
static DpsStatus by_dialect (struct DpsQueue *q, const Matrices *p, DpsError *err)
{
    DpsLaunch l = cuda_launch_table (q);
    DpsKernel k = dps_kernel ("product", "dps_product");
    dps_arg (&k, p->a);
    dps_arg_i64 (&k, p->a_turned ? 1 : p->K);
    dps_arg_i64 (&k, p->a_turned ? p->M : 1);
    dps_arg (&k, p->b);
    dps_arg_i64 (&k, p->b_turned ? 1 : p->K);
    dps_arg_i64 (&k, p->b_turned ? p->N : 1);
    dps_arg_i64 (&k, p->M);
    dps_arg_i64 (&k, p->N);
    dps_arg_i64 (&k, p->K);
    dps_arg_f32 (&k, (double)p->alpha);
    dps_arg (&k, p->bias);
    dps_arg (&k, p->c);
    dps_arg (&k, p->y);
    dps_arg_i64 (&k, p->ldy);
    k.groups[0] = (p->N + 63) / 64;
    k.groups[1] = (p->M + 63) / 64;
    k.local[0] = k.local[1] = 16;
    return dps_launch_grid (&l, &k, err);
}

/* v, or its numbers in another dtype in scratch. shape: of one axis, borrowed by out. */
static DpsStatus as_dtype (struct DpsQueue *q, const DpsView *v, uint32_t dtype, uint32_t slot, int64_t *shape, DpsView *out, DpsError *err)
{
    *out = *v;
    if (v->dtype == dtype)
        return DPS_OK;
    DpsLaunch l = cuda_launch_table (q);
    *shape = dps_view_count (v);
    DPS_TRY (dps_launch_temp (&l, slot, dtype, 1, shape, out, err));
    DpsKernel k = dps_kernel ("elementwise", "dps_copy");
    dps_arg (&k, v);
    dps_arg (&k, out);
    dps_arg_i64 (&k, *shape);
    return dps_launch_flat (&l, &k, *shape, err);
}

static DpsStatus finish (struct DpsQueue *q, const Matrices *p, const DpsView *sum, DpsError *err)
{
    DpsLaunch l = cuda_launch_table (q);
    DpsKernel k = dps_kernel ("product", "dps_product_finish");
    dps_arg (&k, sum);
    dps_arg (&k, p->bias);
    dps_arg (&k, p->c);
    dps_arg (&k, p->y);
    dps_arg_i64 (&k, p->M);
    dps_arg_i64 (&k, p->N);
    dps_arg_i64 (&k, p->ldy);
    return dps_launch_flat (&l, &k, p->M * p->N, err);
}

/* cuBLASLt rounds alpha·sum + y once: right when y is all there is to add and has a dtype it writes from these operands. */
static int writes_y (const Matrices *p, uint32_t ab)
{
    int adds = !p->c || same_place (p->c, p->y);
    return !p->bias && adds && (p->y->dtype == DPS_DTYPE_F32 || (p->y->dtype == DPS_DTYPE_BF16 && ab == DPS_DTYPE_BF16));
}

static DpsStatus by_lt (struct DpsQueue *q, const Matrices *p, DpsError *err)
{
    uint32_t ab = p->a->dtype == DPS_DTYPE_BF16 && p->b->dtype == DPS_DTYPE_BF16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
    int direct = writes_y (p, ab);
    int64_t shapes[3] = {0, 0, p->M * p->N};
    DpsView a, b, sum;
    DpsLaunch l = cuda_launch_table (q);
    DPS_TRY (as_dtype (q, p->a, ab, DPS_SCRATCH_A, &shapes[0], &a, err));
    DPS_TRY (as_dtype (q, p->b, ab, DPS_SCRATCH_PANELS, &shapes[1], &b, err));
    if (!direct)
        DPS_TRY (dps_launch_temp (&l, CUDA_SLOT_SUM, DPS_DTYPE_F32, 1, &shapes[2], &sum, err));
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
    DPS_TRY (cuda_gemm_run (q, &lt, err));
    return direct ? DPS_OK : finish (q, p, &sum, err);
}

static DpsStatus multiply (struct DpsQueue *q, const Matrices *p, DpsError *err)
{
    DpsError why = DPS_ERROR_INIT;
    if (!p->M || !p->N)
        return DPS_OK;
    DpsStatus st = q->dev->gemm ? by_lt (q, p, &why) : DPS_ERR_UNSUPPORTED;
    if (st == DPS_ERR_UNSUPPORTED)
        return by_dialect (q, p, err);
    if (st != DPS_OK && err)
        dps_table_copy (err, sizeof *err, &why);
    return st;
}

static DpsView shifted (const DpsView *v, int64_t elements)
{
    DpsView s = *v;
    s.offset += (uint64_t)elements * dps_launch_bytes (v->dtype);
    return s;
}

enum { QUANTISED_ROWS = 4096 };

/* Rows [row, row + n) of a weight: a window, or the numbers of its codes in scratch. */
static DpsStatus weight_rows (struct DpsQueue *q, const DpsProduct *p, int64_t row, int64_t n, int64_t shape[2], DpsView *out,
                              DpsError *err)
{
    DpsLaunch l = cuda_launch_table (q);
    shape[0] = n;
    shape[1] = p->w->shape[1];
    if (!dps_launch_quantised (&l, p->w)) {
        *out = dps_launch_rows_view (p->w, row, n, shape);
        return DPS_OK;
    }
    const DpsView *like = p->orientation == DPS_PACK_FORWARD ? p->a : p->y;
    uint32_t dtype = like->dtype == DPS_DTYPE_BF16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
    DPS_TRY (dps_launch_temp (&l, DPS_SCRATCH_ROWS, dtype, 2, shape, out, err));
    return dps_launch_dequantise (&l, p->w, row, n, dtype == DPS_DTYPE_BF16, out, err);
}

static DpsStatus forward (struct DpsQueue *q, const DpsProduct *p, int64_t first, int64_t count, int64_t piece, DpsError *err)
{
    for (int64_t at = 0; at < count; at += piece) {
        int64_t n = count - at < piece ? count - at : piece, shape[2];
        DpsView w, y = shifted (p->y, at), bias = p->bias ? shifted (p->bias, first + at) : y, c = p->c ? shifted (p->c, at) : y;
        DPS_TRY (weight_rows (q, p, first + at, n, shape, &w, err));
        const Matrices m = {.a = p->a,
                            .b = &w,
                            .bias = p->bias ? &bias : NULL,
                            .c = p->c ? &c : NULL,
                            .y = &y,
                            .M = p->a->shape[0],
                            .N = n,
                            .K = p->w->shape[1],
                            .ldy = count,
                            .alpha = p->alpha};
        DPS_TRY (multiply (q, &m, err));
    }
    return DPS_OK;
}

static DpsStatus input_grad (struct DpsQueue *q, const DpsProduct *p, int64_t first, int64_t count, DpsError *err)
{
    int64_t shape[2];
    DpsView w;
    DPS_TRY (weight_rows (q, p, first, count, shape, &w, err));
    const Matrices m = {.a = p->a,
                        .b = &w,
                        .c = p->c,
                        .y = p->y,
                        .b_turned = 1,
                        .M = p->a->shape[0],
                        .N = p->w->shape[1],
                        .K = count,
                        .ldy = p->w->shape[1],
                        .alpha = p->alpha};
    return multiply (q, &m, err);
}

DpsStatus cuda_product (void *queue, const DpsProduct *p, DpsError *err)
{
    struct DpsQueue *q = queue;
    DpsLaunch l = cuda_launch_table (q);
    int64_t count = p->first || p->count ? p->count : p->w->shape[0];
    int64_t piece = dps_launch_quantised (&l, p->w) ? QUANTISED_ROWS : count;
    if (!dps_view_count (p->y))
        return DPS_OK;
    return p->orientation == DPS_PACK_FORWARD ? forward (q, p, p->first, count, piece, err) : input_grad (q, p, p->first, count, err);
}

/* One product a root: alpha times the sum over its rows alone, then added to dW. */
static DpsStatus add_roots (struct DpsQueue *q, const DpsView *dy, const DpsView *x, const int32_t *roots, int64_t n_roots, float alpha,
                            const DpsView *dw, DpsError *err)
{
    int64_t O = dw->shape[0], K = dw->shape[1];
    for (int64_t r = 0; r < n_roots; r++) {
        int64_t first = roots[r], n = roots[r + 1] - first, dy_shape[2], x_shape[2];
        if (first < 0 || n <= 0 || first + n > dy->shape[0])
            continue;
        DpsView a = dps_launch_rows_view (dy, first, n, dy_shape), b = dps_launch_rows_view (x, first, n, x_shape);
        const Matrices m = {
            .a = &a, .b = &b, .c = dw, .y = dw, .a_turned = 1, .b_turned = 1, .M = O, .N = K, .K = n, .ldy = K, .alpha = alpha};
        DPS_TRY (multiply (q, &m, err));
    }
    return DPS_OK;
}

DpsStatus cuda_outer (void *queue, const DpsView *dy, const DpsView *x, const DpsView *roots, float alpha, const DpsView *dw, DpsError *err)
{
    struct DpsQueue *q = queue;
    size_t n = (size_t)roots->shape[0];
    DpsLaunch l = cuda_launch_table (q);
    if (!dps_view_count (dw) || !dy->shape[0])
        return DPS_OK;
    int32_t *at = dps_malloc (n, sizeof *at);
    if (!at)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for %zu roots", q->dev->name, n);
    DpsStatus st = DPS_OK;
    if (roots->host)
        memcpy (at, roots->host, n * sizeof *at);
    else
        st = l.read (q, roots, at, n * sizeof *at, err);
    if (st == DPS_OK)
        st = add_roots (q, dy, x, at, (int64_t)n - 1, alpha, dw, err);
    dps_free (at);
    return st;
}
