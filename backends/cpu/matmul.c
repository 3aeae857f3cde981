/* SPDX-License-Identifier: Apache-2.0 */
/*
 * matmul.c: linear, linear_dx, linear_dw: products by oneDNN. Both factors of a product have one dtype: that of the weight (bf16 or f32);
 * an activation of another dtype is converted into scratch first.
 *
 * Small products run on one thread; what a product does is fixed by its shape, never by the threads there are.
 */
#include <string.h>

#include "pack.h"

/* Products of less than this many multiply-adds run serially: a parallel region costs more, and with a busy neighbour much more. */
static const double SERIAL_MADDS = 4e6;

/* x in `dtype`: itself, or a copy in scratch. */
static const void *in_dtype (const DpsView *x, uint32_t dtype, int slot)
{
    if (x->dtype == dtype)
        return x->host;
    void *copy = cpu_scratch (slot, (uint64_t) cpu_count (x) * (dtype == DPS_DTYPE_BF16 ? 2 : 4));
    if (copy)
        cpu_machine ()->vector->convert (x->host, x->dtype, copy, dtype, cpu_count (x));
    return copy;
}

static DpsStatus no_memory (CpuCall *c) { return dps_fail (c->err, DPS_ERR_NOMEM, "cpu: out of memory for %s", c->name); }

/* The dtype a product with this weight computes in. */
static uint32_t product_dtype (const DpsView *w) { return w->dtype == DPS_DTYPE_BF16 && cpu_machine ()->has_bf16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32; }

/* y = c where given: products then add to it. */
static int start_with (const DpsView *c, const DpsView *y)
{
    if (!c)
        return 0;
    if (c->host != y->host)
        cpu_machine ()->vector->convert (c->host, c->dtype, y->host, y->dtype, cpu_count (y));
    return 1;
}

static void add_bias (const DpsView *bias, const DpsView *y)
{
    int64_t O = cpu_cols (y);
    for (int64_t n = 0; n < cpu_rows (y); n++)
        for (int64_t o = 0; o < O; o++) {
            float b, v;
            if (bias->dtype == DPS_DTYPE_F32)
                b = ((const float *) bias->host)[o];
            else
                cpu_machine ()->vector->convert ((const uint16_t *) bias->host + o, DPS_DTYPE_BF16, &b, DPS_DTYPE_F32, 1);
            if (y->dtype == DPS_DTYPE_F32) {
                ((float *) y->host)[n * O + o] += b;
                continue;
            }
            uint16_t *at = (uint16_t *) y->host + n * O + o;
            cpu_machine ()->vector->convert (at, DPS_DTYPE_BF16, &v, DPS_DTYPE_F32, 1);
            v += b;
            cpu_machine ()->vector->convert (&v, DPS_DTYPE_F32, at, DPS_DTYPE_BF16, 1);
        }
}

static char *element (const DpsView *v, int64_t i) { return (char *) v->host + (uint64_t) i * (v->dtype == DPS_DTYPE_BF16 ? 2 : 4); }

DpsStatus cpu_linear (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *w = cpu_in (c, 1), *bias = cpu_in (c, 2), *y = cpu_out (c, 0);
    int64_t N = cpu_rows (x), K = w->shape[1], O = w->shape[0];
    uint32_t dtype = product_dtype (w);
    const void *a = in_dtype (x, dtype, CPU_SLOT_A), *b = cpu_is_packed (w) ? w->host : in_dtype (w, dtype, CPU_SLOT_B);
    int adds = start_with (cpu_in (c, 3), y);
    if (!a || !b)
        return no_memory (c);
    if (K == 0 && !adds)
        memset (y->host, 0, (size_t) cpu_count (y) * (y->dtype == DPS_DTYPE_BF16 ? 2 : 4));
    DnnlProduct p = {.M = N, .K = K, .lda = K, .ldb = K, .ldc = O, .trans_b = 1, .accumulate = (uint8_t) adds, .dtype = dtype, .c_dtype = y->dtype};
    p.alpha = cpu_f (c, 0) != 0 ? (float) cpu_f (c, 0) : 1;
    p.packed_b = (uint8_t) cpu_is_packed (w);
    for (int64_t chunk = 0; K > 0 && chunk * CPU_ROWS_CHUNK < O; chunk++) {
        const void *from = b;
        int64_t first = 0;
        p.N = O;
        if (p.packed_b) {
            CpuChunk k;
            DPS_TRY (cpu_chunk_at (O, K, dtype, DPS_PACK_FORWARD, chunk, &k, c->err));
            p.N = k.n;
            first = k.first;
            from = (const char *) b + k.offset;
        }
        p.serial = (double) N * (double) p.N * (double) K < SERIAL_MADDS;
        DPS_TRY (dnnl_product (&p, a, from, element (y, first), c->err));
        if (!p.packed_b)
            break;
    }
    if (bias)
        add_bias (bias, y);
    return DPS_OK;
}

