/* SPDX-License-Identifier: Apache-2.0 */
/* feed_internal.h: what feed.c (rows to places) and feed_scan.c (sizes beforehand) share. */
#ifndef DPS_TRAIN_FEED_INTERNAL_H
#define DPS_TRAIN_FEED_INTERNAL_H

#include "data/criteria.h"
#include "data/dataset.h"
#include "token/encode.h"
#include "train/bins.h"
#include "train/feed.h"
#include "train/wrap.h"

/** One row of a file; all zeros before the scan, and of a row that is dropped. */
typedef struct DpsRowSize {
    uint32_t tokens, scored;
    uint16_t segments, sequences;
} DpsRowSize;

struct DpsFeed {
    DpsDataset *ds;
    DpsEncoder *encoder;
    const DpsRecipe *recipe;
    DpsCriteria criteria; /* of groups, after the scan */
    uint64_t max_length;
    uint32_t unit;  /* DPS_UNIT_* */
    int last_state; /* the objective reads scores */
    int prompts;    /* rows are prompts that the run answers */
    int packing, wrapped, scanned;
    uint64_t *bases;           /* [n_files] index of a file's first row in sizes */
    DpsRowSize *sizes;         /* [all rows of all files]; NULL before the scan */
    DpsBatchCounts most;       /* of the scanned rows, each count by itself */
    uint64_t n_cut, n_dropped; /* rows above max_length that the scan met */
    uint64_t n_tools;          /* rows with tools */
    uint64_t n_undecided;      /* groups of which a pair was wanted, with no answer better than another */
    DpsBins bins;              /* with packing: each row by its place in the unpacked epoch */
    DpsWrap wrap;              /* with wrapped in place of bins */
    uint64_t *counts;          /* [n_counts] places of the epochs seen so far */
    size_t n_counts, count_capacity;
};

/** The scanned size of row k of the unpacked epoch. */
const DpsRowSize *dps__feed_size (const DpsFeed *f, uint64_t epoch, uint64_t k);
/** The places of an epoch, which stay known until another epoch's are asked for. Errors: NOMEM. */
DpsStatus dps__feed_need_places (DpsFeed *f, uint64_t epoch, DpsError *err);
/** A unit's rows behind the sequences of a place; the place owns their ids and weights then. Errors: NOMEM. */
DpsStatus dps__feed_take_unit (const DpsFeed *f, DpsPlace *p, DpsEncodedUnit *u, uint64_t key, uint64_t row, DpsError *err);

#endif
