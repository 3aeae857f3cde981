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
#include "recipe/lock.h"
#include "train/critic.h"
#include "train/feed.h"
#include "train/rollout.h"
#include "train/session.h"
#include "train/train.h"

/** What the next line of metrics will say: sums over the steps since the last one. In the checkpoint, so that a resumed run says the same. */
typedef struct DpsWindow {
    DpsStepSums sums;       /* the objective's metrics */
    uint64_t taught, steps; /* steps that had something to learn from; those of them that were finite */
    double loss, grad_norm; /* the finite ones' sum; the last one's norm before clipping, NAN unknown */
    double seconds, tokens; /* sums over all steps */
} DpsWindow;

/** Log-probs of the reference policy by DpsSequence.row: those of a root's scored tokens. All zeros: none are kept. */
typedef struct DpsReference {
    uint64_t n; /* rows of the data set */
    float **logp;
    uint32_t *lengths;
} DpsReference;

typedef struct DpsTrainer {
    const DpsRecipe *recipe;
    const DpsRegistry *reg;
    const DpsTrainOptions *options;
    DpsSession session;
    DpsFeed *feed, *eval_feed;
    DpsReference reference, eval_reference;
    DpsRollout rollout;
    DpsCritic critic;
    DpsObjectiveInstance *objective;
    DpsOptim optim;
    DpsSchedule schedule;
    DpsGuard guard;
    DpsObserver *observer;
    DpsPace pace;
    DpsTrainPlan plan;
    DpsStepSums sums;   /* of the step */
    DpsStepSums scored; /* what dps__trainer_score reported: the next step adds it to its own */
    DpsWindow window;
    double loss_total;                  /* of the steps that were finite, for train_loss */
    uint64_t loss_steps;                /* how many those are */
    uint64_t step;                      /* finished steps */
    double epoch;                       /* the same in passes over the rows */
    uint64_t epoch_number, epoch_first; /* the epoch last asked for, and the step it begins at */
    uint64_t seen_tokens;
    uint64_t answers_at_start;         /* sampled by a resumed run before it was resumed */
    uint64_t step_at_start, rows_done; /* what a resumed run had behind it; places trained since */
    int applied;                       /* the last step's update was: a checkpoint then is progress */
    int empty;                         /* the step has no unit: what was sampled gave none, or its rows are all dropped */
    int owes_eval;                     /* the last step's evaluation was due, and interrupted */
    int checkpointing;
    int is_adapter;
    int resumed;
    int arena_exact; /* every micro-batch of the run was laid out: the arena is sealed */
    int eval_exact;  /* every row of eval_feed was read */
    DpsDigest base;  /* identity of the base's tensors */
    DpsBuf lock;     /* recipe.lock.yaml */
    int held;        /* dps_dir_hold of output_dir, or -1 */
    double started;
} DpsTrainer;

/* setup.c */
DpsStatus dps__trainer_open (DpsTrainer *t, const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *o, int plan_only,
                             DpsError *err);
void dps__trainer_close (DpsTrainer *t);

/* setup_adapter.c */
/** Attach a new adapter, or check the recipe against the one that the session brought; mark what is trained. Errors: USAGE, UNSUPPORTED … */
DpsStatus dps__trainer_choose (DpsTrainer *t, DpsError *err);
/** A new adapter on a session's model, as recipe r describes it. Errors: USAGE. */
DpsStatus dps__attach_fresh (const DpsTrainer *t, DpsSession *s, const DpsRecipe *r, DpsError *err);
/** The parameters of a new adapter whose plugin PEFT does not know, an object; NULL for lora and dora. *out: a new reference. */
DpsStatus dps__adapter_args (const DpsTrainer *t, json_t **out, DpsError *err);

