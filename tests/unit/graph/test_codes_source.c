/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder as bitsandbytes saves it, read through graph/source.h: parity's entries under a weight's name have its numbers, from any element to
 * any; each thing that can be wrong with one is an error with the tensor's name.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "graph/source.h"
#include "safetensors_mini.h"

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *reg;
static char folder[256];

#define WEIGHT "model.layers.0.self_attn.q_proj.weight"
#define SCALES "model.layers.0.self_attn.q_proj.SCB"

/* One tensor of the file to write. */
typedef struct Piece {
    char name[192], dtype[8], shape[32];
    const void *data;
    size_t bytes;
} Piece;

enum { MAX_PIECES = 8 };
typedef struct Pieces {
    Piece at[MAX_PIECES];
    size_t n;
} Pieces;

static Piece *piece (Pieces *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (!strcmp (p->at[i].name, name))
            return &p->at[i];
    CU_FAIL_FATAL ("no such piece");
    return NULL;
}

static void add (Pieces *p, const char *name, const char *dtype, const char *shape, const void *data, size_t bytes)
{
    Piece *at = &p->at[p->n++];
    snprintf (at->name, sizeof at->name, "%s", name);
    snprintf (at->dtype, sizeof at->dtype, "%s", dtype);
    snprintf (at->shape, sizeof at->shape, "%s", shape);
    at->data = data;
    at->bytes = bytes;
}

static void drop (Pieces *p, const char *name)
{
    Piece *at = piece (p, name);
    memmove (at, at + 1, (size_t)(&p->at[p->n] - (at + 1)) * sizeof *at);
    p->n--;
}

static void write_whole (const char *name, const DpsBuf *b)
{
    char path[300];
    snprintf (path, sizeof path, "%s/%s", folder, name);
    CHECK_OK (dps_file_write (path, b->data, b->len, &err));
}

static void write_folder (const Pieces *p, const char *config)
{
    DpsBuf header = {0}, file = {0};
    size_t at = 0;
    CU_ASSERT_EQUAL_FATAL (dps_buf_str (&header, "{"), 0);
    for (size_t i = 0; i < p->n; i++) {
        const Piece *t = &p->at[i];
        CU_ASSERT_EQUAL_FATAL (dps_buf_printf (&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                                               i ? "," : "", t->name, t->dtype, t->shape, at, at + t->bytes),
                               0);
        at += t->bytes;
    }
    CU_ASSERT_EQUAL_FATAL (dps_buf_str (&header, "}"), 0);
    uint64_t len = header.len;
    CU_ASSERT_EQUAL_FATAL (dps_buf_add (&file, &len, 8) | dps_buf_add (&file, header.data, header.len), 0);
    for (size_t i = 0; i < p->n; i++)
        CU_ASSERT_EQUAL_FATAL (dps_buf_add (&file, p->at[i].data, p->at[i].bytes), 0);
    write_whole ("model.safetensors", &file);
    dps_buf_free (&header);
    dps_buf_free (&file);
    CU_ASSERT_EQUAL_FATAL (dps_buf_str (&file, config), 0);
    write_whole ("config.json", &file);
    dps_buf_free (&file);
}

static void open_folder (void)
{
    if (reg)
        return;
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    snprintf (folder, sizeof folder, "%s/dps-codes-XXXXXX", getenv ("TMPDIR") ? getenv ("TMPDIR") : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL (mkdtemp (folder));
}

/* The pieces of entry "odd.nf4_double" (or another) of parity. */
static void four_bits (const StFile *f, const char *entry, const char *type, Pieces *p)
{
    static const char *const names[][2] = {
        {"absmax", "absmax"}, {"quant_map", "quant_map"}, {"nested_absmax", "nested_absmax"}, {"nested_quant_map", "nested_quant_map"}};
    char name[128], to[160], shape[32];
    StTensor t;
    *p = (Pieces){0};
    snprintf (name, sizeof name, "%s.packed", entry);
    t = st_get (f, name);
    snprintf (shape, sizeof shape, "%lld,1", (long long)t.n);
    add (p, WEIGHT, "U8", shape, t.data, t.bytes);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf (name, sizeof name, "%s.%s", entry, names[i][0]);
        if (!st_find (f, name, &t))
            continue;
        snprintf (to, sizeof to, WEIGHT ".%s", names[i][1]);
        snprintf (shape, sizeof shape, "%lld", (long long)t.n);
        add (p, to, t.dtype, shape, t.data, t.bytes);
    }
    snprintf (name, sizeof name, "%s.quant_state.bitsandbytes__%s", entry, type);
    t = st_get (f, name);
    snprintf (to, sizeof to, WEIGHT ".quant_state.bitsandbytes__%s", type);
    snprintf (shape, sizeof shape, "%lld", (long long)t.n);
    add (p, to, "U8", shape, t.data, t.bytes);
}

