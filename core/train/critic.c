/* SPDX-License-Identifier: Apache-2.0 */
#include "train/critic.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "exec/stage.h"
#include "train/trainer.h"

enum { SLACK_BYTES = 64 << 10 /* best fit may need a little more for less */ };

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "value_model: out of memory"); }

/* Opening. */

static DpsStatus begin (DpsTrainer *t, const char *path, DpsError *err)
{
    static const double no_dropout = 0; /* a value that is trained must be of the model that was asked */
    const DpsRecipe *r = t->recipe;
    DpsCritic *c = &t->critic;
    char *config = dps_path_join (path, "adapter_config.json");
    if (!config)
        return no_memory (err);
    c->adapter = dps_is_file (config) ? path : NULL;
    dps_free (config);
    const DpsSessionOptions o = {.model = c->adapter ? r->model_name_or_path : path,
                                 .adapter = c->adapter,
                                 .allow_base_mismatch = r->allow_base_mismatch > 0,
                                 .dtype = r->dtype,
                                 .devices = (const char *const *)r->device.items,
                                 .n_devices = r->device.n,
                                 .strict_device = r->strict_device > 0,
                                 .dropout = &no_dropout,
                                 .score = 1,
                                 .training = 1};
    DPS_TRY (dps_recipe_named (r, DPS_KEY_value_model, dps_session_begin (&c->session, t->reg, &o, err), err));
    const int64_t its = c->session.model.dec.vocab, policys = t->session.model.dec.vocab;
    if (its != policys)
        return dps_fail (err, DPS_ERR_SHAPE,
                         "%s: value_model: %s has a vocabulary of %lld, the policy one of %lld: it would read other words. Hint: a reward "
                         "model trained from the policy's own base",
                         dps_recipe_where (r, DPS_KEY_value_model), path, (long long)its, (long long)policys);
    if (c->adapter)
        return DPS_OK;
    if (r->adapter)
        return dps__attach_fresh (t, &c->session, r, err);
    dps_model_train_all (&c->session.model);
    return DPS_OK;
}

DpsStatus dps__critic_open (DpsTrainer *t, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    if (!r->value_model)
        return DPS_OK;
    if (dps_objective_signal (t->objective, "value", "policy") < 0)
        return dps_fail (err, DPS_ERR_USAGE, "%s: value_model: stage %s reads no values: remove it",
                         dps_recipe_where (r, DPS_KEY_value_model), r->stage);
    t->critic.on = 1;
    t->critic.optim = t->optim;
    return begin (t, r->value_model, err);
}

DpsStatus dps__critic_load (DpsTrainer *t, DpsError *err)
{
    static const DpsSessionOptions training = {.training = 1};
    DpsCritic *c = &t->critic;
    DpsSession *s = &c->session;
    if (!c->on)
        return DPS_OK;
    DPS_TRY (dps_session_load (s, &training, dps_optim_moments (&c->optim), err));
    if (t->is_adapter && !c->adapter)
        DPS_TRY (dps_weights_init (&s->weights, (uint64_t)t->recipe->seed, err));
    for (size_t i = s->model.n_base; i < s->model.n_weights; i++) {
        if (!s->fresh[i])
            continue;
        float *zeros = dps_calloc ((size_t)dps_weight_elements (&s->model.weights[i]), sizeof *zeros);
        DpsStatus st = zeros ? dps_weights_set (&s->weights, (int32_t)i, zeros, err) : no_memory (err);
        dps_free (zeros);
        DPS_TRY (st);
    }
    DPS_TRY (dps_exec_reserve (&s->ex, c->arena, err));
    return dps_exec_reserve_scratch (&s->ex, c->scratch, err);
}

static DpsStatus measure_one (DpsCritic *c, DpsWeights *outline, const DpsBatchCounts *counts, const DpsPassOptions *o, DpsError *err)
{
    const DpsForward f = {
        .n_tokens = counts->tokens, .n_segments = counts->segments, .n_roots = counts->roots, .n_scored = counts->scored, .scores = 1};
    uint64_t peak, scratch;
    DPS_TRY (dps_pass_measure (outline, &f, o, &peak, &scratch, err));
    c->arena = peak + SLACK_BYTES > c->arena ? peak + SLACK_BYTES : c->arena;
    c->scratch = scratch > c->scratch ? scratch : c->scratch;
    return DPS_OK;
}

