/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dnnl.h: oneDNN behind one function: C = A·B. Only dnnl.c sees oneDNN's API (v2 or v3). Products are strict in their dtype whatever
 * ONEDNN_DEFAULT_FPMATH_MODE says. A product is made for, and run on, one thread: which threads there are cannot change it. tiles.h spreads
 * products of one kind over threads.
 */
#ifndef DPS_CPU_DNNL_H
#define DPS_CPU_DNNL_H

#include "base/status.h"

/**
 * One product. A is (M,K), B is (K,N), each with the strides of a row-major or transposed matrix; B may instead be packed. C is (M,N) f32, dense:
 * oneDNN's fast paths want it so. dtypes: DPS_DTYPE_F32 or BF16; A and B have the same.
 */
typedef struct DnnlProduct {
    int64_t M, N, K;
    int64_t lda, ldb;         /* elements from row to row; with trans_*: from column to column */
    uint8_t trans_a, trans_b; /* A is stored (K,M); B is stored (N,K) */
    uint8_t packed_b;         /* B is in the layout of dnnl_layout for (N,K,dtype) */
    uint32_t dtype;
} DnnlProduct;

/** A product that is ready to run. Kept in a bounded cache: valid until DNNL_KEPT others were asked for. */
typedef struct DnnlKernel DnnlKernel;
enum { DNNL_KEPT = 512 };

/** Errors: NOMEM, DEVICE, UNSUPPORTED. [device-serial] */
DpsStatus dnnl_kernel (const DnnlProduct *p, const DnnlKernel **out, DpsError *err);
/** Bytes of scratch a run needs, of its own. */
uint64_t dnnl_kernel_scratch (const DnnlKernel *k);
/** Run on the calling thread. Several threads may run the same kernel. [any] */
DpsStatus dnnl_run (const DnnlKernel *k, const void *a, const void *b, void *c, void *scratch, DpsError *err);

/** The packed layout of B (K,N): element (k,n) is at row_offset(n) + k_offset[k]. */
typedef struct DnnlLayout {
    uint64_t bytes;
    int64_t K, N;
    uint32_t dtype;
    int64_t *k_offset, *n_offset; /* [K], [N] in elements */
    int padded;                   /* has padding that must be zero */
} DnnlLayout;

/** Chosen once per (K,N,dtype) and kept. Errors: UNSUPPORTED when oneDNN keeps the matrix plain. [device-serial] */
DpsStatus dnnl_layout (int64_t K, int64_t N, uint32_t dtype, const DnnlLayout **out, DpsError *err);

/** "oneDNN 2.6.3". */
const char *dnnl_text (void);

#endif
