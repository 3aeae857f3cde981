/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/gguf_names.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Name {
    const char *gguf, *hf;
} Name;

static const Name whole[] = {
    {"token_embd.weight", "model.embed_tokens.weight"}, {"output_norm.weight", "model.norm.weight"}, {"output.weight", "lm_head.weight"}};

/* Behind "blk.N." and "model.layers.N.". */
static const Name in_block[] = {
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_norm", "post_attention_layernorm"},
};
static const Name in_gemma_block[] = {{"post_attention_norm", "post_attention_layernorm"},
                                      {"ffn_norm", "pre_feedforward_layernorm"},
                                      {"post_ffw_norm", "post_feedforward_layernorm"}};

static const char *lookup (const Name *names, size_t n, const char *what, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen (names[i].gguf) == len && !memcmp (names[i].gguf, what, len))
            return names[i].hf;
    return NULL;
}

#define COUNT(a) (sizeof (a) / sizeof *(a))

void dps__gguf_name (const char *arch, DpsStr name, DpsGgufName *out)
{
    char text[128], rest[96];
    unsigned layer;
    int is_gemma = !strncmp (arch, "gemma", 5);
    *out = (DpsGgufName){0};
    if (name.len >= sizeof text)
        return;
    memcpy (text, name.ptr, name.len);
    text[name.len] = '\0';
    const char *hf = lookup (whole, COUNT (whole), text, name.len);
    if (hf)
        snprintf (out->hf, sizeof out->hf, "%s", hf);
    else if (sscanf (text, "blk.%5u.%95s", &layer, rest) == 2) {
        const char *dot = strrchr (rest, '.');
        size_t len = dot ? (size_t)(dot - rest) : strlen (rest);
        hf = is_gemma ? lookup (in_gemma_block, COUNT (in_gemma_block), rest, len) : NULL;
        hf = hf ? hf : lookup (in_block, COUNT (in_block), rest, len);
        if (hf)
            snprintf (out->hf, sizeof out->hf, "model.layers.%u.%s%s", layer, hf, dot ? dot : "");
        int is_q = len == 6 && !memcmp (rest, "attn_q", 6), is_k = len == 6 && !memcmp (rest, "attn_k", 6);
        if (!strcmp (arch, "llama") && (is_q || is_k)) {
            out->fix = DPS_GGUF_UNPERMUTE;
            out->is_key = is_k;
        }
    }
    if (is_gemma && strstr (out->hf, "norm.weight"))
        out->fix = DPS_GGUF_MINUS_ONE;
}

const DpsMeta *dps__gguf_find (const DpsMeta *const *meta, size_t n, const char *key)
{
    size_t len = strlen (key);
    for (size_t i = 0; i < n; i++)
        if (meta[i]->key.len == len && !memcmp (meta[i]->key.ptr, key, len))
            return meta[i];
    return NULL;
}

typedef struct Reader {
    const DpsMeta *const *meta;
    size_t n;
    const char *where, *arch;
    json_t *config;
    DpsStatus status;
    DpsError *err;
} Reader;

static const DpsMeta *find (Reader *r, const char *suffix)
{
    char key[128];
    snprintf (key, sizeof key, "%s.%s", r->arch, suffix);
    return dps__gguf_find (r->meta, r->n, key);
}

static void fail (Reader *r, const char *suffix, const char *what)
{
    if (r->status == DPS_OK)
        r->status = dps_fail (r->err, DPS_ERR_FORMAT, "%s: %s.%s %s", r->where, r->arch, suffix, what);
}

static void put (Reader *r, const char *key, json_t *value)
{
    if (json_object_set_new (r->config, key, value) != 0 && r->status == DPS_OK)
        r->status = dps_fail (r->err, DPS_ERR_NOMEM, "%s: out of memory", r->where);
}

