/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logprobs.c: token_logprobs without the logits: the vocabulary goes by in chunks. For each chunk, z = h·Wᵀ (chunk); the running maximum, sums
 * and arg max are brought up to date; and, when the adjoint will be wanted, acc = acc·exp(old max - new max) + p·W. At the end
 * dir = W[target] - acc/sum. So the head is multiplied twice and S×V numbers never exist.
 */
#include <string.h>

#include "pack.h"

static DpsStatus no_memory (CpuCall *c) { return dps_fail (c->err, DPS_ERR_NOMEM, "cpu: out of memory for %s", c->name); }

typedef struct Head {
    const DpsView *w, *w_grad;
    int64_t S, D, V, chunk;
    uint32_t dtype;
    const void *h;
} Head;

static DpsStatus open_head (CpuCall *c, Head *t, int needs_grad)
{
    const DpsView *h = cpu_in (c, 0);
    *t = (Head){.w = cpu_in (c, 1), .w_grad = cpu_in (c, 3), .S = cpu_rows (h), .D = cpu_cols (h)};
    t->V = t->w->shape[0];
    t->chunk = t->V < CPU_ROWS_CHUNK ? t->V : CPU_ROWS_CHUNK;
    t->dtype = t->w->dtype == DPS_DTYPE_BF16 && cpu_machine ()->has_bf16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
    if (!cpu_is_packed (t->w))
        t->w_grad = t->w;
    if (needs_grad && !t->w_grad)
        return dps_fail (c->err, DPS_ERR_INVALID, "cpu: token_logprobs needs the head packed for input gradients too when dir is wanted");
    t->h = h->host;
    if (h->dtype != t->dtype) {
        void *copy = cpu_scratch (CPU_SLOT_A, (uint64_t) cpu_count (h) * 4);
        if (!copy)
            return no_memory (c);
        cpu_machine ()->vector->convert (h->host, h->dtype, copy, t->dtype, cpu_count (h));
        t->h = copy;
    }
    return DPS_OK;
}

/* Row-major weights in another dtype than the product's: one chunk of rows at a time. */
static const void *plain_chunk (const Head *t, const DpsView *w, int64_t first, int64_t n)
{
    uint64_t size = w->dtype == DPS_DTYPE_BF16 ? 2 : 4;
    const char *at = (const char *) w->host + (uint64_t) (first * t->D) * size;
    if (w->dtype == t->dtype)
        return at;
    void *copy = cpu_scratch (CPU_SLOT_B, (uint64_t) (n * t->D) * 4);
    if (copy)
        cpu_machine ()->vector->convert (at, w->dtype, copy, t->dtype, n * t->D);
    return copy;
}

/* z (S, n) = h · W[first …]ᵀ */
static DpsStatus product_z (CpuCall *c, const Head *t, int64_t first, int64_t n, float *z)
{
    DnnlProduct p = {.M = t->S, .N = n, .K = t->D, .lda = t->D, .ldb = t->D, .ldc = t->chunk, .trans_b = 1, .dtype = t->dtype,
                     .c_dtype = DPS_DTYPE_F32, .alpha = 1};
    const void *b;
    if (cpu_is_packed (t->w)) {
        CpuChunk k;
        DPS_TRY (cpu_chunk_at (t->V, t->D, t->dtype, DPS_PACK_FORWARD, first / CPU_ROWS_CHUNK, &k, c->err));
        p.packed_b = 1;
        b = (const char *) t->w->host + k.offset;
    } else if (!(b = plain_chunk (t, t->w, first, n)))
        return no_memory (c);
    return dnnl_product (&p, t->h, b, z, c->err);
}

