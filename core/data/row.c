/* SPDX-License-Identifier: Apache-2.0 */
/* row.c: which shape a row has, and its parts. */
#include "data/row.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "data/internal.h"

const char *dps_row_kind_name (DpsRowKind kind)
{
    static const char *const names[] = {
#define DPS_X(name, words) words,
        DPS_ROW_KINDS (DPS_X)
#undef DPS_X
    };
    return (size_t)kind < sizeof names / sizeof *names ? names[kind] : "?";
}

DpsStatus dps_row_fail (const DpsRow *row, DpsError *err, const char *fmt, ...)
{
    char message[900];
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (message, sizeof message, fmt, ap);
    va_end (ap);
    return dps_fail (err, DPS_ERR_DATA, "%s:%llu: %s", row->file, (unsigned long long)row->line, message);
}

DpsStatus dps_row_place (const DpsRow *row, DpsStatus st, DpsError *err)
{
    if (st != DPS_OK)
        dps_error_prefix (err, "%s:%llu", row->file, (unsigned long long)row->line);
    return st;
}

DpsStatus dps__row_no_memory (const DpsRow *row, DpsError *err)
{
    return dps_fail (err, DPS_ERR_NOMEM, "%s:%llu: out of memory", row->file, (unsigned long long)row->line);
}

static void content_clear (DpsContent *c)
{
    json_decref (c->messages);
    dps_free (c->train);
    dps_free (c->ids);
    dps_free (c->weights);
}

void dps_row_clear (DpsRow *row)
{
    content_clear (&row->prompt);
    for (size_t i = 0; i < row->n_answers; i++)
        content_clear (&row->answers[i]);
    dps_free (row->answers);
    dps_free (row->scores.names);
    dps_free (row->scores.weights);
    dps_free (row->scores.values);
    json_decref (row->tools);
    json_decref (row->kwargs);
    json_decref (row->object);
    memset (row, 0, sizeof *row);
}

DpsStatus dps__row_answers (DpsRow *row, size_t n, DpsError *err)
{
    row->answers = dps_calloc (n, sizeof *row->answers);
    if (!row->answers)
        return dps__row_no_memory (row, err);
    row->n_answers = n;
    return DPS_OK;
}

const json_t *dps__row_column (const DpsRow *row, const char *name)
{
    const json_t *v = json_object_get (row->object, name);
    return v && !json_is_null (v) ? v : NULL;
}

static int has (const DpsRow *row, const char *name) { return dps__row_column (row, name) != NULL; }

static void set_text (DpsContent *c, const json_t *v)
{
    c->text = json_string_value (v);
    c->text_len = json_string_length (v);
}

DpsStatus dps__side_read (const DpsRow *row, const char *name, const DpsRowMap *map, const json_t *system, DpsContent *out, DpsError *err)
{
    return dps__content_read (row, dps__row_column (row, name), name, map, system, out, err);
}

DpsStatus dps__content_read (const DpsRow *row, const json_t *v, const char *name, const DpsRowMap *map, const json_t *system,
                             DpsContent *out, DpsError *err)
{
    if (json_is_string (v)) {
        set_text (out, v);
        return DPS_OK;
    }
    if (json_is_array (v))
        return dps__messages_read (row, v, map, name, system, out, err);
    if (!json_is_object (v))
        return dps_row_fail (row, err, "%s: expected text or messages, found %s", name, dps__json_kind (v));
    json_t *list = json_array ();
    DpsStatus st = list && json_array_append (list, (json_t *)v) == 0 ? dps__messages_read (row, list, map, name, system, out, err)
                                                                      : dps__row_no_memory (row, err);
    json_decref (list);
    return st;
}

