/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas.c: cuBLASLt by plain loops: f32 or bf16 with f32 sums, i8 with i32 sums, one algorithm per shape. It minds what the real one minds: an
 * algorithm is only good for the shape it was found for, a workspace is as large as was said, matrices lie inside their blocks.
 */
#include <stdlib.h>
#include <string.h>

#include "inside.h"

typedef struct LtDescOpaque {
    LtCompute compute;
    int32_t ta, tb;
} Desc;
typedef struct LtLayoutOpaque {
    LtType type;
    uint64_t rows, cols;
    int64_t ld;
} Layout;
typedef struct LtPreferenceOpaque {
    uint64_t workspace;
    uint32_t reduction, align[4];
} Preference;
struct LtContext {
    int unused;
};

enum { INVALID = 7, WORKSPACE = 4096 };
static const char magic[8] = "LT-ALGO";

size_t cublasLtGetVersion (void);
size_t cublasLtGetVersion (void) { return 130100; }
const char *cublasLtGetStatusString (LtStatus s);
const char *cublasLtGetStatusString (LtStatus s)
{
    return s == INVALID ? "invalid value" : s == LT_NOT_SUPPORTED ? "not supported" : "failed";
}

#define MAKES(name, type, Handle)                                                                                                          \
    LtStatus name (Handle *out);                                                                                                           \
    LtStatus name (Handle *out)                                                                                                            \
    {                                                                                                                                      \
        if (double_call (1) != CU_OK || !(*out = calloc (1, sizeof (type))))                                                               \
            return LT_ALLOC_FAILED;                                                                                                        \
        double_object (1);                                                                                                                 \
        return LT_OK;                                                                                                                      \
    }
#define FREES(name, Handle)                                                                                                                \
    LtStatus name (Handle h);                                                                                                              \
    LtStatus name (Handle h)                                                                                                               \
    {                                                                                                                                      \
        free (h);                                                                                                                          \
        double_object (-1);                                                                                                                \
        return LT_OK;                                                                                                                      \
    }
MAKES (cublasLtCreate, struct LtContext, LtHandle)
MAKES (cublasLtMatmulPreferenceCreate, Preference, LtPreference)
FREES (cublasLtDestroy, LtHandle)
FREES (cublasLtMatmulPreferenceDestroy, LtPreference)
FREES (cublasLtMatmulDescDestroy, LtDesc)
FREES (cublasLtMatrixLayoutDestroy, LtLayout)

LtStatus cublasLtMatmulDescCreate (LtDesc *out, LtCompute compute, LtType scale);
LtStatus cublasLtMatmulDescCreate (LtDesc *out, LtCompute compute, LtType scale)
{
    if (double_call (1) != CU_OK || scale != (compute == LT_COMPUTE_32I ? LT_I32 : LT_F32) || !(*out = calloc (1, sizeof **out)))
        return LT_ALLOC_FAILED;
    (*out)->compute = compute;
    double_object (1);
    return LT_OK;
}

LtStatus cublasLtMatmulDescSetAttribute (LtDesc d, LtDescAttribute which, const void *value, size_t bytes);
LtStatus cublasLtMatmulDescSetAttribute (LtDesc d, LtDescAttribute which, const void *value, size_t bytes)
{
    if (bytes != 4 || (which != LT_DESC_TRANSA && which != LT_DESC_TRANSB))
        return INVALID;
    memcpy (which == LT_DESC_TRANSA ? &d->ta : &d->tb, value, 4);
    return LT_OK;
}

LtStatus cublasLtMatrixLayoutCreate (LtLayout *out, LtType type, uint64_t rows, uint64_t cols, int64_t ld);
LtStatus cublasLtMatrixLayoutCreate (LtLayout *out, LtType type, uint64_t rows, uint64_t cols, int64_t ld)
{
    if (double_call (1) != CU_OK || !(*out = calloc (1, sizeof **out)))
        return LT_ALLOC_FAILED;
    **out = (Layout){type, rows, cols, ld};
    double_object (1);
    return rows && cols && ld >= (int64_t)rows ? LT_OK : INVALID;
}

