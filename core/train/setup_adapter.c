/* SPDX-License-Identifier: Apache-2.0 */
/* setup_adapter.c: which weights a run trains: an adapter's, new or from adapter_init, and modules beside it; or all. */
#include <stdio.h>
#include <string.h>

#include "train/trainer.h"

static DpsStatus wanted_targets (const DpsRecipe *r, DpsTargets **out, DpsError *err)
{
    DpsTargetSpec spec = {.modules = {(const char *const *)r->lora_target_modules.items, r->lora_target_modules.n},
                          .exclude = {(const char *const *)r->lora_exclude_modules.items, r->lora_exclude_modules.n},
                          .modules_to_save = {(const char *const *)r->lora_modules_to_save.items, r->lora_modules_to_save.n},
                          .where = dps_recipe_where (r, DPS_KEY_lora_target_modules)};
    if (r->lora_target_modules.one || r->lora_target_modules.n == 1) {
        const char *text = r->lora_target_modules.items[0];
        spec.modules = (DpsNames){0};
        return dps_targets_from_text (text, &spec, out, err);
    }
    return dps_targets_new (&spec, out, err);
}

/* rank_pattern and alpha_pattern, and which of the plugin's numbers are r and alpha; an adapter that has neither takes none. */
typedef struct Patterns {
    DpsPatternMap *ranks, *alphas;
    size_t r, alpha, n;
} Patterns;

static void apply_patterns (void *ctx, const char *module, double *num)
{
    const Patterns *p = ctx;
    if (p->r < p->n)
        num[p->r] = dps_pattern_map_get (p->ranks, module, num[p->r]);
    if (p->alpha < p->n)
        num[p->alpha] = dps_pattern_map_get (p->alphas, module, num[p->alpha]);
}

static DpsStatus make_patterns (const DpsRecipe *r, const DpsAdapterInfo *info, Patterns *p, DpsError *err)
{
    *p = (Patterns){.r = dps_params_index (info->params, info->n_params, "r"),
                    .alpha = dps_params_index (info->params, info->n_params, "alpha")};
    p->n = info->n_params;
    const DpsKeyId keys[2] = {DPS_KEY_rank_pattern, DPS_KEY_alpha_pattern};
    for (int i = 0; i < 2; i++)
        if (dps_recipe_given (r, keys[i]) && (i ? p->alpha : p->r) == p->n)
            return dps_fail (err, DPS_ERR_USAGE, "%s: %s: adapter %s has no parameter %s: remove it", dps_recipe_where (r, keys[i]),
                             dps_recipe_key_name (keys[i]), info->name, i ? "alpha" : "r");
    DPS_TRY (dps_pattern_map_new (r->rank_pattern, dps_recipe_where (r, DPS_KEY_rank_pattern), 1, DPS_PEFT_MAX_RANK, &p->ranks, err));
    return dps_pattern_map_new (r->alpha_pattern, dps_recipe_where (r, DPS_KEY_alpha_pattern), 1e-9, 1e9, &p->alphas, err);
}

static DpsStatus check_patterns (const DpsRecipe *r, const Patterns *p, DpsError *err)
{
    DPS_TRY (dps_pattern_map_check (p->ranks, r->rank_pattern, dps_recipe_where (r, DPS_KEY_rank_pattern), err));
    return dps_pattern_map_check (p->alphas, r->alpha_pattern, dps_recipe_where (r, DPS_KEY_alpha_pattern), err);
}

/* A rank above both dimensions adds nothing but memory, and no reader of the file takes it (ckpt/peft_read.c). */
static DpsStatus check_ranks (const DpsModel *m, const DpsRecipe *r, DpsError *err)
{
    for (size_t i = m->n_base; i < m->n_weights; i++) {
        const DpsWeight *a = &m->weights[i], *w = a->role == DPS_WEIGHT_ADAPTER && a->trainable ? &m->weights[a->base] : NULL;
        if (w && a->rank == 2 && a->shape[0] > w->shape[0] && a->shape[0] > w->shape[1])
            return dps_fail (err, DPS_ERR_USAGE, "%s: rank %lld is more than both dimensions of '%s' (%lld×%lld)",
                             dps_recipe_where (r, DPS_KEY_lora_r), (long long)a->shape[0], w->name, (long long)w->shape[0],
                             (long long)w->shape[1]);
    }
    return DPS_OK;
}

