/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"

/*
 * jansson's parser goes on when it could not grow its token buffer, and then reads past the end of it. So while it parses, an allocation
 * that fails does not return: it jumps out of the parser, and what the parser had allocated is freed from this list. What it gives back is
 * nearly always among the newest; else, as the value of a key that comes again, it waits for the end: a million such cost no search.
 * A plugin has a copy of this file, and jansson has one pair of functions: while a plugin parses they are its own, over the host's.
 */
enum { NEWEST = 64 };

static _Thread_local struct {
    jmp_buf *escape;    /* NULL: not parsing */
    json_malloc_t take; /* where blocks come from and go to */
    json_free_t give;
    void **blocks;
    size_t n, capacity;
    void **waiting; /* given back, still in blocks */
    size_t n_waiting, waiting_capacity;
} parsing;

static void *take_block (size_t n) { return dps_malloc (n, 1); }

static void *json_malloc (size_t n)
{
    if (!parsing.escape)
        return take_block (n);
    void *p = parsing.take (n);
    if (!p || DPS_GROW (parsing.blocks, parsing.n, parsing.capacity)) {
        parsing.give (p);
        longjmp (*parsing.escape, 1);
    }
    parsing.blocks[parsing.n++] = p;
    return p;
}

static void json_release (void *p)
{
    if (!parsing.escape || !p) {
        dps_free (p);
        return;
    }
    for (size_t i = parsing.n; i > 0 && i + NEWEST > parsing.n; i--)
        if (parsing.blocks[i - 1] == p) {
            parsing.blocks[i - 1] = parsing.blocks[--parsing.n];
            parsing.give (p);
            return;
        }
    if (DPS_GROW (parsing.waiting, parsing.n_waiting, parsing.waiting_capacity))
        longjmp (*parsing.escape, 1);
    parsing.waiting[parsing.n_waiting++] = p;
}

static void give_all (void **list, size_t n)
{
    while (n)
        parsing.give (list[--n]);
}

void dps_json_init (void) { json_set_alloc_funcs (json_malloc, json_release); }

/* NULL and *out_of_memory set, or what json_loadb gives. */
static json_t *load_guarded (const char *data, size_t len, size_t options, json_error_t *e, int *out_of_memory)
{
    jmp_buf escape;
    json_t *volatile value = NULL;
    json_malloc_t take;
    json_free_t give;
    *out_of_memory = 0;
    json_get_alloc_funcs (&take, &give);
    parsing.take = take == json_malloc ? take_block : take;
    parsing.give = give == json_release ? dps_free : give;
    parsing.escape = &escape;
    json_set_alloc_funcs (json_malloc, json_release);
    if (setjmp (escape) == 0) {
        value = json_loadb (data, len, options, e);
        give_all (parsing.waiting, parsing.n_waiting);
    } else {
        *out_of_memory = 1;
        give_all (parsing.blocks, parsing.n);
    }
    json_set_alloc_funcs (take, give);
    dps_free (parsing.blocks);
    dps_free (parsing.waiting);
    memset (&parsing, 0, sizeof parsing);
    return value;
}

/* An integer of this text that no int64_t holds. */
static int is_wide (const char *s, size_t n)
{
    size_t sign = n && *s == '-', digits = sign;
    while (digits < n && s[digits] >= '0' && s[digits] <= '9')
        digits++;
    size_t most = digits == n ? n - sign : 0;
    return most > 19 || (most == 19 && memcmp (s + sign, "9223372036854775807", 19) > 0);
}

/* The text with ".0" behind every integer that is_wide. 0 or -1 (no memory). */
static int widen (const char *text, size_t len, DpsBuf *out)
{
    int bad = 0, quoted = 0;
    for (size_t at = 0, n; at < len && !bad; at += n) {
        for (n = 0; !quoted && at + n < len && text[at + n] && strchr ("0123456789+-.eE", text[at + n]);)
            n++;
        int wide = is_wide (text + at, n);
        if (n == 0) { /* no number: one character, or in a string an escape */
            n = quoted && text[at] == '\\' && at + 1 < len ? 2 : 1;
            quoted ^= text[at] == '"';
        }
        bad = dps_buf_add (out, text + at, n) || (wide && dps_buf_str (out, ".0"));
    }
    return bad;
}

DpsStatus dps_json_parse (const char *data, size_t len, const char *where, long line, unsigned flags, json_t **out, DpsError *err)
{
    json_error_t e;
    size_t options = JSON_ALLOW_NUL | JSON_DECODE_ANY | (flags & DPS_JSON_UNIQUE ? JSON_REJECT_DUPLICATES : 0);
    int out_of_memory;
    *out = load_guarded (data, len, options, &e, &out_of_memory);
    if (!*out && !out_of_memory && (flags & DPS_JSON_WIDE) && json_error_code (&e) == json_error_numeric_overflow) {
        DpsBuf wide = {0};
        if (widen (data, len, &wide))
            out_of_memory = 1;
        else
            *out = load_guarded (wide.data, wide.len, options, &e, &out_of_memory);
        dps_buf_free (&wide);
    }
    if (*out)
        return DPS_OK;
    if (out_of_memory || json_error_code (&e) == json_error_out_of_memory)
        return dps_fail (err, DPS_ERR_NOMEM, "%s:%ld: out of memory", where, line);
    return dps_fail (err, DPS_ERR_FORMAT, "%s:%ld:%d: not valid JSON: %s", where, line + (e.line > 0 ? e.line - 1 : 0), e.column, e.text);
}

