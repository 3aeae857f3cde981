/* SPDX-License-Identifier: Apache-2.0 */
/* Every block type of parity/quant in every range, metadata of every type; a file cut, flipped and short of memory everywhere; errors of use. */
#include "format_kit.h"
#include "gguf_make.h"
#include "safetensors_mini.h"

static DpsError err = DPS_ERROR_INIT;

static const struct {
    const char *name;
    uint32_t id, elements;
} blocks[] = {{"Q4_0", 2, 32},    {"Q4_1", 3, 32},   {"Q5_0", 6, 32},   {"Q5_1", 7, 32},   {"Q8_0", 8, 32},
              {"Q2_K", 10, 256},  {"Q3_K", 11, 256}, {"Q4_K", 12, 256}, {"Q5_K", 13, 256}, {"Q6_K", 14, 256},
              {"IQ4_NL", 20, 32}, {"BF16", 30, 32},  {"F16", 1, 32}};
enum { N_BLOCKS = sizeof blocks / sizeof *blocks };

static size_t block_of (const char *name, size_t len)
{
    for (size_t i = 0; i < N_BLOCKS; i++)
        if (strlen (blocks[i].name) == len && !memcmp (blocks[i].name, name, len))
            return i;
    printf ("\n    the parity file has block type '%.*s', which this test does not know\n", (int)len, name);
    CU_FAIL_FATAL ("unknown block type");
    return 0;
}

static void check_values (const char *what, size_t type, const float *got, const float *want, int64_t n)
{
    int exact = !strcmp (blocks[type].name, "BF16") || !strcmp (blocks[type].name, "F16"), wrong = 0;
    for (int64_t b = 0; b < n; b += blocks[type].elements) {
        float largest = 0;
        for (int64_t i = b; i < b + blocks[type].elements; i++)
            largest = fmaxf (largest, fabsf (want[i]));
        for (int64_t i = b; i < b + blocks[type].elements; i++)
            wrong += exact ? memcmp (&got[i], &want[i], 4) != 0 : !(fabsf (got[i] - want[i]) <= 1e-6f * largest);
    }
    if (wrong)
        printf ("\n    %s: %d of %lld values are off\n", what, wrong, (long long)n);
    CU_ASSERT_EQUAL (wrong, 0);
}

/* A one-tensor file of these blocks, read whole and then in every short range. */
static void check_blocks (const char *what, size_t type, const void *bytes, size_t n_bytes, const float *want, int64_t n)
{
    GgufMake m = {0};
    DpsBuf file;
    struct DpsFormatFile *f;
    DpsTensorInfo t = {.size = sizeof t};
    const DpsFormat *format = kit_format ();
    uint64_t ne[2] = {blocks[type].elements, (uint64_t)n / blocks[type].elements};
    float *whole = malloc ((size_t)n * 4), *part = malloc ((size_t)n * 4);
    gm_tensor (&m, "w", 2, ne, blocks[type].id, bytes, n_bytes);
    gm_finish (&m, &file);
    CHECK_OK (kit_open (file.data, file.len, &f, &err));
    CHECK_OK (format->tensor_info (f, 0, &t, &err));
    CU_ASSERT (dps_str_is (t.dtype, blocks[type].name) && t.rank == 2 && t.bytes == n_bytes && t.n_elements == (uint64_t)n);
    CU_ASSERT (t.shape[0] == (int64_t)ne[1] && t.shape[1] == (int64_t)ne[0]);
    CHECK_OK (format->read_f32 (f, 0, 0, (uint64_t)n, whole, &err));
    check_values (what, type, whole, want, n);
    for (int64_t first = 0; first < n; first += 1 + first / 16)
        for (int64_t len = 0; len <= n - first; len = len * 2 + 1) {
            memset (part, 0x7f, (size_t)n * 4);
            CHECK_OK (format->read_f32 (f, 0, (uint64_t)first, (uint64_t)len, part, &err));
            CU_ASSERT_EQUAL (memcmp (part, whole + first, (size_t)len * 4), 0);
        }
    format->close (f);
    free (whole);
    free (part);
    dps_buf_free (&file);
}

static void test_parity_every_block_type (void)
{
    StFile parity;
    size_t n_checked = 0;
    st_open (&parity, parity_path ("quant/gguf.safetensors"));
    ST_EACH (&parity, t)
    {
        static const char *const sides[][2] = {{".blocks", ".dequantised"}, {".quantised", ".input_dequantised"}};
        for (int s = 0; s < 2; s++) {
            const char *dot = strchr (t.name, '.');
            if (strcmp (dot, sides[s][0]))
                continue;
            char values[64];
            int64_t n;
            size_t type = block_of (t.name, (size_t)(dot - t.name));
            snprintf (values, sizeof values, "%s%s", blocks[type].name, sides[s][1]);
            const float *want = st_f32 (&parity, values, &n);
            check_blocks (t.name, type, t.data, t.bytes, want, n);
            n_checked++;
        }
    }
    CU_ASSERT_EQUAL (n_checked, N_BLOCKS + 7); /* 7 types also as a quantiser leaves them */
    st_close (&parity);
}

