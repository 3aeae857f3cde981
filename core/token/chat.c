/* SPDX-License-Identifier: Apache-2.0 */
#include "token/chat.h"

#include <string.h>

#include "token/chat_guard.h"
#include "token/chat_parts.h"
#include "token/jinja.h"

void dps_rendered_free (DpsRendered *r)
{
    dps_buf_free (&r->text);
    dps_free (r->generation);
    dps_free (r->literal);
    *r = (DpsRendered){0};
}

/* ---- Gemma's turn format, for models without a template ---- */

typedef struct Turns {
    DpsRendered *out;
    DpsError *err;
    size_t generation_capacity;
} Turns;

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "out of memory for the chat text"); }

/* Trimmed as Python trims. */
static DpsStatus add_trimmed (Turns *t, const char *text, size_t len)
{
    DpsJval v = dps__jinja_text (text, len);
    v = dps__jinja_strip (&v, NULL, 3);
    return dps_buf_add (&t->out->text, v.s, v.len) ? no_memory (t->err) : DPS_OK;
}

/* A string, or a list of {"type":"text","text":…} parts, each trimmed as Gemma 3's own template does; null is empty. */
static DpsStatus add_content (Turns *t, json_t *content, size_t i)
{
    json_t *part;
    size_t k;
    if (!content || json_is_null (content))
        return DPS_OK;
    if (json_is_string (content))
        return add_trimmed (t, json_string_value (content), json_string_length (content));
    if (!json_is_array (content))
        return dps_fail (t->err, DPS_ERR_FORMAT, "messages[%zu]: \"content\" is no string and no list of parts", i);
    json_array_foreach (content, k, part) {
        json_t *text = json_object_get (part, "text");
        if (!json_is_string (text))
            return dps_fail (t->err, DPS_ERR_FORMAT, "messages[%zu]: content part %zu has no \"text\"; only text parts are supported", i,
                             k);
        DPS_TRY (add_trimmed (t, json_string_value (text), json_string_length (text)));
    }
    return DPS_OK;
}

static DpsStatus add_turn (Turns *t, json_t *message, json_t *system, size_t i)
{
    const char *role = json_string_value (json_object_get (message, "role"));
    DpsRendered *out = t->out;
    int reply = !strcmp (role, "assistant") || !strcmp (role, "model");
    if (dps_buf_printf (&out->text, "<start_of_turn>%s\n", reply ? "model" : role))
        return no_memory (t->err);
    size_t start = out->text.len;
    if (system) {
        DPS_TRY (add_content (t, json_object_get (system, "content"), 0));
        if (dps_buf_str (&out->text, "\n\n"))
            return no_memory (t->err);
    }
    DPS_TRY (add_content (t, json_object_get (message, "content"), i));
    if (dps_buf_str (&out->text, "<end_of_turn>\n"))
        return no_memory (t->err);
    if (reply) {
        if (DPS_GROW (out->generation, out->n_generation, t->generation_capacity))
            return no_memory (t->err);
        out->generation[out->n_generation++] = (DpsSpan){.start = start, .end = out->text.len};
    }
    return DPS_OK;
}

static DpsStatus render_turns (json_t *messages, const DpsTokenizer *tok, const DpsChatOptions *options, DpsRendered *out, DpsError *err)
{
    static const char *const roles[] = {"user", "assistant", "model", "system"};
    Turns t = {.out = out, .err = err};
    json_t *message, *system = NULL;
    size_t i;
    const char *bos = tok && dps_tokenizer_bos (tok) >= 0 ? dps_tokenizer_token (tok, dps_tokenizer_bos (tok)) : "<bos>";
    if (dps_buf_str (&out->text, bos))
        return no_memory (err);
    json_array_foreach (messages, i, message) {
        const char *role = json_string_value (json_object_get (message, "role"));
        int known = 0;
        for (size_t k = 0; role && k < sizeof roles / sizeof *roles; k++)
            known |= !strcmp (role, roles[k]);
        if (!known)
            return dps_fail (err, DPS_ERR_FORMAT,
                             "messages[%zu]: role \"%.40s\" has no place in Gemma's turn format; user, assistant and system have", i,
                             role ? role : "");
        if (json_array_size (json_object_get (message, "tool_calls")))
            return dps_fail (err, DPS_ERR_FORMAT, "messages[%zu]: tool_calls have no place in Gemma's turn format", i);
        if (!strcmp (role, "system")) {
            if (i > 0)
                return dps_fail (err, DPS_ERR_FORMAT, "messages[%zu]: a system message must be the first", i);
            system = message;
            continue;
        }
        int takes_system = system && !strcmp (role, "user");
        DPS_TRY (add_turn (&t, message, takes_system ? system : NULL, i));
        system = takes_system ? NULL : system;
    }
    if (system)
        return dps_fail (err, DPS_ERR_FORMAT, "messages[0]: a system message without a user message to put it before");
    if (options->add_generation_prompt && dps_buf_str (&out->text, "<start_of_turn>model\n"))
        return no_memory (err);
    return DPS_OK;
}

/* ---- the model's own template ---- */

