/* SPDX-License-Identifier: Apache-2.0 */
/*
 * observer.h: what a training run tells the world: each logging step goes to metrics.jsonl, the console, TensorBoard and the history that
 * trainer_state.json keeps; the end goes to the *_results.json files. Measures nothing itself, decides nothing.
 *
 * Resuming: hand in the state of the checkpoint. metrics.jsonl is written anew from its history, so no line is lost and none comes twice,
 * wherever the first process died; TensorBoard is told to forget later steps; what killed processes left behind is swept away.
 */
#ifndef DPS_OBSERVE_OBSERVER_H
#define DPS_OBSERVE_OBSERVER_H

#include <stdio.h>

#include "observe/metrics.h"
#include "observe/state.h"

typedef struct DpsObserver DpsObserver;

/** Strings are borrowed until dps_observer_open returns. */
typedef struct DpsObserveOptions {
    const char *output_dir;  /* created when absent */
    const char *logging_dir; /* of TensorBoard; NULL: $TENSORBOARD_LOGGING_DIR, else output_dir/runs */
    const char *run_name;    /* folder in logging_dir; NULL: date, time and host */
    int tensorboard;         /* report_to names it (or "all") */
    int resumed;             /* the state comes from a checkpoint */
    FILE *console;           /* gets one line per logging step; NULL: none (a terminal shows a bar instead) */
    double (*now) (void);    /* seconds since 1970; NULL: the system's clock */
} DpsObserveOptions;

/**
 * Open the sinks. *state is moved in (all zeros after success): for a fresh run the caller has set max_steps and the like.
 * Errors: IO, NOMEM; *state is the caller's then. Thread: [any], one at a time per observer.
 */
DpsStatus dps_observer_open (const DpsObserveOptions *options, DpsTrainerState *state, DpsObserver **out, DpsError *err);

/** The state, for the checkpoint and to update (tokens seen, FLOPs, best). Valid until close. */
DpsTrainerState *dps_observer_state (DpsObserver *obs);

/** One logging step: metrics, then epoch and step, to every sink. step counts finished optimizer steps. */
DpsStatus dps_observer_log (DpsObserver *obs, uint64_t step, double epoch, const DpsMetrics *metrics, DpsError *err);
/** The same for an evaluation: every name gets the prefix "eval_" ("loss" → "eval_loss"). */
DpsStatus dps_observer_eval (DpsObserver *obs, uint64_t step, double epoch, const DpsMetrics *metrics, DpsError *err);

/** Make everything logged so far durable: before a checkpoint that counts on it. */
DpsStatus dps_observer_sync (DpsObserver *obs, DpsError *err);

/**
 * The end of training: logs `summary` (train_runtime, train_loss …) and writes train_results.json, eval_results.json (the last evaluation),
 * all_results.json and trainer_state.json.
 */
DpsStatus dps_observer_finish (DpsObserver *obs, const DpsMetrics *summary, DpsError *err);

/** Write output_dir/trainer_state.json as it is now. */
DpsStatus dps_observer_write_state (DpsObserver *obs, DpsError *err);

void dps_observer_close (DpsObserver *obs);

#endif
