/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outer.c: the gradient of a weight, C (M,N) += alpha·Aᵀ·B, root by root: each element's sum over a root's rows is made in order and then added, so
 * neither threads, nor the shape of a tile, nor the other roots of a call change a bit. A tile is held in registers: rows of C × vectors.
 */
#include "ops.h"

#ifdef __AVX512F__
enum { TALL = 16, ROWS = 8, VECTORS = 3 };
#else
enum { TALL = 8, ROWS = 4, VECTORS = 3 };
#endif

/* rows × vectors of C at (m, n); both are constants where this is inlined. */
INLINE void tile (const CpuOuter *p, int64_t m, int64_t n, const int rows, const int vectors)
{
    for (int64_t i = 0; i < p->n_roots; i++) {
        vf acc[TALL][VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                acc[r][v] = splat (0);
        for (int64_t k = p->roots[i]; k < p->roots[i + 1]; k++) {
            const float *a = p->a + k * p->lda + m, *b = p->b + k * p->ldb + n;
            vf x[VECTORS];
            for (int v = 0; v < vectors; v++)
                x[v] = load_f32 (b + v * LANES);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++)
                    acc[r][v] += splat (a[r]) * x[v];
        }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) {
                float *c = p->c + (m + r) * p->ldc + n + v * LANES;
                store_f32 (c, load_f32 (c) + acc[r][v] * splat (p->alpha));
            }
    }
}

/* Less than a vector of columns, one row. */
static void narrow (const CpuOuter *p, int64_t m, int64_t n, int64_t columns)
{
    for (int64_t i = 0; i < p->n_roots; i++) {
        vf acc = splat (0);
        for (int64_t k = p->roots[i]; k < p->roots[i + 1]; k++)
            acc += splat (p->a[k * p->lda + m]) * load_n (p->b, k * p->ldb + n, 0, columns);
        float *c = p->c + m * p->ldc + n;
        store_n (c, 0, 0, load_n (c, 0, 0, columns) + acc * splat (p->alpha), columns);
    }
}

static void wide_tile (const CpuOuter *p, int64_t m, int64_t n) { tile (p, m, n, ROWS, VECTORS); }
static void tall_tile (const CpuOuter *p, int64_t m, int64_t n) { tile (p, m, n, TALL, 1); }
static void row_tile (const CpuOuter *p, int64_t m, int64_t n) { tile (p, m, n, 1, 1); }

/* Rows [m, m + rows) and columns [n, n + columns), columns at most VECTORS vectors. */
static void block (const CpuOuter *p, int64_t m, int64_t rows, int64_t n, int64_t columns)
{
    int64_t end = m + rows;
    if (columns == VECTORS * LANES)
        for (; end - m >= ROWS; m += ROWS)
            wide_tile (p, m, n);
    for (int64_t at = n; at < n + columns; at += LANES) {
        int64_t left = n + columns - at, row = m;
        for (; left >= LANES && end - row >= TALL; row += TALL)
            tall_tile (p, row, at);
        for (; row < end; row++)
            if (left >= LANES)
                row_tile (p, row, at);
            else
                narrow (p, row, at, left);
    }
}

void ISA_NAME (cpu_outer_run) (const CpuOuter *p)
{
    int64_t width = VECTORS * LANES, down = (p->M + TALL - 1) / TALL, across = (p->N + width - 1) / width,
            terms = p->roots[p->n_roots] - p->roots[0];
    PARALLEL_FOR (i, down * across, p->M * p->N * terms / 16)
    {
        int64_t m = i / across * TALL, n = i % across * width;
        block (p, m, p->M - m < TALL ? p->M - m : TALL, n, p->N - n < width ? p->N - n : width);
    }
}