static void eight_bits (const StFile *f, const char *entry, Pieces *p)
{
    char name[128], shape[32];
    *p = (Pieces){0};
    snprintf (name, sizeof name, "%s.codes", entry);
    StTensor t = st_get (f, name);
    snprintf (shape, sizeof shape, "%lld,%lld", (long long)t.shape[0], (long long)t.shape[1]);
    add (p, WEIGHT, "I8", shape, t.data, t.bytes);
    snprintf (name, sizeof name, "%s.absmax", entry);
    t = st_get (f, name);
    snprintf (shape, sizeof shape, "%lld", (long long)t.n);
    add (p, SCALES, "F32", shape, t.data, t.bytes);
    add (p, WEIGHT "_format", "U8", "", "", 1);
}

static void check_numbers (DpsQuantForm form, int64_t rows, int64_t cols, const float *want)
{
    DpsSource *s;
    DpsTensorInfo t = {.size = sizeof t};
    int64_t n = rows * cols;
    float *got = calloc ((size_t)n, sizeof *got), largest = 0;
    CHECK_OK (dps_source_open (reg, folder, &s, &err));
    int64_t at = dps_source_find (s, WEIGHT);
    CU_ASSERT_FATAL (at >= 0);
    CHECK_OK (dps_source_info (s, (size_t)at, &t, &err));
    CU_ASSERT (t.rank == 2 && t.shape[0] == rows && t.shape[1] == cols && t.n_elements == (uint64_t)n);
    DpsQuantForm read = dps_source_form (s, (size_t)at);
    CU_ASSERT (read.type == form.type && read.block == form.block && read.nested == form.nested);
    for (size_t i = 0; i < dps_source_count (s); i++)
        CU_ASSERT_EQUAL (dps_source_is_part (s, i), (int64_t)i != at);
    for (int64_t i = 0; i < n; i++)
        largest = fabsf (want[i]) > largest ? fabsf (want[i]) : largest;
    for (int64_t first = 0; first < n; first += 1 + first / 3)
        for (int64_t len = 0; len <= n - first; len = 3 * len + 1) {
            CHECK_OK (dps_source_read (s, (size_t)at, (uint64_t)first, (uint64_t)len, got, &err));
            for (int64_t k = 0; k < len; k++)
                CU_ASSERT (fabsf (got[k] - want[first + k]) <= 1e-6f * largest);
        }
    CHECK_FAILS (dps_source_read (s, (size_t)at, 1, (uint64_t)n, got, &err), DPS_ERR_SHAPE, "outside tensor '" WEIGHT);
    free (got);
    dps_source_close (s);
}

