/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_filters.c: `x | …` on single values; filters on lists are in jinja_lists.c. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "token/jinja_node.h"
#include "token/utf8.h"

static int no_memory (DpsJinja *in) { return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for a filter"); }

static int used_undefined (DpsJinja *in, const DpsJval *v)
{
    return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s", v->s ? v->s : "an undefined value is used");
}

/* Call a method of str on str(v). */
static int as_method (DpsJinja *in, const DpsJval *v, const DpsJargs *args, const char *name, DpsJval *out)
{
    DpsJmethod method = {.name = name};
    DpsJargs copy = *args;
    return dps__jinja_to_text (in, v, &method.self) ? -1 : dps__jinja_method (in, &method, &copy, out);
}

static int filter_upper (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    return as_method (in, v, args, "upper", out);
}
static int filter_lower (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    return as_method (in, v, args, "lower", out);
}
static int filter_capitalize (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    return as_method (in, v, args, "capitalize", out);
}

static int filter_trim (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *chars = dps__jinja_arg (args, 0, "chars");
    DpsJval text;
    if (dps__jinja_to_text (in, v, &text))
        return -1;
    *out = dps__jinja_strip (&text, chars && chars->kind == DPS_J_STR ? chars : NULL, 3);
    return 0;
}

static int filter_center (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJargs width = {0};
    int64_t wanted;
    if (dps__jinja_arg_int (in, args, 0, "width", 80, &wanted) || dps__jinja_append (in, &width.pos, dps__jinja_int (wanted)))
        return -1;
    return as_method (in, v, &width, "center", out);
}

static int filter_replace (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *old = dps__jinja_arg (args, 0, "old"), *new = dps__jinja_arg (args, 1, "new");
    DpsJval text, from, to;
    int64_t most;
    if (!old || !new)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "replace needs two arguments");
    if (dps__jinja_to_text (in, v, &text) || dps__jinja_to_text (in, old, &from) || dps__jinja_to_text (in, new, &to) ||
        dps__jinja_arg_int (in, args, 2, "count", -1, &most))
        return -1;
    return dps__jinja_replace (in, &text, &from, &to, most, out);
}

static int filter_string (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    (void)args;
    return dps__jinja_to_text (in, v, out);
}

static int filter_escape (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    static const char from[] = "&<>\"'";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    DpsBuf b = {0};
    DpsJval text;
    (void)args;
    if (dps__jinja_to_text (in, v, &text))
        return -1;
    int bad = dps_buf_add (&b, "", 0);
    for (size_t i = 0; i < text.len && !bad; i++) {
        const char *known = text.s[i] ? strchr (from, text.s[i]) : NULL;
        bad = known ? dps_buf_str (&b, to[known - from]) : dps_buf_add (&b, text.s + i, 1);
    }
    if (!bad)
        return dps__jinja_take (in, &b, out);
    dps_buf_free (&b);
    return no_memory (in);
}

/* Jinja's own title: letters after white space and - ( { [ < are capitals, the rest small. */
static int filter_title (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsBuf b = {0};
    DpsJval text;
    int starts = 1, bad;
    (void)args;
    if (dps__jinja_to_text (in, v, &text))
        return -1;
    bad = dps_buf_add (&b, "", 0);
    for (size_t at = 0, n; at < text.len && !bad; at += n) {
        uint32_t c = dps_utf8_next (text.s + at, text.len - at, &n);
        DpsJval one = dps__jinja_text (text.s + at, n), shown;
        if (dps__jinja_spend (in, 1) || dps__jinja_case (in, &one, starts ? DPS_J_UPPER : DPS_J_LOWER, &shown)) {
            dps_buf_free (&b);
            return -1;
        }
        starts = dps__jinja_py_space (c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
        bad = dps_buf_add (&b, shown.s, shown.len);
    }
    if (!bad)
        return dps__jinja_take (in, &b, out);
    dps_buf_free (&b);
    return no_memory (in);
}

/* Lines after the first are indented; empty ones only with `blank`. */
static int filter_indent (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *width = dps__jinja_arg (args, 0, "width");
    int first = dps__jinja_arg_flag (args, 1, "first", 0), blank = dps__jinja_arg_flag (args, 2, "blank", 0);
    DpsJval text, lines, pad = {.kind = DPS_J_STR, .s = "    ", .len = 4};
    DpsJmethod split = {.name = "splitlines"};
    DpsJargs none = {0};
    DpsBuf b = {0};
    if (width && width->kind == DPS_J_STR)
        pad = *width;
    else if (width) {
        DpsJval space = dps__jinja_text (" ", 1);
        if (dps__jinja_binary (in, '*', &space, width, &pad))
            return -1;
    }
    if (dps__jinja_to_text (in, v, &text))
        return -1;
    DpsJval newline = dps__jinja_text ("\n", 1); /* so that the last line is one, as in Jinja */
    if (dps__jinja_binary (in, '+', &text, &newline, &split.self) || dps__jinja_method (in, &split, &none, &lines))
        return -1;
    int bad = dps_buf_add (&b, pad.s, first ? pad.len : 0);
    for (size_t i = 0; i < lines.list->n && !bad; i++) {
        const DpsJval *line = &lines.list->items[i];
        bad = (i && (dps_buf_add (&b, "\n", 1) || ((line->len || blank) && dps_buf_add (&b, pad.s, pad.len)))) ||
              dps_buf_add (&b, line->s, line->len) || b.len > DPS_JINJA_OUTPUT;
    }
    if (!bad)
        return dps__jinja_take (in, &b, out);
    dps_buf_free (&b);
    return no_memory (in);
}

static int filter_truncate (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *end = dps__jinja_arg (args, 2, "end");
    DpsJval text, tail = end && end->kind == DPS_J_STR ? *end : dps__jinja_word ("...");
    int64_t length, leeway;
    if (dps__jinja_to_text (in, v, &text) || dps__jinja_arg_int (in, args, 0, "length", 255, &length) ||
        dps__jinja_arg_int (in, args, 3, "leeway", 5, &leeway))
        return -1;
    int64_t n = (int64_t)dps__jinja_length (&text), n_tail = (int64_t)dps__jinja_length (&tail);
    if (length < n_tail || leeway < 0 || leeway > INT32_MAX || length > INT32_MAX)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "truncate: length or leeway out of range");
    *out = text;
    if (n <= length + leeway)
        return 0;
    text = dps__jinja_slice_text (&text, 0, (size_t)(length - n_tail));
    if (!dps__jinja_arg_flag (args, 1, "killwords", 0)) {
        const char *space = memrchr (text.s, ' ', text.len);
        text.len = space ? (size_t)(space - text.s) : text.len;
    }
    return dps__jinja_binary (in, '+', &text, &tail, out);
}