DpsStatus dps_json_file (const char *path, size_t limit, unsigned flags, json_t **out, DpsError *err)
{
    DpsBuf text = {0};
    *out = NULL;
    DpsStatus st = dps_file_read (path, limit, &text, err);
    if (st == DPS_OK)
        st = dps_json_parse (text.data ? text.data : "", text.len, path, 1, flags, out, err);
    dps_buf_free (&text);
    return st;
}

json_t *dps_json_copy (const json_t *value, int deep)
{
    json_t *copy = json_is_object (value) ? json_object () : json_is_array (value) ? json_array () : json_deep_copy (value), *item;
    const char *key;
    size_t i;
    int bad = !copy;
    json_object_foreach ((json_t *)value, key, item)
        bad = bad || json_object_set_new (copy, key, deep ? dps_json_copy (item, 1) : json_incref (item));
    json_array_foreach (value, i, item)
        bad = bad || json_array_append_new (copy, deep ? dps_json_copy (item, 1) : json_incref (item));
    if (!bad)
        return copy;
    json_decref (copy);
    return NULL;
}

int dps_json_quote (DpsBuf *out, const char *s, size_t len)
{
    static const char *const short_escapes[] = {['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};
    int bad = dps_buf_add (out, "\"", 1);
    for (size_t i = 0; i < len && !bad;) {
        unsigned char c = (unsigned char)s[i];
        size_t n = dps_utf8_sequence (s + i, len - i);
        if (n == 0) {
            bad = dps_buf_str (out, "\xef\xbf\xbd");
            n = 1;
        } else if (c == '"' || c == '\\')
            bad = dps_buf_printf (out, "\\%c", c);
        else if (c < 0x20)
            bad = c < 14 && short_escapes[c] ? dps_buf_str (out, short_escapes[c]) : dps_buf_printf (out, "\\u%04x", c);
        else
            bad = dps_buf_add (out, s + i, n);
        i += n;
    }
    return bad || dps_buf_add (out, "\"", 1) ? -1 : 0;
}

int dps_json_number (DpsBuf *out, double value)
{
    char text[40];
    if (!isfinite (value))
        return dps_buf_str (out, "null");
    int whole = fabs (value) < 1e15 && value == floor (value); /* 10, not 1e+01 */
    for (int digits = 1; digits <= 17; digits++) {
        snprintf (text, sizeof text, "%.*g", whole ? 15 : digits, value == 0 ? 0 : value);
        if (strtod (text, NULL) == value)
            break;
    }
    return dps_buf_str (out, text);
}

static int json_newline (DpsBuf *out, int indent, int depth) { return indent ? dps_buf_printf (out, "\n%*s", indent * depth, "") : 0; }

static int json_write (DpsBuf *out, const json_t *v, int indent, int depth)
{
    const char *key, *separator = indent ? "," : ", ";
    size_t i = 0, key_len, n = json_is_object (v) ? json_object_size (v) : json_array_size (v);
    json_t *item;
    int bad;
    switch (json_typeof (v)) {
    case JSON_STRING: return dps_json_quote (out, json_string_value (v), json_string_length (v));
    case JSON_INTEGER: return dps_buf_printf (out, "%" JSON_INTEGER_FORMAT, json_integer_value (v));
    case JSON_REAL: return dps_json_number (out, json_real_value (v));
    case JSON_TRUE: return dps_buf_str (out, "true");
    case JSON_FALSE: return dps_buf_str (out, "false");
    case JSON_NULL: return dps_buf_str (out, "null");
    case JSON_ARRAY:
        bad = dps_buf_str (out, "[");
        for (i = 0; i < n && !bad; i++)
            bad = dps_buf_str (out, i ? separator : "") || json_newline (out, indent, depth + 1) ||
                  json_write (out, json_array_get (v, i), indent, depth + 1);
        return bad || (n && json_newline (out, indent, depth)) || dps_buf_str (out, "]") ? -1 : 0;
    case JSON_OBJECT:
        bad = dps_buf_str (out, "{");
        json_object_keylen_foreach ((json_t *)v, key, key_len, item)
        {
            bad = bad || dps_buf_str (out, i++ ? separator : "") || json_newline (out, indent, depth + 1) ||
                  dps_json_quote (out, key, key_len) || dps_buf_str (out, ": ") || json_write (out, item, indent, depth + 1);
        }
        return bad || (n && json_newline (out, indent, depth)) || dps_buf_str (out, "}") ? -1 : 0;
    }
    return -1;
}

int dps_json_write (DpsBuf *out, const json_t *value, int indent) { return json_write (out, value, indent, 0); }
