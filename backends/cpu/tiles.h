/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiles.h: matrix products cut into tiles of a few fixed sizes, each a product on one thread. A tile has 16, 32, 48 or 64 rows; the last rows
 * of a product are padded to 16. So a product of any number of rows needs four kernels, a row's result depends on nothing but the row (test:
 * conformance.cpu_threads), and how many threads share the tiles changes no bit.
 */
#ifndef DPS_CPU_TILES_H
#define DPS_CPU_TILES_H

#include "product.h"

/**
 * y (M,N) = alpha·A (M,K)·B (+ bias) (+ c), summed in f32 and rounded once. B is packed in panels of `panel` columns, `panel_bytes` apart, the last
 * one narrower. lda, ld: elements from row to row of A; of c and y.
 */
typedef struct CpuProduct {
    int64_t M, N, K, lda, ld, panel;
    uint32_t dtype; /* of A and B */
    float alpha;
    const void *a, *b;
    uint64_t panel_bytes;
    const DpsView *bias, *c, *y; /* c and bias NULL: none; c may be y */
} CpuProduct;

/** Errors: NOMEM, oneDNN's. [device-serial] */
DpsStatus cpu_product (const CpuProduct *p, DpsError *err);

/** The rows [first, first + n) of tile t of `count`, which together are M rows in groups of CPU_ROW_GROUP, spread evenly. */
void cpu_tile_rows (int64_t M, int64_t count, int64_t t, int64_t *out_first, int64_t *out_n);
/** How many tiles of at most CPU_TILE_ROWS rows, a multiple of the threads where there is enough. */
int64_t cpu_tile_count (int64_t M);

#endif
