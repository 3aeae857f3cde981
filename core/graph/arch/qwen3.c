/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen 3 (dense): per-head norms of q and k. Source: transformers Qwen3ForCausalLM. */
#include "graph/decoder.h"

static int from_max_window_layers (const json_t *config, int64_t layer)
{
    const json_t *first = json_object_get (config, "max_window_layers");
    return dps_config_bool (config, "use_sliding_window", 0) && layer >= (json_is_integer (first) ? json_integer_value (first) : 28);
}

static DpsStatus read_qwen3 (const json_t *config, DpsDecoder *out, DpsError *err)
{
    int64_t window;
    DPS_TRY (dps_config_common (config, out, err));
    DPS_TRY (dps_config_int (config, "head_dim", 2, 8192, 128, &out->head_dim, err));
    DPS_TRY (dps_config_int (config, "sliding_window", 0, 1 << 30, 0, &window, err));
    out->qkv_bias = out->o_bias = (uint8_t)dps_config_bool (config, "attention_bias", 0);
    out->qk_norm = 1;
    out->n_ropes = 1;
    DPS_TRY (dps_config_rope (config, json_object_get (config, "rope_parameters"), 10000, &out->ropes[0], err));
    return dps_config_layers (config, window, from_max_window_layers, out, err);
}

const DpsArch dps_arch_qwen3 = {"qwen3", (const char *const[]){"qwen3", NULL}, read_qwen3};
