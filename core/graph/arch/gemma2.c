/* SPDX-License-Identifier: Apache-2.0 */
/* Gemma 2: four norms a layer, softcaps, every other layer slides, the first one does. Source: transformers Gemma2ForCausalLM. */
#include <math.h>

#include "graph/decoder.h"

static int alternate (const json_t *config, int64_t layer)
{
    (void)config;
    return layer % 2 == 0;
}

static DpsStatus read_gemma2 (const json_t *config, DpsDecoder *out, DpsError *err)
{
    int64_t window;
    double scalar;
    DPS_TRY (dps_config_common (config, out, err));
    DPS_TRY (dps_config_activation (config, "hidden_activation", (const char *const[]){"gelu_pytorch_tanh", NULL}, err));
    DPS_TRY (dps_config_int (config, "head_dim", 2, 8192, 256, &out->head_dim, err));
    DPS_TRY (dps_config_int (config, "sliding_window", 0, 1 << 30, 0, &window, err));
    DPS_TRY (dps_config_positive (config, "query_pre_attn_scalar", 256, &scalar, err));
    DPS_TRY (dps_config_positive (config, "attn_logit_softcapping", 0, &out->attn_softcap, err));
    DPS_TRY (dps_config_positive (config, "final_logit_softcapping", 0, &out->final_softcap, err));
    out->attn_scale = 1 / sqrt (scalar);
    out->embed_scale = sqrt ((double)out->hidden);
    out->norm_offset = 1;
    out->post_norms = 1;
    out->gate = DPS_OP_geglu;
    out->tied = (uint8_t)dps_config_bool (config, "tie_word_embeddings", 1);
    out->qkv_bias = out->o_bias = (uint8_t)dps_config_bool (config, "attention_bias", 0);
    out->n_ropes = 1;
    DPS_TRY (dps_config_rope (config, json_object_get (config, "rope_parameters"), 10000, &out->ropes[0], err));
    return dps_config_layers (config, window, alternate, out, err);
}

const DpsArch dps_arch_gemma2 = {"gemma2", (const char *const[]){"gemma2", NULL},
                                 "{\"sliding_window\": 4096, \"attn_logit_softcapping\": 50.0, \"final_logit_softcapping\": 30.0}",
                                 read_gemma2};
