/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/batch.h"

#include "base/mem.h"

static double weight_of (const DpsSequence *s, size_t t) { return t == 0 ? 0 : s->weights ? (double)s->weights[t] : 1; }

static DpsStatus count (const DpsSequence *seqs, size_t n, int64_t vocab, DpsBatch *out, DpsError *err)
{
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < seqs[i].n; t++) {
            if (seqs[i].ids[t] < 0 || seqs[i].ids[t] >= vocab)
                return dps_fail (err, DPS_ERR_INVALID, "sequence %zu, token %zu: id %d is outside the vocabulary of %lld", i, t,
                                 seqs[i].ids[t], (long long)vocab);
            out->n_tokens++;
            out->n_scored += weight_of (&seqs[i], t) > 0;
        }
    if (out->n_tokens > INT32_MAX / 2)
        return dps_fail (err, DPS_ERR_LIMIT, "a micro-batch of %lld tokens is too large", (long long)out->n_tokens);
    out->n_roots = out->n_segments = (int64_t)n;
    return DPS_OK;
}

static int allocate (DpsBatch *b)
{
    size_t n = (size_t)b->n_tokens, s = (size_t)b->n_scored, r = (size_t)b->n_roots;
    b->ids = dps_malloc (n, sizeof *b->ids);
    b->segments = dps_malloc (r, sizeof *b->segments);
    b->roots = dps_malloc (r + 1, sizeof *b->roots);
    b->scored = dps_malloc (s, sizeof *b->scored);
    b->targets = dps_malloc (s, sizeof *b->targets);
    b->scored_roots = dps_malloc (r + 1, sizeof *b->scored_roots);
    b->keys = dps_malloc (n, sizeof *b->keys);
    b->weights = dps_malloc (s, sizeof *b->weights);
    return b->ids && b->segments && b->roots && b->scored && b->targets && b->scored_roots && b->keys && b->weights ? 0 : -1;
}

static void fill (DpsBatch *b, const DpsSequence *seqs)
{
    int32_t at = 0, scored = 0;
    for (int64_t i = 0; i < b->n_roots; i++) {
        int32_t len = (int32_t)seqs[i].n;
        b->roots[i] = at;
        b->scored_roots[i] = scored;
        b->segments[i] = (DpsSegment){.q_start = at, .q_len = len, .kv_start = at, .kv_len = len, .parent = -1};
        for (int32_t t = 0; t < len; t++) {
            double w = weight_of (&seqs[i], (size_t)t);
            b->ids[at + t] = seqs[i].ids[t];
            b->keys[at + t] = (int64_t)(seqs[i].key << 20 | (uint64_t)t);
            if (w > 0) { /* the state before token t predicts it */
                b->scored[scored] = at + t - 1;
                b->targets[scored] = seqs[i].ids[t];
                b->weights[scored++] = w;
                b->total_weight += w;
            }
        }
        at += len;
    }
    b->roots[b->n_roots] = at;
    b->scored_roots[b->n_roots] = scored;
}

DpsStatus dps_batch_build (const DpsSequence *sequences, size_t n, int64_t vocab, DpsBatch *out, DpsError *err)
{
    *out = (DpsBatch){0};
    DPS_TRY (count (sequences, n, vocab, out, err));
    if (allocate (out)) {
        dps_batch_free (out);
        return dps_fail (err, DPS_ERR_NOMEM, "batch: out of memory for %lld tokens", (long long)out->n_tokens);
    }
    fill (out, sequences);
    return DPS_OK;
}

void dps_batch_free (DpsBatch *b)
{
    dps_free (b->ids);
    dps_free (b->segments);
    dps_free (b->roots);
    dps_free (b->scored);
    dps_free (b->targets);
    dps_free (b->scored_roots);
    dps_free (b->keys);
    dps_free (b->weights);
    *b = (DpsBatch){0};
}
