/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/peft_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

enum { CONFIG_LIMIT = 4 << 20, MAX_LIST = 4096 };

/* One reading: the object, where it came from, and what is filled. */
typedef struct Reader {
    json_t *j;
    const char *where;
    DpsPeftConfig *c;
    size_t n_names; /* used of c->names */
    DpsError *err;
} Reader;

/* Keys that say nothing about the arithmetic, or only how training began. */
static const char *const ignored[] = {"peft_version",      "inference_mode",
                                      "init_lora_weights", "loftq_config",
                                      "megatron_core",     "megatron_config",
                                      "qalora_group_size", "auto_mapping",
                                      "eva_config",        "corda_config",
                                      "lora_ga_config",    "monteclora_config",
                                      "kasa_config",       "base_model_name_or_path",
                                      "revision",          "velora_config"};
/* Keys that are read. */
static const char *const read_keys[] = {"peft_type",          "task_type",           "r",
                                        "lora_alpha",         "lora_dropout",        "use_rslora",
                                        "use_dora",           "target_modules",      "exclude_modules",
                                        "modules_to_save",    "layers_to_transform", "layers_pattern",
                                        "rank_pattern",       "alpha_pattern",       "ensure_weight_tying",
                                        DPS_PEFT_ADAPTER_KEY, DPS_PEFT_ARGS_KEY};
/* Keys that change what the adapter computes and must be absent, null, false or empty ("bias": or "none"). */
static const char *const must_be_off[] = {"bias",
                                          "lora_bias",
                                          "fan_in_fan_out",
                                          "layer_replication",
                                          "trainable_token_indices",
                                          "target_parameters",
                                          "use_qalora",
                                          "use_bdlora",
                                          "alora_invocation_tokens",
                                          "arrow_config",
                                          "auto_map"};

static int listed (const char *key, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp (list[i], key))
            return 1;
    return 0;
}
#define LISTED(key, list) listed (key, list, sizeof list / sizeof *list)

static int is_off (const json_t *v)
{
    return !v || json_is_null (v) || json_is_false (v) || (json_is_array (v) && json_array_size (v) == 0) ||
           (json_is_object (v) && json_object_size (v) == 0);
}

/* A value as a message shows it: the first characters of its JSON. */
static void show (const json_t *v, char *buf, size_t cap)
{
    DpsBuf text = {0};
    if (!v || dps_json_write (&text, v, 0))
        snprintf (buf, cap, "nothing");
    else
        snprintf (buf, cap, "%.60s", text.data);
    dps_buf_free (&text);
}

static DpsStatus wrong (const Reader *r, const char *key, const char *expected)
{
    char found[80];
    show (json_object_get (r->j, key), found, sizeof found);
    return dps_fail (r->err, DPS_ERR_FORMAT, "%s: '%s': expected %s, found %s", r->where, key, expected, found);
}

static DpsStatus no_memory (const Reader *r) { return dps_fail (r->err, DPS_ERR_NOMEM, "%s: out of memory", r->where); }

/* A JSON string without NUL inside, or NULL. */
static const char *plain_string (const json_t *v)
{
    const char *s = json_string_value (v);
    return s && strlen (s) == json_string_length (v) ? s : NULL;
}

static DpsStatus check_keys (const Reader *r)
{
    const char *key;
    json_t *v;
    json_object_foreach (r->j, key, v) {
        int is_none = !strcmp (key, "bias") && json_is_string (v) && !strcmp (json_string_value (v), "none");
        if (LISTED (key, must_be_off) && !is_off (v) && !is_none) {
            char found[80];
            show (v, found, sizeof found);
            return dps_fail (r->err, !strcmp (key, "auto_map") ? DPS_ERR_POLICY : DPS_ERR_UNSUPPORTED, "%s: '%s' is %s, which %s", r->where,
                             key, found, !strcmp (key, "auto_map") ? "asks to load code; that is never done" : "is not implemented");
        }
        if (!LISTED (key, must_be_off) && !LISTED (key, ignored) && !LISTED (key, read_keys) && !is_off (v))
            dps_log (DPS_LOG_WARNING, "%s: '%.60s' is not known and not used", r->where, key);
    }
    return DPS_OK;
}

