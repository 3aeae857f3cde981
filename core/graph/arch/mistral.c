/* SPDX-License-Identifier: Apache-2.0 */
/* Mistral: Llama with a sliding window on every layer. Source: transformers MistralForCausalLM. */
#include "graph/decoder.h"

static int every_layer (const json_t *config, int64_t layer)
{
    (void)layer;
    return json_is_integer (json_object_get (config, "sliding_window"));
}

static DpsStatus read_mistral (const json_t *config, DpsDecoder *out, DpsError *err)
{
    int64_t window;
    DPS_TRY (dps_config_common (config, out, err));
    DPS_TRY (dps_config_activation (config, "hidden_act", (const char *const[]){"silu", "swish", NULL}, err));
    DPS_TRY (dps_config_int (config, "sliding_window", 0, 1 << 30, 0, &window, err));
    out->n_ropes = 1;
    DPS_TRY (dps_config_rope (config, json_object_get (config, "rope_parameters"), 10000, &out->ropes[0], err));
    return dps_config_layers (config, window, every_layer, out, err);
}

const DpsArch dps_arch_mistral = {"mistral", (const char *const[]){"mistral", NULL}, "{\"sliding_window\": 4096}", read_mistral};