static void check_types_tensor (struct DpsFormatFile *f, uint64_t i, const StFile *parity)
{
    const DpsFormat *format = kit_format ();
    DpsTensorInfo t = {.size = sizeof t};
    char name[64];
    int64_t n;
    float values[24 * 256];
    const void *bytes;
    CHECK_OK (format->tensor_info (f, i, &t, &err));
    CU_ASSERT_FATAL (t.n_elements <= sizeof values / sizeof *values && t.name.len > 2 && !memcmp (t.name.ptr, "t.", 2));
    CHECK_OK (format->read_f32 (f, i, 0, t.n_elements, values, &err));
    CHECK_OK (format->map (f, i, &bytes, &err));
    CU_ASSERT_EQUAL (t.file_offset % 32, 0);
    if (dps_str_is (t.dtype, "F32")) {
        const float *want = st_f32 (parity, "F32.values", &n);
        CU_ASSERT (t.n_elements == (uint64_t)n && !memcmp (values, want, (size_t)n * 4) && t.shape[0] == 3 && t.shape[1] == 5);
        return;
    }
    size_t type = block_of (t.dtype.ptr, t.dtype.len);
    snprintf (name, sizeof name, "%s.dequantised", blocks[type].name);
    const float *want = st_f32 (parity, name, &n);
    CU_ASSERT_EQUAL_FATAL (t.n_elements, (uint64_t)n);
    check_values (name, type, values, want, n);
    snprintf (name, sizeof name, "%s.blocks", blocks[type].name);
    StTensor raw = st_get (parity, name);
    CU_ASSERT (t.bytes == raw.bytes && !memcmp (bytes, raw.data, raw.bytes));
}

static DpsMeta meta_of (struct DpsFormatFile *f, const char *key)
{
    const DpsFormat *format = kit_format ();
    uint64_t n;
    DpsMeta m = {.size = sizeof m};
    CHECK_OK (format->info (f, NULL, &n, &err));
    for (uint64_t i = 0; i < n; i++) {
        CHECK_OK (format->meta (f, i, &m, &err));
        if (dps_str_is (m.key, key))
            return m;
    }
    printf ("\n    no key %s\n", key);
    CU_FAIL_FATAL ("key is missing");
    return m;
}

static void test_parity_all_types_gguf (void)
{
    DpsBuf bytes = {0};
    StFile parity;
    struct DpsFormatFile *f;
    uint64_t n_tensors, n_meta;
    st_open (&parity, parity_path ("quant/gguf.safetensors"));
    CHECK_OK (dps_file_read (parity_path ("quant/all_types.gguf"), 1 << 20, &bytes, &err));
    CHECK_OK (kit_open (bytes.data, bytes.len, &f, &err));
    CHECK_OK (kit_format ()->info (f, &n_tensors, &n_meta, &err));
    CU_ASSERT_EQUAL (n_tensors, N_BLOCKS + 1);
    CU_ASSERT_EQUAL (n_meta, 16);
    for (uint64_t i = 0; i < n_tensors; i++)
        check_types_tensor (f, i, &parity);
    static const struct {
        const char *key;
        uint32_t type, raw;
        uint64_t bits; /* of u or i */
        double f;
    } scalars[] = {
        {"parity.uint8", DPS_META_U64, GM_U8, 200, 0},
        {"parity.int8", DPS_META_I64, GM_I8, (uint64_t)-100, 0},
        {"parity.uint16", DPS_META_U64, GM_U16, 60000, 0},
        {"parity.int16", DPS_META_I64, GM_I16, (uint64_t)-30000, 0},
        {"parity.uint32", DPS_META_U64, GM_U32, 4000000000u, 0},
        {"parity.int32", DPS_META_I64, GM_I32, (uint64_t)-2000000000, 0},
        {"parity.bool", DPS_META_BOOL, GM_BOOL, 1, 0},
        {"parity.uint64", DPS_META_U64, GM_U64, 9223372036854775809u, 0},
        {"parity.int64", DPS_META_I64, GM_I64, (uint64_t)-4611686018427387904, 0},
        {"parity.float32", DPS_META_F64, GM_F32, 0, (double)0.1f},
        {"parity.float64", DPS_META_F64, GM_F64, 0, 0.1},
    };
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        DpsMeta m = meta_of (f, scalars[i].key);
        CU_ASSERT (m.type == scalars[i].type && m.raw_type == scalars[i].raw && m.n == 1);
        CU_ASSERT (m.type == DPS_META_F64 ? m.v.f == scalars[i].f : m.v.u == scalars[i].bits);
    }
    CU_ASSERT (dps_str_is (meta_of (f, "general.architecture").v.s, "parity"));
    CU_ASSERT (dps_str_is (meta_of (f, "parity.string").v.s, "chaîne 漢字 🙂"));
    DpsMeta strings = meta_of (f, "parity.strings"), ints = meta_of (f, "parity.ints"), floats = meta_of (f, "parity.floats");
    const DpsStr *s = strings.v.array;
    const int64_t *k = ints.v.array;
    const double *d = floats.v.array;
    CU_ASSERT (strings.type == DPS_META_ARRAY && strings.elem_type == DPS_META_STR && strings.n == 3);
    CU_ASSERT (dps_str_is (s[0], "") && dps_str_is (s[1], "é") && dps_str_is (s[2], "two words"));
    CU_ASSERT (ints.elem_type == DPS_META_I64 && ints.raw_elem_type == GM_I32 && ints.n == 3 && k[0] == 3 && k[1] == -1 && k[2] == 2);
    CU_ASSERT (floats.elem_type == DPS_META_F64 && floats.n == 2 && d[0] == 0.5 && d[1] == -1.25);
    kit_use (f);
    kit_format ()->close (f);
    st_close (&parity);
    dps_buf_free (&bytes);
}

