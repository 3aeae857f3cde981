/* SPDX-License-Identifier: Apache-2.0 */
/* args.c: a recipe's values as plugins ask for them. */
#include <string.h>

#include "recipe/internal.h"

/* Where a parameter was given: at its own key, or among the others. */
static const char *where_of (const DpsRecipe *r, DpsKeyId group, const char *name)
{
    int key = group == DPS_KEY_objective_args ? dps__key_find (name) : -1;
    return dps_recipe_where (r, key >= 0 && dps__keys[key].type == DPS_KEY_PARAM && r->place[key] ? (DpsKeyId)key : group);
}

void dps__param_scalar (const json_t *v, const char *where, DpsParamValue *out)
{
    *out = (DpsParamValue){.where = where};
    if (json_is_boolean (v)) {
        out->type = DPS_PARAM_BOOL;
        out->num = json_is_true (v);
    } else if (json_is_string (v)) {
        out->type = DPS_PARAM_STR;
        out->str = (DpsStr){json_string_value (v), json_string_length (v)};
    } else {
        out->type = json_is_integer (v) ? DPS_PARAM_I64 : DPS_PARAM_F64;
        out->num = json_number_value (v);
    }
}

/* A member of objective_args or adapter_args as a plugin's parameter. */
static int param_from_json (const DpsRecipe *r, DpsKeyId key, const char *name, DpsParamValue *out)
{
    const json_t *args = key == DPS_KEY_objective_args ? r->objective_args : r->adapter_args, *v = json_object_get (args, name);
    if (!v || json_is_null (v))
        return 0;
    dps__param_scalar (v, where_of (r, key, name), out);
    return 1;
}

int dps_recipe_objective_param (void *recipe, const char *name, DpsParamValue *out)
{
    const DpsRecipe *r = recipe;
    if (!strcmp (name, "max_completion_length")) { /* a key of its own: what is sampled must be what the objective is told */
        *out = (DpsParamValue){
            .type = DPS_PARAM_I64, .num = (double)r->max_completion_length, .where = dps_recipe_where (r, DPS_KEY_max_completion_length)};
        return 1;
    }
    return param_from_json (recipe, DPS_KEY_objective_args, name, out);
}

int dps_recipe_adapter_param (void *recipe, const char *name, DpsParamValue *out)
{
    const DpsRecipe *r = recipe;
    const struct {
        const char *name;
        uint32_t type;
        double value;
        DpsKeyId key;
    } own[] = {
        {"r", DPS_PARAM_I64, (double)r->lora_r, DPS_KEY_lora_r},
        {"alpha", DPS_PARAM_F64, r->lora_alpha, DPS_KEY_lora_alpha},
        {"dropout", DPS_PARAM_F64, r->lora_dropout, DPS_KEY_lora_dropout},
        {"use_rslora", DPS_PARAM_BOOL, r->use_rslora, DPS_KEY_use_rslora},
    };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (!strcmp (own[i].name, name)) {
            *out = (DpsParamValue){.type = own[i].type, .num = own[i].value, .where = dps_recipe_where (r, own[i].key)};
            return 1;
        }
    return param_from_json (r, DPS_KEY_adapter_args, name, out);
}

/* Parameters of adapters that are keys of the recipe itself. */
static const char *own_key (DpsKeyId key, const char *name)
{
    static const char *const own[][2] = {
        {"r", "lora_r"}, {"alpha", "lora_alpha"}, {"dropout", "lora_dropout"}, {"use_rslora", "use_rslora"}};
    for (size_t i = 0; key == DPS_KEY_adapter_args && i < sizeof own / sizeof *own; i++)
        if (!strcmp (own[i][0], name))
            return own[i][1];
    return NULL;
}

/* A key of the recipe that asks for something, given for an adapter that has no parameter of that meaning. */
static DpsStatus no_stray_key (const DpsRecipe *r, const char *owner, const DpsParam *const *params, uint32_t n, DpsError *err)
{
    const struct {
        const char *param;
        DpsKeyId key;
        int asks;
    } own[] = {{"r", DPS_KEY_lora_r, 1},
               {"alpha", DPS_KEY_lora_alpha, 1},
               {"dropout", DPS_KEY_lora_dropout, r->lora_dropout > 0},
               {"use_rslora", DPS_KEY_use_rslora, r->use_rslora > 0}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (r->place[own[i].key] && own[i].asks && dps_params_index (params, n, own[i].param) == n)
            return dps_fail (err, DPS_ERR_USAGE, "%s: %s is given, and adapter %s has no parameter %s: remove it", r->place[own[i].key],
                             dps__keys[own[i].key].name, owner, own[i].param);
    return DPS_OK;
}

DpsStatus dps__no_such_param (const char *place, const char *name, const char *owner, const char *const *words, DpsError *err)
{
    const char *near = dps_suggest (name, words);
    DpsBuf list = {0};
    int bad = 0;
    for (size_t i = 0; words[i]; i++)
        bad = bad || dps_buf_printf (&list, "%s%s", i ? ", " : "", words[i]);
    DpsStatus st = bad ? dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", place)
                       : dps_fail (err, DPS_ERR_USAGE, "%s'%.60s' is not a parameter of %s%s%s%s; %s%s", place, name, owner,
                                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "",
                                   list.len ? "there are: " : "it has none", list.len ? list.data : "");
    dps_buf_free (&list);
    return st;
}

DpsStatus dps_recipe_args_known (const DpsRecipe *r, DpsKeyId key, const char *owner, const DpsParam *const *params, uint32_t n,
                                 DpsError *err)
{
    const char *group = dps_recipe_key_name (key), *name, *words[DPS_PARAMS_MAX + 1] = {NULL};
    json_t *args = key == DPS_KEY_objective_args ? r->objective_args : r->adapter_args, *value;
    size_t k = 0;
    for (uint32_t i = 0; i < n && i < DPS_PARAMS_MAX; i++)
        if (!own_key (key, params[i]->name))
            words[k++] = params[i]->name;
    if (key == DPS_KEY_adapter_args)
        DPS_TRY (no_stray_key (r, owner, params, n, err));
    json_object_foreach (args, name, value) {
        const char *where = where_of (r, key, name), *own = own_key (key, name);
        const int is_known = dps_params_index (params, n, name) < n;
        if (own && is_known)
            return dps_fail (err, DPS_ERR_USAGE, "%s: %s.%s has a key of its own: %s", where, group, name, own);
        if (!is_known) {
            const int among = !strcmp (where, dps_recipe_where (r, key));
            char place[512];
            snprintf (place, sizeof place, "%s: %s%s", where, among ? group : "", among ? ": " : "");
            return dps__no_such_param (place, name, owner, words, err);
        }
        if (json_is_object (value) || json_is_array (value))
            return dps_fail (err, DPS_ERR_USAGE, "%s: %s.%s: expected a word or a number", where, group, name);
    }
    return DPS_OK;
}
