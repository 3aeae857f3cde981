/* SPDX-License-Identifier: Apache-2.0 */
/* train.h: a recipe from beginning to end. */
#ifndef DPS_TRAIN_TRAIN_H
#define DPS_TRAIN_TRAIN_H

#include "exec/exec.h"
#include "recipe/recipe.h"

/** What a progress bar shows. */
typedef struct DpsTrainProgress {
    /* "reading rows", "loading weights", "computing the reference", "first step", "sampling", "training", "evaluating", "saving" */
    const char *phase;
    uint64_t step, max_steps;
    double loss, learning_rate;
    const char *pace; /* "312 tokens/s, 2:10 left"; "": not known yet; NULL: step and max_steps count the phase, not the run */
} DpsTrainProgress;

typedef struct DpsTrainOptions {
    const char *resume;                                      /* NULL: start anew; "auto": the newest sound checkpoint; or a path */
    const char *locked;                                      /* hold the run to this stack.lock; "": output_dir's; NULL: to none */
    int console;                                             /* print a line per logging step on stderr */
    void (*progress) (void *ctx, const DpsTrainProgress *p); /* may be NULL */
    int (*should_stop) (void);                               /* polled between micro-batches; may be NULL */
    void *ctx;
    const DpsRecipe *const *under; /* only to plan and explain: adapters that will lie frozen under the recipe's (dps_chain_under) */
    size_t n_under;
} DpsTrainOptions;

/** How it went. */
typedef struct DpsTrainResult {
    uint64_t step;
    double train_loss;
    double runtime_s;
    char *output_dir; /* free with dps_free */
} DpsTrainResult;

/*
 * Each of these opens the objective and fills in the recipe's defaults that depend on it (dps_recipe_settle_objective).
 */

/**
 * Train. Everything is written under recipe->output_dir (CONVENTIONS section 1). Errors: USAGE, DATA (a row, by file and line), LOCK (resumed
 * with another recipe or data, or another stack than `locked`), INTERRUPTED (asked to stop: saved, can be resumed), NONFINITE (diverged for good), IO, NOMEM … [init]
 */
DpsStatus dps_train (const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *options, DpsTrainResult *out, DpsError *err);

/**
 * Whether a run of this recipe would be the one that output_dir holds: recipe, base, rows, plugins and machine as its recipe.lock.yaml has them.
 * Reads the rows and hashes the base, trains nothing. Errors: LOCK naming what differs; those of dps_train's start. [init]
 */
DpsStatus dps_train_unchanged (const DpsRegistry *reg, DpsRecipe *recipe, DpsError *err);

/** Bytes and steps of a run before anything of its size is allocated: what `diapason plan` prints and what the run then uses. */
typedef struct DpsTrainPlan {
    uint64_t weights_rows, weights_packed, weights_packed_grad, masters, gradients, optimizer; /* persistent */
    uint64_t weights_quantised, quantised_numbers; /* bytes of the frozen base's codes, and how many weights they stand for */
    uint64_t arena;                                /* activations and gradients of the largest micro-batch */
    uint64_t scratch;                              /* intermediates of ops that the device runs as simple ones */
    uint64_t staging;                              /* copies of operands for devices that do not reach them */
    uint64_t rollout;                              /* sampling: the cache, what was sampled, the weights of the reference */
    uint64_t rewards;                              /* reward models: their weights, and their activations while they judge */
    uint64_t value_model;                          /* all of a value model apart from the policy: what trains, and its activations */
    uint64_t fixed;                                /* program, libraries, tokenizer: measured at start; and 4 MiB for what comes later */
    int64_t tokens, scored, rows;                  /* of the micro-batch that decides */
    uint64_t steps, steps_per_epoch, rows_per_epoch;
    double tokens_per_step, flops_per_step; /* means */
    int64_t micro_batch, accumulation;
    int64_t answers; /* of a unit, where per_device_train_batch_size counts answers: groups that are sampled; else 1 */
    int checkpointing;
    const char *dtype, *device;
    int exact; /* 1: every row was read; 0: bounded by max_length */
} DpsTrainPlan;

/**
 * Plan a recipe. budget > 0: choose micro-batch, accumulation (their product is kept) and checkpointing so that the sum fits; the choice is in
 * the plan. Errors: those of dps_train's start; LIMIT when nothing fits (says what the least is).
 */
DpsStatus dps_train_plan (const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *o, uint64_t budget, DpsTrainPlan *out,
                          DpsError *err);

uint64_t dps_train_plan_total (const DpsTrainPlan *p);

/**
 * Where each kind of op of a step runs and why: the first micro-batch, forward, backward and update, is placed and not run. `visit` gets the cases
 * in the order they come up, valid during the call; whose: NULL, or DPS_WHOSE_VALUES behind them for a value model apart, which has a pass of its own.
 * Errors: those of dps_train's start; UNSUPPORTED where nothing runs an op. [init]
 */
#define DPS_WHOSE_VALUES "value model"
typedef void (*DpsVisitCase) (void *ctx, const DpsExec *ex, const DpsCase *c, const char *whose);
DpsStatus dps_train_explain (const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *o, DpsVisitCase visit, void *ctx,
                             DpsError *err);

#endif
