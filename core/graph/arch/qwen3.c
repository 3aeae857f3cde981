/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen 3 (dense): per-head norms of q and k. Source: transformers Qwen3ForCausalLM. */
#include "graph/decoder.h"

static int from_max_window_layers (const json_t *config, int64_t layer)
{
    const json_t *first = json_object_get (config, "max_window_layers");
    return dps_config_bool (config, "use_sliding_window", 0) && json_is_integer (json_object_get (config, "sliding_window")) &&
           json_is_integer (first) && layer >= json_integer_value (first);
}

static DpsStatus read_qwen3 (const json_t *config, DpsDecoder *out, DpsError *err)
{
    int64_t window;
    DPS_TRY (dps_config_common (config, out, err));
    DPS_TRY (dps_config_activation (config, "hidden_act", (const char *const[]){"silu", "swish", NULL}, err));
    DPS_TRY (dps_config_int (config, "head_dim", 2, 8192, 128, &out->head_dim, err));
    DPS_TRY (dps_config_int (config, "sliding_window", 0, 1 << 30, 0, &window, err));
    window = dps_config_bool (config, "use_sliding_window", 0) ? window : 0;
    out->qkv_bias = out->o_bias = (uint8_t)dps_config_bool (config, "attention_bias", 0);
    out->qk_norm = 1;
    out->n_ropes = 1;
    DPS_TRY (dps_config_rope (config, json_object_get (config, "rope_parameters"), 10000, &out->ropes[0], err));
    return dps_config_layers (config, window, from_max_window_layers, out, err);
}

const DpsArch dps_arch_qwen3 = {"qwen3", (const char *const[]){"qwen3", NULL}, "{\"sliding_window\": 4096, \"max_window_layers\": 28}",
                                read_qwen3};
