/* SPDX-License-Identifier: Apache-2.0 */
/* encode_chat.c: conversations: rendered by the template, tokenized with its control tokens, and which tokens each message is. */
#include <string.h>

#include "token/encode_internal.h"

static DpsStatus no_memory (const DpsRow *row, DpsError *err)
{
    return dps_fail (err, DPS_ERR_NOMEM, "%s:%llu: out of memory", row->file, (unsigned long long)row->line);
}

/* The recipe's chat_template_kwargs under the row's. NULL with nothing. */
static DpsStatus merge_kwargs (const DpsEncoder *e, const DpsRow *row, json_t **out, DpsError *err)
{
    const json_t *ours = e->recipe ? e->recipe->chat_template_kwargs : NULL;
    *out = NULL;
    if (!ours && !row->kwargs)
        return DPS_OK;
    *out = ours ? dps_json_copy (ours, 0) : json_object ();
    if (*out && (!row->kwargs || !json_object_update (*out, row->kwargs)))
        return DPS_OK;
    json_decref (*out);
    *out = NULL;
    return no_memory (row, err);
}

static DpsStatus render (const DpsEncoder *e, const DpsRow *row, json_t *messages, int generation_prompt, DpsRendered *out, DpsError *err)
{
    DpsTemplate template = {.source = e->template_source, .where = e->template_source ? e->recipe->chat_template_path : NULL};
    if (!template.source)
        DPS_TRY (dps_row_place (row, dps_tokenizer_chat_template (e->tok, row->tools != NULL, &template, err), err));
    DpsChatOptions o = {.tools = row->tools, .add_generation_prompt = generation_prompt, .where = template.where};
    DPS_TRY (merge_kwargs (e, row, &o.kwargs, err));
    DpsError why = DPS_ERROR_INIT;
    DpsStatus st = dps_chat_render (template.source, e->tok, messages, &o, out, &why);
    json_decref (o.kwargs);
    if (st == DPS_OK)
        return DPS_OK;
    if (st == DPS_ERR_NOMEM)
        return no_memory (row, err);
    dps_error_hint (&why, "put the row as the template wants it, or give another template as chat_template_path");
    return dps_row_fail (row, err, "%s", why.msg);
}

static DpsStatus encode_rendered (const DpsEncoder *e, const DpsRow *row, const DpsRendered *r, size_t len, unsigned flags, DpsIds *out,
                                  DpsError *err)
{
    size_t n = 0;
    while (n < r->n_literal && r->literal[n].start < len)
        n++;
    const char *text = r->text.data ? r->text.data : "";
    return dps_row_place (row, dps_tokenizer_encode_literal (e->tok, text, len, flags, r->literal, n, out, err), err);
}

DpsStatus dps__encode_prefix (const DpsEncoder *e, const DpsRow *row, const DpsRendered *r, size_t len, const DpsIds *ids, const char *what,
                              size_t *out_n, DpsError *err)
{
    DpsIds part = {0};
    int is_chat = row->kind == DPS_ROW_MESSAGES || row->prompt.messages;
    unsigned literal = !is_chat && e->recipe && e->recipe->split_special_tokens > 0 ? (unsigned)DPS_TOKENIZE_LITERAL : 0u;
    DpsStatus st = encode_rendered (e, row, r, len, is_chat ? 0u : DPS_TOKENIZE_SPECIAL | literal, &part, err);
    /* A tokenizer that ends every text with a token of its own does so here too. */
    if (st == DPS_OK && !is_chat && part.n && part.n <= ids->n && part.ids[part.n - 1] == e->eos && ids->ids[part.n - 1] != e->eos)
        part.n--;
    size_t i = 0;
    while (st == DPS_OK && i < part.n && i < ids->n && part.ids[i] == ids->ids[i])
        i++;
    if (st == DPS_OK && i < part.n)
        st = dps_row_fail (row, err,
                           "the %s's tokens are not the beginning of the whole's: token %zu is %d alone and %d with what follows. Hint: %s",
                           what, i, (int)part.ids[i], i < ids->n ? (int)ids->ids[i] : -1,
                           is_chat ? "the tokenizer joins the beginning of the reply with what the template puts before it: take white "
                                     "space away from the reply's beginning"
                                   : "white space between them belongs to the beginning of what follows; or use messages");
    *out_n = part.n;
    dps_free (part.ids);
    return st;
}

static DpsStatus encode_all (const DpsEncoder *e, const DpsRow *row, json_t *messages, int generation_prompt, float weight, DpsRendered *r,
                             DpsEncoded *out, DpsError *err)
{
    DpsIds ids = {0};
    DPS_TRY (render (e, row, messages, generation_prompt, r, err));
    DpsStatus st = encode_rendered (e, row, r, r->text.len, 0, &ids, err);
    if (st == DPS_OK)
        st = dps__encoded_take (row, &ids, weight, out, err);
    dps_free (ids.ids);
    return st;
}

