/* SPDX-License-Identifier: Apache-2.0 */
/* rollout_record.c: one signal of the policy as it is now, recorded in the places sampled last: a pass without adjoints, in the steps' micro-batches. */
#include <string.h>

#include "train/trainer.h"

/* Where a pass's signal is kept. */
typedef struct Keep {
    DpsTrainer *t;
    DpsPlace *places;
    size_t n;
    uint32_t signal;
} Keep;

static DpsStatus keep (void *ctx, DpsPass *p, const DpsBatch *b, DpsError *err)
{
    const Keep *k = ctx;
    const int value = !strcmp (k->t->objective->signals[k->signal].name, "value");
    const float *from = !value ? dps_pass_logp (p) : k->t->critic.on ? dps_pass_score (p) : dps_pass_value (p);
    (void)b;
    return dps__places_record (k->t, k->signal, k->places, k->n, from, err);
}

DpsStatus dps__rollout_record (DpsTrainer *t, const char *name, const char *role, DpsError *err)
{
    const DpsRollout *o = &t->rollout;
    const int apart = t->critic.on && !strcmp (name, "value");
    const DpsPassOptions own = {.temperature = dps__trainer_temperature (t), .values = dps__trainer_values (t)}, critics = {.scores = 1};
    const uint64_t size = (uint64_t)t->plan.micro_batch;
    const int signal = dps_objective_signal (t->objective, name, role);
    for (uint64_t i = 0; signal >= 0 && i < o->n_places; i += size) {
        Keep k = {t, o->places + i, o->n_places - i < size ? o->n_places - i : size, (uint32_t)signal};
        if (t->options->should_stop && t->options->should_stop ())
            return dps_fail (err, DPS_ERR_INTERRUPTED, "interrupted while the %s of the %s was computed", name, role);
        DPS_TRY (dps__forward_in (t, apart ? &t->critic.session.weights : &t->session.weights, k.places, k.n, apart ? &critics : &own, keep,
                                  &k, err));
    }
    return DPS_OK;
}