/* PEFT names a class here when it saved without a task type; a class of another library would be code to load. */
static DpsStatus check_auto_mapping (const Reader *r)
{
    const json_t *v = json_object_get (r->j, "auto_mapping");
    const char *library = plain_string (json_object_get (v, "parent_library"));
    if (is_off (v) || (library && !strncmp (library, "transformers.", 13)))
        return DPS_OK;
    char found[80];
    show (v, found, sizeof found);
    return dps_fail (r->err, DPS_ERR_POLICY, "%s: 'auto_mapping' is %s: code outside transformers is never loaded", r->where, found);
}

/* These initialisations change the base's weights too, so A and B alone do not describe the result. */
static DpsStatus check_init (const Reader *r)
{
    static const char *const moved[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const char *init = plain_string (json_object_get (r->j, "init_lora_weights"));
    for (size_t i = 0; init && i < sizeof moved / sizeof *moved; i++)
        if (!strncmp (init, moved[i], strlen (moved[i])))
            return dps_fail (r->err, DPS_ERR_UNSUPPORTED,
                             "%s: 'init_lora_weights' is '%.40s', which moves weights out of the base. Hint: save it with PEFT's "
                             "path_initial_model_for_weight_conversion",
                             r->where, init);
    return DPS_OK;
}

/* An adapter plugin of that name and its parameters, which it checks itself. */
static DpsStatus read_plugin (const Reader *r)
{
    DpsPeftConfig *c = r->c;
    c->plugin = plain_string (json_object_get (r->j, DPS_PEFT_ADAPTER_KEY));
    c->plugin_args = json_object_get (r->j, DPS_PEFT_ARGS_KEY);
    if (!c->plugin || !*c->plugin)
        return wrong (r, DPS_PEFT_ADAPTER_KEY, "the name of an adapter plugin");
    if (!json_is_object (c->plugin_args))
        return wrong (r, DPS_PEFT_ARGS_KEY, "an object: its parameters");
    c->r = json_integer_value (json_object_get (c->plugin_args, "r"));
    c->lora_alpha = json_number_value (json_object_get (c->plugin_args, "alpha"));
    c->lora_dropout = json_number_value (json_object_get (c->plugin_args, "dropout"));
    return DPS_OK;
}

static DpsStatus read_kind (const Reader *r, int *out_classifies)
{
    const json_t *task = json_object_get (r->j, "task_type");
    const char *kind = plain_string (json_object_get (r->j, "peft_type")), *name = plain_string (task);
    if (kind && !strcmp (kind, DPS_PEFT_OTHER))
        DPS_TRY (read_plugin (r));
    else if (!kind || strcmp (kind, "LORA") != 0)
        return wrong (r, "peft_type", "\"LORA\"");
    if (task && !json_is_null (task) && !(name && (!strcmp (name, "CAUSAL_LM") || !strcmp (name, "SEQ_CLS"))))
        return wrong (r, "task_type", "\"CAUSAL_LM\", \"SEQ_CLS\" or null");
    *out_classifies = name && !strcmp (name, "SEQ_CLS");
    return DPS_OK;
}

static DpsStatus read_flag (const Reader *r, const char *key, int *out)
{
    const json_t *v = json_object_get (r->j, key);
    if (v && !json_is_null (v) && !json_is_boolean (v))
        return wrong (r, key, "true or false");
    *out = json_is_true (v);
    return DPS_OK;
}

static DpsStatus read_numbers (const Reader *r)
{
    const json_t *rank = json_object_get (r->j, "r"), *alpha = json_object_get (r->j, "lora_alpha"),
                 *p = json_object_get (r->j, "lora_dropout");
    DpsPeftConfig *c = r->c;
    if (c->plugin)
        return read_flag (r, "ensure_weight_tying", &c->ensure_weight_tying);
    c->r = rank ? json_integer_value (rank) : 8; /* PEFT's defaults */
    c->lora_alpha = alpha ? json_number_value (alpha) : 8;
    c->lora_dropout = json_number_value (p);
    if ((rank && !json_is_integer (rank)) || c->r < 1 || c->r > DPS_PEFT_MAX_RANK)
        return wrong (r, "r", "a whole number from 1 to 65536");
    if ((alpha && !json_is_number (alpha)) || !(c->lora_alpha > 0 && c->lora_alpha <= 1e9))
        return wrong (r, "lora_alpha", "a number above 0, at most 1e9");
    if ((p && !json_is_number (p)) || !(c->lora_dropout >= 0 && c->lora_dropout < 1))
        return wrong (r, "lora_dropout", "a number from 0 to below 1");
    DPS_TRY (read_flag (r, "use_rslora", &c->use_rslora));
    DPS_TRY (read_flag (r, "ensure_weight_tying", &c->ensure_weight_tying));
    return read_flag (r, "use_dora", &c->use_dora);
}

/* A list of names, or one string where text is not NULL; absent, null or empty is none. */
static DpsStatus read_names (Reader *r, const char *key, DpsNames *list, const char **text)
{
    const json_t *v = json_object_get (r->j, key);
    if (text && json_is_string (v)) {
        *text = plain_string (v);
        return *text && **text ? DPS_OK : wrong (r, key, "a list of names or a regular expression");
    }
    if (v && !json_is_null (v) && !json_is_array (v))
        return wrong (r, key, text ? "a list of names or a regular expression" : "a list of names");
    *list = (DpsNames){r->c->names + r->n_names, json_array_size (v)};
    for (size_t i = 0; i < list->n; i++) {
        const char *name = plain_string (json_array_get (v, i));
        if (!name || !*name)
            return wrong (r, key, "names");
        r->c->names[r->n_names++] = name;
    }
    return DPS_OK;
}

static DpsStatus read_layers (Reader *r)
{
    const json_t *v = json_object_get (r->j, "layers_to_transform");
    size_t n = json_is_integer (v) ? 1 : json_array_size (v);
    if (v && !json_is_null (v) && !json_is_integer (v) && !json_is_array (v))
        return wrong (r, "layers_to_transform", "a layer number or a list of them");
    if (n > MAX_LIST)
        return dps_fail (r->err, DPS_ERR_LIMIT, "%s: 'layers_to_transform' has %zu numbers; at most %d are allowed", r->where, n, MAX_LIST);
    r->c->layers = dps_calloc (n, sizeof *r->c->layers);
    if (!r->c->layers)
        return no_memory (r);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_integer (v) ? v : json_array_get (v, i);
        if (!json_is_integer (item) || json_integer_value (item) < 0)
            return wrong (r, "layers_to_transform", "layer numbers, 0 or more");
        r->c->layers[i] = json_integer_value (item);
    }
    r->c->targets.layers = r->c->layers;
    r->c->targets.n_layers = n;
    return DPS_OK;
}

