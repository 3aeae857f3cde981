/* SPDX-License-Identifier: Apache-2.0 */
/*
 * product.c: every matrix product as rows times rows (matmul.cl): a·Wᵀ is that already; for a·W the weight is transposed first, for dyᵀ·x both.
 * Rows that are not f32 become it in scratch; a quantised weight becomes numbers, some rows at a time.
 */
#include "opencl.h"

#include <stdlib.h>
#include <string.h>

static const char *const family = "matmul";

enum {
    QUANT_ROWS = 1024,
    BLOCK_BYTES = 96 << 10 /* of rows that stay in the second-level cache */,
    COLUMN_BLOCK = 96,
    SHORT = 64,
    SHORT_ROWS = 64
};

typedef struct Nt {
    const DpsView *a, *w, *bias, *c, *y;
    int64_t lda, ldw, M, N, K, ldy;
    float alpha;
} Nt;

static DpsStatus transpose (struct DpsQueue *q, const DpsView *x, DpsView to, int64_t at, int64_t ld, DpsError *err);

static void add_ends (DpsKernel *k, const Nt *p)
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

/* A sum of a few terms: the weight, which is small, is turned, and the sums are vectors of columns. */
static DpsStatus run_short (struct DpsQueue *q, const Nt *p, DpsError *err)
{
    int64_t turned[2] = {p->K, p->N};
    DpsView w;
    DPS_TRY (dps_launch_temp (&q->launch, DPS_SCRATCH_PANELS, DPS_DTYPE_F32, 2, turned, &w, err));
    DPS_TRY (transpose (q, p->w, w, 0, p->N, err));
    DpsKernel k = dps_kernel (family, "dps_short");
    dps_arg_of (&k, p->a);
    dps_arg_i64 (&k, p->lda);
    dps_arg_of (&k, &w);
    add_ends (&k, p);
    dps_arg_i64 (&k, SHORT_ROWS);
    k.groups[0] = (p->N + 2 * q->dev->width - 1) / (2 * q->dev->width);
    k.groups[1] = (p->M + SHORT_ROWS - 1) / SHORT_ROWS;
    return dps_launch_grid (&q->launch, &k, err);
}

static DpsStatus run_nt (struct DpsQueue *q, const Nt *p, DpsError *err)
{
    DpsKernel k = dps_kernel (family, "dps_nt");
    dps_arg_of (&k, p->a);
    dps_arg_i64 (&k, p->lda);
    dps_arg (&k, p->w);
    dps_arg_i64 (&k, p->ldw);
    add_ends (&k, p);
    int64_t rows = BLOCK_BYTES / (4 * (p->K ? p->K : 1)) / 4 * 4;
    rows = rows < 8 ? 8 : rows > 64 ? 64 : rows;
    dps_arg_i64 (&k, rows);
    dps_arg_i64 (&k, COLUMN_BLOCK);
    k.groups[0] = (p->N + COLUMN_BLOCK - 1) / COLUMN_BLOCK;
    k.groups[1] = (p->M + rows - 1) / rows;
    return dps_launch_grid (&q->launch, &k, err);
}

/* v itself, or its numbers as f32 in scratch. */
static DpsStatus as_f32 (struct DpsQueue *q, const DpsView *v, uint32_t slot, DpsView *out, DpsError *err)
{
    *out = *v;
    if (v->dtype == DPS_DTYPE_F32)
        return DPS_OK;
    DPS_TRY (dps_launch_temp (&q->launch, slot, DPS_DTYPE_F32, v->rank, v->shape, out, err));
    DpsKernel k = dps_kernel ("elementwise", "dps_copy");
    dps_arg (&k, v);
    dps_arg (&k, out);
    dps_arg_i64 (&k, dps_view_count (v));
    return dps_launch_flat (&q->launch, &k, dps_view_count (v), err);
}

/* Column `at` on of to (cols, ld) f32 = x (rows, cols)ᵀ. */
static DpsStatus transpose (struct DpsQueue *q, const DpsView *x, DpsView to, int64_t at, int64_t ld, DpsError *err)
{
    int64_t rows = x->shape[0], cols = x->shape[1];
    DpsKernel k = dps_kernel (family, "dps_transpose");
    to.offset += 4 * (uint64_t)at;
    dps_arg (&k, x);
    dps_arg_of (&k, &to);
    dps_arg_i64 (&k, rows);
    dps_arg_i64 (&k, cols);
    dps_arg_i64 (&k, ld);
    k.groups[0] = (cols + 15) / 16;
    k.groups[1] = (rows + 15) / 16;
    return dps_launch_grid (&q->launch, &k, err);
}

/* Rows [row, row + n) of the weight: a window, or numbers in scratch. shape is the view's. */
static DpsStatus weight_rows (struct DpsQueue *q, const DpsProduct *p, int64_t row, int64_t n, int64_t shape[2], DpsView *out,
                              DpsError *err)
{
    shape[0] = n;
    shape[1] = p->w->shape[1];
    if (!dps_launch_quantised (&q->launch, p->w)) {
        *out = dps_launch_rows_view (p->w, row, n, shape);
        return DPS_OK;
    }
    const DpsView *like = p->orientation == DPS_PACK_FORWARD ? p->a : p->y;
    DPS_TRY (dps_launch_temp (&q->launch, DPS_SCRATCH_ROWS, DPS_DTYPE_F32, 2, shape, out, err));
    return dps_launch_dequantise (&q->launch, p->w, row, n, like->dtype == DPS_DTYPE_BF16, out, err);
}

