/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h: token sequences laid side by side as ragged rows: the tables of graph.h's inputs. Nothing is padded. Every sequence is a root;
 * only positions whose prediction counts are scored, so only they reach the output head.
 */
#ifndef DPS_INFER_BATCH_H
#define DPS_INFER_BATCH_H

#include "base/status.h"
#include "diapason/draft/ops.h"
#include "graph/graph.h"

/** One sequence. Borrowed while the batch is built. */
typedef struct DpsSequence {
    const int32_t *ids;
    const float *weights; /* [n] whether (and how much) predicting token t counts; [0] is ignored; NULL: every token but the first */
    size_t n;
    uint64_t key; /* names the sequence within a run, for dropout: the number of rows consumed before it */
} DpsSequence;

typedef struct DpsBatch {
    int64_t n_tokens, n_segments, n_scored, n_roots;
    int32_t *ids;          /* (N) */
    DpsSegment *segments;  /* (n_segments) */
    int32_t *roots;        /* (R+1) */
    int32_t *scored;       /* (S) rows */
    int32_t *targets;      /* (S) */
    int32_t *scored_roots; /* (R+1) */
    int64_t *keys;         /* (N) */
    double *weights;       /* (S) */
    double total_weight;
} DpsBatch;

/** Lay out n sequences. Errors: INVALID (an id outside [0, vocab), named), LIMIT, NOMEM. Free with dps_batch_free. [any] */
DpsStatus dps_batch_build (const DpsSequence *sequences, size_t n, int64_t vocab, DpsBatch *out, DpsError *err);
void dps_batch_free (DpsBatch *b);

#endif
