/* SPDX-License-Identifier: Apache-2.0 */
#include "token/chat_guard.h"

#include <string.h>

enum { FIRST_NONCHARACTER = 0x90, LAST_NONCHARACTER = 0xaf, MARK = 3 }; /* U+FDD0 … U+FDEF: ef b7 90 … ef b7 af */

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "out of memory for the chat text"); }

/* ---- which marks are free, and whether there is anything to mark ---- */

typedef struct Survey {
    const DpsTokenizer *tok;
    uint64_t taken; /* bit k: noncharacter k is in a text */
    int found;      /* a text reads like a control token */
} Survey;

static void survey_text (Survey *s, const char *text, size_t len)
{
    DpsSpan span;
    for (size_t i = 0; i + MARK <= len; i++)
        if (!memcmp (text + i, "\xef\xb7", 2) && (unsigned char)text[i + 2] >= FIRST_NONCHARACTER &&
            (unsigned char)text[i + 2] <= LAST_NONCHARACTER)
            s->taken |= (uint64_t)1 << ((unsigned char)text[i + 2] - FIRST_NONCHARACTER);
    s->found |= dps_tokenizer_find_special (s->tok, text, len, 0, &span);
}

static void survey (Survey *s, const json_t *value)
{
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_string (value))
        survey_text (s, json_string_value (value), json_string_length (value));
    json_object_foreach ((json_t *)value, key, item) {
        survey_text (s, key, strlen (key));
        survey (s, item);
    }
    if (json_is_array (value) && json_array_size (value) > 1)
        s->found = 1; /* parts may read like a control token together */
    json_array_foreach (value, i, item)
        survey (s, item);
}

DpsStatus dps__guard_init (DpsChatGuard *g, const DpsTokenizer *tok, const json_t *messages, const json_t *tools, DpsError *err)
{
    Survey s = {.tok = tok};
    int marks[2], n = 0;
    *g = (DpsChatGuard){0};
    if (!tok)
        return DPS_OK;
    survey (&s, messages);
    survey (&s, tools);
    if (!s.found)
        return DPS_OK;
    for (int k = 0; k <= LAST_NONCHARACTER - FIRST_NONCHARACTER && n < 2; k++)
        if (!(s.taken >> k & 1))
            marks[n++] = k;
    if (n < 2)
        return dps_fail (err, DPS_ERR_FORMAT, "the messages hold all of U+FDD0 … U+FDEF, which are no characters");
    g->tok = tok;
    memcpy (g->open, (char[]){(char)0xef, (char)0xb7, (char)(FIRST_NONCHARACTER + marks[0]), 0}, 4);
    memcpy (g->close, (char[]){(char)0xef, (char)0xb7, (char)(FIRST_NONCHARACTER + marks[1]), 0}, 4);
    return DPS_OK;
}

/* ---- marking ---- */

/* Texts that a template may join: marked as the one text they would be. */
typedef struct Texts {
    json_t **items; /* borrowed strings, changed in place */
    size_t n;
} Texts;

/* Where the marks of one joined text go: (offset, is_close) rising. */
typedef struct Marks {
    DpsSpan *spans;
    size_t n, capacity;
} Marks;

static DpsStatus find_marks (const DpsChatGuard *g, const Texts *t, Marks *out, DpsError *err)
{
    DpsBuf joined = {0};
    DpsSpan span;
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < t->n && st == DPS_OK; i++)
        if (dps_buf_add (&joined, json_string_value (t->items[i]), json_string_length (t->items[i])))
            st = no_memory (err);
    for (size_t at = 0; st == DPS_OK && joined.len && dps_tokenizer_find_special (g->tok, joined.data, joined.len, at, &span);
         at = span.end) {
        if (DPS_GROW (out->spans, out->n, out->capacity))
            st = no_memory (err);
        else
            out->spans[out->n++] = span;
    }
    dps_buf_free (&joined);
    return st;
}

/* One text that begins at `base` of the joined one. */
static DpsStatus mark_text (const DpsChatGuard *g, json_t *text, size_t base, const Marks *marks, DpsError *err)
{
    const char *s = json_string_value (text);
    size_t len = json_string_length (text), done = 0;
    DpsBuf marked = {0};
    int bad = 0;
    for (size_t k = 0; k < marks->n && !bad; k++) {
        const size_t at[2] = {marks->spans[k].start, marks->spans[k].end};
        for (int side = 0; side < 2; side++)
            /* An opening mark stands before a byte of this text, a closing one behind one. */
            if (side == 0 ? at[0] >= base && at[0] < base + len : at[1] > base && at[1] <= base + len) {
                bad |= dps_buf_add (&marked, s + done, at[side] - base - done) || dps_buf_str (&marked, side ? g->close : g->open);
                done = at[side] - base;
            }
    }
    bad = bad || dps_buf_add (&marked, s + done, len - done) || (marked.data && json_string_setn (text, marked.data, marked.len));
    dps_buf_free (&marked);
    return bad ? no_memory (err) : DPS_OK;
}

static DpsStatus mark_texts (DpsChatGuard *g, const Texts *t, DpsError *err)
{
    Marks marks = {0};
    size_t base = 0;
    DpsStatus st = find_marks (g, t, &marks, err);
    for (size_t i = 0; i < t->n && st == DPS_OK && marks.n; i++) {
        size_t len = json_string_length (t->items[i]);
        st = mark_text (g, t->items[i], base, &marks, err);
        base += len;
    }
    g->used |= marks.n > 0;
    dps_free (marks.spans);
    return st;
}

