/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm.c: matrix products by cuBLASLt. An algorithm is asked for once per shape and kept: the same call then has the same bits in one process.
 * Algorithms that split a sum over K among groups are excluded, so that every element is one sum over K in one order; that the order is the
 * same for every number of rows M is not promised by cuBLASLt, so the device declares DPS_DETERMINISM_THREADS with it, and
 * DPS_DETERMINISM_BATCH with the dialect's own product (DIAPASON_CUDA_GEMM=dialect). Sums of int8 are exact, whoever makes them; but other products of
 * that device are not, and which shapes it multiplies in int8 is cuBLASLt's choice too: THREADS.
 */
#include <string.h>

#include "cuda.h"

enum { WORKSPACE = 32 << 20, SHAPES = 1024 };

/* What an algorithm depends on; no padding, compared by bytes. */
typedef struct Shape {
    int64_t M, N, K, lda, ldb, ldd;
    uint32_t ab_dtype, d_dtype, transposed, accumulates;
    uint32_t align[4]; /* bytes, of A, B, C and D as cuBLASLt counts them */
} Shape;

typedef struct Choice {
    Shape shape;
    LtAlgo algo;
    uint64_t workspace_bytes;
    int known, found;
} Choice;

struct CudaGemm {
    LtHandle handle;
    Choice choices[SHAPES]; /* hashed, open addressing; a full neighbourhood forgets its first */
};

typedef struct Call {
    LtDesc desc;
    LtLayout a, b, d; /* as cuBLASLt names them: a is our B, since its matrices lie by columns */
} Call;

/* cuBLASLt does not say whether the device is lost; the driver does, to any call. */
static DpsStatus lt_check (struct DpsDevice *dev, LtStatus s, const char *what, DpsError *err)
{
    size_t available, total;
    if (s == LT_OK)
        return DPS_OK;
    DPS_TRY (cuda_check (dev, cuda_api.cu.mem_info (&available, &total), what, err));
    DpsStatus code = s == LT_NOT_SUPPORTED ? DPS_ERR_UNSUPPORTED : s == LT_ALLOC_FAILED ? DPS_ERR_NOMEM : DPS_ERR_DEVICE;
    dps_fail (err, code, "%s: cuBLASLt: %s: %s", dev->name, what, cuda_api.lt.status_text (s));
    if (err)
        err->vendor_code = (int32_t)s;
    return code;
}

enum { BY_CUBLASLT, BY_DIALECT, BY_INT8, WAYS };

static DpsStatus wanted (struct DpsDevice *dev, int *out, DpsError *err)
{
    static const char *const ways[WAYS] = {"cublaslt", "dialect", "int8"};
    char value[32] = "";
    *out = BY_CUBLASLT;
    if (!cuda_host.config_get || !cuda_host.config_get (dps_str ("cuda.gemm"), value, sizeof value))
        return DPS_OK;
    while (*out < WAYS && strcmp (value, ways[*out]) != 0)
        ++*out;
    if (*out == WAYS)
        return dps_fail (err, DPS_ERR_INVALID, "%s: DIAPASON_CUDA_GEMM is '%s', expected cublaslt, dialect or int8", dev->name, value);
    if (*out == BY_INT8 && !cuda_api.has_lt)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: DIAPASON_CUDA_GEMM=int8 takes cuBLASLt: %s", dev->name, cuda_api.lt_reason);
    return DPS_OK;
}

DpsStatus cuda_gemm_open (struct DpsDevice *dev, DpsError *err)
{
    int way;
    DPS_TRY (wanted (dev, &way, err));
    dev->int8 = way == BY_INT8;
    if (!cuda_api.has_lt || way == BY_DIALECT)
        return DPS_OK;
    dev->gemm = dps_calloc (1, sizeof *dev->gemm);
    if (!dev->gemm)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for the table of products", dev->name);
    LtStatus made = cuda_api.lt.create (&dev->gemm->handle);
    DpsStatus st = lt_check (dev, made, "no handle", err);
    if (st == DPS_ERR_DEVICE && !dev->lost)
        dps_fail (err, st, "%s: cuBLASLt does not start: %s. Hint: is it of the driver's CUDA? DIAPASON_CUDA_GEMM=dialect does without it",
                  dev->name, cuda_api.lt.status_text (made));
    if (st != DPS_OK) {
        dps_free (dev->gemm);
        dev->gemm = NULL;
    }
    return st;
}