static void test_numbers (void)
{
    static const struct {
        const char *entry, *type;
        DpsQuantForm form;
    } cases[] = {{"big.nf4", "nf4", {DPS_QUANT_NF4, 64, 0}},        {"odd.nf4", "nf4", {DPS_QUANT_NF4, 64, 0}},
                 {"big.nf4_double", "nf4", {DPS_QUANT_NF4, 64, 1}}, {"odd.nf4_double", "nf4", {DPS_QUANT_NF4, 64, 1}},
                 {"big.fp4", "fp4", {DPS_QUANT_FP4, 64, 0}},        {"odd.fp4_double", "fp4", {DPS_QUANT_FP4, 64, 1}}};
    StFile f;
    Pieces p;
    open_folder ();
    st_open (&f, parity_path ("quant/bitsandbytes.safetensors"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64];
        four_bits (&f, cases[i].entry, cases[i].type, &p);
        write_folder (&p, "{}");
        snprintf (name, sizeof name, "%s.dequantised", cases[i].entry);
        StTensor want = st_get (&f, name);
        float *values = malloc (want.bytes);
        memcpy (values, want.data, want.bytes);
        check_numbers (cases[i].form, want.shape[0], want.shape[1], values);
        free (values);
    }
    for (int big = 0; big < 2; big++) {
        eight_bits (&f, big ? "big.int8_rowwise" : "odd.int8_rowwise", &p);
        write_folder (&p, "{}");
        StTensor codes = st_get (&f, big ? "big.int8_rowwise.codes" : "odd.int8_rowwise.codes"),
                 scales = st_get (&f, big ? "big.int8_rowwise.absmax" : "odd.int8_rowwise.absmax");
        float *values = calloc ((size_t)codes.n, sizeof *values), scale;
        for (int64_t k = 0; k < codes.n; k++) {
            memcpy (&scale, (const char *)scales.data + 4 * (k / codes.shape[1]), 4);
            values[k] = (float)((const int8_t *)codes.data)[k] * scale / 127;
        }
        check_numbers ((DpsQuantForm){DPS_QUANT_INT8, 0, 0}, codes.shape[0], codes.shape[1], values);
        free (values);
    }
    st_close (&f);
}

static void refused (const Pieces *p, DpsStatus code, const char *text)
{
    DpsSource *s;
    write_folder (p, "{}");
    CHECK_FAILS (dps_source_open (reg, folder, &s, &err), code, text);
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, WEIGHT));
}

/* A state in place of the file's. */
static void refused_state (const StFile *f, const char *state, DpsStatus code, const char *text)
{
    Pieces p;
    four_bits (f, "odd.nf4_double", "nf4", &p);
    Piece *at = piece (&p, WEIGHT ".quant_state.bitsandbytes__nf4");
    at->data = state;
    at->bytes = strlen (state);
    snprintf (at->shape, sizeof at->shape, "%zu", at->bytes);
    refused (&p, code, text);
}

static void test_what_is_wrong_is_named (void)
{
    StFile f;
    Pieces p;
    open_folder ();
    st_open (&f, parity_path ("quant/bitsandbytes.safetensors"));
    static const struct {
        const char *drop, *text;
    } missing[] = {{WEIGHT ".absmax", ".absmax' is missing"},
                   {WEIGHT ".quant_map", ".quant_map' is missing"},
                   {WEIGHT ".nested_absmax", ".nested_absmax' is missing"},
                   {WEIGHT ".nested_quant_map", ".nested_quant_map' is missing"},
                   {WEIGHT ".quant_state.bitsandbytes__nf4", "what they mean is missing"}};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        four_bits (&f, "odd.nf4_double", "nf4", &p);
        drop (&p, missing[i].drop);
        refused (&p, DPS_ERR_FORMAT, missing[i].text);
    }
    static const struct {
        const char *name, *dtype, *shape;
        size_t bytes;
        const char *text;
    } wrong[] = {{WEIGHT ".absmax", "U8", "1", 1, "its absmax has 1 numbers of type U8, expected 2 of type U8"},
                 {WEIGHT ".absmax", "F32", "2", 8, "its absmax has 2 numbers of type F32, expected 2 of type U8"},
                 {WEIGHT ".quant_map", "F32", "15", 60, "its quant_map has 15 numbers of type F32, expected 16"},
                 {WEIGHT ".nested_quant_map", "F32", "255", 1020, "its nested_quant_map has 255 numbers"},
                 {WEIGHT ".nested_absmax", "F32", "2", 8, "its nested_absmax has 2 numbers of type F32, expected 1"},
                 {WEIGHT, "U8", "45,1", 45, "holds 45 bytes of type U8, expected 46"},
                 {WEIGHT, "I8", "46,1", 46, "holds 46 bytes of type I8, expected 46 of type U8"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        static const char room[1024] = {0};
        four_bits (&f, "odd.nf4_double", "nf4", &p);
        Piece *at = piece (&p, wrong[i].name);
        snprintf (at->dtype, sizeof at->dtype, "%s", wrong[i].dtype);
        snprintf (at->shape, sizeof at->shape, "%s", wrong[i].shape);
        at->data = room;
        at->bytes = wrong[i].bytes;
        refused (&p, DPS_ERR_SHAPE, wrong[i].text);
    }
    eight_bits (&f, "odd.int8_rowwise", &p);
    snprintf (piece (&p, SCALES)->shape, 32, "6");
    piece (&p, SCALES)->bytes = 24;
    refused (&p, DPS_ERR_SHAPE, "has 6 8-bit scales (SCB) of type F32, expected 7");
    eight_bits (&f, "odd.int8_rowwise", &p);
    piece (&p, WEIGHT "_format")->data = "\1";
    refused (&p, DPS_ERR_UNSUPPORTED, "has weight_format 1, expected 0");
    eight_bits (&f, "odd.int8_rowwise", &p);
    drop (&p, SCALES);
    refused (&p, DPS_ERR_FORMAT, "what they mean is missing");
    st_close (&f);
}

