/* SPDX-License-Identifier: Apache-2.0 */
/*
 * judge.c: one micro-batch through the objective. Each signal it reads comes from the pass, the critic, the reference or what the places recorded;
 * the tape gives the loss and d loss / d signal; with training that is where the backward pass starts.
 */
#include "train/judge.h"

#include <string.h>

#include "base/mem.h"

int dps__trainer_scores (const DpsTrainer *t) { return dps_objective_signal (t->objective, "score", "policy") >= 0; }

int dps__trainer_values (const DpsTrainer *t)
{
    return !t->recipe->value_model && dps_objective_signal (t->objective, "value", "policy") >= 0;
}

double dps__judge_total (const DpsTrainer *t, const DpsBatchCounts *c)
{
    return dps_objective_total (t->objective, (uint64_t)c->scored, (uint64_t)c->sequences, (uint64_t)c->roots);
}

/* Arrays of one micro-batch on the objective's side. */
typedef struct Signals {
    double *values[DPS_PLACE_SIGNALS], *grads[DPS_PLACE_SIGNALS];
    float *seed[2]; /* where the backward pass starts: d loss / d logp (or score), d loss / d value */
} Signals;

static void free_signals (Signals *s)
{
    for (int i = 0; i < DPS_PLACE_SIGNALS; i++) {
        dps_free (s->values[i]);
        dps_free (s->grads[i]);
    }
    dps_free (s->seed[0]);
    dps_free (s->seed[1]);
}

static const float *pass_signal (const DpsPass *p, const char *name)
{
    if (!strcmp (name, "logp"))
        return dps_pass_logp (p);
    if (!strcmp (name, "entropy"))
        return dps_pass_entropy (p);
    if (!strcmp (name, "score"))
        return dps_pass_score (p);
    if (!strcmp (name, "value"))
        return dps_pass_value (p);
    return strcmp (name, "hit") ? NULL : dps_pass_hit (p);
}

/* What was recorded or scored is the places'; of answers that were given, not sampled, the rollout is the policy before the first update. */
static DpsStatus read_signal (const DpsJudgment *j, uint32_t i, const DpsPass *p, const DpsBatch *b, double *out, DpsError *err)
{
    const DpsSignal *signal = &j->t->objective->signals[i];
    const int policy = !strcmp (signal->role, "policy"), rollout = !strcmp (signal->role, "rollout");
    int given = 0;
    if (!policy)
        DPS_TRY (dps__places_read (j->t, i, j->places, j->n_places, out, &given, err));
    if (given)
        return DPS_OK;
    if (!strcmp (signal->role, "reference") && !strcmp (signal->name, "logp"))
        return dps__reference_read (j->reference, b, out, err);
    int known = (policy || rollout) && dps__trainer_scores (j->t) == !strcmp (signal->name, "score");
    const int apart = j->t->critic.on && !strcmp (signal->name, "value");
    const float *from = !known ? NULL : apart ? dps__critic_values (j->t) : pass_signal (p, signal->name);
    if (!from)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "objective '%s' asks for signal '%s' of '%s', which this version does not compute",
                         j->t->objective->info.name, signal->name, signal->role);
    for (int64_t k = 0; k < b->n_scored; k++)
        out[k] = (double)from[k];
    return rollout ? dps__places_record (j->t, i, j->places, j->n_places, from, err) : DPS_OK;
}

static DpsStatus gather_signals (const DpsJudgment *j, const DpsPass *p, const DpsBatch *b, Signals *s, DpsError *err)
{
    const DpsObjectiveInstance *o = j->t->objective;
    memset (s, 0, sizeof *s);
    if (o->info.n_signals > DPS_PLACE_SIGNALS)
        return dps_fail (err, DPS_ERR_LIMIT, "objective '%s' asks for %u signals, at most %d", o->info.name, o->info.n_signals,
                         DPS_PLACE_SIGNALS);
    s->seed[0] = dps_calloc ((size_t)b->n_scored, sizeof **s->seed);
    s->seed[1] = dps_calloc ((size_t)b->n_scored, sizeof **s->seed);
    int ok = s->seed[0] && s->seed[1];
    for (uint32_t i = 0; ok && i < o->info.n_signals; i++) {
        const size_t n = (size_t)(o->signals[i].axis == DPS_AXIS_TOKEN ? b->n_scored : b->n_sequences);
        if (!dps_objective_reads (o, i))
            continue;
        s->values[i] = dps_malloc (n, sizeof **s->values);
        s->grads[i] = o->signals[i].differentiable ? dps_calloc (n, sizeof **s->grads) : NULL;
        ok = s->values[i] && (s->grads[i] || !o->signals[i].differentiable);
        if (ok)
            DPS_TRY (read_signal (j, i, p, b, s->values[i], err));
    }
    return ok ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
}