/* The types of the format that are no blocks, at their extremes; and both versions with reader. */
static void test_plain_types_and_versions (void)
{
    const int8_t i8[2] = {-128, 127};
    const int16_t i16[2] = {-32768, 3};
    const int32_t i32[2] = {-2147483647 - 1, 16777216};
    const int64_t i64[2] = {-(1ll << 40), 5};
    const double f64[2] = {1e-300, -2.5};
    const float f32[2] = {-0.0f, 1e-45f};
    const struct {
        const char *dtype;
        uint32_t id;
        const void *data;
        size_t bytes;
        float want[2];
    } types[] = {{"F32", 0, f32, 8, {-0.0f, 1e-45f}},      {"I8", 24, i8, 2, {-128, 127}},      {"I16", 25, i16, 4, {-32768, 3}},
                 {"I32", 26, i32, 8, {-0x1p31f, 0x1p24f}}, {"I64", 27, i64, 16, {-0x1p40f, 5}}, {"F64", 28, f64, 16, {0, -2.5f}}};
    for (uint32_t version = 2; version <= 3; version++)
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            GgufMake m = {.version = version, .alignment = 8};
            DpsBuf file;
            struct DpsFormatFile *f;
            DpsTensorInfo t = {.size = sizeof t};
            float got[2];
            gm_meta_u32 (&m, "general.alignment", 8);
            gm_tensor (&m, "t", 1, (uint64_t[]){2}, types[i].id, types[i].data, types[i].bytes);
            gm_finish (&m, &file);
            CHECK_OK (kit_open (file.data, file.len, &f, &err));
            CHECK_OK (kit_format ()->tensor_info (f, 0, &t, &err));
            CU_ASSERT (dps_str_is (t.dtype, types[i].dtype));
            CHECK_OK (kit_format ()->read_f32 (f, 0, 0, 2, got, &err));
            CU_ASSERT_EQUAL (memcmp (got, types[i].want, sizeof got), 0);
            kit_use (f);
            kit_format ()->close (f);
            dps_buf_free (&file);
        }
}

static void test_probe (void)
{
    CU_ASSERT_EQUAL (kit_format ()->probe (dps_str ("x.bin"), "GGUF\3\0\0\0", 8), 100);
    CU_ASSERT_EQUAL (kit_format ()->probe (dps_str ("x.gguf"), "GGU", 3), 0);
    CU_ASSERT_EQUAL (kit_format ()->probe (dps_str ("x.gguf"), "\x93NUMPY", 6), 0);
    CU_ASSERT_PTR_NULL (kit_format ()->create); /* read-only */
}

