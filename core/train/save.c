/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save.c: what a checkpoint holds: trained values (adapter or model), optimizer moments, f32 masters where the saved model is bf16, counters and
 * guard, and answers that were sampled and are still to be trained. Rows and random numbers need nothing: they are functions of step and seed.
 * And what a run leaves at its end. restore.c reads it back.
 */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/seal.h"
#include "exec/stage.h"
#include "train/model_files.h"
#include "train/trainer.h"

typedef struct List {
    DpsTensorOut *items;
    size_t n, capacity;
} List;

static void free_list (List *l)
{
    for (size_t i = 0; i < l->n; i++)
        dps_free ((char *)l->items[i].name);
    dps_free (l->items);
    *l = (List){0};
}

/* DpsTensorOut.read over a block, which outlives the writer: a device with memory of its own gives its bytes as they are written. */
static DpsStatus read_out (void *ctx, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    const DpsBlock *block = ctx;
    return dps_block_get (block->owner, block, offset, dst, len, err);
}

static DpsStatus add (List *l, char *name, const DpsWeight *w, uint32_t dtype, const DpsBlock *block, DpsError *err)
{
    if (!name || DPS_GROW (l->items, l->n, l->capacity)) {
        dps_free (name);
        return dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
    }
    l->items[l->n++] = (DpsTensorOut){.name = name,
                                      .dtype = dtype,
                                      .rank = w->rank,
                                      .shape = {w->shape[0], w->shape[1]},
                                      .data = block->host,
                                      .read = read_out,
                                      .ctx = (void *)block};
    return DPS_OK;
}

static int trains (const DpsTrainer *t, size_t i) { return t->session.weights.stores[i].grad.buffer != NULL; }

/* The embedding is trained whole, and with it the head, which is the same weight. */
static int trains_tied_head (const DpsTrainer *t) { return t->session.model.dec.tied && trains (t, (size_t)t->session.model.embed); }

/* Adapter tensors and modules trained whole, under PEFT's names. */
static DpsStatus list_adapter (const DpsTrainer *t, List *l, DpsError *err)
{
    const DpsModel *m = &t->session.model;
    for (size_t i = 0; i < m->n_weights; i++)
        if (!m->weights[i].frozen && (i >= m->n_base || trains (t, i)))
            DPS_TRY (add (l, dps_strf ("%s%s", DPS_PEFT_PREFIX, m->weights[i].name), &m->weights[i], DPS_DTYPE_F32,
                          dps_weights_master_block (&t->session.weights, (int32_t)i), err));
    if (trains_tied_head (t))
        DPS_TRY (add (l, dps_strdup (DPS_PEFT_PREFIX DPS_PEFT_TIED_HEAD), &m->weights[m->embed], DPS_DTYPE_F32,
                      dps_weights_master_block (&t->session.weights, m->embed), err));
    return DPS_OK;
}

/* Every weight of the model, in its compute type. */
static DpsStatus list_model (const DpsTrainer *t, List *l, DpsError *err)
{
    const DpsModel *m = &t->session.model;
    for (size_t i = 0; i < m->n_weights; i++) { /* a head of its own too */
        const DpsStore *s = &t->session.weights.stores[i];
        DPS_TRY (add (l, dps_strdup (m->weights[i].name), &m->weights[i], s->rows_dtype, &s->rows, err));
    }
    return DPS_OK;
}

static DpsStatus list_optimizer (const DpsTrainer *t, List *l, DpsError *err)
{
    const DpsModel *m = &t->session.model;
    for (size_t i = 0; i < m->n_weights; i++) {
        const DpsStore *s = &t->session.weights.stores[i];
        const DpsWeight *w = &m->weights[i];
        if (s->m.buffer)
            DPS_TRY (add (l, dps_strf ("exp_avg.%s", w->name), w, DPS_DTYPE_F32, &s->m, err));
        if (s->v.buffer)
            DPS_TRY (add (l, dps_strf ("exp_avg_sq.%s", w->name), w, DPS_DTYPE_F32, &s->v, err));
        if (s->master.buffer && !t->is_adapter)
            DPS_TRY (add (l, dps_strf ("master.%s", w->name), w, DPS_DTYPE_F32, &s->master, err));
    }
    return DPS_OK;
}

