/* SPDX-License-Identifier: Apache-2.0 */
/*
 * product.h: C = A·B for one packed panel B, on the calling thread: by oneDNN where its rows do not depend on how many there are, by kernels/panel.c
 * elsewhere. Which of the two is decided once for each shape of B, on the machine at hand: oneDNN multiplies random rows 64 at a time and in
 * smaller tiles, and must give the same bits. (Measured: its AVX-512 kernels do; what it has for AVX2 does not, and runs at a tenth of the speed.)
 * bf16 without bf16 instructions is memory saved: the panel is widened to f32 in registers.
 */
#ifndef DPS_CPU_PRODUCT_H
#define DPS_CPU_PRODUCT_H

#include "cpu.h"
#include "dnnl.h"

/** Rows of a tile, and what they are a multiple of. */
enum { CPU_TILE_ROWS = 64, CPU_ROW_GROUP = 16 };

/** The packed layout of B (K,N): element (k,n) is at k_offset[k] + n_offset[n]. */
typedef struct CpuLayout {
    uint64_t bytes;
    int64_t K, N;
    uint32_t dtype;
    int64_t *k_offset, *n_offset; /* [K], [N] in elements */
    int padded;                   /* has padding that must be zero */
    int step;                     /* of runs of columns: CpuRectangle.step */
    int dnnl;                     /* oneDNN's own, and its products are used */
} CpuLayout;

/** Chosen once per (K,N,dtype) and kept. Errors: NOMEM, LIMIT, oneDNN's. [device-serial] */
DpsStatus cpu_layout (int64_t K, int64_t N, uint32_t dtype, const CpuLayout **out, DpsError *err);

/** A product that is ready to run: A (rows,K) with lda elements from row to row. Valid until DNNL_KEPT others were asked for. */
typedef struct CpuKernel {
    const DnnlKernel *dnnl; /* NULL: ours */
    int64_t N, K, lda;
    uint32_t dtype;
    uint64_t scratch_bytes; /* that a run needs, of its own */
} CpuKernel;

/** rows: of A, a multiple of CPU_ROW_GROUP, at most CPU_TILE_ROWS. Errors: NOMEM, DEVICE, UNSUPPORTED. [device-serial] */
DpsStatus cpu_kernel (int64_t rows, int64_t N, int64_t K, int64_t lda, uint32_t dtype, CpuKernel *out, DpsError *err);
/** The first `rows` of C (…,N), f32 and dense; what stands behind them up to the kernel's rows is not defined. Several threads may run one. [any] */
DpsStatus cpu_kernel_run (const CpuKernel *k, int64_t rows, const void *a, const void *b, float *c, void *scratch, DpsError *err);

#endif
