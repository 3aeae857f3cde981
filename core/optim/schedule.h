/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.h: the learning rate as a pure function of the step, under transformers' names and with its formulas, and the clipping factor.
 * Nothing here has state: a resumed run asks for step k and gets what the uninterrupted run got.
 */
#ifndef DPS_OPTIM_SCHEDULE_H
#define DPS_OPTIM_SCHEDULE_H

#include "base/json.h"

/** X(name, recipe spelling). W warm-up steps, T total steps, k the step, p = (k − W) / max(1, T − W). Below W all rise as k / max(1, W). */
#define DPS_SCHEDULES(X)                                                                                                                   \
    X (CONSTANT, "constant")                         /* 1, without warm-up */                                                              \
    X (CONSTANT_WITH_WARMUP, "constant_with_warmup") /* 1 */                                                                               \
    X (LINEAR, "linear")                             /* 1 − p */                                                                         \
    X (COSINE, "cosine")                             /* ½(1 + cos 2πcp), c = num_cycles ½ */                                            \
    X (COSINE_WITH_RESTARTS, "cosine_with_restarts") /* ½(1 + cos π(cp mod 1)), c = num_cycles 1 */                                      \
    X (COSINE_WITH_MIN_LR, "cosine_with_min_lr")     /* m + (1 − m)·cosine, m = min_lr_rate */                                          \
    X (POLYNOMIAL, "polynomial")                     /* lr_end + (base − lr_end)(1 − p)^power */                                       \
    X (INVERSE_SQRT, "inverse_sqrt")                 /* √(τ / (k + τ − W)), τ = timescale */                                        \
    X (WARMUP_STABLE_DECAY, "warmup_stable_decay")   /* 1, then decay_type over the last num_decay_steps */

typedef enum DpsScheduleType {
#define DPS_X(name, text) DPS_SCHEDULE_##name,
    DPS_SCHEDULES (DPS_X)
#undef DPS_X
} DpsScheduleType;

/** Shapes of the warm-up and decay of warmup_stable_decay. */
typedef enum DpsRamp { DPS_RAMP_LINEAR, DPS_RAMP_COSINE, DPS_RAMP_ONE_MINUS_SQRT } DpsRamp;

/** Plain data; fill it with dps_schedule_init. */
typedef struct DpsSchedule {
    DpsScheduleType type;
    DpsRamp warmup_type;   /* warmup_stable_decay; linear */
    DpsRamp decay_type;    /* warmup_stable_decay; cosine */
    double base_lr;        /* > 0 */
    uint64_t warmup_steps; /* W */
    uint64_t total_steps;  /* T ≥ 1 */
    uint64_t stable_steps; /* warmup_stable_decay: T − W − decay_steps unless given */
    uint64_t decay_steps;  /* warmup_stable_decay: a tenth of T, rounded up, unless given (transformers has no default) */
    double num_cycles;     /* the cosines: ½ (1 for restarts) */
    double power;          /* polynomial: 1 */
    double lr_end;         /* polynomial: 1e-7 */
    double min_lr_rate;    /* cosine_with_min_lr (required there), warmup_stable_decay (0): lowest rate ÷ base_lr */
    uint64_t timescale;    /* inverse_sqrt: W, or 10,000 when W is 0 */
} DpsSchedule;

/** What a recipe says. */
typedef struct DpsScheduleOptions {
    const char *type;     /* lr_scheduler_type; NULL: "linear" */
    double base_lr;       /* learning_rate */
    double warmup;        /* warmup_steps; below 1 a ratio of total_steps, rounded up */
    uint64_t total_steps; /* optimizer steps of the whole run */
    const json_t *kwargs; /* lr_scheduler_kwargs: an object, or NULL; borrowed. Keys as in DpsSchedule, num_decay_steps, num_stable_steps,
                             min_lr, min_lr_rate, min_lr_ratio */
} DpsScheduleOptions;

/**
 * Check the options and resolve the defaults.
 * Errors: USAGE, naming the key, what was found and what is accepted; *out untouched then. Pure. [any]
 */
DpsStatus dps_schedule_init (const DpsScheduleOptions *options, DpsSchedule *out, DpsError *err);

/** The learning rate of optimizer step `step`, counted from 0. Pure, any order. [any] */
double dps_schedule_lr (const DpsSchedule *s, uint64_t step);

/** The recipe's spelling of a type. Static storage. [any] */
const char *dps_schedule_name (DpsScheduleType type);

/**
 * What gradients are multiplied by so that their norm is at most max_norm: min(1, max_norm / (norm + 1e-6)), torch's formula.
 * max_norm ≤ 0: 1, no clipping. norm must be finite: the guard has skipped the step otherwise. Pure. [any]
 */
double dps_clip_factor (double norm, double max_norm);

#endif
