/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rollout_start.c: the reference of a run that samples: the policy as the run began. The weights that train (an adapter's, or all) are kept as they
 * were, and change places with the current ones while the reference is computed. So it does not matter whether an adapter was fresh or is trained
 * further, and a resumed run, which starts from the same weights before it takes the checkpoint's, has the same reference.
 */
#include "base/mem.h"
#include "train/trainer.h"

static int needs_start (const DpsTrainer *t) { return t->rollout.samples && dps__reference_wanted (t); }

uint64_t dps__rollout_start_bytes (const DpsTrainer *t)
{
    const DpsModel *m = &t->session.model;
    uint64_t bytes = 0;
    for (size_t i = 0; needs_start (t) && i < m->n_weights; i++)
        bytes += m->weights[i].trainable ? (uint64_t)dps_weight_elements (&m->weights[i]) * sizeof (float) : 0;
    return bytes;
}

DpsStatus dps__rollout_keep_start (DpsTrainer *t, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    const DpsWeights *w = &t->session.weights;
    if (!needs_start (t))
        return DPS_OK;
    o->n_start = t->session.model.n_weights;
    o->start = dps_calloc (o->n_start, sizeof *o->start);
    for (size_t i = 0; o->start && i < o->n_start; i++) {
        if (!w->stores[i].grad.buffer)
            continue;
        o->start[i] = dps_malloc ((size_t)dps_weight_elements (&t->session.model.weights[i]), sizeof **o->start);
        if (!o->start[i])
            return dps_fail (err, DPS_ERR_NOMEM, "reference: out of memory for the weights the run began with");
        DPS_TRY (dps_weights_get (w, (int32_t)i, o->start[i], err));
    }
    return o->start ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "reference: out of memory");
}

/* The trained weights change places with those the run began with. */
static DpsStatus exchange (DpsTrainer *t, DpsError *err)
{
    DpsWeights *w = &t->session.weights;
    DpsStatus st = DPS_OK;
    for (size_t i = 0; st == DPS_OK && i < t->rollout.n_start; i++) {
        float **kept = &t->rollout.start[i], *now = NULL;
        if (!*kept)
            continue;
        now = dps_malloc ((size_t)dps_weight_elements (&t->session.model.weights[i]), sizeof *now);
        st = now ? dps_weights_get (w, (int32_t)i, now, err) : dps_fail (err, DPS_ERR_NOMEM, "reference: out of memory");
        if (st == DPS_OK)
            st = dps_weights_set (w, (int32_t)i, *kept, err);
        if (st != DPS_OK) {
            dps_free (now);
            break;
        }
        dps_free (*kept);
        *kept = now;
    }
    return st;
}

DpsStatus dps__rollout_reference (DpsTrainer *t, DpsError *err)
{
    DpsError ignored = DPS_ERROR_INIT;
    if (!needs_start (t))
        return DPS_OK;
    DPS_TRY (exchange (t, err));
    DpsStatus st = dps__rollout_record (t, "logp", "reference", err);
    DpsStatus back = exchange (t, st == DPS_OK ? err : &ignored);
    return st == DPS_OK ? back : st;
}
