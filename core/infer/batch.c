/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/batch.h"

#include <string.h>

#include "base/mem.h"

static double weight_of (const DpsSequence *s, size_t t) { return t == 0 ? 0 : s->weights ? (double)s->weights[t] : 1; }

/* The end of the root that begins with sequence i. */
static size_t root_end (const DpsSequence *seqs, size_t n, size_t i)
{
    for (i++; i < n && seqs[i].joins; i++)
        ;
    return i;
}

/* A prefix nobody joins is no segment of its own. */
static size_t shared_by (const DpsSequence *seqs, size_t first, size_t end) { return end - first > 1 ? seqs[first].prefix : 0; }

void dps_batch_count (const DpsSequence *seqs, size_t n, DpsBatchCounts *io)
{
    for (size_t i = 0, end; i < n; i = end) {
        end = root_end (seqs, n, i);
        size_t shared = shared_by (seqs, i, end);
        io->roots++;
        io->tokens += (int64_t)shared;
        io->segments += shared > 0;
        for (size_t k = i; k < end; k++) {
            io->sequences++;
            io->segments++;
            io->tokens += (int64_t)(seqs[k].n - shared);
            for (size_t t = 1; t < seqs[k].n && !seqs[k].last_state; t++)
                io->scored += weight_of (&seqs[k], t) > 0;
            io->scored += seqs[k].last_state != 0;
        }
    }
}

static DpsStatus check (const DpsSequence *seqs, size_t n, int64_t vocab, DpsError *err)
{
    for (size_t i = 0; i < n; i++) {
        const DpsSequence *s = &seqs[i], *before = i ? s - 1 : s;
        for (size_t t = 0; t < s->n; t++)
            if (s->ids[t] < 0 || s->ids[t] >= vocab)
                return dps_fail (err, DPS_ERR_INVALID, "sequence %zu, token %zu: id %d is outside the vocabulary of %lld", i, t, s->ids[t],
                                 (long long)vocab);
        if (s->joins && (i == 0 || s->prefix != before->prefix || s->prefix >= s->n || before->prefix >= before->n ||
                         memcmp (s->ids, before->ids, s->prefix * sizeof *s->ids)))
            return dps_fail (err, DPS_ERR_INVALID, "sequence %zu does not share its first %zu tokens with the one before it", i, s->prefix);
    }
    return DPS_OK;
}

static DpsStatus count (const DpsSequence *seqs, size_t n, DpsBatch *out, DpsError *err)
{
    DpsBatchCounts c = {0};
    dps_batch_count (seqs, n, &c);
    out->n_tokens = c.tokens;
    out->n_scored = c.scored;
    out->n_segments = c.segments;
    out->n_sequences = c.sequences;
    out->n_roots = c.roots;
    return c.tokens <= INT32_MAX / 2 ? DPS_OK
                                     : dps_fail (err, DPS_ERR_LIMIT, "a micro-batch of %lld tokens is too large", (long long)c.tokens);
}

static int allocate (DpsBatch *b)
{
    size_t n = (size_t)b->n_tokens, s = (size_t)b->n_scored, r = (size_t)b->n_roots;
    b->ids = dps_malloc (n, sizeof *b->ids);
    b->segments = dps_malloc ((size_t)b->n_segments, sizeof *b->segments);
    b->roots = dps_malloc (r + 1, sizeof *b->roots);
    b->scored = dps_malloc (s, sizeof *b->scored);
    b->targets = dps_malloc (s, sizeof *b->targets);
    b->scored_roots = dps_malloc (r + 1, sizeof *b->scored_roots);
    b->keys = dps_malloc (n, sizeof *b->keys);
    b->weights = dps_malloc (s, sizeof *b->weights);
    b->sequence_scored = dps_malloc ((size_t)b->n_sequences + 1, sizeof *b->sequence_scored);
    b->root_sequences = dps_malloc (r + 1, sizeof *b->root_sequences);
    b->root_rows = dps_malloc (r, sizeof *b->root_rows);
    return b->ids && b->segments && b->roots && b->scored && b->targets && b->scored_roots && b->keys && b->weights && b->sequence_scored &&
                   b->root_sequences && b->root_rows
               ? 0
               : -1;
}

/* Where the next token, segment, scored row and sequence go. */
typedef struct Cursor {
    int32_t token, segment, scored, sequence;
} Cursor;

static void put_segment (DpsBatch *b, Cursor *at, const DpsSequence *s, size_t first, size_t end, int32_t parent, int32_t root)
{
    int32_t len = (int32_t)(end - first);
    b->segments[at->segment++] = (DpsSegment){
        .q_start = at->token, .q_len = len, .kv_start = at->token, .kv_len = len, .parent = parent, .position = (int32_t)first};
    for (size_t t = first; t < end; t++, at->token++) {
        b->ids[at->token] = s->ids[t];
        b->keys[at->token] = (int64_t)(s->key << 20 | (uint64_t)(at->token - root));
    }
}

static void put_state (DpsBatch *b, Cursor *at, int32_t row, int32_t target, double weight)
{
    b->scored[at->scored] = row;
    b->targets[at->scored] = target;
    b->weights[at->scored++] = weight;
    b->total_weight += weight;
}

/* The state before token t predicts it; the first `shared` states are those of the prefix. */
static void put_scored (DpsBatch *b, Cursor *at, const DpsSequence *s, size_t shared, int32_t prefix_row, int32_t row)
{
    b->sequence_scored[at->sequence++] = at->scored;
    if (s->last_state) {
        put_state (b, at, row + (int32_t)(s->n - shared) - 1, s->ids[s->n - 1], 1);
        return;
    }
    for (size_t t = 1; t < s->n; t++) {
        double w = weight_of (s, t);
        if (w > 0)
            put_state (b, at, t <= shared ? prefix_row + (int32_t)t - 1 : row + (int32_t)(t - shared) - 1, s->ids[t], w);
    }
}

static void fill (DpsBatch *b, const DpsSequence *seqs, size_t n)
{
    Cursor at = {0};
    int64_t root = 0;
    for (size_t i = 0, end; i < n; i = end, root++) {
        end = root_end (seqs, n, i);
        size_t shared = shared_by (seqs, i, end);
        int32_t start = at.token, parent = -1;
        b->roots[root] = start;
        b->scored_roots[root] = at.scored;
        b->root_sequences[root] = at.sequence;
        b->root_rows[root] = seqs[i].row;
        if (shared) {
            parent = at.segment;
            put_segment (b, &at, &seqs[i], 0, shared, -1, start);
        }
        for (size_t k = i; k < end; k++) {
            int32_t row = at.token;
            put_segment (b, &at, &seqs[k], shared, seqs[k].n, parent, start);
            put_scored (b, &at, &seqs[k], shared, start, row);
        }
    }
    b->roots[root] = at.token;
    b->scored_roots[root] = at.scored;
    b->root_sequences[root] = at.sequence;
    b->sequence_scored[at.sequence] = at.scored;
}

DpsStatus dps_batch_build (const DpsSequence *sequences, size_t n, int64_t vocab, DpsBatch *out, DpsError *err)
{
    *out = (DpsBatch){0};
    DPS_TRY (check (sequences, n, vocab, err));
    DPS_TRY (count (sequences, n, out, err));
    if (allocate (out)) {
        dps_batch_free (out);
        return dps_fail (err, DPS_ERR_NOMEM, "batch: out of memory for %lld tokens", (long long)out->n_tokens);
    }
    fill (out, sequences, n);
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
    dps_free (b->sequence_scored);
    dps_free (b->root_sequences);
    dps_free (b->root_rows);
    *b = (DpsBatch){0};
}
