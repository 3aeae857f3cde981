/* SPDX-License-Identifier: Apache-2.0 */
#include "train/session.h"

#include <string.h>

#include "base/file.h"
#include "graph/source_check.h"
#include "infer/tokenizer_source.h"

enum { MAX_GENERATION_CONFIG = 1 << 20 };

static int is_f32 (const DpsSource *source)
{
    DpsTensorInfo t = {.size = sizeof t};
    int64_t at = source ? dps_source_find (source, "model.embed_tokens.weight") : -1;
    return at >= 0 && dps_source_info (source, (size_t)at, &t, NULL) == DPS_OK && t.dtype.len == 3 && !memcmp (t.dtype.ptr, "F32", 3);
}

static int computes_bf16 (const DpsExecDevice *d)
{
    uint64_t bytes;
    uint32_t layout;
    return d->pack && d->pack->query (d->info.device, 64, 64, DPS_DTYPE_BF16, DPS_PACK_FORWARD, &bytes, &layout, NULL) == DPS_OK;
}

DpsStatus dps_session_dtype (const DpsExec *ex, const DpsSource *source, const char *name, uint32_t *out, DpsError *err)
{
    static const struct {
        const char *name;
        uint32_t dtype; /* 0: auto */
    } names[] = {{"auto", 0},
                 {"float32", DPS_DTYPE_F32},
                 {"fp32", DPS_DTYPE_F32},
                 {"f32", DPS_DTYPE_F32},
                 {"bfloat16", DPS_DTYPE_BF16},
                 {"bf16", DPS_DTYPE_BF16}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp (names[i].name, name ? name : "auto")) {
            uint32_t best = computes_bf16 (&ex->devices[0]) && !is_f32 (source) ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
            *out = names[i].dtype ? names[i].dtype : best;
            return DPS_OK;
        }
    return dps_fail (err, DPS_ERR_USAGE, "dtype is '%.40s', expected auto, float32 or bfloat16", name);
}

/* What generation_config.json says ends an answer. A tokenizer has read it (dps_tokenizer_from_folder), a GGUF has none. */
static DpsStatus read_ends (DpsSession *s, DpsError *err)
{
    json_t *config = NULL;
    if (s->tok || dps_source_is_gguf (s->source))
        return DPS_OK;
    char *path = dps_path_join (dps_source_path (s->source), "generation_config.json");
    if (!path)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dps_source_path (s->source));
    DpsStatus st = dps_is_file (path) ? dps_json_file (path, MAX_GENERATION_CONFIG, DPS_JSON_WIDE, &config, err) : DPS_OK;
    dps_decoder_add_ends (&s->model.dec, json_object_get (config, "eos_token_id"));
    json_decref (config);
    dps_free (path);
    return st;
}

static DpsStatus prefer (DpsExec *ex, const json_t *op_devices, DpsError *err)
{
    const char *op;
    json_t *device;
    json_object_foreach ((json_t *)op_devices, op, device) {
        if (!json_is_string (device))
            return dps_fail (err, DPS_ERR_USAGE, "op_devices: %s is not given a device's name", op);
        if (dps_exec_prefer (ex, op, json_string_value (device), err) != DPS_OK) {
            dps_error_prefix (err, "op_devices");
            return DPS_ERR_USAGE;
        }
    }
    return DPS_OK;
}

DpsStatus dps_session_begin (DpsSession *s, const DpsRegistry *reg, const DpsSessionOptions *o, DpsError *err)
{
    int unties;
    *s = (DpsSession){.reg = reg};
    DPS_TRY (dps_recipe_named (o->recipe, DPS_KEY_device, dps_exec_open (&s->ex, reg, o->devices, o->n_devices, err), err));
    s->ex.strict = o->strict_device;
    DPS_TRY (prefer (&s->ex, o->op_devices, err));
    DPS_TRY (dps_recipe_named (o->recipe, DPS_KEY_model_name_or_path, dps_source_open (reg, o->model, &s->source, err), err));
    DPS_TRY (dps__session_open_adapters (s, o, &unties, err));
    if (unties || o->own_head)
        DPS_TRY (dps_source_own_head (s->source, err));
    DPS_TRY (dps_session_dtype (&s->ex, s->source, o->dtype, &s->compute, err));
    DPS_TRY (dps_source_model (s->source, &s->model, err));
    DPS_TRY (dps_source_check (s->source, &s->model, err));
    DPS_TRY (dps_model_quantise (&s->model, s->source, &o->quantise, err));
    DPS_TRY (dps_tokenizer_from_source (reg, s->source, &s->tok, err));
    DPS_TRY (read_ends (s, err));
    DPS_TRY (dps__session_attach (s, o, err));
    if (o->adapter)
        return DPS_OK;
    if (o->value)
        DPS_TRY (dps_model_add_value (&s->model, o->training, err));
    return o->score || (!o->training && dps_source_find (s->source, DPS_SCORE_WEIGHT) >= 0)
               ? dps_model_add_score (&s->model, o->training, err)
               : DPS_OK;
}

