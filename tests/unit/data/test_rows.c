/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as they come from strangers: what is accepted, and what is refused by file and line. */
#include <stdlib.h>

#include "base/file.h"
#include "check.h"
#include "data/dataset.h"
#include "data/order.h"

static DpsError err = DPS_ERROR_INIT;
static char folder[] = "/tmp/diapason-test-XXXXXX";

static const char *write_file (const char *name, const char *bytes, size_t len)
{
    static char path[256];
    snprintf (path, sizeof path, "%s/%s", folder, name);
    CHECK_OK (dps_file_write (path, bytes, len, &err));
    return path;
}

/* Open and read every row: the first failure. */
static DpsStatus read_all (const char *path, size_t *out_n)
{
    DpsDataset *ds;
    *out_n = 0;
    DPS_TRY (dps_dataset_from_file (path, &ds, &err));
    DpsStatus st = DPS_OK;
    for (uint64_t k = 0; k < ds->n_rows && st == DPS_OK; k++) {
        DpsRow row;
        st = dps_dataset_row (ds, 0, k, &row, &err);
        if (st == DPS_OK) {
            dps_row_clear (&row);
            ++*out_n;
        }
    }
    dps_dataset_close (ds);
    return st;
}

#define ROW(text) text, sizeof text - 1

static void test_accepted (void)
{
    static const struct {
        const char *name, *bytes;
        size_t len, rows;
    } cases[] = {
        {"bom.jsonl", ROW ("\xef\xbb\xbf{\"text\":\"a\"}\n"), 1},
        {"crlf.jsonl", ROW ("{\"text\":\"a\"}\r\n{\"text\":\"b\"}\r\n"), 2},
        {"blank.jsonl", ROW ("\n\n{\"text\":\"a\"}\n  \n{\"text\":\"b\"}"), 2},
        {"separator.jsonl",
         ROW ("{\"text\":\"a\xe2\x80\xa8"
              "b\"}\n"),
         1},
        {"minus-zero.jsonl", ROW ("{\"text\":\"a\",\"score\":-0}\n"), 1},
        {"nul.jsonl", ROW ("{\"text\":\"a\\u0000b\"}\n"), 1},
        {"array.json", ROW ("[{\"text\":\"a\"},\n {\"text\":\"b]\"}]\n"), 2},
        {"rows.csv", ROW ("text,lang\n\"a, \"\"b\"\"\nc\",en\nd,fr\n"), 2},
        {"lines.txt", ROW ("one\ntwo\n\nthree\n"), 3},
        {"alpaca.json", ROW ("[{\"instruction\":\"a\",\"input\":\"\",\"output\":\"b\",\"history\":[[\"c\",\"d\"]]}]"), 1},
        {"sharegpt.jsonl", ROW ("{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}]}\n"), 1},
        {"ids.jsonl",
         ROW ("{\"input_ids\":[1,2],\"labels\":[-100,2]}\n{\"ids\":[3]}\n{\"prompt_input_ids\":[1],\"completion_input_ids\":[2]}\n"), 3},
        {"parts.jsonl",
         ROW ("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},{\"role\":\"assistant\",\"content\":"
              "\"b\",\"weight\":0}]}\n"),
         1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        CHECK_OK (read_all (write_file (cases[i].name, cases[i].bytes, cases[i].len), &n));
        if (n != cases[i].rows)
            printf ("\n    %s: %zu rows\n", cases[i].name, n);
        CU_ASSERT_EQUAL (n, cases[i].rows);
    }
}

static void test_refused (void)
{
    static const struct {
        const char *name, *bytes;
        size_t len;
        const char *says;
    } cases[] = {
        {"cut.jsonl", ROW ("{\"text\":\"a\"}\n{\"text\":\"b"), "cut.jsonl:2"},
        {"surrogate.jsonl", ROW ("{\"text\":\"a\"}\n\n{\"text\":\"\\ud800\"}\n"), "surrogate.jsonl:3"},
        {"overlong.jsonl", ROW ("{\"text\":\"\xc0\xaf\"}\n"), "overlong.jsonl:1"},
        {"nan.jsonl", ROW ("{\"text\":\"a\",\"score\":NaN}\n"), "nan.jsonl:1"},
        {"huge.jsonl", ROW ("{\"text\":\"a\",\"score\":1e400}\n"), "huge.jsonl:1"},
        {"twice.jsonl", ROW ("{\"messages\":[{\"role\":\"user\",\"role\":\"system\",\"content\":\"a\"}]}\n"), "twice.jsonl:1"},
        {"scalar.jsonl", ROW ("{\"text\":\"a\"}\n7\n"), "scalar.jsonl:2"},
        {"list.jsonl", ROW ("[1,2]\n"), "list.jsonl:1"},
        {"shape.jsonl", ROW ("{\"foo\":\"a\"}\n"), "no known shape of row: found foo"},
        {"role.jsonl", ROW ("{\"messages\":[{\"content\":\"a\"}]}\n"), "role.jsonl:1"},
        {"same.jsonl", ROW ("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}\n"), "chosen and rejected are the same"},
        {"labels.jsonl", ROW ("{\"input_ids\":[1,2],\"labels\":[1]}\n"), "labels has 1 entries"},
        {"id.jsonl", ROW ("{\"input_ids\":[1,-2]}\n"), "input_ids[1]"},
        {"float.jsonl", ROW ("{\"ids\":[1,5.5]}\n"), "ids[1]: expected a token id, found a number 5.5"},
        {"word.jsonl", ROW ("{\"ids\":[1,\"5\"]}\n"), "ids[1]: expected a token id, found text"},
        {"utf16.jsonl", ROW ("\xff\xfe{\0}\0"), "UTF-16"},
        {"bytes.txt", ROW ("ok\nbad \xff\n"), "bytes.txt:2"},
        {"fields.csv", ROW ("a,b\n1,2,3\n"), "fields.csv:2"},
        {"columns.csv", ROW ("a,a\n1,2\n"), "stands there twice"},
        {"open.json", ROW ("[{\"text\":\"a\"},"), "open.json"},
        {"packed.jsonl.gz", ROW ("\x1f\x8b"), "unpack it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        err.msg[0] = '\0';
        DpsStatus st = read_all (write_file (cases[i].name, cases[i].bytes, cases[i].len), &n);
        if (st == DPS_OK || !strstr (err.msg, cases[i].says))
            printf ("\n    %s: %s \"%s\"\n", cases[i].name, dps_status_name (st), err.msg);
        CU_ASSERT (st == DPS_ERR_DATA || st == DPS_ERR_UNSUPPORTED);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, cases[i].says));
    }
}

