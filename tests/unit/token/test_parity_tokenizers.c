/* SPDX-License-Identifier: Apache-2.0 */
/* Every row of parity/tokenizers/{gemma,smollm2}.jsonl against the real models' vocabularies, and how fast these load and run. */
#include <time.h>

#include "base/json.h"
#include "check.h"
#include "gguf_mini.h"
#include "token/bpe.h"
#include "token/tokenizer.h"

static DpsError err = DPS_ERROR_INIT;
static DpsTokenizer *gemma, *smollm2;

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 0, or the exit status to leave with. */
static int load (const char *file, DpsTokenizer **out, double *out_s)
{
    GgufMini gguf;
    const char *path = cached_model (file);
    if (!path)
        return 77;
    DpsStatus st = gguf_mini_open (&gguf, path, &err);
    double start = now ();
    if (st == DPS_OK)
        st = dps_tokenizer_from_meta (gguf.list, gguf.n, path, out, &err);
    *out_s = now () - start;
    if (st != DPS_OK)
        printf ("%s\n", err.msg);
    gguf_mini_close (&gguf);
    return st == DPS_OK ? 0 : 1;
}

/* The ids of a text must be those of the row's member; a missing member is not checked. */
static int same_ids (const DpsTokenizer *tok, json_t *row, const char *member, unsigned flags)
{
    json_t *text = json_object_get (row, "text"), *want = json_object_get (row, member);
    DpsIds ids = {0};
    if (!want)
        return 1;
    CHECK_OK (dps_tokenizer_encode (tok, json_string_value (text), json_string_length (text), flags, &ids, &err));
    int same = ids.n == json_array_size (want);
    for (size_t i = 0; i < ids.n && same; i++)
        same = ids.ids[i] == json_integer_value (json_array_get (want, i));
    dps_free (ids.ids);
    if (!same)
        printf ("\n    %s differs for \"%s\"\n", member, json_string_value (text));
    return same;
}

static int same_text (const DpsTokenizer *tok, json_t *ids, json_t *want, unsigned flags)
{
    DpsIds list = {0};
    DpsBuf text = {0};
    for (size_t i = 0; i < json_array_size (ids); i++, list.n++) {
        CU_ASSERT_FATAL (DPS_GROW (list.ids, i, list.capacity) == 0);
        list.ids[i] = (int32_t)json_integer_value (json_array_get (ids, i));
    }
    CHECK_OK (dps_ids_add (&list, (int32_t)dps_tokenizer_vocab (tok) + 7, &err)); /* a padded embedding's: no text */
    CHECK_OK (dps_tokenizer_decode (tok, list.ids, list.n, flags, &text, &err));
    int same = text.len == json_string_length (want) && !memcmp (text.data ? text.data : "", json_string_value (want), text.len);
    if (!same)
        printf ("\n    decoded \"%s\", expected \"%s\"\n", text.data ? text.data : "", json_string_value (want));
    dps_free (list.ids);
    dps_buf_free (&text);
    return same;
}

static size_t check_rows (const DpsTokenizer *tok, const char *file, size_t want_rows)
{
    DpsBuf rows = {0};
    size_t n_rows = 0, n_bad = 0;
    CHECK_OK (dps_file_read (file, 1 << 24, &rows, &err));
    for (char *line = rows.data; *line;) {
        char *end = strchr (line, '\n');
        json_t *row;
        CHECK_OK (dps_json_parse (line, (size_t)(end - line), file, (long)n_rows + 1, 0, &row, &err));
        json_t *special = json_object_get (row, "ids"), *plain = json_object_get (row, "ids_no_special");
        int same = same_ids (tok, row, "ids", DPS_TOKENIZE_SPECIAL) && same_ids (tok, row, "ids_no_special", 0) &&
                   same_ids (tok, row, "ids_literal", DPS_TOKENIZE_LITERAL) &&
                   same_text (tok, special, json_object_get (row, "decoded"), 0) &&
                   same_text (tok, plain, json_object_get (row, "text"), DPS_DETOKENIZE_KEEP_SPECIAL);
        n_bad += !same;
        n_rows++;
        json_decref (row);
        line = end + 1;
    }
    dps_buf_free (&rows);
    CU_ASSERT_EQUAL (n_rows, want_rows);
    return n_bad;
}

