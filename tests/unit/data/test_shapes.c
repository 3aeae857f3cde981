/* SPDX-License-Identifier: Apache-2.0 */
/* Every shape of row that CONVENTIONS 2a names for pretraining and instruction tuning, in every kind of file, and what is read of it. */
#include <stdlib.h>

#include "base/file.h"
#include "check.h"
#include "data/dataset.h"
#include "data/order.h"

static DpsError err = DPS_ERROR_INIT;
static char folder[] = "/tmp/diapason-test-XXXXXX";

static const char *write_file (const char *name, const char *text)
{
    static char path[256];
    snprintf (path, sizeof path, "%s/%s", folder, name);
    CHECK_OK (dps_file_write (path, text, strlen (text), &err));
    return path;
}

/* Messages as JSON with keys in order, then each one's 0, 1 or ? (trained: no, yes, not said); text in quotes; ids, each with its weight. */
static void show (DpsBuf *b, const DpsContent *c)
{
    if (c->messages) {
        char *json = json_dumps (c->messages, JSON_COMPACT | JSON_SORT_KEYS);
        dps_buf_str (b, json);
        dps_buf_str (b, " ");
        for (size_t i = 0; i < json_array_size (c->messages); i++)
            dps_buf_printf (b, "%c", "01?"[c->train[i]]);
        dps_free (json);
    } else if (c->text)
        dps_buf_printf (b, "\"%.*s\"", (int)c->text_len, c->text);
    for (size_t i = 0; i < c->n_ids; i++)
        dps_buf_printf (b, "%s%d%s", i ? " " : "", (int)c->ids[i], c->weights ? c->weights[i] > 0 ? "+" : "-" : "");
}

/* KIND: PROMPT > ANSWER | ANSWER … tools … kwargs … */
static char *describe (const DpsRow *row)
{
    DpsBuf b = {0};
    dps_buf_printf (&b, "%s: ", dps_row_kind_name (row->kind));
    if (row->prompt.messages || row->prompt.text || row->prompt.ids) {
        show (&b, &row->prompt);
        dps_buf_str (&b, " > ");
    }
    for (size_t i = 0; i < row->n_answers; i++) {
        dps_buf_str (&b, i ? " | " : "");
        show (&b, &row->answers[i]);
    }
    for (size_t c = 0; c < row->scores.n; c++) {
        dps_buf_printf (&b, " %s*%g:", row->scores.names[c], row->scores.weights[c]);
        for (size_t k = 0; k < row->n_answers; k++)
            dps_buf_printf (&b, "%s%g", k ? "," : "", row->scores.values[k * row->scores.n + c]);
    }
    const json_t *const extra[] = {row->tools, row->kwargs};
    for (size_t i = 0; i < 2; i++)
        if (extra[i]) {
            char *json = json_dumps (extra[i], JSON_COMPACT | JSON_SORT_KEYS);
            dps_buf_printf (&b, "%s%s", i ? " kwargs " : " tools ", json);
            dps_free (json);
        }
    return b.data;
}

#define MSG(role, content) "{\"content\":\"" content "\",\"role\":\"" role "\"}"
#define UA                 MSG ("user", "a") "," MSG ("assistant", "b")
#define TOOL               "{\"function\":{\"name\":\"f\"},\"type\":\"function\"}"
#define CALL(arguments)    "\"tool_calls\":[{\"function\":{\"arguments\":" arguments ",\"name\":\"f\"},\"type\":\"function\"}]"