void cuda_gemm_close (struct DpsDevice *dev)
{
    if (dev->gemm)
        cuda_api.lt.destroy (dev->gemm->handle);
    dps_free (dev->gemm);
    dev->gemm = NULL;
}

static LtType lt_type (uint32_t dtype)
{
    return (LtType)(dtype == DPS_DTYPE_BF16  ? LT_BF16
                    : dtype == DPS_DTYPE_F16 ? LT_F16
                    : dtype == DPS_DTYPE_I8  ? LT_I8
                    : dtype == DPS_DTYPE_I32 ? LT_I32
                                             : LT_F32);
}

static uint32_t alignment (CuPointer p) { return (uint32_t)(p & 255 ? p & (~p + 1) & 255 : 256); }

static Shape shape_of (const CudaProduct *p)
{
    uint32_t d = alignment (p->d);
    Shape s = {
        p->M, p->N, p->K, p->lda, p->ldb, p->ldd, p->ab_dtype, p->d_dtype, 0, p->beta != 0, {alignment (p->b), alignment (p->a), d, d}};
    s.transposed = (uint32_t)(p->a_transposed != 0) << 1 | (p->b_transposed != 0);
    return s;
}

static uint64_t hash (const Shape *s)
{
    const unsigned char *bytes = (const unsigned char *)s;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof *s; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

/* The shape's place: its own, else a free one nearby, else one to forget. */
static Choice *find (struct CudaGemm *g, const Shape *s)
{
    uint64_t at = hash (s) % SHAPES;
    for (int step = 0; step < 8; step++) {
        Choice *c = &g->choices[(at + (uint64_t)step) % SHAPES];
        if (!c->known || !memcmp (&c->shape, s, sizeof *s))
            return c;
    }
    return &g->choices[at];
}

static void call_free (Call *c)
{
    if (c->desc)
        cuda_api.lt.desc_destroy (c->desc);
    if (c->a)
        cuda_api.lt.layout_destroy (c->a);
    if (c->b)
        cuda_api.lt.layout_destroy (c->b);
    if (c->d)
        cuda_api.lt.layout_destroy (c->d);
}

/* Row-major D (M,N) = A·B is, by columns, Dᵀ = Bᵀ·Aᵀ: our B comes first. */
static DpsStatus call_make (struct DpsDevice *dev, const CudaProduct *p, Call *c, DpsError *err)
{
    const CudaLt *lt = &cuda_api.lt;
    int32_t ta = p->b_transposed ? LT_OP_T : LT_OP_N, tb = p->a_transposed ? LT_OP_T : LT_OP_N;
    int integers = p->d_dtype == DPS_DTYPE_I32;
    LtType ab = lt_type (p->ab_dtype);
    LtCompute compute = (LtCompute)(integers ? LT_COMPUTE_32I : LT_COMPUTE_32F);
    DPS_TRY (lt_check (dev, lt->desc_create (&c->desc, compute, (LtType)(integers ? LT_I32 : LT_F32)), "a product's description", err));
    DPS_TRY (lt_check (dev, lt->desc_set (c->desc, (LtDescAttribute)LT_DESC_TRANSA, &ta, sizeof ta), "its orientation", err));
    DPS_TRY (lt_check (dev, lt->desc_set (c->desc, (LtDescAttribute)LT_DESC_TRANSB, &tb, sizeof tb), "its orientation", err));
    uint64_t M = (uint64_t)p->M, N = (uint64_t)p->N, K = (uint64_t)p->K;
    DPS_TRY (lt_check (dev, lt->layout_create (&c->a, ab, p->b_transposed ? K : N, p->b_transposed ? N : K, p->ldb), "a layout", err));
    DPS_TRY (lt_check (dev, lt->layout_create (&c->b, ab, p->a_transposed ? M : K, p->a_transposed ? K : M, p->lda), "a layout", err));
    return lt_check (dev, lt->layout_create (&c->d, lt_type (p->d_dtype), N, M, p->ldd), "a layout", err);
}

static DpsStatus set_preference (struct DpsDevice *dev, LtPreference pref, const Shape *s, DpsError *err)
{
    static const uint32_t which[] = {LT_PREF_ALIGN_A, LT_PREF_ALIGN_B, LT_PREF_ALIGN_C, LT_PREF_ALIGN_D};
    const CudaLt *lt = &cuda_api.lt;
    uint64_t workspace = WORKSPACE;
    uint32_t no_split = 0;
    DPS_TRY (lt_check (dev, lt->pref_set (pref, (LtPreferenceAttribute)LT_PREF_WORKSPACE, &workspace, sizeof workspace), "workspace", err));
    DPS_TRY (lt_check (dev, lt->pref_set (pref, (LtPreferenceAttribute)LT_PREF_REDUCTION, &no_split, sizeof no_split), "reduction", err));
    for (int i = 0; i < 4; i++)
        DPS_TRY (lt_check (dev, lt->pref_set (pref, (LtPreferenceAttribute)which[i], &s->align[i], sizeof s->align[i]), "alignment", err));
    return DPS_OK;
}

static DpsStatus choose (struct DpsDevice *dev, const Call *c, Choice *to, const Shape *s, DpsError *err)
{
    LtPreference pref = NULL;
    LtHeuristic best;
    int n = 0;
    memset (&best, 0, sizeof best);
    DPS_TRY (lt_check (dev, cuda_api.lt.pref_create (&pref), "a preference", err));
    DpsStatus st = set_preference (dev, pref, s, err);
    if (st == DPS_OK) {
        LtStatus found = cuda_api.lt.heuristic (dev->gemm->handle, c->desc, c->a, c->b, c->d, c->d, pref, 1, &best, &n);
        st = found == LT_NOT_SUPPORTED ? DPS_OK : lt_check (dev, found, "no algorithm", err);
        if (st == DPS_OK)
            *to = (Choice){*s, best.algo, best.workspaceSize, 1, found == LT_OK && n > 0 && best.state == LT_OK};
    }
    cuda_api.lt.pref_destroy (pref);
    return st;
}

/* The choice is copied out: another queue may forget it once the lock is free. */
static DpsStatus chosen (struct DpsDevice *dev, const CudaProduct *p, const Call *call, Choice *out, DpsError *err)
{
    Shape s = shape_of (p);
    pthread_mutex_lock (&dev->lock);
    Choice *c = find (dev->gemm, &s);
    DpsStatus st = DPS_OK;
    if (!c->known || memcmp (&c->shape, &s, sizeof s))
        st = choose (dev, call, c, &s, err);
    *out = *c;
    pthread_mutex_unlock (&dev->lock);
    if (st == DPS_OK && !out->found)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: cuBLASLt has no algorithm for %lld x %lld x %lld", dev->name, (long long)p->M,
                         (long long)p->N, (long long)p->K);
    return st;
}

