/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed.h: the rows of a run as token sequences, in the order they are trained. Row k of epoch e is a pure function of (recipe, seed, e, k), so
 * there is no cursor to save. With packing a place holds several short sequences.
 */
#ifndef DPS_TRAIN_FEED_H
#define DPS_TRAIN_FEED_H

#include "infer/batch.h"
#include "objective/objective.h"
#include "recipe/recipe.h"
#include "token/tokenizer.h"

typedef struct DpsFeed DpsFeed;

enum { DPS_PLACE_SIGNALS = 8 }; /* an objective of a run has at most so many */

/**
 * One place of a micro-batch: one unit of the objective (a sequence, a pair, a group), or with packing several sequences. Everything is owned by
 * the place. Signals go by their number in the objective's description; axis token: [counts.scored] in the order of the batch, axis row: [n].
 */
typedef struct DpsPlace {
    DpsSequence *sequences; /* ids and weights are owned too */
    size_t n;
    DpsBatchCounts counts;
    double *rewards;                    /* (n, criteria) NaN: this criterion did not judge this row. NULL: none did */
    uint32_t *truncated;                /* (n) 1: the answer stopped at the length limit. NULL: none did */
    float *recorded[DPS_PLACE_SIGNALS]; /* roles rollout and reference, as recorded when the answers were sampled; NULL: not recorded */
    double *step[DPS_PLACE_SIGNALS];    /* role step, as dps__trainer_score computed them; NULL: not yet */
} DpsPlace;

/**
 * eval: 1 for eval_datasets in file order. objective: what its units are, and whether it reads scores. tok may be NULL (pre-tokenized rows). config: the model's, for
 * its special ids where there is no tokenizer. vocab: ids of the model, others are refused.
 * Errors: USAGE, DATA, NOT_FOUND …
 */
DpsStatus dps_feed_open (const DpsRecipe *recipe, const DpsTokenizer *tok, const json_t *config, int64_t vocab, int eval,
                         const DpsObjectiveInstance *objective, DpsFeed **out, DpsError *err);
void dps_feed_close (DpsFeed *f);

/** The row at place k of an epoch as it was read, its columns renamed, without packing. A new reference. Errors: DATA, IO, NOMEM. */
DpsStatus dps_feed_object (const DpsFeed *f, uint64_t epoch, uint64_t k, json_t **out, DpsError *err);
/** Places of an epoch. With packing the scan must have been made, and epochs may differ. Errors: NOMEM. */
DpsStatus dps_feed_places (DpsFeed *f, uint64_t epoch, uint64_t *out, DpsError *err);
/** Place k < places of an epoch. Free with dps_place_free. Errors: DATA by file and line. */
DpsStatus dps_feed_get (DpsFeed *f, uint64_t epoch, uint64_t k, DpsPlace *out, DpsError *err);
void dps_place_free (DpsPlace *p);

/**
 * Read every row once: refuses bad ones before training starts, and learns lengths. Does nothing and returns DPS_OK with *out_exact 0 when the
 * files are larger than 64 MiB, unless packing needs the lengths or groups the names of their criteria; *out_exact is 0 too where rows are wrapped.
 * progress may be NULL.
 */
DpsStatus dps_feed_scan (DpsFeed *f, int *out_exact, void (*progress) (void *ctx, double share), void *ctx, DpsError *err);

/** After a scan: names and weights of the criteria of DpsPlace.rewards; values and truncated are NULL. Borrowed until close. */
void dps_feed_rewards (const DpsFeed *f, DpsRewards *out);

/** After a scan: the sizes of place k of an epoch, added to *io, without reading it; of a wrapped place the most. Errors: NOMEM. */
DpsStatus dps_feed_count (DpsFeed *f, uint64_t epoch, uint64_t k, DpsBatchCounts *io, DpsError *err);
/** The most of everything that a place has, or without a scan can have; tokens 0: no limit is known. */
DpsBatchCounts dps_feed_most (const DpsFeed *f);
/** DpsSequence.row of place k of an epoch, without packing. */
uint64_t dps_feed_row (const DpsFeed *f, uint64_t epoch, uint64_t k);
/** Rows of the data set: DpsSequence.row is below. */
uint64_t dps_feed_rows (const DpsFeed *f);

/** SHA-256 and path of each file, for the lock: entry i, or 0 past the last. */
int dps_feed_file (const DpsFeed *f, size_t i, const char **out_path, const char **out_sha256);

#endif
