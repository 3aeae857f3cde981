/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The six tiny models written as GGUF the way llama.cpp's converter writes them (its names, q and k of llama permuted, Gemma's norms plus one),
 * read back through graph/source.h: the same decoder and, bit for bit, the same weights as their Hugging Face folders.
 */
#include "gguf_make.h"
#include "graph/source.h"
#include "graph/source_check.h"
#include "unit/graph/decoder_kit.h"

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *reg;
static char path[256];

static const struct {
    const char *hf, *gguf;
} plain_names[] =
    {
        {"input_layernorm", "attn_norm"},
        {"self_attn.q_proj", "attn_q"},
        {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"},
        {"self_attn.q_norm", "attn_q_norm"},
        {"self_attn.k_norm", "attn_k_norm"},
        {"mlp.gate_proj", "ffn_gate"},
        {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"},
        {"post_attention_layernorm", "ffn_norm"},
},
  gemma_names[] = {
      {"post_attention_layernorm", "post_attention_norm"},
      {"pre_feedforward_layernorm", "ffn_norm"},
      {"post_feedforward_layernorm", "post_ffw_norm"},
};

static void gguf_name (int is_gemma, const char *hf, char *out, size_t cap)
{
    unsigned layer;
    char rest[96];
    if (sscanf (hf, "model.layers.%u.%95s", &layer, rest) != 2) {
        snprintf (out, cap, "%s",
                  !strcmp (hf, "lm_head.weight")      ? "output.weight"
                  : !strcmp (hf, "model.norm.weight") ? "output_norm.weight"
                                                      : "token_embd.weight");
        return;
    }
    char *dot = strrchr (rest, '.');
    CU_ASSERT_PTR_NOT_NULL_FATAL (dot);
    *dot = '\0';
    for (size_t i = 0; is_gemma && i < sizeof gemma_names / sizeof *gemma_names; i++)
        if (!strcmp (gemma_names[i].hf, rest)) {
            snprintf (out, cap, "blk.%u.%s.%s", layer, gemma_names[i].gguf, dot + 1);
            return;
        }
    for (size_t i = 0; i < sizeof plain_names / sizeof *plain_names; i++)
        if (!strcmp (plain_names[i].hf, rest)) {
            snprintf (out, cap, "blk.%u.%s.%s", layer, plain_names[i].gguf, dot + 1);
            return;
        }
    CU_FAIL_FATAL ("a weight without a GGUF name");
}

/* LlamaModel.permute of the converter: within each head, row (half, i) goes to (i, half). */
static void permute (const float *from, float *to, int64_t rows, int64_t cols, int64_t heads)
{
    int64_t width = rows / heads;
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = r % width, stored = r / width * width + at % (width / 2) * 2 + at / (width / 2);
        memcpy (to + stored * cols, from + r * cols, (size_t)cols * sizeof *to);
    }
}

static void add_tensors (GgufMake *m, const StFile *file, const char *arch, const DpsDecoder *d)
{
    int is_gemma = !strncmp (arch, "gemma", 5), is_llama = !strcmp (arch, "llama");
    ST_EACH (file, t)
    {
        char name[128];
        float *values = malloc (t.bytes), *from = malloc (t.bytes);
        memcpy (from, t.data, t.bytes);
        memcpy (values, t.data, t.bytes);
        int64_t cols = t.rank > 1 ? t.shape[1] : 1;
        if (is_gemma && strstr (t.name, "norm.weight"))
            for (int64_t i = 0; i < t.n; i++)
                values[i] += 1;
        if (is_llama && strstr (t.name, "q_proj"))
            permute (from, values, t.shape[0], cols, d->n_heads);
        if (is_llama && strstr (t.name, "k_proj"))
            permute (from, values, t.shape[0], cols, d->n_kv_heads);
        gguf_name (is_gemma, t.name, name, sizeof name);
        uint64_t ne[2] = {(uint64_t)(t.rank > 1 ? t.shape[1] : t.shape[0]), (uint64_t)t.shape[0]};
        gm_tensor (m, name, t.rank, ne, GM_TENSOR_F32, values, t.bytes);
        free (values);
        free (from);
    }
}

static void key (GgufMake *m, const char *arch, const char *suffix, uint32_t v)
{
    char name[96];
    snprintf (name, sizeof name, "%s.%s", arch, suffix);
    gm_meta_u32 (m, name, v);
}

static void number (GgufMake *m, const char *arch, const char *suffix, double v)
{
    char name[96];
    snprintf (name, sizeof name, "%s.%s", arch, suffix);
    gm_meta_f32 (m, name, (float)v);
}

static void add_meta (GgufMake *m, const char *arch, const DpsDecoder *d)
{
    uint8_t slides[DPS_MAX_LAYERS];
    int64_t window = 0;
    gm_meta_str (m, "general.architecture", arch);
    key (m, arch, "block_count", (uint32_t)d->n_layers);
    key (m, arch, "context_length", (uint32_t)d->max_position);
    key (m, arch, "embedding_length", (uint32_t)d->hidden);
    key (m, arch, "feed_forward_length", (uint32_t)d->ffn);
    key (m, arch, "attention.head_count", (uint32_t)d->n_heads);
    key (m, arch, "attention.head_count_kv", (uint32_t)d->n_kv_heads);
    key (m, arch, "attention.key_length", (uint32_t)d->head_dim);
    key (m, arch, "attention.value_length", (uint32_t)d->head_dim);
    key (m, arch, "rope.dimension_count", (uint32_t)d->head_dim);
    number (m, arch, "attention.layer_norm_rms_epsilon", d->eps);
    number (m, arch, "rope.freq_base", d->ropes[0].theta);
    if (d->attn_softcap > 0)
        number (m, arch, "attn_logit_softcapping", d->attn_softcap);
    if (d->final_softcap > 0)
        number (m, arch, "final_logit_softcapping", d->final_softcap);
    for (int64_t i = 0; i < d->n_layers; i++) {
        slides[i] = d->layers[i].window > 0;
        window = d->layers[i].window > window ? d->layers[i].window : window;
    }
    if (window)
        key (m, arch, "attention.sliding_window", (uint32_t)window);
    if (!strcmp (arch, "gemma3"))
        gm_array (m, "gemma3.attention.sliding_window_pattern", GM_BOOL, (uint64_t)d->n_layers, slides, (size_t)d->n_layers);
}

static void write_file (GgufMake *m)
{
    DpsBuf bytes;
    gm_finish (m, &bytes);
    FILE *f = fopen (path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL (f);
    CU_ASSERT_EQUAL (fwrite (bytes.data, 1, bytes.len, f), bytes.len);
    fclose (f);
    dps_buf_free (&bytes);
}

static void check_values (DpsSource *src, const StFile *file, int exact)
{
    ST_EACH (file, t)
    {
        int64_t at = dps_source_find (src, t.name);
        CU_ASSERT_FATAL (at >= 0);
        float *got = malloc (t.bytes), *want = malloc (t.bytes);
        memcpy (want, t.data, t.bytes);
        CHECK_OK (dps_source_read (src, (size_t)at, 0, (uint64_t)t.n, got, &err));
        for (int64_t i = 0; i < t.n; i++) /* 1 + w rounds: half an ulp of 2 */
            CHECK_NEAR ((double)got[i], (double)want[i], exact ? 0 : 1.3e-7);
        uint64_t first = (uint64_t)t.n / 3, n = (uint64_t)t.n / 2; /* a range from and to the middle of rows */
        float *part = malloc (t.bytes);
        CHECK_OK (dps_source_read (src, (size_t)at, first, n, part, &err));
        CU_ASSERT_EQUAL (memcmp (part, got + first, n * sizeof *part), 0);
        free (part);
        free (got);
        free (want);
    }
}

static void test_six_models_from_gguf (void)
{
    for (int i = 0; i < N_TINY; i++) {
        const char *name = tiny_models[i], *arch = strcmp (name, "mistral") ? name : "llama";
        char rest[128];
        DpsDecoder d;
        DpsModel model;
        DpsSource *src;
        StFile file;
        GgufMake m = {0};
        json_t *config = tiny_config (name, "config.json");
        CHECK_OK (dps_decoder_read (config, &d, &err));
        json_decref (config);
        snprintf (rest, sizeof rest, "models/%s/model.safetensors", name);
        st_open (&file, parity_path (rest));
        add_meta (&m, arch, &d);
        add_tensors (&m, &file, arch, &d);
        write_file (&m);
        CHECK_OK (dps_source_open (reg, path, &src, &err));
        CHECK_OK (dps_model_init (&model, dps_source_config (src), &err));
        check_same_decoder (name, &model.dec, &d);
        CHECK_STR (model.dec.arch, name);
        CHECK_OK (dps_source_check (src, &model, &err));
        check_values (src, &file, strncmp (name, "gemma", 5) != 0);
        dps_model_free (&model);
        dps_source_close (src);
        st_close (&file);
    }
}

/* A decoder of `layers` layers of `arch`, with what add adds. The one tensor is the embedding. */
static DpsStatus open_shell (const char *arch, uint32_t layers, void (*add) (GgufMake *m, const void *ctx), const void *ctx,
                             DpsDecoder *out)
{
    GgufMake m = {0};
    static const float zeros[64];
    gm_meta_str (&m, "general.architecture", arch);
    key (&m, arch, "block_count", layers);
    key (&m, arch, "embedding_length", 8);
    key (&m, arch, "feed_forward_length", 8);
    key (&m, arch, "attention.head_count", 1);
    gm_tensor (&m, "token_embd.weight", 2, (uint64_t[]){8, 4}, GM_TENSOR_F32, zeros, 128);
    if (add)
        add (&m, ctx);
    write_file (&m);
    DpsSource *src;
    DPS_TRY (dps_source_open (reg, path, &src, &err));
    DpsModel model = {0};
    DpsStatus st = dps_source_model (src, &model, &err);
    *out = model.dec;
    dps_model_free (&model);
    dps_source_close (src);
    return st;
}

static void add_divisors (GgufMake *m, const void *ctx)
{
    const DpsRope *r = ctx;
    DpsRope plain = {.theta = r->theta, .factor = 1};
    float scaled[32], base[32], divisors[32];
    dps_rope_table (r, 64, scaled);
    dps_rope_table (&plain, 64, base);
    for (int i = 0; i < 32; i++)
        divisors[i] = base[i] / scaled[i];
    key (m, "llama", "attention.key_length", 64);
    number (m, "llama", "rope.freq_base", r->theta);
    gm_tensor (m, "rope_freqs.weight", 1, (uint64_t[]){32}, GM_TENSOR_F32, divisors, sizeof divisors);
}

/* Llama 3's scaling is kept as divisors: whatever numbers made them, the frequencies come back. */
static void test_rope_divisors (void)
{
    static const DpsRope ropes[] = {
        {500000, DPS_ROPE_LLAMA3, 8, 1, 4, 8192},  {500000, DPS_ROPE_LLAMA3, 32, 1, 4, 8192}, {10000, DPS_ROPE_LLAMA3, 4, 1, 4, 32},
        {10000, DPS_ROPE_LLAMA3, 3.5, 2, 9, 1000}, {100, DPS_ROPE_LLAMA3, 8, 1, 1.01, 64},    {1e6, DPS_ROPE_LLAMA3, 2, 1, 32, 128},
        {10000, DPS_ROPE_LLAMA3, 8, 1, 4, 1},      {10000, DPS_ROPE_DEFAULT, 1, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof ropes / sizeof *ropes; i++) {
        DpsDecoder d;
        float got[32], want[32];
        CHECK_OK (open_shell ("llama", 1, add_divisors, &ropes[i], &d));
        dps_rope_table (&d.ropes[0], 64, got);
        dps_rope_table (&ropes[i], 64, want);
        for (int k = 0; k < 32; k++)
            CHECK_NEAR ((double)got[k] / (double)want[k], 1, 1e-5);
    }
    CU_ASSERT_EQUAL (ropes[0].original_max_position, 8192);
}

static void add_longrope (GgufMake *m, const void *ctx)
{
    float divisors[32];
    (void)ctx;
    for (int i = 0; i < 32; i++)
        divisors[i] = (float)(1 + i % 7);
    key (m, "llama", "attention.key_length", 64);
    gm_tensor (m, "rope_freqs.weight", 1, (uint64_t[]){32}, GM_TENSOR_F32, divisors, sizeof divisors);
}

/* "SUFFIX=NUMBER" under the architecture's name. */
static void add_key (GgufMake *m, const void *ctx)
{
    char text[96], *value;
    snprintf (text, sizeof text, "%s", (const char *)ctx);
    value = strchr (text, '=');
    *value = '\0';
    gm_meta_u32 (m, text, (uint32_t)atol (value + 1));
}

static void test_scalars_and_windows (void)
{
    DpsDecoder d;
    CHECK_OK (open_shell ("gemma3", 62, add_key, "gemma3.attention.sliding_window=16", &d)); /* the 27B: hidden ÷ heads */
    CHECK_NEAR (d.attn_scale, 1 / sqrt (8), 1e-12);
    CU_ASSERT (d.layers[4].window == 16 && d.layers[5].window == 0 && d.layers[11].window == 0);
    CHECK_OK (open_shell ("gemma2", 4, add_key, "gemma2.attention.sliding_window=16", &d));
    CU_ASSERT (d.layers[0].window == 16 && d.layers[1].window == 0 && d.layers[2].window == 16);
    CHECK_OK (open_shell ("llama", 2, add_key, "llama.attention.sliding_window=16", &d));
    CU_ASSERT (d.layers[0].window == 16 && d.layers[1].window == 16 && !strcmp (d.arch, "mistral"));
    CHECK_OK (open_shell ("qwen2", 2, add_key, "qwen2.attention.sliding_window=16", &d));
    CU_ASSERT (d.layers[0].window == 0 && d.layers[1].window == 0);
}

/* What is wrong is in the metadata, and is named as it is there: a GGUF has no config.json. */
static void test_errors_name_the_metadata (void)
{
    static const char *const cases[][2] = {
        {"llama.attention.head_count_kv=3", "llama.attention.head_count 1 is not a multiple of llama.attention.head_count_kv 3"},
        {"llama.attention.key_length=7", "llama.attention.key_length 7 is odd"},
        {"llama.context_length=0", "llama.context_length must be an integer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsDecoder d;
        CHECK_FAILS (open_shell ("llama", 1, add_key, cases[i][0], &d), DPS_ERR_FORMAT, cases[i][1]);
        CU_ASSERT (!strncmp (err.msg, path, strlen (path)) && !strstr (err.msg, "config.json"));
    }
}

typedef struct Scaling {
    const char *type, *key;
    double factor;
    int want_type;
    double want;
} Scaling;

static void add_scaling (GgufMake *m, const void *ctx)
{
    const Scaling *s = ctx;
    if (s->type)
        gm_meta_str (m, "llama.rope.scaling.type", s->type);
    number (m, "llama", s->key, s->factor);
}

/* Files of 2023 say rope.scale_linear, or a factor without a type. */
static void test_rope_scaling (void)
{
    static const Scaling cases[] = {
        {"linear", "rope.scaling.factor", 4, DPS_ROPE_LINEAR, 4}, {NULL, "rope.scaling.factor", 4, DPS_ROPE_LINEAR, 4},
        {NULL, "rope.scale_linear", 8, DPS_ROPE_LINEAR, 8},       {"none", "rope.scaling.factor", 4, DPS_ROPE_DEFAULT, 1},
        {NULL, "rope.scaling.factor", 0, DPS_ROPE_DEFAULT, 1},
    };
    DpsDecoder d;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OK (open_shell ("llama", 1, add_scaling, &cases[i], &d));
        CU_ASSERT ((int)d.ropes[0].type == cases[i].want_type && d.ropes[0].factor == cases[i].want);
    }
    static const Scaling endless[] = {{.key = "rope.scaling.factor", .factor = -INFINITY},
                                      {.key = "rope.freq_base", .factor = INFINITY},
                                      {.key = "attention.layer_norm_rms_epsilon", .factor = NAN}};
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        CHECK_FAILS (open_shell ("llama", 1, add_scaling, &endless[i], &d), DPS_ERR_FORMAT, endless[i].key);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "is not finite"));
    }
    CHECK_FAILS (open_shell ("llama", 1, add_scaling, &(Scaling){"yarn", "rope.scaling.factor", 4, 0, 0}, &d), DPS_ERR_UNSUPPORTED, "yarn");
}