/* The plugin and its parameters as the recipe has them. */
static DpsStatus find_plugin (const DpsTrainer *t, const DpsRecipe *r, const DpsAdapter **out, double *num, DpsStr *str, DpsError *err)
{
    const DpsAdapter *adapter = *out = dps_registry_get (t->reg, DPS_ADAPTER_ID, r->adapter);
    if (!adapter) {
        dps_registry_missing (t->reg, DPS_ADAPTER_ID, r->adapter, err);
        dps_error_prefix (err, "%s: adapter", dps_recipe_where (r, DPS_KEY_adapter));
        return DPS_ERR_USAGE;
    }
    const DpsAdapterInfo *info = adapter->describe ();
    DPS_TRY (dps_recipe_args_known (r, DPS_KEY_adapter_args, info->name, info->params, info->n_params, err));
    return dps_params_resolve (info->name, info->params, info->n_params, dps_recipe_adapter_param, (void *)r, num, str, err);
}

static json_t *param_json (const DpsParam *p, double num, DpsStr str)
{
    return p->type == DPS_PARAM_STR    ? json_stringn (str.ptr ? str.ptr : "", str.len)
           : p->type == DPS_PARAM_BOOL ? json_boolean (num != 0)
           : p->type == DPS_PARAM_I64  ? json_integer ((json_int_t)num)
                                       : json_real (num);
}

DpsStatus dps__adapter_args (const DpsTrainer *t, json_t **out, DpsError *err)
{
    const DpsAdapter *adapter;
    double num[DPS_PARAMS_MAX];
    DpsStr str[DPS_PARAMS_MAX];
    *out = NULL;
    if (!strcmp (t->recipe->adapter, "lora") || !strcmp (t->recipe->adapter, "dora")) /* PEFT's own keys say it all */
        return DPS_OK;
    DPS_TRY (find_plugin (t, t->recipe, &adapter, num, str, err));
    const DpsAdapterInfo *info = adapter->describe ();
    int bad = !(*out = json_object ());
    for (uint32_t i = 0; i < info->n_params; i++)
        bad |= json_object_set_new (*out, info->params[i]->name, param_json (info->params[i], num[i], str[i])) != 0;
    if (!bad)
        return DPS_OK;
    json_decref (*out);
    *out = NULL;
    return dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
}

DpsStatus dps__attach_fresh (const DpsTrainer *t, DpsSession *s, const DpsRecipe *r, DpsError *err)
{
    const DpsAdapter *adapter;
    double num[DPS_PARAMS_MAX];
    DpsStr str[DPS_PARAMS_MAX];
    DpsTargets *targets = NULL;
    Patterns patterns = {0};
    DPS_TRY (find_plugin (t, r, &adapter, num, str, err));
    const DpsAdapterInfo *info = adapter->describe ();
    DpsStatus st = wanted_targets (r, &targets, err);
    if (st == DPS_OK)
        st = make_patterns (r, info, &patterns, err);
    const DpsAttach attach = {
        .adapter = adapter, .num = num, .str = str, .targets = targets, .pattern = apply_patterns, .ctx = &patterns, .trainable = 1};
    if (st == DPS_OK)
        st = dps_model_attach (&s->model, &attach, err);
    if (st == DPS_OK)
        st = dps_targets_check (targets, err);
    if (st == DPS_OK)
        st = check_patterns (r, &patterns, err);
    if (st == DPS_OK)
        st = check_ranks (&s->model, r, err);
    dps_pattern_map_free (patterns.ranks);
    dps_pattern_map_free (patterns.alphas);
    dps_targets_free (targets);
    return st == DPS_ERR_NOT_FOUND ? DPS_ERR_USAGE : st;
}

