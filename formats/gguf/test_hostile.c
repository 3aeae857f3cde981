/* SPDX-License-Identifier: Apache-2.0 */
/* The hostile files of RELIABILITY section 3: each lie is named in the error, and costs no more memory than the file explains. */
#include "format_kit.h"
#include "gguf_make.h"

static DpsError err = DPS_ERROR_INIT;

/* One lie a case: built by its function on top of a good start. */
static void lie_n_meta (GgufMake *m) { m->n_meta = 1ull << 60; }
static void lie_n_tensors (GgufMake *m) { m->n_tensors = (1ull << 61) + 1; }
static void lie_key_length (GgufMake *m)
{
    gm_u64 (&m->meta, UINT64_MAX);
    m->n_meta++;
}
static void lie_empty_key (GgufMake *m) { gm_meta_u32 (m, "", 1); }
static void lie_control_key (GgufMake *m) { gm_meta_u32 (m, "a\033[2Jb", 1); }
static void lie_value_type (GgufMake *m) { gm_meta (m, "k", 13, "", 1); }
static void lie_string_length (GgufMake *m)
{
    gm_key (m, "k", GM_STR);
    gm_u64 (&m->meta, 1ull << 31);
}
static void lie_array_length (GgufMake *m) { gm_array (m, "k", GM_U8, UINT64_MAX, "", 1); }
static void lie_array_wrap (GgufMake *m) { gm_array (m, "k", GM_U64, 1ull << 61, "", 1); }
static void lie_array_empties (GgufMake *m) { gm_array (m, "k", GM_STR, 1ull << 30, "\0\0\0\0\0\0\0\0", 8); }
static void lie_array_string (GgufMake *m) { gm_array (m, "k", GM_STR, 1, "\377\377\377\377\377\377\377\377", 8); }
static void lie_array_nested (GgufMake *m) { gm_array (m, "k", GM_ARRAY, 1, "\4\0\0\0\0\0\0\0\0\0\0\0", 12); }
static void lie_array_type (GgufMake *m) { gm_array (m, "k", 99, 0, "", 0); }
static void lie_key_twice (GgufMake *m)
{
    gm_meta_u32 (m, "llama.block_count", 1);
    gm_meta_str (m, "llama.block_count", "1");
}
static void lie_tensor_twice (GgufMake *m) { gm_tensor (m, "good", 1, (uint64_t[]){1}, 0, "aaaa", 4); }
static void lie_tensor_empty_name (GgufMake *m) { gm_tensor (m, "", 1, (uint64_t[]){1}, 0, "aaaa", 4); }
static void lie_tensor_name_utf8 (GgufMake *m) { gm_tensor (m, "a\xc0\xaf", 1, (uint64_t[]){1}, 0, "aaaa", 4); }
static void lie_tensor_name_long (GgufMake *m)
{
    char name[1026];
    memset (name, 'n', 1025);
    name[1025] = '\0';
    gm_tensor (m, name, 1, (uint64_t[]){1}, 0, "aaaa", 4);
}
static void lie_dims_5 (GgufMake *m) { gm_info (m, "t", 5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 32); }
static void lie_dims_many (GgufMake *m)
{
    gm_str (&m->infos, "t");
    gm_u32 (&m->infos, UINT32_MAX);
    m->n_tensors++;
}
static void lie_product (GgufMake *m) { gm_info (m, "t", 3, (uint64_t[]){4194305, 4194305, 211106198978564}, 0, 32); }
static void lie_rows (GgufMake *m) { gm_info (m, "t", 2, (uint64_t[]){1ull << 20, (1ull << 42) + 1}, 0, 32); }
static void lie_bytes (GgufMake *m) { gm_info (m, "t", 2, (uint64_t[]){1ull << 20, 1ull << 42}, 28, 32); }
static void lie_negative (GgufMake *m) { gm_info (m, "t", 1, (uint64_t[]){1ull << 63}, 24, 32); }
static void lie_blocks (GgufMake *m) { gm_info (m, "t", 2, (uint64_t[]){33, 32}, 8, 32); }
static void lie_type_99 (GgufMake *m) { gm_info (m, "t", 1, (uint64_t[]){32}, 99, 32); }
static void lie_type_removed (GgufMake *m) { gm_info (m, "t", 1, (uint64_t[]){32}, 4, 32); }
static void lie_type_unread (GgufMake *m) { gm_info (m, "blk.3.attn_q", 1, (uint64_t[]){256}, 16, 32); }
static void lie_offset_end (GgufMake *m) { gm_info (m, "t", 1, (uint64_t[]){2}, 0, 32); }
static void lie_offset_wrap (GgufMake *m) { gm_info (m, "t", 1, (uint64_t[]){1}, 0, UINT64_MAX - 31); }
static void lie_offset_odd (GgufMake *m) { gm_info (m, "t", 1, (uint64_t[]){1}, 0, 4); }
static void lie_overlap (GgufMake *m) { gm_info (m, "t", 1, (uint64_t[]){1}, 0, 0); }
static void lie_alignment_0 (GgufMake *m) { gm_meta_u32 (m, "general.alignment", 0); }
static void lie_alignment_3 (GgufMake *m) { gm_meta_u32 (m, "general.alignment", 3); }
static void lie_alignment_2_31 (GgufMake *m) { gm_meta_u32 (m, "general.alignment", 1u << 31); }
static void lie_alignment_i32 (GgufMake *m) { gm_meta (m, "general.alignment", GM_I32, "\40\0\0\0", 4); }
static void lie_version_1 (GgufMake *m) { m->version = 1; }
static void lie_version_big (GgufMake *m) { m->version = 3u << 24; }

