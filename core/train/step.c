/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step.c: one optimizer step. All rows of the step are fetched first, because the loss is divided by the step's own total; then micro-batches in
 * data order: forward → objective on the tape → d loss / d log-prob → backward, which adds to the gradients root by root. How the rows are
 * cut into micro-batches changes no bit.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

/* The places of a step, flattened into sequences. */
typedef struct StepRows {
    DpsPlace *places;
    size_t n_places;
    DpsBatchCounts counts;
} StepRows;

static void free_rows (StepRows *r)
{
    for (size_t i = 0; i < r->n_places; i++)
        dps_place_free (&r->places[i]);
    dps_free (r->places);
    *r = (StepRows){0};
}

static void add_counts (DpsBatchCounts *io, const DpsBatchCounts *c)
{
    io->tokens += c->tokens;
    io->scored += c->scored;
    io->segments += c->segments;
    io->sequences += c->sequences;
    io->roots += c->roots;
}

/* What the loss of these rows is divided by. */
static double total_of (const DpsTrainer *t, const DpsBatchCounts *c)
{
    return dps_objective_total (t->objective, (uint64_t)c->scored, (uint64_t)c->sequences, (uint64_t)c->roots);
}

static DpsStatus fetch (DpsFeed *feed, uint64_t epoch, uint64_t first, uint64_t n, StepRows *out, DpsError *err)
{
    *out = (StepRows){.places = dps_calloc (n, sizeof *out->places)};
    if (!out->places)
        return dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    for (uint64_t i = 0; i < n; i++) {
        DpsStatus st = dps_feed_get (feed, epoch, first + i, &out->places[i], err);
        if (st != DPS_OK) {
            free_rows (out);
            return st;
        }
        add_counts (&out->counts, &out->places[out->n_places++].counts);
    }
    return DPS_OK;
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

int dps__trainer_scores (const DpsTrainer *t) { return dps_objective_signal (t->objective, "score", "policy") >= 0; }

int dps__trainer_values (const DpsTrainer *t)
{
    return !t->recipe->value_model && dps_objective_signal (t->objective, "value", "policy") >= 0;
}

/* What judging a batch needs, and where its sums go. */
typedef struct Judge {
    DpsTrainer *t;
    DpsPlace *places; /* of the micro-batch */
    size_t n_places;
    const DpsReference *reference;
    const DpsBatchCounts *step; /* counts of the whole step */
    uint64_t micro_batches;     /* it is split into */
    int training;
    DpsStepSums *sums;
} Judge;

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
static DpsStatus read_signal (const Judge *j, uint32_t i, const DpsPass *p, const DpsBatch *b, double *out, DpsError *err)
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

static DpsStatus gather_signals (const Judge *j, const DpsPass *p, const DpsBatch *b, Signals *s, DpsError *err)
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
static void fill_seed (const Judge *j, const char *signal, const DpsBatch *b, const Signals *s, float *seed)
{
    int from = dps_objective_signal (j->t->objective, signal, "policy");
    for (int64_t i = 0; from >= 0 && s->grads[from] && i < b->n_scored; i++)
        seed[i] = (float)s->grads[from][i];
}

static DpsStatus back_to_weights (const Judge *j, DpsPass *p, const DpsBatch *b, const Signals *s, DpsError *err)
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
static DpsStatus add_extremes (const Judge *j, const DpsBatch *b, const Signals *s, DpsError *err)
{
    const int score = dps_objective_signal (j->t->objective, "score", "policy");
    for (int64_t r = 0; score >= 0 && r < b->n_sequences; r++) {
        DPS_TRY (dps_step_extreme (j->sums, dps_str ("min_reward"), s->values[score][r], 0, err));
        DPS_TRY (dps_step_extreme (j->sums, dps_str ("max_reward"), s->values[score][r], 1, err));
    }
    return DPS_OK;
}

/* Signals of a pass through the objective; with training, back to the weights. */
static DpsStatus judge (void *ctx, DpsPass *p, const DpsBatch *b, DpsError *err)
{
    const Judge *j = ctx;
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
                            .total = total_of (j->t, j->step),
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

DpsStatus dps__trainer_batch (const DpsTrainer *t, const DpsPlace *places, size_t n, DpsBatch *out, DpsError *err)
{
    size_t count = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        count += places[i].n;
    DpsSequence *rows = dps_malloc (count, sizeof *rows);
    if (!rows)
        return dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < places[i].n; k++)
            rows[at++] = places[i].sequences[k];
    DpsStatus st = dps_batch_build (rows, count, t->session.model.dec.vocab, out, err);
    dps_free (rows);
    return st;
}

DpsStatus dps__trainer_forward (DpsTrainer *t, const DpsPlace *places, size_t n, const DpsPassOptions *o, DpsVisitPass visit, void *ctx,
                                DpsError *err)
{
    return dps__forward_in (t, &t->session.weights, places, n, o, visit, ctx, err);
}

DpsStatus dps__forward_in (const DpsTrainer *t, DpsWeights *w, const DpsPlace *places, size_t n, const DpsPassOptions *o,
                           DpsVisitPass visit, void *ctx, DpsError *err)
{
    DpsBatch b;
    DpsStatus st = DPS_OK;
    DPS_TRY (dps__trainer_batch (t, places, n, &b, err));
    if (b.n_scored > 0) {
        DpsPass p;
        st = dps_pass_open (&p, w, &b, o, err);
        if (st == DPS_OK) {
            st = dps_pass_forward (&p, err);
            if (st == DPS_OK)
                st = visit (ctx, &p, &b, err);
            dps_pass_close (&p);
        }
    }
    dps_batch_free (&b);
    return st;
}

/* All micro-batches of places, `size` places each. */
static DpsStatus run_places (DpsTrainer *t, const StepRows *r, size_t size, int training, DpsStepSums *sums, DpsError *err)
{
    Judge j = {.t = t,
               .reference = training ? &t->reference : &t->eval_reference,
               .step = &r->counts,
               .micro_batches = (r->n_places + size - 1) / size,
               .training = training,
               .sums = sums};
    const DpsPassOptions o = {.training = training,
                              .scores = dps__trainer_scores (t),
                              .values = dps__trainer_values (t),
                              .checkpoint = training && t->checkpointing,
                              .temperature = dps__trainer_temperature (t),
                              .dropout_seed = (uint64_t)t->recipe->seed};
    for (size_t i = 0; i < r->n_places; i += size) {
        j.places = r->places + i;
        j.n_places = r->n_places - i < size ? r->n_places - i : size;
        DPS_TRY (dps__trainer_forward (t, j.places, j.n_places, &o, judge, &j, err));
    }
    sums->total = total_of (t, &r->counts);
    return DPS_OK;
}

/* What the scoring of the rollout reported belongs to the first step on it. */
static DpsStatus take_scored (DpsTrainer *t, DpsError *err)
{
    for (size_t i = 0; i < t->scored.n_metrics; i++)
        DPS_TRY (dps_step_add (&t->sums, dps_str (t->scored.metrics[i].name), dps_step_metric (&t->scored, i), t->scored.metrics[i].weight,
                               err));
    dps_step_reset (&t->scored);
    return DPS_OK;
}

/* Zero gradients, then those of the rows' mean loss. */
static DpsStatus gradients (DpsTrainer *t, const StepRows *rows, double *out_loss, double *out_grad_norm, DpsError *err)
{
    DPS_TRY (dps_weights_zero_grads (&t->session.weights, err));
    if (t->critic.on)
        DPS_TRY (dps_weights_zero_grads (&t->critic.session.weights, err));
    dps_step_reset (&t->sums);
    DPS_TRY (take_scored (t, err));
    DpsStatus st = rows->counts.scored ? run_places (t, rows, (size_t)t->plan.micro_batch, 1, &t->sums, err)
                                       : dps_fail (err, DPS_ERR_DATA, "step %llu: none of its %llu sequences has a trained token",
                                                   (unsigned long long)t->step + 1, (unsigned long long)rows->counts.sequences);
    if (st == DPS_ERR_NONFINITE) {
        *out_loss = *out_grad_norm = NAN;
        return DPS_OK;
    }
    DPS_TRY (st);
    *out_loss = dps_step_loss (&t->sums);
    DPS_TRY (dps_optim_grad_norm (&t->session.weights, out_grad_norm, err));
    return dps__critic_norm (t, out_grad_norm, err);
}

DpsStatus dps__trainer_gradients (DpsTrainer *t, DpsPlace *places, size_t n, double *out_loss, double *out_grad_norm, DpsError *err)
{
    StepRows rows = {.places = places, .n_places = n};
    for (size_t i = 0; i < n; i++)
        add_counts (&rows.counts, &places[i].counts);
    return gradients (t, &rows, out_loss, out_grad_norm, err);
}

double dps__trainer_temperature (const DpsTrainer *t) { return t->rollout.samples ? t->recipe->temperature : 0; }

/* What was sampled for the step; the places stay the rollout's. */
static DpsStatus sampled_step (DpsTrainer *t, double *out_loss, double *out_grad_norm, uint64_t *out_tokens, DpsError *err)
{
    StepRows rows = {0};
    DPS_TRY (dps__rollout_places (t, &rows.places, &rows.n_places, err));
    for (size_t i = 0; i < rows.n_places; i++)
        add_counts (&rows.counts, &rows.places[i].counts);
    *out_tokens = (uint64_t)rows.counts.tokens;
    *out_loss = *out_grad_norm = NAN;
    t->rows_done += rows.n_places;
    t->empty = rows.n_places == 0;
    if (t->empty) {
        dps_step_reset (&t->sums);
        return DPS_OK;
    }
    return gradients (t, &rows, out_loss, out_grad_norm, err);
}

/* Answers that the rows bring with their scores. */
static DpsStatus score_given (const DpsTrainer *t, const DpsFeed *feed, const DpsReference *reference, const StepRows *r, DpsStepSums *sums,
                              DpsError *err)
{
    DpsRewards meta;
    if (!dps__trainer_earns (t))
        return DPS_OK;
    dps_feed_rewards (feed, &meta);
    return dps__places_score (t, reference, r->places, r->n_places, &meta, sums, err);
}

DpsStatus dps__trainer_step (DpsTrainer *t, double *out_loss, double *out_grad_norm, uint64_t *out_tokens, DpsError *err)
{
    DpsStepPlace at;
    StepRows rows;
    if (t->rollout.samples)
        return sampled_step (t, out_loss, out_grad_norm, out_tokens, err);
    DPS_TRY (dps__trainer_place (t, t->step, &at, err));
    DPS_TRY (fetch (t->feed, at.epoch, at.first, at.n, &rows, err));
    t->empty = rows.counts.scored == 0; /* the places of rows that truncation_mode drops, of groups without a better answer */
    *out_loss = *out_grad_norm = NAN;
    dps_step_reset (&t->sums);
    DpsStatus st = t->empty ? DPS_OK : score_given (t, t->feed, &t->reference, &rows, &t->scored, err);
    if (st == DPS_OK && !t->empty)
        st = gradients (t, &rows, out_loss, out_grad_norm, err);
    *out_tokens = (uint64_t)rows.counts.tokens;
    t->rows_done += at.n;
    free_rows (&rows);
    return st;
}

DpsStatus dps__trainer_evaluate (DpsTrainer *t, uint64_t most, DpsMetrics *out, DpsError *err)
{
    DpsStepSums sums = {0};
    uint64_t places, size = (uint64_t)t->recipe->per_device_eval_batch_size;
    DpsBatchCounts counts = {0};
    DPS_TRY (dps_feed_places (t->eval_feed, 0, &places, err));
    places = places < most ? places : most;
    double start = dps__trainer_now (), loss = 0;
    DpsStatus st = DPS_OK;
    for (uint64_t i = 0; st == DPS_OK && i < places; i += size) {
        StepRows rows;
        st = fetch (t->eval_feed, 0, i, places - i < size ? places - i : size, &rows, err);
        if (st != DPS_OK)
            break;
        if (rows.counts.scored)
            st = score_given (t, t->eval_feed, &t->eval_reference, &rows, &sums, err);
        if (st == DPS_OK && rows.counts.scored)
            st = run_places (t, &rows, (size_t)size, 0, &sums, err);
        add_counts (&counts, &rows.counts);
        free_rows (&rows);
        if (t->options->should_stop && t->options->should_stop ())
            st = dps_fail (err, DPS_ERR_INTERRUPTED, "interrupted during an evaluation");
    }
    double total = total_of (t, &counts), took = dps__trainer_now () - start;
    loss = total > 0 ? sums.loss / total : NAN;
    int bad = st == DPS_OK && (dps_metrics_set (out, "loss", loss) || dps_metrics_set (out, "runtime", took) ||
                               dps_metrics_set (out, "samples_per_second", (double)places / took) ||
                               dps_metrics_set (out, "steps_per_second", ceil ((double)places / (double)size) / took));
    for (size_t i = 0; st == DPS_OK && !bad && i < sums.n_metrics; i++)
        bad = dps_metrics_set (out, sums.metrics[i].name, dps_step_metric (&sums, i));
    bad = bad || (st == DPS_OK && dps_metrics_set (out, "num_tokens", (double)counts.tokens));
    dps_step_free (&sums);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "train: out of memory") : st;
}