/* With adapter_init the configuration is the file's. What the recipe says besides must say the same; only the dropout is its own. */
static DpsStatus agree_with_init (const DpsTrainer *t, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    const DpsPeftConfig *c = &t->session.adapter->config;
    const struct {
        DpsKeyId key;
        double mine, its;
    } numbers[] = {{DPS_KEY_lora_r, (double)r->lora_r, (double)c->r},
                   {DPS_KEY_lora_alpha, r->lora_alpha, c->lora_alpha},
                   {DPS_KEY_use_rslora, r->use_rslora, c->use_rslora},
                   {DPS_KEY_use_dora, r->use_dora, c->use_dora}};
    if (dps_recipe_given (r, DPS_KEY_adapter) && c->plugin && strcmp (r->adapter, c->plugin) != 0)
        return dps_fail (err, DPS_ERR_USAGE, "%s: adapter is %s, and %s in the adapter_init: remove it, or set it to that",
                         dps_recipe_where (r, DPS_KEY_adapter), r->adapter, c->plugin);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (dps_recipe_given (r, numbers[i].key) && numbers[i].mine != numbers[i].its && !(c->plugin && numbers[i].its == 0))
            return dps_fail (err, DPS_ERR_USAGE, "%s: %s is %g, and %g in the adapter_init: remove it, or set it to that",
                             dps_recipe_where (r, numbers[i].key), dps_recipe_key_name (numbers[i].key), numbers[i].mine, numbers[i].its);
    static const DpsKeyId others[] = {DPS_KEY_lora_exclude_modules, DPS_KEY_rank_pattern, DPS_KEY_alpha_pattern, DPS_KEY_adapter_args};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (dps_recipe_given (r, others[i]))
            return dps_fail (err, DPS_ERR_USAGE, "%s: %s belongs to a new adapter, and adapter_init brings its own: remove one",
                             dps_recipe_where (r, others[i]), dps_recipe_key_name (others[i]));
    if (c->targets.modules_to_save.n && dps_recipe_given (r, DPS_KEY_lora_modules_to_save))
        return dps_fail (err, DPS_ERR_USAGE, "%s: lora_modules_to_save: the adapter_init brings its own: remove it",
                         dps_recipe_where (r, DPS_KEY_lora_modules_to_save));
    if (!dps_recipe_given (r, DPS_KEY_lora_target_modules))
        return DPS_OK;
    DpsTargets *targets = NULL;
    DpsStatus st = wanted_targets (r, &targets, err);
    for (size_t i = 0; st == DPS_OK && i < t->session.model.n_base; i++) {
        const DpsWeight *w = &t->session.model.weights[i];
        char module[1024];
        if (w->role != DPS_WEIGHT_LINEAR)
            continue;
        snprintf (module, sizeof module, "%.*s", (int)(strlen (w->name) - strlen (".weight")), w->name);
        if (dps_targets_match (targets, module) != (dps_model_site (&t->session.model, i) != NULL))
            st = dps_fail (err, DPS_ERR_USAGE, "%s: lora_target_modules selects other modules than the adapter_init, see %s: remove it",
                           dps_recipe_where (r, DPS_KEY_lora_target_modules), module);
    }
    dps_targets_free (targets);
    return st;
}

DpsStatus dps__trainer_choose (DpsTrainer *t, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    t->is_adapter = r->adapter != NULL;
    if (!t->is_adapter) {
        dps_model_train_all (&t->session.model);
        return DPS_OK;
    }
    for (size_t i = 0; i < t->options->n_under; i++) {
        DPS_TRY (dps__attach_fresh (t, &t->session, t->options->under[i], err));
        DPS_TRY (dps_model_freeze (&t->session.model, err));
    }
    DPS_TRY (r->adapter_init ? agree_with_init (t, err) : dps__attach_fresh (t, &t->session, r, err));
    for (size_t i = 0; i < r->lora_modules_to_save.n; i++)
        DPS_TRY (dps_recipe_named (r, DPS_KEY_lora_modules_to_save,
                                   dps_model_train_module (&t->session.model, r->lora_modules_to_save.items[i], err), err));
    return DPS_OK;
}
