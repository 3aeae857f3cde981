/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_format.c: "%s" % x, "{}".format (x), and strftime on a date that is given, so that renderings are reproducible. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "token/jinja.h"

static int no_memory (DpsJinja *in) { return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for text"); }

/* A conversion after its %: flags, width and precision in `spec` ("%-5.2"), the letter apart. */
typedef struct Conversion {
    char flags[6];
    int width, precision; /* precision −1: none */
    char letter;
    DpsJval key; /* of %(name)s; kind UNDEFINED: none */
} Conversion;

static size_t read_number (const DpsJval *f, size_t at, int *out)
{
    for (*out = 0; at < f->len && f->s[at] >= '0' && f->s[at] <= '9'; at++)
        *out = *out < 10000 ? *out * 10 + (f->s[at] - '0') : *out;
    return at;
}

static size_t read_conversion (const DpsJval *f, size_t at, Conversion *c)
{
    size_t n = 0;
    *c = (Conversion){.precision = -1, .key = {.kind = DPS_J_UNDEFINED}};
    if (at < f->len && f->s[at] == '(') {
        const char *end = memchr (f->s + at, ')', f->len - at);
        if (!end)
            return f->len;
        c->key = dps__jinja_text (f->s + at + 1, (size_t)(end - f->s) - at - 1);
        at = (size_t)(end - f->s) + 1;
    }
    for (; at < f->len && strchr ("-+ 0#", f->s[at]) && f->s[at]; at++)
        if (n < sizeof c->flags - 1 && !strchr (c->flags, f->s[at]))
            c->flags[n++] = f->s[at];
    at = read_number (f, at, &c->width);
    if (at < f->len && f->s[at] == '.')
        at = read_number (f, at + 1, &c->precision);
    while (at < f->len && strchr ("hlL", f->s[at]) && f->s[at])
        at++;
    c->letter = at < f->len ? f->s[at] : '\0';
    return at + 1;
}

/* Text padded to the width, counted in code points. */
static int put_padded (DpsJinja *in, const Conversion *c, DpsJval text, DpsBuf *out)
{
    if (c->precision >= 0 && (c->letter == 's' || c->letter == 'r'))
        text = dps__jinja_slice_text (&text, 0, (size_t)c->precision);
    size_t n = dps__jinja_length (&text), pad = (size_t)c->width > n ? (size_t)c->width - n : 0;
    int left = strchr (c->flags, '-') != NULL, bad = 0;
    for (size_t i = 0; i < pad && !left && !bad; i++)
        bad = dps_buf_add (out, " ", 1);
    bad = bad || dps_buf_add (out, text.s, text.len);
    for (size_t i = 0; i < pad && left && !bad; i++)
        bad = dps_buf_add (out, " ", 1);
    return bad ? no_memory (in) : 0;
}

static int put_conversion (DpsJinja *in, const Conversion *c, const DpsJval *v, DpsBuf *out)
{
    double number = 0;
    char text[512], spec[40];
    int is_number = dps__jinja_number (v, &number);
    if (c->width > 200 || c->precision > 200)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "%%: a width or precision over 200");
    if (c->letter == 's' || c->letter == 'r') {
        DpsBuf shown = {0};
        int bad = dps_buf_add (&shown, "", 0) ? no_memory (in)
                  : c->letter == 's'          ? dps__jinja_str (in, v, &shown)
                                              : dps__jinja_repr (in, v, &shown);
        bad = bad || put_padded (in, c, dps__jinja_text (shown.data, shown.len), out);
        dps_buf_free (&shown);
        return bad ? -1 : 0;
    }
    if (!c->letter || !strchr ("diuxXofFeEgG", c->letter))
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "%%: the conversion '%c' is not supported", c->letter ? c->letter : ' ');
    if (!is_number)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "%%%c needs a number, not %s", c->letter, dps__jinja_kind (v));
    int real = strchr ("fFeEgG", c->letter) != NULL;
    if (!real && v->kind == DPS_J_FLOAT && strchr ("xXo", c->letter))
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "%%%c needs an integer", c->letter);
    snprintf (spec, sizeof spec, "%%%s*.*%s%c", c->flags, real ? "" : "ll", c->letter == 'u' ? 'd' : c->letter);
    int64_t integer = v->kind == DPS_J_FLOAT ? (int64_t)(number > -9e18 && number < 9e18 ? number : 0) : v->i;
    int precision = real && c->precision < 0 ? 6 : c->precision;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (real)
        snprintf (text, sizeof text, spec, c->width, precision, number);
    else
        snprintf (text, sizeof text, spec, c->width, precision, (long long)integer);
#pragma GCC diagnostic pop
    return dps_buf_str (out, text) ? no_memory (in) : 0;
}

