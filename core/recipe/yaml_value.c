/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml_value.c: what a plain scalar means: YAML 1.2's core schema, nothing more. So `no` and `on` are words, `1_000` and `1:30` are words,
 * `0o17` is fifteen, `017` is seventeen, `2e-5` is a number.
 */
#include <errno.h>
#include <glib.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipe/yaml.h"

DpsYaml *dps_yaml_get (const DpsYaml *map, const char *key)
{
    for (DpsYaml *item = map && map->type == DPS_YAML_MAP ? map->first : NULL; item; item = item->next)
        if (!strcmp (item->key->text, key))
            return item;
    return NULL;
}

static int one_of (const char *text, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp (text, *words))
            return 1;
    return 0;
}

int dps_yaml_is_null (const DpsYaml *n)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};
    return n->type == DPS_YAML_SCALAR && n->plain && one_of (n->text, words);
}

int dps_yaml_bool (const DpsYaml *n, int *out)
{
    static const char *const yes[] = {"true", "True", "TRUE", NULL}, *const no[] = {"false", "False", "FALSE", NULL};
    if (n->type != DPS_YAML_SCALAR || !n->plain || !(one_of (n->text, yes) || one_of (n->text, no)))
        return 0;
    *out = one_of (n->text, yes);
    return 1;
}

int dps_yaml_int (const DpsYaml *n, int64_t *out)
{
    if (n->type != DPS_YAML_SCALAR || !n->plain)
        return 0;
    const char *s = n->text, *digits = s + (*s == '-' || *s == '+');
    int base = 10;
    const char *allowed = "0123456789";
    if (s[0] == '0' && (s[1] == 'o' || s[1] == 'x')) {
        base = s[1] == 'o' ? 8 : 16;
        allowed = base == 8 ? "01234567" : "0123456789abcdefABCDEF";
        digits = s + 2;
    }
    if (!*digits || digits[strspn (digits, allowed)])
        return 0;
    errno = 0;
    long long value = strtoll (base == 10 ? s : digits, NULL, base);
    if (errno)
        return 0;
    *out = value;
    return 1;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static int is_float (const char *s)
{
    s += *s == '-' || *s == '+';
    size_t whole = strspn (s, "0123456789"), fraction = 0;
    s += whole;
    if (*s == '.') {
        fraction = strspn (s + 1, "0123456789");
        s += 1 + fraction;
    }
    if (!whole && !fraction)
        return 0;
    if (*s == 'e' || *s == 'E') {
        s += 1 + (s[1] == '-' || s[1] == '+');
        size_t exponent = strspn (s, "0123456789");
        if (!exponent)
            return 0;
        s += exponent;
    }
    return !*s;
}

int dps_yaml_number (const DpsYaml *n, double *out)
{
    static const char *const inf[] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", NULL};
    static const char *const minus_inf[] = {"-.inf", "-.Inf", "-.INF", NULL}, *const nan_words[] = {".nan", ".NaN", ".NAN", NULL};
    int64_t integer;
    if (dps_yaml_int (n, &integer))
        *out = (double)integer;
    else if (n->type != DPS_YAML_SCALAR || !n->plain)
        return 0;
    else if (one_of (n->text, inf) || one_of (n->text, minus_inf))
        *out = *n->text == '-' ? -INFINITY : INFINITY;
    else if (one_of (n->text, nan_words))
        *out = NAN;
    else if (is_float (n->text))
        *out = g_ascii_strtod (n->text, NULL);
    else
        return 0;
    return 1;
}

const char *dps_yaml_describe (const DpsYaml *n, char *buf, size_t cap)
{
    int boolean;
    double number;
    if (n->type != DPS_YAML_SCALAR)
        snprintf (buf, cap, "%s", n->type == DPS_YAML_LIST ? "a list" : "a map");
    else if (dps_yaml_is_null (n))
        snprintf (buf, cap, "nothing");
    else if (dps_yaml_bool (n, &boolean) || dps_yaml_number (n, &number))
        snprintf (buf, cap, "%.60s", n->text);
    else
        snprintf (buf, cap, "the text \"%.60s\"", n->text);
    return buf;
}

const char *dps_yaml_place (const DpsYaml *n, char *buf, size_t cap)
{
    if (n->line)
        snprintf (buf, cap, "%s:%d:%d", n->where, (int)n->line, (int)n->column);
    else
        snprintf (buf, cap, "%s", n->where);
    return buf;
}

DpsStatus dps_yaml_fail (const DpsYaml *n, DpsError *err, const char *fmt, ...)
{
    char place[600], message[1000];
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (message, sizeof message, fmt, ap);
    va_end (ap);
    return dps_fail (err, DPS_ERR_USAGE, "%s: %s", dps_yaml_place (n, place, sizeof place), message);
}

static DpsStatus scalar_json (const DpsYaml *n, json_t **out, DpsError *err)
{
    int boolean;
    int64_t integer;
    double number;
    if (dps_yaml_is_null (n))
        *out = json_null ();
    else if (dps_yaml_bool (n, &boolean))
        *out = json_boolean (boolean);
    else if (dps_yaml_int (n, &integer))
        *out = json_integer (integer);
    else if (dps_yaml_number (n, &number)) {
        if (!isfinite (number))
            return dps_yaml_fail (n, err, "%s is not a finite number", n->text);
        *out = json_real (number);
    } else
        *out = json_string (n->text);
    return *out ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", n->where);
}

DpsStatus dps_yaml_json (const DpsYaml *n, json_t **out, DpsError *err)
{
    *out = NULL;
    if (n->type == DPS_YAML_SCALAR)
        return scalar_json (n, out, err);
    json_t *whole = n->type == DPS_YAML_LIST ? json_array () : json_object ();
    DpsStatus st = whole ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", n->where);
    for (const DpsYaml *item = n->first; st == DPS_OK && item; item = item->next) {
        json_t *value = NULL;
        st = dps_yaml_json (item, &value, err);
        if (st == DPS_OK && (item->key ? json_object_set_new (whole, item->key->text, value) : json_array_append_new (whole, value)))
            st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", n->where);
    }
    if (st != DPS_OK)
        json_decref (whole);
    else
        *out = whole;
    return st;
}
