/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cached.h: calls of the model on tokens whose past lies in a key/value cache. It knows rows of the cache, not prompts or completions: what
 * stands where is the caller's. A past is a segment of keys alone, and the parent of the tokens that continue it: as many as like may share it.
 * Internal to the stage.
 */
#ifndef DPS_INFER_CACHED_H
#define DPS_INFER_CACHED_H

#include "exec/weights.h"

typedef struct DpsCached {
    DpsWeights *w;
    DpsBlock *states; /* [2·layers], keys and values of n_rows tokens each */
    int64_t n_rows;
    float *ropes[DPS_MAX_ROPES];
    /* the call that is being laid out */
    int32_t *ids, *rows, *last; /* tokens; the row each one's key and value go to; the last token of each run */
    DpsSegment *segments;
    int64_t n_tokens, n_segments, n_runs;
    /* the graph of the last call, kept while its counts stay */
    DpsGraph graph;
    DpsForwardOut *nodes;
    uint64_t peak;
    int64_t graph_tokens, graph_segments, graph_runs;
} DpsCached;

/** A cache of n_rows tokens, for calls of at most so many tokens, and runs and pasts together. Close it also after an error. Errors: NOMEM. */
DpsStatus dps__cached_open (DpsCached *c, DpsWeights *w, int64_t n_rows, size_t most_tokens, size_t most_segments, DpsError *err);
void dps__cached_close (DpsCached *c);

/** Say that rows [row, row + n) are the first n tokens of some sequences. Returns the parent for dps__cached_add. */
int32_t dps__cached_past (DpsCached *c, int64_t row, size_t n);

/** A run of n new tokens in rows [row + own, …): at positions past + own …, after `own` tokens in rows [row, row + own) and the parent's past. */
void dps__cached_add (DpsCached *c, int32_t parent, size_t past, int64_t row, size_t own, const int32_t *ids, size_t n);

/** Run what was added, which is then done with. *out_logits: of each run's last token, f32 (runs, V), until the next call. */
DpsStatus dps__cached_run (DpsCached *c, float **out_logits, DpsError *err);

/**
 * The log-probs of n targets, one for each row of the last call from `row` on: the bits token_logprobs gives with this temperature (0: 1) where the
 * same rows are trained. The logits must be as the call left them. Errors: NOMEM, the backend's. [device-serial]
 */
DpsStatus dps__cached_logp (DpsCached *c, int64_t row, int64_t n, const int32_t *targets, double temperature, float *out, DpsError *err);

/**
 * What a call of these counts needs: of the arena, and of the scratch where ops are decomposed. Weights may be an outline, without a cache open.
 * Errors: NOMEM, those of placement. [device-serial]
 */
DpsStatus dps__cached_measure (DpsWeights *w, int64_t n_rows, size_t tokens, size_t segments, size_t runs, uint64_t *out_arena,
                               uint64_t *out_scratch, DpsError *err);
/** Of all layers. */
uint64_t dps__cached_bytes (const DpsWeights *w, int64_t n_rows);

#endif
