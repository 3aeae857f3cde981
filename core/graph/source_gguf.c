/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_gguf.c: a GGUF file as a model: its tensors under Hugging Face's names, and a config.json made of its metadata and of what stands in its
 * tensors alone (rope factors, biases).
 */
#include <string.h>

#include "base/mem.h"
#include "graph/rope_fit.h"
#include "graph/source_internal.h"

static DpsStatus copy_meta (DpsSource *s, DpsError *err)
{
    uint64_t n;
    DPS_TRY (s->format->info (s->files[0], NULL, &n, err));
    s->meta = dps_calloc (n, sizeof *s->meta);
    s->meta_list = dps_calloc (n, sizeof *s->meta_list);
    if (!s->meta || !s->meta_list)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s->path);
    for (uint64_t i = 0; i < n; i++) {
        s->meta[i].size = sizeof *s->meta;
        DPS_TRY (s->format->meta (s->files[0], i, &s->meta[i], err));
        s->meta_list[i] = &s->meta[i];
    }
    s->n_meta = n;
    return DPS_OK;
}

static DpsStatus list_gguf (DpsSource *s, const char *arch, DpsError *err)
{
    uint64_t n;
    DPS_TRY (s->format->info (s->files[0], &n, NULL, err));
    for (uint64_t i = 0; i < n; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        DpsGgufName name;
        DPS_TRY (s->format->tensor_info (s->files[0], i, &t, err));
        dps__gguf_name (arch, t.name, &name);
        DpsSourceItem item = {.tensor = i, .fix = name.fix, .is_key = name.is_key};
        DPS_TRY (name.hf[0] ? dps__source_add (s, name.hf, strlen (name.hf), item, err)
                            : dps__source_add (s, t.name.ptr, t.name.len, item, err));
    }
    return dps__source_sort (s, NULL, err);
}

/* The llama 3 scaling is stored as one divisor per frequency. */
static DpsStatus rope_factors (DpsSource *s, DpsError *err)
{
    if (dps_source_find (s, "rope_freqs.weight") < 0)
        return DPS_OK;
    DpsTensorInfo t = {.size = sizeof t};
    size_t at = (size_t)dps_source_find (s, "rope_freqs.weight");
    DPS_TRY (dps_source_info (s, at, &t, err));
    json_int_t half = json_integer_value (json_object_get (s->config, "head_dim")) / 2;
    if (half <= 0 || half > 4096 || t.n_elements != (uint64_t)half)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: rope_freqs.weight has %llu elements, expected half the width of a head, %lld", s->path,
                         (unsigned long long)t.n_elements, (long long)half);
    float factors[4096];
    DPS_TRY (dps_source_read (s, at, 0, t.n_elements, factors, err));
    const json_t *theta = json_object_get (s->config, "rope_theta");
    DpsRope rope = {.theta = theta ? json_number_value (theta) : 10000};
    DpsStatus st = dps__rope_fit (factors, (int64_t)t.n_elements, &rope, err);
    if (st != DPS_OK) {
        dps_error_prefix (err, "%s: rope_freqs.weight", s->path);
        return st;
    }
    if (rope.type == DPS_ROPE_LLAMA3 &&
        json_object_set_new (s->config, "rope_scaling",
                             json_pack ("{s:s, s:f, s:f, s:f, s:f}", "rope_type", "llama3", "factor", rope.factor, "low_freq_factor",
                                        rope.low_freq_factor, "high_freq_factor", rope.high_freq_factor, "original_max_position_embeddings",
                                        rope.original_max_position)))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s->path);
    return DPS_OK;
}

/* A GGUF has no keys for biases: they are there or not. */
static DpsStatus note_biases (DpsSource *s, DpsError *err)
{
    static const char *const kinds[][2] = {{"model.layers.0.self_attn.q_proj.bias", "attention_bias"},
                                           {"model.layers.0.mlp.up_proj.bias", "mlp_bias"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (dps_source_find (s, kinds[i][0]) >= 0 && json_object_set_new (s->config, kinds[i][1], json_true ()))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s->path);
    return DPS_OK;
}

DpsStatus dps__source_open_gguf (DpsSource *s, const DpsRegistry *reg, DpsError *err)
{
    s->format = dps_registry_get (reg, DPS_FORMAT_ID, "gguf");
    s->is_gguf = 1;
    if (!s->format)
        return dps_registry_missing (reg, DPS_FORMAT_ID, "gguf", err);
    DPS_TRY (dps__source_open_file (s, s->path, err));
    DPS_TRY (copy_meta (s, err));
    const DpsMeta *arch = dps__gguf_find (s->meta_list, s->n_meta, "general.architecture");
    char name[32] = "";
    if (arch && arch->type == DPS_META_STR && arch->v.s.len < sizeof name)
        memcpy (name, arch->v.s.ptr, arch->v.s.len);
    DPS_TRY (list_gguf (s, name, err));
    int64_t embed = dps_source_find (s, "model.embed_tokens.weight");
    DpsTensorInfo t = {.size = sizeof t};
    if (embed < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: no token_embd.weight: not a language model", s->path);
    DPS_TRY (dps_source_info (s, (size_t)embed, &t, err));
    if (t.rank != 2)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: token_embd.weight has %u dimensions, expected 2", s->path, t.rank);
    DPS_TRY (dps__gguf_config (s->meta_list, s->n_meta, s->path, t.shape[0], dps_source_find (s, "lm_head.weight") < 0, &s->config, err));
    DPS_TRY (note_biases (s, err));
    s->heads = json_integer_value (json_object_get (s->config, "num_attention_heads"));
    s->kv_heads = json_integer_value (json_object_get (s->config, "num_key_value_heads"));
    s->kv_heads = s->kv_heads ? s->kv_heads : s->heads;
    return rope_factors (s, err);
}
