/* SPDX-License-Identifier: Apache-2.0 */
/*
 * matmul.c: linear, linear_dx, linear_dw: products by product.h. Both factors of a product have one dtype: that of the weight (bf16 or f32);
 * an activation of another dtype is converted into scratch first. A quantised weight is packed in the dtype of x (dx) for each call.
 *
 * Small products run on one thread; what a product does is fixed by its shape, never by the threads there are.
 */
#include <string.h>

#include "pack.h"

/* What a product is in: the weight's dtype; with a quantised one that of x (dx). */
static uint32_t product_dtype (const DpsView *x, const DpsView *w) { return cpu_is_quantised (w) ? x->dtype : w->dtype; }

/* x in `dtype`: itself, or a copy in scratch. */
static const void *in_dtype (const DpsView *x, uint32_t dtype, int slot)
{
    if (x->dtype == dtype)
        return x->host;
    void *copy = cpu_scratch (slot, (uint64_t)cpu_count (x) * (dtype == DPS_DTYPE_BF16 ? 2 : 4));
    if (copy)
        cpu_machine ()->vector->convert (x->host, x->dtype, copy, dtype, cpu_count (x));
    return copy;
}

static DpsStatus no_memory (CpuCall *c) { return dps_fail (c->err, DPS_ERR_NOMEM, "cpu: out of memory for %s", c->name); }

static float alpha_of (const CpuCall *c) { return cpu_f (c, 0) != 0 ? (float)cpu_f (c, 0) : 1; }

DpsStatus cpu_linear (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *w = cpu_in (c, 1), *y = cpu_out (c, 0);
    int64_t I = w->shape[1], O = w->shape[0];
    uint32_t dtype = product_dtype (x, w);
    CpuPanels panels;
    const void *b, *a = in_dtype (x, dtype, CPU_SLOT_A);
    if (!a)
        return no_memory (c);
    DPS_TRY (cpu_packed (w, DPS_PACK_FORWARD, dtype, &b, c->err));
    DPS_TRY (cpu_forward_panels (O, I, dtype, 0, &panels, c->err));
    const CpuProduct p = {.M = cpu_rows (x),
                          .N = O,
                          .K = I,
                          .lda = I,
                          .ld = O,
                          .panel = cpu_forward_panel (O),
                          .dtype = dtype,
                          .alpha = alpha_of (c),
                          .a = a,
                          .b = b,
                          .panel_bytes = panels.panel_bytes,
                          .bias = cpu_in (c, 2),
                          .c = cpu_in (c, 3),
                          .y = y};
    return cpu_product (&p, c->err);
}

DpsStatus cpu_linear_dx (CpuCall *c)
{
    const DpsView *dy = cpu_in (c, 0), *w = cpu_in (c, 1), *dx = cpu_out (c, 0);
    int64_t I = w->shape[1], O = w->shape[0], rows = cpu_block_rows (O);
    uint32_t dtype = product_dtype (dx, w);
    const void *b, *a = in_dtype (dy, dtype, CPU_SLOT_A);
    if (!a)
        return no_memory (c);
    DPS_TRY (cpu_packed (w, DPS_PACK_INPUT_GRAD, dtype, &b, c->err));
    for (int64_t first = 0; first < O; first += rows) {
        CpuPanels panels;
        DPS_TRY (cpu_grad_panels (O, I, dtype, first, &panels, c->err));
        const CpuProduct p = {.M = cpu_rows (dy),
                              .N = I,
                              .K = O - first < rows ? O - first : rows,
                              .lda = O,
                              .ld = I,
                              .panel = cpu_grad_panel (O, I),
                              .dtype = dtype,
                              .alpha = alpha_of (c),
                              .a = (const char *)a + (uint64_t)first * (dtype == DPS_DTYPE_BF16 ? 2 : 4),
                              .b = (const char *)b + panels.base,
                              .panel_bytes = panels.panel_bytes,
                              .c = first ? dx : cpu_in (c, 2),
                              .y = dx};
        DPS_TRY (cpu_product (&p, c->err));
    }
    return DPS_OK;
}

DpsStatus cpu_linear_dw (CpuCall *c)
{
    const DpsView *dy = cpu_in (c, 0), *x = cpu_in (c, 1), *roots = cpu_in (c, 2), *dw = cpu_out (c, 0);
    int64_t O = dw->shape[0], I = dw->shape[1];
    const CpuOuter p = {.M = O,
                        .N = I,
                        .lda = O,
                        .ldb = I,
                        .ldc = I,
                        .roots = roots->host,
                        .n_roots = roots->shape[0] - 1,
                        .alpha = alpha_of (c),
                        .a = in_dtype (dy, DPS_DTYPE_F32, CPU_SLOT_A),
                        .b = in_dtype (x, DPS_DTYPE_F32, CPU_SLOT_B),
                        .c = dw->host};
    if (!p.a || !p.b)
        return no_memory (c);
    if (p.n_roots > 0)
        cpu_machine ()->vector->outer (&p);
    return DPS_OK;
}
