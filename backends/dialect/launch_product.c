/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch_product.c: which matrices are multiplied for a product with a weight, forward, for its input's gradient and for its own, one product a root;
 * a quantised weight becomes numbers, some rows at a time. Who multiplies is the backend's choice; dps_launch_multiply, in tiles, is right everywhere.
 * Where a backend multiplies codes, an INT8 weight stays as it is and the input becomes codes too, which loses some of its precision.
 */
#include <string.h>

#include "launch.h"

enum { TILE = 64, SIDE = 16, QUANTISED_ROWS = 2048, MOST_CODES = 1 << 17 /* a sum of so many products of codes is an i32 */ };

int dps_launch_tiles (const DpsLaunch *l) { return l->lanes > 1 && l->most_local >= SIDE * SIDE; }

DpsStatus dps_launch_multiply (const DpsLaunch *l, const DpsMatrices *p, DpsError *err)
{
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
    k.groups[0] = (p->N + TILE - 1) / TILE;
    k.groups[1] = (p->M + TILE - 1) / TILE;
    k.local[0] = k.local[1] = SIDE;
    return dps_launch_grid (l, &k, err);
}

DpsStatus dps_launch_as_dtype (const DpsLaunch *l, const DpsView *v, uint32_t dtype, uint32_t slot, int64_t *shape, DpsView *out,
                               DpsError *err)
{
    *out = *v;
    if (v->dtype == dtype)
        return DPS_OK;
    *shape = dps_view_count (v);
    DPS_TRY (dps_launch_temp (l, slot, dtype, 1, shape, out, err));
    DpsKernel k = dps_kernel ("elementwise", "dps_copy");
    dps_arg (&k, v);
    dps_arg (&k, out);
    dps_arg_i64 (&k, *shape);
    return dps_launch_flat (l, &k, *shape, err);
}

int dps_launch_adds_to_y (const DpsMatrices *m)
{
    return !m->bias && (!m->c || (m->c->buffer == m->y->buffer && m->c->offset == m->y->offset));
}

/* A kernel that ends a product: what it takes of m comes last. */
static DpsStatus finish (const DpsLaunch *l, const DpsMatrices *m, DpsKernel *k, DpsError *err)
{
    dps_arg (k, m->bias);
    dps_arg (k, m->c);
    dps_arg (k, m->y);
    dps_arg_i64 (k, m->M);
    dps_arg_i64 (k, m->N);
    dps_arg_i64 (k, m->ldy);
    return dps_launch_flat (l, k, m->M * m->N, err);
}

DpsStatus dps_launch_finish (const DpsLaunch *l, const DpsMatrices *m, const DpsView *sum, DpsError *err)
{
    DpsKernel k = dps_kernel ("product", "dps_product_finish");
    dps_arg (&k, sum);
    return finish (l, m, &k, err);
}

static DpsView shifted (const DpsView *v, int64_t elements)
{
    DpsView s = *v;
    s.offset += (uint64_t)elements * dps_launch_bytes (v->dtype);
    return s;
}

/* Rows [row, row + n) of the weight: a window, or the numbers of its codes in scratch. */
static DpsStatus weight_rows (const DpsLaunch *l, const DpsProduct *p, int64_t row, int64_t n, int64_t shape[2], DpsView *out,
                              DpsError *err)
{
    shape[0] = n;
    shape[1] = p->w->shape[1];
    if (!dps_launch_quantised (l, p->w)) {
        *out = dps_launch_rows_view (p->w, row, n, shape);
        return DPS_OK;
    }
    const DpsView *like = p->orientation == DPS_PACK_FORWARD ? p->a : p->y;
    uint32_t dtype = like->dtype == DPS_DTYPE_BF16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
    DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_ROWS, dtype, 2, shape, out, err));
    return dps_launch_dequantise (l, p->w, row, n, dtype == DPS_DTYPE_BF16, out, err);
}

/* The input of a product as codes. */
typedef struct Codes {
    DpsView codes, scales;
    int64_t shape[2];
} Codes;

static int takes_codes (const DpsLaunch *l, const DpsProduct *p, int64_t count)
{
    int64_t k = p->w->shape[1];
    return p->by_codes && l->multiply_codes && dps_quant_find (l->quants, p->w->dtype) == DPS_QUANT_INT8 && k > 0 && k % 4 == 0 &&
           count % 4 == 0 && k <= MOST_CODES;
}

static DpsStatus encode (const DpsLaunch *l, const DpsView *a, Codes *out, DpsError *err)
{
    out->shape[0] = a->shape[0];
    out->shape[1] = a->shape[1];
    DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP, DPS_DTYPE_I8, 2, out->shape, &out->codes, err));
    DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP2, DPS_DTYPE_F32, 1, out->shape, &out->scales, err));
    DpsKernel k = dps_kernel ("product", "dps_product_encode");
    dps_arg (&k, a);
    dps_arg_of (&k, &out->codes);
    dps_arg_of (&k, &out->scales);
    dps_arg_i64 (&k, a->shape[1]);
    return dps_launch_rows_of (l, &k, a->shape[0], err);
}

