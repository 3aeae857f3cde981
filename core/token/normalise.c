/* SPDX-License-Identifier: Apache-2.0 */
/*
 * normalise.c: the normalisers of tokenizer.json on any bytes: Unicode forms, replacements, case, accents. Invalid UTF-8 passes through
 * untouched.
 */
#include <utf8proc.h>

#include "token/steps.h"
#include "token/utf8.h"

/* A replacement may lengthen a text this many times once it is longer than the floor. */
enum { GROWTH = 64, GROWTH_FLOOR = 1 << 20 };

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "out of memory for normalised text"); }

static DpsStatus replace_all (const DpsStep *step, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    size_t copied = 0, from = 0, before = out->len; /* out may hold other pieces already */
    while (from <= len) {
        int found;
        size_t start = 0, end = 0, n = 1;
        DPS_TRY (dps_regex_find (step->pattern, s, len, from, &found, &start, &end, err));
        if (!found)
            break;
        if (dps_buf_add (out, s + copied, start - copied) || dps_buf_add (out, step->text, step->text_len))
            return no_memory (err);
        if (out->len - before > GROWTH_FLOOR && (out->len - before) / GROWTH > len)
            return dps_fail (err, DPS_ERR_LIMIT, "a normaliser's Replace makes the text more than %d times longer", GROWTH);
        copied = end;
        if (end == start && end < len) /* an empty match: go on one character further */
            dps_utf8_next (s + end, len - end, &n);
        from = end == start ? end + n : end;
    }
    return dps_buf_add (out, s + copied, len - copied) ? no_memory (err) : DPS_OK;
}

/* PCRE2 is given valid UTF-8 only: invalid bytes are passed through untouched, between the valid stretches. */
static DpsStatus replace (const DpsStep *step, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    for (size_t i = 0; i < len;) {
        size_t valid = dps_utf8_valid (s + i, len - i), bad = 0;
        DPS_TRY (replace_all (step, s + i, valid, out, err));
        i += valid;
        while (i + bad < len && dps_utf8_valid (s + i + bad, len - i - bad) == 0)
            bad++;
        if (dps_buf_add (out, s + i, bad))
            return no_memory (err);
        i += bad;
    }
    return DPS_OK;
}

static DpsStatus mark_spaces (const DpsStep *step, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    size_t n_spaces = 0, extra;
    for (size_t i = 0; i < len; i++)
        n_spaces += s[i] == ' ';
    if (__builtin_mul_overflow (n_spaces, step->text_len, &extra) || __builtin_add_overflow (extra, len, &extra) ||
        dps_buf_reserve (out, extra))
        return no_memory (err);
    char *to = out->data + out->len;
    for (size_t i = 0; i < len; i++) {
        if (s[i] != ' ') {
            *to++ = s[i];
            continue;
        }
        for (size_t j = 0; j < step->text_len; j++)
            *to++ = step->text[j];
    }
    *to = '\0';
    out->len = (size_t)(to - out->data);
    return DPS_OK;
}

/* Canonical ordering: stable by combining class within each run of non-starters, in linear time whatever the input. */
static void order_marks (utf8proc_int32_t *c, size_t n, utf8proc_int32_t *copy)
{
    for (size_t i = 0; i < n;) {
        size_t end = i, count[256] = {0}, at = 0;
        while (end < n && utf8proc_get_property (c[end])->combining_class != 0)
            count[(unsigned char)utf8proc_get_property (c[end++])->combining_class]++;
        if (end - i > 1) {
            for (int k = 0; k < 256; k++) {
                size_t here = count[k];
                count[k] = at;
                at += here;
            }
            for (size_t j = i; j < end; j++)
                copy[count[(unsigned char)utf8proc_get_property (c[j])->combining_class]++] = c[j];
            for (size_t j = i; j < end; j++)
                c[j] = copy[j - i];
        }
        i = end + 1;
    }
}

/* Normalise a stretch of valid UTF-8 that begins and ends where nothing composes across. */
static DpsStatus unicode_stretch (unsigned form, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    int options = UTF8PROC_STABLE | (form == DPS_UNICODE_NFC || form == DPS_UNICODE_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                  (form == DPS_UNICODE_NFKC || form == DPS_UNICODE_NFKD ? UTF8PROC_COMPAT : 0);
    utf8proc_int32_t *c = NULL, one[32];
    size_t n = 0, capacity = 0, step;
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < len && st == DPS_OK; i += step) {
        uint32_t code = dps_utf8_next (s + i, len - i, &step);
        int class = 0;
        utf8proc_ssize_t got = utf8proc_decompose_char ((utf8proc_int32_t)code, one, 32, options, &class);
        for (utf8proc_ssize_t k = 0; k < got && k < 32 && st == DPS_OK; k++) {
            if (DPS_GROW (c, n, capacity))
                st = no_memory (err);
            else
                c[n++] = one[k];
        }
    }
    utf8proc_int32_t *copy = st == DPS_OK ? dps_malloc (n, sizeof *copy) : NULL;
    if (st == DPS_OK && !copy)
        st = no_memory (err);
    if (st == DPS_OK) {
        order_marks (c, n, copy);
        utf8proc_ssize_t left = utf8proc_normalize_utf32 (c, (utf8proc_ssize_t)n, options);
        for (utf8proc_ssize_t i = 0; i < left && st == DPS_OK; i++) {
            char text[4];
            if (dps_buf_add (out, text, dps_utf8_encode ((uint32_t)c[i], text)))
                st = no_memory (err);
        }
    }
    dps_free (copy);
    dps_free (c);
    return st;
}