static DpsView shifted (const DpsView *v, int64_t elements)
{
    DpsView s = *v;
    s.offset += (uint64_t)elements * dps_launch_bytes (v->dtype);
    return s;
}

static DpsStatus forward (struct DpsQueue *q, const DpsProduct *p, int64_t first, int64_t count, const DpsView *a, DpsError *err)
{
    int64_t K = p->w->shape[1], piece = dps_launch_quantised (&q->launch, p->w) ? QUANT_ROWS : count;
    for (int64_t at = 0; at < count; at += piece) {
        int64_t n = count - at < piece ? count - at : piece, shape[2];
        DpsView w, y = shifted (p->y, at), bias = p->bias ? shifted (p->bias, first + at) : y, c = p->c ? shifted (p->c, at) : y;
        DPS_TRY (weight_rows (q, p, first + at, n, shape, &w, err));
        const Nt nt = {.a = a,
                       .w = &w,
                       .bias = p->bias ? &bias : NULL,
                       .c = p->c ? &c : NULL,
                       .y = &y,
                       .lda = K,
                       .ldw = K,
                       .M = a->shape[0],
                       .N = n,
                       .K = K,
                       .ldy = count,
                       .alpha = p->alpha};
        DPS_TRY (K > 0 && K <= SHORT ? run_short (q, &nt, err) : run_nt (q, &nt, err));
    }
    return DPS_OK;
}

static DpsStatus input_grad (struct DpsQueue *q, const DpsProduct *p, int64_t first, int64_t count, const DpsView *a, DpsError *err)
{
    int64_t K = p->w->shape[1], turned[2] = {K, count}, piece = dps_launch_quantised (&q->launch, p->w) ? QUANT_ROWS : count;
    DpsView t;
    DPS_TRY (dps_launch_temp (&q->launch, DPS_SCRATCH_PANELS, DPS_DTYPE_F32, 2, turned, &t, err));
    for (int64_t at = 0; at < count; at += piece) {
        int64_t n = count - at < piece ? count - at : piece, shape[2];
        DpsView w;
        DPS_TRY (weight_rows (q, p, first + at, n, shape, &w, err));
        DPS_TRY (transpose (q, &w, t, at, count, err));
    }
    const Nt nt = {.a = a,
                   .w = &t,
                   .c = p->c,
                   .y = p->y,
                   .lda = count,
                   .ldw = count,
                   .M = a->shape[0],
                   .N = K,
                   .K = count,
                   .ldy = K,
                   .alpha = p->alpha};
    return run_nt (q, &nt, err);
}

DpsStatus opencl_product (void *ctx, const DpsProduct *p, DpsError *err)
{
    struct DpsQueue *q = ctx;
    int64_t count = p->first || p->count ? p->count : p->w->shape[0];
    DpsView a;
    if (dps_view_count (p->y) == 0)
        return DPS_OK;
    DPS_TRY (as_f32 (q, p->a, DPS_SCRATCH_A, &a, err));
    return p->orientation == DPS_PACK_FORWARD ? forward (q, p, p->first, count, &a, err) : input_grad (q, p, p->first, count, &a, err);
}

/* One partial a root: the sum over its rows alone, then added. */
static DpsStatus add_roots (struct DpsQueue *q, const DpsView *dy, const DpsView *x, const int32_t *roots, int64_t n_roots, float alpha,
                            const DpsView *dw, DpsError *err)
{
    int64_t N = dy->shape[1], O = dw->shape[0], K = dw->shape[1];
    for (int64_t r = 0; r < n_roots; r++) {
        int64_t first = roots[r], end = roots[r + 1] < N ? roots[r + 1] : N;
        if (first < 0 || first >= end)
            continue;
        DpsView a = shifted (dy, first), w = shifted (x, first);
        const Nt nt = {.a = &a, .w = &w, .c = dw, .y = dw, .lda = N, .ldw = N, .M = O, .N = K, .K = end - first, .ldy = K, .alpha = alpha};
        DPS_TRY (run_nt (q, &nt, err));
    }
    return DPS_OK;
}

DpsStatus opencl_outer (void *ctx, const DpsView *dy, const DpsView *x, const DpsView *roots, float alpha, const DpsView *dw, DpsError *err)
{
    struct DpsQueue *q = ctx;
    int64_t N = dy->shape[0], n = roots->shape[0], of_dy[2] = {dy->shape[1], N}, of_x[2] = {x->shape[1], N};
    DpsView a, w;
    if (dps_view_count (dw) == 0 || N == 0)
        return DPS_OK;
    int32_t *at = dps_malloc ((size_t)n, sizeof *at);
    DpsStatus st = at ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "opencl: out of memory");
    if (st == DPS_OK && roots->host)
        memcpy (at, roots->host, (size_t)n * sizeof *at);
    else if (st == DPS_OK)
        st = q->launch.read (q, roots, at, (uint64_t)n * sizeof *at, err);
    if (st == DPS_OK)
        st = dps_launch_temp (&q->launch, DPS_SCRATCH_A, DPS_DTYPE_F32, 2, of_dy, &a, err);
    if (st == DPS_OK)
        st = dps_launch_temp (&q->launch, DPS_SCRATCH_PANELS, DPS_DTYPE_F32, 2, of_x, &w, err);
    if (st == DPS_OK)
        st = transpose (q, dy, a, 0, N, err);
    if (st == DPS_OK)
        st = transpose (q, x, w, 0, N, err);
    if (st == DPS_OK)
        st = add_roots (q, &a, &w, at, n - 1, alpha, dw, err);
    dps_free (at);
    return st;
}
