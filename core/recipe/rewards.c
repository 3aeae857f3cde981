/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewards.c: reward_funcs: a name, or a list of names and of maps {name, label, weight, …} whose other members are parameters of the reward
 * plugin. A parameter called path or ending in _path is looked for beside the recipe, as paths are; a list or a map reaches the plugin as its
 * JSON text.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "recipe/internal.h"

static DpsStatus no_memory (const DpsRecipeReader *in, const DpsYaml *n)
{
    return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", n->where);
}

static DpsStatus expected (const DpsRecipeReader *in, const DpsYaml *n, const char *key, const char *what)
{
    char found[128];
    return dps_yaml_fail (n, in->err, "%s: expected %s, found %s", key, what, dps_yaml_describe (n, found, sizeof found));
}

static int is_path (const char *name)
{
    size_t len = strlen (name);
    return !strcmp (name, "path") || (len > 5 && !strcmp (name + len - 5, "_path"));
}

/* What metrics and files call a reward: it becomes a part of their keys. */
static int is_label (const char *s)
{
    return *s && strlen (s) <= 40 && !s[strspn (s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")];
}

/* A word that must be a plugin's name or a label. */
static DpsStatus read_word (const DpsRecipeReader *in, const DpsYaml *n, const char *key, char **out)
{
    char *text = NULL;
    DPS_TRY (dps__read_text (in, n, key, &text));
    if (!text || !is_label (text)) {
        dps_free (text);
        return expected (in, n, key, "a name of at most 40 letters, digits and . _ -");
    }
    dps_free (*out);
    *out = text;
    return DPS_OK;
}

static DpsStatus read_argument (const DpsRecipeReader *in, const DpsYaml *item, DpsRecipeReward *r)
{
    char place[600];
    const char *name = item->key->text;
    json_t *value = NULL;
    DPS_TRY (dps_yaml_json (item, &value, in->err));
    if (json_object_set_new (r->args, name, value) ||
        json_object_set_new (r->places, name, json_string (dps_yaml_place (item->line ? item->key : item, place, sizeof place))))
        return no_memory (in, item);
    if (!is_path (name) || !json_is_string (value))
        return DPS_OK;
    char *path = NULL;
    DPS_TRY (dps__read_path (in, item, name, &path));
    int bad = json_object_set_new (r->paths, name, json_string (path));
    dps_free (path);
    return bad ? no_memory (in, item) : DPS_OK;
}

static DpsStatus read_one (const DpsRecipeReader *in, const DpsYaml *n, const char *key, DpsRecipeReward *r)
{
    char place[600], field[128];
    r->weight = NAN;
    r->args = json_object ();
    r->paths = json_object ();
    r->places = json_object ();
    r->where = dps_strdup (dps_yaml_place (n, place, sizeof place));
    if (!r->args || !r->paths || !r->places || !r->where)
        return no_memory (in, n);
    if (n->type == DPS_YAML_SCALAR && !dps_yaml_is_null (n))
        return read_word (in, n, key, &r->name);
    if (n->type != DPS_YAML_MAP)
        return expected (in, n, key, "a reward's name, or a map with its name and parameters");
    for (const DpsYaml *item = n->first; item; item = item->next) {
        const char *name = item->key->text;
        snprintf (field, sizeof field, "%s.%.60s", key, name);
        if (!strcmp (name, "name"))
            DPS_TRY (read_word (in, item, field, &r->name));
        else if (!strcmp (name, "label"))
            DPS_TRY (read_word (in, item, field, &r->label));
        else if (strcmp (name, "weight") != 0)
            DPS_TRY (read_argument (in, item, r));
        else if (!dps_yaml_number (item, &r->weight) || !isfinite (r->weight))
            return expected (in, item, field, "a number");
    }
    return r->name ? DPS_OK : dps_yaml_fail (n, in->err, "%s: a reward has no name", key);
}

DpsStatus dps__read_rewards (const DpsRecipeReader *in, const DpsYaml *n, const char *key, DpsRecipeRewards *out)
{
    if (dps_yaml_is_null (n))
        return DPS_OK;
    const DpsYaml *item = n->type == DPS_YAML_LIST ? n->first : n;
    for (; item; item = n->type == DPS_YAML_LIST ? item->next : NULL) {
        char name[64];
        if (DPS_GROW (out->items, out->n, out->capacity))
            return no_memory (in, n);
        out->items[out->n] = (DpsRecipeReward){0};
        snprintf (name, sizeof name, "%s[%zu]", key, out->n);
        out->n++;
        DPS_TRY (read_one (in, item, name, &out->items[out->n - 1]));
    }
    return DPS_OK;
}

void dps__rewards_free (DpsRecipeRewards *r)
{
    for (size_t i = 0; i < r->n; i++) {
        DpsRecipeReward *f = &r->items[i];
        dps_free (f->name);
        dps_free (f->label);
        dps_free (f->where);
        json_decref (f->args);
        json_decref (f->paths);
        json_decref (f->places);
    }
    dps_free (r->items);
    *r = (DpsRecipeRewards){0};
}

int dps__reward_dump (const DpsRecipeReward *r, DpsBuf *out)
{
    const char *name;
    json_t *value;
    int bad = dps_buf_str (out, "{\"name\": ") || dps_json_quote (out, r->name, strlen (r->name));
    if (r->label)
        bad = bad || dps_buf_str (out, ", \"label\": ") || dps_json_quote (out, r->label, strlen (r->label));
    if (!isnan (r->weight))
        bad = bad || dps_buf_str (out, ", \"weight\": ") || dps_json_number (out, r->weight);
    json_object_foreach (r->args, name, value) {
        bad = bad || dps_buf_str (out, ", ") || dps_json_quote (out, name, strlen (name)) || dps_buf_str (out, ": ");
        bad = bad || dps_json_write (out, value, 0);
    }
    return bad || dps_buf_str (out, "}") ? -1 : 0;
}

static const DpsRecipeReward *reward_at (const DpsRewardArgs *a) { return &a->recipe->reward_funcs.items[a->i]; }

/*
 * A reward model that is an adapter lies on the recipe's model unless it says otherwise. Looked at when it is opened: in a chain the stage that
 * writes it has not run when the recipe is read.
 */
static int model_below (DpsRewardArgs *a, const char *name, DpsParamValue *out)
{
    const DpsRecipeReward *r = reward_at (a);
    const char *path = json_string_value (json_object_get (r->paths, "path")), *base = a->recipe->model_name_or_path;
    if (strcmp (name, "base_path") || strcmp (r->name, "model") || !path || !base)
        return 0;
    char *config = dps_path_join (path, "adapter_config.json");
    a->nomem |= !config;
    int adapter = config && dps_is_file (config);
    dps_free (config);
    if (adapter)
        *out = (DpsParamValue){.type = DPS_PARAM_STR, .str = {base, strlen (base)}, .where = r->where};
    return adapter;
}

int dps_recipe_reward_param (void *args, const char *name, DpsParamValue *out)
{
    DpsRewardArgs *a = args;
    const DpsRecipeReward *r = reward_at (a);
    const json_t *path = json_object_get (r->paths, name), *v = path ? path : json_object_get (r->args, name);
    const char *where = json_string_value (json_object_get (r->places, name));
    if (!v || json_is_null (v))
        return model_below (a, name, out);
    dps__param_scalar (v, where ? where : r->where, out);
    if (json_is_object (v) || json_is_array (v)) {
        DpsBuf text = {0};
        a->nomem |= dps_json_write (&text, v, 0) || DPS_GROW (a->texts, a->n, a->capacity);
        if (a->nomem) {
            dps_buf_free (&text);
            return 0;
        }
        a->texts[a->n++] = text.data;
        out->type = DPS_PARAM_STR;
        out->str = (DpsStr){text.data, text.len};
    }
    return 1;
}

void dps_recipe_reward_args_clear (DpsRewardArgs *a)
{
    for (size_t i = 0; i < a->n; i++)
        dps_free (a->texts[i]);
    dps_free (a->texts);
    a->texts = NULL;
    a->n = a->capacity = 0;
}

DpsStatus dps_recipe_reward_known (const DpsRecipe *recipe, size_t i, const DpsParam *const *params, uint32_t n, DpsError *err)
{
    const DpsRecipeReward *r = &recipe->reward_funcs.items[i];
    const char *name, *words[DPS_PARAMS_MAX + 4] = {NULL};
    json_t *value;
    size_t k = 0;
    for (; k < n && k < DPS_PARAMS_MAX; k++)
        words[k] = params[k]->name;
    words[k] = "weight";
    words[k + 1] = "label";
    words[k + 2] = "name";
    json_object_foreach (r->args, name, value) {
        size_t at = 0;
        while (at < k && strcmp (words[at], name) != 0)
            at++;
        if (at < k)
            continue;
        const char *where = json_string_value (json_object_get (r->places, name));
        char place[512], owner[80];
        snprintf (place, sizeof place, "%s: ", where ? where : r->where);
        snprintf (owner, sizeof owner, "reward %s", r->name);
        return dps__no_such_param (place, name, owner, words, err);
    }
    return DPS_OK;
}
