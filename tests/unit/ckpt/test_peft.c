/* SPDX-License-Identifier: Apache-2.0 */
/* Adapter folders: PEFT's own files come back byte by byte, and no hostile folder gets through. */
#include "ckpt/peft.h"

#include <time.h>

#include "ckpt_kit.h"

static const struct {
    const char *folder;
    size_t n_modules;
    double scale;
} golden[] = {
    {"lora/gemma3-lora", 28, 2},  {"lora/gemma3-rslora", 28, 4}, {"lora/gemma3-dora", 28, 2},       {"lora/llama-lora", 21, 2},
    {"lora/llama-rslora", 21, 4}, {"lora/llama-dora", 21, 2},    {"optim/lora-sft/initial", 28, 2}, {"optim/lora-simpo/initial", 28, 2},
};

/* The shapes of a tiny base model, read from its own file. */
static int shape_in_file (void *ctx, const char *name, uint32_t *rank, int64_t shape[DPS_TENSOR_MAX_RANK])
{
    DpsTensorFile *base = ctx;
    int64_t i = dps_tensors_find (base, name);
    if (i < 0)
        return 0;
    const DpsTensorInfo *t = dps_tensors_at (base, (size_t)i);
    *rank = t->rank;
    memcpy (shape, t->shape, t->rank * sizeof *shape);
    return 1;
}

/* All tensors of an open file, as a list to write. */
static DpsTensorOut *copy_tensors (DpsTensorFile *f, char **names, DpsBuf *bytes)
{
    DpsError err = DPS_ERROR_INIT;
    size_t n = dps_tensors_count (f);
    DpsTensorOut *list = dps_calloc (n, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const DpsTensorInfo *t = dps_tensors_at (f, i);
        names[i] = dps_strndup (t->name.ptr, t->name.len);
        CU_ASSERT_EQUAL_FATAL (dps_buf_reserve (&bytes[i], (size_t)t->bytes), 0);
        CHECK_OK (dps_tensors_read (f, i, bytes[i].data, t->bytes, &err));
        size_t to = n - 1 - i; /* the other way round: writing sorts */
        list[to] = (DpsTensorOut){.name = names[i], .dtype = DPS_DTYPE_F32, .rank = t->rank, .data = bytes[i].data};
        memcpy (list[to].shape, t->shape, t->rank * sizeof *t->shape);
    }
    return list;
}

static void compare_files (const char *a, const char *b)
{
    DpsError err = DPS_ERROR_INIT;
    DpsBuf x = {0}, y = {0};
    CHECK_OK (dps_file_read (a, 1 << 22, &x, &err));
    CHECK_OK (dps_file_read (b, 1 << 22, &y, &err));
    CU_ASSERT (x.len == y.len && !memcmp (x.data, y.data, x.len));
    dps_buf_free (&x);
    dps_buf_free (&y);
}

static void round_trip (size_t g)
{
    DpsError err = DPS_ERROR_INIT;
    const DpsFormat *format = kit_plugin ("peft");
    char dir[300], path[400], mine[400];
    const char *out = kit_dir ("peft");
    static char *names[200];
    static DpsBuf bytes[200];
    DpsPeftAdapter *a, *again;
    snprintf (dir, sizeof dir, DPS_TEST_DATA "/parity/%s", golden[g].folder);
    CHECK_OK (dps_peft_open (dir, format, &a, &err));
    CU_ASSERT_EQUAL (a->n_modules, golden[g].n_modules);
    CHECK_STR (a->base_sha256, "");
    for (size_t i = 0; i < a->n_modules; i++) {
        CU_ASSERT (a->modules[i].r == 4 && a->modules[i].scale == golden[g].scale);
        CU_ASSERT_EQUAL (a->modules[i].magnitude >= 0, a->config.use_dora != 0);
    }
    size_t n = dps_tensors_count (a->file);
    CU_ASSERT_FATAL (n <= 200);
    DpsTensorOut *list = copy_tensors (a->file, names, bytes);
    CHECK_OK (dps_peft_write (&(DpsPeftOut){.config = &a->config, .tensors = list, .n = n}, out, NULL, format, &err));
    snprintf (path, sizeof path, "%s/" DPS_CKPT_ADAPTER, dir);
    snprintf (mine, sizeof mine, "%s/" DPS_CKPT_ADAPTER, out);
    compare_files (path, mine);
    CHECK_OK (dps_peft_open (out, format, &again, &err));
    CU_ASSERT_EQUAL (again->n_modules, a->n_modules);
    dps_peft_close (again);
    for (size_t i = 0; i < n; i++) {
        dps_free (names[i]);
        dps_buf_free (&bytes[i]);
    }
    dps_free (list);
    dps_peft_close (a);
    CHECK_OK (dps_remove_tree (out, &err));
}

