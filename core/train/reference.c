/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reference.c: log-probs of the reference policy, for objectives that read them: those of the policy before step 1, computed once and kept by
 * row of the data set. They are computed from the weights the run starts with, before a checkpoint is put back, so a resumed run has the same;
 * and in the same micro-batches as the steps, so that the plan's arena serves.
 */
#include <math.h>

#include "base/mem.h"
#include "train/trainer.h"

int dps__reference_wanted (const DpsTrainer *t) { return dps_objective_signal (t->objective, "logp", "reference") >= 0; }

static DpsStatus make_room (DpsReference *r, const DpsFeed *feed, DpsError *err)
{
    r->n = dps_feed_rows (feed);
    r->logp = dps_calloc (r->n, sizeof *r->logp);
    r->lengths = dps_calloc (r->n, sizeof *r->lengths);
    return r->logp && r->lengths ? DPS_OK
                                 : dps_fail (err, DPS_ERR_NOMEM, "reference: out of memory for %llu rows", (unsigned long long)r->n);
}

DpsStatus dps__reference_set (DpsReference *r, uint64_t row, const float *logp, size_t n, DpsError *err)
{
    if (row >= r->n)
        return dps_fail (err, DPS_ERR_INTERNAL, "reference: row %llu of %llu", (unsigned long long)row, (unsigned long long)r->n);
    float *copy = dps_malloc (n, sizeof *copy);
    if (!copy)
        return dps_fail (err, DPS_ERR_NOMEM, "reference: out of memory for %zu tokens", n);
    for (size_t i = 0; i < n; i++)
        copy[i] = logp[i];
    dps_free (r->logp[row]);
    r->logp[row] = copy;
    r->lengths[row] = (uint32_t)n;
    return DPS_OK;
}

DpsStatus dps__reference_read (const DpsReference *r, const DpsBatch *b, double *out, DpsError *err)
{
    for (int64_t root = 0; root < b->n_roots; root++) {
        uint64_t row = b->root_rows[root];
        int32_t first = b->scored_roots[root], n = b->scored_roots[root + 1] - first;
        if (row >= r->n || !r->logp[row] || r->lengths[row] != (uint32_t)n)
            return dps_fail (err, DPS_ERR_INTERNAL, "reference: row %llu has no %d log-probs", (unsigned long long)row, (int)n);
        for (int32_t i = 0; i < n; i++)
            out[first + i] = (double)r->logp[row][i];
    }
    return DPS_OK;
}

void dps__reference_free (DpsReference *r)
{
    for (uint64_t i = 0; r->logp && i < r->n; i++)
        dps_free (r->logp[i]);
    dps_free (r->logp);
    dps_free (r->lengths);
    *r = (DpsReference){0};
}

static DpsStatus keep (void *ctx, DpsPass *p, const DpsBatch *b, DpsError *err)
{
    const float *logp = dps_pass_logp (p);
    for (int64_t root = 0; root < b->n_roots; root++) {
        int32_t first = b->scored_roots[root];
        DPS_TRY (dps__reference_set (ctx, b->root_rows[root], logp + first, (size_t)(b->scored_roots[root + 1] - first), err));
    }
    return DPS_OK;
}

static int all_known (const DpsReference *r, DpsFeed *feed, uint64_t epoch, uint64_t first, uint64_t n)
{
    for (uint64_t k = first; k < first + n; k++)
        if (!r->logp[dps_feed_row (feed, epoch, k)])
            return 0;
    return 1;
}

/* One micro-batch. Rows without a token, which truncation_mode drops, stay unknown and are fetched again: there are few. */
static DpsStatus add_places (DpsTrainer *t, DpsFeed *feed, DpsReference *r, uint64_t epoch, uint64_t first, uint64_t n, DpsError *err)
{
    const DpsPassOptions o = {.values = dps__trainer_values (t)}; /* laid out as planned */
    if (all_known (r, feed, epoch, first, n))
        return DPS_OK;
    if (t->options->should_stop && t->options->should_stop ())
        return dps_fail (err, DPS_ERR_INTERRUPTED, "interrupted while the reference was computed: go on with --resume");
    DpsPlace *places = dps_calloc (n, sizeof *places);
    DpsStatus st = places ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "reference: out of memory");
    for (uint64_t i = 0; st == DPS_OK && i < n; i++)
        st = dps_feed_get (feed, epoch, first + i, &places[i], err);
    if (st == DPS_OK)
        st = dps__trainer_forward (t, places, n, &o, keep, r, err);
    for (uint64_t i = 0; places && i < n; i++)
        dps_place_free (&places[i]);
    dps_free (places);
    return st;
}

DpsStatus dps__reference_make (DpsTrainer *t, uint64_t first_step, DpsError *err)
{
    uint64_t size = (uint64_t)t->plan.micro_batch, places = 0;
    if (!dps__reference_wanted (t))
        return DPS_OK;
    if (t->rollout.samples) /* of what is sampled, when it is */
        return dps__rollout_keep_start (t, err);
    DPS_TRY (make_room (&t->reference, t->feed, err));
    for (uint64_t step = first_step; step < t->plan.steps; step++) {
        DpsStepPlace at;
        dps__trainer_progress (t, "computing the reference", NAN, NAN);
        DPS_TRY (dps__trainer_place (t, step, &at, err));
        for (uint64_t i = 0; i < at.n; i += size)
            DPS_TRY (add_places (t, t->feed, &t->reference, at.epoch, at.first + i, at.n - i < size ? at.n - i : size, err));
    }
    if (!t->eval_feed)
        return DPS_OK;
    DPS_TRY (make_room (&t->eval_reference, t->eval_feed, err));
    DPS_TRY (dps_feed_places (t->eval_feed, 0, &places, err));
    size = (uint64_t)t->recipe->per_device_eval_batch_size;
    for (uint64_t i = 0; i < places; i += size)
        DPS_TRY (add_places (t, t->eval_feed, &t->eval_reference, 0, i, places - i < size ? places - i : size, err));
    return DPS_OK;
}
