/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LoRA on a quantised base gives what LoRA gives on its decoded weights, bit for bit: log-probs, loss and every gradient, on every backend, in
 * f32 and bf16; and they agree with ref at parity's limits. The tiny models in codes of our own; a GGUF in each of its block types, kept as they are.
 */
#include <unistd.h>

#include "gguf_make.h"
#include "graph/quantise.h"
#include "parity.h"

static DpsError err = DPS_ERROR_INIT;
#include "quant_kit.h"

typedef struct Adapted {
    DpsRegistry *reg;
    DpsExec ex;
    DpsSource *source;
    DpsModel model;
    DpsWeights weights;
} Adapted;

static void attach (Adapted *a)
{
    const DpsAdapter *lora = dps_registry_get (a->reg, DPS_ADAPTER_ID, "lora");
    const double num[] = {4, 8, 0, 0};
    const DpsStr str[4] = {{0}};
    DpsTargets *targets;
    CU_ASSERT_PTR_NOT_NULL_FATAL (lora);
    CHECK_OK (dps_targets_new (&(DpsTargetSpec){.all_linear = 1}, &targets, &err));
    CHECK_OK (
        dps_model_attach (&a->model, &(DpsAttach){.adapter = lora, .num = num, .str = str, .targets = targets, .trainable = 1}, &err));
    dps_targets_free (targets);
}

/* A and B of normal numbers: neither gradient is zero. */
static void set_adapters (Adapted *a)
{
    for (size_t i = a->model.n_base; i < a->model.n_weights; i++) {
        int64_t n = dps_weight_elements (&a->model.weights[i]);
        float *values = calloc ((size_t)n, sizeof *values);
        for (int64_t k = 0; k < n; k++)
            values[k] = (float)(0.05 * dps_rng_normal (3, i, (uint64_t)k));
        CHECK_OK (dps_weights_set (&a->weights, (int32_t)i, values, &err));
        free (values);
    }
    CHECK_OK (dps_weights_refresh (&a->weights, &err));
}

static void open_adapted (Adapted *a, const char *path, const char *device, const DpsQuantise *how, uint32_t compute)
{
    memset (a, 0, sizeof *a);
    CHECK_OK (dps_registry_open (NULL, &a->reg, &err));
    open_device (&a->ex, a->reg, device);
    CHECK_OK (dps_source_open (a->reg, path, &a->source, &err));
    CHECK_OK (dps_model_init (&a->model, dps_source_config (a->source), &err));
    CHECK_OK (dps_model_quantise (&a->model, a->source, how, &err));
    attach (a);
    CHECK_OK (dps_weights_load (&a->weights, &a->ex, &a->model, a->source, compute, 1, 2, &err));
    set_adapters (a);
}

static void close_adapted (Adapted *a)
{
    dps_weights_free (&a->weights);
    dps_model_free (&a->model);
    dps_source_close (a->source);
    dps_exec_close (&a->ex);
    dps_registry_close (a->reg);
}

/* The numbers of from's quantised weights into those of `to`, which are numbers. */
static void set_decoded (const Adapted *from, Adapted *to)
{
    for (size_t i = 0; i < from->model.n_base; i++) {
        const DpsWeight *w = &from->model.weights[i];
        if (w->form.type == DPS_QUANT_NONE)
            continue;
        float *values = calloc ((size_t)dps_weight_elements (w), sizeof *values);
        CHECK_OK (dps_weights_rows (&from->weights, (int32_t)i, 0, w->shape[0], values, &err));
        CHECK_OK (dps_weights_set (&to->weights, (int32_t)i, values, &err));
        free (values);
    }
}

/* Loss and gradients of four rows. */
static double train_pass (Adapted *a)
{
    enum { ROWS = 4, LENGTH = 17 };
    int32_t ids[ROWS][LENGTH];
    DpsSequence rows[ROWS];
    Tiny t = {.model = a->model, .weights = a->weights};
    for (int r = 0; r < ROWS; r++) {
        for (int k = 0; k < LENGTH; k++)
            ids[r][k] = (int32_t)dps_rng_below (4, (uint64_t)r, (uint64_t)k, (uint64_t)a->model.dec.vocab);
        rows[r] = (DpsSequence){.ids = ids[r], .n = (size_t)(LENGTH - 3 * r), .key = (uint64_t)r};
    }
    CHECK_OK (dps_weights_zero_grads (&a->weights, &err));
    return nll_pass (&t, rows, ROWS, 1, 1, 0);
}

