/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bins.h: packing_strategy bfd: whole rows of an epoch into places of `length` tokens, best-fit decreasing. Places are filled within windows of
 * rows, so that an epoch's order stays nearly what its permutation says.
 */
#ifndef DPS_TRAIN_BINS_H
#define DPS_TRAIN_BINS_H

#include "base/status.h"

/** The places of one epoch: place p holds rows[starts[p]] … rows[starts[p + 1] − 1]. All zeros: none are known. */
typedef struct DpsBins {
    uint64_t epoch;
    uint64_t n;       /* places */
    uint64_t *starts; /* [n + 1] */
    uint64_t *rows;   /* [n_rows] each row of the epoch once, by its number in the epoch's order */
} DpsBins;

/** tokens: [n_rows] of the epoch, in its order; a row of more than `length` has a place of its own. Errors: NOMEM. [any] */
DpsStatus dps_bins_make (uint64_t epoch, const uint32_t *tokens, uint64_t n_rows, uint64_t length, DpsBins *out, DpsError *err);
void dps_bins_free (DpsBins *b);

#endif