static DpsStatus read_targets (Reader *r)
{
    static const char *const lists[] = {"target_modules", "exclude_modules", "modules_to_save", "layers_pattern"};
    DpsTargetSpec *t = &r->c->targets;
    const char *text = NULL, *layers_pattern = NULL;
    size_t n = 1;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        n += json_array_size (json_object_get (r->j, lists[i]));
    if (n > MAX_LIST)
        return dps_fail (r->err, DPS_ERR_LIMIT, "%s: %zu module names; at most %d are allowed", r->where, n, MAX_LIST);
    if (!(r->c->names = dps_calloc (n, sizeof *r->c->names)))
        return no_memory (r);
    DPS_TRY (read_names (r, "target_modules", &t->modules, &text));
    DPS_TRY (read_names (r, "exclude_modules", &t->exclude, &t->exclude_pattern));
    DPS_TRY (read_names (r, "modules_to_save", &t->modules_to_save, NULL));
    DPS_TRY (read_names (r, "layers_pattern", &t->layers_pattern, &layers_pattern));
    if (layers_pattern) {
        r->c->names[r->n_names] = layers_pattern;
        t->layers_pattern = (DpsNames){r->c->names + r->n_names++, 1};
    }
    t->all_linear = text && !strcasecmp (text, "all-linear");
    t->pattern = t->all_linear ? NULL : text;
    return read_layers (r);
}

