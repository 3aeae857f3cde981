/* SPDX-License-Identifier: Apache-2.0 */
/* dnnl.c: the layouts that oneDNN chose for weights, and its products, made once and kept while they are used. */
#include "dnnl.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "dnnl_desc.h"

enum { MAX_KERNELS = 2 * DNNL_KEPT, SLOTS = 4 * MAX_KERNELS, MAX_LAYOUTS = 256, REFERENCE_M = 64 };

struct DnnlKernel {
    DnnlProduct key;
    dnnl_primitive_t primitive;
    Desc a, b, c, scratch;
    uint64_t scratch_bytes;
    uint64_t used;
};

typedef struct Layout {
    int64_t K, N;
    uint64_t dtype;
    Desc desc;
} Layout;

static struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    DnnlKernel kernels[MAX_KERNELS];
    int n_kernels;
    int16_t slots[SLOTS]; /* hash of the key → kernel number + 1, linear probing */
    Layout layouts[MAX_LAYOUTS];
    int n_layouts;
    uint64_t clock;
} dnnl;

static DpsStatus check (dnnl_status_t st, const char *what, DpsError *err)
{
    if (st == dnnl_success)
        return DPS_OK;
    DpsStatus code = st == dnnl_out_of_memory ? DPS_ERR_NOMEM : st == dnnl_unimplemented ? DPS_ERR_UNSUPPORTED : DPS_ERR_DEVICE;
    dps_fail (err, code, "oneDNN: %s failed with status %d", what, (int)st);
    if (err)
        err->vendor_code = (int32_t)st;
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

static dnnl_status_t make_attr (dnnl_primitive_attr_t *attr)
{
    dnnl_status_t st = dnnl_primitive_attr_create (attr);
    if (st != dnnl_success)
        return st;
    st = dnnl_primitive_attr_set_scratchpad_mode (*attr, dnnl_scratchpad_mode_user);
    return st == dnnl_success ? dnnl_primitive_attr_set_fpmath_mode (*attr, dnnl_fpmath_mode_strict) : st;
}

/* Layouts. */

/* Offset that index i of dimension `dim` contributes: outer blocks by stride, then its digits within the inner blocks. */
static int64_t contribution (const DescBlocks *b, int dim, int64_t i)
{
    int64_t offset = 0, inner_stride = 1;
    for (int k = b->n - 1; k >= 0; k--) {
        if (b->which[k] == dim) {
            offset += i % b->blocks[k] * inner_stride;
            i /= b->blocks[k];
        }
        inner_stride *= b->blocks[k];
    }
    return offset + i * b->strides[dim];
}

static DpsStatus choose_layout (Layout *l, DpsError *err)
{
    uint32_t dtype = (uint32_t)l->dtype;
    Desc a, b, c;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    memset (&a, 0, sizeof a);
    memset (&b, 0, sizeof b);
    memset (&c, 0, sizeof c);
    dnnl_status_t st = desc_plain (&a, REFERENCE_M, l->K, dtype, l->K);
    if (st == dnnl_success)
        st = desc_any (&b, l->K, l->N, dtype);
    if (st == dnnl_success)
        st = desc_plain (&c, REFERENCE_M, l->N, DPS_DTYPE_F32, l->N);
    if (st == dnnl_success)
        st = make_attr (&attr);
    if (st == dnnl_success)
        st = desc_matmul (&pd, dnnl.engine, &a, &b, &c, attr);
    if (st == dnnl_success)
        st = desc_chosen (&l->desc, pd, dnnl_query_weights_md);
    if (pd)
        dnnl_primitive_desc_destroy (pd);
    if (attr)
        dnnl_primitive_attr_destroy (attr);
    desc_free (&a);
    desc_free (&b);
    desc_free (&c);
    return check (st, "choosing a weight layout", err);
}

static Layout *find_layout (int64_t K, int64_t N, uint64_t dtype)
{
    for (int i = 0; i < dnnl.n_layouts; i++) {
        Layout *l = &dnnl.layouts[i];
        if (l->K == K && l->N == N && l->dtype == dtype)
            return l;
    }
    return NULL;
}

DpsStatus dnnl_layout (int64_t K, int64_t N, uint32_t dtype, int64_t *k_offset, int64_t *n_offset, uint64_t *out_bytes, DpsError *err)
{
    DPS_TRY (start (err));
    Layout *l = find_layout (K, N, dtype);
    if (!l) {
        if (dnnl.n_layouts == MAX_LAYOUTS)
            return dps_fail (err, DPS_ERR_LIMIT, "cpu: more than %d shapes of weights", MAX_LAYOUTS);
        l = &dnnl.layouts[dnnl.n_layouts];
        *l = (Layout){.K = K, .N = N, .dtype = dtype};
        DPS_TRY (choose_layout (l, err));
        dnnl.n_layouts++;
    }
    DescBlocks blocks;
    desc_blocks (&l->desc, &blocks);
    if (blocks.n == 0)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "oneDNN: no packed layout for a weight of %lld x %lld", (long long)N, (long long)K);
    for (int64_t k = 0; k < K; k++)
        k_offset[k] = contribution (&blocks, 0, k);
    for (int64_t n = 0; n < N; n++)
        n_offset[n] = contribution (&blocks, 1, n);
    *out_bytes = desc_bytes (&l->desc);
    return DPS_OK;
}

/* Products. */

static dnnl_status_t describe (DnnlKernel *p, const Desc *packed)
{
    const DnnlProduct *k = &p->key;
    dnnl_status_t st = desc_plain (&p->a, k->M, k->K, (uint32_t)k->dtype, k->lda);
    if (st == dnnl_success)
        st = desc_copy (&p->b, packed);
    return st == dnnl_success ? desc_plain (&p->c, k->M, k->N, DPS_DTYPE_F32, k->N) : st;
}