/* A whole number, copied when it is there. An array (one per layer) counts when all entries are equal. */
static void integer (Reader *r, const char *suffix, const char *key, int required)
{
    const DpsMeta *m = find (r, suffix);
    if (!m) {
        if (required)
            fail (r, suffix, "is missing");
        return;
    }
    int is_int = m->type == DPS_META_U64 || m->type == DPS_META_I64;
    uint64_t v = m->v.u;
    if (m->type == DPS_META_ARRAY && (m->elem_type == DPS_META_U64 || m->elem_type == DPS_META_I64) && m->n > 0) {
        const uint64_t *a = m->v.array;
        is_int = 1;
        v = a[0];
        for (uint64_t i = 1; i < m->n; i++)
            is_int &= a[i] == v;
    }
    if (!is_int || v > INT32_MAX)
        fail (r, suffix, "is not a whole number below 2^31, the same for every layer");
    else
        put (r, key, json_integer ((json_int_t)v));
}

/* 1 when it is one that JSON can say. */
static int is_number (Reader *r, const char *suffix, const DpsMeta *m)
{
    if (m->type == DPS_META_F64 && isfinite (m->v.f))
        return 1;
    fail (r, suffix, m->type == DPS_META_F64 ? "is not finite" : "is not a number");
    return 0;
}

static void number (Reader *r, const char *suffix, const char *key)
{
    const DpsMeta *m = find (r, suffix);
    if (m && is_number (r, suffix, m))
        put (r, key, json_real (m->v.f));
}

static void token (Reader *r, const char *name, const char *key)
{
    const DpsMeta *m = dps__gguf_find (r->meta, r->n, name);
    if (m && (m->type == DPS_META_U64 || m->type == DPS_META_I64) && m->v.u <= INT32_MAX)
        put (r, key, json_integer ((json_int_t)m->v.u));
}