static const struct {
    void (*tell) (GgufMake *m);
    DpsStatus status;
    const char *message;
} lies[] = {
    {lie_n_meta, DPS_ERR_FORMAT, "byte "},
    {lie_n_tensors, DPS_ERR_FORMAT, "byte "},
    {lie_key_length, DPS_ERR_FORMAT, "a string longer than the rest of the file"},
    {lie_empty_key, DPS_ERR_FORMAT, "an empty name"},
    {lie_control_key, DPS_ERR_FORMAT, "without control characters"},
    {lie_value_type, DPS_ERR_FORMAT, "key 'k': a value of an unknown type"},
    {lie_string_length, DPS_ERR_FORMAT, "key 'k': a string longer than the rest of the file"},
    {lie_array_length, DPS_ERR_FORMAT, "key 'k': an array longer than the rest of the file"},
    {lie_array_wrap, DPS_ERR_FORMAT, "key 'k': an array longer than the rest of the file"},
    {lie_array_empties, DPS_ERR_FORMAT, "key 'k': an array with more strings than the file has room for"},
    {lie_array_string, DPS_ERR_FORMAT, "key 'k': a string longer than the rest of the file"},
    {lie_array_nested, DPS_ERR_FORMAT, "key 'k': an array of arrays"},
    {lie_array_type, DPS_ERR_FORMAT, "key 'k': an array of an unknown type"},
    {lie_key_twice, DPS_ERR_FORMAT, "key 'llama.block_count' stands twice"},
    {lie_tensor_twice, DPS_ERR_FORMAT, "tensor 'good' stands twice"},
    {lie_tensor_empty_name, DPS_ERR_FORMAT, "an empty name"},
    {lie_tensor_name_utf8, DPS_ERR_FORMAT, "UTF-8"},
    {lie_tensor_name_long, DPS_ERR_FORMAT, "at most 1024 bytes"},
    {lie_dims_5, DPS_ERR_FORMAT, "tensor 't' has 5 dimensions"},
    {lie_dims_many, DPS_ERR_FORMAT, "tensor 't' has 4294967295 dimensions"},
    {lie_product, DPS_ERR_FORMAT, "tensor 't' has dimensions whose product does not fit"},
    {lie_rows, DPS_ERR_FORMAT, "tensor 't' has dimensions whose size in bytes does not fit"},
    {lie_bytes, DPS_ERR_FORMAT, "tensor 't' has dimensions whose size in bytes does not fit"},
    {lie_negative, DPS_ERR_FORMAT, "tensor 't' has dimensions whose product does not fit"},
    {lie_blocks, DPS_ERR_FORMAT, "tensor 't' has rows of 33 elements, no whole number of Q8_0's blocks of 32"},
    {lie_type_99, DPS_ERR_FORMAT, "tensor 't' has type number 99, which does not exist"},
    {lie_type_removed, DPS_ERR_FORMAT, "tensor 't' has type number 4, which does not exist"},
    {lie_type_unread, DPS_ERR_UNSUPPORTED, "tensor 'blk.3.attn_q' is IQ2_XXS, which has no reader. Hint: re-quantise to Q4_K."},
    {lie_offset_end, DPS_ERR_FORMAT, "tensor 't' takes 8 bytes from offset 32, but only 36 bytes of data are there"},
    {lie_offset_wrap, DPS_ERR_FORMAT, "tensor 't' takes 4 bytes from offset 18446744073709551584"},
    {lie_offset_odd, DPS_ERR_FORMAT, "tensor 't' has offset 4, no multiple of the alignment 32"},
    {lie_overlap, DPS_ERR_FORMAT, "overlaps tensor"},
    {lie_alignment_0, DPS_ERR_FORMAT, "general.alignment must be"},
    {lie_alignment_3, DPS_ERR_FORMAT, "general.alignment must be"},
    {lie_alignment_2_31, DPS_ERR_FORMAT, "general.alignment must be"},
    {lie_alignment_i32, DPS_ERR_FORMAT, "general.alignment must be"},
    {lie_version_1, DPS_ERR_VERSION, "GGUF version 1;"},
    {lie_version_big, DPS_ERR_VERSION, "big-endian"},
};

