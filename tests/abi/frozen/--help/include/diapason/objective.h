/* SPDX-License-Identifier: Apache-2.0 */
/*
 * objective.h: `dps.objective/1`: what is optimised. An objective declares the signals it needs and writes forward maths on the
 * host's tape (tape.h). It never sees a device, logits or padding; the core differentiates, masks, distributes, logs and resumes.
 * Since: ABI 0.1.
 */
#ifndef DIAPASON_OBJECTIVE_H
#define DIAPASON_OBJECTIVE_H

#include "diapason/tape.h"

#define DPS_OBJECTIVE_ID "dps.objective/1"

enum { DPS_UNIT_SINGLE = 1, DPS_UNIT_PAIR = 2, DPS_UNIT_GROUP = 3 };

/** What the core divides the summed unit losses by (step totals, over every micro-batch and process). */
enum {
    DPS_TOTAL_TOKENS = 1, /* scored tokens of the step */
    DPS_TOTAL_UNITS = 2,  /* rows, pairs or groups of the step */
    DPS_TOTAL_ROWS = 3    /* rows of the step */
};

enum { DPS_PARAM_F64 = 1, DPS_PARAM_I64 = 2, DPS_PARAM_STR = 3, DPS_PARAM_BOOL = 4 };

/** One parameter of a recipe: feeds validation, --help and the documentation. */
typedef struct DpsParam {
    size_t size;
    const char *name;     /* "beta" */
    uint32_t type;        /* DPS_PARAM_* */
    uint32_t flags;       /* reserved, 0 */
    double def, min, max; /* of numbers and BOOL */
    const char *choices;  /* strings: allowed values separated by '|', the first is the default; else NULL */
    const char *help;
} DpsParam;

/**
 * One signal the objective reads. logp: log-probability of the target, nats, ≤ 0; entropy: of the distribution, nats; hit: 1 when the target is
 * the arg max; topk_logp: log-probabilities of the K likeliest; value: of the state before the token; score: a head's number; pooled: a row's
 * hidden state. A host that cannot give a signal refuses the objective by name.
 * Whose it is: policy: the model as it is trained; rollout: the policy when the answers were sampled, before the first update on them;
 * reference: the policy before step 1; step: what `score` of this objective computed from the whole step, under a name of its own choosing.
 */
typedef struct DpsSignal {
    size_t size;
    const char *name;        /* "logp", "entropy", "hit", "topk_logp", "value", "score", "pooled"; role step: "advantage", "return", … */
    const char *role;        /* "policy", "rollout", "reference", "teacher", "value", "reward", "step" */
    uint32_t axis;           /* DPS_AXIS_TOKEN (per scored token) or DPS_AXIS_ROW */
    uint32_t differentiable; /* role policy only */
} DpsSignal;

typedef struct DpsObjectiveInfo {
    size_t size;
    const char *name;      /* "sft" */
    const char *summary;   /* one line */
    const char *reference; /* paper or other source of the equation */
    uint32_t unit;         /* DPS_UNIT_* */
    uint32_t total;        /* DPS_TOTAL_* */
    const DpsParam *const *params;
    uint32_t n_params;
    uint32_t n_signals;
    const DpsSignal *const *signals;
} DpsObjectiveInfo;

/**
 * One micro-batch, or (in `score`) a whole step. Borrowed until return. Scored tokens go through the rows in order: row r has tokens
 * [row_offsets[r], row_offsets[r+1]); unit u has rows [unit_offsets[u], unit_offsets[u+1]).
 */
typedef struct DpsObjectiveBatch {
    size_t size;
    uint64_t n_tokens, n_rows, n_units;
    const int64_t *row_offsets;   /* [n_rows + 1] */
    const int64_t *unit_offsets;  /* [n_units + 1] */
    const double *const *signals; /* [n_signals] in the order of describe: per token or per row */
    const double *weights;        /* per token, ≥ 0, 1 by default */
    double total;                 /* the step total named in describe */
    /* Counts of the whole step: for an objective whose loss_type chooses what it is a mean over. */
    uint64_t step_tokens, step_rows, step_units;
    uint64_t micro_batches; /* the step is split into so many */
} DpsObjectiveBatch;