/* A small file that has everything; the cuts, flips and failed allocations go through it. */
static size_t small_file (DpsBuf *out)
{
    static const unsigned char zeros[256];
    GgufMake m = {0};
    gm_meta_str (&m, "general.architecture", "llama");
    gm_meta_u32 (&m, "llama.block_count", 1);
    gm_meta (&m, "flag", GM_BOOL, "\1", 1);
    gm_meta (&m, "wide", GM_F64, "\0\0\0\0\0\0\xf0\x3f", 8);
    gm_array (&m, "numbers", GM_I16, 3, "\1\0\2\0\3\0", 6);
    gm_array (&m, "flags", GM_BOOL, 2, "\0\1", 2);
    gm_array (&m, "tokens", GM_STR, 2, "\1\0\0\0\0\0\0\0a\0\0\0\0\0\0\0\0", 17);
    gm_tensor (&m, "token_embd.weight", 2, (uint64_t[]){32, 2}, 8, zeros, 68);
    gm_tensor (&m, "output_norm.weight", 1, (uint64_t[]){4}, 0, zeros, 16);
    gm_tensor (&m, "scalar", 0, NULL, 0, zeros, 4);
    return gm_finish (&m, out);
}

static void test_every_cut_flip_and_allocation (void)
{
    DpsBuf file;
    struct DpsFormatFile *f;
    size_t header = small_file (&file);
    CHECK_OK (kit_open (file.data, file.len, &f, &err));
    kit_use (f);
    kit_format ()->close (f);
    kit_every_cut (file.data, file.len);
    kit_every_flip (file.data, file.len, header);
    kit_every_allocation (file.data, file.len);
    dps_buf_free (&file);
    CHECK_OK (dps_file_read (parity_path ("quant/all_types.gguf"), 1 << 20, &file, &err));
    kit_every_cut (file.data, file.len - 4); /* 60 bytes of the last tensor, 4 of padding */
    dps_buf_free (&file);
}

static void test_errors_of_use (void)
{
    DpsBuf file;
    struct DpsFormatFile *f;
    float x[4];
    DpsTensorInfo t = {.size = sizeof t};
    DpsMeta meta = {.size = sizeof meta};
    small_file (&file);
    CHECK_OK (kit_open (file.data, file.len, &f, &err));
    CHECK_FAILS (kit_format ()->read_f32 (f, 0, 62, 3, x, &err), DPS_ERR_SHAPE, "token_embd.weight");
    CHECK_FAILS (kit_format ()->read_f32 (f, 3, 0, 1, x, &err), DPS_ERR_NOT_FOUND, "tensor 3 of 3");
    CHECK_FAILS (kit_format ()->read (f, 1, 14, 3, x, &err), DPS_ERR_SHAPE, "output_norm.weight");
    CHECK_FAILS (kit_format ()->tensor_info (f, 9, &t, &err), DPS_ERR_NOT_FOUND, "tensor 9 of 3");
    CHECK_FAILS (kit_format ()->meta (f, 7, &meta, &err), DPS_ERR_NOT_FOUND, "key-value 7 of 7");
    kit_format ()->close (f);
    kit_format ()->close (NULL);
    dps_buf_free (&file);
}

/* A vocabulary of Gemma's size opens at once. */
static void test_large_vocabulary_opens_fast (void)
{
    enum { N = 262144 };
    GgufMake m = {0};
    DpsBuf file, strings = {0};
    struct DpsFormatFile *f;
    char text[32];
    float *scores = calloc (N, sizeof *scores);
    for (int i = 0; i < N; i++) {
        snprintf (text, sizeof text, "token %d", i);
        gm_str (&strings, text);
    }
    gm_array (&m, "tokenizer.ggml.tokens", GM_STR, N, strings.data, strings.len);
    gm_array (&m, "tokenizer.ggml.scores", GM_F32, N, scores, N * sizeof *scores);
    gm_array (&m, "tokenizer.ggml.token_type", GM_I32, N, scores, N * sizeof *scores);
    gm_finish (&m, &file);
    double best = 1e9;
    for (int turn = 0; turn < 3; turn++) {
        const char *path = kit_file (file.data, file.len);
        double start = kit_seconds ();
        CHECK_OK (kit_format ()->open (dps_str (path), &f, &err));
        best = fmin (best, kit_seconds () - start);
        DpsMeta tokens = meta_of (f, "tokenizer.ggml.tokens");
        CU_ASSERT (tokens.n == N && dps_str_is (((const DpsStr *)tokens.v.array)[N - 1], "token 262143"));
        kit_format ()->close (f);
    }
    printf ("%.1f ms … ", best * 1e3);
    CU_ASSERT (best <= 0.1);
    dps_buf_free (&file);
    dps_buf_free (&strings);
    free (scores);
}

CHECK_MAIN ("gguf", T (test_parity_every_block_type), T (test_parity_all_types_gguf), T (test_plain_types_and_versions), T (test_probe),
            T (test_every_cut_flip_and_allocation), T (test_errors_of_use), T (test_large_vocabulary_opens_fast))
