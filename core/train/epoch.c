/* SPDX-License-Identifier: Apache-2.0 */
/* epoch.c: steps and epochs. With packing each epoch has its own number of places, so they are walked one by one from the last one asked for. */
#include <math.h>

#include "train/trainer.h"

/* Of the feed: units, or prompts to be answered. */
static uint64_t places_per_step (const DpsTrainer *t) { return t->rollout.samples ? t->rollout.prompts : dps__units_per_step (t); }

/* What is sampled once is trained so many times. */
static uint64_t passes (const DpsTrainer *t) { return t->rollout.samples ? t->rollout.passes : 1; }

static DpsStatus steps_of (DpsTrainer *t, uint64_t epoch, uint64_t *out_steps, uint64_t *out_places, DpsError *err)
{
    DPS_TRY (dps_feed_places (t->feed, epoch, out_places, err));
    if (*out_places == 0)
        return dps_fail (err, DPS_ERR_DATA, "%s: no rows to train on", dps_recipe_where (t->recipe, DPS_KEY_datasets));
    *out_steps = (*out_places + places_per_step (t) - 1) / places_per_step (t);
    return DPS_OK;
}

/* Step `step` of a run that sees its rows once. */
static DpsStatus place_of (DpsTrainer *t, uint64_t step, DpsStepPlace *out, DpsError *err)
{
    uint64_t steps, places;
    if (step < t->epoch_first)
        t->epoch_number = t->epoch_first = 0;
    for (;;) {
        DPS_TRY (steps_of (t, t->epoch_number, &steps, &places, err));
        if (step - t->epoch_first < steps)
            break;
        t->epoch_first += steps;
        t->epoch_number++;
    }
    uint64_t index = step - t->epoch_first, first = index * places_per_step (t), left = places - first;
    *out = (DpsStepPlace){t->epoch_number, index, steps, first, left < places_per_step (t) ? left : places_per_step (t)};
    return DPS_OK;
}

DpsStatus dps__trainer_place (DpsTrainer *t, uint64_t step, DpsStepPlace *out, DpsError *err)
{
    return place_of (t, t->rollout.samples ? dps__rollout_prompts_of (&t->rollout, step) : step, out, err);
}

static DpsStatus epochs_of (DpsTrainer *t, uint64_t step, double *out, DpsError *err)
{
    DpsStepPlace at;
    *out = 0;
    if (step == 0)
        return DPS_OK;
    DPS_TRY (place_of (t, step - 1, &at, err));
    *out = (double)at.epoch + (double)(at.index + 1) / (double)at.steps;
    return DPS_OK;
}

DpsStatus dps__trainer_epochs (DpsTrainer *t, uint64_t step, double *out, DpsError *err)
{
    uint64_t n = passes (t), rest = step % n;
    double next;
    DPS_TRY (epochs_of (t, step / n, out, err));
    if (rest == 0)
        return DPS_OK;
    DPS_TRY (epochs_of (t, step / n + 1, &next, err));
    *out += (next - *out) * (double)rest / (double)n;
    return DPS_OK;
}

DpsStatus dps__trainer_steps (DpsTrainer *t, double epochs, uint64_t *out, DpsError *err)
{
    uint64_t steps = 0, places, total = 0, whole = (uint64_t)epochs;
    for (uint64_t e = 0; e < whole; e++) {
        DPS_TRY (steps_of (t, e, &steps, &places, err));
        total += steps;
    }
    DPS_TRY (steps_of (t, whole, &steps, &places, err));
    *out = total + (uint64_t)ceil ((epochs - (double)whole) * (double)steps - 1e-9);
    if (*out == 0)
        *out = 1;
    *out *= passes (t);
    return DPS_OK;
}