#define STATE(block, nested)                                                                                                               \
    "{\"quant_type\":\"nf4\",\"blocksize\":" block ",\"shape\":[7,13],\"nested_blocksize\":" nested ",\"nested_offset\":2.5}"

static void test_states_that_are_wrong (void)
{
    StFile f;
    open_folder ();
    st_open (&f, parity_path ("quant/bitsandbytes.safetensors"));
    refused_state (&f, STATE ("128", "256"), DPS_ERR_SHAPE, "its absmax has 2 numbers of type U8, expected 1");
    refused_state (&f, STATE ("96", "256"), DPS_ERR_UNSUPPORTED, "is in blocks of 96");
    refused_state (&f, STATE ("0", "256"), DPS_ERR_FORMAT, "blocksize is 0");
    refused_state (&f, STATE ("\"64\"", "256"), DPS_ERR_FORMAT, "blocksize");
    refused_state (&f, STATE ("64", "128"), DPS_ERR_FORMAT, "nested_blocksize is 128");
    refused_state (&f, "{\"quant_type\":\"nf4\",\"blocksize\":64,\"shape\":[7]}", DPS_ERR_FORMAT, "shape has 1 dimensions");
    refused_state (&f, "{\"quant_type\":\"nf4\",\"blocksize\":64,\"shape\":[7,-13]}", DPS_ERR_FORMAT, "shape is -13");
    refused_state (&f, "{\"quant_type\":\"int2\",\"blocksize\":64,\"shape\":[7,13]}", DPS_ERR_UNSUPPORTED, "quant_type is 'int2'");
    refused_state (&f, "{\"quant_type\":\"nf4\",\"blocksize\":64,\"shape\":[8,13]}", DPS_ERR_SHAPE, "expected 52");
    refused_state (&f, "{\"quant_type\":\"nf4\",\"blocksize\":64,\"shape\":[7,13],\"nested_blocksize\":256}", DPS_ERR_FORMAT,
                   "without nested_offset");
    refused_state (&f, "{", DPS_ERR_FORMAT, "quant_state");
    st_close (&f);
}

static void test_other_methods_are_refused (void)
{
    StFile f;
    Pieces p;
    DpsSource *s;
    char path[300];
    open_folder ();
    st_open (&f, parity_path ("quant/bitsandbytes.safetensors"));
    four_bits (&f, "odd.nf4", "nf4", &p);
    write_folder (&p, "{\"quantization_config\":{\"quant_method\":\"gptq\"}}");
    CHECK_FAILS (dps_source_open (reg, folder, &s, &err), DPS_ERR_UNSUPPORTED, "quant_method is 'gptq'");
    write_folder (&p, "{\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}");
    CHECK_OK (dps_source_open (reg, folder, &s, &err));
    dps_source_close (s);
    st_close (&f);
    static const char *const names[] = {"model.safetensors", "config.json", "."};
    for (size_t i = 0; i < 3; i++) {
        snprintf (path, sizeof path, "%s/%s", folder, names[i]);
        (void)(i < 2 ? remove (path) : rmdir (folder));
    }
    dps_registry_close (reg);
    reg = NULL;
}

CHECK_MAIN ("codes of a source", T (test_numbers), T (test_what_is_wrong_is_named), T (test_states_that_are_wrong),
            T (test_other_methods_are_refused))
