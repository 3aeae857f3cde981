/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h: random steps for any objective, from its description alone: ragged rows in units of its kind, signals in their natural ranges, those of
 * role step from its own `score`. And one run of its loss on the host's tape: unit losses, gradients, metrics.
 */
#ifndef DPS_CHECK_BATCH_H
#define DPS_CHECK_BATCH_H

#include "check/check.h"
#include "objective/objective.h"
#include "objective/tape.h"

enum { CHECK_MAX_UNITS = 6, CHECK_MAX_ROWS = 24, CHECK_MAX_TOKENS = 192, CHECK_MAX_SIGNALS = 32, CHECK_CRITERIA = 2 };

/** A step of whole units. Rows of a unit and tokens of a row lie together. */
typedef struct CheckBatch {
    uint64_t n_tokens, n_rows, n_units;
    int64_t row_offsets[CHECK_MAX_ROWS + 1], unit_offsets[CHECK_MAX_UNITS + 1];
    double weights[CHECK_MAX_TOKENS];
    double signal[CHECK_MAX_SIGNALS][CHECK_MAX_TOKENS]; /* per token or per row, as the objective says */
    double values[CHECK_MAX_ROWS * CHECK_CRITERIA];     /* what criteria said of the rows */
    uint32_t truncated[CHECK_MAX_ROWS];
    uint64_t step_tokens, step_rows, step_units; /* of the step this is a part of */
    uint64_t micro_batches;
} CheckBatch;

/** What to make: everything random comes from seed. */
typedef struct CheckBatchPlan {
    uint64_t seed;
    uint64_t n_units;
    int64_t rows;       /* of a unit of kind group; 0: 1 to 4 */
    int64_t tokens;     /* of a row; 0: 1 to 7 */
    uint64_t empty_row; /* number of a row without tokens, from 1; 0: none */
    int masked;         /* about a third of the tokens has weight 0 */
    int unjudged;       /* about a third of what criteria said is NaN, and all that they said of the first row */
} CheckBatchPlan;

/** Scored tokens, weights and signals; and, where the objective has `score`, what it makes of random rewards. Errors: the plugin's. */
DpsStatus check_batch_make (const DpsObjectiveInstance *o, const CheckBatchPlan *plan, CheckBatch *out, DpsError *err);

/** `score` again on what is in b, into b. */
DpsStatus check_batch_score (const DpsObjectiveInstance *o, CheckBatch *b, DpsError *err);

/** Units which[0 … n) of `from`, in that order: a micro-batch of the same step. */
void check_batch_pick (const DpsObjectiveInstance *o, const CheckBatch *from, const uint64_t *which, uint64_t n, CheckBatch *out);

typedef struct CheckMetric {
    char name[DPS_METRIC_NAME + 1]; /* one more than fits, to be seen */
    double value, weight;
} CheckMetric;

enum { CHECK_MAX_METRICS = 512 };

/** What a run gave. */
typedef struct CheckLoss {
    double losses[CHECK_MAX_UNITS];                    /* not divided */
    double grads[CHECK_MAX_SIGNALS][CHECK_MAX_TOKENS]; /* of Σ losses */
    CheckMetric metrics[CHECK_MAX_METRICS];            /* in the order of the calls */
    size_t n_metrics;
    uint64_t n_ops; /* calls of the tape */
} CheckLoss;

/** How a run is watched. All zeros: not at all. */
typedef struct CheckTapeWatch {
    /** Called before call number `at` (from 1) of the tape: what another thread might do meanwhile. NULL: nothing. */
    void (*meanwhile) (void *ctx);
    void *ctx;
    uint64_t at;
    /** Values that detach saw, in order: kept when `keep`, else given back instead of what stands there now, so that differences see what the
     *  adjoint sees. NULL: detach as it is. */
    double *detached;
    size_t n_detached, cap_detached;
    int keep;
} CheckTapeWatch;

/** The loss of a batch and its gradients. One at a time, but for what `meanwhile` runs. Errors: the plugin's, with its message; the tape's. */
DpsStatus check_batch_loss (const DpsObjectiveInstance *o, const CheckBatch *b, CheckTapeWatch *watch, CheckLoss *out, DpsError *err);

/** The same bits: losses of b's units, gradients. */
int check_loss_equal (const DpsObjectiveInstance *o, const CheckBatch *b, const CheckLoss *x, const CheckLoss *y);

/** How many numbers signal s has in b. */
static inline uint64_t check_signal_length (const DpsObjectiveInstance *o, const CheckBatch *b, uint32_t s)
{
    return o->signals[s].axis == DPS_AXIS_TOKEN ? b->n_tokens : b->n_rows;
}

#endif
