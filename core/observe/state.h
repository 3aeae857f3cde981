/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h: trainer_state.json, with the keys of the Hugging Face Trainer: where the run stands and everything it has logged. The copy in a
 * checkpoint is the truth on resume: metrics.jsonl is written anew from its log_history.
 */
#ifndef DPS_OBSERVE_STATE_H
#define DPS_OBSERVE_STATE_H

#include "base/json.h"

/** Plain data but the two strings and the history, which dps_trainer_state_free frees. All zeros is a run at its start. */
typedef struct DpsTrainerState {
    double epoch;
    uint64_t global_step;
    uint64_t max_steps;
    double num_train_epochs;
    uint64_t logging_steps, eval_steps, save_steps;
    uint64_t train_batch_size; /* rows of a micro-batch */
    uint64_t num_input_tokens_seen;
    double total_flos;
    int has_best;
    uint64_t best_global_step;
    double best_metric;
    char *best_model_checkpoint; /* "checkpoint-40": a name in the output folder; NULL: none */
    char *run_folder;            /* of the event files, "runs/…"; NULL: none */
    double elapsed_s;            /* of training, in all processes that worked on the run */
    json_t *log_history;         /* array of what was logged, in order */
} DpsTrainerState;

/** A new reference, or NULL when out of memory. Shares log_history: serialise it before the next change. [any] */
json_t *dps_trainer_state_json (const DpsTrainerState *s);
/** From the JSON of a checkpoint. Errors: FORMAT naming the key, NOMEM; *out untouched then. [any] */
DpsStatus dps_trainer_state_from_json (const json_t *j, DpsTrainerState *out, DpsError *err);
/**
 * Compare with the best so far; when `metric` is better (or the first) it becomes the best, of `step`, in folder `checkpoint` (copied).
 * NaN is never better. Returns 1 when it is the best now, 0 when not, -1 when out of memory. [any]
 */
int dps_trainer_state_best (DpsTrainerState *s, double metric, int greater_is_better, uint64_t step, const char *checkpoint);
void dps_trainer_state_free (DpsTrainerState *s);

#endif