static void test_every_golden_adapter_comes_back_byte_by_byte (void)
{
    for (size_t g = 0; g < sizeof golden / sizeof *golden; g++)
        round_trip (g);
}

static void test_an_adapter_is_checked_against_its_base (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsPeftAdapter *a;
    DpsTensorFile *gemma, *llama;
    CHECK_OK (dps_tensors_open (kit_plugin ("safetensors"), DPS_TEST_DATA "/parity/models/gemma3/model.safetensors", &gemma, &err));
    CHECK_OK (dps_tensors_open (kit_plugin ("safetensors"), DPS_TEST_DATA "/parity/models/llama/model.safetensors", &llama, &err));
    CHECK_OK (dps_peft_open (DPS_TEST_DATA "/parity/lora/gemma3-dora", kit_plugin ("peft"), &a, &err));
    CHECK_OK (dps_peft_check_base (a, shape_in_file, gemma, "", &err));
    CU_ASSERT (dps_peft_check_base (a, shape_in_file, llama, "", &err) != DPS_OK);
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "another model"));
    dps_peft_close (a);
    dps_tensors_close (gemma);
    dps_tensors_close (llama);
}

/* What a hostile or broken folder holds: one line per case. */
typedef struct Case {
    const char *config; /* after "{\"peft_type\": \"LORA\", " */
    struct {
        const char *name;
        int64_t rows, cols; /* cols 0: a vector */
        uint32_t dtype;
    } t[3];
    const char *text; /* NULL: opens */
    DpsStatus code;
} Case;

