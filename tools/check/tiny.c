/* SPDX-License-Identifier: Apache-2.0 */
#include "check/tiny.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"

enum { WIDTH = 32, LAYERS = 2, HEADS = 4, KEY_HEADS = 2, HEAD = 8, INNER = 48, VOCAB = 64, ROWS = 32 };

static const char config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":32,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,\"intermediate_size\":48,\"vocab_size\":64,"
    "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"max_position_embeddings\":128,"
    "\"tie_word_embeddings\":false,\"attention_bias\":false,\"mlp_bias\":false,\"bos_token_id\":1,\"eos_token_id\":2,"
    "\"pad_token_id\":0,\"torch_dtype\":\"float32\"}\n";

typedef struct Tensors {
    DpsBuf header, data;
    uint64_t seed;
    int n, bad;
} Tensors;

/* One f32 tensor: uniform numbers of deviation `scale`, or ones where that is 0. cols 0: a vector. */
static void add_tensor (Tensors *t, const char *name, int rows, int cols, double scale)
{
    size_t n = (size_t)rows * (size_t)(cols ? cols : 1), start = t->data.len;
    for (size_t i = 0; i < n; i++) {
        float v = scale == 0 ? 1.0f : (float)(scale * 3.4641016151377544 * (dps_rng_uniform (t->seed, (uint64_t)t->n, i) - 0.5));
        t->bad |= dps_buf_add (&t->data, &v, sizeof v);
    }
    t->bad |= dps_buf_printf (&t->header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d", t->n++ ? "," : "{", name, rows);
    if (cols)
        t->bad |= dps_buf_printf (&t->header, ",%d", cols);
    t->bad |= dps_buf_printf (&t->header, "],\"data_offsets\":[%zu,%zu]}", start, t->data.len);
}

static void add_layer (Tensors *t, int layer)
{
    static const struct {
        const char *name;
        int rows, cols;
    } parts[] = {{"input_layernorm", WIDTH, 0},
                 {"post_attention_layernorm", WIDTH, 0},
                 {"self_attn.q_proj", HEADS * HEAD, WIDTH},
                 {"self_attn.k_proj", KEY_HEADS * HEAD, WIDTH},
                 {"self_attn.v_proj", KEY_HEADS * HEAD, WIDTH},
                 {"self_attn.o_proj", WIDTH, HEADS * HEAD},
                 {"mlp.gate_proj", INNER, WIDTH},
                 {"mlp.up_proj", INNER, WIDTH},
                 {"mlp.down_proj", WIDTH, INNER}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[96];
        snprintf (name, sizeof name, "model.layers.%d.%s.weight", layer, parts[i].name);
        add_tensor (t, name, parts[i].rows, parts[i].cols, parts[i].cols ? 0.2 : 0);
    }
}

static DpsStatus write_weights (const char *path, uint64_t seed, DpsError *err)
{
    Tensors t = {.seed = seed};
    DpsBuf file = {0};
    add_tensor (&t, "model.embed_tokens.weight", VOCAB, WIDTH, 1);
    for (int layer = 0; layer < LAYERS; layer++)
        add_layer (&t, layer);
    add_tensor (&t, "model.norm.weight", WIDTH, 0, 0);
    add_tensor (&t, "lm_head.weight", VOCAB, WIDTH, 0.2);
    t.bad |= dps_buf_str (&t.header, "}");
    while (t.header.len % 8 && !t.bad)
        t.bad |= dps_buf_str (&t.header, " ");
    uint64_t length = t.header.len;
    t.bad |= dps_buf_add (&file, &length, sizeof length) || dps_buf_add (&file, t.header.data, t.header.len) ||
             dps_buf_add (&file, t.data.data, t.data.len);
    dps_buf_free (&t.header);
    dps_buf_free (&t.data);
    return dps_file_write_buf (path, &file, t.bad, err);
}

/* Counting sequences with a stride of their own, the first third not trained: a pattern that a tiny model can learn. */
static DpsStatus write_rows (const char *path, uint64_t seed, DpsError *err)
{
    DpsBuf b = {0};
    int bad = 0;
    for (uint64_t r = 0; r < ROWS; r++) {
        DpsBuf labels = {0};
        int n = 9 + (int)dps_rng_below (seed, 21, r, 20), id = 5 + (int)dps_rng_below (seed, 22, r, 50), step = 1 + (int)(r % 3);
        bad |= dps_buf_str (&b, "{\"input_ids\":[1") || dps_buf_str (&labels, "-100");
        for (int i = 1; i < n; i++, id = 5 + (id - 5 + step) % 55) {
            bad |= dps_buf_printf (&b, ",%d", id);
            bad |= i < n / 3 ? dps_buf_str (&labels, ",-100") : dps_buf_printf (&labels, ",%d", id);
        }
        bad |= dps_buf_printf (&b, "],\"labels\":[%s]}\n", labels.data ? labels.data : "");
        dps_buf_free (&labels);
    }
    return dps_file_write_buf (path, &b, bad, err);
}

DpsStatus tiny_write (const char *folder, uint64_t seed, DpsError *err)
{
    char path[512];
    snprintf (path, sizeof path, "%s/model", folder);
    DPS_TRY (dps_mkdirs (path, err));
    snprintf (path, sizeof path, "%s/model/config.json", folder);
    DPS_TRY (dps_file_write (path, config, sizeof config - 1, err));
    snprintf (path, sizeof path, "%s/model/model.safetensors", folder);
    DPS_TRY (write_weights (path, seed, err));
    snprintf (path, sizeof path, "%s/rows.jsonl", folder);
    return write_rows (path, seed, err);
}

DpsStatus tiny_recipe (const char *folder, const char *name, int steps, int save, DpsError *err)
{
    char path[512], text[1200];
    snprintf (path, sizeof path, "%s/%s.yaml", folder, name);
    int n = snprintf (text, sizeof text,
                      "model_name_or_path: model\nstage: sft\ndatasets:\n  - path: rows.jsonl\noutput_dir: %s\ndtype: float32\nlora_r: 4\n"
                      "lora_alpha: 8\nlora_dropout: 0\nlora_target_modules: all-linear\nper_device_train_batch_size: 8\nmax_steps: %d\n"
                      "learning_rate: 0.02\nlr_scheduler_type: constant\nwarmup_steps: 0\nlogging_steps: 1\nsave_steps: %d\nseed: 3\n"
                      "report_to: none\n",
                      name, steps, save);
    return dps_file_write (path, text, (size_t)n, err);
}

DpsStatus tiny_losses (const char *folder, const char *name, int steps, double *out, DpsError *err)
{
    char path[512];
    DpsBuf text = {0};
    DpsStatus st;
    for (int i = 0; i < steps; i++)
        out[i] = (double)NAN;
    snprintf (path, sizeof path, "%s/%s/metrics.jsonl", folder, name);
    DPS_TRY (dps_file_read (path, 16 << 20, &text, err));
    st = DPS_OK;
    for (size_t at = 0, line = 1; at < text.len && st == DPS_OK; line++) {
        const char *newline = memchr (text.data + at, '\n', text.len - at);
        size_t end = newline ? (size_t)(newline - text.data) : text.len;
        json_t *row = NULL;
        st = end > at ? dps_json_parse (text.data + at, end - at, path, (long)line, 0, &row, err) : DPS_OK;
        json_int_t step = json_integer_value (json_object_get (row, "step"));
        if (json_is_number (json_object_get (row, "loss")) && step >= 1 && step <= steps)
            out[step - 1] = json_number_value (json_object_get (row, "loss"));
        json_decref (row);
        at = end + 1;
    }
    dps_buf_free (&text);
    return st;
}
