/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair.c: preference pairs. However a row is written, it becomes a prompt and two answers that all are text, all messages or all ids:
 *
 *   prompt with chosen and rejected       as they are; text answers to messages are the assistant's, a text prompt of messages the user's
 *   chosen and rejected that both hold    what they have in common at their beginning is the prompt (TRL's extract_prompt; UltraFeedback
 *   the whole conversation                repeats the prompt as text beside it)
 *   instruction, input, …; conversations  alpaca's and ShareGPT's prompts
 */
#include <string.h>

#include "data/internal.h"

const char *dps_row_missing_side (const DpsRow *row)
{
    static const char *const sides[][2] = {
        {"chosen", "rejected"}, {"preferred_output", "non_preferred_output"}, {"chosen_input_ids", "rejected_input_ids"}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        for (int k = 0; k < 2; k++)
            if (dps__row_column (row, sides[i][k]) && !dps__row_column (row, sides[i][!k]))
                return sides[i][!k];
    return NULL;
}

/* Text as the only message of `role`. */
static DpsStatus wrap_text (const DpsRow *row, DpsContent *c, const char *role, DpsError *err)
{
    json_t *list = json_array (), *text = json_stringn (c->text, c->text_len);
    int bad = !list || !text || dps__message_add (list, role, text);
    DpsStatus st = bad ? dps__row_no_memory (row, err) : DPS_OK;
    if (st == DPS_OK) {
        *c = (DpsContent){0};
        st = dps__messages_read (row, list, NULL, role, NULL, c, err);
    }
    json_decref (text);
    json_decref (list);
    return st;
}

static size_t common_messages (const DpsContent *a, const DpsContent *b)
{
    size_t n_a = json_array_size (a->messages), n_b = json_array_size (b->messages), n = 0;
    while (n + 1 < n_a && n + 1 < n_b && json_equal (json_array_get (a->messages, n), json_array_get (b->messages, n)))
        n++;
    return n;
}

static DpsStatus split_messages (DpsRow *row, size_t n, DpsError *err)
{
    DpsContent *p = &row->prompt;
    *p = (DpsContent){.messages = json_array (), .train = dps_malloc (n, 1)};
    if (!p->messages || !p->train)
        return dps__row_no_memory (row, err);
    memset (p->train, DPS_TRAIN_UNSAID, n);
    for (size_t i = 0; i < n; i++)
        if (json_array_append (p->messages, json_array_get (row->answers[0].messages, i)))
            return dps__row_no_memory (row, err);
    for (int k = 0; k < 2; k++) {
        DpsContent *a = &row->answers[k];
        memmove (a->train, a->train + n, json_array_size (a->messages) - n);
        for (size_t i = 0; i < n; i++)
            json_array_remove (a->messages, 0);
    }
    return DPS_OK;
}

/* A space before the first difference belongs to the answers; a character of several bytes is not cut. */
static void split_text (DpsRow *row)
{
    DpsContent *a = &row->answers[0], *b = &row->answers[1];
    size_t n = 0, shorter = a->text_len < b->text_len ? a->text_len : b->text_len;
    while (n < shorter && a->text[n] == b->text[n])
        n++;
    while (n && n < a->text_len && ((unsigned char)a->text[n] & 0xC0) == 0x80)
        n--;
    n -= n && a->text[n - 1] == ' ';
    row->prompt = (DpsContent){.text = a->text, .text_len = n};
    for (int k = 0; k < 2; k++) {
        row->answers[k].text += n;
        row->answers[k].text_len -= n;
    }
}

static DpsStatus implicit_prompt (DpsRow *row, DpsError *err)
{
    if (!row->answers[0].messages) {
        split_text (row);
        return row->prompt.text_len
                   ? DPS_OK
                   : dps_row_fail (row, err, "no prompt, and chosen and rejected begin differently: they have none in common");
    }
    size_t n = common_messages (&row->answers[0], &row->answers[1]);
    return n ? split_messages (row, n, err)
             : dps_row_fail (row, err, "no prompt, and chosen and rejected have no messages in common at their beginning");
}

DpsStatus dps__prompt_read (DpsRow *row, const DpsRowMap *map, int *out_given, DpsError *err)
{
    const char *name = dps__row_column (row, "prompt") ? "prompt" : dps__row_column (row, "conversations") ? "conversations" : NULL;
    const json_t *system = dps__row_column (row, "system");
    int alpaca = !name && dps__row_column (row, "instruction");
    int whole =
        row->kind == DPS_ROW_PAIR && json_array_size (row->answers[0].messages) > 1 && json_array_size (row->answers[1].messages) > 1;
    *out_given = alpaca || (name && !(whole && json_is_string (dps__row_column (row, name))));
    if (!*out_given)
        return DPS_OK;
    return alpaca ? dps__alpaca_prompt (row, map, err) : dps__side_read (row, name, map, system, &row->prompt, err);
}

DpsStatus dps__row_same_form (DpsRow *row, int prompt_given, DpsError *err)
{
    int messages = row->prompt.messages != NULL;
    for (size_t k = 0; k < row->n_answers; k++)
        messages |= row->answers[k].messages != NULL;
    if (!messages)
        return DPS_OK;
    if (prompt_given && !row->prompt.messages)
        DPS_TRY (wrap_text (row, &row->prompt, "user", err));
    for (size_t k = 0; k < row->n_answers; k++)
        if (!row->answers[k].messages)
            DPS_TRY (wrap_text (row, &row->answers[k], "assistant", err));
    return DPS_OK;
}

DpsStatus dps__answer_check (const DpsRow *row, const DpsContent *c, const char *name, DpsError *err)
{
    if (!c->messages)
        return c->text_len ? DPS_OK : dps_row_fail (row, err, "%s: the completion is empty", name);
    const json_t *last = json_array_get (c->messages, json_array_size (c->messages) - 1);
    DpsBuf said = {0};
    if (strcmp (json_string_value (json_object_get (last, "role")), "assistant"))
        return dps_row_fail (row, err, "%s: its last message must be the assistant's", name);
    int bad = dps_message_text (last, &said), empty = said.len == 0;
    dps_buf_free (&said);
    if (bad)
        return dps__row_no_memory (row, err);
    if (empty && !json_object_get (last, "tool_calls"))
        return dps_row_fail (row, err, "%s: the completion is empty", name);
    return DPS_OK;
}

static DpsStatus check_different (const DpsRow *row, const char *const names[2], DpsError *err)
{
    if (json_equal ((json_t *)dps__row_column (row, names[0]), (json_t *)dps__row_column (row, names[1])))
        return dps_row_fail (row, err, "%s and %s are the same", names[0], names[1]);
    return DPS_OK;
}

DpsStatus dps__pair_read (DpsRow *row, const DpsRowMap *map, const char *const names[2], DpsError *err)
{
    int given;
    row->kind = DPS_ROW_PAIR;
    const json_t *system =
        dps__row_column (row, "prompt") || dps__row_column (row, "conversations") ? NULL : dps__row_column (row, "system");
    DPS_TRY (dps__row_answers (row, 2, err));
    for (size_t i = 0; i < 2; i++)
        DPS_TRY (
            dps__side_read (row, names[i], map, json_is_array (dps__row_column (row, names[i])) ? system : NULL, &row->answers[i], err));
    DPS_TRY (check_different (row, names, err));
    DPS_TRY (dps__prompt_read (row, map, &given, err));
    DPS_TRY (dps__row_same_form (row, given, err));
    if (!given)
        DPS_TRY (implicit_prompt (row, err));
    for (size_t i = 0; i < 2; i++)
        DPS_TRY (dps__answer_check (row, &row->answers[i], names[i], err));
    return DPS_OK;
}

DpsStatus dps__pair_read_ids (DpsRow *row, DpsError *err)
{
    static const char *const sides[2] = {"chosen_input_ids", "rejected_input_ids"};
    row->kind = DPS_ROW_PAIR;
    DPS_TRY (dps__row_answers (row, 2, err));
    for (size_t i = 0; i < 2; i++)
        DPS_TRY (dps__ids_read (row, sides[i], dps__row_column (row, sides[i]), &row->answers[i], err));
    DPS_TRY (check_different (row, sides, err));
    return dps__ids_read (row, "prompt_input_ids", dps__row_column (row, "prompt_input_ids"), &row->prompt, err);
}
