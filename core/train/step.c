/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step.c: one optimizer step. All rows of the step are fetched first, because the loss is divided by the step's own total; then micro-batches in
 * data order: forward → judge.c → backward, which adds to the gradients root by root. How the rows are cut into micro-batches changes no bit.
 */
#include <math.h>

#include "base/mem.h"
#include "train/judge.h"

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

/* Places that stay somebody else's. */
static StepRows rows_of (DpsPlace *places, size_t n)
{
    StepRows r = {.places = places, .n_places = n};
    for (size_t i = 0; i < n; i++)
        add_counts (&r.counts, &places[i].counts);
    return r;
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
    DpsJudgment j = {.t = t,
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
        DPS_TRY (dps__trainer_forward (t, j.places, j.n_places, &o, dps__judge_pass, &j, err));
    }
    sums->total = dps__judge_total (t, &r->counts);
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

DpsStatus dps__trainer_gradients (DpsTrainer *t, DpsPlace *places, size_t n, double *out_loss, double *out_grad_norm, DpsError *err)
{
    const StepRows rows = rows_of (places, n);
    DPS_TRY (dps_weights_zero_grads (&t->session.weights, err));
    if (t->critic.on)
        DPS_TRY (dps_weights_zero_grads (&t->critic.session.weights, err));
    dps_step_reset (&t->sums);
    DPS_TRY (take_scored (t, err));
    DpsStatus st = rows.counts.scored ? run_places (t, &rows, (size_t)t->plan.micro_batch, 1, &t->sums, err)
                                      : dps_fail (err, DPS_ERR_DATA, "step %llu: none of its %llu sequences has a trained token",
                                                  (unsigned long long)t->step + 1, (unsigned long long)rows.counts.sequences);
    if (st == DPS_ERR_NONFINITE) {
        *out_loss = *out_grad_norm = NAN;
        return DPS_OK;
    }
    DPS_TRY (st);
    *out_loss = dps_step_loss (&t->sums);
    DPS_TRY (dps_optim_grad_norm (&t->session.weights, out_grad_norm, err));
    return dps__critic_norm (t, out_grad_norm, err);
}

double dps__trainer_temperature (const DpsTrainer *t) { return t->rollout.samples ? t->recipe->temperature : 0; }

/* What was sampled for the step; the places stay the rollout's. */
static DpsStatus sampled_step (DpsTrainer *t, double *out_loss, double *out_grad_norm, uint64_t *out_tokens, DpsError *err)
{
    DpsPlace *places;
    size_t n;
    DPS_TRY (dps__rollout_places (t, &places, &n, err));
    *out_tokens = (uint64_t)rows_of (places, n).counts.tokens;
    *out_loss = *out_grad_norm = NAN;
    t->rows_done += n;
    t->empty = n == 0;
    if (t->empty) {
        dps_step_reset (&t->sums);
        return DPS_OK;
    }
    return dps__trainer_gradients (t, places, n, out_loss, out_grad_norm, err);
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
        st = dps__trainer_gradients (t, rows.places, rows.n_places, out_loss, out_grad_norm, err);
    *out_tokens = (uint64_t)rows.counts.tokens;
    t->rows_done += at.n;
    free_rows (&rows);
    return st;
}

/* One pass over eval_datasets, or its first places. */
typedef struct Evaluation {
    DpsStepSums sums;
    DpsBatchCounts counts;
    uint64_t places, batch; /* that there are; of them in a batch */
} Evaluation;

static DpsStatus evaluate_places (DpsTrainer *t, Evaluation *e, DpsError *err)
{
    for (uint64_t i = 0; i < e->places; i += e->batch) {
        StepRows rows;
        DPS_TRY (fetch (t->eval_feed, 0, i, e->places - i < e->batch ? e->places - i : e->batch, &rows, err));
        DpsStatus st = DPS_OK;
        if (rows.counts.scored)
            st = score_given (t, t->eval_feed, &t->eval_reference, &rows, &e->sums, err);
        if (st == DPS_OK && rows.counts.scored)
            st = run_places (t, &rows, (size_t)e->batch, 0, &e->sums, err);
        add_counts (&e->counts, &rows.counts);
        free_rows (&rows);
        if (t->options->should_stop && t->options->should_stop ())
            st = dps_fail (err, DPS_ERR_INTERRUPTED, "interrupted during an evaluation");
        DPS_TRY (st);
    }
    return DPS_OK;
}

/* 0 or -1. */
static int put_evaluation (const DpsTrainer *t, const Evaluation *e, double seconds, DpsMetrics *out)
{
    const double total = dps__judge_total (t, &e->counts);
    int bad = dps_metrics_set (out, "loss", total > 0 ? e->sums.loss / total : NAN) || dps_metrics_set (out, "runtime", seconds) ||
              dps_metrics_set (out, "samples_per_second", (double)e->places / seconds) ||
              dps_metrics_set (out, "steps_per_second", ceil ((double)e->places / (double)e->batch) / seconds);
    for (size_t i = 0; !bad && i < e->sums.n_metrics; i++)
        bad = dps_metrics_set (out, e->sums.metrics[i].name, dps_step_metric (&e->sums, i));
    return bad || dps_metrics_set (out, "num_tokens", (double)e->counts.tokens) ? -1 : 0;
}

DpsStatus dps__trainer_evaluate (DpsTrainer *t, uint64_t most, DpsMetrics *out, DpsError *err)
{
    Evaluation e = {.batch = (uint64_t)t->recipe->per_device_eval_batch_size};
    DPS_TRY (dps_feed_places (t->eval_feed, 0, &e.places, err));
    e.places = e.places < most ? e.places : most;
    const double start = dps__trainer_now ();
    DpsStatus st = evaluate_places (t, &e, err);
    if (st == DPS_OK && put_evaluation (t, &e, dps__trainer_now () - start, out))
        st = dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    dps_step_free (&e.sums);
    return st;
}