/* One tensor of a head, of a model folder that was trained whole; an adapter's replaces it. */
static DpsStatus load_head (DpsSession *s, int32_t weight, DpsError *err)
{
    const DpsWeight *w = &s->model.weights[weight];
    int64_t at = dps_source_find (s->source, w->name), n = dps_weight_elements (w);
    DpsTensorInfo t = {.size = sizeof t};
    s->fresh[weight] = at < 0;
    if (at < 0)
        return DPS_OK;
    DPS_TRY (dps_source_info (s->source, (size_t)at, &t, err));
    if (t.n_elements != (uint64_t)n)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: '%s' has %llu numbers, expected %lld: one label", dps_source_path (s->source), w->name,
                         (unsigned long long)t.n_elements, (long long)n);
    float *values = dps_malloc ((size_t)n, sizeof *values);
    DpsStatus st = values ? dps_source_read (s->source, (size_t)at, 0, t.n_elements, values, err)
                          : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", w->name);
    if (st == DPS_OK)
        st = dps_weights_set (&s->weights, weight, values, err);
    dps_free (values);
    return st;
}

static DpsStatus load_heads (DpsSession *s, DpsError *err)
{
    s->fresh = dps_calloc (s->model.n_weights, sizeof *s->fresh);
    if (!s->fresh)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dps_source_path (s->source));
    for (size_t i = s->model.n_base; i < s->model.n_weights; i++)
        if (dps_model_is_head (&s->model, (int32_t)i))
            DPS_TRY (load_head (s, (int32_t)i, err));
    return DPS_OK;
}

DpsStatus dps_session_init_heads (DpsSession *s, uint64_t seed, DpsError *err)
{
    for (size_t i = s->model.n_base; i < s->model.n_weights; i++)
        if (s->fresh[i])
            DPS_TRY (dps_weights_init_one (&s->weights, (int32_t)i, seed, err));
    return DPS_OK;
}

DpsStatus dps_session_load (DpsSession *s, const DpsSessionOptions *o, int n_moments, DpsError *err)
{
    DPS_TRY (dps_weights_load (&s->weights, &s->ex, &s->model, s->source, s->compute, o->training, n_moments, err));
    DPS_TRY (load_heads (s, err));
    return dps__session_adapter_load (s, err);
}

DpsStatus dps_session_open (DpsSession *s, const DpsRegistry *reg, const DpsSessionOptions *o, DpsError *err)
{
    DPS_TRY (dps_session_begin (s, reg, o, err));
    return dps_session_load (s, o, 0, err);
}

void dps_session_close (DpsSession *s)
{
    if (s->weights.stores)
        dps_weights_free (&s->weights);
    for (size_t i = 0; i < s->n_frozen; i++)
        dps_peft_close (s->frozen[i]);
    dps_free (s->frozen);
    dps_buf_free (&s->under);
    dps_free (s->tensors);
    dps_free (s->fresh);
    dps_peft_close (s->adapter);
    dps_tokenizer_free (s->tok);
    dps_model_free (&s->model);
    dps_source_close (s->source);
    dps_exec_close (&s->ex);
    *s = (DpsSession){0};
}

DpsStatus dps_session_base (DpsSession *s, const DpsDigest **out, DpsError *err)
{
    if (!s->base.hex[0])
        DPS_TRY (dps_source_digest (s->source, &s->base, err));
    *out = &s->base;
    return DPS_OK;
}
