/* SPDX-License-Identifier: Apache-2.0 */
#include "recipe/yaml.h"

#include <libfyaml.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* The parse under way: a stack of open lists and maps. */
typedef struct Builder {
    DpsYamlDoc *doc;
    struct {
        DpsYaml *node;
        DpsYaml *key; /* read, waiting for its value */
        char *anchor;
    } open[DPS_YAML_MAX_DEPTH];
    size_t depth;
    struct {
        char *name;
        DpsYaml *node;
    } * anchors;
    size_t n_anchors, anchor_capacity;
    int n_documents;
    DpsError *err;
} Builder;

static DpsYaml *new_node (Builder *b, DpsYamlType type, const struct fy_mark *mark)
{
    DpsYaml *n = dps_yaml_node (b->doc, type, NULL);
    if (!n)
        return NULL;
    n->plain = 0;
    n->line = mark ? mark->line + 1 : 1;
    n->column = mark ? mark->column + 1 : 1;
    return n;
}

static DpsStatus out_of_memory (const Builder *b) { return dps_fail (b->err, DPS_ERR_NOMEM, "%s: out of memory", b->doc->where); }

static DpsStatus check_count (const Builder *b, const DpsYaml *at)
{
    if (b->doc->n_nodes < DPS_YAML_MAX_NODES)
        return DPS_OK;
    return dps_yaml_fail (at, b->err, "more than %d values once aliases are written out", DPS_YAML_MAX_NODES);
}

/* A key of the innermost map has been read. */
static DpsStatus take_key (Builder *b, DpsYaml *key)
{
    const DpsYaml *map = b->open[b->depth - 1].node;
    if (key->type != DPS_YAML_SCALAR)
        return dps_yaml_fail (key, b->err, "a key must be a word, found %s", key->type == DPS_YAML_LIST ? "a list" : "a map");
    if (key->plain && !strcmp (key->text, "<<"))
        return dps_yaml_fail (key, b->err, "merge keys (<<) are not read: write the keys out");
    for (const DpsYaml *item = map->first; item; item = item->next)
        if (!strcmp (item->key->text, key->text))
            return dps_yaml_fail (key, b->err, "'%.100s' is given twice, first in line %d: remove one", key->text, (int)item->key->line);
    b->open[b->depth - 1].key = key;
    return DPS_OK;
}

/* Put a complete node where it belongs. */
static DpsStatus place_node (Builder *b, DpsYaml *n)
{
    if (!b->depth) {
        b->doc->root = n;
        return DPS_OK;
    }
    DpsYaml *parent = b->open[b->depth - 1].node;
    if (parent->type == DPS_YAML_MAP && !b->open[b->depth - 1].key)
        return take_key (b, n);
    n->key = b->open[b->depth - 1].key;
    b->open[b->depth - 1].key = NULL;
    dps_yaml_append (parent, n);
    return DPS_OK;
}

static char *token_text (struct fy_token *token)
{
    size_t len = 0;
    const char *text = token ? fy_token_get_text (token, &len) : NULL;
    return text ? dps_strndup (text, len) : NULL;
}

/* Remember a finished node under its anchor; a later anchor of the same name wins, as YAML says. Takes the name. */
static DpsStatus add_anchor (Builder *b, char *name, DpsYaml *n)
{
    if (!name)
        return DPS_OK;
    if (DPS_GROW (b->anchors, b->n_anchors, b->anchor_capacity)) {
        dps_free (name);
        return out_of_memory (b);
    }
    b->anchors[b->n_anchors].name = name;
    b->anchors[b->n_anchors++].node = n;
    return DPS_OK;
}

static DpsStatus on_alias (Builder *b, struct fy_event *e)
{
    const struct fy_mark *mark = fy_event_start_mark (e);
    const DpsYaml place = {.where = b->doc->where, .line = mark ? mark->line + 1 : 0, .column = mark ? mark->column + 1 : 0};
    char *name = token_text (e->alias.anchor);
    if (!name)
        return out_of_memory (b);
    const DpsYaml *from = NULL;
    for (size_t i = b->n_anchors; i > 0 && !from; i--)
        if (!strcmp (b->anchors[i - 1].name, name))
            from = b->anchors[i - 1].node;
    DpsYaml *copy = NULL;
    DpsStatus st = from ? dps_yaml_copy (b->doc, from, &place, &copy, b->err)
                        : dps_yaml_fail (&place, b->err, "alias *%.60s names no finished anchor", name);
    dps_free (name);
    return st == DPS_OK ? place_node (b, copy) : st;
}