#define Q  "base_model.model.model.layers.0.self_attn.q_proj."
#define R4 "\"r\": 4, \"target_modules\": [\"q_proj\"]}"
static const Case cases[] = {
    {R4, {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}}, NULL, 0},
    {R4, {{Q "lora_A.weight", 4, 8, 2}, {Q "lora_B.weight", 6, 4, 3}}, NULL, 0},
    {R4, {{0}}, "adapts no module at all", DPS_ERR_FORMAT},
    {R4, {{Q "lora_A.weight", 4, 8, 1}}, "has no lora_B.weight", DPS_ERR_FORMAT},
    {R4, {{Q "lora_B.weight", 6, 4, 1}}, "has no lora_A.weight", DPS_ERR_FORMAT},
    {R4, {{Q "lora_A.weight", 8, 4, 1}, {Q "lora_B.weight", 4, 6, 1}}, "they look swapped", DPS_ERR_SHAPE},
    {R4, {{Q "lora_A.weight", 5, 8, 1}, {Q "lora_B.weight", 6, 5, 1}}, "but r is 4", DPS_ERR_SHAPE},
    {R4, {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 5, 1}}, "but r is 4", DPS_ERR_SHAPE},
    {R4, {{Q "lora_A.weight", 4, 0, 1}, {Q "lora_B.weight", 6, 4, 1}}, "both must be matrices", DPS_ERR_SHAPE},
    {R4, {{Q "lora_A.weight", 4, 3, 1}, {Q "lora_B.weight", 2, 4, 1}}, "more than both dimensions", DPS_ERR_SHAPE},
    {R4, {{Q "lora_A.weight", 4, 8, 6}, {Q "lora_B.weight", 6, 4, 1}}, "expected F32", DPS_ERR_DTYPE},
    {R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {Q "lora_magnitude_vector", 6, 0, 1}},
     "use_dora is false",
     DPS_ERR_FORMAT},
    {"\"use_dora\": true, " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}},
     "lacks a lora_magnitude_vector",
     DPS_ERR_FORMAT},
    {"\"use_dora\": true, " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {Q "lora_magnitude_vector", 7, 0, 1}},
     "vector of 6 numbers",
     DPS_ERR_SHAPE},
    {"\"use_dora\": true, " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {Q "lora_magnitude_vector.weight", 6, 0, 1}},
     NULL,
     0},
    {"\"use_dora\": true, " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_magnitude_vector", 6, 0, 1}, {Q "lora_magnitude_vector.weight", 6, 0, 1}},
     "has the same part twice",
     DPS_ERR_FORMAT},
    {R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {"base_model.model.lm_head.weight", 9, 8, 1}},
     "nor in modules_to_save",
     DPS_ERR_FORMAT},
    {"\"modules_to_save\": [\"lm_head\"], " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {"base_model.model.lm_head.weight", 9, 8, 1}},
     NULL,
     0},
    {"\"modules_to_save\": [\"norm\"], " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {"base_model.model.model.layers.0.input_layernorm.weight", 9, 0, 1}},
     NULL,
     0},
    {"\"modules_to_save\": [\"norm\", \"head\", \"lm_head\"], " R4,
     {{"base_model.model.lm_head.weight", 9, 8, 1}, {"base_model.model.model.layers.0.input_layernorm.weight", 9, 0, 1}},
     NULL,
     0},
    {"\"modules_to_save\": [\"norm\", \"lm_head\"], " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {"base_model.model.model.norm.weight", 9, 0, 1}},
     "no tensor of 'lm_head', which modules_to_save",
     DPS_ERR_FORMAT},
    {"\"ensure_weight_tying\": true, \"modules_to_save\": [\"embed_tokens\"], " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {"base_model.model.lm_head.weight", 9, 8, 1}},
     "no tensor of 'embed_tokens'",
     DPS_ERR_FORMAT},
    {"\"task_type\": \"SEQ_CLS\", \"modules_to_save\": [\"classifier\", \"score\"], " R4, /* as PEFT lists them */
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}, {"base_model.model.score.weight", 1, 8, 1}},
     NULL,
     0},
    {"\"task_type\": \"SEQ_CLS\", \"modules_to_save\": [\"classifier\", \"score\"], " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}},
     "no tensor of 'score'",
     DPS_ERR_FORMAT},
    {R4, {{"model.layers.0.q_proj.lora_A.weight", 4, 8, 1}}, "starts with 'base_model.model.'", DPS_ERR_FORMAT},
    {R4, {{"base_model.model.", 4, 8, 1}}, "starts with 'base_model.model.'", DPS_ERR_FORMAT},
    {R4, {{Q "lora_A.default.weight", 4, 8, 1}, {Q "lora_B.default.weight", 6, 4, 1}}, "neither part of a LoRA pair", DPS_ERR_FORMAT},
    {R4, {{"base_model.model.model.embed_tokens.lora_embedding_A", 4, 8, 1}}, "LoRA on an embedding", DPS_ERR_UNSUPPORTED},
    {R4,
     {{"base_model.model.a.k_proj.lora_A.weight", 4, 8, 1}, {"base_model.model.a.k_proj.lora_B.weight", 6, 4, 1}},
     "does not name it",
     DPS_ERR_FORMAT},
    {"\"exclude_modules\": [\"q_proj\"], " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}},
     "does not name it",
     DPS_ERR_FORMAT},
    {"\"rank_pattern\": {\"q_proj\": 2}, " R4, {{Q "lora_A.weight", 2, 8, 1}, {Q "lora_B.weight", 6, 2, 1}}, NULL, 0},
    {"\"rank_pattern\": {\"q_proj\": 2}, " R4, {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}}, "but r is 2", DPS_ERR_SHAPE},
    {"\"rank_pattern\": {\"(([a-z._0-9])+)+[!?]\": 2}, " R4,
     {{Q "lora_A.weight", 4, 8, 1}, {Q "lora_B.weight", 6, 4, 1}},
     "runs too long",
     DPS_ERR_LIMIT},
};

