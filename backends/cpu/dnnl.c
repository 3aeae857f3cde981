/* SPDX-License-Identifier: Apache-2.0 */
/* dnnl.c: the only file that includes oneDNN. v2 (Debian's libdnnl-dev) and v3 differ in how descriptors are made; the rest is the same. */
#include "dnnl.h"

#include <dnnl.h>
#include <dnnl_version.h>
#include <stdio.h>
#include <string.h>

#include "cpu.h"

enum { MAX_PRIMITIVES = 1024, MAX_LAYOUTS = 256, REFERENCE_M = 256 };

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t Desc;
#define DESC(d) (d)
#else
typedef dnnl_memory_desc_t Desc;
#define DESC(d) (&(d))
#endif

typedef struct Primitive {
    DnnlProduct key;
    dnnl_primitive_t primitive;
    Desc a, b, c, scratch;
    uint64_t scratch_bytes;
    uint64_t used;
} Primitive;

typedef struct Layout {
    DnnlLayout shape;
    Desc desc;
} Layout;

static struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    Primitive primitives[MAX_PRIMITIVES];
    int n_primitives;
    Layout layouts[MAX_LAYOUTS];
    int n_layouts;
    uint64_t clock;
} dnnl;

static DpsStatus check (dnnl_status_t st, const char *what, DpsError *err)
{
    if (st == dnnl_success)
        return DPS_OK;
    DpsStatus code = st == dnnl_out_of_memory ? DPS_ERR_NOMEM : st == dnnl_unimplemented ? DPS_ERR_UNSUPPORTED : DPS_ERR_DEVICE;
    dps_fail (err, code, "oneDNN: %s failed with status %d", what, (int) st);
    if (err)
        err->vendor_code = (int32_t) st;
    return code;
}

static DpsStatus start (DpsError *err)
{
    if (dnnl.stream)
        return DPS_OK;
    if (!dnnl.engine)
        DPS_TRY (check (dnnl_engine_create (&dnnl.engine, dnnl_cpu, 0), "engine", err));
    return check (dnnl_stream_create (&dnnl.stream, dnnl.engine, dnnl_stream_default_flags), "stream", err);
}

const char *dnnl_text (void)
{
    static char text[48];
    const dnnl_version_t *v = dnnl_version ();
    snprintf (text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

static dnnl_data_type_t type_of (uint32_t dtype) { return dtype == DPS_DTYPE_BF16 ? dnnl_bf16 : dnnl_f32; }

/* Descriptors: the two APIs. */

static dnnl_status_t plain_desc (Desc *d, int64_t rows, int64_t cols, uint32_t dtype, int64_t row_stride, int64_t col_stride)
{
    dnnl_dims_t dims = {rows, cols}, strides = {row_stride, col_stride};
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_strides (d, 2, dims, type_of (dtype), strides);
#else
    return dnnl_memory_desc_init_by_strides (d, 2, dims, type_of (dtype), strides);
#endif
}

static dnnl_status_t any_desc (Desc *d, int64_t rows, int64_t cols, uint32_t dtype)
{
    dnnl_dims_t dims = {rows, cols};
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag (d, 2, dims, type_of (dtype), dnnl_format_tag_any);
#else
    return dnnl_memory_desc_init_by_tag (d, 2, dims, type_of (dtype), dnnl_format_tag_any);
#endif
}

static uint64_t desc_bytes (const Desc *d)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_get_size (*d);
#else
    return dnnl_memory_desc_get_size (d);
#endif
}

static void free_desc (Desc *d)
{
#if DNNL_VERSION_MAJOR >= 3
    if (*d)
        dnnl_memory_desc_destroy (*d);
#else
    (void) d;
#endif
}

static dnnl_status_t keep_desc (Desc *to, dnnl_primitive_desc_t pd, dnnl_query_t what)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_clone (to, dnnl_primitive_desc_query_md (pd, what, 0));
#else
    *to = *dnnl_primitive_desc_query_md (pd, what, 0);
    return dnnl_success;
#endif
}

static dnnl_status_t matmul_desc (dnnl_primitive_desc_t *pd, const Desc *a, const Desc *b, const Desc *c, dnnl_primitive_attr_t attr)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create (pd, dnnl.engine, *a, *b, NULL, *c, attr);
#else
    dnnl_matmul_desc_t d;
    dnnl_status_t st = dnnl_matmul_desc_init (&d, a, b, NULL, c);
    return st == dnnl_success ? dnnl_primitive_desc_create (pd, &d, attr, dnnl.engine, NULL) : st;
