/* SPDX-License-Identifier: Apache-2.0 */
/* Llama 1–3 and what is shaped like them (SmolLM2). Source: transformers LlamaForCausalLM. */
#include "graph/decoder.h"

static DpsStatus read_llama (const json_t *config, DpsDecoder *out, DpsError *err)
{
    DPS_TRY (dps_config_common (config, out, err));
    DPS_TRY (dps_config_activation (config, "hidden_act", (const char *const[]){"silu", "swish", NULL}, err));
    out->qkv_bias = out->o_bias = (uint8_t)dps_config_bool (config, "attention_bias", 0);
    out->mlp_bias = (uint8_t)dps_config_bool (config, "mlp_bias", 0);
    out->n_ropes = 1;
    DPS_TRY (dps_config_rope (config, json_object_get (config, "rope_parameters"), 10000, &out->ropes[0], err));
    return dps_config_layers (config, 0, NULL, out, err);
}

const DpsArch dps_arch_llama = {"llama", (const char *const[]){"llama", NULL}, "{}", read_llama};
