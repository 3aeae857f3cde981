/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rollout.h: stages that train on answers the policy gives while it is trained. A rollout is what is sampled at once, and then trained:
 *
 *     the prompts of `steps` optimizer steps → K answers each → rewards → units of the objective (a group, a pair of best and worst, single
 *     answers) with the log-probs they were sampled with, the reference's, and what `score` of the objective made of the whole
 *
 *     step 1 … step `steps`, `passes` times over; then the next rollout
 *
 * What was sampled is in the checkpoint, so a run that is killed between passes goes on with the same. One that is stopped or killed while it
 * samples has nothing to keep: sampling again gives the same answers, since draws are keyed by (seed, number of the answer, position).
 */
#ifndef DPS_TRAIN_ROLLOUT_H
#define DPS_TRAIN_ROLLOUT_H

#include "ckpt/checkpoint.h"
#include "objective/rewards.h"
#include "observe/metrics.h"
#include "observe/report.h"
#include "train/answers.h"

/** All zeros: the run does not sample. */
typedef struct DpsRollout {
    uint64_t samples;       /* K: answers to a prompt; 0: the run does not sample */
    uint64_t prompts;       /* of an optimizer step */
    uint64_t steps, passes; /* optimizer steps of one pass over a rollout; passes */
    DpsRewardSet *rewards;
    const DpsStr *names;   /* of the criteria */
    const double *weights; /* [n_criteria] */
    size_t n_criteria;
    float **start; /* [n_start] values of the trained weights as the run began, for the reference; NULL: it is not wanted */
    size_t n_start;
    /* what was sampled last */
    int made;
    uint64_t made_at; /* the step it was sampled before */
    DpsPlace *places; /* units, in the order of their prompts */
    float **logp;     /* [n_places] log-probs that they were sampled with, in the order of a batch */
    uint64_t n_places;
    uint64_t *firsts; /* [steps + 1] the first place of each step */
    DpsStepSums sums; /* measured while sampling; the next step's metrics take them */
    int first_pass;   /* no update was made since */
    int drifted;      /* said once that log-probs differ */
    double seconds;   /* that sampling took; the same */
} DpsRollout;

/* rollout.c */
/** Settle how the run samples, and open its rewards; nothing when the recipe has none. Errors: USAGE, those of the rewards. [init] */
DpsStatus dps__rollout_open (struct DpsTrainer *t, DpsError *err);
void dps__rollout_close (DpsRollout *r);
/** Forget what was sampled. */
void dps__rollout_clear (DpsRollout *r);
/** Units of the objective in a step, and of a micro-batch as the recipe says it: whole groups. For runs that do not sample: rows. */
uint64_t dps__units_per_step (const struct DpsTrainer *t);
int64_t dps__units_per_micro_batch (const struct DpsTrainer *t);
/** Which step's prompts are trained in `step`: itself, but for passes after the first. */
uint64_t dps__rollout_prompts_of (const DpsRollout *r, uint64_t step);
/** Answers sampled for the t->step steps that are done. Errors: NOMEM. */
DpsStatus dps__rollout_answers (struct DpsTrainer *t, uint64_t *out, DpsError *err);
/** The places of t->step, borrowed; sampled here where a rollout begins. Errors: INTERRUPTED, those of sampling and judging. */
DpsStatus dps__rollout_places (struct DpsTrainer *t, DpsPlace **out, uint64_t *out_n, DpsError *err);
/** After a step that took step_s in all: the rollout's own metrics among the step's. Seconds of sampling count in the step that sampled. */
DpsStatus dps__rollout_metrics (struct DpsTrainer *t, double step_s, DpsError *err);

/** A unit such as a step may train, for `explain`: the first prompt with answers as long as they may be. Free with dps_place_free. */
DpsStatus dps__rollout_example (struct DpsTrainer *t, DpsPlace *out, DpsError *err);

/* rollout_check.c */
/** 1 when the objective reads what the policy that answered said, sampled now or the policy before the first update on given answers. */
int dps__rollout_compared (const struct DpsTrainer *t);
/**
 * Log-probs of a pass over n places before the first update since they were sampled: the same bits as those recorded, or INTERNAL, unless
 * allow_ratio_drift.
 */
