/* SPDX-License-Identifier: Apache-2.0 */
/* best.c: which evaluation was the best so far, by metric_for_best_model; and before the first step, whether there is such a metric. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

static const char *metric_of (const DpsTrainer *t) { return t->recipe->metric_for_best_model + strlen ("eval_"); }

static const DpsMetric *find (const DpsMetrics *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp (m->items[i].name, name))
            return &m->items[i];
    return NULL;
}

static DpsStatus refuse (const DpsTrainer *t, const DpsMetrics *m, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    char known[400] = "";
    for (size_t i = 0, at = 0; i < m->n && at < sizeof known; i++)
        at += (size_t)snprintf (known + at, sizeof known - at, "%seval_%s", i ? ", " : "", m->items[i].name);
    return dps_fail (err, DPS_ERR_USAGE, "%s: metric_for_best_model: an evaluation has no %s; it has %s",
                     dps_recipe_where (r, DPS_KEY_metric_for_best_model), r->metric_for_best_model, known);
}

/* What an objective reports is seen by evaluating: the first rows, and all of them where those do not have the metric. */
DpsStatus dps__best_check (DpsTrainer *t, DpsError *err)
{
    DpsMetrics m = {0};
    const char *always = t->rollout.samples ? "reward" : "loss";
    if (!t->recipe->load_best_model_at_end || !strcmp (metric_of (t), always))
        return DPS_OK;
    dps__trainer_progress (t, "evaluating", NAN, NAN);
    DpsStatus st = t->rollout.samples ? dps__rollout_eval_names (t, &m, err)
                                      : dps__trainer_evaluate (t, (uint64_t)t->recipe->per_device_eval_batch_size, &m, err);
    if (st == DPS_OK && !t->rollout.samples && !find (&m, metric_of (t))) {
        dps_metrics_free (&m);
        st = dps__trainer_evaluate (t, UINT64_MAX, &m, err);
    }
    if (st == DPS_OK && !find (&m, metric_of (t)))
        st = refuse (t, &m, err);
    dps_metrics_free (&m);
    return st;
}

DpsStatus dps__best_judge (DpsTrainer *t, const DpsMetrics *m, DpsError *err)
{
    const DpsMetric *metric = find (m, metric_of (t));
    if (!metric)
        return refuse (t, m, err);
    char *folder = dps_strf ("checkpoint-%llu", (unsigned long long)t->step);
    int bad = !folder || dps_trainer_state_best (dps_observer_state (t->observer), metric->value, t->recipe->greater_is_better > 0, t->step,
                                                 folder) < 0;
    dps_free (folder);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "train: out of memory") : DPS_OK;
}
