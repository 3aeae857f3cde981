/* SPDX-License-Identifier: Apache-2.0 */
/* messages.c: conversations in the spellings of OpenAI, ShareGPT, LLaMA-Factory and Axolotl → one. */
#include <string.h>

#include "data/internal.h"

enum { MESSAGES_MAX = 4096 };

const char *dps__json_kind (const json_t *v)
{
    switch (v ? json_typeof (v) : JSON_NULL) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "text";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    default: return v ? "null" : "nothing";
    }
}

int dps__message_add (json_t *list, const char *role, const json_t *content)
{
    json_t *m = json_object ();
    if (!m || json_object_set_new (m, "role", json_string (role)) || json_object_set (m, "content", (json_t *)content)) {
        json_decref (m);
        return -1;
    }
    return json_array_append_new (list, m);
}

int dps_message_text (const json_t *message, DpsBuf *out)
{
    const json_t *content = json_object_get (message, "content"), *part;
    int bad = json_is_string (content) && dps_buf_add (out, json_string_value (content), json_string_length (content));
    size_t i;
    json_array_foreach (content, i, part) {
        const json_t *text = json_object_get (part, "text");
        bad = bad || (json_is_string (text) && dps_buf_add (out, json_string_value (text), json_string_length (text)));
    }
    return bad ? -1 : 0;
}

/* Where a message stands, for errors. */
typedef struct Place {
    const DpsRow *row;
    const char *what;
    size_t i;
} Place;

static const char *find_role (const DpsRowMap *map, const char *name)
{
    static const char *const roles[][2] = {
        {"system", "system"},
        {"developer", "system"},
        {"user", "user"},
        {"human", "user"},
        {"assistant", "assistant"},
        {"gpt", "assistant"},
        {"model", "assistant"},
        {"bot", "assistant"},
        {"chatbot", "assistant"},
        {"tool", "tool"},
        {"observation", "tool"},
        {"function", "tool"},
        {"ipython", "tool"},
        {"tool_response", "tool"},
        {"function_call", "function_call"},
        {"tool_call", "function_call"},
    };
    const char *mapped = map && map->roles ? json_string_value (json_object_get (map->roles, name)) : NULL;
    if (mapped)
        name = mapped;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp (roles[i][0], name))
            return roles[i][1];
    return NULL;
}

/* Text parts, of which some are written as plain strings. Which templates read them is for token/chat_parts.h to find. */
static DpsStatus read_parts (const Place *at, const json_t *parts, json_t **out, DpsError *err)
{
    size_t i;
    json_t *part;
    if (!(*out = json_array ()))
        return dps__row_no_memory (at->row, err);
    json_array_foreach (parts, i, part) {
        const json_t *kind = json_object_get (part, "type");
        const char *type = json_string_value (kind);
        const json_t *piece = json_is_string (part) ? part : json_object_get (part, "text");
        if (!json_is_string (piece) || (kind && (!type || strcmp (type, "text") != 0)))
            return dps_row_fail (at->row, err,
                                 "%s[%zu].content[%zu]: only text parts {\"type\":\"text\",\"text\":…} are read, found type %s%.40s%s",
                                 at->what, at->i, i, type ? "\"" : "",
                                 type   ? type
                                 : kind ? dps__json_kind (kind)
                                        : "none",
                                 type ? "\"" : "");
        if (json_array_append_new (*out, type ? json_incref (part) : json_pack ("{s:s, s:O}", "type", "text", "text", piece)))
            return dps__row_no_memory (at->row, err);
    }
    return DPS_OK;
}

static DpsStatus read_content (const Place *at, const json_t *content, int may_be_null, json_t **out, DpsError *err)
{
    if (json_is_array (content))
        return read_parts (at, content, out, err);
    if (json_is_string (content)) {
        *out = json_incref ((json_t *)content);
        return DPS_OK;
    }
    *out = NULL; /* a message that only calls tools: a template sees no content, and would write a null as "None" */
    if ((!content || json_is_null (content)) && may_be_null)
        return DPS_OK;
    return dps_row_fail (at->row, err, "%s[%zu]: content must be text or a list of text parts, found %s", at->what, at->i,
                         dps__json_kind (content));
}

/* A string that holds a JSON object becomes the object; templates print it themselves. */
static DpsStatus parse_arguments (const Place *at, json_t *holder, DpsError *err)
{
    const json_t *arguments = json_object_get (holder, "arguments");
    if (!arguments || !(json_is_string (arguments) || json_is_object (arguments)))
        return dps_row_fail (at->row, err, "%s[%zu].tool_calls: arguments must be an object or text, found %s", at->what, at->i,
                             dps__json_kind (arguments));
    if (json_is_object (arguments))
        return DPS_OK;
    json_t *parsed = NULL;
    DpsError ignored = DPS_ERROR_INIT;
    DpsStatus st = dps_json_parse (json_string_value (arguments), json_string_length (arguments), "", 1, 0, &parsed, &ignored);
    if (st == DPS_ERR_NOMEM)
        return dps__row_no_memory (at->row, err);
    if (st != DPS_OK || !json_is_object (parsed)) {
        json_decref (parsed);
        return DPS_OK;
    }
    return json_object_set_new (holder, "arguments", parsed) ? dps__row_no_memory (at->row, err) : DPS_OK;
}

