/* SPDX-License-Identifier: Apache-2.0 */
/* config.json in the spellings there are (transformers 4 and 5, multimodal nesting is source.c's), and configurations that contradict themselves. */
#include "unit/graph/decoder_kit.h"

static DpsError err = DPS_ERROR_INIT;

static void test_both_layouts_say_the_same (void)
{
    for (int i = 0; i < N_TINY; i++) {
        DpsDecoder a, b;
        json_t *new = tiny_config (tiny_models[i], "config.json"), *old = tiny_config (tiny_models[i], "config_classic.json");
        CHECK_OK (dps_decoder_read (new, &a, &err));
        CHECK_OK (dps_decoder_read (old, &b, &err));
        check_same_decoder (tiny_models[i], &a, &b);
        json_decref (new);
        json_decref (old);
    }
}

static void test_end_tokens (void)
{
    DpsDecoder d;
    json_t *config = tiny_config ("llama", "config.json");
    json_object_set_new (config, "eos_token_id", json_pack ("[i, i, i]", 2, 7, 9));
    CHECK_OK (dps_decoder_read (config, &d, &err));
    CU_ASSERT (d.eos == 2 && d.n_more_ends == 2 && d.more_ends[0] == 7 && d.more_ends[1] == 9);
    json_object_set_new (config, "eos_token_id", json_integer (3));
    CHECK_OK (dps_decoder_read (config, &d, &err));
    CU_ASSERT (d.eos == 3 && d.n_more_ends == 0);
    json_decref (config);
}

/* Two ways to say one thing. */
static const struct {
    const char *model, *file_a, *patch_a, *file_b, *patch_b;
} alike[] = {
    {"llama", "config_classic.json", "{'rope_scaling': {'type': 'linear', 'factor': 4.0}}", "config.json",
     "{'rope_parameters': {'rope_type': 'linear', 'factor': 4.0, 'rope_theta': 10000.0}}"},
    {"llama", "config_classic.json",
     "{'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, "
     "'original_max_position_embeddings': 32}}",
     "config.json",
     "{'rope_parameters': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, "
     "'original_max_position_embeddings': 32, 'rope_theta': 10000.0}}"},
    {"llama", "config.json", "{'head_dim': '-'}", "config.json", "{}"},
    {"llama", "config.json", "{'head_dim': null, 'eos_token_id': [2, 7]}", "config.json", "{}"},
    {"llama", "config.json", "{'rope_parameters': null, 'rope_theta': 500000.0}", "config_classic.json", "{'rope_theta': 500000.0}"},
    {"llama", "config.json", "{'rope_parameters': {'rope_type': 'default'}, 'rope_theta': 500000.0}", "config_classic.json",
     "{'rope_theta': 500000.0}"},
    {"mistral", "config.json", "{'sliding_window': null}", "config.json",
     "{'layer_types': ['full_attention', 'full_attention', 'full_attention']}"},
    {"mistral", "config.json", "{'sliding_window': '-'}", "config.json", "{'sliding_window': 4096}"},
    {"qwen2", "config.json", "{'layer_types': '-', 'use_sliding_window': false, 'sliding_window': 16}", "config.json", "{}"},
    {"qwen2", "config.json", "{'layer_types': '-', 'use_sliding_window': true, 'sliding_window': 16, 'max_window_layers': 1}",
     "config.json",
     "{'use_sliding_window': true, 'sliding_window': 16, 'layer_types': ['full_attention', 'sliding_attention', 'sliding_attention']}"},
    {"qwen3", "config.json", "{'layer_types': '-', 'use_sliding_window': true, 'max_window_layers': 0, 'sliding_window': '-'}",
     "config.json",
     "{'use_sliding_window': true, 'sliding_window': 4096, 'layer_types': ['sliding_attention', 'sliding_attention', "
     "'sliding_attention']}"},
    {"qwen3", "config.json", "{'layer_types': '-', 'use_sliding_window': true, 'max_window_layers': 0, 'sliding_window': null}",
     "config.json", "{}"},
    {"gemma3", "config_classic.json", "{'sliding_window_pattern': '-', '_sliding_window_pattern': 2}", "config.json", "{}"},
    {"gemma3", "config_classic.json", "{'sliding_window_pattern': '-'}", "config.json",
     "{'layer_types': ['sliding_attention', 'sliding_attention', 'sliding_attention', 'sliding_attention']}"},
    {"gemma3", "config_classic.json", "{'rope_scaling': {'factor': 8.0, 'rope_type': 'linear'}}", "config.json",
     "{'rope_parameters': {'full_attention': {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 1000000.0}, 'sliding_attention': "
     "{'rope_type': 'default', 'rope_theta': 10000.0}}}"},
    {"gemma3", "config.json", "{'model_type': 'gemma3', 'hidden_activation': null}", "config.json", "{}"},
    {"gemma2", "config.json", "{'attn_logit_softcapping': '-', 'final_logit_softcapping': '-'}", "config.json",
     "{'attn_logit_softcapping': 50.0, 'final_logit_softcapping': 30}"},
    {"gemma2", "config.json", "{'attn_logit_softcapping': null}", "config.json", "{'attn_logit_softcapping': 0.0}"},
};