static DpsStatus make_kernel (DnnlKernel *p, DpsError *err)
{
    const DnnlProduct *k = &p->key;
    const Layout *layout = find_layout (k->K, k->N, k->dtype);
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    if (!layout)
        return dps_fail (err, DPS_ERR_INTERNAL, "oneDNN: a product before its layout");
    dnnl_status_t st = describe (p, &layout->desc);
    if (st == dnnl_success)
        st = make_attr (&attr);
    int threads = omp_get_max_threads ();
    omp_set_num_threads (1); /* a product divides its work among the threads there are when it is made */
    if (st == dnnl_success)
        st = desc_matmul (&pd, dnnl.engine, &p->a, &p->b, &p->c, attr);
    if (st == dnnl_success)
        st = desc_chosen (&p->scratch, pd, dnnl_query_scratchpad_md);
    if (st == dnnl_success)
        st = dnnl_primitive_create (&p->primitive, pd);
    omp_set_num_threads (threads);
    p->scratch_bytes = st == dnnl_success ? desc_bytes (&p->scratch) : 0;
    if (pd)
        dnnl_primitive_desc_destroy (pd);
    if (attr)
        dnnl_primitive_attr_destroy (attr);
    return check (st, "making a matrix product", err);
}

static void drop_kernel (DnnlKernel *p)
{
    if (p->primitive)
        dnnl_primitive_destroy (p->primitive);
    desc_free (&p->a);
    desc_free (&p->b);
    desc_free (&p->c);
    desc_free (&p->scratch);
    memset (p, 0, sizeof *p);
}

static uint32_t hash_of (const DnnlProduct *key)
{
    uint64_t h = 0;
    for (size_t i = 0; i + 8 <= sizeof *key; i += 8) {
        uint64_t word;
        memcpy (&word, (const char *)key + i, 8);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return (uint32_t)(h >> 32);
}

static void insert_slot (int number)
{
    uint32_t at = hash_of (&dnnl.kernels[number].key) % SLOTS;
    while (dnnl.slots[at])
        at = (at + 1) % SLOTS;
    dnnl.slots[at] = (int16_t)(number + 1);
}

/* The half that was used longest ago goes, all at once: so a kernel outlives DNNL_KEPT others. */
static void make_room (void)
{
    uint64_t limit = dnnl.clock > DNNL_KEPT ? dnnl.clock - DNNL_KEPT : 0;
    int kept = 0;
    for (int i = 0; i < dnnl.n_kernels; i++) {
        if (dnnl.kernels[i].used <= limit)
            drop_kernel (&dnnl.kernels[i]);
        else if (kept++ != i) {
            dnnl.kernels[kept - 1] = dnnl.kernels[i];
            memset (&dnnl.kernels[i], 0, sizeof dnnl.kernels[i]);
        }
    }
    dnnl.n_kernels = kept;
    memset (dnnl.slots, 0, sizeof dnnl.slots);
    for (int i = 0; i < kept; i++)
        insert_slot (i);
}

static DnnlKernel *find_kernel (const DnnlProduct *key)
{
    for (uint32_t at = hash_of (key) % SLOTS; dnnl.slots[at]; at = (at + 1) % SLOTS) {
        DnnlKernel *p = &dnnl.kernels[dnnl.slots[at] - 1];
        if (!memcmp (&p->key, key, sizeof *key))
            return p;
    }
    return NULL;
}

DpsStatus dnnl_kernel (const DnnlProduct *product, const DnnlKernel **out, DpsError *err)
{
    DPS_TRY (start (err));
    DnnlKernel *p = find_kernel (product);
    if (!p) {
        if (dnnl.n_kernels == MAX_KERNELS)
            make_room ();
        p = &dnnl.kernels[dnnl.n_kernels];
        p->key = *product;
        DpsStatus st = make_kernel (p, err);
        if (st != DPS_OK) {
            drop_kernel (p);
            return st;
        }
        insert_slot (dnnl.n_kernels++);
    }
    p->used = ++dnnl.clock;
    *out = p;
    return DPS_OK;
}

uint64_t dnnl_kernel_scratch (const DnnlKernel *k) { return (k->scratch_bytes + 63) / 64 * 64; }

DpsStatus dnnl_run (const DnnlKernel *p, const void *a, const void *b, void *c, void *scratch, DpsError *err)
{
    dnnl_exec_arg_t args[4] = {{DNNL_ARG_SRC, NULL}, {DNNL_ARG_WEIGHTS, NULL}, {DNNL_ARG_DST, NULL}, {DNNL_ARG_SCRATCHPAD, NULL}};
    dnnl_status_t st = desc_memory (&args[0].memory, &p->a, dnnl.engine, a);
    if (st == dnnl_success)
        st = desc_memory (&args[1].memory, &p->b, dnnl.engine, b);
    if (st == dnnl_success)
        st = desc_memory (&args[2].memory, &p->c, dnnl.engine, c);
    if (st == dnnl_success && p->scratch_bytes)
        st = desc_memory (&args[3].memory, &p->scratch, dnnl.engine, scratch);
    if (st == dnnl_success)
        st = dnnl_primitive_execute (p->primitive, dnnl.stream, p->scratch_bytes ? 4 : 3, args);
    for (int i = 0; i < 4; i++)
        if (args[i].memory)
            dnnl_memory_destroy (args[i].memory);
    return check (st, "a matrix product", err);
}
