/* SPDX-License-Identifier: Apache-2.0 */
/* elementwise.c: fill, copy, add, mul, div, softcap, by columns and by rows. */
#include "ops.h"

DpsStatus ISA_NAME (cpu_fill) (CpuCall *c)
{
    const DpsView *y = cpu_out (c, 0);
    vf v = splat ((float)cpu_f (c, 0));
    EACH_VECTOR (cpu_count (y), 1, store_n (y->host, i, IS_BF (y), v, n););
    return DPS_OK;
}

void ISA_NAME (cpu_convert) (const void *src, uint32_t from, void *dst, uint32_t to, int64_t total)
{
    int a = from == DPS_DTYPE_BF16, b = to == DPS_DTYPE_BF16;
    if (a == b) {
        memmove (dst, src, (size_t)total * (a ? 2 : 4));
        return;
    }
    EACH_VECTOR (total, 1, store_n (dst, i, b, load_n (src, i, a, n), n););
}

void ISA_NAME (cpu_scale) (const void *src, uint32_t from, void *dst, uint32_t to, double alpha, int64_t total)
{
    vf k = splat ((float)alpha);
    EACH_VECTOR (total, 1, store_n (dst, i, to == DPS_DTYPE_BF16, load_n (src, i, from == DPS_DTYPE_BF16, n) * k, n););
}

DpsStatus ISA_NAME (cpu_copy) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *y = cpu_out (c, 0);
    ISA_NAME (cpu_convert) (x->host, x->dtype, y->host, y->dtype, cpu_count (y));
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_add) (CpuCall *c)
{
    const DpsView *a = cpu_in (c, 0), *b = cpu_in (c, 1), *y = cpu_out (c, 0);
    float alpha = (float)cpu_f (c, 0), beta = (float)cpu_f (c, 1);
    if (alpha == 0 && beta == 0)
        alpha = beta = 1;
    vf ka = splat (alpha), kb = splat (beta);
    EACH_VECTOR (cpu_count (y), 1,
                 store_n (y->host, i, IS_BF (y), ka * load_n (a->host, i, IS_BF (a), n) + kb * load_n (b->host, i, IS_BF (b), n), n););
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_mul) (CpuCall *c)
{
    const DpsView *a = cpu_in (c, 0), *b = cpu_in (c, 1), *y = cpu_out (c, 0);
    EACH_VECTOR (cpu_count (y), 1,
                 store_n (y->host, i, IS_BF (y), load_n (a->host, i, IS_BF (a), n) * load_n (b->host, i, IS_BF (b), n), n););
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_div) (CpuCall *c)
{
    const DpsView *a = cpu_in (c, 0), *b = cpu_in (c, 1), *y = cpu_out (c, 0);
    EACH_VECTOR (cpu_count (y), 1, {
        vf d = load_n (b->host, i, IS_BF (b), n);
        for (int64_t k = n; k < LANES; k++)
            d[k] = 1;
        store_n (y->host, i, IS_BF (y), load_n (a->host, i, IS_BF (a), n) / d, n);
    });
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_softcap) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *y = cpu_out (c, 0);
    vf cap = splat ((float)cpu_f (c, 0));
    EACH_VECTOR (cpu_count (y), 1, store_n (y->host, i, IS_BF (y), cap * vtanh (load_n (x->host, i, IS_BF (x), n) / cap), n););
    return DPS_OK;
}

/* Row by row: y[n,d] = x[n,d] ∘ v[d]. */
#define BY_COLS(name, expression)                                                                                                          \
    DpsStatus ISA_NAME (name) (CpuCall * c)                                                                                                \
    {                                                                                                                                      \
        const DpsView *x = cpu_in (c, 0), *v = cpu_in (c, 1), *y = cpu_out (c, 0);                                                         \
        int64_t N = cpu_rows (x), D = cpu_cols (x);                                                                                        \
        PARALLEL_FOR (row, N, N *D) for (int64_t d = 0; d < D; d += LANES)                                                                 \
        {                                                                                                                                  \
            int64_t n = D - d < LANES ? D - d : LANES, i = row * D + d;                                                                    \
            vf a = load_n (x->host, i, IS_BF (x), n), b = load_n (v->host, d, IS_BF (v), n);                                               \
            store_n (y->host, i, IS_BF (y), expression, n);                                                                                \
        }                                                                                                                                  \
        return DPS_OK;                                                                                                                     \
    }
BY_COLS (cpu_mul_cols, a *b)
BY_COLS (cpu_add_cols, a + b)

DpsStatus ISA_NAME (cpu_scale_rows) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *v = cpu_in (c, 1), *y = cpu_out (c, 0);
    int64_t N = cpu_rows (x), D = cpu_cols (x);
    PARALLEL_FOR (row, N, N * D)
    {
        vf k = splat (((const float *)v->host)[row]);
        for (int64_t d = 0; d < D; d += LANES) {
            int64_t n = D - d < LANES ? D - d : LANES, i = row * D + d;
            store_n (y->host, i, IS_BF (y), load_n (x->host, i, IS_BF (x), n) * k, n);
        }
    }
    return DPS_OK;
}

/* Column chunks in parallel; within one, rows in order, one partial per root. mul: Σ x·dy, else Σ dy. */
static void column_sums (const DpsView *x, const DpsView *dy, const DpsView *roots, const DpsView *out)
{
    int64_t D = cpu_cols (dy), N = cpu_rows (dy), chunks = (D + LANES - 1) / LANES;
    const int32_t *at = roots->host;
    PARALLEL_FOR (chunk, chunks, N * D)
    {
        int64_t d = chunk * LANES, n = D - d < LANES ? D - d : LANES;
        vf total = load_n (out->host, d, 0, n);
        for (int64_t r = 0; r + 1 < roots->shape[0]; r++) {
            vf partial = splat (0);
            for (int64_t row = at[r]; row < at[r + 1]; row++) {
                vf g = load_n (dy->host, row * D + d, IS_BF (dy), n);
                partial += x ? g * load_n (x->host, row * D + d, IS_BF (x), n) : g;
            }
            total += partial;
        }
        store_n (out->host, d, 0, total, n);
    }
}

DpsStatus ISA_NAME (cpu_mul_cols_dv) (CpuCall *c)
{
    column_sums (cpu_in (c, 0), cpu_in (c, 1), cpu_in (c, 2), cpu_out (c, 0));
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_bias_db) (CpuCall *c)
{
    column_sums (NULL, cpu_in (c, 0), cpu_in (c, 1), cpu_out (c, 0));
    return DPS_OK;
}