static DpsStatus read_ids (DpsRow *row, DpsError *err)
{
    const char *name = has (row, "input_ids") ? "input_ids" : "ids";
    static const char *const masks[] = {"completion_mask", "assistant_masks", "loss_mask"};
    row->kind = DPS_ROW_IDS;
    DPS_TRY (dps__row_answers (row, 1, err));
    DPS_TRY (dps__ids_read (row, name, dps__row_column (row, name), &row->answers[0], err));
    const json_t *attention = dps__row_column (row, "attention_mask");
    for (size_t i = 0; i < json_array_size (attention); i++)
        if (json_integer_value (json_array_get (attention, i)) != 1)
            return dps_row_fail (row, err, "attention_mask[%zu] is not 1: rows are never padded here; cut the padding off", i);
    if (has (row, "labels"))
        return dps__labels_read (row, dps__row_column (row, "labels"), &row->answers[0], err);
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
        if (has (row, masks[i]))
            return dps__mask_read (row, masks[i], dps__row_column (row, masks[i]), &row->answers[0], err);
    return DPS_OK;
}

static DpsStatus read_completion_ids (DpsRow *row, DpsError *err)
{
    if (has (row, "chosen_input_ids") || has (row, "rejected_input_ids"))
        return dps__pair_read_ids (row, err);
    row->kind = DPS_ROW_COMPLETION_IDS;
    DPS_TRY (dps__ids_read (row, "prompt_input_ids", dps__row_column (row, "prompt_input_ids"), &row->prompt, err));
    if (!has (row, "completion_input_ids")) {
        row->kind = DPS_ROW_PROMPT;
        return DPS_OK;
    }
    DPS_TRY (dps__row_answers (row, 1, err));
    return dps__ids_read (row, "completion_input_ids", dps__row_column (row, "completion_input_ids"), &row->answers[0], err);
}

static DpsStatus read_conversation (DpsRow *row, const DpsRowMap *map, DpsError *err)
{
    const char *name = has (row, "messages") ? "messages" : "conversations";
    row->kind = DPS_ROW_MESSAGES;
    DPS_TRY (dps__row_answers (row, 1, err));
    return dps__messages_read (row, dps__row_column (row, name), map, name, dps__row_column (row, "system"), &row->answers[0], err);
}

static DpsStatus read_prompt (DpsRow *row, const DpsRowMap *map, DpsError *err)
{
    const int with_answer = has (row, "completion");
    row->kind = with_answer ? has (row, "label") ? DPS_ROW_FEEDBACK : DPS_ROW_COMPLETION : DPS_ROW_PROMPT;
    DPS_TRY (dps__side_read (row, "prompt", map, dps__row_column (row, "system"), &row->prompt, err));
    if (!with_answer)
        return DPS_OK;
    DPS_TRY (dps__row_answers (row, 1, err));
    DPS_TRY (dps__side_read (row, "completion", map, NULL, &row->answers[0], err));
    DPS_TRY (dps__row_same_form (row, 1, err));
    const json_t *last = json_array_get (row->answers[0].messages, json_array_size (row->answers[0].messages) - 1);
    if (last && strcmp (json_string_value (json_object_get (last, "role")), "assistant"))
        return dps_row_fail (row, err, "completion: its last message must be the assistant's");
    return DPS_OK;
}

static DpsStatus read_text (DpsRow *row, const char *name, DpsError *err)
{
    const json_t *v = dps__row_column (row, name);
    row->kind = DPS_ROW_TEXT;
    DPS_TRY (dps__row_answers (row, 1, err));
    if (!json_is_string (v))
        return dps_row_fail (row, err, "%s: expected text, found %s", name, dps__json_kind (v));
    set_text (&row->answers[0], v);
    return DPS_OK;
}

/* "a, b": an object's keys, as many as fit. */
static const char *list_keys (const json_t *object, char *buf, size_t cap)
{
    const char *key;
    json_t *value;
    size_t used = (size_t)snprintf (buf, cap, "no column");
    int first = 1;
    json_object_foreach ((json_t *)object, key, value) {
        used = first ? 0 : used;
        used += (size_t)snprintf (buf + used, cap - used, "%s%.40s", first ? "" : ", ", key);
        first = 0;
        if (used > cap - 60)
            break;
    }
    return buf;
}