static void read_patched (const char *model, const char *file, const char *patch, DpsDecoder *out)
{
    json_t *j = tiny_config (model, file);
    patch_config (j, patch);
    CHECK_OK (dps_decoder_read (j, out, &err));
    json_decref (j);
}

static void test_spellings (void)
{
    for (size_t i = 0; i < sizeof alike / sizeof *alike; i++) {
        DpsDecoder a, b;
        read_patched (alike[i].model, alike[i].file_a, alike[i].patch_a, &a);
        read_patched (alike[i].model, alike[i].file_b, alike[i].patch_b, &b);
        check_same_decoder (alike[i].patch_a, &a, &b);
    }
}

/* The text_config of a multimodal Gemma 3 says little; transformers' defaults are the rest. */
static void test_gemma3_defaults (void)
{
    DpsDecoder d;
    json_t *j =
        json_loads ("{\"model_type\": \"gemma3_text\", \"hidden_size\": 2560, \"intermediate_size\": 10240, \"num_hidden_layers\": 34, "
                    "\"rope_scaling\": {\"factor\": 8.0, \"rope_type\": \"linear\"}, \"sliding_window\": 1024}",
                    0, NULL);
    CHECK_OK (dps_decoder_read (j, &d, &err));
    json_decref (j);
    CU_ASSERT (d.vocab == 262208 && d.n_heads == 8 && d.n_kv_heads == 4 && d.head_dim == 256 && d.tied && d.attn_scale == 1.0 / 16);
    CU_ASSERT (d.layers[4].window == 1024 && d.layers[5].window == 0 && d.ropes[d.layers[5].rope].factor == 8);
    CU_ASSERT (d.ropes[d.layers[4].rope].theta == 1e4 && d.ropes[d.layers[5].rope].theta == 1e6);
}

