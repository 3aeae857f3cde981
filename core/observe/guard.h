/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.h: what to do about a step whose loss or gradient is not finite: skip it, and after three in a row go back to the last checkpoint
 * (R12). The verdict depends on this step's numbers alone: no running averages that one NaN could poison.
 */
#ifndef DPS_OBSERVE_GUARD_H
#define DPS_OBSERVE_GUARD_H

#include "base/json.h"

typedef enum DpsVerdict {
    DPS_GUARD_APPLY = 0,    /* update the weights */
    DPS_GUARD_SKIP = 1,     /* throw this step's gradient away; weights and moments stay as they are, the data moves on */
    DPS_GUARD_ROLLBACK = 2, /* load the last checkpoint; its guard state says how often that was done */
    DPS_GUARD_GIVE_UP = 3   /* rolled back too often: stop with an error */
} DpsVerdict;

/** Plain data; all zeros but the limits. In the checkpoint, so that a resumed run decides alike. */
typedef struct DpsGuard {
    uint32_t in_a_row;      /* bad steps since the last good one */
    uint32_t max_in_a_row;  /* 3 */
    uint32_t max_rollbacks; /* 3: after as many without reaching a new checkpoint, give up */
    uint32_t rollbacks;     /* since a checkpoint was last written after a good step */
    uint64_t skipped;       /* in the whole run */
    uint64_t total_rollbacks;
} DpsGuard;

#define DPS_GUARD_INIT                                                                                                                     \
    {                                                                                                                                      \
        .max_in_a_row = 3, .max_rollbacks = 3                                                                                              \
    }

/** Judge one step by its loss and its gradient norm before clipping (the norm of all trained tensors: NaN if any is). [any] */
DpsVerdict dps_guard_judge (DpsGuard *g, double loss, double grad_norm);

/**
 * The state to go on with after a rollback: `saved`, as the checkpoint has it, but remembering what was skipped and undone since.
 * Without this memory a run that always diverges at one step would roll back for ever. [any]
 */
DpsGuard dps_guard_after_rollback (const DpsGuard *now, const DpsGuard *saved);
/** A checkpoint with new progress was written: the count of rollbacks starts again. [any] */
void dps_guard_progress (DpsGuard *g);

/** For the checkpoint. NULL when out of memory. [any] */
json_t *dps_guard_json (const DpsGuard *g);
/** Errors: FORMAT, naming the key; *out untouched then. [any] */
DpsStatus dps_guard_from_json (const json_t *j, DpsGuard *out, DpsError *err);

#endif
