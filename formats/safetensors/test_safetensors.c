/* SPDX-License-Identifier: Apache-2.0 */
/* Every parity file against a reader of its own, all dtypes, writing, and the hostile headers of RELIABILITY section 3. */
#include <dirent.h>

#include "format_kit.h"
#include "safetensors_mini.h"

static DpsError err = DPS_ERROR_INIT;

/* A file of this header (its length is filled in) and n zero bytes of data. */
static void make (DpsBuf *out, const char *header, size_t data_bytes)
{
    uint64_t n = strlen (header);
    *out = (DpsBuf){0};
    CU_ASSERT_EQUAL_FATAL (dps_buf_add (out, &n, 8) || dps_buf_str (out, header) || dps_buf_reserve (out, data_bytes + 1), 0);
    memset (out->data + out->len, 0, data_bytes);
    out->len += data_bytes;
}

static int64_t find (struct DpsFormatFile *f, const char *name, DpsTensorInfo *out)
{
    uint64_t n;
    CHECK_OK (kit_format ()->info (f, &n, NULL, &err));
    for (uint64_t i = 0; i < n; i++) {
        *out = (DpsTensorInfo){.size = sizeof *out};
        CHECK_OK (kit_format ()->tensor_info (f, i, out, &err));
        if (dps_str_is (out->name, name))
            return (int64_t)i;
    }
    return -1;
}

static void check_against_mini (const char *path)
{
    StFile mini;
    struct DpsFormatFile *f;
    uint64_t n, seen = 0;
    st_open (&mini, path);
    CHECK_OK (kit_format ()->open (dps_str (path), &f, &err));
    CHECK_OK (kit_format ()->info (f, &n, NULL, &err));
    ST_EACH (&mini, want)
    {
        DpsTensorInfo t;
        const void *bytes;
        int64_t i = find (f, want.name, &t);
        CU_ASSERT_FATAL (i >= 0);
        CU_ASSERT (dps_str_is (t.dtype, want.dtype) && t.rank == want.rank && !memcmp (t.shape, want.shape, 8 * t.rank));
        CHECK_OK (kit_format ()->map (f, (uint64_t)i, &bytes, &err));
        CU_ASSERT (t.bytes == want.bytes && t.n_elements == (uint64_t)want.n && !memcmp (bytes, want.data, want.bytes));
        if (!strcmp (want.dtype, "F32")) {
            float *values = malloc (want.bytes + 4);
            CHECK_OK (kit_format ()->read_f32 (f, (uint64_t)i, 0, t.n_elements, values, &err));
            CU_ASSERT_EQUAL (memcmp (values, want.data, want.bytes), 0);
            free (values);
        }
        seen++;
    }
    CU_ASSERT_EQUAL (seen, n);
    kit_use (f);
    kit_format ()->close (f);
    st_close (&mini);
}

static size_t check_folder (const char *path)
{
    DIR *dir = opendir (path);
    size_t n = 0;
    CU_ASSERT_PTR_NOT_NULL_FATAL (dir);
    for (struct dirent *d; (d = readdir (dir));) {
        char child[1024];
        size_t len = strlen (d->d_name);
        snprintf (child, sizeof child, "%s/%s", path, d->d_name);
        if (d->d_name[0] != '.' && dps_is_dir (child))
            n += check_folder (child);
        else if (len > 12 && !strcmp (d->d_name + len - 12, ".safetensors")) {
            check_against_mini (child);
            n++;
        }
    }
    closedir (dir);
    return n;
}

static void test_every_parity_file (void) { CU_ASSERT (check_folder (DPS_TEST_DATA "/parity") >= 37); }