DpsStatus cpu_linear_dx (CpuCall *c)
{
    const DpsView *dy = cpu_in (c, 0), *w = cpu_in (c, 1), *dx = cpu_out (c, 0);
    int64_t N = cpu_rows (dy), K = w->shape[1], O = w->shape[0];
    uint32_t dtype = product_dtype (w);
    const void *a = in_dtype (dy, dtype, CPU_SLOT_A), *b = cpu_is_packed (w) ? w->host : in_dtype (w, dtype, CPU_SLOT_B);
    int adds = start_with (cpu_in (c, 2), dx);
    if (!a || !b)
        return no_memory (c);
    DnnlProduct p = {.M = N, .N = K, .K = O, .lda = O, .ldb = K, .ldc = K, .dtype = dtype, .c_dtype = dx->dtype};
    p.alpha = cpu_f (c, 0) != 0 ? (float) cpu_f (c, 0) : 1;
    p.packed_b = (uint8_t) cpu_is_packed (w);
    for (int64_t chunk = 0; chunk * CPU_ROWS_CHUNK < O; chunk++) {
        const char *at = a, *from = b;
        p.accumulate = (uint8_t) (adds || chunk > 0);
        if (p.packed_b) {
            CpuChunk k;
            DPS_TRY (cpu_chunk_at (O, K, dtype, DPS_PACK_INPUT_GRAD, chunk, &k, c->err));
            p.K = k.n;
            at += (uint64_t) k.first * (dtype == DPS_DTYPE_BF16 ? 2 : 4);
            from += k.offset;
        }
        p.serial = (double) N * (double) p.N * (double) p.K < SERIAL_MADDS;
        DPS_TRY (dnnl_product (&p, at, from, dx->host, c->err));
        if (!p.packed_b)
            break;
    }
    return DPS_OK;
}

DpsStatus cpu_linear_dw (CpuCall *c)
{
    const DpsView *dy = cpu_in (c, 0), *x = cpu_in (c, 1), *roots = cpu_in (c, 2), *dw = cpu_out (c, 0);
    int64_t O = dw->shape[0], K = dw->shape[1];
    uint32_t dtype = dy->dtype == DPS_DTYPE_BF16 && x->dtype == DPS_DTYPE_BF16 && cpu_machine ()->has_bf16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
    const void *a = in_dtype (dy, dtype, CPU_SLOT_A), *b = in_dtype (x, dtype, CPU_SLOT_B);
    if (!a || !b)
        return no_memory (c);
    const int32_t *at = roots->host;
    uint64_t size = dtype == DPS_DTYPE_BF16 ? 2 : 4;
    DnnlProduct p = {.M = O, .N = K, .lda = O, .ldb = K, .ldc = K, .trans_a = 1, .accumulate = 1, .dtype = dtype, .c_dtype = DPS_DTYPE_F32};
    p.alpha = cpu_f (c, 0) != 0 ? (float) cpu_f (c, 0) : 1;
    for (int64_t r = 0; r + 1 < roots->shape[0]; r++) {
        p.K = at[r + 1] - at[r];
        if (p.K <= 0)
            continue;
        p.serial = (double) O * (double) K * (double) p.K < SERIAL_MADDS;
        DPS_TRY (dnnl_product (&p, (const char *) a + (uint64_t) (at[r] * O) * size, (const char *) b + (uint64_t) (at[r] * K) * size, dw->host, c->err));
    }
    return DPS_OK;
}