#endif
}

static dnnl_status_t add_post_ops (dnnl_primitive_attr_t attr, float alpha, int accumulate)
{
    dnnl_post_ops_t ops;
    dnnl_status_t st = dnnl_post_ops_create (&ops);
    if (st != dnnl_success)
        return st;
#if DNNL_VERSION_MAJOR >= 3
    if (alpha != 1)
        st = dnnl_post_ops_append_eltwise (ops, dnnl_eltwise_linear, alpha, 0);
    if (st == dnnl_success && accumulate)
        st = dnnl_post_ops_append_sum (ops, 1, 0, dnnl_data_type_undef);
#else
    if (alpha != 1)
        st = dnnl_post_ops_append_eltwise (ops, 1, dnnl_eltwise_linear, alpha, 0);
    if (st == dnnl_success && accumulate)
        st = dnnl_post_ops_append_sum (ops, 1);
#endif
    if (st == dnnl_success)
        st = dnnl_primitive_attr_set_post_ops (attr, ops);
    dnnl_post_ops_destroy (ops);
    return st;
}

static dnnl_status_t make_attr (dnnl_primitive_attr_t *attr, float alpha, int accumulate)
{
    dnnl_status_t st = dnnl_primitive_attr_create (attr);
    if (st != dnnl_success)
        return st;
    st = dnnl_primitive_attr_set_scratchpad_mode (*attr, dnnl_scratchpad_mode_user);
    if (st == dnnl_success)
        st = dnnl_primitive_attr_set_fpmath_mode (*attr, dnnl_fpmath_mode_strict);
    if (st == dnnl_success && (alpha != 1 || accumulate))
        st = add_post_ops (*attr, alpha, accumulate);
    return st;
}

/* Layouts. */

static void blocking (const Desc *d, int *n, const int64_t **blocks, const int64_t **which, const int64_t **strides)
{
#if DNNL_VERSION_MAJOR >= 3
    static int32_t count;
    static int64_t inner[DNNL_MAX_NDIMS], index[DNNL_MAX_NDIMS], outer[DNNL_MAX_NDIMS];
    const int64_t *p = NULL;
    int i32 = 0;
    dnnl_memory_desc_query (*d, dnnl_query_inner_nblks_s32, &i32);
    count = i32;
    const dnnl_dims_t *dims = NULL;
    dnnl_memory_desc_query (*d, dnnl_query_inner_blks, &dims);
    p = dims ? *dims : NULL;
    for (int i = 0; p && i < count; i++)
        inner[i] = p[i];
    dims = NULL;
    dnnl_memory_desc_query (*d, dnnl_query_inner_idxs, &dims);
    p = dims ? *dims : NULL;
    for (int i = 0; p && i < count; i++)
        index[i] = p[i];
    dims = NULL;
    dnnl_memory_desc_query (*d, dnnl_query_strides, &dims);
    p = dims ? *dims : NULL;
    for (int i = 0; p && i < 2; i++)
        outer[i] = p[i];
    *n = count;
    *blocks = inner;
    *which = index;
    *strides = outer;
#else
    const dnnl_blocking_desc_t *b = &d->format_desc.blocking;
    *n = b->inner_nblks;
    *blocks = b->inner_blks;
    *which = b->inner_idxs;
    *strides = b->strides;
#endif
}

/* Offset that index i of dimension `dim` contributes: outer blocks by stride, then its digits within the inner blocks. */
static int64_t contribution (const Desc *d, int dim, int64_t i)
{
    const int64_t *blocks, *which, *strides;
    int n;
    blocking (d, &n, &blocks, &which, &strides);
    int64_t offset = 0, inner_stride = 1;
    for (int k = n - 1; k >= 0; k--) {
        if (which[k] == dim) {
            offset += i % blocks[k] * inner_stride;
            i /= blocks[k];
        }
        inner_stride *= blocks[k];
    }
    return offset + i * strides[dim];
}