DpsStatus dps__rollout_check (struct DpsTrainer *t, const DpsPlace *places, size_t n, const float *logp, DpsError *err);

/* rollout_record.c */
/**
 * "logp" or "value" of the policy as its weights are now, recorded under `role` in the places sampled last; nothing when the objective does not
 * read it. Errors: INTERRUPTED, NOMEM.
 */
DpsStatus dps__rollout_record (struct DpsTrainer *t, const char *name, const char *role, DpsError *err);

/* rollout_units.c */
/** The answers to prompts [first, first + n) as units of the objective, behind those there are; a prompt may give none. Errors: NOMEM. */
DpsStatus dps__rollout_units (struct DpsTrainer *t, const DpsAnswers *a, uint64_t first_prompt, uint64_t n_prompts, DpsError *err);

/* rollout_start.c: the reference policy is the one the run began with: the same trained weights, kept beside. */
uint64_t dps__rollout_start_bytes (const struct DpsTrainer *t);
/** Keep the trained weights as they are. Errors: NOMEM. */
DpsStatus dps__rollout_keep_start (struct DpsTrainer *t, DpsError *err);
/** Log-probs of the reference, recorded in the places sampled last. Errors: INTERRUPTED, NOMEM. */
DpsStatus dps__rollout_reference (struct DpsTrainer *t, DpsError *err);

/* rollout_log.c */
/** Lengths, and shares that ended by themselves; what the rewards said, each and together. */
DpsStatus dps__answers_measure (const DpsAnswers *a, DpsStepSums *sums, DpsError *err);
DpsStatus dps__answers_rewards (const struct DpsTrainer *t, const DpsAnswers *a, DpsStepSums *sums, DpsError *err);
/** "rewards/NAME/WHAT", cut to fit. */
void dps__reward_metric (const DpsStr *name, const char *what, char *out, size_t cap);
/** log_completions: a line each in output_dir/completions.jsonl, sampled for step `step`, counted from 1. */
DpsStatus dps__answers_log (const struct DpsTrainer *t, const DpsAnswers *a, uint64_t step, DpsError *err);
/** Before the run: the file without what was sampled after t->step. */
DpsStatus dps__answers_log_open (const struct DpsTrainer *t, DpsError *err);

/* rollout_samples.c */
#define DPS_COMPLETIONS_FILE "completions.jsonl"
enum { DPS_ROLLOUT_SAMPLES = 4 };
typedef struct DpsRolloutSamples {
    DpsReportSample items[DPS_ROLLOUT_SAMPLES]; /* texts owned */
    size_t n;
} DpsRolloutSamples;
/** With log_completions: prompts of the last step, with the first and the last answer that was sampled to each. Errors: FORMAT, IO, NOMEM. */
DpsStatus dps__rollout_samples (const struct DpsTrainer *t, DpsRolloutSamples *out, DpsError *err);
void dps__rollout_samples_free (DpsRolloutSamples *s);

/* rollout_eval.c */
/** Held-out prompts answered and judged (num_generations_eval). Errors: INTERRUPTED, those of dps__answers_make. */
DpsStatus dps__rollout_evaluate (struct DpsTrainer *t, DpsMetrics *out, DpsError *err);
/** The names of the metrics of such an evaluation, each with value 0. Errors: NOMEM. */
DpsStatus dps__rollout_eval_names (const struct DpsTrainer *t, DpsMetrics *out, DpsError *err);

/* rollout_save.c */
#define DPS_CKPT_ROLLOUT "rollout.json"
DpsStatus dps__rollout_save (const struct DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err);
/** What such a file holds, which may be anything; after an error dps__rollout_clear. Errors: FORMAT, NOMEM. */
DpsStatus dps__rollout_read (struct DpsTrainer *t, const json_t *all, DpsError *err);
/** Errors: FORMAT when the checkpoint's step lies within a rollout that it does not hold. */
DpsStatus dps__rollout_restore (struct DpsTrainer *t, const DpsCheckpoint *c, DpsError *err);

#endif
