/* SPDX-License-Identifier: Apache-2.0 */
/* restore.c: how a run comes back from what save.c wrote: trained values, optimizer moments, counters, guard, and a rollout that is still trained. */
#include <string.h>

#include "base/mem.h"
#include "exec/stage.h"
#include "train/trainer.h"

/* A tensor of `file` into a weight's master, found by `name`. */
static DpsStatus restore_weight (DpsTrainer *t, DpsTensorFile *file, const char *name, int32_t i, DpsError *err)
{
    int64_t at = dps_tensors_find (file, name), n = dps_weight_elements (&t->session.model.weights[i]);
    if (at < 0)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "checkpoint: no tensor '%s'", name);
    float *values = dps_malloc ((size_t)n, sizeof *values);
    if (!values)
        return dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
    DpsStatus st = dps_tensors_read_f32 (file, (size_t)at, values, (uint64_t)n, err);
    if (st == DPS_OK)
        st = dps_weights_set (&t->session.weights, i, values, err);
    dps_free (values);
    return st;
}

DpsStatus dps__trainer_restore_weights (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err)
{
    const DpsModel *m = &t->session.model;
    DpsTensorFile *file, *optimizer = NULL;
    DPS_TRY (dps_ckpt_tensors (c, t->is_adapter ? DPS_CKPT_ADAPTER : DPS_CKPT_MODEL, &file, err));
    DpsStatus st = DPS_OK;
    if (!t->is_adapter && dps_ckpt_has (c, DPS_CKPT_OPTIMIZER))
        st = dps_ckpt_tensors (c, DPS_CKPT_OPTIMIZER, &optimizer, err);
    for (size_t i = 0; st == DPS_OK && i < m->n_weights; i++) {
        if (!t->session.weights.stores[i].grad.buffer)
            continue;
        int master = !t->is_adapter && t->session.weights.stores[i].master.buffer != NULL;
        char *name = dps_strf ("%s%s", master ? "master." : t->is_adapter ? DPS_PEFT_PREFIX : "", m->weights[i].name);
        st = name ? restore_weight (t, master ? optimizer : file, name, (int32_t)i, err)
                  : dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
        dps_free (name);
    }
    dps_tensors_close (file);
    if (optimizer)
        dps_tensors_close (optimizer);
    return st == DPS_OK ? dps__critic_restore (t, c, err) : st;
}

static DpsStatus read_block (DpsTrainer *t, DpsTensorFile *file, size_t at, const DpsBlock *to, DpsError *err)
{
    if (to->host)
        return dps_tensors_read (file, at, to->host, to->bytes, err);
    void *bytes = dps_malloc (to->bytes, 1);
    DpsStatus st = bytes ? dps_tensors_read (file, at, bytes, to->bytes, err) : dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
    if (st == DPS_OK)
        st = dps_block_put (t->session.weights.ex, to, 0, bytes, to->bytes, err);
    dps_free (bytes);
    return st;
}

static DpsStatus restore_moment (DpsTrainer *t, DpsTensorFile *file, const char *prefix, const char *weight, const DpsBlock *to,
                                 DpsError *err)
{
    if (!to->buffer)
        return DPS_OK;
    char *name = dps_strf ("%s.%s", prefix, weight);
    int64_t at = name ? dps_tensors_find (file, name) : -1;
    DpsStatus st = !name    ? dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory")
                   : at < 0 ? dps_fail (err, DPS_ERR_NOT_FOUND, "checkpoint: no tensor '%s' in %s", name, DPS_CKPT_OPTIMIZER)
                            : read_block (t, file, (size_t)at, to, err);
    dps_free (name);
    return st;
}

static DpsStatus restore_optimizer (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err)
{
    DpsTensorFile *file;
    if (dps_optim_moments (&t->optim) == 0)
        return DPS_OK;
    DPS_TRY (dps_ckpt_tensors (c, DPS_CKPT_OPTIMIZER, &file, err));
    DpsStatus st = DPS_OK;
    for (size_t i = 0; st == DPS_OK && i < t->session.model.n_weights; i++) {
        const DpsStore *s = &t->session.weights.stores[i];
        st = restore_moment (t, file, "exp_avg", t->session.model.weights[i].name, &s->m, err);
        if (st == DPS_OK)
            st = restore_moment (t, file, "exp_avg_sq", t->session.model.weights[i].name, &s->v, err);
    }
    dps_tensors_close (file);
    return st;
}

static DpsStatus unreadable (const DpsCheckpoint *c, DpsError *err)
{
    return dps_fail (err, DPS_ERR_FORMAT, "%s/%s: a counter is missing: it was written by another version", dps_ckpt_path (c),
                     DPS_CKPT_RUN);
}

static DpsStatus restore_values (DpsTrainer *t, const DpsCheckpoint *c, json_t *run, DpsGuard *out_guard, DpsError *err)
{
    json_int_t updates;
    json_t *guard;
    if (json_unpack (run, "{s:I, s:o}", "updates", &updates, "guard", &guard))
        return unreadable (c, err);
    DPS_TRY (dps_guard_from_json (guard, out_guard, err));
    DPS_TRY (dps__trainer_restore_weights (t, c, err));
    DPS_TRY (restore_optimizer (t, c, err));
    t->optim.t = t->critic.optim.t = (uint64_t)updates; /* both are updated, or neither */
    return DPS_OK;
}

DpsStatus dps__trainer_restore_values (DpsTrainer *t, const DpsCheckpoint *c, DpsGuard *out_guard, DpsError *err)
{
    json_t *run = NULL;
    DPS_TRY (dps_ckpt_read_json (c, DPS_CKPT_RUN, &run, err));
    DpsStatus st = restore_values (t, c, run, out_guard, err);
    json_decref (run);
    return st;
}

static DpsStatus restore_counters (DpsTrainer *t, const DpsCheckpoint *c, json_t *run, DpsError *err)
{
    json_int_t step, tokens, loss_steps;
    json_t *window;
    if (json_unpack (run, "{s:I, s:F, s:I, s:I, s:b, s:o}", "step", &step, "loss_total", &t->loss_total, "loss_steps", &loss_steps,
                     "seen_tokens", &tokens, "owes_eval", &t->owes_eval, "window", &window))
        return unreadable (c, err);
    t->step = t->step_at_start = (uint64_t)step;
    t->seen_tokens = (uint64_t)tokens;
    t->loss_steps = (uint64_t)loss_steps;
    if (t->rollout.samples)
        DPS_TRY (dps__rollout_answers (t, &t->answers_at_start, err));
    DPS_TRY (dps__window_from_json (window, &t->window, err));
    return dps__trainer_epochs (t, t->step, &t->epoch, err);
}

DpsStatus dps__trainer_restore (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err)
{
    json_t *run = NULL;
    DPS_TRY (dps_ckpt_read_json (c, DPS_CKPT_RUN, &run, err));
    DpsStatus st = restore_values (t, c, run, &t->guard, err);
    if (st == DPS_OK)
        st = restore_counters (t, c, run, err);
    if (st == DPS_OK)
        st = dps__rollout_restore (t, c, err);
    if (st == DPS_OK)
        st = dps__objective_restore (t, c, err);
    json_decref (run);
    return st;
}
