/* SPDX-License-Identifier: Apache-2.0 */
/* scorer.h: rows scored some at a time, results in the order they came: what score and eval share. */
#ifndef DPS_TOOLS_SCORER_H
#define DPS_TOOLS_SCORER_H

#include "diapason/model_options.h"

enum { CLI_SCORER_TOKENS = 2048, CLI_SCORER_ROWS = 64 };

/** logp[t]: log-probability of token t; [0] is 0. */
typedef DpsStatus (*CliScored) (void *ctx, const DpsEncoded *x, const float *logp, DpsError *err);

typedef struct CliScorer {
    CliSession *session;
    CliScored scored;
    void *ctx;
    DpsEncoded rows[CLI_SCORER_ROWS];
    size_t n, tokens;     /* added and not scored yet */
    uint64_t n_scored;    /* sequences, so far */
    double scored_tokens; /* so far */
} CliScorer;

/** *x is taken, also on errors. */
DpsStatus cli_scorer_add (CliScorer *s, DpsEncoded *x, DpsError *err);
/** Score what was added and is not scored yet. */
DpsStatus cli_scorer_flush (CliScorer *s, DpsError *err);
/** The progress bar after `added` of `total` rows were added. */
void cli_scorer_progress (const CliScorer *s, const char *label, uint64_t added, uint64_t total);
/** Drop what is left. */
void cli_scorer_free (CliScorer *s);

#endif