static DpsStatus multiply (struct DpsQueue *q, const CudaProduct *p, const Call *c, DpsError *err)
{
    const int32_t one = 1, zero = 0;
    int integers = p->d_dtype == DPS_DTYPE_I32;
    struct DpsBuffer *workspace = NULL;
    Choice choice;
    DPS_TRY (chosen (q->dev, p, c, &choice, err));
    if (choice.workspace_bytes)
        DPS_TRY (cuda_scratch (q, CUDA_SLOT_GEMM, choice.workspace_bytes, &workspace, err));
    void *a = (void *)(uintptr_t)p->b, *b = (void *)(uintptr_t)p->a, *d = (void *)(uintptr_t)p->d;
    return lt_check (q->dev,
                     cuda_api.lt.matmul (q->dev->gemm->handle, c->desc, integers ? (const void *)&one : (const void *)&p->alpha, a, c->a, b,
                                         c->b, integers ? (const void *)&zero : (const void *)&p->beta, d, c->d, d, c->d, &choice.algo,
                                         workspace ? (void *)(uintptr_t)workspace->ptr : NULL, choice.workspace_bytes, q->stream),
                     "a product", err);
}

DpsStatus cuda_gemm_run (struct DpsQueue *q, const CudaProduct *p, DpsError *err)
{
    Call c = {0};
    if (!q->dev->gemm)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: products are the dialect's own", q->dev->name);
    if (!p->M || !p->N || !p->K)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: cuBLASLt takes no empty product", q->dev->name);
    DpsStatus st = call_make (q->dev, p, &c, err);
    if (st == DPS_OK)
        st = multiply (q, p, &c, err);
    call_free (&c);
    return st;
}