static const struct {
    const char *row, *want;
} shapes[] = {
    /* pt */
    {"{\"text\":\"été\"}", "plain text: \"été\""},
    {"{\"text\":\"a\",\"source\":\"x\",\"meta\":{\"n\":1}}", "plain text: \"a\""},
    /* groups of judged answers */
    {"{\"prompt\":\"a\",\"completions\":[{\"content\":\"b\",\"scores\":{\"x\":0.5,\"y\":null},\"source\":\"human:42\",\"ts\":1},{"
     "\"content\":\"c\","
     "\"scores\":{\"z\":true}}],\"weights\":{\"x\":2,\"w\":3}}",
     "group of judged completions: \"a\" > \"b\" | \"c\" x*2:0.5,nan y*nan:nan,nan z*nan:nan,1 w*3:nan,nan"},
    {"{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],\"completions\":[{\"content\":\"b\"},{\"content\":[{\"role\":\"assistant\","
     "\"content\":\"b\"}]"
     ",\"scores\":{\"x\":1}}]}",
     "group of judged completions: [" MSG ("user", "a") "] ? > [" MSG ("assistant", "b") "] ? | [" MSG ("assistant",
                                                                                                        "b") "] ? x*nan:nan,1"},
    {"{\"prompt_input_ids\":[1,2],\"completions\":[{\"input_ids\":[3],\"scores\":{}},{\"input_ids\":[4,5]}]}",
     "group of judged completions: 1 2 > 3 | 4 5"},
    {"{\"source\":\"evol\",\"instruction\":\"a\",\"models\":[\"m\"],\"completions\":[{\"model\":\"m\",\"response\":\"b\",\"annotations\":{"
     "\"honesty\":"
     "{\"Rating\":\"N/"
     "A\",\"Rationale\":\"r\"},\"helpfulness\":{\"Type\":[\"1\"],\"Rating\":\"4\"}},\"overall_score\":7.5},{\"response\":\"c\"}]}",
     "group of judged completions: [" MSG ("user", "a") "] ? > [" MSG ("assistant", "b") "] ? | [" MSG (
         "assistant", "c") "] ? honesty*nan:nan,nan helpfulness*nan:4,nan overall_score*nan:7.5,nan"},
    /* it: conversations */
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}", "conversation: [" UA "] ??"},
    {"{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
     "\"c\"]}]}",
     "conversation: [" MSG (
         "system", "s") ",{\"content\":[{\"text\":\"a\",\"type\":\"text\"},{\"text\":\"c\",\"type\":\"text\"}],\"role\":\"user\"}] ??"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0},{\"role\":\"user\","
     "\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\",\"weight\":1}]}",
     "conversation: [" UA "," MSG ("user", "c") "," MSG ("assistant", "d") "] ?0?1"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"train\":true},{\"role\":\"assistant\",\"content\":\"b\",\"loss_mask\":0}]}",
     "conversation: [" UA "] 10"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\","
     "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"1\","
     "\"name\":\"f\",\"content\":\"r\"}],\"tools\":[" TOOL "]}",
     "conversation: [" MSG ("user", "a") ",{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":{\"x\":1},"
                                         "\"name\":\"f\"},\"id\":\"1\",\"type\":\"function\"}]},{\"content\":\"r\",\"name\":\"f\",\"role\":"
                                         "\"tool\",\"tool_call_id\":\"1\"}] ??? tools [" TOOL "]"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\",\"reasoning_content\":\"h\","
     "\"thinking\":\"t\"}],\"tools\":\"[{\\\"name\\\":\\\"f\\\"}]\",\"chat_template_kwargs\":{\"enable_thinking\":false}}",
     "conversation: [" MSG ("user", "a") ",{\"content\":\"b\",\"reasoning_content\":\"h\",\"role\":\"assistant\",\"thinking\":\"t\"}] ?? "
                                         "tools [" TOOL "] kwargs {\"enable_thinking\":false}"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\",\"reasoning\":\"h\"}]}",
     "conversation: [" MSG ("user", "a") ",{\"content\":\"b\",\"reasoning\":\"h\",\"reasoning_content\":\"h\",\"role\":\"assistant\","
                                         "\"thinking\":\"h\"}] ??"},
    /* sharegpt */
    {"{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}],\"system\":\"s\"}",
     "conversation: [" MSG ("system", "s") "," UA "] ???"},
    {"{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"function_call\",\"value\":"
     "\"{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{\\\"x\\\":1}}\"},{\"from\":\"observation\",\"value\":\"r\"},{\"from\":\"gpt\","
     "\"value\":\"b\"}],\"tools\":\"[{\\\"name\\\":\\\"f\\\"}]\"}",
     "conversation: [" MSG ("system", "s") "," MSG ("user", "a") ",{\"content\":\"\",\"role\":\"assistant\"," CALL ("{\"x\":1}") "}," MSG (
         "tool", "r") "," MSG ("assistant", "b") "] ????? tools [" TOOL "]"},
    /* prompt and completion */
    {"{\"prompt\":\"a\",\"completion\":[{\"role\":\"assistant\",\"content\":\"b\"}]}",
     "prompt and completion: [" MSG ("user", "a") "] ? > [" MSG ("assistant", "b") "] ?"},
    {"{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],\"completion\":\"b\"}",
     "prompt and completion: [" MSG ("user", "a") "] ? > [" MSG ("assistant", "b") "] ?"},
    {"{\"prompt\":\"a\",\"completion\":\"b\"}", "prompt and completion: \"a\" > \"b\""},
    {"{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],\"completion\":[{\"role\":\"assistant\",\"content\":\"b\"}]}",
     "prompt and completion: [" MSG ("user", "a") "] ? > [" MSG ("assistant", "b") "] ?"},
    {"{\"prompt\":\"a\",\"answer\":\"42\"}", "prompt without completion: \"a\" > "},
    /* alpaca */
    {"{\"instruction\":\"a\",\"input\":\"\",\"output\":\"b\"}",
     "prompt and completion: [" MSG ("user", "a") "] ? > [" MSG ("assistant", "b") "] ?"},
    {"{\"instruction\":\"a\",\"input\":\"c\",\"output\":\"b\",\"system\":\"s\",\"history\":[[\"q\",\"r\"],[\"t\",\"u\"]]}",
     "prompt and completion: [" MSG ("system", "s") "," MSG ("user", "q") "," MSG ("assistant", "r") "," MSG ("user", "t") "," MSG (
         "assistant", "u") "," MSG ("user", "a\\nc") "] ?????? > [" MSG ("assistant", "b") "] ?"},
    /* already tokenized */
    {"{\"input_ids\":[1,2,3],\"labels\":[-100,2,-100]}", "token ids: 1- 2+ 3-"},
    {"{\"input_ids\":[1,2,3]}", "token ids: 1 2 3"},
    {"{\"ids\":[1,2],\"completion_mask\":[0,1],\"attention_mask\":[1,1]}", "token ids: 1- 2+"},
    {"{\"prompt_input_ids\":[1,2],\"completion_input_ids\":[3]}", "token ids of prompt and completion: 1 2 > 3"},
    /* of later stages: known for what they are */
    {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}", "preference pair (chosen, rejected): \"a\" > \"b\" | \"c\""},
    {"{\"prompt\":\"a\",\"completion\":\"b\",\"label\":true}", "judged completion (label): \"a\" > \"b\""},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void check_row (const DpsDataset *ds, uint64_t k, const char *want)
{
    DpsRow row;
    CHECK_OK (dps_dataset_row (ds, 0, k, &row, &err));
    char *got = describe (&row);
    CHECK_STR (got, want);
    dps_free (got);
    dps_row_clear (&row);
}

