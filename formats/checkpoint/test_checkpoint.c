/* SPDX-License-Identifier: Apache-2.0 */
/* The checkpoint format: what goes in comes out under its file's name, what cannot be a checkpoint is refused, no allocation is taken for granted. */
#include "ckpt/tensors.h"
#include "file.h"
#include "format_kit.h"
#include "plugin/registry.h"

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *registry;

/* The linked-in plugin finds safetensors through the host, as the built one does. */
static void test_init (void)
{
    CHECK_OK (dps_registry_open (NULL, &registry, &err));
    CHECK_OK (dps_plugin_entry.init (dps_host (), "checkpoint", &err));
}

static void test_done (void) { dps_registry_close (registry); }

static const char *new_dir (void)
{
    static char dir[300];
    snprintf (dir, sizeof dir, DPS_BUILD "/tests/format-checkpoint-%ld", (long)getpid ());
    CHECK_OK (dps_remove_tree (dir, &err));
    CHECK_OK (dps_mkdirs (dir, &err));
    return dir;
}

static const float values[6] = {1, 2, 3, 4, 5, 6};
static const DpsTensorOut tensors[] = {{.name = "m.safetensors/a", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {2, 3}, .data = values},
                                       {.name = "m.safetensors/none", .dtype = DPS_DTYPE_F32, .rank = 1, .shape = {0}, .data = values},
                                       {.name = "o.safetensors/a", .dtype = DPS_DTYPE_F32, .rank = 1, .shape = {3}, .data = values + 3}};
static const DpsTensorMeta meta[] = {{.key = "step", .number = 40},
                                     {.key = "m.safetensors/format", .value = "pt"},
                                     {.key = "state.json", .value = "{}\n"},
                                     {.key = "tokenizer.model", .value = "\0\377x", .len = 3}};

static DpsStatus write_good (const char *dir) { return dps_tensors_write (kit_format (), dir, tensors, 3, meta, 4, &err); }

static DpsMeta get_meta (struct DpsFormatFile *f, const char *key)
{
    DpsMeta m = {.size = sizeof m};
    int64_t i = dps__format_meta (kit_format (), f, "", key);
    CU_ASSERT_FATAL (i >= 0);
    CHECK_OK (kit_format ()->meta (f, (uint64_t)i, &m, &err));
    return m;
}

