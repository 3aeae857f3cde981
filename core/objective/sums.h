/* SPDX-License-Identifier: Apache-2.0 */
/* sums.h: what the micro-batches of one optimizer step, or of one evaluation, add up to: the loss, and metrics by name. */
#ifndef DPS_OBJECTIVE_SUMS_H
#define DPS_OBJECTIVE_SUMS_H

#include "diapason/types.h"

enum { DPS_METRIC_NAME = 80 }; /* bytes of a metric's name with its end: "rewards/", a criterion of 47, "/correlation" */

/** A weighted mean over the step: Σ value·weight / Σ weight. */
typedef struct DpsStepMetric {
    char name[DPS_METRIC_NAME];
    double sum, weight;
} DpsStepMetric;

/** What one optimizer step (or one evaluation) adds up to; all zeros is empty. */
typedef struct DpsStepSums {
    double loss;  /* Σ of unit losses, in data order, not divided */
    double total; /* of the step: loss/total is the loss */
    uint64_t n_units, n_tokens;
    DpsStepMetric *metrics; /* in the order of their first appearance */
    size_t n_metrics, capacity;
} DpsStepSums;

/** Add a metric to a step by hand (what the core measures itself). Errors: LIMIT for a long name, NOMEM. */
DpsStatus dps_step_add (DpsStepSums *s, DpsStr name, double value, double weight, DpsError *err);
/** A metric that is the largest (or smallest) value given in the step, under a name that nothing else adds to. Errors: LIMIT, NOMEM. */
DpsStatus dps_step_extreme (DpsStepSums *s, DpsStr name, double value, int largest, DpsError *err);
/** The step's loss, 0 when it is empty, and metric i. */
double dps_step_loss (const DpsStepSums *s);
double dps_step_metric (const DpsStepSums *s, size_t i);
/** Forget everything, keep memory; and free it. */
void dps_step_reset (DpsStepSums *s);
void dps_step_free (DpsStepSums *s);

/** The number of the metric called `name`, with no value yet when it is new. Errors: LIMIT for a long name, NOMEM. Internal to the stage. */
DpsStatus dps__step_find (DpsStepSums *s, DpsStr name, size_t *out, DpsError *err);

#endif
