/* SPDX-License-Identifier: Apache-2.0 */
#include "train/rollout.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "rollout: out of memory"); }

/* Answers in an optimizer step make whole groups; a pair is made of all K answers to its prompt, and counts as one row. */
static DpsStatus settle_sizes (DpsTrainer *t, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    DpsRollout *o = &t->rollout;
    uint32_t unit = t->objective->info.unit;
    int given = dps_recipe_given (r, DPS_KEY_num_generations);
    uint64_t rows = (uint64_t)(r->per_device_train_batch_size * r->gradient_accumulation_steps);
    o->samples = unit == DPS_UNIT_SINGLE && !given ? 1 : (uint64_t)r->num_generations;
    if (unit != DPS_UNIT_SINGLE && o->samples < 2)
        return dps_fail (err, DPS_ERR_USAGE, "%s: num_generations is 1, and stage %s compares answers to a prompt: expected 2 or more",
                         dps_recipe_where (r, DPS_KEY_num_generations), r->stage);
    if (unit != DPS_UNIT_PAIR && rows % o->samples)
        return dps_fail (
            err, DPS_ERR_USAGE,
            "%s: a step has per_device_train_batch_size × gradient_accumulation_steps = %llu answers, which num_generations %llu "
            "does not divide: expected a multiple of it",
            dps_recipe_where (r, DPS_KEY_per_device_train_batch_size), (unsigned long long)rows, (unsigned long long)o->samples);
    o->prompts = unit == DPS_UNIT_PAIR ? rows : rows / o->samples;
    o->steps = (uint64_t)(r->steps_per_generation / r->gradient_accumulation_steps);
    o->passes = (uint64_t)r->num_iterations;
    return DPS_OK;
}

DpsStatus dps__rollout_open (DpsTrainer *t, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    if (!dps_recipe_samples (t->recipe))
        return DPS_OK;
    if (dps__trainer_scores (t))
        return dps_fail (err, DPS_ERR_USAGE, "%s: stage %s learns to judge answers and does not sample any: remove reward_funcs",
                         dps_recipe_where (t->recipe, DPS_KEY_reward_funcs), t->recipe->stage);
    DPS_TRY (settle_sizes (t, err));
    DPS_TRY (dps_rewards_open (t->reg, t->recipe, &o->rewards, err));
    dps_rewards_criteria (o->rewards, &o->names, &o->weights, &o->n_criteria);
    o->firsts = dps_calloc (o->steps + 1, sizeof *o->firsts);
    return o->firsts ? DPS_OK : no_memory (err);
}

void dps__rollout_clear (DpsRollout *r)
{
    for (uint64_t i = 0; i < r->n_places; i++)
        dps_place_free (&r->places[i]);
    for (uint64_t i = 0; r->logp && i < r->n_places; i++)
        dps_free (r->logp[i]);
    dps_free (r->places);
    dps_free (r->logp);
    r->places = NULL;
    r->logp = NULL;
    r->n_places = 0;
    r->made = 0;
}

void dps__rollout_close (DpsRollout *r)
{
    dps__rollout_clear (r);
    dps_rewards_close (r->rewards);
    dps_free (r->firsts);
    dps_step_free (&r->sums);
    for (size_t i = 0; r->start && i < r->n_start; i++)
        dps_free (r->start[i]);
    dps_free (r->start);
    *r = (DpsRollout){0};
}

uint64_t dps__units_per_step (const DpsTrainer *t)
{
    const DpsRollout *o = &t->rollout;
    if (!o->samples)
        return (uint64_t)(t->recipe->per_device_train_batch_size * t->recipe->gradient_accumulation_steps);
    return t->objective->info.unit == DPS_UNIT_SINGLE ? o->prompts * o->samples : o->prompts;
}

int64_t dps__units_per_micro_batch (const DpsTrainer *t)
{
    int64_t rows = t->recipe->per_device_train_batch_size, k = (int64_t)t->rollout.samples;
    if (!k || t->objective->info.unit != DPS_UNIT_GROUP)
        return rows;
    return rows > k ? rows / k : 1;
}

uint64_t dps__rollout_prompts_of (const DpsRollout *r, uint64_t step)
{
    uint64_t cycle = r->steps * r->passes;
    return step / cycle * r->steps + step % cycle % r->steps;
}

/* An epoch may end in a step of fewer prompts, so the last one's place is asked for. */
DpsStatus dps__rollout_answers (DpsTrainer *t, uint64_t *out, DpsError *err)
{
    const DpsRollout *o = &t->rollout;
    const uint64_t cycle = o->steps * o->passes, rollouts = (t->step + cycle - 1) / cycle;
    DpsStepPlace last;
    *out = 0;
    if (!rollouts)
        return DPS_OK;
    DPS_TRY (dps__trainer_place (t, (rollouts - 1) * cycle + o->steps - 1, &last, err));
    *out = (last.epoch * t->plan.rows_per_epoch + last.first + last.n) * o->samples;
    return DPS_OK;
}