static void test_every_dtype (void)
{
    static const struct {
        const char *dtype;
        size_t bytes;
        const void *data;
        float want;
    } types[] = {
        {"F64", 8, "\0\0\0\0\0\0\x04\xc0", -2.5f},
        {"F32", 4, "\0\0\x20\xc0", -2.5f},
        {"F16", 2, "\0\xc1", -2.5f},
        {"F16", 2, "\1\x80", -0x1p-24f},
        {"F16", 2, "\xff\x03", 1023 * 0x1p-24f},
        {"F16", 2, "\xff\x7b", 65504},
        {"F16", 2, "\0\x7c", INFINITY},
        {"BF16", 2, "\x20\xc0", -2.5f},
        {"BF16", 2, "\1\0", 0x1p-133f},
        {"I64", 8, "\377\377\377\377\377\377\377\377", -1},
        {"I32", 4, "\0\0\0\x80", -0x1p31f},
        {"I16", 2, "\0\x80", -32768},
        {"I8", 1, "\x80", -128},
        {"U64", 8, "\377\377\377\377\377\377\377\377", 0x1p64f},
        {"U32", 4, "\377\377\377\377", 0x1p32f},
        {"U16", 2, "\377\377", 65535},
        {"U8", 1, "\377", 255},
        {"BOOL", 1, "\1", 1},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char header[128];
        DpsBuf file;
        struct DpsFormatFile *f;
        float got = 0;
        DpsTensorInfo t = {.size = sizeof t};
        snprintf (header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[0,%zu]}}", types[i].dtype,
                  types[i].bytes);
        make (&file, header, types[i].bytes);
        memcpy (file.data + file.len - types[i].bytes, types[i].data, types[i].bytes);
        CHECK_OK (kit_open (file.data, file.len, &f, &err));
        CHECK_OK (kit_format ()->tensor_info (f, 0, &t, &err));
        CU_ASSERT (t.rank == 0 && t.n_elements == 1 && dps_str_is (t.dtype, types[i].dtype));
        CHECK_OK (kit_format ()->read_f32 (f, 0, 0, 1, &got, &err));
        if (memcmp (&got, &types[i].want, 4))
            printf ("\n    %s: got %g, expected %g\n", types[i].dtype, (double)got, (double)types[i].want);
        CU_ASSERT_EQUAL (memcmp (&got, &types[i].want, 4), 0);
        kit_use (f);
        kit_format ()->close (f);
        dps_buf_free (&file);
    }
    DpsBuf file;
    struct DpsFormatFile *f;
    float got;
    make (&file, "{\"t\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    CHECK_OK (kit_open (file.data, file.len, &f, &err));
    CHECK_FAILS (kit_format ()->read_f32 (f, 0, 0, 1, &got, &err), DPS_ERR_UNSUPPORTED, "tensor 't' is F8_E4M3, which has no f32 reading");
    kit_format ()->close (f);
    dps_buf_free (&file);
}

static void test_names_and_metadata_are_unescaped (void)
{
    DpsBuf file;
    struct DpsFormatFile *f;
    DpsTensorInfo t;
    DpsMeta m = {.size = sizeof m};
    uint64_t n_tensors, n_meta;
    make (&file,
          "{ \"__metadata__\" : {\"format\":\"pt\",\"a\\u00e9\\ud83d\\ude42\":\"x\\n\\\"\\\\\\/\\u0001\"} ,\n\t"
          "\"caf\\u00e9\" : {\"data_offsets\":[0,4] , \"shape\":[ 2 , 2 ],\"dtype\":\"U8\"},"
          "\"empty\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[4,4]},\"\xe6\xbc\xa2\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
          "offsets\":[4,5]}}   ",
          5);
    CHECK_OK (kit_open (file.data, file.len, &f, &err));
    CHECK_OK (kit_format ()->info (f, &n_tensors, &n_meta, &err));
    CU_ASSERT (n_tensors == 3 && n_meta == 2);
    CHECK_OK (kit_format ()->meta (f, 0, &m, &err));
    CU_ASSERT (m.type == DPS_META_STR && dps_str_is (m.key, "format") && dps_str_is (m.v.s, "pt"));
    CHECK_OK (kit_format ()->meta (f, 1, &m, &err));
    CU_ASSERT (dps_str_is (m.key, "aé🙂") && dps_str_is (m.v.s, "x\n\"\\/\001"));
    CU_ASSERT (find (f, "café", &t) >= 0 && t.rank == 2 && t.bytes == 4);
    CU_ASSERT (find (f, "empty", &t) >= 0 && t.n_elements == 0 && t.shape[0] == 3 && t.shape[1] == 0);
    CU_ASSERT (find (f, "漢", &t) >= 0 && t.file_offset == file.len - 1);
    kit_use (f);
    kit_format ()->close (f);
    dps_buf_free (&file);
}

