/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_print.c: values → text as Python writes them: str(), repr(), json.dumps(), and the % operator. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "token/jinja_node.h"
#include "token/utf8.h"

static int no_memory (DpsJinja *in) { return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for text"); }

/* The fewest digits that read back as the same number; scientific below 1e-4 and from 1e16. */
static int put_float (DpsBuf *out, double f, int json)
{
    char digits[40], text[64];
    if (isnan (f))
        return dps_buf_str (out, json ? "NaN" : "nan");
    if (isinf (f))
        return dps_buf_str (out, f < 0 ? (json ? "-Infinity" : "-inf") : (json ? "Infinity" : "inf"));
    for (int n = 0; n < 17; n++) {
        snprintf (digits, sizeof digits, "%.*e", n, f);
        if (strtod (digits, NULL) == f)
            break;
    }
    int exponent = (int)strtol (strchr (digits, 'e') + 1, NULL, 10);
    int decimals = (int)(strchr (digits, 'e') - digits) - (digits[0] == '-') - 2; /* digits after the point */
    decimals = decimals < 0 ? 0 : decimals;
    if (exponent < -4 || exponent >= 16) {
        snprintf (text, sizeof text, "%.*e", decimals, f);
        return dps_buf_str (out, text);
    }
    snprintf (text, sizeof text, "%.*f", decimals > exponent ? decimals - exponent : 1, f);
    return dps_buf_str (out, text);
}

/* Python shows these as they are; others as escapes. */
static int printable (uint32_t c)
{
    if (c < 0x80)
        return c >= 0x20 && c < 0x7f;
    if (c == DPS_UTF8_INVALID)
        return 0;
    utf8proc_category_t category = utf8proc_category ((utf8proc_int32_t)c);
    return category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZS;
}

static int put_quoted (DpsBuf *out, const DpsJval *s)
{
    char quote = memchr (s->s, '\'', s->len) && !memchr (s->s, '"', s->len) ? '"' : '\'';
    int bad = dps_buf_add (out, &quote, 1);
    for (size_t at = 0, n; at < s->len && !bad; at += n) {
        uint32_t c = dps_utf8_next (s->s + at, s->len - at, &n);
        if (c == (unsigned char)quote || c == '\\')
            bad = dps_buf_printf (out, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            bad = dps_buf_str (out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (printable (c))
            bad = dps_buf_add (out, s->s + at, n);
        else if (c == DPS_UTF8_INVALID)
            bad = dps_buf_printf (out, "\\udc%02x", (unsigned)(unsigned char)s->s[at]);
        else
            bad = dps_buf_printf (out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    }
    return bad || dps_buf_add (out, &quote, 1);
}

/* Depth is counted on the interpreter: values may nest as deep as the program that made them. To print one costs what it takes to evaluate four. */
static int enter (DpsJinja *in)
{
    if (dps__jinja_spend (in, 4))
        return -1;
    if (in->depth >= DPS_JINJA_DEPTH)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "a value nested deeper than %d", DPS_JINJA_DEPTH);
    in->depth++;
    return 0;
}

static int put_items (DpsJinja *in, const DpsJval *v, DpsBuf *out)
{
    int tuple = v->kind == DPS_J_TUPLE;
    if (dps_buf_str (out, tuple ? "(" : "["))
        return no_memory (in);
    for (size_t i = 0; i < v->list->n; i++)
        if ((i && dps_buf_str (out, ", ") && no_memory (in)) || dps__jinja_repr (in, &v->list->items[i], out))
            return -1;
    return dps_buf_str (out, tuple ? (v->list->n == 1 ? ",)" : ")") : "]") ? no_memory (in) : 0;
}

static int put_pairs (DpsJinja *in, const DpsJdict *dict, DpsBuf *out)
{
    if (dps_buf_str (out, "{"))
        return no_memory (in);
    for (size_t i = 0; i < dict->n; i++)
        if ((i && dps_buf_str (out, ", ") && no_memory (in)) || dps__jinja_repr (in, &dict->keys[i], out) ||
            (dps_buf_str (out, ": ") && no_memory (in)) || dps__jinja_repr (in, &dict->values[i], out))
            return -1;
    return dps_buf_str (out, "}") ? no_memory (in) : 0;
}

int dps__jinja_repr (DpsJinja *in, const DpsJval *v, DpsBuf *out)
{
    int bad = 0;
    if (enter (in))
        return -1;
    switch (v->kind) {
    case DPS_J_UNDEFINED: bad = dps_buf_str (out, "Undefined") && no_memory (in); break;
    case DPS_J_NONE: bad = dps_buf_str (out, "None") && no_memory (in); break;
    case DPS_J_BOOL: bad = dps_buf_str (out, v->i ? "True" : "False") && no_memory (in); break;
    case DPS_J_INT: bad = dps_buf_printf (out, "%lld", (long long)v->i) && no_memory (in); break;
    case DPS_J_FLOAT: bad = put_float (out, v->f, 0) && no_memory (in); break;
    case DPS_J_STR: bad = put_quoted (out, v) && no_memory (in); break;
    case DPS_J_LIST:
    case DPS_J_TUPLE: bad = put_items (in, v, out); break;
    case DPS_J_DICT: bad = put_pairs (in, v->dict, out); break;
    case DPS_J_NAMESPACE:
        bad = (dps_buf_str (out, "<Namespace ") && no_memory (in)) || put_pairs (in, v->dict, out) ||
              (dps_buf_str (out, ">") && no_memory (in));
        break;
    default: bad = dps_buf_printf (out, "<%s>", dps__jinja_kind (v)) && no_memory (in); break;
    }
    in->depth--;
    return bad ? -1 : 0;
}

int dps__jinja_str (DpsJinja *in, const DpsJval *v, DpsBuf *out)
{
    if (v->kind == DPS_J_UNDEFINED)
        return 0;
    if (v->kind != DPS_J_STR)
        return dps__jinja_repr (in, v, out);
    return dps_buf_add (out, v->s, v->len) ? no_memory (in) : 0;
}

int dps__jinja_to_text (DpsJinja *in, const DpsJval *v, DpsJval *out)
{
    DpsBuf text = {0};
    if (v->kind == DPS_J_STR) {
        *out = *v;
        return 0;
    }
    if (dps__jinja_str (in, v, &text)) {
        dps_buf_free (&text);
        return -1;
    }
    return dps__jinja_take (in, &text, out);
}

/* ---- json.dumps ---- */

typedef struct Dump {
    DpsJinja *in;
    DpsBuf *out;
    DpsJval indent; /* text of one level; kind NONE: all on one line */
    DpsJval between, colon;
    int ascii, sort;
} Dump;

static int dump_value (Dump *d, const DpsJval *v, int level);

static int dump_text (Dump *d, const DpsJval *s)
{
    int bad = dps_buf_add (d->out, "\"", 1);
    for (size_t at = 0, n; at < s->len && !bad; at += n) {
        uint32_t c = dps_utf8_next (s->s + at, s->len - at, &n);
        static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
        const char *known = c && c < 0x80 ? strchr (from, (int)c) : NULL;
        if (known)
            bad = dps_buf_printf (d->out, "\\%c", to[known - from]);
        else if (c < 0x20 || (d->ascii && c >= 0x7f && c < 0x10000))
            bad = dps_buf_printf (d->out, "\\u%04x", c);
        else if (d->ascii && c >= 0x10000 && c != DPS_UTF8_INVALID)
            bad = dps_buf_printf (d->out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
        else
            bad = dps_buf_add (d->out, s->s + at, n);
    }
    return bad || dps_buf_add (d->out, "\"", 1) ? no_memory (d->in) : 0;
}

static int dump_break (Dump *d, int level)
{
    if (d->indent.kind == DPS_J_NONE)
        return 0;
    int bad = dps_buf_add (d->out, "\n", 1);
    for (int i = 0; i < level && !bad; i++)
        bad = dps_buf_add (d->out, d->indent.s, d->indent.len);
    return bad || d->out->len > DPS_JINJA_OUTPUT ? no_memory (d->in) : 0;
}

/* A key is a string, or what Python turns into one. */
static int dump_key (Dump *d, const DpsJval *key)
{
    if (key->kind == DPS_J_STR)
        return dump_text (d, key);
    if (key->kind > DPS_J_STR || key->kind == DPS_J_UNDEFINED)
        return dps__jinja_fail (d->in, DPS_ERR_FORMAT, "tojson: a %s as a key", dps__jinja_kind (key));
    if (dps_buf_add (d->out, "\"", 1))
        return no_memory (d->in);
    if (dump_value (d, key, 0))
        return -1;
    return dps_buf_add (d->out, "\"", 1) ? no_memory (d->in) : 0;
}

/* Index of the pair that comes i-th: in order of insertion, or of keys (a stable selection: dicts are small, the steps are counted). */
static int order_keys (Dump *d, const DpsJdict *dict, size_t *order)
{
    for (size_t i = 0; i < dict->n; i++) {
        size_t at = i;
        for (; at > 0 && d->sort; at--) {
            int before;
            if (dps__jinja_compare (d->in, &dict->keys[i], &dict->keys[order[at - 1]], &before))
                return -1;
            if (before >= 0)
                break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    return 0;
}

static int dump_dict (Dump *d, const DpsJdict *dict, int level)
{
    size_t *order = dps__jinja_alloc (d->in, dict->n, sizeof *order);
    if (!order || order_keys (d, dict, order))
        return -1;
    if (dps_buf_add (d->out, "{", 1))
        return no_memory (d->in);
    for (size_t i = 0; i < dict->n; i++) {
        if (i && dps_buf_add (d->out, d->between.s, d->between.len))
            return no_memory (d->in);
        if (dump_break (d, level + 1) || dump_key (d, &dict->keys[order[i]]))
            return -1;
        if (dps_buf_add (d->out, d->colon.s, d->colon.len))
            return no_memory (d->in);
        if (dump_value (d, &dict->values[order[i]], level + 1))
            return -1;
    }
    if (dict->n && dump_break (d, level))
        return -1;
    return dps_buf_add (d->out, "}", 1) ? no_memory (d->in) : 0;
}

static int dump_list (Dump *d, const DpsJlist *list, int level)
{
    if (dps_buf_add (d->out, "[", 1))
        return no_memory (d->in);
    for (size_t i = 0; i < list->n; i++) {
        if (i && dps_buf_add (d->out, d->between.s, d->between.len))
            return no_memory (d->in);
        if (dump_break (d, level + 1) || dump_value (d, &list->items[i], level + 1))
            return -1;
    }
    if (list->n && dump_break (d, level))
        return -1;
    return dps_buf_add (d->out, "]", 1) ? no_memory (d->in) : 0;
}

static int dump_value (Dump *d, const DpsJval *v, int level)
{
    int bad;
    if (enter (d->in))
        return -1;
    switch (v->kind) {
    case DPS_J_NONE: bad = dps_buf_str (d->out, "null") && no_memory (d->in); break;
    case DPS_J_BOOL: bad = dps_buf_str (d->out, v->i ? "true" : "false") && no_memory (d->in); break;
    case DPS_J_INT: bad = dps_buf_printf (d->out, "%lld", (long long)v->i) && no_memory (d->in); break;
    case DPS_J_FLOAT: bad = put_float (d->out, v->f, 1) && no_memory (d->in); break;
    case DPS_J_STR: bad = dump_text (d, v); break;
    case DPS_J_LIST:
    case DPS_J_TUPLE: bad = dump_list (d, v->list, level); break;
    case DPS_J_DICT: bad = dump_dict (d, v->dict, level); break;
    default:
        bad = dps__jinja_fail (d->in, DPS_ERR_FORMAT, "tojson: a value of type %s%s%s", dps__jinja_kind (v),
                               v->kind == DPS_J_UNDEFINED ? ": " : "", v->kind == DPS_J_UNDEFINED && v->s ? v->s : "");
        break;
    }
    d->in->depth--;
    return bad ? -1 : 0;
}

static int dump_indent (Dump *d, const DpsJval *indent)
{
    if (!indent || indent->kind == DPS_J_NONE || indent->kind == DPS_J_STR) {
        d->indent = indent ? *indent : (DpsJval){.kind = DPS_J_NONE};
        return 0;
    }
    int64_t n = indent->kind == DPS_J_INT || indent->kind == DPS_J_BOOL ? indent->i : -1;
    if (n > 100)
        return dps__jinja_fail (d->in, DPS_ERR_LIMIT, "tojson: indent is %lld, at most 100", (long long)n);
    char *spaces = dps__jinja_alloc (d->in, 101, 1);
    if (!spaces)
        return -1;
    memset (spaces, ' ', 100);
    d->indent = dps__jinja_text (spaces, n > 0 ? (size_t)n : 0);
    return 0;
}

int dps__jinja_dumps (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsBuf text = {0};
    Dump d = {.in = in, .out = &text};
    const DpsJval *separators = dps__jinja_arg (args, 2, "separators");
    d.ascii = dps__jinja_arg_flag (args, 0, "ensure_ascii", 0);
    d.sort = dps__jinja_arg_flag (args, 3, "sort_keys", 0);
    if (dump_indent (&d, dps__jinja_arg (args, 1, "indent")))
        return -1;
    d.between = dps__jinja_word (d.indent.kind == DPS_J_NONE ? ", " : ",");
    d.colon = dps__jinja_word (": ");
    if (separators && (separators->kind == DPS_J_LIST || separators->kind == DPS_J_TUPLE) && separators->list->n == 2 &&
        separators->list->items[0].kind == DPS_J_STR && separators->list->items[1].kind == DPS_J_STR) {
        d.between = separators->list->items[0];
        d.colon = separators->list->items[1];
    }
    if (dump_value (&d, v, 0)) {
        dps_buf_free (&text);
        return -1;
    }
    return dps__jinja_take (in, &text, out);
}
