/* SPDX-License-Identifier: Apache-2.0 */
#include "objective/sums.h"

#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "diapason/plugin.h"

DpsStatus dps__step_find (DpsStepSums *s, DpsStr name, size_t *out, DpsError *err)
{
    size_t i = 0;
    while (i < s->n_metrics && !dps_str_is (name, s->metrics[i].name))
        i++;
    *out = i;
    if (i < s->n_metrics)
        return DPS_OK;
    if (name.len == 0 || name.len >= sizeof s->metrics->name)
        return dps_fail (err, DPS_ERR_LIMIT, "a metric's name has %zu bytes, expected 1 to %zu", name.len, sizeof s->metrics->name - 1);
    if (DPS_GROW (s->metrics, s->n_metrics, s->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "no memory for metric '%.*s'", (int)name.len, name.ptr);
    s->metrics[i] = (DpsStepMetric){.sum = 0};
    memcpy (s->metrics[i].name, name.ptr, name.len);
    s->n_metrics++;
    return DPS_OK;
}

DpsStatus dps_step_add (DpsStepSums *s, DpsStr name, double value, double weight, DpsError *err)
{
    size_t i;
    if (weight == 0)
        return DPS_OK;
    DPS_TRY (dps__step_find (s, name, &i, err));
    s->metrics[i].sum += value * weight;
    s->metrics[i].weight += weight;
    return DPS_OK;
}

DpsStatus dps_step_extreme (DpsStepSums *s, DpsStr name, double value, int largest, DpsError *err)
{
    size_t i;
    DPS_TRY (dps__step_find (s, name, &i, err));
    DpsStepMetric *m = &s->metrics[i];
    if (m->weight == 0 || (largest ? value > m->sum : value < m->sum))
        m->sum = value;
    m->weight = 1;
    return DPS_OK;
}

double dps_step_loss (const DpsStepSums *s) { return s->total > 0 ? s->loss / s->total : 0; }

double dps_step_metric (const DpsStepSums *s, size_t i) { return s->metrics[i].sum / s->metrics[i].weight; }

void dps_step_reset (DpsStepSums *s)
{
    DpsStepMetric *metrics = s->metrics;
    size_t capacity = s->capacity;
    *s = (DpsStepSums){.metrics = metrics, .capacity = capacity};
}

void dps_step_free (DpsStepSums *s)
{
    dps_free (s->metrics);
    *s = (DpsStepSums){0};
}
