/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h: token sequences laid side by side as ragged rows: the tables of graph.h's inputs. Nothing is padded. A root is what an objective calls a
 * unit: one sequence, or several that share their beginning (a pair, a group). The shared beginning is a segment of its own, computed once, and the
 * parent of the others. Only positions whose prediction counts are scored, so only they reach the output head.
 *
 *     rows of a root:  [ prefix | rest of sequence 0 | rest of sequence 1 | … ]
 *     scored rows:     those of sequence 0, then those of sequence 1: the last row of the prefix may come once for each
 */
#ifndef DPS_INFER_BATCH_H
#define DPS_INFER_BATCH_H

#include "base/status.h"
#include "diapason/ops.h"
#include "graph/graph.h"

/** One sequence. Borrowed while the batch is built. */
typedef struct DpsSequence {
    const int32_t *ids;
    const float *weights; /* [n] whether (and how much) predicting token t counts; [0] is ignored; NULL: every token but the first */
    size_t n;
    size_t prefix;  /* leading tokens it has in common with the sequences that join it; < n */
    int last_state; /* 1: what counts is not how it is predicted but the state after its last token: a score is read there */
    int joins;      /* 1: of the same root as the sequence before it */
    uint64_t key;   /* names the root within a run, for dropout: the number of rows consumed before it */
    uint64_t row;   /* names the root within its data set, for what is kept of it between steps */
} DpsSequence;

/** Sizes of a batch, without building it. */
typedef struct DpsBatchCounts {
    int64_t tokens, scored, segments, sequences, roots;
} DpsBatchCounts;

typedef struct DpsBatch {
    int64_t n_tokens, n_segments, n_scored, n_sequences, n_roots;
    int32_t *ids;          /* (N) */
    DpsSegment *segments;  /* (n_segments) */
    int32_t *roots;        /* (R+1) */
    int32_t *scored;       /* (S) rows */
    int32_t *targets;      /* (S) */
    int32_t *scored_roots; /* (R+1) */
    int64_t *keys;         /* (N) */
    double *weights;       /* (S) */
    double total_weight;
    int64_t *sequence_scored; /* (n_sequences+1) offsets of the sequences among the S scored rows */
    int64_t *root_sequences;  /* (R+1) offsets of the roots among the sequences */
    uint64_t *root_rows;      /* (R) DpsSequence.row */
} DpsBatch;

/** Add the sizes of n sequences, whole roots. [any] */
void dps_batch_count (const DpsSequence *sequences, size_t n, DpsBatchCounts *io);

/**
 * Lay out n sequences. Errors: INVALID (an id outside [0, vocab), named; a prefix that is not shared), LIMIT, NOMEM. Free with dps_batch_free.
 * [any]
 */
DpsStatus dps_batch_build (const DpsSequence *sequences, size_t n, int64_t vocab, DpsBatch *out, DpsError *err);
void dps_batch_free (DpsBatch *b);

#endif
