/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/multimodal.h"

#include <stdio.h>
#include <string.h>

const char *dps__text_name (const char *name, char *buffer, size_t cap)
{
    static const char *const prefixes[] = {"model.language_model.", "language_model.model."};
    static const char head[] = "language_model.lm_head.";
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strncmp (name, prefixes[i], strlen (prefixes[i]))) {
            snprintf (buffer, cap, "model.%s", name + strlen (prefixes[i]));
            return buffer;
        }
    return strncmp (name, head, strlen (head)) ? name : name + strlen ("language_model.");
}

int dps__text_is_part (const char *text_name)
{
    static const char *const starts[] = {"model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (!strncmp (text_name, starts[i], strlen (starts[i])))
            return 1;
    return 0;
}

/* The outer object keeps what is said once for all parts: Gemma 3's end-of-turn token is there only. */
int dps__text_config (json_t **config)
{
    static const char *const shared[] = {"bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype"};
    json_t *text = json_object_get (*config, "text_config");
    if (!json_is_object (text))
        return 0;
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        json_t *value = json_object_get (*config, shared[i]);
        if (value && !json_object_get (text, shared[i]) && json_object_set (text, shared[i], value))
            return -1;
    }
    json_incref (text);
    json_decref (*config);
    *config = text;
    return 1;
}
