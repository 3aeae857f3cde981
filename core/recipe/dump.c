/* SPDX-License-Identifier: Apache-2.0 */
/* dump.c: a recipe written back in one canonical spelling, its fingerprint, and its values as plugins ask for them. */
#include <string.h>

#include "recipe/internal.h"

static int dump_names (const DpsStrings *s, DpsBuf *out)
{
    if (s->one)
        return dps_json_quote (out, s->items[0], strlen (s->items[0]));
    int bad = dps_buf_str (out, "[");
    for (size_t i = 0; i < s->n && !bad; i++)
        bad = dps_buf_str (out, i ? ", " : "") || dps_json_quote (out, s->items[i], strlen (s->items[i]));
    return bad || dps_buf_str (out, "]");
}

static int dump_datasets (const DpsRecipeDatasets *d, DpsBuf *out)
{
    int bad = dps_buf_str (out, "[");
    for (size_t i = 0; i < d->n && !bad; i++)
        bad = dps_buf_str (out, i ? ", " : "") || dps__dataset_dump (&d->items[i], out);
    return bad || dps_buf_str (out, "]");
}

int dps__value_dump (const DpsRecipe *r, const DpsKey *key, DpsBuf *out)
{
    const void *field = (const char *)r + key->offset;
    const char *text;
    switch (key->type) {
    case DPS_KEY_BOOL: return dps_buf_str (out, *(const int *)field < 0 ? "null" : *(const int *)field ? "true" : "false");
    case DPS_KEY_INT: return dps_buf_printf (out, "%lld", (long long)*(const int64_t *)field);
    case DPS_KEY_NUM: return dps_json_number (out, *(const double *)field);
    case DPS_KEY_TEXT:
    case DPS_KEY_CHOICE:
    case DPS_KEY_PATH:
    case DPS_KEY_OUT:
        text = *(const char *const *)field;
        return text ? dps_json_quote (out, text, strlen (text)) : dps_buf_str (out, "null");
    case DPS_KEY_NAMES: return dump_names (field, out);
    case DPS_KEY_OBJECT: return *(json_t *const *)field ? dps_json_write (out, *(json_t *const *)field, 0) : dps_buf_str (out, "null");
    case DPS_KEY_DATASETS: return dump_datasets (field, out);
    default: return 0;
    }
}

/* Keys in which the recipe holds something, and that nothing else in it repeats. */
int dps__key_is_dumped (DpsKeyId id)
{
    return dps__keys[id].type != DPS_KEY_FIXED && dps__keys[id].type != DPS_KEY_LATER && id != DPS_KEY_warmup_ratio &&
           id != DPS_KEY_use_peft;
}

static DpsStatus dump (const DpsRecipe *r, int indent, int locked_only, DpsBuf *out, DpsError *err)
{
    for (int i = 0; i < DPS_N_KEYS; i++) {
        const DpsKey *key = &dps__keys[i];
        /* Without an adapter its keys mean nothing, and giving them would ask for one. */
        int idle = !r->adapter && i >= DPS_KEY_lora_r && i <= DPS_KEY_adapter_init;
        if (!dps__key_is_dumped ((DpsKeyId)i) || idle || (locked_only && !key->locked))
            continue;
        if (dps_buf_printf (out, "%*s%s: ", indent, "", key->name) || dps__value_dump (r, key, out) || dps_buf_str (out, "\n"))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", r->file);
    }
    return DPS_OK;
}

DpsStatus dps_recipe_dump (const DpsRecipe *r, int indent, DpsBuf *out, DpsError *err) { return dump (r, indent, 0, out, err); }

DpsStatus dps_recipe_fingerprint (const DpsRecipe *r, DpsDigest *out, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = dump (r, 0, 1, &text, err);
    if (st == DPS_OK)
        st = dps_sha256 (text.data, text.len, out, err);
    dps_buf_free (&text);
    return st;
}

/* A member of objective_args or adapter_args as a plugin's parameter. */
static int param_from_json (const DpsRecipe *r, DpsKeyId key, const char *name, DpsParamValue *out)
{
    const json_t *args = key == DPS_KEY_objective_args ? r->objective_args : r->adapter_args, *v = json_object_get (args, name);
    if (!v || json_is_null (v))
        return 0;
    *out = (DpsParamValue){.where = dps_recipe_where (r, key)};
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
    return 1;
}

int dps_recipe_objective_param (void *recipe, const char *name, DpsParamValue *out)
{
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