static DpsStatus read_tool_calls (const Place *at, const json_t *calls, json_t **out, DpsError *err)
{
    if (!json_is_array (calls))
        return dps_row_fail (at->row, err, "%s[%zu]: tool_calls must be an array, found %s", at->what, at->i, dps__json_kind (calls));
    json_t *copy = dps_json_copy (calls, 1), *call;
    DpsStatus st = copy ? DPS_OK : dps__row_no_memory (at->row, err);
    for (size_t k = 0; st == DPS_OK && k < json_array_size (copy); k++) {
        call = json_array_get (copy, k);
        json_t *function = json_object_get (call, "function"), *holder = function ? function : call;
        if (!json_is_string (json_object_get (holder, "name")))
            st = dps_row_fail (at->row, err, "%s[%zu].tool_calls[%zu]: no function name", at->what, at->i, k);
        else
            st = parse_arguments (at, holder, err);
    }
    if (st != DPS_OK)
        json_decref (copy);
    else
        *out = copy;
    return st;
}

/* ShareGPT's function_call: the value is {"name", "arguments"}, or a list of them, as text. */
static DpsStatus calls_from_text (const Place *at, const json_t *content, json_t **out, DpsError *err)
{
    json_t *value = NULL, *calls = json_array ();
    DpsStatus st = calls ? DPS_OK : dps__row_no_memory (at->row, err);
    if (st == DPS_OK && !json_is_string (content))
        st = dps_row_fail (at->row, err, "%s[%zu]: a function_call holds its call as text, found %s", at->what, at->i,
                           dps__json_kind (content));
    if (st == DPS_OK) {
        DpsError why = DPS_ERROR_INIT;
        st = dps_json_parse (json_string_value (content), json_string_length (content), "", 1, 0, &value, &why);
        st = st == DPS_ERR_NOMEM ? dps__row_no_memory (at->row, err) : st;
        if (st == DPS_ERR_FORMAT || (st == DPS_OK && !json_is_object (value) && !json_is_array (value)))
            st = dps_row_fail (at->row, err, "%s[%zu]: a function_call holds {\"name\": …, \"arguments\": …} as text", at->what, at->i);
    }
    for (size_t k = 0; st == DPS_OK && k < (json_is_array (value) ? json_array_size (value) : 1); k++) {
        json_t *function = json_is_array (value) ? json_array_get (value, k) : value, *call = json_object ();
        if (!call || json_object_set_new (call, "type", json_string ("function")) || json_object_set (call, "function", function) ||
            json_array_append (calls, call))
            st = dps__row_no_memory (at->row, err);
        json_decref (call);
    }
    if (st == DPS_OK)
        st = read_tool_calls (at, calls, out, err);
    json_decref (value);
    json_decref (calls);
    return st;
}

/* weight, train and loss_mask say the same thing; two of them must not disagree. */
static DpsStatus read_train (const Place *at, const json_t *m, uint8_t *out, DpsError *err)
{
    static const char *const keys[] = {"train", "weight", "loss_mask"};
    *out = DPS_TRAIN_UNSAID;
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_object_get (m, keys[i]);
        if (!v || json_is_null (v))
            continue;
        double number = json_is_boolean (v) ? json_is_true (v) : json_number_value (v);
        if ((!json_is_boolean (v) && !json_is_number (v)) || (number != 0 && number != 1))
            return dps_row_fail (at->row, err, "%s[%zu]: %s must be 0 or 1, false or true", at->what, at->i, keys[i]);
        if (*out != DPS_TRAIN_UNSAID && *out != (uint8_t)number)
            return dps_row_fail (at->row, err, "%s[%zu]: train, weight and loss_mask disagree", at->what, at->i);
        *out = (uint8_t)number;
    }
    return DPS_OK;
}

/* Everything else a template may read: tool_call_id, name, reasoning_content, thinking … */
static int copy_rest (json_t *to, const json_t *from, const char *role_key, const char *content_key)
{
    const char *const taken[] = {"role", "content", "tool_calls", "train", "weight", "loss_mask", role_key, content_key};
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)from, key, value) {
        size_t i = 0;
        while (i < sizeof taken / sizeof *taken && strcmp (taken[i], key))
            i++;
        if (i == sizeof taken / sizeof *taken && !json_is_null (value) && json_object_set (to, key, value))
            return -1;
    }
    return 0;
}

/*
 * What was thought goes by three names. Most templates read reasoning_content, gpt-oss's reads thinking, so each finds it under its own, as
 * in transformers 5.
 */