/* The prompts of all steps of the rollout, and how many each step has. */
static DpsStatus read_prompts (DpsTrainer *t, DpsAnswers *a, uint64_t *counts, DpsError *err)
{
    for (uint64_t s = 0; s < t->rollout.steps; s++) {
        DpsStepPlace at;
        DPS_TRY (dps__trainer_place (t, t->step + s, &at, err));
        DPS_TRY (dps_prompts_add (&a->prompts, t->feed, t->session.tok, at.epoch, at.first, at.n, err));
        counts[s] = at.n;
    }
    return DPS_OK;
}

static DpsStatus make_units (DpsTrainer *t, DpsAnswers *a, const uint64_t *counts, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    uint64_t prompt = 0;
    for (uint64_t s = 0; s < o->steps; s++) {
        o->firsts[s] = o->n_places;
        DPS_TRY (dps__rollout_units (t, a, prompt, counts[s], err));
        prompt += counts[s];
    }
    o->firsts[o->steps] = o->n_places;
    DPS_TRY (dps__rollout_record (t, "value", "rollout", err));
    DPS_TRY (dps__rollout_reference (t, err));
    const DpsRewards meta = {.size = sizeof meta, .n_criteria = o->n_criteria, .weights = o->weights, .names = o->names};
    return o->n_places && dps__trainer_earns (t) ? dps__trainer_score (t, o->places, o->n_places, &meta, err) : DPS_OK;
}

/* `score` of the objective reported the rewards, in its own way. */
static int says_reward (const DpsStepSums *scored)
{
    size_t i = 0;
    while (i < scored->n_metrics && strcmp (scored->metrics[i].name, "reward") != 0)
        i++;
    return i < scored->n_metrics;
}

/* Sample before t->step. */
static DpsStatus make (DpsTrainer *t, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    DpsAnswers a = {0};
    double start = dps__trainer_now ();
    uint64_t *counts = dps_calloc (o->steps, sizeof *counts);
    dps__rollout_clear (o);
    dps_step_reset (&o->sums);
    dps__trainer_progress (t, "sampling", NAN, NAN);
    DpsStatus st = counts ? read_prompts (t, &a, counts, err) : no_memory (err);
    uint64_t first = dps__rollout_prompts_of (o, t->step) * o->prompts * o->samples;
    if (st == DPS_OK)
        st = dps__answers_make (t, &a, o->samples, first, 0, err);
    if (st == DPS_OK)
        st = dps__answers_measure (&a, &o->sums, err);
    if (st == DPS_OK)
        st = make_units (t, &a, counts, err);
    if (st == DPS_OK && !says_reward (&t->scored))
        st = dps__answers_rewards (t, &a, &o->sums, err);
    if (st == DPS_OK && t->recipe->log_completions)
        st = dps__answers_log (t, &a, t->step + 1, err);
    dps__answers_free (&a);
    dps_free (counts);
    if (st != DPS_OK) {
        dps__rollout_clear (o);
        return st;
    }
    o->made = 1;
    o->made_at = t->step;
    o->seconds = dps__trainer_now () - start;
    return DPS_OK;
}

DpsStatus dps__rollout_places (DpsTrainer *t, DpsPlace **out, uint64_t *out_n, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    uint64_t at = t->step % (o->steps * o->passes), slice = at % o->steps;
    if (at == 0)
        DPS_TRY (make (t, err));
    if (!o->made || o->made_at != t->step - at)
        return dps_fail (err, DPS_ERR_INTERNAL, "rollout: step %llu trains what was sampled before step %llu, which is not there",
                         (unsigned long long)t->step + 1, (unsigned long long)(t->step - at + 1));
    *out = o->places + o->firsts[slice];
    *out_n = o->firsts[slice + 1] - o->firsts[slice];
    o->first_pass = at == 0;
    return DPS_OK;
}

DpsStatus dps__rollout_metrics (DpsTrainer *t, double step_s, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    for (size_t i = 0; i < o->sums.n_metrics; i++) {
        const DpsStepMetric *m = &o->sums.metrics[i];
        DPS_TRY (dps_step_add (&t->sums, dps_str (m->name), dps_step_metric (&o->sums, i), m->weight, err));
    }
    dps_step_reset (&o->sums);
    const double sampling_s = o->seconds;
    o->seconds = 0;
    DPS_TRY (dps_step_add (&t->sums, dps_str ("rollout_time"), sampling_s, 1, err));
    DPS_TRY (dps_step_add (&t->sums, dps_str ("update_time"), step_s - sampling_s, 1, err));
    return dps_step_add (&t->sums, dps_str ("step_time"), step_s, 1, err);
}