/* Which linear maps carry the adapter, as PEFT's target_modules. */
static DpsStatus adapter_names (const DpsTrainer *t, const char ***out, size_t *n, char ***out_paths, size_t *n_paths, DpsError *err)
{
    const DpsModel *m = &t->session.model;
    char **paths = dps_calloc (m->n_base, sizeof *paths);
    size_t adapted = 0, others = 0;
    DpsStatus st = paths ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
    for (int pass = 0; pass < 2 && st == DPS_OK; pass++) /* adapted ones first, then the rest */
        for (size_t i = 0; i < m->n_base && st == DPS_OK; i++) {
            if (m->weights[i].role != DPS_WEIGHT_LINEAR || (dps_model_site (m, i) != NULL) == pass)
                continue;
            paths[adapted + others] = dps_strndup (m->weights[i].name, strlen (m->weights[i].name) - strlen (".weight"));
            if (!paths[adapted + others])
                st = dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
            else if (pass)
                others++;
            else
                adapted++;
        }
    *out_paths = paths;
    *n_paths = adapted + others;
    if (st != DPS_OK)
        return st;
    DpsNames yes = {(const char *const *)paths, adapted}, no = {(const char *const *)paths + adapted, others};
    return dps_peft_target_names (&yes, &no, out, n, err);
}

/* modules_to_save with the heads that the model has, and without a value head that adapter_init had. *out owns the list. */
static DpsStatus saved_modules (const DpsModel *m, DpsNames *saved, const char ***out, DpsError *err)
{
    const char *const heads[] = {"score", "value"};
    const int has[] = {m->score >= 0, m->value >= 0};
    const char **list = *out = dps_malloc (saved->n + 2, sizeof *list);
    size_t n = 0;
    if (!list)
        return dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
    for (size_t i = 0; i < saved->n; i++)
        if (strcmp (saved->names[i], heads[0]) != 0 && strcmp (saved->names[i], heads[1]) != 0)
            list[n++] = saved->names[i];
    for (int k = 0; k < 2; k++)
        if (has[k])
            list[n++] = heads[k];
    *saved = (DpsNames){list, n};
    return DPS_OK;
}

static DpsStatus write_adapter (const DpsTrainer *t, const char *dir, DpsCheckpointWriter *into, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    const DpsFormat *format = dps_registry_get (t->reg, DPS_FORMAT_ID, "peft");
    const char **names = NULL;
    char **paths = NULL;
    size_t n = 0, n_paths = 0;
    List l = {0};
    json_t *args = NULL;
    DpsPeftConfig from = {0}, config = {.r = r->lora_r,
                                        .lora_alpha = r->lora_alpha,
                                        .lora_dropout = r->lora_dropout,
                                        .use_rslora = r->use_rslora > 0,
                                        .use_dora = r->use_dora > 0 || !strcmp (r->adapter, "dora"),
                                        .rank_pattern = r->rank_pattern,
                                        .alpha_pattern = r->alpha_pattern};
    DpsStatus st = DPS_OK;
    if (r->adapter_init) { /* what was trained on keeps its configuration */
        char *path = dps_path_join (r->adapter_init, "adapter_config.json");
        st = path ? dps_peft_config_read (path, &from, err) : dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
        dps_free (path);
        if (st == DPS_OK)
            config = from;
        if (dps_recipe_given (r, DPS_KEY_lora_dropout)) /* the one thing a recipe may say anew */
            config.lora_dropout = r->lora_dropout;
    } else
        st = dps__adapter_args (t, &args, err);
    if (args) {
        config.plugin = r->adapter;
        config.plugin_args = args;
    }
    config.base_model = r->model_name_or_path;
    config.ensure_weight_tying = trains_tied_head (t);
    if (st == DPS_OK)
        st = adapter_names (t, &names, &n, &paths, &n_paths, err);
    DpsNames saved = {(const char *const *)r->lora_modules_to_save.items, r->lora_modules_to_save.n};
    const char **with_heads = NULL;
    saved = saved.n ? saved : from.targets.modules_to_save;
    config.classifies = t->session.model.score >= 0;
    if (st == DPS_OK)
        st = saved_modules (&t->session.model, &saved, &with_heads, err);
    config.targets = (DpsTargetSpec){.modules = {names, n}, .modules_to_save = saved};
    if (st == DPS_OK)
        st = list_adapter (t, &l, err);
    const DpsPeftOut out = {.config = &config, .tensors = l.items, .n = l.n, .base_sha256 = t->base.hex, .under = t->session.under.data};
    if (st == DPS_OK)
        st = dps_peft_write (&out, dir, into, format, err);
    free_list (&l);
    dps_free (with_heads);
    for (size_t i = 0; i < n_paths; i++)
        dps_free (paths[i]);
    dps_free (paths);
    dps_free (names);
    dps_peft_config_free (&from);
    json_decref (args);
    return st;
}

static DpsStatus add_values (const DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err)
{
    static const DpsTensorMeta pt = {.key = "format", .value = "pt"};
    List l = {0};
    if (t->is_adapter)
        return write_adapter (t, NULL, w, err);
    DpsStatus st = list_model (t, &l, err);
    if (st == DPS_OK)
        st = dps_ckpt_add_tensors (w, DPS_CKPT_MODEL, l.items, l.n, &pt, 1, err);
    free_list (&l);
    return st == DPS_OK ? dps_model_files_add (t->session.source, w, err) : st;
}