static DpsStatus fill_offsets (Layout *l, DpsError *err)
{
    DnnlLayout *s = &l->shape;
    s->k_offset = dps_malloc ((size_t) s->K, sizeof *s->k_offset);
    s->n_offset = dps_malloc ((size_t) s->N, sizeof *s->n_offset);
    if (!s->k_offset || !s->n_offset)
        return dps_fail (err, DPS_ERR_NOMEM, "cpu: out of memory for a layout");
    for (int64_t k = 0; k < s->K; k++)
        s->k_offset[k] = contribution (&l->desc, 0, k);
    for (int64_t n = 0; n < s->N; n++)
        s->n_offset[n] = contribution (&l->desc, 1, n);
    s->bytes = desc_bytes (&l->desc);
    s->padded = s->bytes != (uint64_t) (s->K * s->N) * (s->dtype == DPS_DTYPE_BF16 ? 2 : 4);
    return DPS_OK;
}

static DpsStatus choose_layout (Layout *l, DpsError *err)
{
    const DnnlLayout *s = &l->shape;
    uint32_t c_dtype = DPS_DTYPE_F32;
    Desc a, b, c;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    memset (&a, 0, sizeof a);
    memset (&b, 0, sizeof b);
    memset (&c, 0, sizeof c);
    dnnl_status_t st = plain_desc (&a, REFERENCE_M, s->K, s->dtype, s->K, 1);
    if (st == dnnl_success)
        st = any_desc (&b, s->K, s->N, s->dtype);
    if (st == dnnl_success)
        st = plain_desc (&c, REFERENCE_M, s->N, c_dtype, s->N, 1);
    if (st == dnnl_success)
        st = make_attr (&attr, 1, 0);
    if (st == dnnl_success)
        st = matmul_desc (&pd, &a, &b, &c, attr);
    if (st == dnnl_success)
        st = keep_desc (&l->desc, pd, dnnl_query_weights_md);
    if (pd)
        dnnl_primitive_desc_destroy (pd);
    if (attr)
        dnnl_primitive_attr_destroy (attr);
    free_desc (&a);
    free_desc (&b);
    free_desc (&c);
    return check (st, "choosing a weight layout", err);
}

static Layout *find_layout (int64_t K, int64_t N, uint32_t dtype)
{
    for (int i = 0; i < dnnl.n_layouts; i++) {
        DnnlLayout *s = &dnnl.layouts[i].shape;
        if (s->K == K && s->N == N && s->dtype == dtype)
            return &dnnl.layouts[i];
    }
    return NULL;
}

DpsStatus dnnl_layout (int64_t K, int64_t N, uint32_t dtype, const DnnlLayout **out, DpsError *err)
{
    DPS_TRY (start (err));
    Layout *l = find_layout (K, N, dtype);
    if (!l) {
        if (dnnl.n_layouts == MAX_LAYOUTS)
            return dps_fail (err, DPS_ERR_LIMIT, "cpu: more than %d shapes of weights", MAX_LAYOUTS);
        l = &dnnl.layouts[dnnl.n_layouts];
        l->shape = (DnnlLayout){.K = K, .N = N, .dtype = dtype};
        DPS_TRY (choose_layout (l, err));
        DPS_TRY (fill_offsets (l, err));
        dnnl.n_layouts++;
    }
    *out = &l->shape;
    return DPS_OK;
}

/* Products. */

static DpsStatus make_primitive (Primitive *p, DpsError *err)
{
    const DnnlProduct *k = &p->key;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t st = plain_desc (&p->a, k->M, k->K, k->dtype, k->trans_a ? 1 : k->lda, k->trans_a ? k->lda : 1);
    if (k->packed_b) {
        const DnnlLayout *l;
        DPS_TRY (dnnl_layout (k->K, k->N, k->dtype, &l, err));
#if DNNL_VERSION_MAJOR >= 3
        st = dnnl_memory_desc_clone (&p->b, find_layout (k->K, k->N, k->dtype)->desc);
#else
        p->b = find_layout (k->K, k->N, k->dtype)->desc;
#endif
    } else if (st == dnnl_success)
        st = plain_desc (&p->b, k->K, k->N, k->dtype, k->trans_b ? 1 : k->ldb, k->trans_b ? k->ldb : 1);
    if (st == dnnl_success)
        st = plain_desc (&p->c, k->M, k->N, k->c_dtype, k->ldc, 1);
    if (st == dnnl_success)
        st = make_attr (&attr, k->alpha, k->accumulate);
    if (st == dnnl_success)
        st = matmul_desc (&pd, &p->a, &p->b, &p->c, attr);
    if (st == dnnl_success)
        st = keep_desc (&p->scratch, pd, dnnl_query_scratchpad_md);
    if (st == dnnl_success)
        st = dnnl_primitive_create (&p->primitive, pd);
    p->scratch_bytes = st == dnnl_success ? desc_bytes (&p->scratch) : 0;
    if (pd)
        dnnl_primitive_desc_destroy (pd);
    if (attr)
        dnnl_primitive_attr_destroy (attr);
    return check (st, "making a matrix product", err);
}