/* The same rows as lines and as one array. */
static void test_every_shape_in_lines_and_in_an_array (void)
{
    for (int array = 0; array < 2; array++) {
        DpsBuf text = {0};
        DpsDataset *ds;
        for (size_t i = 0; i < N_SHAPES; i++)
            dps_buf_printf (&text, "%s%s%s", array ? i ? ",\n  " : "[" : "", shapes[i].row, array ? "" : "\n");
        dps_buf_str (&text, array ? "]\n" : "");
        CHECK_OK (dps_dataset_from_file (write_file (array ? "all.json" : "all.jsonl", text.data), &ds, &err));
        CU_ASSERT_EQUAL_FATAL (ds->n_rows, N_SHAPES);
        for (size_t i = 0; i < N_SHAPES; i++)
            check_row (ds, i, shapes[i].want);
        dps_dataset_close (ds);
        dps_buf_free (&text);
    }
}

static void test_tables_and_plain_text (void)
{
    static const struct {
        const char *name, *text, *want[2];
    } cases[] = {
        {"text.csv", "id,text\n1,\"a, \"\"b\"\"\nc\"\n2,d\n", {"plain text: \"a, \"b\"\nc\"", "plain text: \"d\""}},
        {"pair.csv",
         "prompt,completion\na,b\n\"c\",\"\"\"d\"\"\"\n",
         {"prompt and completion: \"a\" > \"b\"", "prompt and completion: \"c\" > \"\"d\"\""}},
        {"alpaca.tsv",
         "instruction\tinput\toutput\na\t\tb\na\tc\tb\n",
         {"prompt and completion: [" MSG ("user", "a") "] ? > [" MSG ("assistant", "b") "] ?",
          "prompt and completion: [" MSG ("user", "a\\nc") "] ? > [" MSG ("assistant", "b") "] ?"}},
        {"lines.txt", "one, \"two\"\r\n\n{\"text\":1}\n", {"plain text: \"one, \"two\"\"", "plain text: \"{\"text\":1}\""}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsDataset *ds;
        CHECK_OK (dps_dataset_from_file (write_file (cases[i].name, cases[i].text), &ds, &err));
        CU_ASSERT_EQUAL_FATAL (ds->n_rows, 2);
        for (size_t k = 0; k < 2; k++)
            check_row (ds, k, cases[i].want[k]);
        dps_dataset_close (ds);
    }
}

/* ---- mixtures ---- */

static DpsDataset *mixture (const double *fractions, const size_t *rows, size_t n, uint64_t seed, int shuffle)
{
    static char paths[4][300];
    DpsRecipeDataset sets[4];
    DpsDataset *ds;
    for (size_t i = 0; i < n; i++) {
        DpsBuf text = {0};
        char name[20];
        for (size_t k = 0; k < rows[i]; k++)
            dps_buf_printf (&text, "{\"input_ids\":[%zu,%zu]}\n", i, k);
        snprintf (name, sizeof name, "mix%zu.jsonl", i);
        snprintf (paths[i], sizeof paths[i], "%s", write_file (name, text.data));
        sets[i] = (DpsRecipeDataset){.path = paths[i], .as_given = paths[i], .fraction = fractions[i]};
        dps_buf_free (&text);
    }
    const DpsRecipeDatasets list = {.items = sets, .n = n};
    const DpsDatasetOptions options = {.sets = &list, .seed = seed, .shuffle = shuffle};
    CHECK_OK (dps_dataset_open (&options, &ds, &err));
    return ds;
}

/* Exactly round (fraction · rows) of each file in each epoch, each row of a file as often as every other, to one. */
static void test_fractions_are_exact (void)
{
    static const double fractions[] = {1, 0.5, 2, 0.3};
    static const size_t rows[] = {7, 10, 3, 11};
    static const uint64_t per_epoch[] = {7, 5, 6, 3}; /* 0.3 · 11 = 3.3 */
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        unsigned seen[4][11] = {{0}};
        DpsDataset *ds = mixture (fractions, rows, 4, 3, shuffle);
        CU_ASSERT_EQUAL_FATAL (ds->n_rows, 7 + 5 + 6 + 3);
        for (uint64_t epoch = 0; epoch < 40; epoch++) {
            uint64_t n[4] = {0};
            for (uint64_t k = 0; k < ds->n_rows; k++) {
                size_t file;
                uint64_t row;
                dps_dataset_place (ds, epoch, k, &file, &row);
                CU_ASSERT_FATAL (file < 4 && row < rows[file]);
                n[file]++;
                seen[file][row]++;
            }
            for (size_t i = 0; i < 4; i++)
                CU_ASSERT_EQUAL (n[i], per_epoch[i]);
            for (size_t i = 0; i < 4; i++) {
                unsigned low = seen[i][0], high = seen[i][0];
                for (size_t k = 1; k < rows[i]; k++) {
                    low = seen[i][k] < low ? seen[i][k] : low;
                    high = seen[i][k] > high ? seen[i][k] : high;
                }
                CU_ASSERT (high - low <= 1);
            }
        }
        dps_dataset_close (ds);
    }
}

