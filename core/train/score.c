/* SPDX-License-Identifier: Apache-2.0 */
/*
 * score.c: what the answers of a step earned → the objective's signals of role step (advantages …), kept by the places: once for a rollout, however
 * many updates follow on it. And the signals that places carry, put side by side as a batch has them.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

static int has_role (const DpsTrainer *t, uint32_t signal, const char *role)
{
    return !strcmp (t->objective->signals[signal].role, role) && dps_objective_reads (t->objective, signal);
}

int dps__trainer_earns (const DpsTrainer *t)
{
    for (uint32_t i = 0; i < t->objective->info.n_signals; i++)
        if (has_role (t, i, "step"))
            return 1;
    return 0;
}

/* Values of a signal in one place. */
static size_t length_in (const DpsTrainer *t, uint32_t signal, const DpsPlace *p)
{
    return t->objective->signals[signal].axis == DPS_AXIS_TOKEN ? (size_t)p->counts.scored : p->n;
}

DpsStatus dps__places_read (const DpsTrainer *t, uint32_t signal, const DpsPlace *places, size_t n, double *out, int *out_given,
                            DpsError *err)
{
    const int step = has_role (t, signal, "step");
    size_t at = 0;
    *out_given = 0;
    for (size_t i = 0; i < n; i++) {
        const DpsPlace *p = &places[i];
        const size_t length = length_in (t, signal, p);
        if (step && !p->step[signal])
            return dps_fail (err, DPS_ERR_INTERNAL, "train: signal %s of a place was not computed", t->objective->signals[signal].name);
        if (!step && !p->recorded[signal])
            return DPS_OK;
        for (size_t k = 0; k < length; k++)
            out[at++] = step ? p->step[signal][k] : (double)p->recorded[signal][k];
    }
    *out_given = 1;
    return DPS_OK;
}

DpsStatus dps__places_record (const DpsTrainer *t, uint32_t signal, DpsPlace *places, size_t n, const float *values, DpsError *err)
{
    for (size_t i = 0; i < n; i++) {
        const size_t length = length_in (t, signal, &places[i]);
        float *copy = dps_copy (values, length, sizeof *copy);
        if (!copy)
            return dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
        values += length;
        dps_free (places[i].recorded[signal]);
        places[i].recorded[signal] = copy;
    }
    return DPS_OK;
}

/* The arrays of a step on their way into `score` and out of it. */
typedef struct Arrays {
    double *in[DPS_PLACE_SIGNALS], *out[DPS_PLACE_SIGNALS], *rewards;
    uint32_t *truncated;
} Arrays;

static void free_arrays (Arrays *a)
{
    for (int i = 0; i < DPS_PLACE_SIGNALS; i++) {
        dps_free (a->in[i]);
        dps_free (a->out[i]);
    }
    dps_free (a->rewards);
    dps_free (a->truncated);
}

static int allocate (const DpsTrainer *t, const DpsBatch *b, uint64_t n_criteria, Arrays *a)
{
    const DpsObjectiveInstance *o = t->objective;
    const size_t rows = (size_t)b->n_sequences;
    a->rewards = dps_malloc (rows * n_criteria, sizeof *a->rewards);
    a->truncated = dps_calloc (rows, sizeof *a->truncated);
    int ok = a->rewards && a->truncated;
    for (uint32_t i = 0; ok && i < o->info.n_signals; i++) {
        const size_t length = o->signals[i].axis == DPS_AXIS_TOKEN ? (size_t)b->n_scored : rows;
        if (has_role (t, i, "policy") || !dps_objective_reads (o, i))
            continue;
        double **room = has_role (t, i, "step") ? &a->out[i] : &a->in[i];
        ok = (*room = dps_calloc (length, sizeof **room)) != NULL;
    }
    return ok;
}

static void gather_rewards (const DpsPlace *places, size_t n, size_t n_criteria, Arrays *a)
{
    size_t row = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < places[i].n; k++, row++) {
            a->truncated[row] = places[i].truncated ? places[i].truncated[k] : 0;
            for (size_t c = 0; c < n_criteria; c++)
                a->rewards[row * n_criteria + c] = places[i].rewards ? places[i].rewards[k * n_criteria + c] : NAN;
        }
}

