/* SPDX-License-Identifier: Apache-2.0 */
/* window.c: the steps between two lines of metrics, summed up. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "train: out of memory"); }

DpsStatus dps__window_add (DpsTrainer *t, double loss, double grad_norm, double seconds, uint64_t tokens, DpsError *err)
{
    DpsWindow *w = &t->window;
    w->seconds += seconds;
    w->tokens += (double)tokens;
    w->taught += !t->empty;
    if (!isfinite (loss) && !t->empty)
        return DPS_OK;
    if (!t->empty) {
        w->loss += loss;
        w->grad_norm = grad_norm;
        w->steps++;
        t->loss_total += loss;
        t->loss_steps++;
    }
    for (size_t i = 0; i < t->sums.n_metrics; i++) {
        const DpsStepMetric *m = &t->sums.metrics[i];
        DPS_TRY (dps_step_add (&w->sums, dps_str (m->name), m->weight > 0 ? m->sum / m->weight : 0, m->weight, err));
    }
    return DPS_OK;
}

/* Without a step that had something to learn from there is no loss and no gradient, not even one that is not finite. */
static int set_loss (DpsMetrics *m, const DpsWindow *w)
{
    return w->taught && (dps_metrics_set (m, "loss", w->steps ? w->loss / (double)w->steps : NAN) ||
                         dps_metrics_set (m, "grad_norm", w->steps ? w->grad_norm : NAN));
}

DpsStatus dps__window_log (DpsTrainer *t, double lr, DpsError *err)
{
    DpsWindow *w = &t->window;
    DpsMetrics m = {0};
    uint64_t answers = 0;
    if (t->rollout.samples)
        DPS_TRY (dps__rollout_answers (t, &answers, err));
    int bad = set_loss (&m, w) || dps_metrics_set (&m, "learning_rate", lr);
    if (t->rollout.samples && dps_objective_signal (t->objective, "value", "policy") >= 0) { /* what TRL's PPO calls them */
        const double took = dps__trainer_now () - t->started;
        bad = bad || dps_metrics_set (&m, "lr", lr) || dps_metrics_set (&m, "episode", (double)answers) ||
              dps_metrics_set (&m, "eps", took > 0 ? (double)(answers - t->answers_at_start) / took : 0);
    }
    for (size_t i = 0; !bad && i < w->sums.n_metrics; i++)
        bad = dps_metrics_set (&m, w->sums.metrics[i].name, dps_step_metric (&w->sums, i));
    bad = bad || dps_metrics_set (&m, "num_tokens", (double)t->seen_tokens) ||
          dps_metrics_set (&m, "tokens_per_second", w->seconds > 0 ? w->tokens / w->seconds : 0);
    DpsStatus st = bad ? no_memory (err) : dps_observer_log (t->observer, t->step, t->epoch, &m, err);
    dps_metrics_free (&m);
    dps_step_reset (&w->sums);
    w->taught = w->steps = 0;
    w->loss = w->seconds = w->tokens = 0;
    return st;
}

json_t *dps__window_json (const DpsWindow *w)
{
    json_t *metrics = json_array ();
    for (size_t i = 0; metrics && i < w->sums.n_metrics; i++) {
        const DpsStepMetric *m = &w->sums.metrics[i];
        if (json_array_append_new (metrics, json_pack ("[s, f, f]", m->name, m->sum, m->weight))) {
            json_decref (metrics);
            metrics = NULL;
        }
    }
    return json_pack ("{s:I, s:I, s:f, s:o, s:f, s:f, s:o}", "taught", (json_int_t)w->taught, "steps", (json_int_t)w->steps, "loss",
                      w->loss, "grad_norm", isfinite (w->grad_norm) ? json_real (w->grad_norm) : json_null (), "seconds", w->seconds,
                      "tokens", w->tokens, "metrics", metrics);
}

DpsStatus dps__window_from_json (const json_t *j, DpsWindow *out, DpsError *err)
{
    json_int_t steps, taught = -1; /* older checkpoints do not say; nor the norm */
    json_t *metrics, *item;
    size_t i;
    out->grad_norm = NAN;
    if (json_unpack ((json_t *)j, "{s:I, s?I, s:F, s:F, s:F, s:o}", "steps", &steps, "taught", &taught, "loss", &out->loss, "seconds",
                     &out->seconds, "tokens", &out->tokens, "metrics", &metrics) ||
        steps < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "window: a sum is missing");
    if (json_is_number (json_object_get (j, "grad_norm")))
        out->grad_norm = json_number_value (json_object_get (j, "grad_norm"));
    out->steps = (uint64_t)steps;
    out->taught = (uint64_t)(taught < steps ? steps : taught);
    dps_step_reset (&out->sums);
    json_array_foreach (metrics, i, item) {
        const char *name;
        double sum, weight;
        if (json_unpack (item, "[s, F, F]", &name, &sum, &weight) || !(weight > 0))
            return dps_fail (err, DPS_ERR_FORMAT, "window.metrics[%zu]: expected a name, a sum and a weight", i);
        DPS_TRY (dps_step_add (&out->sums, dps_str (name), 0, weight, err));
        out->sums.metrics[out->sums.n_metrics - 1].sum = sum; /* as it was: sum/weight·weight may differ in the last bit */
    }
    return DPS_OK;
}