/** What the answers of a step earned. Borrowed until return. */
typedef struct DpsRewards {
    size_t size;
    uint64_t n_criteria;
    const double *values;      /* (n_rows, n_criteria); NaN: this criterion did not judge this row */
    const double *weights;     /* (n_criteria) */
    const DpsStr *names;       /* (n_criteria), as metrics call them */
    const uint32_t *truncated; /* per row: 1 when the answer stopped at the length limit */
} DpsRewards;

/**
 * Called by an objective for each number worth logging: the core averages it over the step, weighted by `weight`. Call it per row or
 * unit rather than per micro-batch: then the step's value does not depend on how the step was split.
 */
typedef struct DpsMetricSink {
    size_t size;
    void *ctx;
    void (*add) (void *ctx, DpsStr name, double value, double weight);
} DpsMetricSink;

typedef struct DpsObjective {
    size_t size;

    /** What this objective is and needs. Static storage. Thread: [any]. */
    const DpsObjectiveInfo *(*describe) (void);

    /**
     * An instance from parameter values in the order of describe: numbers in num[i] (BOOL: 0 or 1), strings in str[i]; already within min, max and
     * choices; borrowed. Owns: *out, freed with destroy. Errors: INVALID with the parameter's name; NOMEM. Thread: [init].
     */
    DpsStatus (*create) (const double *num, const DpsStr *str, void **out, DpsError *err);
    void (*destroy) (void *self); /* NULL is fine. [init] */

    /**
     * Rewards and recorded signals of a whole step → the signals of role step, detached. Called once per rollout, before its first update.
     * step->signals: those of roles rollout, reference, teacher …; NULL in the places of roles policy and step, and of role rollout where the
     * answers were given, not sampled (the rollout is then the policy before the first update on them).
     * out: [n_signals] arrays to fill where the role is step, finite; NULL elsewhere. The host logs the rewards' means and deviations itself
     * (reward, rewards/NAME/mean) where no metric called `reward` comes from here.
     * NULL slot: no signal has role step. Pure. Errors: SHAPE, NONFINITE; INVALID with err->vendor_code = 1 + i when params[i] of describe does not
     * fit what the step brought: the recipe's line is named then. Outputs untouched. Thread: [any], one call at a time per instance.
     */
    DpsStatus (*score) (void *self, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *const *out,
                        const DpsMetricSink *metrics, DpsError *err);

    /**
     * Forward maths of one micro-batch, in nats: signals arrive as tape values (variables where differentiable); *out_loss is per unit
     * (DPS_AXIS_UNIT), not divided by anything: the core divides by the step total.
     * Pure: keeps no pointer, reads no clock and no RNG; depends on no other unit of the step.
     * Errors: SHAPE, NONFINITE; outputs untouched. Thread: [any], one call at a time per instance.
     */
    DpsStatus (*loss) (void *self, const DpsHostTape *ops, struct DpsTape *tape, const DpsObjectiveBatch *batch, const DpsVal *signals,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err);

    /** After optimizer step `step`, counted from 1. NULL slot: nothing. Errors: any; the run ends with it. [any], one call at a time per instance. */
    DpsStatus (*step_end) (void *self, uint64_t step, DpsError *err);

    /**
     * The state between steps, for a checkpoint. save: *out_len bytes into buf; with buf NULL only their number. load: what save gave, in this
     * version of the plugin or an earlier one. NULL slots: stateless. Errors: of save LIMIT (cap too small); of load FORMAT, VERSION. [any], one
     * call at a time per instance.
     */
    DpsStatus (*state_save) (void *self, void *buf, size_t cap, size_t *out_len, DpsError *err);
    DpsStatus (*state_load) (void *self, const void *buf, size_t len, DpsError *err);

    /**
     * 1 when this instance, with its parameters, reads signal i of describe; else the host need not compute it, and gives NULL (in `score`) or
     * -1 (in `loss`) in its place. NULL slot: every signal is read. Pure. [any]
     */
    uint32_t (*reads) (void *self, uint32_t signal);
} DpsObjective;

#endif
