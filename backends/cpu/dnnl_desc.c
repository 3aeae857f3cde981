/* SPDX-License-Identifier: Apache-2.0 */
#include "dnnl_desc.h"

#include <dnnl_version.h>

#include "cpu.h"

static dnnl_data_type_t type_of (uint32_t dtype) { return dtype == DPS_DTYPE_BF16 ? dnnl_bf16 : dnnl_f32; }

#if DNNL_VERSION_MAJOR >= 3

dnnl_status_t desc_plain (Desc *d, int64_t rows, int64_t cols, uint32_t dtype, int64_t row_stride)
{
    dnnl_dims_t dims = {rows, cols}, strides = {row_stride, 1};
    return dnnl_memory_desc_create_with_strides (d, 2, dims, type_of (dtype), strides);
}

dnnl_status_t desc_any (Desc *d, int64_t rows, int64_t cols, uint32_t dtype)
{
    dnnl_dims_t dims = {rows, cols};
    return dnnl_memory_desc_create_with_tag (d, 2, dims, type_of (dtype), dnnl_format_tag_any);
}

dnnl_status_t desc_copy (Desc *to, const Desc *from) { return dnnl_memory_desc_clone (to, *from); }

dnnl_status_t desc_chosen (Desc *to, dnnl_primitive_desc_t pd, dnnl_query_t which)
{
    return dnnl_memory_desc_clone (to, dnnl_primitive_desc_query_md (pd, which, 0));
}

uint64_t desc_bytes (const Desc *d) { return dnnl_memory_desc_get_size (*d); }

/* The first n of a list of the description. */
static void query_dims (const Desc *d, dnnl_query_t what, int n, int64_t *out)
{
    const dnnl_dims_t *dims = NULL;
    dnnl_memory_desc_query (*d, what, &dims);
    for (int i = 0; dims && i < n; i++)
        out[i] = (*dims)[i];
}

void desc_blocks (const Desc *d, DescBlocks *out)
{
    *out = (DescBlocks){0};
    dnnl_memory_desc_query (*d, dnnl_query_inner_nblks_s32, &out->n);
    query_dims (d, dnnl_query_inner_blks, out->n, out->blocks);
    query_dims (d, dnnl_query_inner_idxs, out->n, out->which);
    query_dims (d, dnnl_query_strides, 2, out->strides);
}

void desc_free (Desc *d)
{
    if (*d)
        dnnl_memory_desc_destroy (*d);
}

dnnl_status_t desc_matmul (dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const Desc *a, const Desc *b, const Desc *c,
                           dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create (pd, engine, *a, *b, NULL, *c, attr);
}

dnnl_status_t desc_memory (dnnl_memory_t *m, const Desc *d, dnnl_engine_t engine, const void *data)
{
    return dnnl_memory_create (m, *d, engine, (void *)data);
}

#else

dnnl_status_t desc_plain (Desc *d, int64_t rows, int64_t cols, uint32_t dtype, int64_t row_stride)
{
    dnnl_dims_t dims = {rows, cols}, strides = {row_stride, 1};
    return dnnl_memory_desc_init_by_strides (d, 2, dims, type_of (dtype), strides);
}

dnnl_status_t desc_any (Desc *d, int64_t rows, int64_t cols, uint32_t dtype)
{
    dnnl_dims_t dims = {rows, cols};
    return dnnl_memory_desc_init_by_tag (d, 2, dims, type_of (dtype), dnnl_format_tag_any);
}

dnnl_status_t desc_copy (Desc *to, const Desc *from)
{
    *to = *from;
    return dnnl_success;
}

dnnl_status_t desc_chosen (Desc *to, dnnl_primitive_desc_t pd, dnnl_query_t which)
{
    return desc_copy (to, dnnl_primitive_desc_query_md (pd, which, 0));
}

uint64_t desc_bytes (const Desc *d) { return dnnl_memory_desc_get_size (d); }

void desc_blocks (const Desc *d, DescBlocks *out)
{
    const dnnl_blocking_desc_t *b = &d->format_desc.blocking;
    *out = (DescBlocks){.n = b->inner_nblks, .strides = {b->strides[0], b->strides[1]}};
    for (int i = 0; i < b->inner_nblks; i++) {
        out->blocks[i] = b->inner_blks[i];
        out->which[i] = b->inner_idxs[i];
    }
}

void desc_free (Desc *d) { (void)d; }

dnnl_status_t desc_matmul (dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const Desc *a, const Desc *b, const Desc *c,
                           dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    dnnl_status_t st = dnnl_matmul_desc_init (&d, a, b, NULL, c);
    return st == dnnl_success ? dnnl_primitive_desc_create (pd, &d, attr, engine, NULL) : st;
}

dnnl_status_t desc_memory (dnnl_memory_t *m, const Desc *d, dnnl_engine_t engine, const void *data)
{
    return dnnl_memory_create (m, d, engine, (void *)data);
}

#endif
