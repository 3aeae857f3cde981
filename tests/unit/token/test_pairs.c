/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preference rows: every form becomes a prompt and two answers; encoded, they are two sequences with a common beginning of which only the answers
 * count; what training refuses of them, by file and line.
 */
#include "base/mem.h"
#include "check.h"
#include "diapason/objective.h"
#include "token/encode.h"

static DpsError err = DPS_ERROR_INIT;

static DpsStatus parse (const char *text, DpsRow *row)
{
    json_t *object = NULL;
    CHECK_OK (dps_json_parse (text, strlen (text), "row", 1, 0, &object, &err));
    err.msg[0] = '\0';
    return dps_row_parse (object, NULL, "pairs.jsonl", 7, 6, row, &err);
}

/* "role:content|role:content" of messages, or the text. */
static const char *content_text (const DpsContent *c, char *buf, size_t cap)
{
    size_t used = 0, i;
    json_t *m;
    snprintf (buf, cap, "%.*s", c->text ? (int)c->text_len : 0, c->text ? c->text : "");
    json_array_foreach (c->messages, i, m)
        used += (size_t)snprintf (buf + used, cap - used, "%s%s:%s", i ? "|" : "", json_string_value (json_object_get (m, "role")),
                                  json_string_value (json_object_get (m, "content")));
    return buf;
}

static void test_forms (void)
{
    static const struct {
        const char *row, *prompt, *chosen, *rejected;
    } cases[] = {
        {"{\"prompt\":\"Q: \",\"chosen\":\"yes\",\"rejected\":\"no\"}", "Q: ", "yes", "no"},
        {"{\"chosen\":\"Q: is it? yes\",\"rejected\":\"Q: is it? no\"}", "Q: is it?", " yes", " no"},
        {"{\"chosen\":\"caf\xc3\xa9\",\"rejected\":\"caf\xc3\xa8s\"}", "caf", "\xc3\xa9", "\xc3\xa8s"},
        {"{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"chosen\":[{\"role\":\"assistant\",\"content\":\"a\"}],"
         "\"rejected\":[{\"role\":\"assistant\",\"content\":\"b\"}]}",
         "user:q", "assistant:a", "assistant:b"},
        {"{\"chosen\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}],"
         "\"rejected\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"b\"}]}",
         "user:q", "assistant:a", "assistant:b"},
        /* UltraFeedback, binarized: the prompt as text, and again in both conversations. */
        {"{\"prompt\":\"q\",\"chosen\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}],"
         "\"rejected\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"b\"}]}",
         "user:q", "assistant:a", "assistant:b"},
        {"{\"prompt\":\"q\",\"chosen\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"rejected\":[{\"role\":\"assistant\",\"content\":"
         "\"b\"}]}",
         "user:q", "assistant:a", "assistant:b"},
        {"{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"}],\"chosen\":{\"from\":\"gpt\",\"value\":\"a\"},"
         "\"rejected\":{\"from\":\"gpt\",\"value\":\"b\"}}",
         "user:q", "assistant:a", "assistant:b"},
        {"{\"input\":{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]},\"preferred_output\":[{\"role\":\"assistant\",\"content\":"
         "\"a\"}],"
         "\"non_preferred_output\":[{\"role\":\"assistant\",\"content\":\"b\"}]}",
         "user:q", "assistant:a", "assistant:b"},
        {"{\"instruction\":\"do\",\"input\":\"it\",\"system\":\"s\",\"chosen\":\"a\",\"rejected\":\"b\"}", "system:s|user:do\nit",
         "assistant:a", "assistant:b"},
        {"{\"system\":\"s\",\"chosen\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}],"
         "\"rejected\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"b\"}]}",
         "system:s|user:q", "assistant:a", "assistant:b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char buf[200];
        DpsRow row;
        CHECK_OK (parse (cases[i].row, &row));
        CU_ASSERT_FATAL (row.kind == DPS_ROW_PAIR && row.n_answers == 2);
        CHECK_STR (content_text (&row.prompt, buf, sizeof buf), cases[i].prompt);
        CHECK_STR (content_text (&row.answers[0], buf, sizeof buf), cases[i].chosen);
        CHECK_STR (content_text (&row.answers[1], buf, sizeof buf), cases[i].rejected);
        dps_row_clear (&row);
    }
}

