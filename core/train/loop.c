/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c: a run from recipe to adapter, top to bottom:
 *
 *   open (plugins, model, rows, objective) → plan the memory → load → resume? → for each step: forward, backward, guard, optimizer, log,
 *   evaluate, save → best checkpoint? → export, report.
 */
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "train/trainer.h"

double dps__trainer_now (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void dps__trainer_progress (const DpsTrainer *t, const char *phase, double loss, double lr)
{
    char pace[96];
    if (!t->options->progress)
        return;
    dps_pace_text (&t->pace, t->plan.steps - t->step, pace, sizeof pace);
    DpsTrainProgress p = {.phase = phase, .step = t->step, .max_steps = t->plan.steps, .loss = loss, .learning_rate = lr, .pace = pace};
    t->options->progress (t->options->ctx, &p);
}

/* Step sums into the window of the next line of metrics. */
static DpsStatus add_to_window (DpsTrainer *t, double loss, double seconds, uint64_t tokens, DpsError *err)
{
    t->window_loss += loss;
    t->window_steps++;
    t->window_s += seconds;
    t->window_tokens += (double)tokens;
    t->loss_total += loss;
    for (size_t i = 0; i < t->sums.n_metrics; i++) {
        const DpsStepMetric *m = &t->sums.metrics[i];
        DPS_TRY (dps_step_add (&t->window, dps_str (m->name), m->weight > 0 ? m->sum / m->weight : 0, m->weight, err));
    }
    return DPS_OK;
}

static DpsStatus log_window (DpsTrainer *t, double grad_norm, double lr, DpsError *err)
{
    DpsMetrics m = {0};
    int bad = dps_metrics_set (&m, "loss", t->window_loss / (double)t->window_steps) || dps_metrics_set (&m, "grad_norm", grad_norm) ||
              dps_metrics_set (&m, "learning_rate", lr);
    for (size_t i = 0; !bad && i < t->window.n_metrics; i++)
        bad = dps_metrics_set (&m, t->window.metrics[i].name, dps_step_metric (&t->window, i));
    bad = bad || dps_metrics_set (&m, "num_tokens", (double)t->seen_tokens) ||
          dps_metrics_set (&m, "tokens_per_second", t->window_s > 0 ? t->window_tokens / t->window_s : 0);
    DpsStatus st = bad ? dps_fail (err, DPS_ERR_NOMEM, "train: out of memory") : dps_observer_log (t->observer, t->step, t->epoch, &m, err);
    dps_metrics_free (&m);
    dps_step_reset (&t->window);
    t->window_loss = t->window_s = t->window_tokens = 0;
    t->window_steps = 0;
    return st;
}

static const char *best_metric_name (const DpsRecipe *r)
{
    const char *name = r->metric_for_best_model ? r->metric_for_best_model : "loss";
    return strncmp (name, "eval_", 5) ? name : name + 5;
}

static int greater_is_better (const DpsRecipe *r)
{
    const char *name = best_metric_name (r);
    size_t n = strlen (name);
    return r->greater_is_better >= 0 ? r->greater_is_better : n < 4 || strcmp (name + n - 4, "loss");
}

static DpsStatus evaluate_now (DpsTrainer *t, DpsError *err)
{
    DpsMetrics m = {0};
    dps__trainer_progress (t, "evaluating", NAN, NAN);
    DpsStatus st = dps__trainer_evaluate (t, &m, err);
    if (st == DPS_OK)
        st = dps_observer_eval (t->observer, t->step, t->epoch, &m, err);
    if (st == DPS_OK && t->recipe->load_best_model_at_end) {
        double metric = dps_metrics_get (&m, best_metric_name (t->recipe), NAN);
        char *folder = dps_strf ("checkpoint-%llu", (unsigned long long)t->step);
        if (!folder ||
            dps_trainer_state_best (dps_observer_state (t->observer), metric, greater_is_better (t->recipe), t->step, folder) < 0)
            st = dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
        dps_free (folder);
    }
    dps_metrics_free (&m);
    return st;
}

static int is_due (const DpsTrainer *t, const char *strategy, uint64_t every)
{
    if (!strcmp (strategy, "epoch"))
        return t->epoch == floor (t->epoch);
    return !strcmp (strategy, "steps") && every > 0 && t->step % every == 0;
}

static DpsStatus roll_back (DpsTrainer *t, DpsError *err)
{
    DpsCheckpoint *c;
    const DpsFormat *format = dps_registry_get (t->reg, DPS_FORMAT_ID, "safetensors");
    DpsGuard now = t->guard;
    DpsStatus st = dps_ckpt_resume (t->recipe->output_dir, "auto", format, &c, err);
    if (st != DPS_OK) {
        dps_error_prefix (err, "step %llu: three steps in a row were not finite, and there is no checkpoint to go back to",
                          (unsigned long long)t->step + 1);
        return DPS_ERR_NONFINITE;
    }
    dps_log (DPS_LOG_WARNING, "three steps in a row were not finite: back to step %llu", (unsigned long long)dps_ckpt_step (c));
    uint64_t at = t->step;
    st = dps__trainer_restore (t, c, err);
    t->guard = dps_guard_after_rollback (&now, &t->guard);
    t->step = at; /* weights go back, the data goes on: the same rows would diverge again */
    dps_ckpt_close (c);
    return st;
}

/* One step, judged. */
static DpsStatus take_step (DpsTrainer *t, double *out_loss, double *out_norm, double *out_lr, DpsError *err)
{
    uint64_t tokens;
    double start = dps__trainer_now ();
    *out_lr = dps_schedule_lr (&t->schedule, t->step);
    DPS_TRY (dps__trainer_step (t, out_loss, out_norm, &tokens, err));
    DpsVerdict verdict = dps_guard_judge (&t->guard, *out_loss, *out_norm);
    if (verdict == DPS_GUARD_APPLY)
        DPS_TRY (dps_optim_step (&t->optim, &t->session.weights, *out_lr, *out_norm, err));
    else if (verdict == DPS_GUARD_GIVE_UP)
        return dps_fail (err, DPS_ERR_NONFINITE,
                         "step %llu: the loss is not finite again after going back %llu times. Hint: a lower learning_rate, or "
                         "look at the rows",
                         (unsigned long long)t->step + 1, (unsigned long long)t->guard.total_rollbacks);
    else
        dps_log (DPS_LOG_WARNING, "step %llu: loss %g, gradient norm %g: the step is skipped", (unsigned long long)t->step + 1, *out_loss,
                 *out_norm);
    t->step++;
    t->seen_tokens += tokens;
    DPS_TRY (dps__trainer_epochs (t, t->step, &t->epoch, err));
    if (verdict == DPS_GUARD_ROLLBACK)
        DPS_TRY (roll_back (t, err));
    double took = dps__trainer_now () - start;
    dps_pace_add (&t->pace, took, (double)tokens);
    return add_to_window (t, isfinite (*out_loss) ? *out_loss : 0, took, tokens, err);
}

static int asked_to_stop (const DpsTrainer *t) { return t->options->should_stop && t->options->should_stop (); }

static DpsStatus train_steps (DpsTrainer *t, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    uint64_t logging = (uint64_t)r->logging_steps, eval_every = (uint64_t)(r->eval_steps ? r->eval_steps : r->logging_steps);
    while (t->step < t->plan.steps) {
        double loss = 0, norm = 0, lr = 0;
        DPS_TRY (take_step (t, &loss, &norm, &lr, err));
        dps__trainer_progress (t, "training", loss, lr);
        int last = t->step == t->plan.steps, stop = asked_to_stop (t) && !last;
        if (t->step % logging == 0 || last)
            DPS_TRY (log_window (t, norm, lr, err));
        if (t->eval_feed && !stop && is_due (t, r->eval_strategy, eval_every))
            DPS_TRY (evaluate_now (t, err));
        int wants_save = r->save_strategy[0] != 'n' && (last || is_due (t, r->save_strategy, (uint64_t)r->save_steps));
        if (wants_save || stop) {
            dps__trainer_progress (t, "saving", loss, lr);
            DPS_TRY (dps__trainer_save (t, err));
        }
        if (stop)
            return dps_fail (err, DPS_ERR_INTERRUPTED, "interrupted at step %llu of %llu and saved: go on with --resume",
                             (unsigned long long)t->step, (unsigned long long)t->plan.steps);
    }
    return DPS_OK;
}

static DpsStatus take_best (DpsTrainer *t, DpsError *err)
{
    const DpsTrainerState *state = dps_observer_state (t->observer);
    if (!t->recipe->load_best_model_at_end || !state->has_best || !state->best_model_checkpoint || state->best_global_step == t->step)
        return DPS_OK;
    char *path = dps_strf ("%s/%s", t->recipe->output_dir, state->best_model_checkpoint);
    DpsCheckpoint *c;
    DpsStatus st = path ? dps_ckpt_open (path, dps_registry_get (t->reg, DPS_FORMAT_ID, "safetensors"), &c, err)
                        : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    dps_free (path);
    DPS_TRY (st);
    st = dps__trainer_restore_weights (t, c, err);
    dps_ckpt_close (c);
    return st;
}

DpsStatus dps_train (const DpsRegistry *reg, const DpsRecipe *recipe, const DpsTrainOptions *options, DpsTrainResult *out, DpsError *err)
{
    DpsTrainer t;
    *out = (DpsTrainResult){0};
    DPS_TRY (dps__trainer_open (&t, reg, recipe, options, 0, err));
    DpsStatus st = train_steps (&t, err);
    if (st == DPS_OK)
        st = take_best (&t, err);
    if (st == DPS_OK)
        st = dps__trainer_export (&t, err);
    if (st == DPS_OK)
        st = dps__trainer_finish (&t, err);
    out->step = t.step;
    out->runtime_s = dps__trainer_now () - t.started;
    out->train_loss = t.step ? t.loss_total / (double)t.step : NAN;
    out->output_dir = dps_strdup (recipe->output_dir);
    dps__trainer_close (&t);
    return st;
}