static void write_case (const char *dir, const Case *c)
{
    static char zeros[4096];
    DpsError err = DPS_ERROR_INIT;
    char path[400], config[1000];
    DpsTensorOut list[3];
    size_t n = 0;
    for (; n < 3 && c->t[n].name; n++)
        list[n] = (DpsTensorOut){.name = c->t[n].name,
                                 .dtype = c->t[n].dtype,
                                 .rank = c->t[n].cols ? 2 : 1,
                                 .shape = {c->t[n].rows, c->t[n].cols},
                                 .data = zeros};
    CHECK_OK (dps_mkdirs (dir, &err));
    snprintf (path, sizeof path, "%s/" DPS_CKPT_ADAPTER, dir);
    CHECK_OK (dps_tensors_write (kit_plugin ("safetensors"), path, list, n, NULL, 0, &err));
    snprintf (path, sizeof path, "%s/" DPS_CKPT_ADAPTER_CONFIG, dir);
    snprintf (config, sizeof config, "{\"peft_type\": \"LORA\", %s", c->config);
    CHECK_OK (dps_file_write (path, config, strlen (config), &err));
}

static void test_hostile_folders_are_refused_by_name (void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        const char *dir = kit_dir ("hostile");
        DpsPeftAdapter *a = NULL;
        write_case (dir, &cases[i]);
        int64_t live = dps_mem_live ();
        if (cases[i].text)
            CHECK_FAILS (dps_peft_open (dir, kit_plugin ("peft"), &a, &err), cases[i].code, cases[i].text);
        else
            CHECK_OK (dps_peft_open (dir, kit_plugin ("peft"), &a, &err));
        dps_peft_close (a);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
        CHECK_OK (dps_remove_tree (dir, &err));
    }
}

static void put (const char *dir, const char *name, const char *text)
{
    DpsError err = DPS_ERROR_INIT;
    char path[400];
    snprintf (path, sizeof path, "%s/%s", dir, name);
    CHECK_OK (dps_file_write (path, text, strlen (text), &err));
}

