/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_text.c: strings as Python sees them: counted in code points, with Unicode's cases and Python's idea of white space. */
#include <string.h>
#include <utf8proc.h>

#include "token/jinja.h"
#include "token/utf8.h"

static int no_memory (DpsJinja *in) { return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for a string"); }

size_t dps__jinja_length (const DpsJval *s)
{
    size_t count = 0;
    for (size_t i = 0; i < s->len; i++)
        count += ((unsigned char)s->s[i] & 0xc0) != 0x80;
    return count;
}

/* Byte offset of code point `index`, or the length. */
static size_t offset_of (const DpsJval *s, size_t index)
{
    size_t at = 0, n;
    for (; at < s->len && index > 0; at += n, index--)
        dps_utf8_next (s->s + at, s->len - at, &n);
    return at;
}

DpsJval dps__jinja_slice_text (const DpsJval *s, size_t from, size_t to)
{
    size_t start = offset_of (s, from);
    DpsJval rest = dps__jinja_text (s->s + start, s->len - start);
    return dps__jinja_text (rest.s, to > from ? offset_of (&rest, to - from) : 0);
}

int dps__jinja_py_space (uint32_t c) { return dps_utf8_is_space (c) || (c >= 0x1c && c <= 0x1f); }

static int strippable (uint32_t c, const DpsJval *chars)
{
    if (!chars)
        return dps__jinja_py_space (c);
    for (size_t at = 0, n; at < chars->len; at += n)
        if (dps_utf8_next (chars->s + at, chars->len - at, &n) == c)
            return 1;
    return 0;
}

DpsJval dps__jinja_strip (const DpsJval *s, const DpsJval *chars, int sides)
{
    const char *p = s->s;
    size_t len = s->len, n;
    while (sides & 1 && len && strippable (dps_utf8_next (p, len, &n), chars)) {
        p += n;
        len -= n;
    }
    while (sides & 2 && len && strippable (dps_utf8_previous (p, len, &n), chars))
        len -= n;
    return dps__jinja_text (p, len);
}

static int is_upper (uint32_t c)
{
    return c != DPS_UTF8_INVALID &&
           (utf8proc_category ((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LU ||
            ((uint32_t)utf8proc_tolower ((utf8proc_int32_t)c) != c && utf8proc_category ((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_LT));
}

static int is_lower (uint32_t c)
{
    return c != DPS_UTF8_INVALID &&
           (utf8proc_category ((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LL || (uint32_t)utf8proc_toupper ((utf8proc_int32_t)c) != c) &&
           !is_upper (c) && utf8proc_category ((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_LT;
}

static int is_cased (uint32_t c)
{
    return c != DPS_UTF8_INVALID && (is_upper (c) || is_lower (c) || utf8proc_category ((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LT);
}

static int put (DpsBuf *out, uint32_t c)
{
    char text[4];
    return dps_buf_add (out, text, dps_utf8_encode (c, text));
}

/* U+03A3 becomes the final sigma at the end of a word. */
static int final_sigma (const DpsJval *s, size_t at, size_t n)
{
    size_t m, before = at, after = at + n;
    uint32_t c = DPS_UTF8_INVALID;
    while (before > 0 && !is_cased (c = dps_utf8_previous (s->s, before, &m)) && c != DPS_UTF8_INVALID &&
           (utf8proc_category ((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN || c == '\''))
        before -= m;
    if (before == 0 || !is_cased (c))
        return 0;
    while (after < s->len && !is_cased (c = dps_utf8_next (s->s + after, s->len - after, &m)) && c != DPS_UTF8_INVALID &&
           (utf8proc_category ((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN || c == '\''))
        after += m;
    return after >= s->len || !is_cased (c);
}

static int put_lower (DpsBuf *out, const DpsJval *s, size_t at, size_t n, uint32_t c)
{
    if (c == 0x130)
        return dps_buf_add (out, "i\xcc\x87", 3);
    if (c == 0x3a3)
        return put (out, final_sigma (s, at, n) ? 0x3c2 : 0x3c3);
    return put (out, (uint32_t)utf8proc_tolower ((utf8proc_int32_t)c));
}

/* The characters whose upper case is longer, most met first. */
static int put_upper (DpsBuf *out, uint32_t c, int title)
{
    static const struct {
        uint32_t c;
        const char *upper, *title;
    } longer[] = {{0xdf, "SS", "Ss"},   {0xfb00, "FF", "Ff"},   {0xfb01, "FI", "Fi"},
                  {0xfb02, "FL", "Fl"}, {0xfb03, "FFI", "Ffi"}, {0xfb04, "FFL", "Ffl"},
                  {0xfb05, "ST", "St"}, {0xfb06, "ST", "St"},   {0x149, "\xca\xbcN", "\xca\xbcN"}};
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (longer[i].c == c)
            return dps_buf_str (out, title ? longer[i].title : longer[i].upper);
    return put (out, (uint32_t)(title ? utf8proc_totitle ((utf8proc_int32_t)c) : utf8proc_toupper ((utf8proc_int32_t)c)));
}

int dps__jinja_case (DpsJinja *in, const DpsJval *s, int how, DpsJval *out)
{
    DpsBuf text = {0};
    int bad = dps_buf_add (&text, "", 0), in_word = 0;
    for (size_t at = 0, n; at < s->len && !bad; at += n) {
        uint32_t c = dps_utf8_next (s->s + at, s->len - at, &n);
        int upper = how == DPS_J_UPPER || (how == DPS_J_SWAP && is_lower (c));
        int title = (how == DPS_J_CAPITALIZE && at == 0) || (how == DPS_J_TITLE && !in_word);
        in_word = is_cased (c);
        if (c == DPS_UTF8_INVALID || (how == DPS_J_SWAP && !is_lower (c) && !is_upper (c)))
            bad = dps_buf_add (&text, s->s + at, n);
        else
            bad = upper || title ? put_upper (&text, c, title) : put_lower (&text, s, at, n, c);
    }
    if (!bad)
        return dps__jinja_take (in, &text, out);
    dps_buf_free (&text);
    return no_memory (in);
}

int dps__jinja_is_case (const DpsJval *s, int how)
{
    int any = 0, in_word = 0;
    for (size_t at = 0, n; at < s->len; at += n) {
        uint32_t c = dps_utf8_next (s->s + at, s->len - at, &n);
        if (!is_cased (c)) {
            in_word = 0;
            continue;
        }
        any = 1;
        int fits = how == DPS_J_LOWER ? is_lower (c) : how == DPS_J_UPPER ? is_upper (c) : in_word ? is_lower (c) : !is_lower (c);
        if (!fits)
            return 0;
        in_word = 1;
    }
    return any;
}

const char *dps__jinja_find (const DpsJval *s, const DpsJval *what, size_t from)
{
    if (from > s->len || what->len > s->len - from)
        return NULL;
    return what->len ? memmem (s->s + from, s->len - from, what->s, what->len) : s->s + from;
}

int dps__jinja_replace (DpsJinja *in, const DpsJval *s, const DpsJval *old, const DpsJval *new, int64_t most, DpsJval *out)
{
    DpsBuf text = {0};
    size_t at = 0;
    int bad = dps_buf_add (&text, "", 0), limit = 0;
    for (int64_t done = 0; !bad && !limit && (most < 0 || done < most); done++) {
        const char *hit = dps__jinja_find (s, old, at);
        size_t n = 0;
        if (!hit)
            break;
        if (old->len == 0 && (size_t)(hit - s->s) < s->len)
            dps_utf8_next (hit, s->len - at, &n); /* between every two characters */
        bad = dps_buf_add (&text, s->s + at, (size_t)(hit - s->s) - at) || dps_buf_add (&text, new->s, new->len) ||
              dps_buf_add (&text, hit, n);
        int end = old->len == 0 && (size_t)(hit - s->s) >= s->len;
        at = (size_t)(hit - s->s) + old->len + n;
        limit = text.len > DPS_JINJA_OUTPUT || dps__jinja_spend (in, 1);
        if (end)
            break;
    }
    if (!bad && !limit)
        bad = dps_buf_add (&text, s->s + at, s->len - at);
    if (!bad && !limit)
        return dps__jinja_take (in, &text, out);
    dps_buf_free (&text);
    return limit ? dps__jinja_fail (in, DPS_ERR_LIMIT, "replace makes a string of more than %d bytes", DPS_JINJA_OUTPUT) : no_memory (in);
}