#define ONE(rest) "{\"t\":{" rest "}}"
static const struct {
    const char *header;
    size_t data;
    DpsStatus status;
    const char *message;
} lies[] = {
    {"", 0, DPS_ERR_FORMAT, "the header is empty"},
    {"[]", 0, DPS_ERR_FORMAT, "does not start with '{'"},
    {" {}", 0, DPS_ERR_FORMAT, "does not start with '{'"},
    {"\xef\xbb\xbf{}", 0, DPS_ERR_FORMAT, "does not start with '{'"},
    {"{}", 1, DPS_ERR_FORMAT, "1 bytes after the last tensor"},
    {"{} x", 0, DPS_ERR_FORMAT, "bytes after the end of the header's object"},
    {"{}{}", 0, DPS_ERR_FORMAT, "bytes after the end of the header's object"},
    {"{\"t\"", 0, DPS_ERR_FORMAT, "expected ':'"},
    {"{\"t\":{}}", 0, DPS_ERR_FORMAT, "expected a string"},
    {"{\"t\":[[[[[[[[[[[[[[[[", 0, DPS_ERR_FORMAT, "expected an object describing the tensor"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1]"), 4, DPS_ERR_FORMAT, "each once"},
    {ONE ("\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "each once"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1"), 4, DPS_ERR_FORMAT, "each once"},
    {ONE ("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, DPS_ERR_UNSUPPORTED, "tensor 't' has dtype 'F33'"},
    {ONE ("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]"), 2, DPS_ERR_UNSUPPORTED, "tensor 't' has dtype 'F4'"},
    {ONE ("\"dtype\":\"\\u001b[2J\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, DPS_ERR_UNSUPPORTED, "has dtype '?[2J'"},
    {ONE ("\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "expected a string"},
    {ONE ("\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "expected the shape"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "expected a whole number"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "expected ',' or ']' in the shape"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "expected a whole number"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1e3],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "expected ',' or ']' in the shape"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "does not fit 63 bits"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "more than 8 dimensions"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[4194305,4194305,211106198978564],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT,
     "tensor 't' (data_offsets [0, 4]) has a shape whose size in bytes does not fit 64 bits"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, DPS_ERR_FORMAT, "takes 8 bytes by its shape and dtype F32"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]"), 4, DPS_ERR_FORMAT, "an array of two"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]"), 4, DPS_ERR_FORMAT, "an array of two"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"), 4, DPS_ERR_FORMAT, "lies outside the file's 4 bytes of data"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"), 4, DPS_ERR_FORMAT, "lies outside the file's 4 bytes of data"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]"), 8, DPS_ERR_FORMAT, "leaves a hole before it"},
    {ONE ("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), 9, DPS_ERR_FORMAT, "5 bytes after the last tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3,
     DPS_ERR_FORMAT, "tensor 'b' (data_offsets [1, 3]) overlaps another tensor: the data before it ends at 2"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
     DPS_ERR_FORMAT, "overlaps another tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}", 2,
     DPS_ERR_FORMAT, "tensor 'b' (data_offsets [1, 1]) overlaps another tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"\\u0061\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[2,4]}"
     "}",
     4, DPS_ERR_FORMAT, "tensor 'a' (data_offsets [2, 4]) stands twice"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, DPS_ERR_FORMAT, "expected a tensor name"},
    {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, DPS_ERR_FORMAT, "bad escape"},
    {"{\"a\\u001bb\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, DPS_ERR_FORMAT, "without control characters"},
    {"{\"a\\x\":{}}", 0, DPS_ERR_FORMAT, "bad escape"},
    {"{\"a\\u12\":{}}", 0, DPS_ERR_FORMAT, "bad escape"},
    {"{\"a\\ud800\":{}}", 0, DPS_ERR_FORMAT, "lone surrogate"},
    {"{\"a\\udc00\":{}}", 0, DPS_ERR_FORMAT, "lone surrogate"},
    {"{\"a\\ud800\\u0041\":{}}", 0, DPS_ERR_FORMAT, "lone surrogate"},
    {"{\"a\xff\":{}}", 0, DPS_ERR_FORMAT, "invalid UTF-8"},
    {"{\"a\xed\xa0\x80\":{}}", 0, DPS_ERR_FORMAT, "invalid UTF-8"},
    {"{\"a\xc0\xaf\":{}}", 0, DPS_ERR_FORMAT, "invalid UTF-8"},
    {"{\"a\n\":{}}", 0, DPS_ERR_FORMAT, "control character"},
    {"{\"a", 0, DPS_ERR_FORMAT, "the string is cut"},
    {"{\"a\\", 0, DPS_ERR_FORMAT, "bad escape"},
    {"{\"__metadata__\":{\"format\":1}}", 0, DPS_ERR_FORMAT, "a value of __metadata__ is not a string"},
    {"{\"__metadata__\":{\"format\":null}}", 0, DPS_ERR_FORMAT, "a value of __metadata__ is not a string"},
    {"{\"__metadata__\":{\"a\":{\"a\":{\"a\":{}}}}}", 0, DPS_ERR_FORMAT, "a value of __metadata__ is not a string"},
    {"{\"__metadata__\":[]}", 0, DPS_ERR_FORMAT, "expected one __metadata__ object"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, DPS_ERR_FORMAT, "expected one __metadata__ object"},
    {"{\"__metadata__\":{},}", 0, DPS_ERR_FORMAT, "expected a string"},
};

static void test_lies_are_named (void)
{
    struct DpsFormatFile *f = NULL;
    int64_t live = dps_mem_live ();
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        DpsBuf file;
        make (&file, lies[i].header, lies[i].data);
        CHECK_FAILS (kit_open (file.data, file.len, &f, &err), lies[i].status, lies[i].message);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "/proc/self/fd/"));
        dps_buf_free (&file);
    }
    static const struct {
        uint64_t n;
        DpsStatus status;
        const char *message;
    } lengths[] = {{0, DPS_ERR_FORMAT, "the header is empty"},
                   {7, DPS_ERR_FORMAT, "header byte"},
                   {1000, DPS_ERR_FORMAT, "a header of 1000 bytes in a file of 34"},
                   {100000001, DPS_ERR_LIMIT, "at most 100000000 are allowed"},
                   {1ull << 63, DPS_ERR_LIMIT, "a header of 9223372036854775808 bytes"},
                   {UINT64_MAX, DPS_ERR_LIMIT, "at most 100000000 are allowed"}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char bytes[34] = "01234567{\"__metadata__\":{\"a\":\"b\"}}";
        memcpy (bytes, &lengths[i].n, 8);
        CHECK_FAILS (kit_open (bytes, sizeof bytes, &f, &err), lengths[i].status, lengths[i].message);
    }
    CHECK_FAILS (kit_open ("", 0, &f, &err), DPS_ERR_FORMAT, "0 bytes are too few");
    CHECK_FAILS (kit_format ()->open (dps_str ("/nowhere/x.safetensors"), &f, &err), DPS_ERR_NOT_FOUND, "/nowhere/x.safetensors");
    CU_ASSERT_PTR_NULL (f);
    CU_ASSERT_EQUAL (dps_mem_live (), live);
}

static void test_every_cut_flip_and_allocation (void)
{
    DpsBuf file;
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
                                 "\"b\\u00e9\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[8,14]}}";
    make (&file, header, 14);
    kit_every_cut (file.data, file.len);
    kit_every_flip (file.data, file.len, 8 + sizeof header - 1);
    kit_every_allocation (file.data, file.len);
    dps_buf_free (&file);
}

/* R3: headers of the kinds that cost most for their size. */
static void test_memory_is_bounded_by_the_header (void)
{
    enum { N = 400000 };
    for (int kind = 0; kind < 5; kind++) {
        DpsBuf header = {0}, file;
        DpsStatus expected = DPS_OK;
        dps_buf_str (&header, kind >= 2 && kind < 4 ? "{\"__metadata__\":{" : "{");
        int n = kind == 2 ? 65536 : kind == 3 ? N : N / 4;
        for (int i = 0; i < n && kind < 4; i++) {
            dps_buf_str (&header, i ? "," : "");
            if (kind < 2)
                dps_buf_printf (&header, "\"%x\":{\"dtype\":\"U8\",\"shape\":[%s],\"data_offsets\":[0,0]}", i,
                                kind ? "0,0,0,0,0,0,0,0" : "0");
            else
                dps_buf_str (&header, "\"\":\"\"");
        }
        if (kind == 4) { /* one name of 10 MB */
            dps_buf_str (&header, "\"");
            for (int i = 0; i < 1000000; i++)
                dps_buf_str (&header, "0123456789");
            dps_buf_str (&header, "\":{}");
        }
        dps_buf_str (&header, kind >= 2 && kind < 4 ? "}}" : "}");
        expected = kind >= 3 ? DPS_ERR_FORMAT : DPS_OK;
        make (&file, header.data, 0);
        kit_memory (file.data, file.len, header.len, expected);
        dps_buf_free (&header);
        dps_buf_free (&file);
    }
}

static DpsStatus to_buffer (void *ctx, const void *data, size_t len, DpsError *e)
{
    return dps_buf_add (ctx, data, len) ? dps_fail (e, DPS_ERR_NOMEM, "out of memory") : DPS_OK;
}

static const int64_t two_three[] = {2, 3}, five[] = {5};
static const DpsTensorInfo w_a = {.size = sizeof w_a, .name = {"z.weight", 8}, .dtype = {"F32", 3}, .rank = 2, .shape = two_three};
static const DpsTensorInfo w_b = {.size = sizeof w_b, .name = {"a.\"é", 5}, .dtype = {"BF16", 4}, .rank = 1, .shape = five};
static const DpsTensorInfo w_c = {.size = sizeof w_c, .name = {"s", 1}, .dtype = {"I64", 3}};
static const DpsMeta w_meta = {.size = sizeof w_meta, .key = {"format", 6}, .type = DPS_META_STR, .n = 1, .v.s = {"pt", 2}};

static DpsStatus write_three (DpsBuf *out, int pieces)
{
    static const char data[24 + 10 + 8] = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF";
    DpsStream to = {.size = sizeof to, .ctx = out, .write = to_buffer};
    struct DpsFormatWriter *w;
    DPS_TRY (kit_format ()->create (&to, (const DpsTensorInfo *[]){&w_a, &w_b, &w_c}, 3, (const DpsMeta *[]){&w_meta}, 1, &w, &err));
    for (int i = 0; i < pieces; i++) {
        size_t from = sizeof data * (size_t)i / (size_t)pieces, end = sizeof data * ((size_t)i + 1) / (size_t)pieces;
        DpsStatus st = kit_format ()->write (w, data + from, end - from, &err);
        if (st != DPS_OK) {
            kit_format ()->abandon (w);
            return st;
        }
    }
    return kit_format ()->finish (w, &err);
}

static void test_what_is_written_reads_back (void)
{
    DpsBuf file = {0}, again = {0};
    struct DpsFormatFile *f;
    DpsTensorInfo t = {.size = sizeof t};
    DpsMeta m = {.size = sizeof m};
    CHECK_OK (write_three (&file, 1));
    CHECK_OK (write_three (&again, 42));
    CU_ASSERT (file.len == again.len && !memcmp (file.data, again.data, file.len));
    uint64_t n;
    memcpy (&n, file.data, 8);
    CU_ASSERT_EQUAL (n % 8, 0);
    CU_ASSERT_EQUAL (memcmp (file.data + 8, "{\"__metadata__\":{\"format\":\"pt\"},\"z.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],", 70),
                     0);
    CHECK_OK (kit_open (file.data, file.len, &f, &err));
    CHECK_OK (kit_format ()->tensor_info (f, 1, &t, &err));
    CU_ASSERT (dps_str_is (t.name, "a.\"é") && t.bytes == 10 && t.file_offset == 8 + n + 24);
    CHECK_OK (kit_format ()->meta (f, 0, &m, &err));
    CU_ASSERT (dps_str_is (m.v.s, "pt"));
    kit_use (f);
    kit_format ()->close (f);
    dps_buf_free (&file);
    dps_buf_free (&again);
}

static DpsStatus no_sink (void *ctx, const void *data, size_t len, DpsError *e)
{
    (void)ctx, (void)data, (void)len;
    return dps_fail (e, DPS_ERR_IO, "the disk is full");
}

static void test_writer_refuses (void)
{
    DpsBuf sink = {0};
    DpsStream to = {.size = sizeof to, .ctx = &sink, .write = to_buffer}, full = {.size = sizeof full, .write = no_sink};
    struct DpsFormatWriter *w = NULL;
    const DpsFormat *format = kit_format ();
    int64_t live = dps_mem_live ();
    DpsTensorInfo t = w_a;
    DpsMeta number = {.size = sizeof number, .key = {"n", 1}, .type = DPS_META_U64, .n = 1};
    CHECK_FAILS (format->create (&to, NULL, 0, (const DpsMeta *[]){&number}, 1, &w, &err), DPS_ERR_INVALID, "metadata 'n' is not a string");
    CHECK_FAILS (format->create (&to, (const DpsTensorInfo *[]){&w_a, &w_a}, 2, NULL, 0, &w, &err), DPS_ERR_FORMAT, "stands twice");
    t.dtype = (DpsStr){"Q4_K", 4};
    CHECK_FAILS (format->create (&to, (const DpsTensorInfo *[]){&t}, 1, NULL, 0, &w, &err), DPS_ERR_DTYPE, "has dtype 'Q4_K'");
    t = w_a;
    t.shape = (const int64_t[]){1, -1};
    CHECK_FAILS (format->create (&to, (const DpsTensorInfo *[]){&t}, 1, NULL, 0, &w, &err), DPS_ERR_SHAPE, "impossible shape");
    t.shape = (const int64_t[]){INT64_MAX, 4};
    CHECK_FAILS (format->create (&to, (const DpsTensorInfo *[]){&t}, 1, NULL, 0, &w, &err), DPS_ERR_SHAPE, "impossible shape");
    t.shape = (const int64_t[]){INT64_MAX / 4, 1};
    CHECK_FAILS (format->create (&to, (const DpsTensorInfo *[]){&w_c, &t}, 2, NULL, 0, &w, &err), DPS_ERR_LIMIT, "past 2^63");
    t = w_a;
    t.name = (DpsStr){"a\xff", 2};
    CHECK_FAILS (format->create (&to, (const DpsTensorInfo *[]){&t}, 1, NULL, 0, &w, &err), DPS_ERR_INVALID, "is not UTF-8");
    t.name = (DpsStr){"", 0};
    CHECK_FAILS (format->create (&to, (const DpsTensorInfo *[]){&t}, 1, NULL, 0, &w, &err), DPS_ERR_FORMAT, "expected a tensor name");
    CU_ASSERT_EQUAL (sink.len, 0);
    CHECK_FAILS (format->create (&full, (const DpsTensorInfo *[]){&w_a}, 1, NULL, 0, &w, &err), DPS_ERR_IO, "the disk is full");
    CHECK_OK (format->create (&to, (const DpsTensorInfo *[]){&w_a}, 1, NULL, 0, &w, &err));
    CHECK_FAILS (format->write (w, "0123456789012345678901234", 25, &err), DPS_ERR_SHAPE, "1 bytes more than the header announced");
    CHECK_OK (format->write (w, "01234567890123456789012", 23, &err));
    CHECK_FAILS (format->finish (w, &err), DPS_ERR_SHAPE, "1 bytes fewer");
    CHECK_OK (format->create (&to, (const DpsTensorInfo *[]){&w_a}, 1, NULL, 0, &w, &err));
    format->abandon (w);
    dps_buf_free (&sink);
    CU_ASSERT_EQUAL (dps_mem_live (), live);
}

static void test_every_allocation_of_a_write (void)
{
    int64_t live = dps_mem_live ();
    for (uint64_t k = 1;; k++) {
        DpsBuf sink = {0};
        dps_mem_fail_at (k);
        DpsStatus st = write_three (&sink, 3);
        uint64_t made = dps_mem_count ();
        dps_mem_fail_at (0);
        dps_buf_free (&sink);
        CU_ASSERT_EQUAL (st, made < k ? DPS_OK : DPS_ERR_NOMEM);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
        if (made < k)
            break;
    }
}

CHECK_MAIN ("safetensors", T (test_every_parity_file), T (test_every_dtype), T (test_names_and_metadata_are_unescaped),
            T (test_lies_are_named), T (test_every_cut_flip_and_allocation), T (test_memory_is_bounded_by_the_header),
            T (test_what_is_written_reads_back), T (test_writer_refuses), T (test_every_allocation_of_a_write))