/* A header of a few megabytes must not cost minutes, whatever order its names come in. */
static void test_many_names_cost_no_square (void)
{
    enum { N = 60000 };
    DpsError err = DPS_ERROR_INIT;
    DpsBuf header = {0}, file = {0};
    DpsPeftAdapter *a = NULL;
    char path[400];
    struct timespec start, end;
    const char *dir = kit_dir ("many");
    CHECK_OK (dps_mkdirs (dir, &err));
    for (int i = 0; i < N; i++)
        dps_buf_printf (&header,
                        "%c\"base_model.model.layers.%d.q_proj.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[0,0]}",
                        i ? ',' : '{', (i * 7919) % N);
    dps_buf_str (&header, "}");
    uint64_t len = header.len; /* little-endian, as the file has it */
    CU_ASSERT_FATAL (!dps_buf_add (&file, &len, 8) && !dps_buf_add (&file, header.data, header.len));
    snprintf (path, sizeof path, "%s/" DPS_CKPT_ADAPTER, dir);
    CHECK_OK (dps_file_write (path, file.data, file.len, &err));
    put (dir, DPS_CKPT_ADAPTER_CONFIG, "{\"peft_type\": \"LORA\", " R4);
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &start);
    CHECK_FAILS (dps_peft_open (dir, kit_plugin ("peft"), &a, &err), DPS_ERR_FORMAT, "'layers.0.q_proj' has no lora_B.weight");
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &end);
    CU_ASSERT (end.tv_sec - start.tv_sec < 5);
    dps_buf_free (&header);
    dps_buf_free (&file);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_missing_files_and_pickles (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("files");
    DpsPeftAdapter *a;
    CHECK_FAILS (dps_peft_open (dir, kit_plugin ("peft"), &a, &err), DPS_ERR_NOT_FOUND, "no such adapter folder");
    CHECK_OK (dps_mkdirs (dir, &err));
    CHECK_FAILS (dps_peft_open (dir, kit_plugin ("peft"), &a, &err), DPS_ERR_NOT_FOUND, "adapter_config.json: missing");
    put (dir, DPS_CKPT_ADAPTER_CONFIG, "{\"peft_type\": \"LORA\", " R4);
    CHECK_FAILS (dps_peft_open (dir, kit_plugin ("peft"), &a, &err), DPS_ERR_NOT_FOUND, DPS_CKPT_ADAPTER ": missing");
    put (dir, "adapter_model.bin", "\x80\x04");
    CHECK_FAILS (dps_peft_open (dir, kit_plugin ("peft"), &a, &err), DPS_ERR_POLICY, "a pickle can run code");
    put (dir, DPS_CKPT_ADAPTER, "not safetensors");
    CU_ASSERT (dps_peft_open (dir, kit_plugin ("peft"), &a, &err) != DPS_OK);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_the_base_s_digest_travels_in_the_metadata (void)
{
    static const char digest[] = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
    static const float zeros[64];
    static const char *const modules[] = {"q_proj"};
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("digest");
    DpsPeftAdapter *a;
    DpsPeftConfig c = {.r = 2, .lora_alpha = 4, .base_model = "google/gemma-3-270m", .targets = {.modules = {modules, 1}}};
    const DpsTensorOut list[] = {
        {.name = DPS_PEFT_PREFIX "m.q_proj.lora_A.weight", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {2, 5}, .data = zeros},
        {.name = DPS_PEFT_PREFIX "m.q_proj.lora_B.weight", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {3, 2}, .data = zeros}};
    const DpsPeftOut adapter = {.config = &c, .tensors = list, .n = 2, .base_sha256 = digest};
    CHECK_OK (dps_peft_write (&adapter, dir, NULL, kit_plugin ("peft"), &err));
    CHECK_OK (dps_peft_open (dir, kit_plugin ("peft"), &a, &err));
    CHECK_STR (a->base_sha256, digest);
    CHECK_STR (a->config.base_model, "google/gemma-3-270m");
    CU_ASSERT (a->modules[0].in == 5 && a->modules[0].out == 3 && a->modules[0].scale == 2);
    dps_peft_close (a);
    DpsCheckpointWriter *w;
    DpsCheckpoint *saved;
    CHECK_OK (dps_ckpt_begin (kit_format (), dir, 3, &w, &err));
    CHECK_OK (dps_peft_write (&adapter, NULL, w, kit_plugin ("peft"), &err));
    CHECK_OK (dps_ckpt_commit (w, &err));
    CHECK_OK (dps_ckpt_resume (dir, "auto", kit_format (), &saved, &err));
    CHECK_OK (dps_peft_open (dps_ckpt_path (saved), kit_plugin ("peft"), &a, &err));
    dps_ckpt_close (saved);
    DpsTensorFile *gemma;
    CHECK_OK (dps_tensors_open (kit_plugin ("safetensors"), DPS_TEST_DATA "/parity/models/gemma3/model.safetensors", &gemma, &err));
    CHECK_FAILS (dps_peft_check_base (a, shape_in_file, gemma, digest, &err), DPS_ERR_INVALID, "no linear map 'm.q_proj'");
    a->n_modules = 0; /* shapes fit, weights do not */
    CHECK_FAILS (dps_peft_check_base (a, shape_in_file, gemma, "b5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", &err),
                 DPS_ERR_DIGEST, "the weights do not");
    a->n_modules = 1;
    dps_peft_close (a);
    dps_tensors_close (gemma);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_init (void) { dps_json_init (); }

CHECK_MAIN ("ckpt.peft", T (test_init), T (test_every_golden_adapter_comes_back_byte_by_byte),
            T (test_an_adapter_is_checked_against_its_base), T (test_hostile_folders_are_refused_by_name),
            T (test_many_names_cost_no_square), T (test_missing_files_and_pickles), T (test_the_base_s_digest_travels_in_the_metadata))