LtStatus cublasLtMatmulPreferenceSetAttribute (LtPreference p, LtPreferenceAttribute which, const void *value, size_t bytes);
LtStatus cublasLtMatmulPreferenceSetAttribute (LtPreference p, LtPreferenceAttribute which, const void *value, size_t bytes)
{
    switch (which) {
    case LT_PREF_WORKSPACE: memcpy (&p->workspace, value, 8); return bytes == 8 ? LT_OK : INVALID;
    case LT_PREF_REDUCTION: memcpy (&p->reduction, value, 4); return bytes == 4 ? LT_OK : INVALID;
    case LT_PREF_ALIGN_A:
    case LT_PREF_ALIGN_B:
    case LT_PREF_ALIGN_C:
    case LT_PREF_ALIGN_D: memcpy (&p->align[which - LT_PREF_ALIGN_A], value, 4); return bytes == 4 ? LT_OK : INVALID;
    default: return INVALID;
    }
}

typedef struct Matmul {
    Desc d;
    Layout a, b, out;
    const void *pa, *pb;
    void *pd;
    float alpha, beta;
} Matmul;

/* Rows and columns fit, and the types are ones the real library has. */
static LtStatus check (const Desc *d, const Layout *a, const Layout *b, const Layout *out)
{
    uint64_t M = out->rows, N = out->cols, K = d->ta ? a->rows : a->cols;
    int integers = d->compute == LT_COMPUTE_32I;
    if ((d->ta ? a->cols : a->rows) != M || (d->tb ? b->rows : b->cols) != N || (d->tb ? b->cols : b->rows) != K || a->type != b->type)
        return INVALID;
    if (integers) /* sums of i8 need A turned, B not, and fours */
        return a->type == LT_I8 && out->type == LT_I32 && d->ta && !d->tb && K % 4 == 0 && M % 4 == 0 ? LT_OK : LT_NOT_SUPPORTED;
    if (a->type == LT_F32)
        return out->type == LT_F32 ? LT_OK : LT_NOT_SUPPORTED;
    return a->type == LT_BF16 && (out->type == LT_F32 || out->type == LT_BF16) ? LT_OK : LT_NOT_SUPPORTED;
}

static uint64_t digest (const Desc *d, const Layout *a, const Layout *b, const Layout *out)
{
    const uint64_t words[] = {d->compute,       (uint64_t)d->ta << 1 | (uint64_t)d->tb,
                              a->type,          a->rows,
                              a->cols,          (uint64_t)a->ld,
                              b->rows,          b->cols,
                              (uint64_t)b->ld,  out->type,
                              out->rows,        out->cols,
                              (uint64_t)out->ld};
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        h = (h ^ words[i]) * 0x9e3779b97f4a7c15u;
    return h;
}

LtStatus cublasLtMatmulAlgoCheck (LtHandle h, LtDesc d, LtLayout a, LtLayout b, LtLayout c, LtLayout out, const LtAlgo *algo,
                                  LtHeuristic *result);
LtStatus cublasLtMatmulAlgoCheck (LtHandle h, LtDesc d, LtLayout a, LtLayout b, LtLayout c, LtLayout out, const LtAlgo *algo,
                                  LtHeuristic *result)
{
    (void)h, (void)c;
    if (memcmp (algo->data, magic, sizeof magic) || algo->data[1] != digest (d, a, b, out))
        return INVALID;
    result->algo = *algo;
    result->workspaceSize = WORKSPACE;
    return check (d, a, b, out);
}

LtStatus cublasLtMatmulAlgoGetHeuristic (LtHandle h, LtDesc d, LtLayout a, LtLayout b, LtLayout c, LtLayout out, LtPreference pref,
                                         int most, LtHeuristic *results, int *n);
LtStatus cublasLtMatmulAlgoGetHeuristic (LtHandle h, LtDesc d, LtLayout a, LtLayout b, LtLayout c, LtLayout out, LtPreference pref,
                                         int most, LtHeuristic *results, int *n)
{
    (void)h, (void)c;
    LtStatus s = check (d, a, b, out);
    *n = 0;
    if (s != LT_OK || most < 1)
        return s;
    if (pref->reduction)
        double_breach ("cuBLASLt is allowed to split sums");
    for (int i = 0; i < 4; i++)
        if (!pref->align[i] || pref->align[i] & (pref->align[i] - 1))
            return INVALID;
    memset (results, 0, sizeof *results);
    memcpy (results->algo.data, magic, sizeof magic);
    results->algo.data[1] = digest (d, a, b, out);
    results->workspaceSize = pref->workspace < WORKSPACE ? (size_t)pref->workspace : WORKSPACE;
    *n = 1;
    return LT_OK;
}

