/* SPDX-License-Identifier: Apache-2.0 */
/* trainer.h: the state of a run, shared by the files of this stage. */
#ifndef DPS_TRAIN_TRAINER_H
#define DPS_TRAIN_TRAINER_H

#include "ckpt/checkpoint.h"
#include "ckpt/peft.h"
#include "infer/pass.h"
#include "objective/objective.h"
#include "observe/guard.h"
#include "observe/observer.h"
#include "observe/pace.h"
#include "optim/schedule.h"
#include "optim/step.h"
#include "train/feed.h"
#include "train/session.h"
#include "train/train.h"

typedef struct DpsTrainer {
    const DpsRecipe *recipe;
    const DpsRegistry *reg;
    const DpsTrainOptions *options;
    DpsSession session;
    DpsFeed *feed, *eval_feed;
    DpsObjectiveInstance *objective;
    DpsOptim optim;
    DpsSchedule schedule;
    DpsGuard guard;
    DpsObserver *observer;
    DpsPace pace;
    DpsTrainPlan plan;
    DpsStepSums sums;   /* of the step */
    DpsStepSums window; /* of the steps since the last line of metrics */
    uint64_t window_steps;
    double window_loss, window_s, window_tokens;
    double loss_total;                  /* of all steps, for train_loss */
    uint64_t step;                      /* finished steps */
    double epoch;                       /* the same in passes over the rows */
    uint64_t epoch_number, epoch_first; /* the epoch last asked for, and the step it begins at */
    uint64_t seen_tokens;
    int checkpointing;
    int is_adapter;
    int eval_exact; /* every row of eval_feed was read */
    DpsDigest base; /* identity of the base's tensors */
    DpsBuf lock;    /* recipe.lock.yaml */
    double started;
} DpsTrainer;

/* setup.c */
DpsStatus dps__trainer_open (DpsTrainer *t, const DpsRegistry *reg, const DpsRecipe *recipe, const DpsTrainOptions *o, int plan_only,
                             DpsError *err);
void dps__trainer_close (DpsTrainer *t);

/* epoch.c */
/** Where a step stands: step `index` of the `steps` of `epoch`, taking n places from `first`. */
typedef struct DpsStepPlace {
    uint64_t epoch, index, steps, first, n;
} DpsStepPlace;

/** Step `step` counts from 0. Errors: NOMEM. */
DpsStatus dps__trainer_place (DpsTrainer *t, uint64_t step, DpsStepPlace *out, DpsError *err);
/** Epochs passed when `step` steps are done: 1.5 is half of the second. Errors: NOMEM. */
DpsStatus dps__trainer_epochs (DpsTrainer *t, uint64_t step, double *out, DpsError *err);
/** Steps of `epochs` passes over the rows, a part of a step counting as one. Errors: DATA without rows, NOMEM. */
DpsStatus dps__trainer_steps (DpsTrainer *t, double epochs, uint64_t *out, DpsError *err);

/* plan.c */
DpsStatus dps__trainer_plan (DpsTrainer *t, uint64_t budget, DpsError *err);

/* step.c */
/** One optimizer step: *out_loss is NaN when something was not finite (gradients are then not to be used). */
DpsStatus dps__trainer_step (DpsTrainer *t, double *out_loss, double *out_grad_norm, uint64_t *out_tokens, DpsError *err);
/** The gradients of places' mean loss, from zero, and their norm. */
DpsStatus dps__trainer_gradients (DpsTrainer *t, DpsPlace *places, size_t n, double *out_loss, double *out_grad_norm, DpsError *err);
/** The mean loss over eval_datasets, and the objective's other metrics. */
DpsStatus dps__trainer_evaluate (DpsTrainer *t, DpsMetrics *out, DpsError *err);

/* save.c */
DpsStatus dps__trainer_save (DpsTrainer *t, DpsError *err);
/** Weights, moments, counters as a checkpoint has them. */
DpsStatus dps__trainer_restore (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err);
/** Weights only: the best checkpoint at the end. */
DpsStatus dps__trainer_restore_weights (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err);
/** The adapter or model at the top of output_dir. */
DpsStatus dps__trainer_export (DpsTrainer *t, DpsError *err);

/* lock.c */
/** recipe.lock.yaml: compared with the one there is when the run is resumed, then written. */
DpsStatus dps__trainer_lock (DpsTrainer *t, const DpsCheckpoint *resumed, DpsError *err);

/* finish.c */
/** Results, model card, report.html. */
DpsStatus dps__trainer_finish (DpsTrainer *t, DpsError *err);

double dps__trainer_now (void);
void dps__trainer_progress (const DpsTrainer *t, const char *phase, double loss, double lr);

#endif