/* As llama.cpp reads it: linear where no type is said, the factor under its older name too, and a factor of 0 is none. */
static void rope_scaling (Reader *r)
{
    const char *suffix = find (r, "rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
    const DpsMeta *type = find (r, "rope.scaling.type"), *factor = find (r, suffix);
    DpsStr name = type && type->type == DPS_META_STR ? type->v.s : (DpsStr){"linear", 6};
    if (!factor || (name.len == 4 && !memcmp (name.ptr, "none", 4)))
        return;
    if (is_number (r, suffix, factor) && factor->v.f != 0)
        put (r, "rope_scaling", json_pack ("{s:s%, s:f}", "rope_type", name.ptr, (size_t)name.len, "factor", factor->v.f));
}

/* What this engine would have to compute otherwise than it does: refused by key and value. */
static void refuse_others (Reader *r, uint64_t head_dim)
{
    static const char *const widths[] = {"attention.value_length", "rope.dimension_count"};
    for (size_t i = 0; i < COUNT (widths); i++) {
        const DpsMeta *m = find (r, widths[i]);
        if (m && !(m->type == DPS_META_U64 || m->type == DPS_META_I64 ? m->v.u == head_dim : 0))
            fail (r, widths[i], "is not the width of a head: other widths of values, or rotated in part, are not implemented");
    }
    const DpsMeta *experts = find (r, "expert_count"), *causal = find (r, "attention.causal");
    const DpsMeta *parts = dps__gguf_find (r->meta, r->n, "split.count");
    if (experts && !(experts->type == DPS_META_U64 && experts->v.u == 0))
        fail (r, "expert_count", "is there: mixtures of experts are not implemented");
    if (causal && causal->type == DPS_META_BOOL && !causal->v.u)
        fail (r, "attention.causal", "is false: an embedding model, not a decoder");
    if (parts && parts->type == DPS_META_U64 && parts->v.u > 1 && r->status == DPS_OK)
        r->status = dps_fail (r->err, DPS_ERR_UNSUPPORTED, "%s: one of %llu files of a split GGUF. Hint: llama-gguf-split --merge",
                              r->where, (unsigned long long)parts->v.u);
}

/*
 * Which layers slide. A list says it; a whole number n says all but every n-th. Without either llama.cpp knows 2 for Gemma 2 and 6 for Gemma 3,
 * Mistral (stored as llama, with a window) slides everywhere, and Qwen's files name a window that nothing uses.
 */
static void read_layer_types (Reader *r)
{
    const DpsMeta *pattern = find (r, "attention.sliding_window_pattern");
    json_int_t n = json_integer_value (json_object_get (r->config, "num_hidden_layers"));
    json_int_t every = !strcmp (r->arch, "gemma2") ? 2 : !strcmp (r->arch, "gemma3") ? 6 : !strncmp (r->arch, "qwen", 4) ? 1 : 0;
    const uint8_t *flags = NULL;
    if (json_integer_value (json_object_get (r->config, "sliding_window")) <= 0 && strncmp (r->arch, "gemma", 5) != 0)
        return;
    if (pattern && pattern->type == DPS_META_ARRAY && pattern->elem_type == DPS_META_BOOL && pattern->n == (uint64_t)n)
        flags = pattern->v.array;
    else if (pattern && (pattern->type == DPS_META_U64 || pattern->type == DPS_META_I64) && pattern->v.u <= INT32_MAX)
        every = (json_int_t)pattern->v.u;
    else if (pattern)
        fail (r, "attention.sliding_window_pattern", "is neither a whole number nor one truth value per layer");
    json_t *types = json_array ();
    for (json_int_t i = 0; i < n && n <= 1024; i++) {
        int slides = flags ? flags[i] != 0 : every == 0 || i % every < every - 1;
        json_array_append_new (types, json_string (slides ? "sliding_attention" : "full_attention"));
    }
    put (r, "layer_types", types);
    put (r, "use_sliding_window", json_true ());
}

static void read_gemma3 (Reader *r)
{
    if (!json_object_get (r->config, "rope_local_base_freq"))
        put (r, "rope_local_base_freq", json_real (10000));
    put (r, "hidden_activation", json_string ("gelu_pytorch_tanh"));
}

/*
 * Head widths, and the scalar of Gemma's scores, which is not stored: the head width, but hidden ÷ heads for both 27B (46 and 62 layers, which
 * is how llama.cpp knows them).
 */
static void read_heads (Reader *r)
{
    json_int_t heads = json_integer_value (json_object_get (r->config, "num_attention_heads")),
               width = json_integer_value (json_object_get (r->config, "hidden_size")),
               layers = json_integer_value (json_object_get (r->config, "num_hidden_layers"));
    if (r->status == DPS_OK && (heads == 0 || width == 0))
        r->status = dps_fail (r->err, DPS_ERR_FORMAT, "%s: %s.attention.head_count and %s.embedding_length must not be 0", r->where,
                              r->arch, r->arch);
    if (r->status != DPS_OK)
        return;
    if (!json_object_get (r->config, "num_key_value_heads"))
        put (r, "num_key_value_heads", json_integer (heads));
    if (!json_object_get (r->config, "head_dim"))
        put (r, "head_dim", json_integer (width / heads));
    json_int_t head_dim = json_integer_value (json_object_get (r->config, "head_dim"));
    refuse_others (r, (uint64_t)head_dim);
    int is_27b = (!strcmp (r->arch, "gemma2") && layers == 46) || (!strcmp (r->arch, "gemma3") && layers == 62);
    if (!strncmp (r->arch, "gemma", 5))
        put (r, "query_pre_attn_scalar", json_integer (is_27b ? width / heads : head_dim));
}

static DpsStatus refuse_arch (const Name *known, size_t n, DpsStr arch, const char *where, DpsError *err)
{
    char list[256] = "";
    for (size_t i = 0, at = 0; i < n; i++, at = strlen (list))
        snprintf (list + at, sizeof list - at, "%s%s", i ? ", " : "", known[i].gguf);
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: architecture '%.*s' has no reader; there are: %s", where,
                     (int)(arch.len < 60 ? arch.len : 60), arch.ptr, list);
}

