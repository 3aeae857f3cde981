/* SPDX-License-Identifier: Apache-2.0 */
/* settle.c: what no single key can tell: names of stages and adapters, keys that exclude each other, values that follow from others. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "recipe/internal.h"

static DpsStatus fail_at (const DpsRecipeReader *in, DpsKeyId key, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));
static DpsStatus fail_at (const DpsRecipeReader *in, DpsKeyId key, const char *fmt, ...)
{
    char message[800];
    va_list ap;
    va_start (ap, fmt);
    g_vsnprintf (message, sizeof message, fmt, ap);
    va_end (ap);
    return dps_fail (in->err, DPS_ERR_USAGE, "%s: %s", dps_recipe_where (in->recipe, key), message);
}

static DpsStatus replace (const DpsRecipeReader *in, char **field, const char *text)
{
    char *copy = text ? dps_strdup (text) : NULL;
    if (text && !copy)
        return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", in->recipe->file);
    dps_free (*field);
    *field = copy;
    return DPS_OK;
}

static DpsStatus settle_dtype (const DpsRecipeReader *in)
{
    DpsRecipe *r = in->recipe;
    if (r->bf16 < 0)
        return DPS_OK;
    const char *dtype = r->bf16 ? "bfloat16" : "float32";
    if (r->place[DPS_KEY_dtype] && strcmp (r->dtype, "auto") && strcmp (r->dtype, dtype))
        return fail_at (in, DPS_KEY_bf16, "bf16: %s contradicts dtype: %s: remove one", r->bf16 ? "true" : "false", r->dtype);
    r->dtype = dtype;
    return DPS_OK;
}

/* A plugin's name: letters, digits and . _ - */
static int is_name (const char *s) { return *s && !s[strspn (s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")]; }

static DpsStatus settle_stage (const DpsRecipeReader *in)
{
    static const char *const short_names[][2] = {{"pt", "pretrain"}, {"it", "sft"}, {"rm", "reward"}};
    DpsRecipe *r = in->recipe;
    for (size_t i = 0; i < G_N_ELEMENTS (short_names); i++)
        if (!strcmp (r->stage, short_names[i][0]))
            return replace (in, &r->stage, short_names[i][1]);
    if (!is_name (r->stage))
        return fail_at (in, DPS_KEY_stage, "stage: expected pretrain, sft or the name of an objective plugin, found \"%.60s\"", r->stage);
    return DPS_OK;
}

static int ends_with (const char *s, const char *end)
{
    size_t n = s ? strlen (s) : 0, k = strlen (end);
    return n >= k && !strcmp (s + n - k, end);
}

/* adapter: qlora is lora on a base that stays quantised: in the blocks it came in, or in 4 bits. */
static DpsStatus settle_qlora (const DpsRecipeReader *in)
{
    DpsRecipe *r = in->recipe;
    if (!strcmp (r->quantization, "none"))
        return fail_at (in, DPS_KEY_quantization, "quantization: none contradicts adapter: qlora. Hint: adapter: lora");
    if (!strcmp (r->quantization, "auto") && r->load_in_4bit <= 0 && r->load_in_8bit <= 0) {
        if (ends_with (r->model_name_or_path, ".gguf"))
            r->quantization = "gguf";
        else
            r->load_in_4bit = 1;
    }
    return replace (in, &r->adapter, "lora");
}

static DpsStatus settle_quantisation (const DpsRecipeReader *in)
{
    const DpsRecipe *r = in->recipe;
    int four = r->load_in_4bit > 0, eight = r->load_in_8bit > 0;
    DpsKeyId bits = four ? DPS_KEY_load_in_4bit : DPS_KEY_load_in_8bit;
    if (four && eight)
        return fail_at (in, DPS_KEY_load_in_8bit, "load_in_4bit and load_in_8bit are both given: remove one");
    if ((four || eight) && strcmp (r->quantization, "auto"))
        return fail_at (in, bits, "%s contradicts quantization: %s: remove one", dps__keys[bits].name, r->quantization);
    static const DpsKeyId details[] = {DPS_KEY_bnb_4bit_quant_type, DPS_KEY_bnb_4bit_use_double_quant};
    for (size_t i = 0; !four && i < G_N_ELEMENTS (details); i++)
        if (r->place[details[i]])
            return fail_at (in, details[i], "%s is of load_in_4bit, which is not asked for", dps__keys[details[i]].name);
    if ((four || eight || !strcmp (r->quantization, "gguf")) && !r->adapter)
        return fail_at (in, four || eight ? bits : DPS_KEY_quantization,
                        "a quantised base is frozen, and every weight is to be trained. Hint: adapter: lora");
    return DPS_OK;
}

/* An adapter is wanted when any of its keys is given, unless the recipe says otherwise. */
static DpsStatus settle_adapter (const DpsRecipeReader *in)
{
    static const DpsKeyId keys[] = {DPS_KEY_lora_r,
                                    DPS_KEY_lora_alpha,
                                    DPS_KEY_lora_dropout,
                                    DPS_KEY_lora_target_modules,
                                    DPS_KEY_lora_exclude_modules,
                                    DPS_KEY_lora_modules_to_save,
                                    DPS_KEY_use_rslora,
                                    DPS_KEY_use_dora,
                                    DPS_KEY_rank_pattern,
                                    DPS_KEY_alpha_pattern,
                                    DPS_KEY_adapter_args,
                                    DPS_KEY_frozen_adapters,
                                    DPS_KEY_adapter_init};
    DpsRecipe *r = in->recipe;
    const char *name = r->adapter;
    int off = name && (!strcmp (name, "none") || !strcmp (name, "full")), given = -1;
    for (size_t i = 0; i < G_N_ELEMENTS (keys) && given < 0; i++)
        given = r->place[keys[i]] ? (int)keys[i] : -1;
    if (name && !strcmp (name, "qlora")) {
        DPS_TRY (settle_qlora (in));
        name = r->adapter;
    }
    if (name && !is_name (name))
        return fail_at (in, DPS_KEY_adapter, "adapter: expected lora, dora, qlora, none or the name of an adapter plugin, found \"%.60s\"",
                        name);
    if (off && r->use_peft == 1)
        return fail_at (in, DPS_KEY_use_peft, "use_peft: true contradicts adapter: %s", name);
    if ((name && !off) && r->use_peft == 0)
        return fail_at (in, DPS_KEY_use_peft, "use_peft: false contradicts adapter: %s", name);
    off |= r->use_peft == 0;
    if (off && given >= 0)
        return fail_at (in, (DpsKeyId)given, "%s is given, but every weight is to be trained: remove it, or the adapter: none",
                        dps__keys[given].name);
    if (off || (!name && given < 0 && r->use_peft != 1))
        return replace (in, &r->adapter, NULL);
    if (name && strcmp (name, "lora") && strcmp (name, "dora"))
        return r->use_dora ? fail_at (in, DPS_KEY_use_dora, "use_dora: true contradicts adapter: %s", name) : DPS_OK;
    if (r->use_dora && name && !strcmp (name, "lora"))
        return replace (in, &r->adapter, "dora");
    r->use_dora |= name && !strcmp (name, "dora");
    return name ? DPS_OK : replace (in, &r->adapter, r->use_dora ? "dora" : "lora");
}

/* Keys that are parameters of the objective become objective_args. */
static DpsStatus settle_params (const DpsRecipeReader *in)
{
    DpsRecipe *r = in->recipe;
    const char *name;
    json_t *value;
    json_object_foreach (r->params, name, value) {
        if (json_object_get (r->objective_args, name))
            return fail_at (in, (DpsKeyId)dps__key_find (name), "%s is given, and in objective_args too: remove one", name);
        if ((!r->objective_args && !(r->objective_args = json_object ())) || json_object_set (r->objective_args, name, value))
            return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", r->file);
    }
    return DPS_OK;
}

/* Members of a map that is there, or gone with it: 0, or -1 when out of memory. */
static int put_path (DpsRecipeReward *f, const char *name, const char *path)
{
    return json_object_set_new (f->args, name, json_string (path)) || json_object_set_new (f->paths, name, json_string (path));
}

/* reward_model: PATH is one more of reward_funcs. */
static DpsStatus settle_reward_models (const DpsRecipeReader *in)
{
    DpsRecipe *r = in->recipe;
    DpsRecipeRewards *all = &r->reward_funcs;
    int bad = r->reward_model && DPS_GROW (all->items, all->n, all->capacity);
    if (r->reward_model && !bad) {
        DpsRecipeReward *f = &all->items[all->n++];
        *f = (DpsRecipeReward){.weight = NAN, .name = dps_strdup ("model"), .label = dps_strdup ("reward_model")};
        f->where = dps_strdup (dps_recipe_where (r, DPS_KEY_reward_model));
        f->args = json_object ();
        f->paths = json_object ();
        f->places = json_object ();
        bad = !f->name || !f->label || !f->where || !f->places || put_path (f, "path", r->reward_model);
    }
    return bad ? dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", r->file) : DPS_OK;
}

static DpsStatus settle_steps (const DpsRecipeReader *in)
{
    DpsRecipe *r = in->recipe;
    if (r->place[DPS_KEY_warmup_ratio] && r->warmup_ratio > 0) {
        if (r->warmup_steps > 0)
            return fail_at (in, DPS_KEY_warmup_ratio, "warmup_steps and warmup_ratio are both given: remove one");
        r->warmup_steps = r->warmup_ratio < 1 ? r->warmup_ratio : 0.9999999999;
    }
    if (r->warmup_steps >= 1 && r->warmup_steps != floor (r->warmup_steps))
        return fail_at (in, DPS_KEY_warmup_steps, "warmup_steps: expected a whole number, or a share below 1, found %g", r->warmup_steps);
    if (r->max_steps == 0)
        return fail_at (in, DPS_KEY_max_steps, "max_steps: expected at least 1, or -1 to count epochs, found 0");
    if (r->eval_steps == 0)
        r->eval_steps = r->logging_steps;
    if (r->data_seed < 0)
        r->data_seed = r->seed;
    if (r->eval_on_start && !r->eval_datasets.n)
        return fail_at (in, DPS_KEY_eval_on_start, "eval_on_start needs eval_datasets");
    if (strcmp (r->eval_strategy, "no") && !r->eval_datasets.n)
        return fail_at (in, DPS_KEY_eval_strategy, "eval_strategy: %s needs eval_datasets", r->eval_strategy);
    return DPS_OK;
}

static DpsStatus settle_best (const DpsRecipeReader *in)
{
    DpsRecipe *r = in->recipe;
    if (!r->metric_for_best_model)
        DPS_TRY (replace (in, &r->metric_for_best_model, dps_recipe_samples (r) ? "eval_reward" : "eval_loss"));
    else if (strncmp (r->metric_for_best_model, "eval_", 5)) {
        char *full = dps_strf ("eval_%s", r->metric_for_best_model);
        if (!full)
            return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", r->file);
        dps_free (r->metric_for_best_model);
        r->metric_for_best_model = full;
    }
    if (r->greater_is_better < 0)
        r->greater_is_better = !g_str_has_suffix (r->metric_for_best_model, "loss");
    if (!r->load_best_model_at_end)
        return DPS_OK;
    if (!strcmp (r->eval_strategy, "no"))
        return fail_at (in, DPS_KEY_load_best_model_at_end, "load_best_model_at_end needs eval_strategy: steps or epoch");
    if (!strcmp (r->save_strategy, "no"))
        return fail_at (in, DPS_KEY_load_best_model_at_end, "load_best_model_at_end needs save_strategy: steps or epoch");
    if (strcmp (r->eval_strategy, r->save_strategy))
        return fail_at (in, DPS_KEY_load_best_model_at_end,
                        "load_best_model_at_end needs eval_strategy and save_strategy alike, found %s and %s", r->eval_strategy,
                        r->save_strategy);
    if (!strcmp (r->eval_strategy, "steps") && r->save_steps % r->eval_steps)
        return fail_at (in, DPS_KEY_load_best_model_at_end,
                        "load_best_model_at_end needs save_steps to be a multiple of eval_steps, found %lld "
                        "and %lld",
                        (long long)r->save_steps, (long long)r->eval_steps);
    return DPS_OK;
}

static DpsStatus check_reports (const DpsRecipeReader *in)
{
    const DpsStrings *s = &in->recipe->report_to;
    for (size_t i = 0; i < s->n; i++)
        if (!dps__word_in ("tensorboard|none|all", s->items[i], strlen (s->items[i])))
            return fail_at (in, DPS_KEY_report_to,
                            "report_to: '%.60s' is not implemented in this version; there are tensorboard, none, all "
                            "(metrics.jsonl is always written)",
                            s->items[i]);
    return DPS_OK;
}

/* Variables that decide what code is loaded, or whom to trust, are not a recipe's to set. */
static DpsStatus check_env (const DpsRecipeReader *in)
{
    const char *name;
    json_t *value;
    json_object_foreach (in->recipe->env, name, value) {
        if (g_ascii_isdigit (*name) || name[strspn (name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_abcdefghijklmnopqrstuvwxyz")] || !*name)
            return fail_at (in, DPS_KEY_env, "env: '%.60s' is no name of a variable", name);
        if (g_str_has_prefix (name, "LD_") || g_str_has_prefix (name, "DIAPASON_") || !strcmp (name, "PATH") || !strcmp (name, "HOME") ||
            !strcmp (name, "OCL_ICD_VENDORS"))
            return fail_at (in, DPS_KEY_env, "env: a recipe may not set %s: set it in the shell", name);
        if (json_is_object (value) || json_is_array (value) || json_is_null (value))
            return fail_at (in, DPS_KEY_env, "env: %s: expected a word or a number", name);
    }
    return DPS_OK;
}

DpsStatus dps__recipe_settle (const DpsRecipeReader *in)
{
    DPS_TRY (settle_stage (in));
    DPS_TRY (settle_dtype (in));
    DPS_TRY (settle_params (in));
    DPS_TRY (settle_adapter (in));
    DPS_TRY (settle_quantisation (in));
    DPS_TRY (settle_reward_models (in));
    DPS_TRY (settle_steps (in));
    DPS_TRY (dps__settle_rollout (in));
    DPS_TRY (settle_best (in));
    DPS_TRY (check_reports (in));
    return check_env (in);
}