/* acc (S, D) += p (S, n) · W[first …] */
static DpsStatus product_acc (CpuCall *c, const Head *t, int64_t first, int64_t n, const void *weights, float *acc)
{
    DnnlProduct p = {.M = t->S, .N = t->D, .K = n, .lda = t->chunk, .ldb = t->D, .ldc = t->D, .accumulate = 1, .dtype = t->dtype,
                     .c_dtype = DPS_DTYPE_F32, .alpha = 1};
    const void *b;
    if (cpu_is_packed (t->w_grad)) {
        CpuChunk k;
        DPS_TRY (cpu_chunk_at (t->V, t->D, t->dtype, DPS_PACK_INPUT_GRAD, first / CPU_ROWS_CHUNK, &k, c->err));
        p.packed_b = 1;
        b = (const char *) t->w_grad->host + k.offset;
    } else if (!(b = plain_chunk (t, t->w_grad, first, n)))
        return no_memory (c);
    return dnnl_product (&p, weights, b, acc, c->err);
}

/* dir = W[target]·factor - acc/sum, in place over acc, then to the output's dtype. */
static DpsStatus finish_dir (CpuCall *c, const Head *t, const CpuSoftmax *s, const DpsView *dir)
{
    float *row = cpu_scratch (CPU_SLOT_E, (uint64_t) t->D * 4);
    if (!row)
        return no_memory (c);
    int64_t shape[2] = {1, t->D};
    DpsView one = {.size = sizeof one, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = shape, .host = row};
    for (int64_t i = 0; i < t->S; i++) {
        float *acc = s->acc + i * t->D;
        if (cpu_is_packed (t->w))
            DPS_TRY (cpu_unpack_rows (t->w, &s->targets[i], 1, &one, c->err));
        else
            cpu_machine ()->vector->convert ((const char *) t->w->host + (uint64_t) (s->targets[i] * t->D) * (t->w->dtype == DPS_DTYPE_BF16 ? 2 : 4),
                                             t->w->dtype, row, DPS_DTYPE_F32, t->D);
        float inverse = 1 / s->sum[i];
        for (int64_t d = 0; d < t->D; d++)
            acc[d] = row[d] * s->target_factor[i] - acc[d] * inverse;
    }
    cpu_machine ()->vector->convert (s->acc, DPS_DTYPE_F32, dir->host, dir->dtype, t->S * t->D);
    return DPS_OK;
}

static DpsStatus check_targets (CpuCall *c, const int32_t *targets, int64_t S, int64_t V)
{
    for (int64_t i = 0; i < S; i++)
        if (targets[i] < 0 || targets[i] >= V)
            return dps_fail (c->err, DPS_ERR_INVALID, "cpu: target %d of row %lld is outside the vocabulary of %lld", targets[i], (long long) i, (long long) V);
    return DPS_OK;
}

static DpsStatus open_softmax (CpuCall *c, const Head *t, CpuSoftmax *s, int with_acc)
{
    uint64_t S = (uint64_t) t->S;
    float *rows = cpu_scratch (CPU_SLOT_F, S * 4 * 12 + 64);
    *s = (CpuSoftmax){.S = t->S, .D = t->D, .ld = t->chunk, .softcap = cpu_f (c, 0), .temperature = cpu_f (c, 1), .p_dtype = t->dtype};
    s->targets = cpu_in (c, 2)->host;
    s->temperature = s->temperature > 0 ? s->temperature : 1;
    float *z = cpu_scratch (CPU_SLOT_C, S * (uint64_t) t->chunk * 4);
    if (with_acc)
        s->p = cpu_scratch (CPU_SLOT_D, S * (uint64_t) t->chunk * (t->dtype == DPS_DTYPE_BF16 ? 2 : 4));
    if (!rows || !z || (with_acc && !s->p))
        return no_memory (c);
    s->z = z;
    s->max = rows, s->sum = rows + S, s->sum_z = rows + 2 * S, s->target = rows + 3 * S, s->best = rows + 4 * S;
    s->target_factor = rows + 5 * S, s->best_id = (int32_t *) (rows + 6 * S);
    s->logp = rows + 7 * S, s->entropy = rows + 8 * S, s->hit = rows + 9 * S;
    return check_targets (c, s->targets, t->S, t->V);
}

