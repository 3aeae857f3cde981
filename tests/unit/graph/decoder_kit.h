/* SPDX-License-Identifier: Apache-2.0 */
/* decoder_kit.h: configurations of the tiny models, changed key by key, and a comparison of what was read from two of them. */
#ifndef DPS_TESTS_DECODER_KIT_H
#define DPS_TESTS_DECODER_KIT_H

#include "graph/decoder.h"
#include "safetensors_mini.h"

static const char *const tiny_models[] = {"gemma3", "gemma2", "llama", "qwen2", "qwen3", "mistral"};
enum { N_TINY = 6 };

/* tests/data/parity/models/NAME/FILE, a new reference. */
static inline json_t *tiny_config (const char *name, const char *file)
{
    char rest[128];
    json_t *j = NULL;
    DpsError err = DPS_ERROR_INIT;
    snprintf (rest, sizeof rest, "models/%s/%s", name, file);
    CHECK_OK (dps_json_file (parity_path (rest), 1 << 20, 0, &j, &err));
    return j;
}

/* Set the keys of `patch` (single quotes for double ones); "-" deletes. */
static inline void patch_config (json_t *config, const char *patch)
{
    char text[1024];
    const char *key;
    json_t *value;
    snprintf (text, sizeof text, "%s", patch);
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *p = json_loads (text, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL (p);
    json_object_foreach (p, key, value) {
        if (json_is_string (value) && !strcmp (json_string_value (value), "-"))
            json_object_del (config, key);
        else
            json_object_set (config, key, value);
    }
    json_decref (p);
}

#define SAME_FIELD(f)                                                                                                                      \
    do {                                                                                                                                   \
        if (!((double)a->f - (double)b->f < 1e-9 && (double)b->f - (double)a->f < 1e-9))                                                   \
            printf ("\n    %s: " #f " is %g, expected %g\n", what, (double)a->f, (double)b->f);                                            \
        CU_ASSERT (fabs ((double)a->f - (double)b->f) < 1e-9);                                                                             \
    } while (0)

static inline void check_same_decoder (const char *what, const DpsDecoder *a, const DpsDecoder *b)
{
    SAME_FIELD (vocab);
    SAME_FIELD (hidden);
    SAME_FIELD (ffn);
    SAME_FIELD (n_layers);
    SAME_FIELD (n_heads);
    SAME_FIELD (n_kv_heads);
    SAME_FIELD (head_dim);
    SAME_FIELD (eps);
    SAME_FIELD (norm_offset);
    SAME_FIELD (embed_scale);
    SAME_FIELD (attn_scale);
    SAME_FIELD (attn_softcap);
    SAME_FIELD (final_softcap);
    SAME_FIELD (gate);
    SAME_FIELD (post_norms);
    SAME_FIELD (qk_norm);
    SAME_FIELD (qkv_bias);
    SAME_FIELD (o_bias);
    SAME_FIELD (mlp_bias);
    SAME_FIELD (tied);
    SAME_FIELD (n_ropes);
    for (int64_t i = 0; i < b->n_layers; i++) {
        float ra[4096], rb[4096];
        SAME_FIELD (layers[i].window);
        dps_rope_table (&a->ropes[a->layers[i].rope], a->head_dim, ra);
        dps_rope_table (&b->ropes[b->layers[i].rope], b->head_dim, rb);
        for (int64_t k = 0; k < b->head_dim / 2; k++)
            CHECK_NEAR ((double)ra[k] / (double)rb[k], 1, 1e-5);
    }
}

#endif
