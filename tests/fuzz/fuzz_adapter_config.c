/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_adapter_config.c: any bytes as adapter_config.json; what is accepted must be written, read again and mean the same. */
#include "ckpt/peft_config.h"
#include "fuzz.h"

static const char *const modules[] = {"model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "lm_head", "model.embed_tokens",
                                      "a"};

static void compare (const DpsPeftConfig *a, const DpsPeftConfig *b)
{
    DpsTargets *ta, *tb;
    require (a->r == b->r && a->lora_alpha == b->lora_alpha && a->lora_dropout == b->lora_dropout);
    require (a->use_dora == b->use_dora && a->use_rslora == b->use_rslora);
    require (dps_targets_new (&a->targets, &ta, NULL) == DPS_OK && dps_targets_new (&b->targets, &tb, NULL) == DPS_OK);
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        int64_t ra = 0, rb = 0;
        double sa = 0, sb = 0;
        require (dps_targets_match (ta, modules[i]) == dps_targets_match (tb, modules[i]));
        require (dps_targets_saves (ta, modules[i]) == dps_targets_saves (tb, modules[i]));
        require (dps_peft_config_module (a, modules[i], &ra, &sa, NULL) == dps_peft_config_module (b, modules[i], &rb, &sb, NULL));
        require (ra == rb && sa == sb);
    }
    dps_targets_free (ta);
    dps_targets_free (tb);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsPeftConfig c = {0}, again = {0};
    if (dps_peft_config_parse ((const char *)data, size, "adapter_config.json", &c, &err) != DPS_OK) {
        require (c.json == NULL && strstr (err.msg, "adapter_config.json"));
        return 0;
    }
    DpsBuf text = {0};
    json_t *j = dps_peft_config_json (&c);
    require (j && dps_json_write (&text, j, 2) == 0);
    require (dps_peft_config_parse (text.data, text.len, "again", &again, &err) == DPS_OK);
    compare (&c, &again);
    dps_peft_config_free (&c);
    dps_peft_config_free (&again);
    dps_buf_free (&text);
    json_decref (j);
    return 0;
}