static void test_everything_comes_back (void)
{
    static const char *const names[] = {"m.safetensors/a", "m.safetensors/none", "o.safetensors/a"};
    const DpsFormat *format = kit_format ();
    const char *dir = new_dir ();
    struct DpsFormatFile *f;
    uint64_t n = 0, n_meta = 0;
    float got[3];
    CU_ASSERT_EQUAL (format->probe (dps_str (dir), NULL, 0), 0);
    CHECK_OK (write_good (dir));
    CU_ASSERT_EQUAL (format->probe (dps_str (dir), NULL, 0), 95);
    CU_ASSERT_EQUAL (format->probe (dps_str (dir), "{", 1), 0);
    CHECK_OK (format->open (dps_str (dir), &f, &err));
    CHECK_OK (format->info (f, &n, &n_meta, &err));
    CU_ASSERT (n == 3 && n_meta == 4);
    for (uint64_t i = 0; i < n; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        CHECK_OK (format->tensor_info (f, i, &t, &err));
        CU_ASSERT (dps_str_is (t.name, names[i]));
    }
    CHECK_OK (format->read_f32 (f, 2, 1, 2, got, &err));
    CU_ASSERT (got[0] == 5 && got[1] == 6);
    CHECK_OK (format->read (f, 0, 4, 4, got, &err));
    CU_ASSERT_EQUAL (got[0], 2);
    DpsMeta m = get_meta (f, "step");
    CU_ASSERT (m.type == DPS_META_U64 && m.v.u == 40);
    CU_ASSERT (dps_str_is (get_meta (f, "m.safetensors/format").v.s, "pt"));
    CU_ASSERT (dps_str_is (get_meta (f, "state.json").v.s, "{}\n"));
    m = get_meta (f, "tokenizer.model");
    CU_ASSERT (m.v.s.len == 3 && !memcmp (m.v.s.ptr, "\0\377x", 3));
    kit_use (f);
    format->close (f);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_a_key_is_had_without_its_value (void)
{
    const DpsFormat *format = kit_format ();
    const char *dir = new_dir ();
    char path[400];
    struct DpsFormatFile *f;
    DpsMeta m = {.size = sizeof m};
    CHECK_OK (write_good (dir));
    CHECK_OK (format->open (dps_str (dir), &f, &err));
    snprintf (path, sizeof path, "%s/state.json", dir);
    CHECK_OK (dps_file_write (path, "[]\n", 3, &err)); /* as long, other bytes */
    int64_t i = dps__format_meta (format, f, "", "state.json");
    CU_ASSERT_FATAL (i >= 0);
    CHECK_FAILS (format->meta (f, (uint64_t)i, &m, &err), DPS_ERR_DIGEST, "state.json: changed since the checkpoint was opened");
    format->close (f);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_what_is_no_checkpoint_is_not_written (void)
{
    static const struct {
        DpsTensorOut t[3];
        DpsTensorMeta meta;
        const char *text;
        DpsStatus code;
    } cases[] = {
        {{{.name = "plain"}}, {.key = "step"}, "expected a name FILE/NAME", DPS_ERR_INVALID},
        {{{.name = "/x"}}, {.key = "step"}, "expected a name FILE/NAME", DPS_ERR_INVALID},
        {{{.name = "x/"}}, {.key = "step"}, "expected a name FILE/NAME", DPS_ERR_INVALID},
        {{{.name = "../x"}}, {.key = "step"}, "not a file name", DPS_ERR_INVALID},
        {{{.name = "a/x"}, {.name = "b/x"}, {.name = "a/y"}}, {.key = "step"}, "'a' comes twice", DPS_ERR_INVALID},
        {{{.name = "a/x"}, {.name = "a/x"}}, {.key = "step"}, "'x'", DPS_ERR_FORMAT},
        {{{.name = "a/x"}}, {.key = "a", .value = "y"}, "'a' comes twice", DPS_ERR_INVALID},
        {{{.name = "a/x"}}, {.key = "manifest.json", .value = "y"}, "not a file name", DPS_ERR_INVALID},
        {{{.name = "a/x"}}, {.key = "count", .number = 3}, "neither a string nor the step", DPS_ERR_INVALID},
        {{{.name = "a/x"}}, {.key = "a/k", .value = "y\0z", .len = 3}, "has a NUL", DPS_ERR_INVALID},
        {{{0}}, {.key = "step"}, "holds no file", DPS_ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *dir = new_dir ();
        DpsTensorOut list[3];
        size_t n = 0;
        for (; n < 3 && cases[i].t[n].name; n++) {
            list[n] = cases[i].t[n];
            list[n].dtype = DPS_DTYPE_F32;
            list[n].data = values;
        }
        int64_t live = dps_mem_live ();
        CHECK_FAILS (dps_tensors_write (kit_format (), dir, list, n, &cases[i].meta, 1, &err), cases[i].code, cases[i].text);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
        CU_ASSERT_EQUAL (kit_format ()->probe (dps_str (dir), NULL, 0), 0);
        CHECK_OK (dps_remove_tree (dir, &err));
    }
    CHECK_FAILS (dps_tensors_write (kit_format (), DPS_BUILD "/tests/one-file", tensors, 3, meta, 4, &err), DPS_ERR_UNSUPPORTED,
                 "cannot be written into one file");
    CU_ASSERT (!dps_is_file (DPS_BUILD "/tests/one-file"));
    const char *dir = new_dir ();
    CHECK_FAILS (dps_tensors_write (dps_registry_get (registry, DPS_FORMAT_ID, "safetensors"), dir, tensors, 1, NULL, 0, &err),
                 DPS_ERR_UNSUPPORTED, "is a folder, and the format writes one file");
    CHECK_OK (dps_remove_tree (dir, &err));
}

/* A stream that takes everything, to see what the writer thinks of its caller. */
static DpsStatus take (void *ctx, const void *data, size_t len, DpsError *e)
{
    (void)ctx, (void)data, (void)len, (void)e;
    return DPS_OK;
}
static DpsStatus open_any (void *ctx, DpsStr name, DpsStream *out, DpsError *e)
{
    (void)name, (void)e;
    *out = (DpsStream){.size = sizeof *out, .ctx = ctx, .write = take};
    return DPS_OK;
}
static DpsStatus close_any (void *ctx, char *digest, uint64_t *bytes, DpsError *e)
{
    (void)ctx, (void)e;
    if (digest)
        memset (digest, '0', 64);
    if (bytes)
        *bytes = 1;
    return DPS_OK;
}

static void test_the_writer_counts_bytes (void)
{
    static const int64_t shape[] = {3};
    const DpsStream to = {.size = sizeof to, .write = NULL, .open_member = open_any, .close_member = close_any};
    const DpsTensorInfo info = {
        .size = sizeof info, .name = dps_str ("a/x"), .dtype = dps_str ("F32"), .rank = 1, .shape = shape, .n_elements = 3, .bytes = 12};
    const DpsTensorInfo *const list[] = {&info};
    struct DpsFormatWriter *w;
    CHECK_OK (kit_format ()->create (&to, list, 1, NULL, 0, &w, &err));
    CHECK_OK (kit_format ()->write (w, values, 8, &err));
    CHECK_FAILS (kit_format ()->finish (w, &err), DPS_ERR_SHAPE, "'a/x' has 8 of 12 bytes");
    CHECK_OK (kit_format ()->create (&to, list, 1, NULL, 0, &w, &err));
    CHECK_FAILS (kit_format ()->write (w, values, 16, &err), DPS_ERR_SHAPE, "4 bytes more");
    kit_format ()->abandon (w);
    const DpsStream file = {.size = sizeof file, .write = take};
    CHECK_FAILS (kit_format ()->create (&file, list, 1, NULL, 0, &w, &err), DPS_ERR_UNSUPPORTED, "is a folder of files");
}

static void test_every_allocation_may_fail (void)
{
    const char *dir = new_dir ();
    int64_t live = dps_mem_live ();
    uint64_t k = 1;
    for (;; k++) {
        dps_mem_fail_at (k);
        DpsStatus st = write_good (dir);
        uint64_t used = dps_mem_count ();
        dps_mem_fail_at (0);
        CU_ASSERT_EQUAL_FATAL (dps_mem_live (), live);
        if (st == DPS_OK && used < k)
            break;
        CU_ASSERT (st == DPS_ERR_NOMEM || st == DPS_ERR_INTERNAL);
    }
    CU_ASSERT (k > 60);
    for (k = 1;; k++) {
        struct DpsFormatFile *f = NULL;
        dps_mem_fail_at (k);
        DpsStatus st = kit_format ()->open (dps_str (dir), &f, &err);
        uint64_t used = dps_mem_count ();
        dps_mem_fail_at (0);
        kit_format ()->close (f);
        CU_ASSERT_EQUAL_FATAL (dps_mem_live (), live);
        if (st == DPS_OK && used < k)
            break;
        CU_ASSERT (st == DPS_ERR_NOMEM || st == DPS_ERR_INTERNAL);
    }
    CU_ASSERT (k > 30);
    CHECK_OK (dps_remove_tree (dir, &err));
}

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_hostile_manifests_are_refused (void)
{
    static const struct {
        const char *json, *text;
        DpsStatus code;
    } cases[] = {
        {"", "the file ends, expected an object", DPS_ERR_FORMAT},
        {"[]", "expected an object", DPS_ERR_FORMAT},
        {"{}", "another version", DPS_ERR_VERSION},
        {"{\"diapason_checkpoint\": 2}", "another version", DPS_ERR_VERSION},
        {"{\"diapason_checkpoint\": 1} x", "nothing after the manifest", DPS_ERR_FORMAT},
        {"{\"step\": 1, \"step\": 2}", "'step' is given twice", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1}", "'step'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": -1}", "'step'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1e3}", "'step'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 99999999999999999999}", "'step'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1}", "'files'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {}}", "'files'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": []}", "'files'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"../../etc/passwd\": 1}}", "not a plain file name", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"/abs\": 1}}", "not a plain file name", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"manifest.json\": 1}}", "not a plain file name", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"a\": 1}}", "'a'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"a\": {\"bytes\": 1, \"sha256\": \"12\"}}}", "SHA-256 of 64",
         DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"a\": {\"bytes\": -1, \"sha256\": \"" DIGEST "\"}}}", "'a'",
         DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"a\": {\"bytes\": 1, \"sha256\": \"" DIGEST "\"}, \"a\": 1}}",
         "'a' is listed twice", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"a\": {\"bytes\": 1, \"sha256\": \"" DIGEST "\", \"tensors\": [1]}}}",
         "'tensors'", DPS_ERR_FORMAT},
        {"{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {\"a\": {\"bytes\": 1, \"sha256\": \"" DIGEST
         "\", \"tensors\": {\"t\": 1}}}}",
         "'t'", DPS_ERR_FORMAT},
    };
    int64_t live = dps_mem_live ();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsDigests m = {0};
        CHECK_FAILS (dps_digests_parse (cases[i].json, strlen (cases[i].json), "m", &m, &err), cases[i].code, cases[i].text);
        CU_ASSERT_EQUAL (m.n, 0);
    }
    DpsDigests m = {0};
    DpsBuf many = {0};
    CU_ASSERT_FATAL (!dps_buf_str (&many, "{\"diapason_checkpoint\": 1, \"step\": 1, \"files\": {"));
    for (int i = 0; i < 5000; i++)
        CU_ASSERT_FATAL (!dps_buf_printf (&many, "%s\"f%d\": 0", i ? "," : "", i));
    CU_ASSERT_FATAL (!dps_buf_str (&many, "}}"));
    CHECK_FAILS (dps_digests_parse (many.data, many.len, "m", &m, &err), DPS_ERR_LIMIT, "5000 files");
    dps_buf_free (&many);
    CU_ASSERT_EQUAL (dps_mem_live (), live);
}

CHECK_MAIN ("format.checkpoint", T (test_init), T (test_everything_comes_back), T (test_a_key_is_had_without_its_value),
            T (test_what_is_no_checkpoint_is_not_written), T (test_the_writer_counts_bytes), T (test_every_allocation_may_fail),
            T (test_hostile_manifests_are_refused), T (test_done))