DpsStatus dps__encode_chat_prompt (const DpsEncoder *e, const DpsRow *row, json_t *messages, DpsEncoded *out, DpsError *err)
{
    DpsRendered r = {0};
    json_t *asked = dps_json_copy (messages, 0);
    size_t n = json_array_size (messages);
    const char *last = json_string_value (json_object_get (json_array_get (messages, n - 1), "role"));
    DpsStatus st = asked ? DPS_OK : no_memory (row, err);
    if (st == DPS_OK && last && !strcmp (last, "assistant"))
        json_array_remove (asked, n - 1);
    if (st == DPS_OK)
        st = encode_all (e, row, asked, 1, 0, &r, out, err);
    json_decref (asked);
    dps_rendered_free (&r);
    return st;
}

/* ---- conversations of which some messages are trained ---- */

static const char *role_of (json_t *messages, size_t i)
{
    return json_string_value (json_object_get (json_array_get (messages, i), "role"));
}

static int is_assistant (json_t *messages, size_t i)
{
    const char *role = role_of (messages, i);
    return role && (!strcmp (role, "assistant") || !strcmp (role, "model"));
}

static int is_trained (const DpsContent *c, size_t i)
{
    uint8_t said = c->train ? c->train[i] : (uint8_t)DPS_TRAIN_UNSAID;
    return said == DPS_TRAIN_UNSAID ? is_assistant (c->messages, i) : said == DPS_TRAIN_YES;
}

/* The first n messages, rendered. */
static DpsStatus render_first (const DpsEncoder *e, const DpsRow *row, json_t *messages, size_t n, int generation_prompt, DpsRendered *out,
                               DpsError *err)
{
    json_t *first = json_array ();
    DpsStatus st = first ? DPS_OK : no_memory (row, err);
    for (size_t i = 0; st == DPS_OK && i < n; i++)
        if (json_array_append (first, json_array_get (messages, i)))
            st = no_memory (row, err);
    if (st == DPS_OK)
        st = render (e, row, first, generation_prompt, out, err);
    json_decref (first);
    return st;
}

/* What message i adds to the conversation, as a range of the whole text. */
static DpsStatus span_of (const DpsEncoder *e, const DpsRow *row, json_t *messages, const DpsRendered *whole, size_t i, DpsSpan *out,
                          DpsError *err)
{
    DpsRendered before = {0}, after = {0};
    int reply = is_assistant (messages, i);
    DpsStatus st = i || reply ? render_first (e, row, messages, i, reply, &before, err) : DPS_OK;
    if (st == DPS_OK)
        st = render_first (e, row, messages, i + 1, 0, &after, err);
    *out = (DpsSpan){before.text.len, after.text.len};
    if (st == DPS_OK && (out->start > out->end || out->end > whole->text.len || memcmp (after.text.data, whole->text.data, out->end) ||
                         (out->start && memcmp (before.text.data, whole->text.data, out->start))))
        st = dps_row_fail (
            row, err,
            "the template renders message %zu otherwise when more messages follow, so its tokens cannot be told. Hint: a template with "
            "{%% generation %%} blocks, or prompt and completion",
            i + 1);
    dps_rendered_free (&before);
    dps_rendered_free (&after);
    return st;
}

/* Ranges of the trained messages in *out [messages]; *out_n of them, rising. */
static DpsStatus trained_spans (const DpsEncoder *e, const DpsRow *row, const DpsContent *c, const DpsRendered *r, DpsSpan *out,
                                size_t *out_n, DpsError *err)
{
    size_t replies = 0, reply = 0;
    *out_n = 0;
    for (size_t i = 0; i < json_array_size (c->messages); i++)
        replies += is_assistant (c->messages, i);
    int blocks = r->n_generation > 0 && r->n_generation == replies;
    for (size_t i = 0; i < json_array_size (c->messages); i++) {
        int assistant = is_assistant (c->messages, i);
        if (is_trained (c, i)) {
            if (blocks && assistant)
                out[*out_n] = r->generation[reply];
            else
                DPS_TRY (span_of (e, row, c->messages, r, i, &out[*out_n], err));
            ++*out_n;
        }
        reply += assistant;
    }
    return DPS_OK;
}