DpsStatus cpu_token_logprobs (CpuCall *c)
{
    const DpsView *dir = cpu_out (c, 3);
    Head t;
    CpuSoftmax s;
    DPS_TRY (open_head (c, &t, dir != NULL));
    DPS_TRY (open_softmax (c, &t, &s, dir != NULL));
    if (dir) {
        s.acc = cpu_scratch (CPU_SLOT_G, (uint64_t) (t.S * t.D) * 4);
        if (!s.acc)
            return no_memory (c);
        memset (s.acc, 0, (size_t) (t.S * t.D) * 4);
    }
    for (int64_t first = 0; first < t.V; first += t.chunk) {
        int64_t n = t.V - first < t.chunk ? t.V - first : t.chunk;
        DPS_TRY (product_z (c, &t, first, n, (float *) s.z));
        cpu_machine ()->vector->softmax_chunk (&s, first, n);
        if (dir)
            DPS_TRY (product_acc (c, &t, first, n, s.p, s.acc));
    }
    cpu_machine ()->vector->softmax_end (&s);
    const float *const results[] = {s.logp, s.entropy, s.hit};
    for (uint32_t i = 0; i < 3; i++)
        if (cpu_out (c, i))
            cpu_machine ()->vector->convert (results[i], DPS_DTYPE_F32, cpu_out (c, i)->host, cpu_out (c, i)->dtype, t.S);
    return dir ? finish_dir (c, &t, &s, dir) : DPS_OK;
}

/* dW[first …] += Σ over roots of dzᵀ·h, with dz = (onehot - p)·dlogp: the logits of a chunk once more, after a pass for the sums. */
DpsStatus cpu_token_logprobs_dw (CpuCall *c)
{
    const DpsView *dlogp = cpu_in (c, 3), *roots = cpu_in (c, 4), *dw = cpu_out (c, 0);
    Head t;
    CpuSoftmax s;
    DPS_TRY (open_head (c, &t, 0));
    DPS_TRY (open_softmax (c, &t, &s, 0));
    float *h = cpu_scratch (CPU_SLOT_G, (uint64_t) (t.S * t.D) * 4), *dz = cpu_scratch (CPU_SLOT_D, (uint64_t) (t.S * t.chunk) * 4);
    if (!h || !dz)
        return no_memory (c);
    cpu_machine ()->vector->convert (cpu_in (c, 0)->host, cpu_in (c, 0)->dtype, h, DPS_DTYPE_F32, t.S * t.D);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t first = 0; first < t.V; first += t.chunk) {
            int64_t n = t.V - first < t.chunk ? t.V - first : t.chunk;
            DPS_TRY (product_z (c, &t, first, n, (float *) s.z));
            if (pass == 0) {
                cpu_machine ()->vector->softmax_chunk (&s, first, n);
                continue;
            }
            cpu_machine ()->vector->softmax_grad (&s, first, n, dlogp->host, dz);
            const int32_t *at = roots->host;
            for (int64_t r = 0; r + 1 < roots->shape[0]; r++) {
                DnnlProduct p = {.M = n, .N = t.D, .K = at[r + 1] - at[r], .lda = t.chunk, .ldb = t.D, .ldc = t.D, .trans_a = 1, .accumulate = 1,
                                 .dtype = DPS_DTYPE_F32, .c_dtype = DPS_DTYPE_F32, .alpha = 1};
                if (p.K > 0)
                    DPS_TRY (dnnl_product (&p, dz + at[r] * t.chunk, h + at[r] * t.D, (float *) dw->host + first * t.D, c->err));
            }
        }
    return DPS_OK;
}

DpsStatus cpu_embed_packed (CpuCall *c)
{
    const DpsView *table = cpu_in (c, 0), *ids = cpu_in (c, 1), *y = cpu_out (c, 0);
    DPS_TRY (cpu_unpack_rows (table, ids->host, cpu_count (ids), y, c->err));
    double scale = cpu_f (c, 0);
    if (scale != 0 && scale != 1)
        cpu_machine ()->vector->scale (y->host, y->dtype, y->host, y->dtype, scale, cpu_count (y));
    return DPS_OK;
}