static void test_lies_are_named (void)
{
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        GgufMake m = {0};
        DpsBuf file;
        struct DpsFormatFile *f = NULL;
        int64_t live = dps_mem_live ();
        gm_meta_str (&m, "general.architecture", "llama");
        gm_tensor (&m, "good", 1, (uint64_t[]){1}, 0, "aaaa", 4);
        gm_tensor (&m, "also good", 1, (uint64_t[]){1}, 0, "bbbb", 4);
        lies[i].tell (&m);
        gm_finish (&m, &file);
        CHECK_FAILS (kit_open (file.data, file.len, &f, &err), lies[i].status, lies[i].message);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "/proc/self/fd/"));
        CU_ASSERT_PTR_NULL (f);
        kit_memory (file.data, file.len, file.len, lies[i].status);
        dps_buf_free (&file);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    struct DpsFormatFile *f = NULL;
    CHECK_FAILS (kit_open ("", 0, &f, &err), DPS_ERR_FORMAT, "byte 0: the file is cut here");
    CHECK_FAILS (kit_open ("PK\3\4 something else", 18, &f, &err), DPS_ERR_FORMAT, "does not start with \"GGUF\"");
    CHECK_FAILS (kit_format ()->open (dps_str ("/nowhere/x.gguf"), &f, &err), DPS_ERR_NOT_FOUND, "/nowhere/x.gguf");
    CHECK_FAILS (kit_format ()->open (dps_str ("/"), &f, &err), DPS_ERR_IO, "not a regular file");
}

/* R3 on files that are all header, each of another kind. */
static void test_memory_is_bounded_by_the_header (void)
{
    enum { N = 100000 };
    DpsBuf file;
    char name[16];
    unsigned char *bytes = calloc (N, 17);
    CU_ASSERT_PTR_NOT_NULL_FATAL (bytes);
    for (int kind = 0; kind < 4; kind++) {
        GgufMake m = {0};
        if (kind == 0)
            gm_array (&m, "k", GM_U8, 17 * N, bytes, 17 * N);
        if (kind == 1)
            gm_array (&m, "k", GM_STR, N, bytes, 8 * N);
        for (int i = 0; i < N && kind >= 2; i++) {
            snprintf (name, sizeof name, "%x", i);
            if (kind == 2)
                gm_meta (&m, name, GM_U8, "", 1);
            else
                gm_info (&m, name, 1, (uint64_t[]){0}, 0, 0);
        }
        gm_finish (&m, &file);
        kit_memory (file.data, file.len, file.len, DPS_OK);
        dps_buf_free (&file);
    }
    free (bytes);
}

CHECK_MAIN ("gguf, hostile files", T (test_lies_are_named), T (test_memory_is_bounded_by_the_header))