static void test_deep_and_long (void)
{
    size_t n, len = 200000;
    char *deep = malloc (len);
    memset (deep, '[', len);
    memcpy (deep, "{\"text\":", 8);
    DpsStatus st = read_all (write_file ("deep.jsonl", deep, len), &n);
    CU_ASSERT_EQUAL (st, DPS_ERR_DATA);
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "deep.jsonl:1"));
    free (deep);
    size_t big = (size_t)DPS_ROW_MAX_BYTES + 100;
    char *row = malloc (big);
    memset (row, 'a', big);
    memcpy (row, "{\"text\":\"", 9);
    st = read_all (write_file ("long.jsonl", row, big), &n);
    CU_ASSERT_EQUAL (st, DPS_ERR_DATA);
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "long.jsonl:1"));
    free (row);
    CHECK_FAILS (read_all ("/tmp/no/such/rows.jsonl", &n), DPS_ERR_NOT_FOUND, "/tmp/no/such/rows.jsonl");
}

/* Each epoch is a permutation, each place by itself; halves meet in two epochs. */
static void test_order (void)
{
    for (uint64_t n = 1; n < 200; n += 13)
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            char seen[200] = {0};
            for (uint64_t i = 0; i < n; i++) {
                uint64_t at = dps_order_permute (7, 1, epoch, n, i);
                CU_ASSERT_FATAL (at < n);
                CU_ASSERT_EQUAL (seen[at]++, 0);
            }
        }
    CU_ASSERT_NOT_EQUAL (dps_order_permute (7, 1, 0, 1000, 3), dps_order_permute (8, 1, 0, 1000, 3));
}

CHECK_SUITE (check_all, "rows", T (test_accepted), T (test_refused), T (test_deep_and_long), T (test_order))

int main (void)
{
    DpsError ignored;
    if (!mkdtemp (folder))
        return 2;
    int code = check_all ();
    return dps_remove_tree (folder, &ignored) == DPS_OK ? code : 2;
}