/* window.c */
/** Add the step that t->sums describes; loss NaN: it was skipped, and only its time and tokens count. */
DpsStatus dps__window_add (DpsTrainer *t, double loss, double grad_norm, double seconds, uint64_t tokens, DpsError *err);
/** The line of metrics, and an empty window. */
DpsStatus dps__window_log (DpsTrainer *t, double lr, DpsError *err);
/** For the checkpoint. NULL when out of memory. */
json_t *dps__window_json (const DpsWindow *w);
/** Errors: FORMAT, NOMEM. */
DpsStatus dps__window_from_json (const json_t *j, DpsWindow *out, DpsError *err);

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
/** Allocate what the plan foresaw for activations, and for reward models everything. Errors: NOMEM; those of reward models. */
DpsStatus dps__trainer_reserve (DpsTrainer *t, DpsError *err);
/** After the last step: a whole run whose rows were all read used exactly the planned arena. Errors: INTERNAL. */
DpsStatus dps__trainer_check_peak (const DpsTrainer *t, DpsError *err);

/* step.c */
/** One optimizer step: *out_loss is NaN when something was not finite (gradients are then not to be used). */
DpsStatus dps__trainer_step (DpsTrainer *t, double *out_loss, double *out_grad_norm, uint64_t *out_tokens, DpsError *err);
/** The gradients of places' mean loss, from zero, and their norm. */
DpsStatus dps__trainer_gradients (DpsTrainer *t, DpsPlace *places, size_t n, double *out_loss, double *out_grad_norm, DpsError *err);
/** The mean loss over eval_datasets, or the first `most` places of it, and the objective's other metrics. */
DpsStatus dps__trainer_evaluate (DpsTrainer *t, uint64_t most, DpsMetrics *out, DpsError *err);
/** What logits are divided by; 0: 1. */
double dps__trainer_temperature (const DpsTrainer *t);
/** What is done with a batch after its forward pass. */
typedef DpsStatus (*DpsVisitPass) (void *ctx, DpsPass *p, const DpsBatch *b, DpsError *err);
/** n places side by side. Free with dps_batch_free. */
DpsStatus dps__trainer_batch (const DpsTrainer *t, const DpsPlace *places, size_t n, DpsBatch *out, DpsError *err);
/** The forward pass of n places in one batch; nothing when none of their tokens is scored. */
DpsStatus dps__trainer_forward (DpsTrainer *t, const DpsPlace *places, size_t n, const DpsPassOptions *o, DpsVisitPass visit, void *ctx,
                                DpsError *err);
/** The same through other weights: the critic's. */
DpsStatus dps__forward_in (const DpsTrainer *t, DpsWeights *w, const DpsPlace *places, size_t n, const DpsPassOptions *o,
                           DpsVisitPass visit, void *ctx, DpsError *err);

/* judge.c; the rest of it is in judge.h */
/** 1 when the objective reads a score of each sequence instead of log-probs. */
int dps__trainer_scores (const DpsTrainer *t);
/** 1 when it reads values of a value head on the policy beside log-probs: there is no critic. */
int dps__trainer_values (const DpsTrainer *t);

/* best.c */
/** Before the first step: an evaluation has metric_for_best_model, where it decides anything. Errors: USAGE; those of an evaluation. */
DpsStatus dps__best_check (DpsTrainer *t, DpsError *err);
/** An evaluation of step t->step takes its place among those before it. Errors: USAGE, NOMEM. */
DpsStatus dps__best_judge (DpsTrainer *t, const DpsMetrics *m, DpsError *err);

/* score.c */
/** 1 when the objective makes signals of role step from what answers earned. */
int dps__trainer_earns (const DpsTrainer *t);
/**
 * The signals of role step of n places, a whole step or rollout, from their rewards, recorded signals and reference → places[i].step. Metrics
 * join those of the next step. meta: n_criteria, names, weights (values and truncated are those of the places, theirs are not read).
 * Errors: those of dps_objective_score; INTERNAL, NOMEM. places[i].step is then as it was.
 */
DpsStatus dps__trainer_score (DpsTrainer *t, DpsPlace *places, size_t n, const DpsRewards *meta, DpsError *err);
/** The same with another reference, and metrics into `sums`: an evaluation's. */
DpsStatus dps__places_score (const DpsTrainer *t, const DpsReference *reference, DpsPlace *places, size_t n, const DpsRewards *meta,
                             DpsStepSums *sums, DpsError *err);
/** A signal of role step, or a recorded one, of a batch made of places; *out_given 0: it was not recorded. Errors: INTERNAL. */
DpsStatus dps__places_read (const DpsTrainer *t, uint32_t signal, const DpsPlace *places, size_t n, double *out, int *out_given,
                            DpsError *err);