DpsStatus dps__critic_measure (DpsTrainer *t, const DpsBatchCounts *counts, size_t n, int checkpointing, uint64_t *out_bytes, DpsError *err)
{
    const DpsPassOptions training = {.training = 1, .scores = 1, .checkpoint = checkpointing}, asked = {.scores = 1};
    DpsCritic *c = &t->critic;
    DpsSession *s = &c->session;
    DpsWeightBytes b;
    DpsWeights outline;
    *out_bytes = c->arena = c->scratch = 0;
    if (!c->on)
        return DPS_OK;
    DPS_TRY (dps_weights_measure (&s->ex, &s->model, s->compute, DPS_WEIGHTS_TRAINING, dps_optim_moments (&c->optim), &b, err));
    DPS_TRY (dps_weights_outline (&outline, &s->ex, &s->model, s->compute, DPS_WEIGHTS_TRAINING, err));
    DpsStatus st = dps_optim_measure (&c->optim, &outline, &c->scratch, err);
    for (size_t i = 0; st == DPS_OK && i < n; i++) {
        st = measure_one (c, &outline, &counts[i], &training, err);
        if (st == DPS_OK)
            st = measure_one (c, &outline, &counts[i], &asked, err);
    }
    dps_weights_free (&outline);
    *out_bytes = b.rows + b.packed_forward + b.packed_grad + b.master + b.gradients + b.optimizer + b.quantised + dps_exec_staging (&s->ex);
    return st;
}

/* A micro-batch. */

DpsStatus dps__critic_begin (DpsTrainer *t, const DpsBatch *b, int training, DpsError *err)
{
    DpsCritic *c = &t->critic;
    const DpsPassOptions o = {.training = training, .scores = 1, .checkpoint = training && t->checkpointing};
    if (!c->on)
        return DPS_OK;
    DPS_TRY (dps_pass_open (&c->pass, &c->session.weights, b, &o, err));
    c->passing = 1;
    return dps_pass_forward (&c->pass, err);
}

const float *dps__critic_values (const DpsTrainer *t) { return dps_pass_score (&t->critic.pass); }

DpsStatus dps__critic_backward (DpsTrainer *t, const float *dvalue, DpsError *err)
{
    return dps_pass_backward_scores (&t->critic.pass, dvalue, err);
}

void dps__critic_end (DpsTrainer *t)
{
    if (t->critic.passing)
        dps_pass_close (&t->critic.pass);
    t->critic.passing = 0;
}

/* A step. */

DpsStatus dps__critic_norm (DpsTrainer *t, double *io_norm, DpsError *err)
{
    double its;
    if (!t->critic.on)
        return DPS_OK;
    DPS_TRY (dps_optim_grad_norm (&t->critic.session.weights, &its, err));
    *io_norm = sqrt (*io_norm * *io_norm + its * its);
    return DPS_OK;
}

DpsStatus dps__critic_step (DpsTrainer *t, double lr, double norm, DpsError *err)
{
    return t->critic.on ? dps_optim_step (&t->critic.optim, &t->critic.session.weights, lr, norm, err) : DPS_OK;
}

/* Files. */

enum { N_KEPT = 3 };
static const char *const kept_prefix[N_KEPT] = {"", "exp_avg.", "exp_avg_sq."};

/* What of a weight is kept: the f32 master, and the moments there are (NULL); of a weight that does not train nothing. */
static void kept_of (const DpsCritic *c, size_t i, const DpsBlock *out[N_KEPT])
{
    const DpsStore *s = &c->session.weights.stores[i];
    const int trains = s->grad.buffer != NULL;
    out[0] = trains ? dps_weights_master_block (&c->session.weights, (int32_t)i) : NULL;
    out[1] = trains && s->m.buffer ? &s->m : NULL;
    out[2] = trains && s->v.buffer ? &s->v : NULL;
}

static void free_copies (DpsCritic *c)
{
    for (size_t i = 0; i < c->n_copies; i++)
        dps_free (c->copies[i]);
    dps_free (c->copies);
    c->copies = NULL;
    c->n_copies = c->copy_capacity = 0;
}

void dps__critic_close (DpsCritic *c)
{
    if (c->passing)
        dps_pass_close (&c->pass);
    free_copies (c);
    if (c->on)
        dps_session_close (&c->session);
    *c = (DpsCritic){0};
}

/* The bytes of a block in host memory: its own, or a copy that stays until the next save, which is after this one's commit. */
static DpsStatus bytes_of (DpsCritic *c, const DpsBlock *block, const void **out, DpsError *err)
{
    *out = block->host;
    if (block->host)
        return DPS_OK;
    if (DPS_GROW (c->copies, c->n_copies, c->copy_capacity) || !(c->copies[c->n_copies] = dps_malloc (block->bytes, 1)))
        return no_memory (err);
    *out = c->copies[c->n_copies++];
    return dps_block_get (&c->session.ex, block, 0, c->copies[c->n_copies - 1], block->bytes, err);
}