/* `given` is the row under its file's names. */
static DpsStatus no_shape (const DpsRow *row, const DpsRowMap *map, const json_t *given, DpsError *err)
{
    char found[300];
    const char *ours;
    json_t *theirs;
    list_keys (given, found, sizeof found);
    json_object_foreach (map ? map->columns : NULL, ours, theirs) {
        if (!json_object_get (given, json_string_value (theirs)))
            return dps_row_fail (row, err, "no column '%.60s', which is to be %s: found %s. Hint: columns, in the recipe's datasets",
                                 json_string_value (theirs), ours, found);
    }
    const char *missing = dps_row_missing_side (row);
    if (missing)
        return dps_row_fail (row, err, "a preference pair without %s: found %s", missing, found);
    return dps_row_fail (row, err,
                         "no known shape of row: found %s; expected text, messages, prompt with completion, chosen with rejected, "
                         "instruction with output, conversations, or input_ids. Hint: map its columns in the recipe's datasets",
                         found);
}

static DpsStatus read_shape (DpsRow *row, const DpsRowMap *map, const json_t *given, DpsError *err)
{
    static const char *const chosen[2] = {"chosen", "rejected"}, *const preferred[2] = {"preferred_output", "non_preferred_output"};
    const char *text = map && map->text_field ? map->text_field : "text";
    if (has (row, "input_ids") || has (row, "ids"))
        return read_ids (row, err);
    if (has (row, "prompt_input_ids"))
        return has (row, "completions") ? dps__group_read (row, map, err) : read_completion_ids (row, err);
    if (map && map->alpaca)
        return dps__alpaca_read (row, map, err);
    if (has (row, "chosen") && has (row, "rejected"))
        return dps__pair_read (row, map, chosen, err);
    if (has (row, "preferred_output") && has (row, "non_preferred_output"))
        return dps__pair_read (row, map, preferred, err);
    if (has (row, "completions") && !has (row, "labels"))
        return dps__group_read (row, map, err);
    if (has (row, "completions")) {
        row->kind = DPS_ROW_STEPS;
        return DPS_OK;
    }
    if (has (row, "kto_tag")) {
        row->kind = DPS_ROW_FEEDBACK;
        return DPS_OK;
    }
    if (has (row, "messages") || has (row, "conversations"))
        return read_conversation (row, map, err);
    if (has (row, "prompt"))
        return read_prompt (row, map, err);
    if (has (row, "instruction"))
        return dps__alpaca_read (row, map, err);
    if (has (row, text))
        return read_text (row, text, err);
    return no_shape (row, map, given, err);
}

/* One of the list's tools: {"type":"function","function":{…}}, or, as LLaMA-Factory writes them, the function alone. */
static int add_tool (json_t *tools, json_t *tool)
{
    if (json_object_get (tool, "function") || json_object_get (tool, "type"))
        return json_array_append (tools, tool);
    json_t *wrapped = json_object ();
    if (!wrapped || json_object_set_new (wrapped, "type", json_string ("function")) || json_object_set (wrapped, "function", tool)) {
        json_decref (wrapped);
        return -1;
    }
    return json_array_append_new (tools, wrapped);
}

static DpsStatus read_tools (DpsRow *row, DpsError *err)
{
    const json_t *v = dps__row_column (row, "tools");
    json_t *parsed = NULL;
    if (!v || (json_is_string (v) && !json_string_length (v)))
        return DPS_OK;
    if (json_is_string (v)) {
        DpsError why = DPS_ERROR_INIT;
        DpsStatus st = dps_json_parse (json_string_value (v), json_string_length (v), "tools", 1, 0, &parsed, &why);
        if (st != DPS_OK)
            return st == DPS_ERR_NOMEM ? dps__row_no_memory (row, err) : dps_row_fail (row, err, "%s", why.msg);
        v = parsed;
    }
    DpsStatus st =
        json_is_array (v) ? DPS_OK : dps_row_fail (row, err, "tools: expected a list of functions, found %s", dps__json_kind (v));
    if (st == DPS_OK && json_array_size (v) && !(row->tools = json_array ()))
        st = dps__row_no_memory (row, err);
    for (size_t i = 0; st == DPS_OK && i < json_array_size (v); i++) {
        json_t *tool = json_array_get (v, i);
        if (!json_is_object (tool))
            st = dps_row_fail (row, err, "tools[%zu]: expected a function's description, found %s", i, dps__json_kind (tool));
        else if (add_tool (row->tools, tool))
            st = dps__row_no_memory (row, err);
    }
    json_decref (parsed);
    return st;
}