/* The adapter's gradients: within `limit` of the other's norm, 0: its bits. */
static void check_gradients (const char *where, Adapted *a, Adapted *b, double limit)
{
    for (size_t i = a->model.n_base; i < a->model.n_weights; i++) {
        char label[400];
        int64_t n = dps_weight_elements (&a->model.weights[i]);
        float *got = gradient_of (&a->weights, (int32_t)i);
        const StTensor want = {.data = gradient_of (&b->weights, (int32_t)i)};
        double norm = 0;
        snprintf (label, sizeof label, "%s: %s", where, a->model.weights[i].name);
        for (int64_t k = 0; k < n; k++)
            norm += (double)got[k] * (double)got[k];
        CU_ASSERT (norm > 0);
        check_gradient (label, got, n, &want, limit);
        free (got);
        free ((void *)want.data);
    }
}

static int count_quantised (const DpsModel *m)
{
    int n = 0;
    for (size_t i = 0; i < m->n_base; i++)
        n += m->weights[i].form.type != DPS_QUANT_NONE;
    return n;
}

/* Quantised against decoded on each device; then each against ref, the first. */
static void check_model (const char *path, const DpsQuantise *how, uint32_t compute, int at_least)
{
    static const DpsQuantise none = {.keep = "none"};
    Adapted first = {0}, later, numbers;
    double first_loss = 0;
    EACH_DEVICE (device) {
        Adapted *quantised = first.reg ? &later : &first; /* never moved: its weights point into it */
        open_adapted (quantised, path, device, how, compute);
        CU_ASSERT (count_quantised (&quantised->model) >= at_least);
        open_adapted (&numbers, path, device, &none, compute);
        CU_ASSERT_EQUAL (count_quantised (&numbers.model), 0);
        set_decoded (quantised, &numbers);
        double loss = train_pass (quantised);
        CU_ASSERT_EQUAL (loss, train_pass (&numbers));
        CU_ASSERT (isfinite (loss));
        check_gradients (device, quantised, &numbers, 0);
        close_adapted (&numbers);
        if (quantised == &first) {
            first_loss = loss;
            continue;
        }
        if (compute == DPS_DTYPE_F32) {
            CHECK_NEAR (loss, first_loss, 2e-5 + 1e-5 * fabs (first_loss));
            check_gradients (device, quantised, &first, 1e-4);
        }
        close_adapted (quantised);
    }
    close_adapted (&first);
}

static void test_codes_of_our_own (void)
{
    static const DpsQuantise ways[] = {{.make = DPS_QUANT_NF4},
                                       {.make = DPS_QUANT_NF4, .nested = 1},
                                       {.make = DPS_QUANT_FP4},
                                       {.make = DPS_QUANT_FP4, .nested = 1},
                                       {.make = DPS_QUANT_INT8}};
    static const char *const models[] = {"models/gemma3", "models/llama"};
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            check_model (parity_path (models[m]), &ways[i], DPS_DTYPE_F32, 21);
            check_model (parity_path (models[m]), &ways[i], DPS_DTYPE_BF16, 21);
        }
}

/* A llama whose linear maps are random blocks, of another type each. */

enum { D = 256, FFN = 256, HEAD = 16, HEADS = 16, KV = 8, VOCAB = 80, LAYERS = 2 };
static char gguf[256];