static DpsStatus mark_value (DpsChatGuard *g, json_t *value, DpsError *err);

/* [{"type": "text", "text": …}, …]: the texts together, everything else by itself. */
static DpsStatus mark_list (DpsChatGuard *g, json_t *list, DpsError *err)
{
    json_t *item, *value;
    const char *key;
    size_t i;
    Texts texts = {.items = dps_calloc (json_array_size (list) + 1, sizeof *texts.items)};
    DpsStatus st = texts.items ? DPS_OK : no_memory (err);
    json_array_foreach (list, i, item) {
        json_t *text = json_object_get (item, "text");
        if (st == DPS_OK && json_is_string (text)) {
            texts.items[texts.n++] = text;
            json_object_foreach (item, key, value)
                if (st == DPS_OK && value != text)
                    st = mark_value (g, value, err);
        } else if (st == DPS_OK)
            st = mark_value (g, item, err);
    }
    if (st == DPS_OK)
        st = mark_texts (g, &texts, err);
    dps_free (texts.items);
    return st;
}

static DpsStatus mark_value (DpsChatGuard *g, json_t *value, DpsError *err)
{
    const char *key;
    json_t *item;
    DpsSpan span;
    DpsStatus st = DPS_OK;
    if (json_is_string (value))
        return mark_texts (g, &(Texts){&value, 1}, err);
    if (json_is_array (value))
        return mark_list (g, value, err);
    json_object_foreach (value, key, item) {
        if (dps_tokenizer_find_special (g->tok, key, strlen (key), 0, &span))
            return dps_fail (err, DPS_ERR_FORMAT, "the key '%.60s' holds a control token", key);
        if (st == DPS_OK && strcmp (key, "role"))
            st = mark_value (g, item, err);
    }
    return st;
}

DpsStatus dps__guard_copy (DpsChatGuard *g, json_t *value, json_t **out, DpsError *err)
{
    *out = g->tok ? dps_json_copy (value, 1) : json_incref (value);
    if (value && !*out)
        return no_memory (err);
    DpsStatus st = g->tok && value ? mark_value (g, *out, err) : DPS_OK;
    if (st != DPS_OK) {
        json_decref (*out);
        *out = NULL;
    }
    return st;
}

/* ---- taking the marks out ---- */

typedef struct Removal {
    const DpsChatGuard *g;
    DpsRendered *r;
    DpsBuf text;
    size_t *cuts; /* places of marks in the marked text */
    size_t n_cuts, cut_capacity, literal_capacity;
} Removal;

static int is_mark (const char *mark, const DpsBuf *text, size_t at)
{
    return at + MARK <= text->len && !memcmp (text->data + at, mark, MARK);
}

static int cut (Removal *x, size_t at)
{
    if (DPS_GROW (x->cuts, x->n_cuts, x->cut_capacity))
        return -1;
    x->cuts[x->n_cuts++] = at;
    return 0;
}

/* [start, end) of the marked text is a look-alike whose marks are around it: both, or one. */
static int add_literal (Removal *x, size_t start, size_t end)
{
    DpsRendered *r = x->r;
    if (DPS_GROW (r->literal, r->n_literal, x->literal_capacity))
        return -1;
    size_t at = x->text.len;
    r->literal[r->n_literal++] = (DpsSpan){at, at + (end - start)};
    return dps_buf_add (&x->text, r->text.data + start, end - start);
}

static int remove_marks (Removal *x)
{
    const DpsBuf *text = &x->r->text;
    size_t done = 0;
    DpsSpan span;
    for (size_t from = 0; dps_tokenizer_find_special (x->g->tok, text->data, text->len, from, &span); from = span.end) {
        int before = span.start >= MARK && is_mark (x->g->open, text, span.start - MARK), after = is_mark (x->g->close, text, span.end);
        if (!before && !after)
            continue;
        size_t until = span.start - (before ? MARK : 0);
        if (until < done || dps_buf_add (&x->text, text->data + done, until - done) || (before && cut (x, until)) ||
            add_literal (x, span.start, span.end) || (after && cut (x, span.end)))
            return -1;
        done = span.end + (after ? MARK : 0);
    }
    return dps_buf_add (&x->text, text->data + done, text->len - done);
}

static size_t moved (const Removal *x, size_t at)
{
    size_t n = 0;
    while (n < x->n_cuts && x->cuts[n] < at)
        n++;
    return at - MARK * n;
}

DpsStatus dps__guard_remove (const DpsChatGuard *g, DpsRendered *r, DpsError *err)
{
    Removal x = {.g = g, .r = r};
    if (!g->used)
        return DPS_OK;
    int bad = remove_marks (&x);
    for (size_t i = 0; !bad && i < r->n_generation; i++)
        r->generation[i] = (DpsSpan){moved (&x, r->generation[i].start), moved (&x, r->generation[i].end)};
    if (!bad) {
        dps_buf_free (&r->text);
        r->text = x.text;
        x.text = (DpsBuf){0};
    }
    dps_buf_free (&x.text);
    dps_free (x.cuts);
    return bad ? no_memory (err) : DPS_OK;
}
