/* SPDX-License-Identifier: Apache-2.0 */
/* explain.c: a step that is placed and not run. */
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

static DpsStatus place_pass (DpsTrainer *t, const DpsBatch *b, DpsError *err)
{
    const DpsPassOptions o = {.training = 1,
                              .scores = dps__trainer_scores (t),
                              .values = dps__trainer_values (t),
                              .checkpoint = t->recipe->gradient_checkpointing > 0};
    DpsPass p;
    float *dlogp = dps_calloc ((size_t)b->n_scored + 1, sizeof *dlogp);
    DpsStatus st = dlogp ? dps_pass_open (&p, &t->session.weights, b, &o, err) : dps_fail (err, DPS_ERR_NOMEM, "explain: out of memory");
    if (st == DPS_OK) {
        st = dps_exec_reserve (&t->session.ex, p.peak, err);
        if (st == DPS_OK)
            st = dps_pass_forward (&p, err);
        if (st == DPS_OK)
            st = o.scores   ? dps_pass_backward_scores (&p, dlogp, err)
                 : o.values ? dps_pass_backward_values (&p, dlogp, dlogp, err)
                            : dps_pass_backward (&p, dlogp, err);
        dps_pass_close (&p);
    }
    dps_free (dlogp);
    return st == DPS_OK ? dps_optim_step (&t->optim, &t->session.weights, 0, 1, err) : st;
}

static DpsStatus place_step (DpsTrainer *t, DpsError *err)
{
    DpsPlace place;
    DpsBatch b;
    DPS_TRY (t->rollout.samples ? dps__rollout_example (t, &place, err) : dps_feed_get (t->feed, 0, 0, &place, err));
    DpsStatus st = dps_batch_build (place.sequences, place.n, t->session.model.dec.vocab, &b, err);
    dps_place_free (&place);
    DPS_TRY (st);
    t->session.ex.dry = 1;
    st = b.n_scored ? place_pass (t, &b, err) : dps_fail (err, DPS_ERR_DATA, "the first row has no trained token");
    dps_batch_free (&b);
    return st;
}

/* The ops of sampling, on cached keys and values. */
static DpsStatus place_sampling (DpsTrainer *t, DpsError *err)
{
    DpsGenerateOptions o;
    DpsGenerateBytes bytes;
    dps__answers_options (t, (size_t)t->rollout.samples, 0, &o);
    return dps_generate_measure (&t->session.weights, (size_t)dps_feed_most (t->feed).tokens, (size_t)t->rollout.prompts, &o, &bytes, err);
}

DpsStatus dps_train_explain (const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *o, DpsVisitCase visit, void *ctx,
                             DpsError *err)
{
    DpsTrainer t;
    DPS_TRY (dps__trainer_open (&t, reg, recipe, o, 1, err));
    const DpsSessionOptions load = {.model = recipe->model_name_or_path, .adapter = recipe->adapter_init, .training = 1};
    DpsStatus st = dps_session_load (&t.session, &load, dps_optim_moments (&t.optim), err);
    if (st == DPS_OK)
        st = place_step (&t, err);
    if (st == DPS_OK && t.rollout.samples)
        st = place_sampling (&t, err);
    for (size_t i = 0; st == DPS_OK && i < t.session.ex.n_cases; i++)
        visit (ctx, &t.session.ex, &t.session.ex.cases[i]);
    dps__trainer_close (&t);
    return st;
}