static int filter_wordcount (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJval text;
    int64_t count = 0;
    int inside = 0;
    (void)args;
    if (dps__jinja_to_text (in, v, &text))
        return -1;
    for (size_t at = 0, n; at < text.len; at += n) {
        int word = dps_utf8_is_word (dps_utf8_next (text.s + at, text.len - at, &n));
        count += word && !inside;
        inside = word;
    }
    *out = dps__jinja_int (count);
    return 0;
}

static int filter_format (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJval text, named = {.kind = DPS_J_DICT, .dict = (DpsJdict *)(uintptr_t)&args->named};
    if (dps__jinja_to_text (in, v, &text))
        return -1;
    return dps__jinja_percent (in, &text, &args->pos, args->named.n ? &named : NULL, out);
}

static int filter_default (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *other = dps__jinja_arg (args, 0, "default_value");
    int boolean = dps__jinja_arg_flag (args, 1, "boolean", 0);
    (void)in;
    *out = v->kind == DPS_J_UNDEFINED || (boolean && !dps__jinja_truth (v)) ? (other ? *other : dps__jinja_text ("", 0)) : *v;
    return 0;
}

/* A whole string as an integer or a number, blanks around it allowed; 0 when it is none. */
static int parse_number (const DpsJval *v, int base, DpsJval *out_int, double *out_float)
{
    char text[400], *end;
    DpsJval s = dps__jinja_strip (v, NULL, 3);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) { /* underscores may part digits */
        if (n == sizeof text - 1)
            return 0;
        if (s.s[i] != '_' || i == 0 || i + 1 == s.len || s.s[i - 1] == '_')
            text[n++] = s.s[i];
    }
    text[n] = '\0';
    if (n == 0 || strlen (text) != n)
        return 0;
    if (out_int) {
        errno = 0;
        *out_int = dps__jinja_int (strtoll (text, &end, base));
        return *end == '\0' && errno == 0;
    }
    if (strpbrk (text, "xXpP("))
        return 0;
    *out_float = strtod (text, &end);
    return *end == '\0';
}

static int filter_int (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *missing = dps__jinja_arg (args, 0, "default");
    int64_t base;
    double f = NAN;
    if (v->kind == DPS_J_UNDEFINED)
        return used_undefined (in, v);
    if (dps__jinja_arg_int (in, args, 1, "base", 10, &base))
        return -1;
    *out = dps__jinja_int (v->i);
    if (v->kind == DPS_J_INT || v->kind == DPS_J_BOOL ||
        (v->kind == DPS_J_STR && base >= 0 && base <= 36 && parse_number (v, (int)base, out, NULL)))
        return 0;
    int number = v->kind == DPS_J_FLOAT ? (f = v->f, 1) : v->kind == DPS_J_STR && parse_number (v, 10, NULL, &f);
    if (number && fabs (f) < 9.2e18) {
        *out = dps__jinja_int ((int64_t)f);
        return 0;
    }
    *out = missing ? *missing : dps__jinja_int (0);
    return 0;
}