static DpsStatus on_scalar (Builder *b, struct fy_event *e)
{
    size_t len = 0;
    const char *text = fy_token_get_text (e->scalar.value, &len);
    DpsYaml *n = new_node (b, DPS_YAML_SCALAR, fy_event_start_mark (e));
    if (!n || !(n->text = dps_strndup (text ? text : "", text ? len : 0)))
        return out_of_memory (b);
    n->plain = fy_token_scalar_style (e->scalar.value) == FYSS_PLAIN;
    if (memchr (n->text, 0, len))
        return dps_yaml_fail (n, b->err, "the text holds the character U+0000");
    if (e->scalar.anchor) {
        char *name = token_text (e->scalar.anchor);
        if (!name)
            return out_of_memory (b);
        DPS_TRY (add_anchor (b, name, n));
    }
    return place_node (b, n);
}

static DpsStatus on_start (Builder *b, struct fy_event *e, DpsYamlType type)
{
    struct fy_token *anchor = fy_event_get_anchor_token (e);
    DpsYaml *n = new_node (b, type, fy_event_start_mark (e));
    if (!n)
        return out_of_memory (b);
    if (b->depth == DPS_YAML_MAX_DEPTH)
        return dps_yaml_fail (n, b->err, "lists and maps are nested deeper than %d", DPS_YAML_MAX_DEPTH);
    b->open[b->depth].node = n;
    b->open[b->depth].key = NULL;
    b->open[b->depth].anchor = anchor ? token_text (anchor) : NULL;
    b->depth++;
    return anchor && !b->open[b->depth - 1].anchor ? out_of_memory (b) : DPS_OK;
}

static DpsStatus on_end (Builder *b)
{
    b->depth--;
    char *anchor = b->open[b->depth].anchor;
    b->open[b->depth].anchor = NULL;
    DPS_TRY (add_anchor (b, anchor, b->open[b->depth].node));
    return place_node (b, b->open[b->depth].node);
}

static DpsStatus on_event (Builder *b, struct fy_event *e)
{
    const struct fy_mark *mark = fy_event_start_mark (e);
    const DpsYaml place = {.where = b->doc->where, .line = mark ? mark->line + 1 : 0, .column = mark ? mark->column + 1 : 0};
    if (e->type == FYET_MAPPING_START || e->type == FYET_SEQUENCE_START || e->type == FYET_SCALAR) {
        struct fy_token *tag = fy_event_get_tag_token (e);
        size_t len = 0;
        const char *text = tag ? fy_token_get_text (tag, &len) : NULL;
        if (tag)
            return dps_yaml_fail (&place, b->err, "tag %.*s is refused: a recipe is plain data", (int)(len < 60 ? len : 60),
                                  text ? text : "");
        DPS_TRY (check_count (b, &place));
    }
    switch (e->type) {
    case FYET_DOCUMENT_START:
        return b->n_documents++ ? dps_yaml_fail (&place, b->err, "a second document begins: a recipe is one") : DPS_OK;
    case FYET_SCALAR: return on_scalar (b, e);
    case FYET_ALIAS: return on_alias (b, e);
    case FYET_MAPPING_START: return on_start (b, e, DPS_YAML_MAP);
    case FYET_SEQUENCE_START: return on_start (b, e, DPS_YAML_LIST);
    case FYET_MAPPING_END:
    case FYET_SEQUENCE_END: return on_end (b);
    default: return DPS_OK;
    }
}