/** Keep the values of a signal, in the order of a batch, in its places. Errors: NOMEM. */
DpsStatus dps__places_record (const DpsTrainer *t, uint32_t signal, DpsPlace *places, size_t n, const float *values, DpsError *err);

/* reference.c */
/** 1 when the objective reads the reference's log-probs. */
int dps__reference_wanted (const DpsTrainer *t);
/** Those of all rows from step `first_step` on and of eval_datasets, from the weights as they are. Errors: INTERRUPTED, DATA, NOMEM. */
DpsStatus dps__reference_make (DpsTrainer *t, uint64_t first_step, DpsError *err);
DpsStatus dps__reference_set (DpsReference *r, uint64_t row, const float *logp, size_t n, DpsError *err);
/** Of a batch's scored tokens, in their order. */
DpsStatus dps__reference_read (const DpsReference *r, const DpsBatch *b, double *out, DpsError *err);
void dps__reference_free (DpsReference *r);

/* objective_state.c */
/** The objective hears that t->step steps are done. */
DpsStatus dps__objective_step_end (DpsTrainer *t, DpsError *err);
/** What it keeps between steps: nothing for objectives without state. Errors: its own; of restore also NOT_FOUND, DIGEST. */
DpsStatus dps__objective_save (const DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err);
DpsStatus dps__objective_restore (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err);

/* save.c */
DpsStatus dps__trainer_save (DpsTrainer *t, DpsError *err);
/** Keep save_total_limit checkpoints, the best among them. Errors: IO, NOMEM. */
DpsStatus dps__trainer_rotate (const DpsTrainer *t, DpsError *err);
/** The adapter or model at the top of output_dir. */
DpsStatus dps__trainer_export (DpsTrainer *t, DpsError *err);

/* restore.c */
/** Values and counters as a checkpoint has them. */
DpsStatus dps__trainer_restore (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err);
/** Values only: weights, moments, the count of updates; and *out_guard, the guard as it was. */
DpsStatus dps__trainer_restore_values (DpsTrainer *t, const DpsCheckpoint *c, DpsGuard *out_guard, DpsError *err);
/** Weights only: the best checkpoint at the end. */
DpsStatus dps__trainer_restore_weights (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err);

/* lock.c */
/** What a lock says; all zeros is empty. Keys and values are owned, notes borrowed. */
typedef struct DpsEntries {
    DpsLockEntry *items;
    size_t n, capacity;
} DpsEntries;
void dps__entries_free (DpsEntries *e);
/** key: taken over, NULL counts as out of memory. 0 or -1. */
int dps__entries_add (DpsEntries *e, char *key, const char *value, const char *note);
/** Is there an entry "KINDID"? kind ends in its space. */
int dps__entries_have (const DpsEntries *e, const char *kind, const char *id);
/** The plugin of a table of the registry's, NULL: of none. */
const DpsPlugin *dps__plugin_of (const DpsTrainer *t, const char *interface, const void *table);
/** The plugin that a short name or id means, NULL: none. One of the same name that is not used is no part of the run. */
const DpsPlugin *dps__plugin_used (const DpsTrainer *t, const char *interface, const char *name);
/** "device" and "isa" of the first, "device.1" and "isa.1" of the next: name, and detail without the number of threads. 0 or -1. */
int dps__entries_devices (DpsEntries *e, const DpsExec *ex);
/** recipe.lock.yaml: compared with the one there is when the run is resumed, then written. */
DpsStatus dps__trainer_lock (DpsTrainer *t, const DpsCheckpoint *resumed, DpsError *err);

/* stack.c */
/** stack.lock: compared when the options say so; or, with write, written. Errors: LOCK, IO, NOMEM. */
DpsStatus dps__trainer_stack (const DpsTrainer *t, int write, DpsError *err);

/* finish.c */
/** Results, model card, report.html. */
DpsStatus dps__trainer_finish (DpsTrainer *t, DpsError *err);

double dps__trainer_now (void);
void dps__trainer_progress (const DpsTrainer *t, const char *phase, double loss, double lr);

#endif