static void add_biases (GgufMake *m, const void *ctx)
{
    static const float zeros[8];
    (void)ctx;
    gm_tensor (m, "blk.0.attn_q.bias", 1, (uint64_t[]){8}, GM_TENSOR_F32, zeros, sizeof zeros);
    gm_tensor (m, "blk.0.ffn_up.bias", 1, (uint64_t[]){8}, GM_TENSOR_F32, zeros, sizeof zeros);
}

static void test_biases (void)
{
    DpsDecoder d;
    CHECK_OK (open_shell ("llama", 1, NULL, NULL, &d));
    CU_ASSERT (!d.qkv_bias && !d.o_bias && !d.mlp_bias);
    CHECK_OK (open_shell ("llama", 1, add_biases, NULL, &d));
    CU_ASSERT (d.qkv_bias && d.o_bias && d.mlp_bias);
}

static void test_others_are_refused (void)
{
    DpsDecoder d;
    static const struct {
        const char *key, *text;
    } bad[] = {
        {"llama.expert_count=8", "llama.expert_count"},
        {"llama.attention.value_length=4", "llama.attention.value_length"},
        {"llama.rope.dimension_count=4", "llama.rope.dimension_count"},
        {"split.count=3", "one of 3 files of a split GGUF"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        DpsStatus st = open_shell ("llama", 1, add_key, bad[i].key, &d);
        CU_ASSERT (st == DPS_ERR_FORMAT || st == DPS_ERR_UNSUPPORTED);
        CHECK_FAILS (st, st, bad[i].text);
    }
    CHECK_FAILS (open_shell ("llama", 1, add_longrope, NULL, &d), DPS_ERR_FORMAT, "rope_freqs.weight: the divisors are not those");
    CHECK_FAILS (open_shell ("mamba", 1, NULL, NULL, &d), DPS_ERR_UNSUPPORTED, "architecture 'mamba' has no reader");
}

static void run_all (void)
{
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    snprintf (path, sizeof path, "%s/test-XXXXXX.gguf", getenv ("TMPDIR") ? getenv ("TMPDIR") : "/tmp");
    int fd = mkstemps (path, 5);
    CU_ASSERT_FATAL (fd >= 0);
    fclose (fdopen (fd, "wb"));
    test_six_models_from_gguf ();
    test_rope_divisors ();
    test_scalars_and_windows ();
    test_errors_name_the_metadata ();
    test_rope_scaling ();
    test_biases ();
    test_others_are_refused ();
    remove (path);
    dps_registry_close (reg);
}

CHECK_MAIN ("graph: GGUF", T (run_all))
