/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h: an ordered list of names and numbers: what one logging step reports, in the order it is shown everywhere (file, console,
 * TensorBoard). Names are the peers' ("loss", "grad_norm", "rewards/margins").
 */
#ifndef DPS_OBSERVE_METRICS_H
#define DPS_OBSERVE_METRICS_H

#include "base/json.h"

typedef struct DpsMetric {
    char *name;
    double value;
} DpsMetric;

/** All zeros is a valid empty list. */
typedef struct DpsMetrics {
    DpsMetric *items;
    size_t n, capacity;
} DpsMetrics;

/** Set `name` (a new one goes to the end). 0, or -1 when out of memory. [any] */
int dps_metrics_set (DpsMetrics *m, const char *name, double value);
/** Every item of `from`, each name behind `prefix` ("eval_"). 0 or -1. [any] */
int dps_metrics_merge (DpsMetrics *m, const char *prefix, const DpsMetrics *from);
/** Empty the list and free it. [any] */
void dps_metrics_free (DpsMetrics *m);

/** A JSON object of the list: whole numbers as integers, NaN and infinities as null. NULL when out of memory. A new reference. [any] */
json_t *dps_metrics_json (const DpsMetrics *m);

/** Append an object as one line of Python-dictionary looks, as trainers print it: {'loss': 2.3471, 'epoch': 0.5}. 0 or -1. [any] */
int dps_metrics_python (DpsBuf *out, const json_t *object);

#endif
