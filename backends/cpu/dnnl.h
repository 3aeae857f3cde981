/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dnnl.h: oneDNN behind one function: C = A·B, B packed. Only dnnl.c and dnnl_desc.c see oneDNN's API. Products are strict in their dtype whatever
 * ONEDNN_DEFAULT_FPMATH_MODE says. A product is made for, and run on, one thread: which threads there are cannot change it. tiles.h spreads
 * products of one kind over threads.
 */
#ifndef DPS_CPU_DNNL_H
#define DPS_CPU_DNNL_H

#include "base/status.h"

/** One product. A is (M,K), rows lda elements apart; B is (K,N) in the layout of dnnl_layout; C is (M,N) f32, dense: the fast paths want it so. */
typedef struct DnnlProduct {
    int64_t M, N, K, lda;
    uint64_t dtype; /* of A and B: DPS_DTYPE_F32 or BF16; as wide as the others, so that products compare as bytes */
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

/**
 * The layout that oneDNN chooses for B (K,N), kept for dnnl_kernel: element (k,n) is at k_offset[k] + n_offset[n] of *out_bytes bytes.
 * Errors: UNSUPPORTED when it keeps the matrix plain: what it has then is slow; LIMIT; NOMEM, DEVICE. [device-serial]
 */
DpsStatus dnnl_layout (int64_t K, int64_t N, uint32_t dtype, int64_t *k_offset, int64_t *n_offset, uint64_t *out_bytes, DpsError *err);

/** "oneDNN 2.6.3". */
const char *dnnl_text (void);

#endif
