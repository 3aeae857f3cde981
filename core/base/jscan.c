/* SPDX-License-Identifier: Apache-2.0 */
#include "base/jscan.h"

#include <string.h>

#include "base/utf8.h"

enum { DEEPEST = 256 };

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "out of memory for JSON"); }

DpsStatus dps_scan_refuse (const DpsScan *c, const char *expected, DpsError *err)
{
    size_t line = 1, column = 1, at = c->at < c->len ? c->at : c->len;
    for (size_t i = 0; i < at; i++) {
        column = c->s[i] == '\n' ? 1 : column + 1;
        line += c->s[i] == '\n';
    }
    if (at == c->len)
        return dps_fail (err, DPS_ERR_FORMAT, "%zu:%zu: the file ends, expected %s", line, column, expected);
    return dps_fail (err, DPS_ERR_FORMAT, "%zu:%zu: found byte 0x%02x, expected %s", line, column, (unsigned)(unsigned char)c->s[at],
                     expected);
}

int dps_scan_peek (DpsScan *c)
{
    while (c->at < c->len && (c->s[c->at] == ' ' || c->s[c->at] == '\n' || c->s[c->at] == '\r' || c->s[c->at] == '\t'))
        c->at++;
    return c->at < c->len ? (unsigned char)c->s[c->at] : 0;
}

static int hex4 (const DpsScan *c, uint32_t *out)
{
    uint32_t v = 0;
    if (c->len - c->at < 4)
        return 0;
    for (size_t i = 0; i < 4; i++) {
        char d = c->s[c->at + i];
        int digit = d >= '0' && d <= '9' ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
        if (digit < 0)
            return 0;
        v = v << 4 | (uint32_t)digit;
    }
    *out = v;
    return 1;
}

/* After "\u": one code point, two escapes when it is a surrogate pair. */
static DpsStatus unicode_escape (DpsScan *c, DpsBuf *out, DpsError *err)
{
    uint32_t code, low;
    char text[4];
    if (!hex4 (c, &code))
        return dps_scan_refuse (c, "four hexadecimal digits", err);
    c->at += 4;
    if (code >= 0xd800 && code < 0xe000) {
        DpsScan second = *c;
        second.at += 2;
        if (code >= 0xdc00 || c->len - c->at < 6 || memcmp (c->s + c->at, "\\u", 2) || !hex4 (&second, &low) || low < 0xdc00 ||
            low > 0xdfff)
            return dps_scan_refuse (c, "the other half of a surrogate pair", err);
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        c->at += 6;
    }
    return dps_buf_add (out, text, dps_utf8_encode (code, text)) ? no_memory (err) : DPS_OK;
}

static DpsStatus escape (DpsScan *c, DpsBuf *out, DpsError *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    c->at++;
    char e = c->at < c->len ? c->s[c->at] : '\0';
    const char *known = e ? strchr (from, e) : NULL;
    if (e != 'u' && !known)
        return dps_scan_refuse (c, "an escape", err);
    c->at++;
    if (e == 'u')
        return unicode_escape (c, out, err);
    return dps_buf_add (out, &to[known - from], 1) ? no_memory (err) : DPS_OK;
}

DpsStatus dps_scan_string (DpsScan *c, DpsBuf *out, DpsError *err)
{
    out->len = 0;
    if (dps_scan_peek (c) != '"')
        return dps_scan_refuse (c, "a string", err);
    c->at++;
    for (;;) {
        size_t start = c->at, n;
        while (c->at < c->len && c->s[c->at] != '"' && c->s[c->at] != '\\') {
            if ((unsigned char)c->s[c->at] < 0x20)
                return dps_scan_refuse (c, "no bare control character in a string", err);
            n = (unsigned char)c->s[c->at] < 0x80 ? 1 : dps_utf8_sequence (c->s + c->at, c->len - c->at);
            if (n == 0)
                return dps_scan_refuse (c, "valid UTF-8", err);
            c->at += n;
        }
        if (dps_buf_add (out, c->s + start, c->at - start))
            return no_memory (err);
        if (c->at >= c->len)
            return dps_scan_refuse (c, "the end of a string", err);
        if (c->s[c->at] == '"') {
            c->at++;
            return DPS_OK;
        }
        DPS_TRY (escape (c, out, err));
    }
}