/* What apply_chat_template gives a template: messages, tools, the special tokens' texts, and the caller's own variables over them. */
static int fill_context (DpsJinja *in, const DpsTokenizer *tok, json_t *messages, const DpsChatOptions *options, DpsJval *context)
{
    const char *key;
    json_t *value;
    DpsJval v;
    if (dps__jinja_new_dict (in, DPS_J_DICT, context))
        return -1;
    for (int i = 0; tok && i < DPS_NAMED_TOKENS; i++) {
        const char *text = dps_tokenizer_token (tok, dps_tokenizer_named (tok, i));
        if (text && dps__jinja_put (in, context->dict, dps__jinja_word (dps_named_token (i)), dps__jinja_word (text)))
            return -1;
    }
    if (dps__jinja_from_json (in, messages, 0, &v) || dps__jinja_put (in, context->dict, dps__jinja_word ("messages"), v) ||
        dps__jinja_from_json (in, options->tools, 0, &v) || dps__jinja_put (in, context->dict, dps__jinja_word ("tools"), v))
        return -1;
    v = (DpsJval){.kind = DPS_J_NONE};
    if (dps__jinja_put (in, context->dict, dps__jinja_word ("documents"), v) ||
        dps__jinja_put (in, context->dict, dps__jinja_word ("add_generation_prompt"), dps__jinja_bool (options->add_generation_prompt)))
        return -1;
    if (options->kwargs)
        json_object_foreach (options->kwargs, key, value)
            if (dps__jinja_from_json (in, value, 0, &v) || dps__jinja_put (in, context->dict, dps__jinja_word (key), v))
                return -1;
    return 0;
}

/* What a template is rendered with; probes and the rendering itself share the steps. */
typedef struct Template {
    const char *source;
    const DpsTokenizer *tok;
    const DpsChatOptions *options;
    long steps;
} Template;

static DpsStatus render_messages (Template *t, json_t *messages, DpsRendered *out, DpsError *err)
{
    DpsJinja in = {.err = err, .arena_limit = DPS_JINJA_ARENA, .steps = t->steps, .line = 1};
    in.date = t->options->date;
    in.where = t->options->where ? t->options->where : "template";
    DpsJval context;
    if (!fill_context (&in, t->tok, messages, t->options, &context))
        dps__jinja_render (&in, t->source, strlen (t->source), &context, &out->text);
    t->steps = in.steps;
    out->generation = in.spans;
    out->n_generation = in.n_spans;
    dps__jinja_free (&in);
    return in.status;
}

/* Of the roles with lists of parts those whose lists this template does not read. */
static DpsStatus find_unread (Template *t, unsigned *roles, DpsError *err)
{
    for (int role = 0; role < DPS_PARTS_ROLES; role++) {
        DpsRendered probe = {0};
        DpsError unread = DPS_ERROR_INIT;
        json_t *messages = *roles >> role & 1 ? dps__parts_probe (role) : NULL;
        DpsStatus st = messages ? render_messages (t, messages, &probe, &unread) : DPS_OK;
        if (st == DPS_OK && messages && dps__parts_were_read (&probe.text))
            *roles &= ~(1u << role);
        json_decref (messages);
        dps_rendered_free (&probe);
        if (st == DPS_ERR_NOMEM)
            return no_memory (err);
    }
    return DPS_OK;
}

static DpsStatus render_template (Template *t, json_t *messages, DpsRendered *out, DpsError *err)
{
    unsigned unread = dps__parts_roles (messages);
    json_t *joined = NULL;
    if (unread)
        DPS_TRY (find_unread (t, &unread, err));
    if (unread)
        DPS_TRY (dps__parts_join (messages, unread, &joined, err));
    DpsStatus st = render_messages (t, joined ? joined : messages, out, err);
    json_decref (joined);
    return st;
}

static DpsStatus render (const char *source, const DpsTokenizer *tok, json_t *messages, const DpsChatOptions *options, DpsRendered *out,
                         DpsError *err)
{
    if (dps_buf_add (&out->text, "", 0))
        return no_memory (err);
    Template t = {source, tok, options, DPS_JINJA_STEPS};
    return source ? render_template (&t, messages, out, err) : render_turns (messages, tok, options, out, err);
}

DpsStatus dps_chat_render (const char *template_source, const DpsTokenizer *tok, json_t *messages, const DpsChatOptions *options,
                           DpsRendered *out, DpsError *err)
{
    static const DpsChatOptions none = {0};
    DpsChatOptions o = options ? *options : none;
    DpsChatGuard guard;
    json_t *marked = NULL, *tools = NULL;
    *out = (DpsRendered){0};
    if (!json_is_array (messages))
        return dps_fail (err, DPS_ERR_FORMAT, "messages is no list");
    DpsStatus st = dps__guard_init (&guard, tok, messages, o.tools, err);
    if (st == DPS_OK)
        st = dps__guard_copy (&guard, messages, &marked, err);
    if (st == DPS_OK)
        st = dps__guard_copy (&guard, o.tools, &tools, err);
    o.tools = tools;
    if (st == DPS_OK)
        st = render (template_source, tok, marked, &o, out, err);
    if (st == DPS_OK)
        st = dps__guard_remove (&guard, out, err);
    json_decref (marked);
    json_decref (tools);
    if (st != DPS_OK)
        dps_rendered_free (out);
    return st;
}