int dps__jinja_percent (DpsJinja *in, const DpsJval *format, const DpsJlist *values, const DpsJval *mapping, DpsJval *out)
{
    DpsBuf text = {0};
    size_t used = 0;
    int bad = dps_buf_add (&text, "", 0) ? no_memory (in) : 0, named = 0;
    for (size_t at = 0; at < format->len && !bad;) {
        const char *percent = memchr (format->s + at, '%', format->len - at);
        size_t stop = percent ? (size_t)(percent - format->s) : format->len;
        bad = dps_buf_add (&text, format->s + at, stop - at) && no_memory (in);
        at = stop;
        if (bad || !percent)
            break;
        Conversion c;
        at = read_conversion (format, at + 1, &c);
        if (c.letter == '%') {
            bad = dps_buf_add (&text, "%", 1) && no_memory (in);
            continue;
        }
        const DpsJval *v = NULL;
        if (c.key.kind == DPS_J_STR) {
            named = 1;
            v = mapping ? dps__jinja_get (in, mapping->dict, &c.key) : NULL;
        } else if (used < values->n)
            v = &values->items[used++];
        bad = v ? put_conversion (in, &c, v, &text) : dps__jinja_fail (in, DPS_ERR_FORMAT, "%%: not enough arguments for the format");
    }
    if (!bad && !named && !mapping && used < values->n)
        bad = dps__jinja_fail (in, DPS_ERR_FORMAT, "%%: not all arguments are converted");
    if (!bad)
        return dps__jinja_take (in, &text, out);
    dps_buf_free (&text);
    return -1;
}

/* {}, {0}, {name}; what follows a ':' or '!' in braces is refused. */
static int put_field (DpsJinja *in, const DpsJval *field, size_t *next, const DpsJargs *args, DpsBuf *out)
{
    const DpsJval *v;
    if (memchr (field->s, ':', field->len) || memchr (field->s, '!', field->len) || memchr (field->s, '.', field->len) ||
        memchr (field->s, '[', field->len))
        return dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "format: the field {%.*s}; supported are {}, {0} and {name}",
                                (int)(field->len < 60 ? field->len : 60), field->s);
    if (field->len == 0)
        v = dps__jinja_arg (args, (*next)++, NULL);
    else if (field->s[0] >= '0' && field->s[0] <= '9') {
        int index;
        read_number (field, 0, &index);
        v = dps__jinja_arg (args, (size_t)index, NULL);
    } else
        v = dps__jinja_get (in, &args->named, field);
    if (!v)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "format: no argument for {%.*s}", (int)(field->len < 60 ? field->len : 60), field->s);
    return dps__jinja_str (in, v, out);
}

int dps__jinja_format (DpsJinja *in, const DpsJval *format, const DpsJargs *args, DpsJval *out)
{
    DpsBuf text = {0};
    size_t next = 0;
    int bad = dps_buf_add (&text, "", 0) ? no_memory (in) : 0;
    for (size_t at = 0; at < format->len && !bad; at++) {
        char c = format->s[at];
        int doubled = at + 1 < format->len && format->s[at + 1] == c;
        if ((c != '{' && c != '}') || doubled) {
            bad = dps_buf_add (&text, &c, 1) && no_memory (in);
            at += doubled && (c == '{' || c == '}');
            continue;
        }
        const char *end = c == '{' ? memchr (format->s + at, '}', format->len - at) : NULL;
        if (!end) {
            bad = dps__jinja_fail (in, DPS_ERR_FORMAT, "format: a single brace");
            break;
        }
        DpsJval field = dps__jinja_text (format->s + at + 1, (size_t)(end - format->s) - at - 1);
        bad = put_field (in, &field, &next, args, &text);
        at = (size_t)(end - format->s);
    }
    if (!bad)
        return dps__jinja_take (in, &text, out);
    dps_buf_free (&text);
    return -1;
}

/* Day of the week (0 Sunday) and of the year (1 …) of a Gregorian date. */
static void complete (struct tm *t)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int year = t->tm_year + 1900, leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    t->tm_yday = before[t->tm_mon] + t->tm_mday - 1 + (leap && t->tm_mon > 1);
    int past = year - 1;
    t->tm_wday = (past + past / 4 - past / 100 + past / 400 + t->tm_yday + 1) % 7;
}

int dps__jinja_strftime (const char *date, const DpsJval *format, DpsBuf *out)
{
    struct tm t = {.tm_year = 2024 - 1900, .tm_mon = 6, .tm_mday = 26};
    int year, month, day;
    if (date && sscanf (date, "%4d-%2d-%2d", &year, &month, &day) == 3 && year > 0 && month >= 1 && month <= 12 && day >= 1 && day <= 31)
        t = (struct tm){.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
    complete (&t);
    for (size_t at = 0; at < format->len; at++) { /* one conversion at a time, so that an empty one is no error */
        char c = format->s[at], spec[4] = {'%', '\0', '\0', '\0'}, text[64];
        if (c != '%' || at + 1 >= format->len) {
            if (dps_buf_add (out, &c, 1))
                return -1;
            continue;
        }
        spec[1] = format->s[++at];
        if (spec[1] == '-' && at + 1 < format->len)
            spec[2] = format->s[++at];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        size_t n = strftime (text, sizeof text, spec, &t);
#pragma GCC diagnostic pop
        if (dps_buf_add (out, text, n))
            return -1;
    }
    return 0;
}
