/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gemma 3 (text): four norms a layer, norms of q and k, two rope tables (full and sliding layers). Source: transformers Gemma3ForCausalLM.
 * attn_logit_softcapping is a key of the configuration that the reference reads and never applies; so it is here.
 * Classic layout: layer i is full when (i + 1) % sliding_window_pattern == 0; rope_local_base_freq is the sliding layers' theta.
 */
#include <math.h>

#include "graph/decoder.h"

enum { ROPE_FULL = 0, ROPE_SLIDING = 1 };

static int by_pattern (const json_t *config, int64_t layer)
{
    const json_t *p = json_object_get (config, "sliding_window_pattern");
    if (!p)
        p = json_object_get (config, "_sliding_window_pattern");
    json_int_t pattern = json_is_integer (p) ? json_integer_value (p) : 6;
    return (layer + 1) % pattern != 0;
}

static DpsStatus read_ropes (const json_t *config, DpsDecoder *out, DpsError *err)
{
    const json_t *nested = json_object_get (config, "rope_parameters");
    out->n_ropes = 2;
    if (json_is_object (nested)) {
        DPS_TRY (dps_config_rope (config, json_object_get (nested, "full_attention"), 1e6, &out->ropes[ROPE_FULL], err));
        return dps_config_rope (config, json_object_get (nested, "sliding_attention"), 1e4, &out->ropes[ROPE_SLIDING], err);
    }
    DPS_TRY (dps_config_rope (config, NULL, 1e6, &out->ropes[ROPE_FULL], err));
    out->ropes[ROPE_SLIDING] = (DpsRope){.factor = 1};
    return dps_config_positive (config, "rope_local_base_freq", 1e4, &out->ropes[ROPE_SLIDING].theta, err);
}

static DpsStatus read_gemma3 (const json_t *config, DpsDecoder *out, DpsError *err)
{
    int64_t window;
    double scalar;
    DPS_TRY (dps_config_common (config, out, err));
    DPS_TRY (dps_config_activation (config, "hidden_activation", (const char *const[]){"gelu_pytorch_tanh", NULL}, err));
    DPS_TRY (dps_config_int (config, "head_dim", 2, 8192, 256, &out->head_dim, err));
    DPS_TRY (dps_config_int (config, "sliding_window", 0, 1 << 30, 0, &window, err));
    DPS_TRY (dps_config_positive (config, "query_pre_attn_scalar", 256, &scalar, err));
    DPS_TRY (dps_config_positive (config, "final_logit_softcapping", 0, &out->final_softcap, err));
    if (dps_config_bool (config, "use_bidirectional_attention", 0))
        return dps_fail (err, DPS_ERR_UNSUPPORTED,
                         "config.json: \"use_bidirectional_attention\" is true: an embedding model, not a decoder");
    out->attn_scale = 1 / sqrt (scalar);
    out->embed_scale = sqrt ((double)out->hidden);
    out->norm_offset = 1;
    out->post_norms = 1;
    out->qk_norm = 1;
    out->gate = DPS_OP_geglu;
    out->tied = (uint8_t)dps_config_bool (config, "tie_word_embeddings", 1);
    out->qkv_bias = out->o_bias = (uint8_t)dps_config_bool (config, "attention_bias", 0);
    DPS_TRY (read_ropes (config, out, err));
    DPS_TRY (dps_config_layers (config, window, by_pattern, out, err));
    for (int64_t i = 0; i < out->n_layers; i++)
        out->layers[i].rope = out->layers[i].window ? ROPE_SLIDING : ROPE_FULL;
    return DPS_OK;
}

/* The text_config of Google's multimodal files says only what differs from these. */
static const char defaults[] = "{\"vocab_size\": 262208, \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"sliding_window\": 4096,"
                               " \"max_position_embeddings\": 131072}";

const DpsArch dps_arch_gemma3 = {"gemma3", (const char *const[]){"gemma3_text", "gemma3", NULL}, defaults, read_gemma3};