/* The row under our names: with a column map, mapped columns and nothing else. */
static json_t *rename_columns (const json_t *object, const DpsRowMap *map)
{
    static const char *const always[] = {"system", "tools", "chat_template_kwargs"};
    json_t *view = json_object (), *source;
    const char *ours;
    size_t i;
    for (i = 0; view && map->columns && i < sizeof always / sizeof *always; i++)
        if (json_object_get (object, always[i]) && json_object_set (view, always[i], json_object_get (object, always[i])))
            goto failed;
    json_object_foreach (map->columns, ours, source) {
        json_t *value = json_object_get (object, json_string_value (source));
        if (value && json_object_set (view, ours, value))
            goto failed;
    }
    json_array_foreach (map->keep, i, source) {
        json_t *value = json_object_get (object, json_string_value (source));
        if (value && json_object_set (view, json_string_value (source), value))
            goto failed;
    }
    return view;
failed:
    json_decref (view);
    return NULL;
}

/* A CSV cell is text; in these columns it is JSON as text. */
static DpsStatus parse_cells (DpsRow *row, DpsError *err)
{
    static const char *const columns[] = {"messages",         "conversations",      "input_ids",
                                          "labels",           "prompt_input_ids",   "completion_input_ids",
                                          "chosen_input_ids", "rejected_input_ids", "completions"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        const json_t *v = dps__row_column (row, columns[i]);
        if (!json_is_string (v) || *json_string_value (v) != '[')
            continue;
        json_t *parsed = NULL;
        DpsError why = DPS_ERROR_INIT;
        DpsStatus st = dps_json_parse (json_string_value (v), json_string_length (v), columns[i], 1, 0, &parsed, &why);
        if (st == DPS_ERR_FORMAT)
            return dps_row_fail (row, err, "%s", why.msg);
        if (st != DPS_OK || json_object_set_new (row->object, columns[i], parsed))
            return dps__row_no_memory (row, err);
    }
    return DPS_OK;
}

/* OpenAI's preference rows keep the conversation, and its tools, in "input". 0 or -1. */
static int open_input (DpsRow *row)
{
    json_t *input = json_object_get (row->object, "input"), *messages = json_object_get (input, "messages"),
           *tools = json_object_get (input, "tools");
    if (!messages || has (row, "prompt"))
        return 0;
    return json_object_set (row->object, "prompt", messages) ||
           (tools && !has (row, "tools") && json_object_set (row->object, "tools", tools));
}

DpsStatus dps_row_parse (json_t *object, const DpsRowMap *map, const char *file, uint64_t line, uint64_t number, DpsRow *out, DpsError *err)
{
    memset (out, 0, sizeof *out);
    out->object = object;
    out->file = file;
    out->line = line;
    out->number = number;
    DpsStatus st = DPS_OK;
    if (map && (map->columns || map->keep) && !(out->object = rename_columns (object, map)))
        st = dps__row_no_memory (out, err);
    if (st == DPS_OK && open_input (out))
        st = dps__row_no_memory (out, err);
    if (st == DPS_OK)
        st = parse_cells (out, err);
    if (st == DPS_OK)
        st = read_shape (out, map, object, err);
    if (out->object != object)
        json_decref (object);
    if (st == DPS_OK)
        st = read_tools (out, err);
    const json_t *kwargs = dps__row_column (out, "chat_template_kwargs");
    if (st == DPS_OK && kwargs && !json_is_object (kwargs))
        st = dps_row_fail (out, err, "chat_template_kwargs: expected an object, found %s", dps__json_kind (kwargs));
    else if (kwargs)
        out->kwargs = json_incref ((json_t *)kwargs);
    if (st != DPS_OK)
        dps_row_clear (out);
    return st;
}
