/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wrap.h: packing_strategy wrapped: the rows of an epoch end to end, cut every `length` tokens wherever that falls. A place is one sequence, whose
 * tokens see those of the rows before them in it; the first token of each is not predicted. As TRL's, and as pretraining is usually done.
 */
#ifndef DPS_TRAIN_WRAP_H
#define DPS_TRAIN_WRAP_H

#include "train/feed.h"

/** The places of one epoch. All zeros: none are known. */
typedef struct DpsWrap {
    uint64_t epoch, n_rows, length;
    uint64_t n;     /* places */
    uint64_t *ends; /* [n_rows] tokens up to the end of row k */
} DpsWrap;

/** tokens: [n_rows] of the epoch, in its order. Errors: DATA when there are none; NOMEM. */
DpsStatus dps_wrap_make (uint64_t epoch, const uint32_t *tokens, uint64_t n_rows, uint64_t length, DpsWrap *out, DpsError *err);
void dps_wrap_free (DpsWrap *w);

/** Tokens of place p; *out_row and *out_skip: the row it begins in, and the token of it. */
uint64_t dps_wrap_place (const DpsWrap *w, uint64_t p, uint64_t *out_row, uint64_t *out_skip);

/** Append tokens of `from`, from `skip` on and until the place has `most`, to the one sequence of a place. Errors: NOMEM. */
DpsStatus dps_wrap_append (DpsPlace *p, const DpsSequence *from, size_t skip, size_t most, DpsError *err);

#endif