static const struct {
    const char *model, *patch;
    DpsStatus status;
    const char *text;
} bad[] = {
    {"llama", "{'model_type': 'mamba'}", DPS_ERR_UNSUPPORTED, "\"mamba\" has no architecture here"},
    {"llama", "{'model_type': '-'}", DPS_ERR_FORMAT, "no \"model_type\""},
    {"llama", "{'hidden_size': '-'}", DPS_ERR_FORMAT, "\"hidden_size\" is missing"},
    {"llama", "{'hidden_size': 32.5}", DPS_ERR_FORMAT, "\"hidden_size\" must be an integer"},
    {"llama", "{'num_hidden_layers': 0}", DPS_ERR_FORMAT, "num_hidden_layers"},
    {"llama", "{'num_key_value_heads': 3}", DPS_ERR_FORMAT, "not a multiple"},
    {"llama", "{'head_dim': 7}", DPS_ERR_FORMAT, "odd"},
    {"llama", "{'hidden_act': 'relu'}", DPS_ERR_UNSUPPORTED, "\"hidden_act\" is \"relu\""},
    {"gemma2", "{'hidden_activation': 'gelu'}", DPS_ERR_UNSUPPORTED, "gelu_pytorch_tanh"},
    {"llama", "{'rms_norm_eps': '1e-6'}", DPS_ERR_FORMAT, "\"rms_norm_eps\" must be a number"},
    {"llama", "{'rms_norm_eps': -1}", DPS_ERR_FORMAT, "rms_norm_eps"},
    {"llama", "{'tie_word_embeddings': 'yes'}", DPS_ERR_FORMAT, "tie_word_embeddings"},
    {"llama", "{'rope_parameters': {'rope_type': 'yarn', 'factor': 4}}", DPS_ERR_UNSUPPORTED, "rope type \"yarn\""},
    {"llama", "{'rope_parameters': [1]}", DPS_ERR_FORMAT, "rope_parameters"},
    {"llama", "{'rope_parameters': '-', 'rope_scaling': 'linear'}", DPS_ERR_FORMAT, "rope_scaling"},
    {"llama", "{'rope_parameters': {'rope_type': 'linear', 'factor': 0}}", DPS_ERR_FORMAT, "factor"},
    {"llama", "{'rope_parameters': {'rope_theta': -1}}", DPS_ERR_FORMAT, "rope_theta"},
    {"llama", "{'rope_parameters': {'rope_theta': 1e-320}}", DPS_ERR_FORMAT, "rope_theta"}, /* 0 in f32 */
    {"llama", "{'rope_parameters': '-', 'rope_theta': 1e300}", DPS_ERR_FORMAT, "rope_theta"},
    {"llama",
     "{'rope_parameters': {'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 4, 'high_freq_factor': 1, "
     "'original_max_position_embeddings': 64}}",
     DPS_ERR_FORMAT, "low_freq_factor"},
    {"llama", "{'partial_rotary_factor': 0.5}", DPS_ERR_UNSUPPORTED, "partial_rotary_factor"},
    {"qwen3", "{'layer_types': ['full_attention']}", DPS_ERR_FORMAT, "\"layer_types\" has 1 entries"},
    {"qwen3", "{'layer_types': 'full_attention'}", DPS_ERR_FORMAT, "\"layer_types\" must be a list"},
    {"qwen3", "{'layer_types': ['full_attention', 'linear_attention', 'full_attention']}", DPS_ERR_UNSUPPORTED, "linear_attention"},
    {"qwen3", "{'layer_types': ['full_attention', 'sliding_attention', 'full_attention']}", DPS_ERR_FORMAT, "layer 1 slides"},
    {"gemma3", "{'sliding_window': null}", DPS_ERR_FORMAT, "layer 0 slides"},
    {"gemma3", "{'query_pre_attn_scalar': 0}", DPS_ERR_FORMAT, "query_pre_attn_scalar"},
    {"gemma3", "{'rope_parameters': '-', 'rope_local_base_freq': -5}", DPS_ERR_FORMAT, "rope_local_base_freq"},
    {"gemma3", "{'final_logit_softcapping': -30}", DPS_ERR_FORMAT, "final_logit_softcapping"},
    {"gemma2", "{'attn_logit_softcapping': 1e-60}", DPS_ERR_FORMAT, "attn_logit_softcapping"},
    {"gemma3", "{'layer_types': '-', 'sliding_window_pattern': 'two'}", DPS_ERR_FORMAT, "sliding_window_pattern"},
    {"gemma3", "{'layer_types': '-', '_sliding_window_pattern': 0}", DPS_ERR_FORMAT, "_sliding_window_pattern"},
    {"qwen2", "{'max_window_layers': '1'}", DPS_ERR_FORMAT, "max_window_layers"},
    {"gemma3", "{'use_bidirectional_attention': true}", DPS_ERR_UNSUPPORTED, "use_bidirectional_attention"},
};

static void test_contradictions_are_named (void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        DpsDecoder d;
        json_t *j = tiny_config (bad[i].model, "config.json");
        patch_config (j, bad[i].patch);
        CHECK_FAILS (dps_decoder_read (j, &d, &err), bad[i].status, bad[i].text);
        json_decref (j);
    }
}

CHECK_MAIN ("graph: configurations", T (test_both_layouts_say_the_same), T (test_end_tokens), T (test_spellings), T (test_gemma3_defaults),
            T (test_contradictions_are_named))