/* Signals that were recorded, and the reference that was computed; what is neither stays NULL. */
static DpsStatus gather_signals (const DpsTrainer *t, const DpsReference *reference, const DpsPlace *places, size_t n, const DpsBatch *b,
                                 Arrays *a, DpsError *err)
{
    for (uint32_t i = 0; i < t->objective->info.n_signals; i++) {
        int given;
        if (!a->in[i])
            continue;
        DPS_TRY (dps__places_read (t, i, places, n, a->in[i], &given, err));
        if (given)
            continue;
        if (has_role (t, i, "reference")) {
            DPS_TRY (dps__reference_read (reference, b, a->in[i], err));
            continue;
        }
        dps_free (a->in[i]);
        a->in[i] = NULL;
    }
    return DPS_OK;
}

static DpsStatus share_out (const DpsTrainer *t, const Arrays *a, DpsPlace *places, size_t n, DpsError *err)
{
    for (uint32_t i = 0; i < t->objective->info.n_signals; i++) {
        const double *from = a->out[i];
        for (size_t k = 0; from && k < n; k++) {
            const size_t length = length_in (t, i, &places[k]);
            double *copy = dps_copy (from, length, sizeof *copy);
            if (!copy)
                return dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
            dps_free (places[k].step[i]);
            places[k].step[i] = copy;
            from += length;
        }
    }
    return DPS_OK;
}

/* A parameter that does not fit what the step brought: the plugin names it by number, and the recipe has a line for it. */
static DpsStatus blame_parameter (const DpsTrainer *t, DpsStatus st, DpsError *err)
{
    const DpsObjectiveInfo *info = &t->objective->info;
    const uint32_t number = st == DPS_ERR_INVALID && err ? (uint32_t)err->vendor_code : 0;
    DpsParamValue v;
    if (number < 1 || number > info->n_params || !dps_recipe_objective_param ((void *)t->recipe, info->params[number - 1]->name, &v) ||
        !v.where)
        return st;
    dps_error_prefix (err, "%s", v.where);
    return dps_error_recode (err, DPS_ERR_USAGE);
}

static DpsStatus score_batch (const DpsTrainer *t, const DpsReference *reference, DpsPlace *places, size_t n, const DpsBatch *b,
                              const DpsRewards *meta, DpsStepSums *sums, DpsError *err)
{
    Arrays a = {0};
    const size_t size = (size_t)t->plan.micro_batch ? (size_t)t->plan.micro_batch : n;
    DpsStatus st = allocate (t, b, meta->n_criteria, &a) ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    if (st == DPS_OK)
        st = gather_signals (t, reference, places, n, b, &a, err);
    if (st == DPS_OK) {
        gather_rewards (places, n, (size_t)meta->n_criteria, &a);
        const uint64_t tokens = (uint64_t)b->n_scored, rows = (uint64_t)b->n_sequences, units = (uint64_t)b->n_roots;
        const DpsObjectiveBatch step = {.size = sizeof step,
                                        .n_tokens = tokens,
                                        .n_rows = rows,
                                        .n_units = units,
                                        .row_offsets = b->sequence_scored,
                                        .unit_offsets = b->root_sequences,
                                        .signals = (const double *const *)a.in,
                                        .weights = b->weights,
                                        .total = dps_objective_total (t->objective, tokens, rows, units),
                                        .step_tokens = tokens,
                                        .step_rows = rows,
                                        .step_units = units,
                                        .micro_batches = (n + size - 1) / size};
        const DpsRewards rewards = {.size = sizeof rewards,
                                    .n_criteria = meta->n_criteria,
                                    .values = a.rewards,
                                    .weights = meta->weights,
                                    .names = meta->names,
                                    .truncated = a.truncated};
        st = blame_parameter (t, dps_objective_score (t->objective, &step, &rewards, a.out, sums, err), err);
    }
    if (st == DPS_OK)
        st = share_out (t, &a, places, n, err);
    free_arrays (&a);
    return st;
}

DpsStatus dps__places_score (const DpsTrainer *t, const DpsReference *reference, DpsPlace *places, size_t n, const DpsRewards *meta,
                             DpsStepSums *sums, DpsError *err)
{
    DpsBatch b;
    if (t->objective->info.n_signals > DPS_PLACE_SIGNALS)
        return dps_fail (err, DPS_ERR_LIMIT, "objective '%s' asks for %u signals, at most %d", t->objective->info.name,
                         t->objective->info.n_signals, DPS_PLACE_SIGNALS);
    DPS_TRY (dps__trainer_batch (t, places, n, &b, err));
    DpsStatus st = score_batch (t, reference, places, n, &b, meta, sums, err);
    dps_batch_free (&b);
    return st;
}

DpsStatus dps__trainer_score (DpsTrainer *t, DpsPlace *places, size_t n, const DpsRewards *meta, DpsError *err)
{
    return dps__places_score (t, &t->reference, places, n, meta, &t->scored, err);
}