/* Metadata "ARCH.SUFFIX" and the key of config.json that it becomes. */
enum { INTEGER, REQUIRED, NUMBER };
static const struct {
    const char *suffix, *hf;
    int kind;
} keys[] = {
    {"block_count", "num_hidden_layers", REQUIRED},
    {"embedding_length", "hidden_size", REQUIRED},
    {"feed_forward_length", "intermediate_size", REQUIRED},
    {"attention.head_count", "num_attention_heads", REQUIRED},
    {"attention.head_count_kv", "num_key_value_heads", INTEGER},
    {"attention.key_length", "head_dim", INTEGER},
    {"context_length", "max_position_embeddings", INTEGER},
    {"attention.sliding_window", "sliding_window", INTEGER},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NUMBER},
    {"rope.freq_base", "rope_theta", NUMBER},
    {"rope.freq_base_swa", "rope_local_base_freq", NUMBER},
    {"attn_logit_softcapping", "attn_logit_softcapping", NUMBER},
    {"final_logit_softcapping", "final_logit_softcapping", NUMBER},
};

void dps__gguf_reword (DpsStr arch, DpsError *err)
{
    static const char file[] = "config.json: ";
    for (size_t i = 0; i < COUNT (keys); i++) {
        char quoted[64], text[sizeof err->msg];
        snprintf (quoted, sizeof quoted, "\"%s\"", keys[i].hf);
        const char *at = strstr (err->msg, quoted);
        if (!at)
            continue;
        snprintf (text, sizeof text, "%.*s%.*s.%s%s", (int)(at - err->msg), err->msg, (int)arch.len, arch.ptr, keys[i].suffix,
                  at + strlen (quoted));
        memcpy (err->msg, text, sizeof text);
    }
    if (!strncmp (err->msg, file, sizeof file - 1))
        memmove (err->msg, err->msg + sizeof file - 1, strlen (err->msg) - sizeof file + 2);
}

DpsStatus dps__gguf_config (const DpsMeta *const *meta, size_t n, const char *where, int64_t vocab, int tied, json_t **out, DpsError *err)
{
    static const Name types[] = {{"gemma3", "gemma3_text"}, {"gemma2", "gemma2"}, {"llama", "llama"},
                                 {"mistral", "mistral"},    {"qwen2", "qwen2"},   {"qwen3", "qwen3"}};
    const DpsMeta *arch = dps__gguf_find (meta, n, "general.architecture");
    if (!arch || arch->type != DPS_META_STR)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: general.architecture is missing", where);
    const char *type = lookup (types, COUNT (types), arch->v.s.ptr, arch->v.s.len);
    if (!type)
        return refuse_arch (types, COUNT (types), arch->v.s, where, err);
    char name[16];
    snprintf (name, sizeof name, "%.*s", (int)arch->v.s.len, arch->v.s.ptr);
    Reader r = {.meta = meta, .n = n, .where = where, .arch = name, .config = json_object (), .err = err};
    if (!r.config)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    put (&r, "model_type", json_string (type));
    put (&r, "vocab_size", json_integer (vocab));
    put (&r, "tie_word_embeddings", json_boolean (tied));
    for (size_t i = 0; i < COUNT (keys); i++)
        if (keys[i].kind == NUMBER)
            number (&r, keys[i].suffix, keys[i].hf);
        else
            integer (&r, keys[i].suffix, keys[i].hf, keys[i].kind == REQUIRED);
    rope_scaling (&r);
    token (&r, "tokenizer.ggml.bos_token_id", "bos_token_id");
    token (&r, "tokenizer.ggml.eos_token_id", "eos_token_id");
    read_heads (&r);
    read_layer_types (&r);
    if (!strcmp (name, "gemma3"))
        read_gemma3 (&r);
    if (!strcmp (name, "llama") && json_object_get (r.config, "layer_types"))
        put (&r, "model_type", json_string ("mistral"));
    if (r.status != DPS_OK) {
        json_decref (r.config);
        return r.status;
    }
    *out = r.config;
    return DPS_OK;
}