/* m without its b: that is rows [row, row + m->N) of the weight. */
static DpsStatus multiply_codes (const DpsLaunch *l, const DpsMatrices *m, const Codes *a, const DpsView *w, int64_t row, DpsError *err)
{
    int64_t b_shape[2] = {m->N, m->K}, sum_shape[2] = {m->M, m->N};
    DpsView b = *w, sum;
    b.dtype = DPS_DTYPE_I8;
    b.shape = b_shape;
    b.offset += (uint64_t)(row * m->K);
    DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_SUM, DPS_DTYPE_I32, 2, sum_shape, &sum, err));
    DPS_TRY (l->multiply_codes (l, &a->codes, &b, &sum, err));
    DpsKernel k = dps_kernel ("product", "dps_product_rescale");
    dps_arg_of (&k, &sum);
    dps_arg_of (&k, &a->scales);
    dps_arg_part (&k, l, w, DPS_QPART_SCALES, 4);
    dps_arg_i64 (&k, row);
    dps_arg_f32 (&k, (double)m->alpha);
    return finish (l, m, &k, err);
}

/* m without its b, as above: by codes where there are some of its input, and such a product; else by numbers. */
static DpsStatus multiply_rows (const DpsLaunch *l, const DpsProduct *p, const DpsMatrices *m, const Codes *codes, int64_t row,
                                DpsError *err)
{
    int64_t shape[2];
    DpsView w;
    DpsError why = DPS_ERROR_INIT;
    DpsStatus st = codes ? multiply_codes (l, m, codes, p->w, row, &why) : DPS_ERR_UNSUPPORTED;
    if (st != DPS_OK && st != DPS_ERR_UNSUPPORTED && err)
        dps_table_copy (err, sizeof *err, &why);
    if (st != DPS_ERR_UNSUPPORTED)
        return st;
    DPS_TRY (weight_rows (l, p, row, m->N, shape, &w, err));
    DpsMatrices numbers = *m;
    numbers.b = &w;
    return l->multiply (l, &numbers, err);
}

static DpsStatus forward (const DpsLaunch *l, const DpsProduct *p, int64_t count, DpsError *err)
{
    int64_t piece = dps_launch_quantised (l, p->w) ? QUANTISED_ROWS : count;
    Codes codes;
    int coded = takes_codes (l, p, count);
    if (coded)
        DPS_TRY (encode (l, p->a, &codes, err));
    for (int64_t at = 0; at < count; at += piece) {
        DpsView y = shifted (p->y, at), bias = p->bias ? shifted (p->bias, p->first + at) : y, c = p->c ? shifted (p->c, at) : y;
        const DpsMatrices m = {.a = p->a,
                               .bias = p->bias ? &bias : NULL,
                               .c = p->c ? &c : NULL,
                               .y = &y,
                               .M = p->a->shape[0],
                               .N = count - at < piece ? count - at : piece,
                               .K = p->w->shape[1],
                               .ldy = count,
                               .alpha = p->alpha};
        DPS_TRY (multiply_rows (l, p, &m, coded ? &codes : NULL, p->first + at, err));
    }
    return DPS_OK;
}

static DpsStatus input_grad (const DpsLaunch *l, const DpsProduct *p, int64_t count, DpsError *err)
{
    int64_t shape[2];
    DpsView w;
    DPS_TRY (weight_rows (l, p, p->first, count, shape, &w, err));
    const DpsMatrices m = {.a = p->a,
                           .b = &w,
                           .c = p->c,
                           .y = p->y,
                           .b_turned = 1,
                           .M = p->a->shape[0],
                           .N = p->w->shape[1],
                           .K = count,
                           .ldy = p->w->shape[1],
                           .alpha = p->alpha};
    return l->multiply (l, &m, err);
}

DpsStatus dps_launch_product (const DpsLaunch *l, const DpsProduct *p, DpsError *err)
{
    int64_t count = p->first || p->count ? p->count : p->w->shape[0];
    if (!dps_view_count (p->y))
        return DPS_OK;
    return p->orientation == DPS_PACK_FORWARD ? forward (l, p, count, err) : input_grad (l, p, count, err);
}

/* alpha times the sum over the rows of one root alone, then added. */
static DpsStatus add_root (const DpsLaunch *l, const DpsOuter *o, int64_t first, int64_t n, DpsError *err)
{
    int64_t dy_shape[2], x_shape[2];
    DpsView a = dps_launch_rows_view (o->dy, first, n, dy_shape), b = dps_launch_rows_view (o->x, first, n, x_shape);
    const DpsMatrices m = {.a = &a,
                           .b = &b,
                           .c = o->dw,
                           .y = o->dw,
                           .a_turned = 1,
                           .b_turned = 1,
                           .M = o->dw->shape[0],
                           .N = o->dw->shape[1],
                           .K = n,
                           .ldy = o->dw->shape[1],
                           .alpha = o->alpha};
    return l->multiply (l, &m, err);
}

DpsStatus dps_launch_outer (const DpsLaunch *l, const DpsOuter *o, DpsError *err)
{
    size_t n = (size_t)o->roots->shape[0];
    if (!dps_view_count (o->dw) || !o->dy->shape[0])
        return DPS_OK;
    int32_t *at = dps_malloc (n, sizeof *at);
    DpsStatus st = at ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for %zu roots", l->who, n);
    if (st == DPS_OK && o->roots->host)
        memcpy (at, o->roots->host, n * sizeof *at);
    else if (st == DPS_OK)
        st = l->read (l->ctx, o->roots, at, n * sizeof *at, err);
    for (size_t r = 0; st == DPS_OK && r + 1 < n; r++)
        if (at[r] >= 0 && at[r] < at[r + 1] && at[r + 1] <= o->dy->shape[0])
            st = add_root (l, o, at[r], at[r + 1] - at[r], err);
    dps_free (at);
    return st;
}