/* A line at fault in a way that people's often are: what was found, what is expected. OK: in no such way. */
static DpsStatus common_fault (const char *where, const char *s, int line, DpsError *err)
{
    const char *start = s + strspn (s, " \t-"), *tab = memchr (s, '\t', (size_t)(start - s));
    const size_t key = strspn (start, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (tab)
        return dps_fail (err, DPS_ERR_USAGE, "%s:%d:%d: a tab in the indentation, where YAML takes spaces only: replace it with spaces",
                         where, line, (int)(tab - s) + 1);
    if (!key || start[key] != ':' || !start[key + 1] || start[key + 1] == ' ' || start[key + 1] == '\t')
        return DPS_OK;
    return dps_fail (err, DPS_ERR_USAGE, "%s:%d:%d: '%s' has no space behind the colon, so it is no key with a value: write '%.*s: %s'",
                     where, line, (int)(start - s) + 1, start, (int)key, start, start + key + 1);
}

DpsStatus dps_yaml_expect_map (const DpsYaml *n, DpsError *err)
{
    if (n->type == DPS_YAML_MAP)
        return DPS_OK;
    if (n->type == DPS_YAML_SCALAR && n->plain) { /* a line of no key is a word; several are one text */
        char first[160];
        snprintf (first, sizeof first, "%.*s", (int)strcspn (n->text, " \n"), n->text);
        DPS_TRY (common_fault (n->where, first, n->line, err));
    }
    return dps_yaml_fail (n, err, "a recipe is a map of keys to values");
}

/* What libfyaml found wrong, in our words. It points to the line at fault, or to the one before. */
static DpsStatus syntax_error (const Builder *b, struct fy_diag *diag, const char *text, size_t len)
{
    void *position = NULL;
    const struct fy_diag_error *e = fy_diag_errors_iterate (diag, &position);
    const char *end = text + len;
    if (!e)
        return dps_fail (b->err, DPS_ERR_USAGE, "%s: not valid YAML", b->doc->where);
    for (int line = 1; text && line <= e->line + 1; line++) {
        char one[160];
        const char *newline = memchr (text, '\n', (size_t)(end - text));
        const size_t n = (size_t)((newline ? newline : end) - text);
        snprintf (one, sizeof one, "%.*s", (int)(n < sizeof one ? n : sizeof one - 1), text);
        one[strcspn (one, "\r")] = '\0';
        if (line >= e->line)
            DPS_TRY (common_fault (b->doc->where, one, line, b->err));
        text = newline ? newline + 1 : NULL;
    }
    return dps_fail (b->err, DPS_ERR_USAGE, "%s:%d:%d: not valid YAML: %s", b->doc->where, e->line, e->column, e->msg ? e->msg : "syntax");
}

static DpsStatus read_events (Builder *b, const char *text, size_t len)
{
    FILE *nowhere = fopen ("/dev/null", "w"); /* libfyaml prints unless it is told where to */
    struct fy_diag_cfg diag_cfg;
    fy_diag_cfg_default (&diag_cfg);
    diag_cfg.fp = nowhere;
    struct fy_diag *diag = nowhere ? fy_diag_create (&diag_cfg) : NULL;
    const struct fy_parse_cfg cfg = {.flags = FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE | FYPCF_ALLOW_DUPLICATE_KEYS, .diag = diag};
    struct fy_parser *parser = diag ? fy_parser_create (&cfg) : NULL;
    DpsStatus st = parser ? DPS_OK : out_of_memory (b);
    if (st == DPS_OK) {
        fy_diag_set_collect_errors (diag, true);
        if (fy_parser_set_string (parser, text, len))
            st = out_of_memory (b);
    }
    for (struct fy_event *e; st == DPS_OK && (e = fy_parser_parse (parser)); fy_parser_event_free (parser, e))
        st = on_event (b, e);
    if (st == DPS_OK && (fy_diag_got_error (diag) || b->depth))
        st = syntax_error (b, diag, text, len);
    if (parser)
        fy_parser_destroy (parser);
    if (diag)
        fy_diag_destroy (diag);
    if (nowhere)
        fclose (nowhere);
    return st;
}

static int line_of (const char *text, size_t at)
{
    int line = 1;
    for (size_t i = 0; i < at; i++)
        line += text[i] == '\n';
    return line;
}

static size_t first_invalid (const char *s, size_t len)
{
    size_t i = 0;
    for (size_t n; i < len; i += n)
        if (!(n = dps_utf8_sequence (s + i, len - i)))
            break;
    return i;
}

/* What must hold of the bytes before a YAML scanner sees them. *text moves past a byte order mark. */
static DpsStatus check_bytes (const char **text, size_t *len, const char *where, DpsError *err)
{
    const unsigned char *s = (const unsigned char *)*text;
    size_t n = *len;
    if (n > DPS_YAML_MAX_BYTES)
        return dps_fail (err, DPS_ERR_USAGE, "%s: %zu bytes, a recipe has at most %d", where, n, DPS_YAML_MAX_BYTES);
    if (n >= 2 && ((s[0] == 0xff && s[1] == 0xfe) || (s[0] == 0xfe && s[1] == 0xff)))
        return dps_fail (err, DPS_ERR_USAGE, "%s:1:1: UTF-16: save the file as UTF-8", where);
    const char *nul = n ? memchr (s, 0, n) : NULL;
    if (nul)
        return dps_fail (err, DPS_ERR_USAGE, "%s:%d: a NUL byte: is this UTF-16 or a binary file? Save it as UTF-8", where,
                         line_of (*text, (size_t)(nul - *text)));
    if (n >= 3 && !memcmp (s, "\xef\xbb\xbf", 3)) {
        *text += 3;
        *len -= 3;
    }
    size_t bad = first_invalid (*text, *len);
    if (bad < *len)
        return dps_fail (err, DPS_ERR_USAGE, "%s:%d: byte 0x%02x is not valid UTF-8", where, line_of (*text, bad),
                         (unsigned char)(*text)[bad]);
    return DPS_OK;
}

DpsStatus dps_yaml_parse (const char *text, size_t len, const char *where, DpsYamlDoc **out, DpsError *err)
{
    *out = NULL;
    DPS_TRY (check_bytes (&text, &len, where, err));
    Builder b = {.doc = dps_calloc (1, sizeof (DpsYamlDoc)), .err = err};
    if (!b.doc || !(b.doc->where = dps_strdup (where))) {
        dps_yaml_free (b.doc);
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    }
    DpsStatus st = read_events (&b, text, len);
    for (size_t i = 0; i < b.depth; i++)
        dps_free (b.open[i].anchor);
    for (size_t i = 0; i < b.n_anchors; i++)
        dps_free (b.anchors[i].name);
    dps_free (b.anchors);
    if (st != DPS_OK) {
        dps_yaml_free (b.doc);
        return st;
    }
    *out = b.doc;
    return DPS_OK;
}

/* Every value has one parent; the node limit bounds what aliases of aliases grow to. */
DpsStatus dps_yaml_copy (DpsYamlDoc *doc, const DpsYaml *from, const DpsYaml *at, DpsYaml **out, DpsError *err)
{
    if (doc->n_nodes >= DPS_YAML_MAX_NODES)
        return dps_yaml_fail (from, err, "more than %d values once aliases are written out", DPS_YAML_MAX_NODES);
    DpsYaml *n = dps_yaml_node (doc, from->type, from->text);
    if (!n)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", doc->where);
    n->plain = from->plain;
    n->where = at ? at->where : from->where;
    n->line = at ? at->line : from->line;
    n->column = at ? at->column : from->column;
    if (from->key)
        DPS_TRY (dps_yaml_copy (doc, from->key, at, &n->key, err));
    for (const DpsYaml *item = from->first; item; item = item->next) {
        DpsYaml *copy;
        DPS_TRY (dps_yaml_copy (doc, item, at, &copy, err));
        dps_yaml_append (n, copy);
    }
    *out = n;
    return DPS_OK;
}

DpsYaml *dps_yaml_node (DpsYamlDoc *doc, DpsYamlType type, const char *text)
{
    DpsYaml *n = dps_calloc (1, sizeof *n);
    if (!n)
        return NULL;
    n->allocated = doc->nodes;
    doc->nodes = n;
    doc->n_nodes++;
    n->type = type;
    n->where = doc->where;
    n->plain = 1;
    return text && !(n->text = dps_strdup (text)) ? NULL : n;
}

void dps_yaml_append (DpsYaml *to, DpsYaml *item)
{
    item->next = NULL;
    if (to->last)
        to->last->next = item;
    else
        to->first = item;
    to->last = item;
}

void dps_yaml_free (DpsYamlDoc *doc)
{
    if (!doc)
        return;
    for (DpsYaml *n = doc->nodes, *next; n; n = next) {
        next = n->allocated;
        dps_free (n->text);
        dps_free (n);
    }
    dps_free (doc->where);
    dps_free (doc);
}
