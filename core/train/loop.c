/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c: a run from recipe to adapter, top to bottom:
 *
 *   open (plugins, model, rows, objective) → plan the memory → load → resume? → for each step: forward, backward, guard, optimizer, log,
 *   evaluate, save → best checkpoint? → export, report.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "plugin/crumb.h"
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

static int is_due (const DpsTrainer *t, const char *strategy, uint64_t every)
{
    if (t->step == 0)
        return 0;
    if (!strcmp (strategy, "epoch"))
        return t->epoch == floor (t->epoch);
    return !strcmp (strategy, "steps") && every > 0 && t->step % every == 0;
}

static int save_due (const DpsTrainer *t)
{
    const DpsRecipe *r = t->recipe;
    return strcmp (r->save_strategy, "no") && (t->step == t->plan.steps || is_due (t, r->save_strategy, (uint64_t)r->save_steps));
}

static DpsStatus evaluate_now (DpsTrainer *t, DpsError *err)
{
    DpsMetrics m = {0};
    dps__trainer_progress (t, "evaluating", NAN, NAN);
    DpsStatus st = t->rollout.samples ? dps__rollout_evaluate (t, &m, err) : dps__trainer_evaluate (t, UINT64_MAX, &m, err);
    if (st == DPS_OK)
        st = dps_observer_eval (t->observer, t->step, t->epoch, &m, err);
    if (st == DPS_OK && t->recipe->load_best_model_at_end && save_due (t)) /* only a step that is saved can be gone back to */
        st = dps__best_judge (t, &m, err);
    t->owes_eval = st != DPS_OK;
    dps_metrics_free (&m);
    return st;
}

/* Weights go back, the data goes on: the same rows would diverge again. */
static DpsStatus roll_back (DpsTrainer *t, DpsError *err)
{
    DpsCheckpoint *c;
    DpsGuard saved = DPS_GUARD_INIT;
    DpsStatus st = dps_ckpt_resume (t->recipe->output_dir, "auto", dps_registry_get (t->reg, DPS_FORMAT_ID, "checkpoint"), &c, err);
    if (st != DPS_OK) {
        dps_error_prefix (err, "step %llu: three steps in a row were not finite, and there is no checkpoint to go back to",
                          (unsigned long long)t->step);
        return DPS_ERR_NONFINITE;
    }
    dps_log (DPS_LOG_WARNING, "three steps in a row were not finite: the weights go back to those of step %llu",
             (unsigned long long)dps_ckpt_step (c));
    st = dps__trainer_restore_values (t, c, &saved, err);
    if (st == DPS_OK)
        t->guard = dps_guard_after_rollback (&t->guard, &saved);
    dps_ckpt_close (c);
    return st;
}

/* One step, judged. */
static DpsStatus take_step (DpsTrainer *t, double *out_loss, double *out_norm, double *out_lr, DpsError *err)
{
    uint64_t tokens;
    double start = dps__trainer_now ();
    dps_crumb_step (t->step + 1);
    *out_lr = dps_schedule_lr (&t->schedule, t->step);
    DPS_TRY (dps__trainer_step (t, out_loss, out_norm, &tokens, err));
    DpsVerdict verdict = t->empty ? DPS_GUARD_SKIP : dps_guard_judge (&t->guard, *out_loss, *out_norm);
    t->applied = verdict == DPS_GUARD_APPLY;
    if (t->applied) {
        DPS_TRY (dps_optim_step (&t->optim, &t->session.weights, *out_lr, *out_norm, err));
        DPS_TRY (dps__critic_step (t, *out_lr, *out_norm, err));
    } else if (verdict == DPS_GUARD_GIVE_UP)
        return dps_fail (err, DPS_ERR_NONFINITE,
                         "step %llu: the loss is not finite again after going back %llu times. Hint: a lower learning_rate, or "
                         "look at the rows",
                         (unsigned long long)t->step + 1, (unsigned long long)t->guard.total_rollbacks);
    else if (t->empty)
        dps_log (DPS_LOG_INFO, "step %llu: %s: nothing to learn from", (unsigned long long)t->step + 1,
                 t->rollout.samples ? "no answer was better than another to the same prompt" : "none of its rows is left");
    else
        dps_log (DPS_LOG_WARNING, "step %llu: loss %g, gradient norm %g: the step is skipped", (unsigned long long)t->step + 1, *out_loss,
                 *out_norm);
    t->step++;
    t->seen_tokens += tokens;
    if (t->applied)
        DPS_TRY (dps__objective_step_end (t, err));
    DPS_TRY (dps__trainer_epochs (t, t->step, &t->epoch, err));
    if (verdict == DPS_GUARD_ROLLBACK)
        DPS_TRY (roll_back (t, err));
    double took = dps__trainer_now () - start;
    dps_pace_add (&t->pace, took, (double)tokens);
    if (t->rollout.samples)
        DPS_TRY (dps__rollout_metrics (t, took, err));
    return dps__window_add (t, t->applied ? *out_loss : NAN, *out_norm, took, tokens, err);
}