static DpsStatus add_state (const DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err)
{
    DpsTrainerState *state = dps_observer_state (t->observer);
    state->global_step = t->step;
    state->epoch = t->epoch;
    state->num_input_tokens_seen = t->seen_tokens;
    json_t *json = dps_trainer_state_json (state);
    DpsStatus st = dps_ckpt_add_json (w, DPS_CKPT_STATE, json, err);
    json_decref (json);
    DPS_TRY (st);
    const DpsDeviceInfo *device = &t->session.ex.devices[0].info;
    json = json_pack ("{s:I, s:I, s:f, s:I, s:I, s:b, s:o, s:o, s:s, s:s}", "step", (json_int_t)t->step, "updates", (json_int_t)t->optim.t,
                      "loss_total", t->loss_total, "loss_steps", (json_int_t)t->loss_steps, "seen_tokens", (json_int_t)t->seen_tokens,
                      "owes_eval", t->owes_eval, "window", dps__window_json (&t->window), "guard", dps_guard_json (&t->guard), "device",
                      device->name, "detail", device->detail ? device->detail : "");
    st = dps_ckpt_add_json (w, DPS_CKPT_RUN, json, err);
    json_decref (json);
    return st;
}

static DpsStatus add_optimizer (const DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err)
{
    List l = {0};
    DpsStatus st = list_optimizer (t, &l, err);
    if (st == DPS_OK && l.n)
        st = dps_ckpt_add_tensors (w, DPS_CKPT_OPTIMIZER, l.items, l.n, NULL, 0, err);
    free_list (&l);
    return st;
}

DpsStatus dps__trainer_rotate (const DpsTrainer *t, DpsError *err)
{
    const DpsTrainerState *state = dps_observer_state (t->observer);
    return dps_ckpt_rotate (t->recipe->output_dir, (uint64_t)t->recipe->save_total_limit,
                            state->has_best ? state->best_model_checkpoint : NULL, err);
}

DpsStatus dps__trainer_save (DpsTrainer *t, DpsError *err)
{
    DpsCheckpointWriter *w;
    if (t->applied)
        dps_guard_progress (&t->guard);
    DPS_TRY (dps_observer_sync (t->observer, err));
    DPS_TRY (dps_ckpt_begin (dps_registry_get (t->reg, DPS_FORMAT_ID, "checkpoint"), t->recipe->output_dir, t->step, &w, err));
    DpsStatus st = add_values (t, w, err);
    if (st == DPS_OK)
        st = add_optimizer (t, w, err);
    if (st == DPS_OK)
        st = add_state (t, w, err);
    if (st == DPS_OK)
        st = dps__critic_save (t, w, err);
    if (st == DPS_OK)
        st = dps__rollout_save (t, w, err);
    if (st == DPS_OK)
        st = dps__objective_save (t, w, err);
    if (st == DPS_OK)
        st = dps_ckpt_add_bytes (w, DPS_CKPT_LOCK, t->lock.data, t->lock.len, err);
    if (st != DPS_OK) {
        dps_ckpt_discard (w);
        return st;
    }
    DPS_TRY (dps_ckpt_commit (w, err));
    return dps__trainer_rotate (t, err);
}

static DpsStatus export_adapter (const DpsTrainer *t, const char *dir, DpsError *err)
{
    static const char *const files[] = {DPS_CKPT_ADAPTER, DPS_CKPT_ADAPTER_CONFIG};
    DPS_TRY (write_adapter (t, dir, NULL, err));
    return dps_seal_write (dir, files, 2, err);
}

static DpsStatus export_model (const DpsTrainer *t, const char *dir, DpsError *err)
{
    static const DpsTensorMeta pt = {.key = "format", .value = "pt"};
    static char weights[] = DPS_CKPT_MODEL, *const files[] = {weights};
    List l = {0};
    char *path = dps_path_join (dir, DPS_CKPT_MODEL);
    DpsStatus st = path ? list_model (t, &l, err) : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    if (st == DPS_OK)
        st = dps_tensors_write (dps_registry_get (t->reg, DPS_FORMAT_ID, "safetensors"), path, l.items, l.n, &pt, 1, err);
    free_list (&l);
    dps_free (path);
    if (st == DPS_OK)
        st = dps_model_files_write (t->session.source, NULL, dir, err);
    return st == DPS_OK ? dps_model_files_seal (dir, files, 1, err) : st;
}

DpsStatus dps__trainer_export (DpsTrainer *t, DpsError *err)
{
    const char *dir = t->recipe->output_dir;
    DPS_TRY (dps_seal_break (dir, err));
    return (t->is_adapter ? export_adapter : export_model) (t, dir, err);
}
