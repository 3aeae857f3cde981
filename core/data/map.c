/* SPDX-License-Identifier: Apache-2.0 */
/* map.c: what a recipe says about a file's columns, in TRL's, LLaMA-Factory's or Axolotl's words; and alpaca's columns as messages. */
#include <stdio.h>
#include <string.h>

#include "data/internal.h"

static DpsStatus fail_at (const DpsRecipeDataset *d, DpsError *err, const char *what, const char *name)
{
    return dps_fail (err, DPS_ERR_USAGE, "%s: %s '%.60s'", d->where ? d->where : d->path, what, name);
}

/* LLaMA-Factory's names of columns → ours, where they differ. */
static const char *our_name (const char *name, int alpaca, int sharegpt)
{
    if (alpaca && !strcmp (name, "prompt"))
        return "instruction";
    if (alpaca && !strcmp (name, "query"))
        return "input";
    if (alpaca && !strcmp (name, "response"))
        return "output";
    if (sharegpt && !strcmp (name, "messages"))
        return "conversations";
    return name;
}

static DpsStatus set_columns (const DpsRecipeDataset *d, int alpaca, int sharegpt, DpsRowMap *out, DpsError *err)
{
    static const char *const known[] = {"text",
                                        "messages",
                                        "conversations",
                                        "prompt",
                                        "completion",
                                        "instruction",
                                        "input",
                                        "output",
                                        "system",
                                        "history",
                                        "tools",
                                        "chosen",
                                        "rejected",
                                        "label",
                                        "labels",
                                        "kto_tag",
                                        "completions",
                                        "input_ids",
                                        "query",
                                        "response",
                                        "chat_template_kwargs",
                                        "images",
                                        "videos",
                                        "audios",
                                        "prompt_input_ids",
                                        "completion_input_ids",
                                        "chosen_input_ids",
                                        "rejected_input_ids",
                                        "completion_mask",
                                        NULL};
    const char *name;
    json_t *source;
    if (json_is_array (d->columns)) {
        out->keep = json_incref (d->columns);
        return DPS_OK;
    }
    if (d->columns && !(out->columns = json_object ()))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", d->path);
    json_object_foreach (d->columns, name, source) {
        size_t i = 0;
        while (known[i] && strcmp (known[i], name))
            i++;
        if (!known[i]) {
            const char *near = dps_suggest (name, known);
            char message[200];
            snprintf (message, sizeof message, "columns: no column of ours is called%s%s%s", near ? " (did you mean '" : "",
                      near ? near : "", near ? "'?)" : "");
            return fail_at (d, err, message, name);
        }
        if (json_is_null (source))
            continue;
        if (!json_is_string (source))
            return fail_at (d, err, "columns: expected the name of a column for", name);
        if (json_object_set (out->columns, our_name (name, alpaca, sharegpt), source))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", d->path);
    }
    return DPS_OK;
}

/* LLaMA-Factory's tags: the names of keys in a message, and of roles. */
static DpsStatus set_tags (const DpsRecipeDataset *d, DpsRowMap *out, DpsError *err)
{
    static const struct {
        const char *tag, *role; /* role NULL: a key */
    } tags[] = {{"role_tag", NULL},          {"content_tag", NULL},
                {"user_tag", "user"},        {"assistant_tag", "assistant"},
                {"observation_tag", "tool"}, {"function_tag", "function_call"},
                {"system_tag", "system"}};
    const char *tag;
    json_t *value;
    json_object_foreach (d->tags, tag, value) {
        size_t i = 0;
        while (i < sizeof tags / sizeof *tags && strcmp (tags[i].tag, tag))
            i++;
        if (i == sizeof tags / sizeof *tags || !json_is_string (value))
            return fail_at (d, err, "tags: not known, or no word:", tag);
        if (i == 0)
            out->role_key = json_string_value (value);
        else if (i == 1)
            out->content_key = json_string_value (value);
        else if (json_object_set_new (out->roles, json_string_value (value), json_string (tags[i].role)))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", d->path);
    }
    return DPS_OK;
}

/* Axolotl's message_property_mappings {role: from, content: value} and roles {user: [human]}. */
static DpsStatus set_properties (const DpsRecipeDataset *d, DpsRowMap *out, DpsError *err)
{
    const char *name;
    json_t *value;
    json_object_foreach (d->message_property_mappings, name, value) {
        const char **key = !strcmp (name, "role") ? &out->role_key : !strcmp (name, "content") ? &out->content_key : NULL;
        if (!key || !json_is_string (value))
            return fail_at (d, err, "message_property_mappings: only role and content are mapped, found", name);
        *key = json_string_value (value);
    }
    json_object_foreach (d->roles, name, value) {
        size_t n = json_is_array (value) ? json_array_size (value) : 1;
        for (size_t i = 0; i < n; i++) {
            const char *theirs = json_string_value (json_is_array (value) ? json_array_get (value, i) : value);
            if (!theirs)
                return fail_at (d, err, "roles: expected words for", name);
            if (json_object_set_new (out->roles, theirs, json_string (name)))
                return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", d->path);
        }
    }
    return DPS_OK;
}

/* Axolotl's field_messages and field name one column. */
static DpsStatus set_field (const DpsRecipeDataset *d, DpsRowMap *out, const char *ours, const char *theirs, DpsError *err)
{
    if (!theirs)
        return DPS_OK;
    if (out->keep || (out->columns && json_object_get (out->columns, ours)))
        return fail_at (d, err, "given as a field and in columns:", theirs);
    if ((!out->columns && !(out->columns = json_object ())) || json_object_set_new (out->columns, ours, json_string (theirs)))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", d->path);
    return DPS_OK;
}