DpsStatus dps_scan_uint (DpsScan *c, uint64_t *out, DpsError *err)
{
    uint64_t v = 0;
    size_t start = (dps_scan_peek (c), c->at);
    while (c->at < c->len && c->s[c->at] >= '0' && c->s[c->at] <= '9') {
        uint64_t digit = (uint64_t)(c->s[c->at] - '0');
        if (v > (INT64_MAX - digit) / 10)
            return dps_scan_refuse (c, "an integer below 2^63", err);
        v = v * 10 + digit;
        c->at++;
    }
    if (c->at == start || (c->at < c->len && strchr (".eE", c->s[c->at]) && c->s[c->at]))
        return dps_scan_refuse (c, "an integer that is not negative", err);
    *out = v;
    return DPS_OK;
}

static DpsStatus skip_plain (DpsScan *c, DpsError *err)
{
    size_t start = c->at;
    while (c->at < c->len && c->s[c->at] && strchr ("+-.0123456789abcdefghijklmnopqrstuvwxyzE", c->s[c->at]))
        c->at++;
    return c->at > start ? DPS_OK : dps_scan_refuse (c, "a value", err);
}

DpsStatus dps_scan_member (DpsScan *c, int *first, DpsBuf *key, int *out_more, DpsError *err)
{
    int open = *first, next = dps_scan_peek (c);
    if (open && next != '{')
        return dps_scan_refuse (c, "an object", err);
    if (open) {
        c->at++;
        next = dps_scan_peek (c);
    }
    *first = 0;
    *out_more = next != '}';
    if (next == '}') {
        c->at++;
        return DPS_OK;
    }
    if (!open && next != ',')
        return dps_scan_refuse (c, "',' or '}'", err);
    c->at += !open;
    DPS_TRY (dps_scan_string (c, key, err));
    if (dps_scan_peek (c) != ':')
        return dps_scan_refuse (c, "':'", err);
    c->at++;
    dps_scan_peek (c);
    return DPS_OK;
}

DpsStatus dps_scan_element (DpsScan *c, int *first, int *out_more, DpsError *err)
{
    int open = *first, next = dps_scan_peek (c);
    if (open && next != '[')
        return dps_scan_refuse (c, "an array", err);
    if (open) {
        c->at++;
        next = dps_scan_peek (c);
    }
    *first = 0;
    *out_more = next != ']';
    if (next == ']') {
        c->at++;
        return DPS_OK;
    }
    if (!open && next != ',')
        return dps_scan_refuse (c, "',' or ']'", err);
    c->at += !open;
    dps_scan_peek (c);
    return DPS_OK;
}

/* Containers are kept on an explicit stack: one bit each, set for objects; what is open says which walk goes on. */
DpsStatus dps_scan_skip (DpsScan *c, DpsError *err)
{
    unsigned char object[DEEPEST], first[DEEPEST];
    int depth = 0;
    DpsBuf text = {0};
    DpsStatus st = DPS_OK;
    do {
        int next = dps_scan_peek (c), more = 1;
        if (next == '{' || next == '[') {
            if (depth == DEEPEST) {
                st = dps_scan_refuse (c, "less nesting (256 levels at most)", err);
                st = DPS_ERR_LIMIT;
                break;
            }
            object[depth] = next == '{';
            first[depth++] = 1;
        } else
            st = next == '"' ? dps_scan_string (c, &text, err) : skip_plain (c, err);
        while (st == DPS_OK && depth > 0) { /* to the next value, leaving every container that ends here */
            int is_first = first[depth - 1];
            st = object[depth - 1] ? dps_scan_member (c, &is_first, &text, &more, err) : dps_scan_element (c, &is_first, &more, err);
            first[depth - 1] = 0;
            if (more)
                break;
            depth--;
        }
    } while (st == DPS_OK && depth > 0);
    dps_buf_free (&text);
    return st;
}