DpsStatus dps__critic_save (DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err)
{
    DpsCritic *c = &t->critic;
    const DpsModel *m = &c->session.model;
    size_t n = 0;
    if (!c->on)
        return DPS_OK;
    free_copies (c);
    DpsTensorOut *tensors = dps_calloc (m->n_weights * N_KEPT, sizeof *tensors);
    DpsStatus st = tensors ? DPS_OK : no_memory (err);
    for (size_t i = 0; st == DPS_OK && i < m->n_weights; i++) {
        const DpsBlock *kept[N_KEPT];
        const DpsWeight *spec = &m->weights[i];
        kept_of (c, i, kept);
        for (int k = 0; k < N_KEPT && st == DPS_OK; k++) {
            const void *data;
            if (!kept[k])
                continue;
            st = bytes_of (c, kept[k], &data, err);
            if (st != DPS_OK)
                break;
            tensors[n] = (DpsTensorOut){.name = dps_strf ("%s%s", kept_prefix[k], spec->name),
                                        .dtype = DPS_DTYPE_F32,
                                        .rank = spec->rank,
                                        .shape = {spec->shape[0], spec->shape[1]},
                                        .data = data};
            st = tensors[n++].name ? DPS_OK : no_memory (err);
        }
    }
    if (st == DPS_OK)
        st = dps_ckpt_add_tensors (w, DPS_CKPT_CRITIC, tensors, n, NULL, 0, err);
    for (size_t i = 0; i < n; i++)
        dps_free ((char *)tensors[i].name);
    dps_free (tensors);
    return st;
}

static DpsStatus restore_one (DpsCritic *c, DpsTensorFile *file, size_t i, const char *prefix, const DpsBlock *to, DpsError *err)
{
    char *name = dps_strf ("%s%s", prefix, c->session.model.weights[i].name);
    const int64_t at = name ? dps_tensors_find (file, name) : -1;
    void *bytes = to->host ? NULL : dps_malloc (to->bytes, 1);
    DpsStatus st = !name || !(to->host || bytes) ? no_memory (err)
                   : at < 0 ? dps_fail (err, DPS_ERR_NOT_FOUND, "checkpoint: no tensor '%s' in %s", name, DPS_CKPT_CRITIC)
                            : dps_tensors_read (file, (size_t)at, to->host ? to->host : bytes, to->bytes, err);
    if (st == DPS_OK && !to->host)
        st = dps_block_put (&c->session.ex, to, 0, bytes, to->bytes, err);
    dps_free (bytes);
    dps_free (name);
    return st;
}

DpsStatus dps__critic_restore (DpsTrainer *t, const DpsCheckpoint *from, DpsError *err)
{
    DpsCritic *c = &t->critic;
    DpsTensorFile *file;
    if (!c->on)
        return DPS_OK;
    DPS_TRY (dps_ckpt_tensors (from, DPS_CKPT_CRITIC, &file, err));
    DpsStatus st = DPS_OK;
    for (size_t i = 0; st == DPS_OK && i < c->session.model.n_weights; i++) {
        const DpsBlock *kept[N_KEPT];
        kept_of (c, i, kept);
        for (int k = 0; k < N_KEPT && st == DPS_OK; k++)
            st = kept[k] ? restore_one (c, file, i, kept_prefix[k], kept[k], err) : DPS_OK;
    }
    dps_tensors_close (file);
    return st == DPS_OK ? dps_weights_refresh (&c->session.weights, err) : st;
}

DpsStatus dps__critic_export (const DpsTrainer *t, DpsError *err)
{
    static char lora[] = "lora"; /* an adapter's own configuration says more */
    if (!t->critic.on)
        return DPS_OK;
    DpsRecipe recipe = *t->recipe; /* the same run, with the other session: what is borrowed stays the trainer's */
    DpsTrainer its = *t;
    char *dir = dps_path_join (t->recipe->output_dir, DPS_CRITIC_FOLDER);
    recipe.output_dir = dir;
    recipe.adapter_init = (char *)t->critic.adapter;
    recipe.model_name_or_path = (char *)dps_source_path (t->critic.session.source);
    recipe.frozen_adapters = recipe.lora_modules_to_save = (DpsStrings){0};
    recipe.adapter = recipe.adapter ? recipe.adapter : lora;
    its.recipe = &recipe;
    its.session = t->critic.session;
    its.is_adapter = t->is_adapter || t->critic.adapter;
    its.critic = (DpsCritic){0};
    DpsStatus st = dir ? dps_mkdirs (dir, err) : no_memory (err);
    if (st == DPS_OK)
        st = dps_source_digest (its.session.source, &its.base, err);
    if (st == DPS_OK)
        st = dps__trainer_export (&its, err);
    dps_free (dir);
    return st;
}