static void drop_primitive (Primitive *p)
{
    if (p->primitive)
        dnnl_primitive_destroy (p->primitive);
    free_desc (&p->a);
    free_desc (&p->b);
    free_desc (&p->c);
    free_desc (&p->scratch);
    memset (p, 0, sizeof *p);
}

static DpsStatus find_primitive (const DnnlProduct *key, Primitive **out, DpsError *err)
{
    Primitive *oldest = &dnnl.primitives[0];
    for (int i = 0; i < dnnl.n_primitives; i++) {
        Primitive *p = &dnnl.primitives[i];
        if (!memcmp (&p->key, key, sizeof *key)) {
            p->used = ++dnnl.clock;
            *out = p;
            return DPS_OK;
        }
        if (p->used < oldest->used)
            oldest = p;
    }
    Primitive *p = dnnl.n_primitives < MAX_PRIMITIVES ? &dnnl.primitives[dnnl.n_primitives++] : oldest;
    drop_primitive (p);
    p->key = *key;
    DpsStatus st = make_primitive (p, err);
    if (st != DPS_OK) {
        drop_primitive (p);
        return st;
    }
    p->used = ++dnnl.clock;
    *out = p;
    return DPS_OK;
}

static dnnl_status_t wrap (dnnl_memory_t *m, const Desc *d, const void *data)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_create (m, *d, dnnl.engine, (void *) data);
#else
    return dnnl_memory_create (m, d, dnnl.engine, (void *) data);
#endif
}

DpsStatus dnnl_product (const DnnlProduct *product, const void *a, const void *b, void *c, DpsError *err)
{
    DnnlProduct key;
    memset (&key, 0, sizeof key); /* padding takes part in the comparison */
    key.M = product->M, key.N = product->N, key.K = product->K;
    key.lda = product->lda, key.ldc = product->ldc, key.ldb = product->packed_b ? 0 : product->ldb;
    key.trans_a = product->trans_a, key.trans_b = product->trans_b, key.packed_b = product->packed_b;
    key.accumulate = product->accumulate, key.serial = product->serial;
    key.dtype = product->dtype, key.c_dtype = product->c_dtype, key.alpha = product->alpha;
    if (key.M == 0 || key.N == 0)
        return DPS_OK;
    DPS_TRY (start (err));
    Primitive *p = NULL;
    DPS_TRY (find_primitive (&key, &p, err));
    void *scratch = p->scratch_bytes ? cpu_scratch (CPU_SLOT_DNNL, p->scratch_bytes) : NULL;
    if (p->scratch_bytes && !scratch)
        return dps_fail (err, DPS_ERR_NOMEM, "cpu: out of memory for oneDNN's scratch pad");
    dnnl_exec_arg_t args[4] = {{DNNL_ARG_SRC, NULL}, {DNNL_ARG_WEIGHTS, NULL}, {DNNL_ARG_DST, NULL}, {DNNL_ARG_SCRATCHPAD, NULL}};
    dnnl_status_t st = wrap (&args[0].memory, &p->a, a);
    if (st == dnnl_success)
        st = wrap (&args[1].memory, &p->b, b);
    if (st == dnnl_success)
        st = wrap (&args[2].memory, &p->c, c);
    if (st == dnnl_success && scratch)
        st = wrap (&args[3].memory, &p->scratch, scratch);
    if (st == dnnl_success)
        st = dnnl_primitive_execute (p->primitive, dnnl.stream, scratch ? 4 : 3, args);
    if (st == dnnl_success)
        st = dnnl_stream_wait (dnnl.stream);
    for (int i = 0; i < 4; i++)
        if (args[i].memory)
            dnnl_memory_destroy (args[i].memory);
    return check (st, "a matrix product", err);
}
