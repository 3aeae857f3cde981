/* SPDX-License-Identifier: Apache-2.0 */
/* peft_write.c: adapter_config.json and adapter_model.safetensors in the form PEFT saves them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "ckpt/peft.h"

static json_t *text_or_null (const char *s) { return s ? json_string (s) : json_null (); }

static json_t *number (double v) { return v == floor (v) && fabs (v) < 0x1p53 ? json_integer ((json_int_t)v) : json_real (v); }

static json_t *names_or_null (const DpsNames *names)
{
    json_t *list = names->n ? json_array () : json_null ();
    for (size_t i = 0; list && i < names->n; i++)
        if (json_array_append_new (list, json_string (names->names[i]))) {
            json_decref (list);
            return NULL;
        }
    return list;
}

static json_t *layers_or_null (const DpsTargetSpec *t)
{
    json_t *list = t->n_layers ? json_array () : json_null ();
    for (size_t i = 0; list && i < t->n_layers; i++)
        if (json_array_append_new (list, json_integer ((json_int_t)t->layers[i]))) {
            json_decref (list);
            return NULL;
        }
    return list;
}

static json_t *targets (const DpsTargetSpec *t)
{
    return t->all_linear ? json_string ("all-linear") : t->pattern ? json_string (t->pattern) : names_or_null (&t->modules);
}

static json_t *pattern (const json_t *p) { return p ? json_incref ((json_t *)p) : json_object (); }

/* Keys that say nothing of another plugin's adapter. */
static int is_of_lora (const char *key)
{
    static const char *const keys[] = {"fan_in_fan_out", "init_lora_weights", "lora_alpha", "lora_dropout", "r", "use_dora", "use_rslora"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp (key, keys[i]))
            return 1;
    return 0;
}

json_t *dps_peft_config_json (const DpsPeftConfig *c)
{
    const struct {
        const char *key;
        json_t *value;
    } fields[] = {
        {"alpha_pattern", pattern (c->alpha_pattern)},
        {"auto_mapping", json_null ()},
        {"base_model_name_or_path", text_or_null (c->base_model)},
        {"bias", json_string ("none")},
        {"exclude_modules", c->targets.exclude_pattern ? json_string (c->targets.exclude_pattern) : names_or_null (&c->targets.exclude)},
        {"fan_in_fan_out", json_false ()},
        {"inference_mode", json_true ()},
        {"init_lora_weights", json_true ()},
        {"layers_pattern", names_or_null (&c->targets.layers_pattern)},
        {"layers_to_transform", layers_or_null (&c->targets)},
        {"lora_alpha", number (c->lora_alpha)},
        {"lora_dropout", json_real (c->lora_dropout)},
        {"modules_to_save", names_or_null (&c->targets.modules_to_save)},
        {"peft_type", json_string (c->plugin ? DPS_PEFT_OTHER : "LORA")},
        {"peft_version", json_string (DPS_PEFT_VERSION)},
        {"r", json_integer ((json_int_t)c->r)},
        {"rank_pattern", pattern (c->rank_pattern)},
        {"revision", text_or_null (c->revision)},
        {"target_modules", targets (&c->targets)},
        {"task_type", json_string (c->classifies ? "SEQ_CLS" : "CAUSAL_LM")},
        {"trainable_token_indices", json_null ()},
        {"use_dora", json_boolean (c->use_dora)},
        {"use_rslora", json_boolean (c->use_rslora)},
    };
    json_t *o = json_object ();
    int bad = !o;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (c->plugin && is_of_lora (fields[i].key))
            json_decref (fields[i].value);
        else
            bad |= json_object_set_new (o, fields[i].key, fields[i].value) != 0; /* takes the value even when it fails */
    if (c->plugin)
        bad |= json_object_set_new (o, DPS_PEFT_ADAPTER_KEY, json_string (c->plugin)) ||
               json_object_set (o, DPS_PEFT_ARGS_KEY, (json_t *)c->plugin_args);
    if (c->ensure_weight_tying) /* PEFT 0.18 and later */
        bad |= json_object_set_new (o, "ensure_weight_tying", json_true ()) != 0;
    if (bad) {
        json_decref (o);
        return NULL;
    }
    return o;
}

static int by_string (const void *a, const void *b) { return strcmp (*(const char *const *)a, *(const char *const *)b); }

static const char *last_component (const char *path)
{
    const char *dot = strrchr (path, '.');
    return dot ? dot + 1 : path;
}

DpsStatus dps_peft_target_names (const DpsNames *adapted, const DpsNames *others, const char ***out, size_t *out_n, DpsError *err)
{
    const char **names = dps_calloc (adapted->n, sizeof *names);
    size_t n = 0;
    if (!names)
        return dps_fail (err, DPS_ERR_NOMEM, "target_modules: out of memory");
    for (size_t i = 0; i < adapted->n; i++) {
        const char *name = last_component (adapted->names[i]);
        for (size_t k = 0; k < others->n && name != adapted->names[i]; k++)
            if (!strcmp (last_component (others->names[k]), name))
                name = adapted->names[i];
        names[i] = name;
    }
    if (adapted->n)
        qsort (names, adapted->n, sizeof *names, by_string);
    for (size_t i = 0; i < adapted->n; i++)
        if (n == 0 || strcmp (names[n - 1], names[i]) != 0)
            names[n++] = names[i];
    *out = names;
    *out_n = n;
    return DPS_OK;
}

static int by_name (const void *a, const void *b) { return strcmp (((const DpsTensorOut *)a)->name, ((const DpsTensorOut *)b)->name); }

/* In the order of names, whoever hands them over: the same adapter gives the same bytes. */
static DpsTensorOut *sorted (const DpsTensorOut *tensors, size_t n)
{
    DpsTensorOut *copy = dps_calloc (n, sizeof *copy);
    if (copy && n) {
        memcpy (copy, tensors, n * sizeof *copy);
        qsort (copy, n, sizeof *copy, by_name);
    }
    return copy;
}

DpsStatus dps_peft_write (const DpsPeftOut *a, const char *dir, DpsCheckpointWriter *into, const DpsFormat *format, DpsError *err)
{
    DpsTensorMeta meta[4] = {{.key = "format", .value = "pt"}};
    size_t n_meta = 1;
    DpsTensorOut *list = sorted (a->tensors, a->n);
    json_t *j = dps_peft_config_json (a->config);
    DpsBuf text = {0};
    DpsStatus st = DPS_OK;
    if (a->base_sha256)
        meta[n_meta++] = (DpsTensorMeta){.key = DPS_PEFT_BASE_KEY, .value = a->base_sha256};
    if (a->under)
        meta[n_meta++] = (DpsTensorMeta){.key = DPS_PEFT_UNDER_KEY, .value = a->under};
    if (!list || !j || dps_json_write (&text, j, 2) || dps_buf_str (&text, "\n"))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", DPS_CKPT_ADAPTER);
    else if (into) {
        st = dps_ckpt_add_tensors (into, DPS_CKPT_ADAPTER, list, a->n, meta, n_meta, err);
        if (st == DPS_OK)
            st = dps_ckpt_add_bytes (into, DPS_CKPT_ADAPTER_CONFIG, text.data, text.len, err);
    } else if ((st = dps_mkdirs (dir, err)) == DPS_OK) {
        meta[n_meta++] = (DpsTensorMeta){.key = DPS_CKPT_ADAPTER_CONFIG, .value = text.data, .len = text.len};
        st = dps_tensors_write (format, dir, list, a->n, meta, n_meta, err);
    }
    dps_buf_free (&text);
    dps_free (list);
    json_decref (j);
    return st;
}
