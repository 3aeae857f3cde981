/* SPDX-License-Identifier: Apache-2.0 */
/* reward.h: `dps.reward/1`: scores completions by one or several criteria. Since: ABI 0.1. */
#ifndef DIAPASON_REWARD_H
#define DIAPASON_REWARD_H

#include "diapason/objective.h"

#define DPS_REWARD_ID "dps.reward/1"

/** How one (row, criterion) went. */
enum { DPS_SCORE_OK = 0, DPS_SCORE_NOT_JUDGED = 1, DPS_SCORE_FAILED = 2, DPS_SCORE_TIMEOUT = 3 };

typedef struct DpsRewardInfo {
    size_t size;
    const char *name;    /* "length" */
    const char *summary; /* one line */
    const DpsParam *const *params;
    uint32_t n_params;
    uint32_t n_criteria;
    const char *const *criteria; /* their names, for metrics rewards/NAME/mean */
} DpsRewardInfo;

/** One completion to score. Strings are UTF-8, borrowed until score returns. */
typedef struct DpsRewardRow {
    size_t size;
    DpsStr prompt;     /* as rendered */
    DpsStr completion; /* decoded without special tokens */
    DpsStr columns;    /* the data row's other columns, a JSON object as text */
    const int32_t *completion_ids;
    uint64_t n_completion_ids;
    uint32_t truncated; /* 1 when it stopped at the length limit */
    uint32_t reserved;
} DpsRewardRow;

typedef struct DpsReward {
    size_t size;
    /** What it scores. Static storage. [any] */
    const DpsRewardInfo *(*describe) (void);
    /**
     * An instance from parameter values in the order of describe (as DpsObjective.create gets them; borrowed). Owns: *out, freed with close.
     * Errors: INVALID, IO, NOMEM. [init]
     */
    DpsStatus (*open) (const double *num, const DpsStr *str, void **out, DpsError *err);

    /**
     * value and status (DPS_SCORE_*): (n_rows, n_criteria), higher is better, in the criterion's own unit; value is NaN where status is not OK.
     * A row that fails costs that row only; err->msg may say with OK why one did. deadline_ms from now, 0: none; rows not judged by then are TIMEOUT.
     * token_values: NULL, or per row an array of n_completion_ids to fill, in the criterion's unit (only when n_criteria is 1).
     * Errors: none of the rows could be judged: IO, DEVICE, NOMEM, TIMEOUT; CANCELLED. Thread: [any], one call at a time per instance.
     */
    DpsStatus (*score) (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err);
    void (*close) (void *self); /* NULL is fine. [init] */
} DpsReward;

#endif
