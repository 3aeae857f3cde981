/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dnnl.h: oneDNN behind one function: C = alpha·A·B (+ C). Only dnnl.c sees oneDNN's API (v2 or v3). Products are strict in their dtype whatever
 * ONEDNN_DEFAULT_FPMATH_MODE says. Primitives are kept in a bounded cache.
 */
#ifndef DPS_CPU_DNNL_H
#define DPS_CPU_DNNL_H

#include "base/status.h"

/**
 * One product. A is (M,K), B is (K,N), C is (M,N), each with the strides of a row-major or transposed matrix; B may instead be packed.
 * dtypes: DPS_DTYPE_F32 or BF16; A and B have the same.
 */
typedef struct DnnlProduct {
    int64_t M, N, K;
    int64_t lda, ldb, ldc; /* elements from row to row; with trans_*: from column to column */
    uint8_t trans_a, trans_b; /* A is stored (K,M); B is stored (N,K) */
    uint8_t packed_b;         /* B is in the layout of dnnl_layout for (N,K,dtype) */
    uint8_t accumulate;       /* C += */
    uint8_t serial;           /* made for and run on the calling thread alone */
    uint32_t dtype;           /* of A and B */
    uint32_t c_dtype;
    float alpha;
} DnnlProduct;

DpsStatus dnnl_product (const DnnlProduct *p, const void *a, const void *b, void *c, DpsError *err);

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