static DpsStatus fill_map (const DpsRecipeDataset *d, DpsRowMap *out, DpsError *err)
{
    static const char *const types[] = {"alpaca", "sharegpt", "openai", "chat_template", "completion", NULL};
    size_t type = 0;
    while (d->type && types[type] && strcmp (types[type], d->type))
        type++;
    if (d->type && !types[type])
        return fail_at (d, err, "type: expected alpaca, sharegpt, openai, chat_template or completion, found", d->type);
    int sharegpt = d->type && type > 0 && type < 4;
    int alpaca = d->type ? type == 0 : json_object_get (d->columns, "response") || json_object_get (d->columns, "query");
    out->alpaca = alpaca && !json_object_get (d->columns, "chosen");
    if (!(out->roles = json_object ()))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", d->path);
    DPS_TRY (set_columns (d, alpaca, sharegpt, out, err));
    DPS_TRY (set_tags (d, out, err));
    DPS_TRY (set_properties (d, out, err));
    DPS_TRY (set_field (d, out, "conversations", d->field_messages, err));
    return set_field (d, out, "text", d->field, err);
}

DpsStatus dps_row_map_init (const DpsRecipeDataset *d, const char *text_field, DpsRowMap *out, DpsError *err)
{
    memset (out, 0, sizeof *out);
    DpsStatus st = fill_map (d, out, err);
    /* A map that already says which column is the text wins. */
    if (!out->columns || !json_object_get (out->columns, "text"))
        out->text_field = text_field;
    if (st != DPS_OK)
        dps_row_map_clear (out);
    return st;
}

void dps_row_map_clear (DpsRowMap *map)
{
    json_decref (map->columns);
    json_decref (map->keep);
    json_decref (map->roles);
    memset (map, 0, sizeof *map);
}

/* Text of a column; absent is NULL. */
static DpsStatus text_of (const DpsRow *row, const char *name, const json_t **out, DpsError *err)
{
    const json_t *v = json_object_get (row->object, name);
    *out = NULL;
    if (!v || json_is_null (v) || (json_is_string (v) && !json_string_length (v)))
        return DPS_OK;
    if (!json_is_string (v))
        return dps_row_fail (row, err, "%s: expected text, found %s", name, dps__json_kind (v));
    *out = v;
    return DPS_OK;
}

/* history: [[question, answer], …] in front of the row's own question. */
static DpsStatus add_history (const DpsRow *row, json_t *list, DpsError *err)
{
    const json_t *history = json_object_get (row->object, "history");
    if (history && !json_is_null (history) && !json_is_array (history))
        return dps_row_fail (row, err, "history: expected a list of [question, answer], found %s", dps__json_kind (history));
    for (size_t i = 0; i < json_array_size (history); i++) {
        const json_t *turn = json_array_get (history, i), *question = json_array_get (turn, 0), *answer = json_array_get (turn, 1);
        if (json_array_size (turn) != 2 || !json_is_string (question) || !json_is_string (answer))
            return dps_row_fail (row, err, "history[%zu]: expected [question, answer] as text", i);
        if (dps__message_add (list, "user", question) || dps__message_add (list, "assistant", answer))
            return dps__row_no_memory (row, err);
    }
    return DPS_OK;
}

static DpsStatus alpaca_messages (const DpsRow *row, json_t *list, DpsError *err)
{
    const json_t *instruction, *input;
    DpsBuf text = {0};
    DPS_TRY (text_of (row, "instruction", &instruction, err));
    DPS_TRY (text_of (row, "input", &input, err));
    if (!instruction && !input)
        return dps_row_fail (row, err, "instruction: expected text, found nothing");
    DPS_TRY (add_history (row, list, err));
    int bad = instruction && dps_buf_add (&text, json_string_value (instruction), json_string_length (instruction));
    bad = bad || (instruction && input && dps_buf_str (&text, "\n"));
    bad = bad || (input && dps_buf_add (&text, json_string_value (input), json_string_length (input)));
    json_t *content = bad ? NULL : json_stringn (text.data, text.len);
    bad = !content || dps__message_add (list, "user", content);
    json_decref (content);
    dps_buf_free (&text);
    return bad ? dps__row_no_memory (row, err) : DPS_OK;
}

DpsStatus dps__alpaca_prompt (DpsRow *row, const DpsRowMap *map, DpsError *err)
{
    const json_t *system = NULL;
    json_t *prompt = json_array ();
    DpsStatus st = prompt ? text_of (row, "system", &system, err) : dps__row_no_memory (row, err);
    if (st == DPS_OK)
        st = alpaca_messages (row, prompt, err);
    if (st == DPS_OK)
        st = dps__messages_read (row, prompt, map, "prompt", system, &row->prompt, err);
    json_decref (prompt);
    return st;
}

DpsStatus dps__alpaca_read (DpsRow *row, const DpsRowMap *map, DpsError *err)
{
    const json_t *output = NULL;
    json_t *answer = json_array ();
    DpsStatus st = answer ? text_of (row, "output", &output, err) : dps__row_no_memory (row, err);
    if (st == DPS_OK)
        st = dps__alpaca_prompt (row, map, err);
    row->kind = st == DPS_OK && output ? DPS_ROW_COMPLETION : DPS_ROW_PROMPT;
    if (st == DPS_OK && output) {
        row->answers = dps_calloc (1, sizeof *row->answers);
        row->n_answers = row->answers ? 1 : 0;
        st = !row->answers || dps__message_add (answer, "assistant", output)
                 ? dps__row_no_memory (row, err)
                 : dps__messages_read (row, answer, NULL, "output", NULL, row->answers, err);
    }
    json_decref (answer);
    return st;
}
