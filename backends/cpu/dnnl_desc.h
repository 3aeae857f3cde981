/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dnnl_desc.h: what a matrix looks like to oneDNN. Its v2 API (Debian's libdnnl-dev) and v3 differ in these calls only; dnnl_desc.c is the one file
 * that asks which of them it is. All return oneDNN's own status. [any]
 */
#ifndef DPS_CPU_DNNL_DESC_H
#define DPS_CPU_DNNL_DESC_H

#include <dnnl.h>
#include <stdint.h>

/** v3: a handle, which desc_free gives back; v2: the description itself. All zero: none. */
typedef dnnl_memory_desc_t Desc;

/** A layout: strides of the outer blocks of both dimensions; then n inner blocks, the last of them dense: blocks[i] elements of dimension which[i]. */
typedef struct DescBlocks {
    int n;
    int64_t strides[2], blocks[DNNL_MAX_NDIMS], which[DNNL_MAX_NDIMS];
} DescBlocks;

/** Rows row_stride elements apart. dtype: DPS_DTYPE_F32 or BF16. */
dnnl_status_t desc_plain (Desc *d, int64_t rows, int64_t cols, uint32_t dtype, int64_t row_stride);
/** In the layout that the primitive chooses. */
dnnl_status_t desc_any (Desc *d, int64_t rows, int64_t cols, uint32_t dtype);
dnnl_status_t desc_copy (Desc *to, const Desc *from);
/** The one that a primitive chose. */
dnnl_status_t desc_chosen (Desc *to, dnnl_primitive_desc_t pd, dnnl_query_t which);
uint64_t desc_bytes (const Desc *d);
void desc_blocks (const Desc *d, DescBlocks *out);
void desc_free (Desc *d);

/** C = A·B. */
dnnl_status_t desc_matmul (dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const Desc *a, const Desc *b, const Desc *c,
                           dnnl_primitive_attr_t attr);
/** Memory of this description at `data`, which stays the caller's. */
dnnl_status_t desc_memory (dnnl_memory_t *m, const Desc *d, dnnl_engine_t engine, const void *data);

#endif