static int asked_to_stop (const DpsTrainer *t) { return t->options->should_stop && t->options->should_stop (); }

/* After a step, and after a resume for what an interruption left out: the evaluation that is due, then the checkpoint. */
static DpsStatus evaluate_and_save (DpsTrainer *t, int stop, DpsError *err)
{
    DpsStatus st = t->owes_eval && !stop ? evaluate_now (t, err) : DPS_OK;
    if (st != DPS_OK && st != DPS_ERR_INTERRUPTED)
        return st;
    stop |= st == DPS_ERR_INTERRUPTED;
    if (stop || save_due (t)) {
        dps__trainer_progress (t, "saving", NAN, NAN);
        DPS_TRY (dps__trainer_save (t, err));
    }
    return stop ? dps_fail (err, DPS_ERR_INTERRUPTED, "interrupted at step %llu of %llu and saved: go on with --resume",
                            (unsigned long long)t->step, (unsigned long long)t->plan.steps)
                : DPS_OK;
}

static DpsStatus train_steps (DpsTrainer *t, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    if (!t->resumed)
        DPS_TRY (dps__best_check (t, err));
    if (t->owes_eval)
        DPS_TRY (evaluate_and_save (t, 0, err));
    if (r->eval_on_start && t->eval_feed && !t->resumed)
        DPS_TRY (evaluate_now (t, err));
    dps__trainer_progress (t, "first step", NAN, NAN);
    while (t->step < t->plan.steps) {
        double loss = 0, norm = 0, lr = 0;
        DpsStatus st = take_step (t, &loss, &norm, &lr, err);
        if (st == DPS_ERR_INTERRUPTED) /* while it sampled: what is saved is the step before */
            return evaluate_and_save (t, 1, err);
        DPS_TRY (st);
        dps__trainer_progress (t, "training", loss, lr);
        int last = t->step == t->plan.steps;
        if (last || t->step % (uint64_t)r->logging_steps == 0)
            DPS_TRY (dps__window_log (t, lr, err));
        t->owes_eval = t->eval_feed && is_due (t, r->eval_strategy, (uint64_t)r->eval_steps);
        DPS_TRY (evaluate_and_save (t, !last && asked_to_stop (t), err));
    }
    return t->resumed ? dps__trainer_rotate (t, err) : DPS_OK; /* killed between the last checkpoint and the end of an old one */
}

static DpsStatus take_best (DpsTrainer *t, DpsError *err)
{
    const DpsTrainerState *state = dps_observer_state (t->observer);
    if (!t->recipe->load_best_model_at_end || !state->has_best || !state->best_model_checkpoint || state->best_global_step == t->step)
        return DPS_OK;
    char *path = dps_strf ("%s/%s", t->recipe->output_dir, state->best_model_checkpoint);
    DpsCheckpoint *c;
    DpsError why = DPS_ERROR_INIT;
    DpsStatus st = path ? dps_ckpt_open (path, dps_registry_get (t->reg, DPS_FORMAT_ID, "checkpoint"), &c, &why)
                        : dps_fail (&why, DPS_ERR_NOMEM, "train: out of memory");
    dps_free (path);
    if (st == DPS_ERR_NOMEM)
        return dps_fail (err, st, "%s", why.msg);
    if (st != DPS_OK) { /* the run is paid for: what it ends with is written, and that it is not the best is said */
        dps_log (DPS_LOG_WARNING,
                 "load_best_model_at_end: the best evaluation's %s is not usable, so the weights of step %llu are written: %s",
                 state->best_model_checkpoint, (unsigned long long)t->step, why.msg);
        return DPS_OK;
    }
    st = dps__trainer_restore_weights (t, c, err);
    dps_ckpt_close (c);
    return st;
}

DpsStatus dps_train (const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *options, DpsTrainResult *out, DpsError *err)
{
    DpsTrainer t;
    *out = (DpsTrainResult){0};
    DPS_TRY (dps__trainer_open (&t, reg, recipe, options, 0, err));
    DpsStatus st = train_steps (&t, err);
    if (st == DPS_OK)
        st = dps__trainer_check_peak (&t, err);
    if (st == DPS_OK)
        st = take_best (&t, err);
    if (st == DPS_OK)
        st = dps__trainer_export (&t, err);
    if (st == DPS_OK)
        st = dps__critic_export (&t, err);
    if (st == DPS_OK)
        st = dps__trainer_finish (&t, err);
    out->step = t.step;
    out->runtime_s = dps__trainer_now () - t.started;
    out->train_loss = t.loss_steps ? t.loss_total / (double)t.loss_steps : NAN;
    out->output_dir = dps_strdup (recipe->output_dir);
    dps__trainer_close (&t);
    return st == DPS_ERR_NOT_FOUND ? DPS_ERR_IO : st; /* all that the recipe names was there when the run began */
}