static DpsStatus compile (const Reader *r)
{
    DpsPeftConfig *c = r->c;
    DpsTargets *check = NULL;
    char *ranks = dps_strf ("%s: rank_pattern", r->where), *alphas = dps_strf ("%s: alpha_pattern", r->where);
    c->rank_pattern = json_object_get (r->j, "rank_pattern");
    c->alpha_pattern = json_object_get (r->j, "alpha_pattern");
    c->rank_pattern = json_is_null (c->rank_pattern) ? NULL : c->rank_pattern;
    c->alpha_pattern = json_is_null (c->alpha_pattern) ? NULL : c->alpha_pattern;
    DpsStatus st = ranks && alphas ? DPS_OK : no_memory (r);
    if (st == DPS_OK)
        st = dps_pattern_map_new (c->rank_pattern, ranks, 1, DPS_PEFT_MAX_RANK, &c->ranks, r->err);
    if (st == DPS_OK)
        st = dps_pattern_map_new (c->alpha_pattern, alphas, 1e-9, 1e9, &c->alphas, r->err);
    dps_free (ranks);
    dps_free (alphas);
    /* Compile the targets once now, so that a bad expression is an error of this file and not of its first use. */
    DpsTargetSpec spec = c->targets;
    spec.where = r->where;
    if (st == DPS_OK)
        st = dps_targets_new (&spec, &check, r->err);
    dps_targets_free (check);
    return st;
}

static DpsStatus read_all (Reader *r)
{
    if (!json_is_object (r->j))
        return dps_fail (r->err, DPS_ERR_FORMAT, "%s: expected a JSON object", r->where);
    DPS_TRY (check_keys (r));
    DPS_TRY (check_auto_mapping (r));
    DPS_TRY (read_kind (r, &r->c->classifies));
    DPS_TRY (check_init (r));
    DPS_TRY (read_numbers (r));
    DPS_TRY (read_targets (r));
    r->c->base_model = plain_string (json_object_get (r->j, "base_model_name_or_path"));
    r->c->revision = plain_string (json_object_get (r->j, "revision"));
    return compile (r);
}

DpsStatus dps_peft_config_parse (const char *data, size_t len, const char *where, DpsPeftConfig *out, DpsError *err)
{
    DpsPeftConfig c = {0};
    DPS_TRY (dps_json_parse (data, len, where, 1, DPS_JSON_UNIQUE | DPS_JSON_WIDE, &c.json, err));
    Reader r = {.j = c.json, .where = where, .c = &c, .err = err};
    DpsStatus st = read_all (&r);
    if (st != DPS_OK)
        dps_peft_config_free (&c);
    else
        *out = c;
    return st;
}

DpsStatus dps_peft_config_read (const char *path, DpsPeftConfig *out, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = dps_file_read (path, CONFIG_LIMIT, &text, err);
    if (st == DPS_OK)
        st = dps_peft_config_parse (text.data, text.len, path, out, err);
    dps_buf_free (&text);
    return st;
}

void dps_peft_config_free (DpsPeftConfig *c)
{
    dps_pattern_map_free (c->ranks);
    dps_pattern_map_free (c->alphas);
    dps_free (c->names);
    dps_free (c->layers);
    json_decref (c->json);
    *c = (DpsPeftConfig){0};
}

DpsStatus dps_peft_config_module (const DpsPeftConfig *c, const char *module, int64_t *out_r, double *out_scale, DpsError *err)
{
    double r = dps_pattern_map_get (c->ranks, module, (double)c->r), alpha = dps_pattern_map_get (c->alphas, module, c->lora_alpha);
    if (isnan (r) || isnan (alpha))
        return dps_fail (err, DPS_ERR_LIMIT, "rank_pattern or alpha_pattern: an expression runs too long on '%.200s'", module);
    *out_r = (int64_t)r;
    *out_scale = alpha / (c->use_rslora ? sqrt (r) : r);
    return DPS_OK;
}
