/* SPDX-License-Identifier: Apache-2.0 */
/* explain.c: a step that is placed and not run. */
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

/* Forward, backward and update of one model. */
static DpsStatus place_pass (DpsSession *s, DpsOptim *optim, const DpsBatch *b, const DpsPassOptions *o, DpsError *err)
{
    DpsPass p;
    float *dlogp = dps_calloc ((size_t)b->n_scored + 1, sizeof *dlogp);
    DpsStatus st = dlogp ? dps_pass_open (&p, &s->weights, b, o, err) : dps_fail (err, DPS_ERR_NOMEM, "explain: out of memory");
    s->ex.dry = 1;
    if (st == DPS_OK) {
        st = dps_exec_reserve (&s->ex, p.peak, err);
        if (st == DPS_OK)
            st = dps_pass_forward (&p, err);
        if (st == DPS_OK)
            st = o->scores   ? dps_pass_backward_scores (&p, dlogp, err)
                 : o->values ? dps_pass_backward_values (&p, dlogp, dlogp, err)
                             : dps_pass_backward (&p, dlogp, err);
        dps_pass_close (&p);
    }
    dps_free (dlogp);
    return st == DPS_OK ? dps_optim_step (optim, &s->weights, 0, 1, err) : st;
}

static DpsStatus place_models (DpsTrainer *t, const DpsBatch *b, DpsError *err)
{
    const int checkpoint = t->recipe->gradient_checkpointing > 0;
    const DpsPassOptions o = {
        .training = 1, .scores = dps__trainer_scores (t), .values = dps__trainer_values (t), .checkpoint = checkpoint};
    const DpsPassOptions values = {.training = 1, .scores = 1, .checkpoint = checkpoint};
    DPS_TRY (place_pass (&t->session, &t->optim, b, &o, err));
    return t->critic.on ? place_pass (&t->critic.session, &t->critic.optim, b, &values, err) : DPS_OK;
}

static DpsStatus place_step (DpsTrainer *t, DpsError *err)
{
    DpsPlace place;
    DpsBatch b;
    DPS_TRY (t->rollout.samples ? dps__rollout_example (t, &place, err) : dps_feed_get (t->feed, 0, 0, &place, err));
    DpsStatus st = dps_batch_build (place.sequences, place.n, t->session.model.dec.vocab, &b, err);
    dps_place_free (&place);
    DPS_TRY (st);
    st = b.n_scored ? place_models (t, &b, err) : dps_fail (err, DPS_ERR_DATA, "the first row has no trained token");
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

static void visit_cases (const DpsExec *ex, const char *whose, DpsVisitCase visit, void *ctx)
{
    for (size_t i = 0; i < ex->n_cases; i++)
        visit (ctx, ex, &ex->cases[i], whose);
}

DpsStatus dps_train_explain (const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *o, DpsVisitCase visit, void *ctx,
                             DpsError *err)
{
    DpsTrainer t;
    DPS_TRY (dps__trainer_open (&t, reg, recipe, o, 1, err));
    const DpsSessionOptions load = {.model = recipe->model_name_or_path, .adapter = recipe->adapter_init, .training = 1};
    DpsStatus st = dps_session_load (&t.session, &load, dps_optim_moments (&t.optim), err);
    if (st == DPS_OK)
        st = dps__critic_load (&t, err);
    if (st == DPS_OK)
        st = place_step (&t, err);
    if (st == DPS_OK && t.rollout.samples)
        st = place_sampling (&t, err);
    if (st == DPS_OK)
        visit_cases (&t.session.ex, NULL, visit, ctx);
    if (st == DPS_OK && t.critic.on)
        visit_cases (&t.critic.session.ex, DPS_WHOSE_VALUES, visit, ctx);
    dps__trainer_close (&t);
    return st;
}