/*
 * The tokenizers library normalises by Unicode 9: to it these later characters are without class or decomposition, so they stay as they are
 * and nothing is ordered or composed across them. Found by comparing every code point with utf8proc's Unicode 15.
 * U+11A7 is here because utf8proc 2.8 drops it behind a Hangul syllable.
 */
static const uint32_t unassigned[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},     {0xd3b, 0xd3c},
    {0xeba, 0xeba},     {0x11a7, 0x11a7},   {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},
    {0xa7f2, 0xa7f4},   {0xa82c, 0xa82c},   {0xab69, 0xab69},   {0x10781, 0x10785}, {0x10787, 0x107b0}, {0x107b2, 0x107ba},
    {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070},
    {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11938, 0x11938}, {0x1193d, 0x1193e}, {0x11943, 0x11943},
    {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45},
    {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e030, 0x1e06d}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136},
    {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9}};

static int is_unassigned (uint32_t c)
{
    size_t low = 0, high = sizeof unassigned / sizeof *unassigned;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (unassigned[middle][1] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof unassigned / sizeof *unassigned && unassigned[low][0] <= c;
}

/* ASCII followed by ASCII never changes in any form: only stretches around other characters are worked on. */
static DpsStatus unicode (unsigned form, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    for (size_t i = 0; i < len;) {
        size_t plain = i;
        while (plain < len && (unsigned char)s[plain] < 0x80)
            plain++;
        size_t start = plain < len && plain > i ? plain - 1 : plain; /* the ASCII letter an accent may join */
        if (dps_buf_add (out, s + i, start - i))
            return no_memory (err);
        size_t end = plain, n = 1;
        for (uint32_t c; end < len && (unsigned char)s[end] >= 0x80; end += n)
            if ((c = dps_utf8_next (s + end, len - end, &n)) == DPS_UTF8_INVALID || is_unassigned (c))
                break;
        if (end > plain)
            DPS_TRY (unicode_stretch (form, s + start, end - start, out, err));
        else if (dps_buf_add (out, s + start, end - start))
            return no_memory (err);
        if (end < len && (unsigned char)s[end] >= 0x80) { /* what ended the stretch: an invalid byte, or a character of none of its kind */
            if (dps_buf_add (out, s + end, n))
                return no_memory (err);
            end += n;
        }
        i = end;
    }
    return DPS_OK;
}

/* Per character, as Rust's char::to_lowercase: U+0130 is the one that becomes two. */
static DpsStatus lower (const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t c = dps_utf8_next (s + i, len - i, &n);
        char text[4];
        int bad;
        if (c == DPS_UTF8_INVALID)
            bad = dps_buf_add (out, s + i, n);
        else if (c == 0x130)
            bad = dps_buf_add (out, "i\xcc\x87", 3);
        else
            bad = dps_buf_add (out, text, dps_utf8_encode ((uint32_t)utf8proc_tolower ((utf8proc_int32_t)c), text));
        if (bad)
            return no_memory (err);
    }
    return DPS_OK;
}

static DpsStatus strip (unsigned sides, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    size_t n;
    while (sides & 1 && len && dps_utf8_is_space (dps_utf8_next (s, len, &n))) {
        s += n;
        len -= n;
    }
    while (sides & 2 && len && dps_utf8_is_space (dps_utf8_previous (s, len, &n)))
        len -= n;
    return dps_buf_add (out, s, len) ? no_memory (err) : DPS_OK;
}

static DpsStatus strip_accents (const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t c = dps_utf8_next (s + i, len - i, &n);
        int mark = 0;
        if (c != DPS_UTF8_INVALID && c >= 0x80) {
            utf8proc_category_t category = utf8proc_category ((utf8proc_int32_t)c);
            mark = category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
        }
        if (!mark && dps_buf_add (out, s + i, n))
            return no_memory (err);
    }
    return DPS_OK;
}

static DpsStatus run (const DpsStep *step, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    switch (step->kind) {
    case DPS_NORM_REPLACE: return replace (step, s, len, out, err);
    case DPS_NORM_SPACE_MARK: return mark_spaces (step, s, len, out, err);
    case DPS_NORM_UNICODE: return unicode (step->flag, s, len, out, err);
    case DPS_NORM_LOWER: return lower (s, len, out, err);
    case DPS_NORM_STRIP: return strip (step->flag, s, len, out, err);
    case DPS_NORM_ACCENTS: return strip_accents (s, len, out, err);
    case DPS_NORM_PREPEND:
        if (len && dps_buf_add (out, step->text, step->text_len))
            return no_memory (err);
        return dps_buf_add (out, s, len) ? no_memory (err) : DPS_OK;
    default: return dps_fail (err, DPS_ERR_INTERNAL, "normaliser step %d", step->kind);
    }
}

DpsStatus dps_normalise (const DpsSteps *steps, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    if (steps->n == 0)
        return dps_buf_add (out, s, len) ? no_memory (err) : DPS_OK;
    DpsBuf held[2] = {{0}, {0}}; /* the text before and after a step, in turn */
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < steps->n && st == DPS_OK; i++) {
        DpsBuf *to = i + 1 == steps->n ? out : &held[i % 2];
        if (to != out)
            to->len = 0;
        st = run (&steps->list[i], s, len, to, err);
        s = to->data ? to->data : "";
        len = to->len;
    }
    dps_buf_free (&held[0]);
    dps_buf_free (&held[1]);
    return st;
}