static void test_gemma_every_row (void)
{
    DpsTemplate own;
    CU_ASSERT_EQUAL (check_rows (gemma, DPS_TEST_DATA "/parity/tokenizers/gemma.jsonl", 200), 0);
    CU_ASSERT_EQUAL (dps_tokenizer_vocab (gemma), 262144);
    CU_ASSERT_EQUAL (dps_tokenizer_bos (gemma), 2);
    CU_ASSERT_EQUAL (dps_tokenizer_eos (gemma), 1);
    CU_ASSERT_EQUAL (dps_tokenizer_named (gemma, DPS_NAMED_PAD), 0);
    CU_ASSERT (dps_tokenizer_is_end (gemma, 106)); /* <end_of_turn> */
    CHECK_OK (dps_tokenizer_chat_template (gemma, 0, &own, &err));
    CU_ASSERT (own.source == NULL);
}

static void test_smollm2_every_row (void)
{
    DpsTemplate own;
    CU_ASSERT_EQUAL (check_rows (smollm2, DPS_TEST_DATA "/parity/tokenizers/smollm2.jsonl", 200), 0);
    CU_ASSERT_EQUAL (dps_tokenizer_vocab (smollm2), 49152);
    CU_ASSERT_EQUAL (dps_tokenizer_eos (smollm2), 2);
    CHECK_OK (dps_tokenizer_chat_template (smollm2, 1, &own, &err));
    CU_ASSERT_PTR_NOT_NULL (own.source);
}

/* 1 MB/s is promised of a core, so processor time counts and a busy machine passes; about 45 MB/s are measured. tests/peer has the other families. */
static void test_speed (void)
{
    DpsTokenizer *const both[] = {gemma, smollm2};
    DpsBuf text = {0};
    CHECK_OK (dps_file_read (DPS_TEST_DATA "/parity/tokenizers/gemma.jsonl", 1 << 24, &text, &err));
    for (int i = 0; i < 2; i++) {
        DpsIds ids = {0};
        double start = now ();
        for (int pass = 0; pass < 20; pass++)
            CHECK_OK (dps_tokenizer_encode (both[i], text.data, text.len, 0, &ids, &err));
        double rate = 20 * (double)text.len / (now () - start) / 1e6;
        printf ("%.1f MB/s ", rate);
        CU_ASSERT (rate > 1);
        DpsBuf back = {0}; /* and back, in one call above every bound that is meant for single pieces */
        CHECK_OK (dps_tokenizer_decode (both[i], ids.ids, ids.n, DPS_DETOKENIZE_KEEP_SPECIAL, &back, &err));
        CU_ASSERT_EQUAL (back.len, 20 * text.len);
        dps_buf_free (&back);
        dps_free (ids.ids);
    }
    dps_buf_free (&text);
}

CHECK_SUITE (run_tests, "parity.tokenizers", T (test_gemma_every_row), T (test_smollm2_every_row), T (test_speed))

int main (void)
{
    double gemma_s = 0, smollm2_s = 0;
    int missing = load ("gemma-3-270m-q4_k_m.gguf", &gemma, &gemma_s);
    missing = missing ? missing : load ("SmolLM2-135M-Instruct.Q4_1.gguf", &smollm2, &smollm2_s);
    if (missing)
        return missing;
    printf ("Gemma's vocabulary loads in %.3f s, SmolLM2's in %.3f s\n", gemma_s, smollm2_s);
    int failed = run_tests ();
    dps_tokenizer_free (gemma);
    dps_tokenizer_free (smollm2);
    return failed;
}