/* The order of a seed is part of what a recipe means: it is the same on every machine and in every version. */
static void test_the_order_of_a_seed_is_golden (void)
{
    static const uint64_t permuted[12] = {639220, 836809, 316068, 466443, 800333, 334071, 474323, 112837, 356672, 915137, 871131, 690927};
    static const char mixed[] = "0.4 0.1 0.5 0.0 0.2 1.1 1.0 0.3 0.2 0.5 1.2 0.0 0.1 0.3 0.4 1.3 ";
    static const double fractions[] = {1, 0.5};
    static const size_t rows[] = {6, 4};
    DpsBuf text = {0};
    for (uint64_t i = 0; i < 12; i++)
        CU_ASSERT_EQUAL (dps_order_permute (42, 1, 0, 1000003, i), permuted[i]);
    DpsDataset *ds = mixture (fractions, rows, 2, 42, 1);
    for (uint64_t epoch = 0; epoch < 2; epoch++)
        for (uint64_t k = 0; k < ds->n_rows; k++) {
            size_t file;
            uint64_t row;
            dps_dataset_place (ds, epoch, k, &file, &row);
            dps_buf_printf (&text, "%zu.%llu ", file, (unsigned long long)row);
        }
    CHECK_STR (text.data, mixed);
    dps_dataset_close (ds);
    dps_buf_free (&text);
}

CHECK_SUITE (check_all, "shapes", T (test_every_shape_in_lines_and_in_an_array), T (test_tables_and_plain_text),
             T (test_fractions_are_exact), T (test_the_order_of_a_seed_is_golden))

int main (void)
{
    DpsError ignored;
    dps_json_init ();
    if (!mkdtemp (folder))
        return 2;
    int code = check_all ();
    return dps_remove_tree (folder, &ignored) == DPS_OK ? code : 2;
}