static int filter_float (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *missing = dps__jinja_arg (args, 0, "default");
    double f;
    if (v->kind == DPS_J_UNDEFINED)
        return used_undefined (in, v);
    if (dps__jinja_number (v, &f) || (v->kind == DPS_J_STR && parse_number (v, 10, NULL, &f)))
        *out = (DpsJval){.kind = DPS_J_FLOAT, .f = f};
    else
        *out = missing ? *missing : (DpsJval){.kind = DPS_J_FLOAT, .f = 0.0};
    return 0;
}

static int filter_abs (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    (void)args;
    if (v->kind == DPS_J_UNDEFINED)
        return used_undefined (in, v);
    *out = *v;
    if (v->kind == DPS_J_FLOAT)
        out->f = fabs (v->f);
    else if ((v->kind == DPS_J_INT || v->kind == DPS_J_BOOL) && v->i != INT64_MIN)
        *out = dps__jinja_int (v->i < 0 ? -v->i : v->i);
    else
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "abs of a %s", dps__jinja_kind (v));
    return 0;
}

static int filter_round (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *method = dps__jinja_arg (args, 1, "method");
    char text[400];
    double f;
    int64_t precision;
    if (!dps__jinja_number (v, &f))
        return v->kind == DPS_J_UNDEFINED ? used_undefined (in, v)
                                          : dps__jinja_fail (in, DPS_ERR_FORMAT, "round of a %s", dps__jinja_kind (v));
    if (dps__jinja_arg_int (in, args, 0, "precision", 0, &precision))
        return -1;
    if (precision < -15 || precision > 15)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "round to %lld digits; -15 to 15 are possible", (long long)precision);
    double scale = pow (10, (double)precision);
    *out = (DpsJval){.kind = DPS_J_FLOAT, .f = f};
    if (method && method->kind == DPS_J_STR && method->len && method->s[0] != 'c')
        out->f = floor (f * scale) / scale;
    else if (method && method->kind == DPS_J_STR && method->len > 1 && method->s[1] == 'e')
        out->f = ceil (f * scale) / scale;
    else if (v->kind != DPS_J_FLOAT && precision >= 0)
        *out = dps__jinja_int (v->i);
    else if (precision >= 0) {
        snprintf (text, sizeof text, "%.*f", (int)precision, f);
        out->f = strtod (text, NULL);
    } else {
        out->f = rint (f * scale) / scale;
        if (v->kind != DPS_J_FLOAT)
            *out = dps__jinja_int ((int64_t)out->f);
    }
    return 0;
}

static int filter_length (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    (void)args;
    switch (v->kind) {
    case DPS_J_UNDEFINED: *out = dps__jinja_int (0); return 0;
    case DPS_J_STR: *out = dps__jinja_int ((int64_t)dps__jinja_length (v)); return dps__jinja_spend (in, v->len / 64);
    case DPS_J_LIST:
    case DPS_J_TUPLE: *out = dps__jinja_int ((int64_t)v->list->n); return 0;
    case DPS_J_DICT: *out = dps__jinja_int ((int64_t)v->dict->n); return 0;
    case DPS_J_LOOP: *out = dps__jinja_int ((int64_t)v->loop->items.n); return 0;
    default: return dps__jinja_fail (in, DPS_ERR_FORMAT, "a value of type %s has no length", dps__jinja_kind (v));
    }
}

static int filter_tojson (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    return dps__jinja_dumps (in, v, args, out);
}

/* Attributes only: a dict's items are none. */
static int filter_attr (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *name = dps__jinja_arg (args, 0, "name");
    const char *method;
    if (!name || name->kind != DPS_J_STR)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "attr needs a name");
    if (v->kind == DPS_J_DICT && !dps__jinja_has_method (v, name->s, name->len, &method)) {
        *out = dps__jinja_undefined (in, "'dict object' has no attribute '%.*s'", (int)(name->len < 80 ? name->len : 80), name->s);
        return in->status == DPS_OK ? 0 : -1;
    }
    return dps__jinja_attribute (in, v, name->s, name->len, out);
}

static const DpsJfilters filters[] = {
    {"abs", filter_abs},
    {"attr", filter_attr},
    {"capitalize", filter_capitalize},
    {"center", filter_center},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"float", filter_float},
    {"forceescape", filter_escape},
    {"format", filter_format},
    {"indent", filter_indent},
    {"int", filter_int},
    {"length", filter_length},
    {"lower", filter_lower},
    {"replace", filter_replace},
    {"round", filter_round},
    {"safe", filter_string},
    {"string", filter_string},
    {"title", filter_title},
    {"tojson", filter_tojson},
    {"trim", filter_trim},
    {"truncate", filter_truncate},
    {"upper", filter_upper},
    {"wordcount", filter_wordcount},
    {NULL, NULL},
};

int dps__jinja_filter (DpsJinja *in, const char *name, const DpsJval *v, DpsJargs *args, DpsJval *out, int *out_known)
{
    const DpsJfilters *const tables[] = {filters, dps__jinja_list_filters (), dps__jinja_order_filters ()};
    *out_known = 1;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const DpsJfilters *row = tables[t]; row->name; row++)
            if (!strcmp (row->name, name))
                return row->call (in, v, args, out);
    *out_known = 0;
    return 0;
}