/* A differentiable signal's gradient as the graph takes it; zeros when the objective does not read it. */
static void fill_seed (const DpsJudgment *j, const char *signal, const DpsBatch *b, const Signals *s, float *seed)
{
    int from = dps_objective_signal (j->t->objective, signal, "policy");
    for (int64_t i = 0; from >= 0 && s->grads[from] && i < b->n_scored; i++)
        seed[i] = (float)s->grads[from][i];
}

static DpsStatus back_to_weights (const DpsJudgment *j, DpsPass *p, const DpsBatch *b, const Signals *s, DpsError *err)
{
    int scores = dps__trainer_scores (j->t);
    fill_seed (j, scores ? "score" : "logp", b, s, s->seed[0]);
    if (scores)
        return dps_pass_backward_scores (p, s->seed[0], err);
    fill_seed (j, "value", b, s, s->seed[1]);
    if (j->t->critic.on)
        DPS_TRY (dps__critic_backward (j->t, s->seed[1], err));
    if (!dps__trainer_values (j->t))
        return dps_pass_backward (p, s->seed[0], err);
    return dps_pass_backward_values (p, s->seed[0], s->seed[1], err);
}

/* Of scores, which a sink that averages cannot say: TRL's names. */
static DpsStatus add_extremes (const DpsJudgment *j, const DpsBatch *b, const Signals *s, DpsError *err)
{
    const int score = dps_objective_signal (j->t->objective, "score", "policy");
    for (int64_t r = 0; score >= 0 && r < b->n_sequences; r++) {
        DPS_TRY (dps_step_extreme (j->sums, dps_str ("min_reward"), s->values[score][r], 0, err));
        DPS_TRY (dps_step_extreme (j->sums, dps_str ("max_reward"), s->values[score][r], 1, err));
    }
    return DPS_OK;
}

DpsStatus dps__judge_pass (void *ctx, DpsPass *p, const DpsBatch *b, DpsError *err)
{
    const DpsJudgment *j = ctx;
    const DpsObjectiveInstance *o = j->t->objective;
    Signals s = {0};
    DpsStatus st = dps__critic_begin (j->t, b, j->training, err);
    if (st == DPS_OK)
        st = gather_signals (j, p, b, &s, err);
    if (st == DPS_OK && j->training && j->t->rollout.first_pass)
        st = dps__rollout_check (j->t, j->places, j->n_places, dps_pass_logp (p), err);
    DpsObjectiveBatch ob = {.size = sizeof ob,
                            .n_tokens = (uint64_t)b->n_scored,
                            .n_rows = (uint64_t)b->n_sequences,
                            .n_units = (uint64_t)b->n_roots,
                            .row_offsets = b->sequence_scored,
                            .unit_offsets = b->root_sequences,
                            .signals = (const double *const *)s.values,
                            .weights = b->weights,
                            .total = dps__judge_total (j->t, j->step),
                            .step_tokens = (uint64_t)j->step->scored,
                            .step_rows = (uint64_t)j->step->sequences,
                            .step_units = (uint64_t)j->step->roots,
                            .micro_batches = j->micro_batches};
    if (st == DPS_OK)
        st = dps_objective_micro_batch (o, &ob, j->sums, j->training ? s.grads : NULL, NULL, err);
    if (st == DPS_OK)
        st = add_extremes (j, b, &s, err);
    if (st == DPS_OK && j->training)
        st = back_to_weights (j, p, b, &s, err);
    dps__critic_end (j->t);
    free_signals (&s);
    return st;
}
