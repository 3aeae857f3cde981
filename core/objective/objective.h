/* SPDX-License-Identifier: Apache-2.0 */
/*
 * objective.h: the core's side of `dps.objective/1`: an instance of a plugin, and one micro-batch of it: signals in, summed loss, metrics
 * and d(loss)/d(signal) out.
 *
 * A step may be split into any micro-batches, given in data order: losses and metrics are added unit by unit, one after the other, and
 * every gradient is divided by the total of the whole step. So the split changes no bit.
 */
#ifndef DPS_OBJECTIVE_OBJECTIVE_H
#define DPS_OBJECTIVE_OBJECTIVE_H

#include "diapason/objective.h"
#include "objective/sums.h"
#include "plugin/params.h"

/** An open objective. Read only. */
typedef struct DpsObjectiveInstance {
    DpsObjective table;    /* the host's copies of what the plugin said */
    DpsObjectiveInfo info; /* params and signals of the plugin; `signals` below instead */
    DpsSignal *signals;    /* [info.n_signals] */
    void *self;
} DpsObjectiveInstance;

/**
 * An instance of the plugin behind `table` (a registry's copy) with parameters from `lookup` (NULL: defaults).
 * Owns: *out, dps_objective_close. Errors: USAGE for a bad parameter; FORMAT when the plugin's description makes no sense; the plugin's
 * own.
 */
DpsStatus dps_objective_open (const DpsObjective *table, DpsParamLookup lookup, void *ctx, DpsObjectiveInstance **out, DpsError *err);
void dps_objective_close (DpsObjectiveInstance *o);

/** 1 when the objective, with its parameters, reads signal i of its description. [any] */
int dps_objective_reads (const DpsObjectiveInstance *o, uint32_t signal);

/** The number of a signal the objective reads, or -1: what is not read need not be computed. [any] */
int dps_objective_signal (const DpsObjectiveInstance *o, const char *name, const char *role);

/** What the loss of a step is divided by, from the step's counts. [any] */
double dps_objective_total (const DpsObjectiveInstance *o, uint64_t n_tokens, uint64_t n_rows, uint64_t n_units);

/**
 * One micro-batch of a step. batch->total is that of the whole step, > 0; batch->weights NULL: 1 everywhere.
 * out_grads: NULL (evaluation), or per signal an array as long as the signal, or NULL: receives d(step loss)/d(signal), divided by the
 * total. out_losses: NULL, or [n_units] unit losses, not divided. Ensures: on an error nothing was added to sums. Errors: NONFINITE names
 * the signal and token, or the unit; SHAPE; NOMEM; the plugin's own, prefixed with its name. Thread: [any], one call at a time per
 * instance.
 */
DpsStatus dps_objective_micro_batch (const DpsObjectiveInstance *o, const DpsObjectiveBatch *batch, DpsStepSums *sums,
                                     double *const *out_grads, double *out_losses, DpsError *err);

/**
 * The signals of role step, from a whole step (or rollout) and what its answers earned. step as micro_batch takes it, signals NULL in the
 * places of roles policy and step. out: per signal an array as long as the signal where its role is step, else NULL.
 * Ensures: on an error out and sums are untouched. Errors: SHAPE, NONFINITE (names the signal and its place), UNSUPPORTED when the objective
 * has no score, NOMEM; the plugin's own, prefixed with its name. Thread: [any], one call at a time per instance.
 */
DpsStatus dps_objective_score (const DpsObjectiveInstance *o, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *const *out,
                               DpsStepSums *sums, DpsError *err);

#endif