static float load (const void *p, LtType type, uint64_t at)
{
    float f;
    if (type == LT_F32)
        return ((const float *)p)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)p)[at] << 16;
    memcpy (&f, &bits, sizeof f);
    return f;
}

static void store (void *p, LtType type, uint64_t at, float f)
{
    uint32_t bits;
    if (type == LT_F32) {
        ((float *)p)[at] = f;
        return;
    }
    memcpy (&bits, &f, sizeof bits);
    ((uint16_t *)p)[at] = (uint16_t)(f != f ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint64_t place (const Layout *l, int turned, uint64_t row, uint64_t col)
{
    return turned ? row * (uint64_t)l->ld + col : col * (uint64_t)l->ld + row;
}

static void matmul_run (void *arg)
{
    const Matmul *m = arg;
    uint64_t K = m->d.ta ? m->a.rows : m->a.cols;
    for (uint64_t col = 0; col < m->out.cols; col++)
        for (uint64_t row = 0; row < m->out.rows; row++) {
            uint64_t at = col * (uint64_t)m->out.ld + row;
            if (m->d.compute == LT_COMPUTE_32I) {
                int32_t sum = 0;
                for (uint64_t k = 0; k < K; k++)
                    sum +=
                        ((const int8_t *)m->pa)[place (&m->a, m->d.ta, row, k)] * ((const int8_t *)m->pb)[place (&m->b, m->d.tb, k, col)];
                ((int32_t *)m->pd)[at] = sum;
                continue;
            }
            float sum = 0;
            for (uint64_t k = 0; k < K; k++)
                sum += load (m->pa, m->a.type, place (&m->a, m->d.ta, row, k)) * load (m->pb, m->b.type, place (&m->b, m->d.tb, k, col));
            store (m->pd, m->out.type, at, m->alpha * sum + (m->beta != 0 ? m->beta * load (m->pd, m->out.type, at) : 0));
        }
}

static uint64_t bytes_of (const Layout *l)
{
    uint64_t item = l->type == LT_BF16 ? 2 : l->type == LT_I8 ? 1 : 4;
    return item * ((l->cols - 1) * (uint64_t)l->ld + l->rows);
}

LtStatus cublasLtMatmul (LtHandle h, LtDesc d, const void *alpha, const void *a, LtLayout la, const void *b, LtLayout lb, const void *beta,
                         const void *c, LtLayout lc, void *out, LtLayout ld, const LtAlgo *algo, void *workspace, size_t workspace_bytes,
                         CuStream s);
LtStatus cublasLtMatmul (LtHandle h, LtDesc d, const void *alpha, const void *a, LtLayout la, const void *b, LtLayout lb, const void *beta,
                         const void *c, LtLayout lc, void *out, LtLayout ld, const LtAlgo *algo, void *workspace, size_t workspace_bytes,
                         CuStream s)
{
    LtHeuristic result;
    Matmul m = {*d, *la, *lb, *ld, a, b, out, 1, 0};
    (void)h;
    if (double_call (0) != CU_OK)
        return 13; /* execution failed */
    LtStatus st = cublasLtMatmulAlgoCheck (h, d, la, lb, lc, ld, algo, &result);
    if (st != LT_OK || c != out || lc != ld || workspace_bytes < result.workspaceSize)
        return st != LT_OK ? st : INVALID;
    if (d->compute == LT_COMPUTE_32I && (((uintptr_t)a | (uintptr_t)b | (uintptr_t)out | (uint64_t)(la->ld | lb->ld | ld->ld)) & 3))
        return LT_NOT_SUPPORTED;
    if (!double_holds (a, bytes_of (la), "a product") || !double_holds (b, bytes_of (lb), "a product") ||
        !double_holds (out, bytes_of (ld), "a product") || !double_holds (workspace, workspace_bytes, "a product's workspace"))
        return INVALID;
    if (d->compute != LT_COMPUTE_32I) {
        memcpy (&m.alpha, alpha, sizeof m.alpha);
        memcpy (&m.beta, beta, sizeof m.beta);
    }
    return double_enqueue (s, matmul_run, &m, sizeof m, 0) ? LT_OK : LT_ALLOC_FAILED;
}