static void add_numbers (GgufMake *m, const char *name, int64_t rows, int64_t cols, double mean, double scale)
{
    uint64_t ne[2] = {(uint64_t)(cols ? cols : rows), (uint64_t)rows};
    int64_t n = rows * (cols ? cols : 1);
    float *x = calloc ((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(mean + scale * dps_rng_normal (8, m->n_tensors, (uint64_t)i));
    gm_tensor (m, name, cols ? 2 : 1, ne, GM_TENSOR_F32, x, (size_t)n * sizeof *x);
    free (x);
}

static void add_blocks (GgufMake *m, const DpsQuantNames *names, const char *name, int64_t rows, int64_t cols, DpsQuantType type)
{
    uint64_t ne[2] = {(uint64_t)cols, (uint64_t)rows}, bytes, parts[DPS_QPARTS];
    const DpsQuantForm form = {.type = type};
    Quantised *q = quantised (names, form, rows, cols, m->n_tensors + 1);
    CHECK_OK (dps_quant_bytes (&form, rows, cols, &bytes, parts, &err));
    gm_tensor (m, name, 2, ne, dps_block_type_named (dps_str (dps_quant_name (type)))->gguf, q->view.host, bytes);
    quantised_free (q);
}

static void add_layer (GgufMake *m, const DpsQuantNames *names, int layer, int *turn)
{
    static const struct {
        const char *name;
        int64_t rows;
    } maps[] = {{"attn_q", HEADS * HEAD}, {"attn_k", KV * HEAD}, {"attn_v", KV * HEAD}, {"attn_output", D},
                {"ffn_gate", FFN},        {"ffn_up", FFN},       {"ffn_down", D}};
    char name[64];
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        snprintf (name, sizeof name, "blk.%d.%s.weight", layer, maps[i].name);
        add_blocks (m, names, name, maps[i].rows, 256, (DpsQuantType)(DPS_QUANT_Q4_0 + (*turn)++ % 11));
    }
    snprintf (name, sizeof name, "blk.%d.attn_norm.weight", layer);
    add_numbers (m, name, D, 0, 1, 0.1);
    snprintf (name, sizeof name, "blk.%d.ffn_norm.weight", layer);
    add_numbers (m, name, D, 0, 1, 0.1);
}

static uint32_t intern (DpsStr s)
{
    char name[64];
    snprintf (name, sizeof name, "%.*s", (int)s.len, s.ptr);
    return dps_intern (name);
}

static void write_gguf (void)
{
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"llama.block_count", LAYERS},        {"llama.context_length", 128},          {"llama.embedding_length", D},
                   {"llama.feed_forward_length", FFN},   {"llama.attention.head_count", HEADS},  {"llama.attention.head_count_kv", KV},
                   {"llama.attention.key_length", HEAD}, {"llama.attention.value_length", HEAD}, {"llama.rope.dimension_count", HEAD}};
    GgufMake m = {0};
    DpsBuf bytes;
    DpsQuantNames names;
    int turn = 0;
    kit_exponent = 2;
    CU_ASSERT_EQUAL_FATAL (dps_quant_names (intern, &names), 0);
    gm_meta_str (&m, "general.architecture", "llama");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        gm_meta_u32 (&m, numbers[i].key, numbers[i].value);
    gm_meta_f32 (&m, "llama.attention.layer_norm_rms_epsilon", 1e-6f);
    gm_meta_f32 (&m, "llama.rope.freq_base", 10000);
    add_numbers (&m, "token_embd.weight", VOCAB, D, 0, 0.05);
    add_numbers (&m, "output_norm.weight", D, 0, 1, 0.1);
    for (int layer = 0; layer < LAYERS; layer++)
        add_layer (&m, &names, layer, &turn);
    gm_finish (&m, &bytes);
    snprintf (gguf, sizeof gguf, "%s/dps-quantised-%d.gguf", getenv ("TMPDIR") ? getenv ("TMPDIR") : "/tmp", (int)getpid ());
    CHECK_OK (dps_file_write (gguf, bytes.data, bytes.len, &err));
    dps_buf_free (&bytes);
}

static void test_blocks_of_a_gguf (void)
{
    write_gguf ();
    check_model (gguf, &(DpsQuantise){.keep = "gguf"}, DPS_DTYPE_F32, 14);
    check_model (gguf, &(DpsQuantise){.keep = "gguf"}, DPS_DTYPE_BF16, 14);
    check_model (gguf, &(DpsQuantise){.make = DPS_QUANT_NF4, .nested = 1}, DPS_DTYPE_F32, 14); /* blocks to numbers to codes */
    remove (gguf);
}

static void test_ways_that_are_refused (void)
{
    DpsQuantise how;
    Adapted a = {0};
    CHECK_FAILS (dps_quantise_parse ("int4", &how, &err), DPS_ERR_USAGE, "expected auto, none, gguf, nf4, fp4 or int8");
    CHECK_OK (dps_registry_open (NULL, &a.reg, &err));
    CHECK_OK (dps_source_open (a.reg, parity_path ("models/gemma3"), &a.source, &err));
    CHECK_OK (dps_model_init (&a.model, dps_source_config (a.source), &err));
    CHECK_FAILS (dps_model_quantise (&a.model, a.source, &(DpsQuantise){.keep = "gguf"}, &err), DPS_ERR_USAGE, "this is a folder");
    dps_model_free (&a.model);
    dps_source_close (a.source);
    dps_registry_close (a.reg);
}

CHECK_MAIN ("quantised", T (test_codes_of_our_own), T (test_blocks_of_a_gguf), T (test_ways_that_are_refused))