/* Weights 1 for the tokens of the ranges. Boundaries are checked: the text before each must be whole tokens of the whole. */
static DpsStatus weigh_spans (const DpsEncoder *e, const DpsRow *row, const DpsRendered *r, const DpsSpan *spans, size_t n, DpsEncoded *out,
                              DpsError *err)
{
    const DpsIds ids = {.ids = out->ids, .n = out->n};
    for (size_t i = 0; i < n; i++) {
        size_t first, last;
        DPS_TRY (dps__encode_prefix (e, row, r, spans[i].start, &ids, "conversation before a reply", &first, err));
        DPS_TRY (dps__encode_prefix (e, row, r, spans[i].end, &ids, "conversation up to a reply", &last, err));
        int ends = 0;
        for (size_t k = first; k < last; k++) {
            out->weights[k] = k > 0;
            ends |= dps__encoder_is_end (e, out->ids[k]);
        }
        if (e->recipe && !ends && last > first)
            return dps_row_fail (row, err,
                                 "a trained turn ends without an end-of-turn token: the model would not learn to stop. Hint: put %s",
                                 "<end of turn> inside the template's {% generation %} block");
    }
    return DPS_OK;
}

static int says_train (const DpsContent *c)
{
    int says = 0;
    for (size_t i = 0; i < json_array_size (c->messages) && c->train; i++)
        says |= c->train[i] != DPS_TRAIN_UNSAID;
    return says;
}

/* Weights of a rendered conversation: 1 in the messages that are trained, 0 elsewhere. */
static DpsStatus weigh_messages (const DpsEncoder *e, const DpsRow *row, const DpsContent *c, const DpsRendered *r, DpsEncoded *out,
                                 DpsError *err)
{
    size_t n_spans = 0;
    DpsSpan *spans = dps_calloc (json_array_size (c->messages), sizeof *spans);
    DpsStatus st = spans ? trained_spans (e, row, c, r, spans, &n_spans, err) : no_memory (row, err);
    memset (out->weights, 0, out->n * sizeof *out->weights);
    if (st == DPS_OK)
        st = weigh_spans (e, row, r, spans, n_spans, out, err);
    dps_free (spans);
    return st;
}

DpsStatus dps__encode_chat (const DpsEncoder *e, const DpsRow *row, DpsEncoded *out, DpsError *err)
{
    const DpsContent *c = row->answers;
    int some = !e->ids_only && (!e->recipe || e->recipe->assistant_only_loss > 0 || says_train (c));
    DpsRendered r = {0};
    DpsStatus st = encode_all (e, row, c->messages, 0, 1, &r, out, err);
    if (st == DPS_OK && some)
        st = weigh_messages (e, row, c, &r, out, err);
    dps_rendered_free (&r);
    return st;
}

/* Of a prompt and its completion the messages that are trained, where not simply all are. */
static DpsStatus weigh_pair (const DpsEncoder *e, const DpsRow *row, json_t *messages, const DpsRendered *r, DpsEncoded *out, DpsError *err)
{
    const DpsContent *a = &row->prompt, *b = row->answers;
    size_t n_a = json_array_size (a->messages), n_b = json_array_size (b->messages);
    if (e->ids_only || row->kind != DPS_ROW_COMPLETION ||
        !((e->recipe && e->recipe->assistant_only_loss > 0) || says_train (a) || says_train (b)))
        return DPS_OK;
    DpsContent both = {.messages = messages, .train = dps_malloc (n_a + n_b, 1)};
    if (!both.train)
        return no_memory (row, err);
    for (size_t i = 0; i < n_a + n_b; i++) {
        const uint8_t *train = i < n_a ? a->train : b->train;
        both.train[i] = train ? train[i < n_a ? i : i - n_a] : (uint8_t)DPS_TRAIN_UNSAID;
    }
    DpsStatus st = weigh_messages (e, row, &both, r, out, err);
    dps_free (both.train);
    return st;
}

DpsStatus dps__encode_chat_pair (const DpsEncoder *e, const DpsRow *row, json_t *answer, DpsEncoded *out, DpsError *err)
{
    DpsRendered prompt = {0}, whole = {0};
    json_t *messages = dps_json_copy (row->prompt.messages, 0);
    DpsStatus st = messages && !json_array_extend (messages, answer) ? DPS_OK : no_memory (row, err);
    if (st == DPS_OK)
        st = render (e, row, row->prompt.messages, 1, &prompt, err);
    if (st == DPS_OK)
        st = encode_all (e, row, messages, 0, 1, &whole, out, err);
    size_t n = prompt.text.len;
    if (st == DPS_OK && (n > whole.text.len || memcmp (prompt.text.data, whole.text.data, n)))
        st = dps_row_fail (row, err,
                           "the template renders the prompt otherwise when the completion follows, so its tokens are not a prefix");
    DpsIds ids = {.ids = out->ids, .n = out->n};
    if (st == DPS_OK)
        st = dps__encode_prefix (e, row, &whole, n, &ids, "prompt", &out->n_prompt, err);
    if (st == DPS_OK)
        st = weigh_pair (e, row, messages, &whole, out, err);
    json_decref (messages);
    dps_rendered_free (&prompt);
    dps_rendered_free (&whole);
    return st;
}