static void test_refused_rows (void)
{
    static const char *const cases[][2] = {
        {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}", "chosen and rejected are the same"},
        {"{\"prompt_input_ids\":[1],\"chosen_input_ids\":[2],\"rejected_input_ids\":[2]}",
         "chosen_input_ids and rejected_input_ids are the same"},
        {"{\"prompt\":\"a\",\"chosen\":\"\",\"rejected\":\"b\"}", "chosen: the completion is empty"},
        {"{\"chosen\":\"ab\",\"rejected\":\"abc\"}", "chosen: the completion is empty"},
        {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":[{\"role\":\"assistant\",\"content\":\"\"}]}",
         "rejected: the completion is empty"},
        {"{\"prompt_input_ids\":[1],\"chosen_input_ids\":[2],\"rejected_input_ids\":[]}",
         "rejected_input_ids: expected a list of token ids"},
        {"{\"chosen\":\"x\",\"rejected\":\"y\"}", "no prompt"},
        {"{\"chosen\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"rejected\":[{\"role\":\"assistant\",\"content\":\"b\"}]}",
         "no prompt"},
        {"{\"chosen\":\"a\"}", "a preference pair without rejected"},
        {"{\"preferred_output\":\"a\"}", "a preference pair without non_preferred_output"},
        {"{\"prompt\":\"q\",\"chosen\":[{\"role\":\"user\",\"content\":\"a\"}],\"rejected\":\"b\"}", "must be the assistant's"},
        {"{\"prompt\":\"q\",\"chosen\":7,\"rejected\":\"b\"}", "chosen: expected text or messages"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsRow row;
        DpsStatus st = parse (cases[i][0], &row);
        if (st != DPS_ERR_DATA || !strstr (err.msg, cases[i][1]))
            printf ("\n    %s: %s \"%s\"\n", cases[i][0], dps_status_name (st), err.msg);
        CU_ASSERT (st == DPS_ERR_DATA && strstr (err.msg, cases[i][1]) && strstr (err.msg, "pairs.jsonl:7"));
        dps_row_clear (&row);
    }
}

static DpsStatus encode (const char *text, const char *keys, uint32_t unit, DpsEncodedUnit *out)
{
    DpsRow row;
    DpsRecipe *recipe;
    DpsEncoder *e;
    CHECK_OK (dps_recipe_parse (keys, strlen (keys), "test", NULL, NULL, 0, &recipe, &err));
    CHECK_OK (dps_encoder_new (recipe, NULL, &e, &err));
    CHECK_OK (dps_encoder_set_model (e, NULL, 100, &err));
    CHECK_OK (parse (text, &row));
    DpsStatus st = dps_encode_unit (e, &row, unit, out, &err);
    dps_row_clear (&row);
    dps_encoder_free (e);
    dps_recipe_free (recipe);
    return st;
}

#define PAIR "{\"prompt_input_ids\":[1,2,3],\"chosen_input_ids\":[4,5,6],\"rejected_input_ids\":[4,7]}"

static void check_row (const DpsEncoded *x, size_t n, const int32_t *ids, size_t n_prompt)
{
    CU_ASSERT_EQUAL_FATAL (x->n, n);
    CU_ASSERT_EQUAL (memcmp (x->ids, ids, n * sizeof *ids), 0);
    CU_ASSERT_EQUAL (x->n_prompt, n_prompt);
    for (size_t i = 0; i < n; i++)
        CU_ASSERT_EQUAL (x->weights[i], i >= n_prompt);
}

static void test_encoded (void)
{
    DpsEncodedUnit u;
    CHECK_OK (encode (PAIR, "seed: 1\n", DPS_UNIT_PAIR, &u));
    CU_ASSERT_FATAL (u.n == 2 && u.prefix == 3);
    check_row (&u.rows[0], 6, (int32_t[]){1, 2, 3, 4, 5, 6}, 3);
    check_row (&u.rows[1], 5, (int32_t[]){1, 2, 3, 4, 7}, 3);
    dps_encoded_unit_free (&u);
    CHECK_OK (encode (PAIR, "max_length: 5\n", DPS_UNIT_PAIR, &u));
    check_row (&u.rows[0], 5, (int32_t[]){1, 2, 3, 4, 5}, 3);
    check_row (&u.rows[1], 5, (int32_t[]){1, 2, 3, 4, 7}, 3);
    dps_encoded_unit_free (&u);
    /* Both lose the same beginning of the prompt. */
    CHECK_OK (encode (PAIR, "max_length: 5\ntruncation_mode: keep_end\n", DPS_UNIT_PAIR, &u));
    CU_ASSERT_FATAL (u.n == 2 && u.prefix == 2);
    check_row (&u.rows[0], 5, (int32_t[]){2, 3, 4, 5, 6}, 2);
    check_row (&u.rows[1], 4, (int32_t[]){2, 3, 4, 7}, 2);
    dps_encoded_unit_free (&u);
    CHECK_OK (encode (PAIR, "max_length: 4\nmax_prompt_length: 1\n", DPS_UNIT_PAIR, &u));
    CU_ASSERT_FATAL (u.n == 2 && u.prefix == 1);
    check_row (&u.rows[0], 4, (int32_t[]){3, 4, 5, 6}, 1);
    check_row (&u.rows[1], 3, (int32_t[]){3, 4, 7}, 1);
    dps_encoded_unit_free (&u);
    CHECK_OK (encode (PAIR, "max_length: 5\ntruncation_mode: drop\n", DPS_UNIT_PAIR, &u));
    CU_ASSERT_EQUAL (u.n, 0);
}

static void test_refused_in_training (void)
{
    DpsEncodedUnit u;
    CHECK_FAILS (encode (PAIR, "max_length: 3\n", DPS_UNIT_PAIR, &u), DPS_ERR_DATA,
                 "pairs.jsonl:7: the prompt has 3 tokens and max_length is 3");
    CHECK_FAILS (encode (PAIR, "max_length: 4\n", DPS_UNIT_PAIR, &u), DPS_ERR_DATA, "the same in what max_length leaves");
    CHECK_FAILS (encode (PAIR, "max_length: 3\ntruncation_mode: keep_end\n", DPS_UNIT_PAIR, &u), DPS_ERR_DATA,
                 "the answer alone has 3 tokens");
    CHECK_FAILS (encode (PAIR, "max_length: 5\ntruncation_mode: error\n", DPS_UNIT_PAIR, &u), DPS_ERR_DATA, "6 tokens, max_length is 5");
    CHECK_FAILS (encode ("{\"input_ids\":[1,2]}", "seed: 1\n", DPS_UNIT_PAIR, &u), DPS_ERR_DATA, "this stage takes preference pairs");
    CHECK_FAILS (encode ("{\"prompt\":\"a\",\"chosen\":\"b\"}", "seed: 1\n", DPS_UNIT_PAIR, &u), DPS_ERR_DATA,
                 "a preference pair without rejected");
    CHECK_FAILS (encode (PAIR, "seed: 1\n", DPS_UNIT_SINGLE, &u), DPS_ERR_DATA, "preference pair (chosen, rejected): this stage takes");
    CHECK_FAILS (
        encode ("{\"prompt_input_ids\":[1],\"chosen_input_ids\":[100],\"rejected_input_ids\":[2]}", "seed: 1\n", DPS_UNIT_PAIR, &u),
        DPS_ERR_DATA, "token 1 has id 100, but the model has ids 0 … 99");
    CHECK_FAILS (encode ("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}", "seed: 1\n", DPS_UNIT_PAIR, &u), DPS_ERR_DATA,
                 "has no tokenizer");
}

CHECK_MAIN ("preference pairs", T (test_forms), T (test_refused_rows), T (test_encoded), T (test_refused_in_training))