static int alias_reasoning (json_t *to)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *said = NULL;
    for (size_t i = 0; i < 3 && !said; i++)
        said = json_object_get (to, names[i]);
    return said && (json_object_set (to, "reasoning_content", said) ||
                    (!json_object_get (to, "thinking") && json_object_set (to, "thinking", said)));
}

static const char *key_of (const json_t *m, const char *wanted, const char *name, const char *other)
{
    return wanted ? wanted : json_object_get (m, name) || !json_object_get (m, other) ? name : other;
}

static DpsStatus build_message (const Place *at, const json_t *m, const DpsRowMap *map, json_t *to, DpsError *err)
{
    const char *role_key = key_of (m, map ? map->role_key : NULL, "role", "from");
    const char *content_key = key_of (m, map ? map->content_key : NULL, "content", "value");
    const json_t *name = json_object_get (m, role_key), *tool_calls = json_object_get (m, "tool_calls");
    if (!json_is_string (name))
        return dps_row_fail (at->row, err, "%s[%zu]: %s must be text, found %s", at->what, at->i, role_key, dps__json_kind (name));
    const char *role = find_role (map, json_string_value (name));
    if (!role)
        return dps_row_fail (at->row, err, "%s[%zu]: no role '%.40s'; there are system, user, assistant, tool", at->what, at->i,
                             json_string_value (name));
    if (at->i > 0 && !strcmp (role, "system"))
        return dps_row_fail (at->row, err, "%s[%zu]: a %s message stands inside the conversation; only the first message may be one",
                             at->what, at->i, role);
    json_t *content = NULL, *calls = NULL;
    int is_call = !strcmp (role, "function_call");
    if (json_is_null (tool_calls) || (json_is_array (tool_calls) && !json_array_size (tool_calls)))
        tool_calls = NULL;
    DpsStatus st = read_content (at, json_object_get (m, content_key), tool_calls && !is_call, &content, err);
    if (st == DPS_OK && is_call)
        st = calls_from_text (at, content, &calls, err);
    else if (st == DPS_OK && tool_calls)
        st = read_tool_calls (at, tool_calls, &calls, err);
    if (st == DPS_OK &&
        (json_object_set_new (to, "role", json_string (is_call ? "assistant" : role)) ||
         (is_call && json_object_set_new (to, "content", json_string (""))) ||
         (!is_call && content && json_object_set (to, "content", content)) || (calls && json_object_set (to, "tool_calls", calls)) ||
         copy_rest (to, m, role_key, content_key) || alias_reasoning (to)))
        st = dps__row_no_memory (at->row, err);
    json_decref (content);
    json_decref (calls);
    return st;
}

static DpsStatus fill_messages (const DpsRow *row, const json_t *list, const DpsRowMap *map, const char *what, size_t offset,
                                DpsContent *out, DpsError *err)
{
    for (size_t i = 0; i < json_array_size (list); i++) {
        const Place at = {.row = row, .what = what, .i = i};
        const json_t *m = json_array_get (list, i);
        if (!json_is_object (m))
            return dps_row_fail (row, err, "%s[%zu]: a message is an object, found %s", what, i, dps__json_kind (m));
        DPS_TRY (read_train (&at, m, &out->train[i + offset], err));
        json_t *to = json_object ();
        if (!to || json_array_append (out->messages, to)) {
            json_decref (to);
            return dps__row_no_memory (row, err);
        }
        DpsStatus st = build_message (&at, m, map, to, err);
        json_decref (to);
        DPS_TRY (st);
    }
    return DPS_OK;
}

DpsStatus dps__messages_read (const DpsRow *row, const json_t *list, const DpsRowMap *map, const char *what, const json_t *system,
                              DpsContent *out, DpsError *err)
{
    size_t n = json_array_size (list);
    int with_system = json_is_string (system) && json_string_length (system);
    if (!json_is_array (list) || !n)
        return dps_row_fail (row, err, "%s: expected messages, found %s", what, json_is_array (list) ? "none" : dps__json_kind (list));
    if (n > MESSAGES_MAX)
        return dps_row_fail (row, err, "%s: %zu messages, at most %d are read", what, n, MESSAGES_MAX);
    out->messages = json_array ();
    out->train = dps_malloc (n + 1, 1);
    if (!out->messages || !out->train)
        return dps__row_no_memory (row, err);
    if (with_system) {
        out->train[0] = DPS_TRAIN_UNSAID;
        const json_t *first = json_array_get (list, 0), *role = json_object_get (first, key_of (first, NULL, "role", "from"));
        if (json_is_string (role) && !strcmp (json_string_value (role), "system"))
            return dps_row_fail (row, err, "%s: the row has a system column and a system message: remove one", what);
        if (dps__message_add (out->messages, "system", system))
            return dps__row_no_memory (row, err);
    }
    return fill_messages (row, list, map, what, (size_t)with_system, out, err);
}
