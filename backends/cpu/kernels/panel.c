/* SPDX-License-Identifier: Apache-2.0 */
/*
 * panel.c: C (M,n) = A·B for one packed panel, where oneDNN has no product whose rows are independent of their number (product.c). B lies in strips
 * of 16 columns, K rows each, zeros behind the last column. A tile of C stays in registers over DEPTH rows of a strip, which stay in the first
 * cache over all rows of A. Each element of C is one chain of multiply-adds over k, whatever tile it falls into.
 */
#include "ops.h"

enum { STRIP = 16, VECTORS = STRIP / LANES, DEPTH = 256 };
#if defined(__AVX512F__)
enum { ROWS = 12, FEW_STRIPS = 4 };
#elif defined(__AVX2__)
enum { ROWS = 6, FEW_STRIPS = 4 };
#else
enum { ROWS = 3, FEW_STRIPS = 2 };
#endif

/* C as a tile sees it: the panel's, or a copy of its last columns. */
typedef struct Corner {
    float *c;
    int64_t ld;
} Corner;

/* rows × strips from (row, strip), k from first to last: constants where this is inlined, but for the place. */
INLINE void tile (const CpuPanelProduct *p, Corner at, int64_t row, int64_t strip, int64_t first, int64_t last, const int rows,
                  const int strips, const int bf)
{
    vf acc[ROWS][FEW_STRIPS * VECTORS];
    const int n = strips * VECTORS;
    const float *a = (const float *)p->a + row * p->lda;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < n; v++)
            acc[r][v] = first ? load_f32 (at.c + r * at.ld + v * LANES) : splat (0);
    for (int64_t k = first; k < last; k++) {
        vf x[FEW_STRIPS * VECTORS];
        for (int v = 0; v < n; v++)
            x[v] = load (p->b, ((strip + v / VECTORS) * p->K + k) * STRIP + v % VECTORS * LANES, bf);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < n; v++)
                acc[r][v] += splat (a[r * p->lda + k]) * x[v];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < n; v++)
            store_f32 (at.c + r * at.ld + v * LANES, acc[r][v]);
}

/* `strips` whole strips, all rows. */
INLINE void column (const CpuPanelProduct *p, Corner at, int64_t strip, int64_t first, int64_t last, const int strips, const int bf)
{
    int64_t row = 0;
    for (; strips == 1 && p->M - row >= ROWS; row += ROWS, at.c += ROWS * at.ld)
        tile (p, at, row, strip, first, last, ROWS, 1, bf);
    for (; strips == 1 && p->M - row >= 2; row += 2, at.c += 2 * at.ld)
        tile (p, at, row, strip, first, last, 2, 1, bf);
    for (; row < p->M; row++, at.c += at.ld)
        tile (p, at, row, strip, first, last, 1, strips, bf);
}

/* Fewer columns than a strip: through a copy as wide as one. */
INLINE void edge (const CpuPanelProduct *p, int64_t strip, int64_t first, int64_t last, const int bf)
{
    size_t bytes = (size_t)(p->N - strip * STRIP) * sizeof (float);
    for (int64_t row = 0; row < p->M; row++) {
        float wide[STRIP] = {0}, *c = p->c + row * p->N + strip * STRIP;
        memcpy (wide, c, bytes);
        tile (p, (Corner){wide, STRIP}, row, strip, first, last, 1, 1, bf);
        memcpy (c, wide, bytes);
    }
}

INLINE void run (const CpuPanelProduct *p, const int bf)
{
    int64_t whole = p->N / STRIP;
    for (int64_t first = 0; first < p->K; first += DEPTH) {
        int64_t last = first + DEPTH < p->K ? first + DEPTH : p->K, strip = 0;
        /* one or two rows: several strips at once, or the latency of an addition is all there is */
        for (; p->M <= 2 && whole - strip >= FEW_STRIPS; strip += FEW_STRIPS)
            column (p, (Corner){p->c + strip * STRIP, p->N}, strip, first, last, FEW_STRIPS, bf);
        for (; strip < whole; strip++)
            column (p, (Corner){p->c + strip * STRIP, p->N}, strip, first, last, 1, bf);
        if (p->N % STRIP)
            edge (p, whole, first, last, bf);
    }
}

void ISA_NAME (cpu_panel_run) (const CpuPanelProduct *p)
{
    CpuPanelProduct wide = *p;
    if (!p->is_bf16) {
        run (p, 0);
        return;
    }
    for (int64_t row = 0; row < p->M; row++)
        for (int64_t k = 0; k < p->K; k += LANES)
            store_n (p->wide, row * p->K + k, 0, load_n (p->a, row * p->lda + k, 1, p->K - k), p->K - k);
    wide.a = p->wide;
    wide.lda = p->K;
    run (&wide, 1);
}
