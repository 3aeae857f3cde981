/* SPDX-License-Identifier: Apache-2.0 */
/* dump.c: a recipe written back in one canonical spelling, and its fingerprint. */
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

static int dump_rewards (const DpsRecipeRewards *r, DpsBuf *out)
{
    int bad = dps_buf_str (out, "[");
    for (size_t i = 0; i < r->n && !bad; i++)
        bad = dps_buf_str (out, i ? ", " : "") || dps__reward_dump (&r->items[i], out);
    return bad || dps_buf_str (out, "]");
}

static int dump_numbers (const DpsNumbers *s, DpsBuf *out)
{
    int bad = dps_buf_str (out, "[");
    for (size_t i = 0; i < s->n && !bad; i++)
        bad = dps_buf_str (out, i ? ", " : "") || dps_json_number (out, s->items[i]);
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
    case DPS_KEY_NAMES:
    case DPS_KEY_PATHS: return dump_names (field, out);
    case DPS_KEY_OBJECT: return *(json_t *const *)field ? dps_json_write (out, *(json_t *const *)field, 0) : dps_buf_str (out, "null");
    case DPS_KEY_DATASETS: return dump_datasets (field, out);
    case DPS_KEY_REWARDS: return dump_rewards (field, out);
    case DPS_KEY_NUMBERS: return dump_numbers (field, out);
    default: return 0;
    }
}

/* Keys in which the recipe holds something, and that nothing else in it repeats. */
int dps__key_is_dumped (DpsKeyId id)
{
    const DpsKeyType type = dps__keys[id].type;
    return type != DPS_KEY_FIXED && type != DPS_KEY_LATER && type != DPS_KEY_PARAM && id != DPS_KEY_warmup_ratio && id != DPS_KEY_bf16 &&
           id != DPS_KEY_use_peft && id != DPS_KEY_reward_model && id != DPS_KEY_generation_batch_size;
}

int dps__key_is_idle (const DpsRecipe *r, DpsKeyId id)
{
    if (id >= DPS_KEY_lora_r && id <= DPS_KEY_adapter_init)
        return !r->adapter;
    if (id == DPS_KEY_bnb_4bit_quant_type || id == DPS_KEY_bnb_4bit_use_double_quant)
        return r->load_in_4bit <= 0;
    if (id >= DPS_KEY_num_generations && id <= DPS_KEY_log_completions)
        return !dps_recipe_samples (r);
    return dps_recipe_samples (r) && dps__key_is_for_given_answers (id);
}

static DpsStatus dump (const DpsRecipe *r, int indent, int locked_only, DpsBuf *out, DpsError *err)
{
    for (int i = 0; i < DPS_N_KEYS; i++) {
        const DpsKey *key = &dps__keys[i];
        if (!dps__key_is_dumped ((DpsKeyId)i) || dps__key_is_idle (r, (DpsKeyId)i) || (locked_only && !key->locked))
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
