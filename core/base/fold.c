/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fold.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

enum { MAX_EXPANSION = 18 }; /* code points that one can decompose to (U+FDFA) */

static int is_space (utf8proc_int32_t c)
{
    utf8proc_category_t k = utf8proc_category (c);
    return (c >= 9 && c <= 13) || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

static int is_punctuation (utf8proc_int32_t c)
{
    utf8proc_category_t k = utf8proc_category (c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* One code point, folded, without regard to its neighbours. */
static int put_folded (utf8proc_int32_t c, unsigned flags, DpsBuf *out)
{
    utf8proc_int32_t parts[MAX_EXPANSION];
    int boundary = 0, bad = 0;
    int options = UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | (flags & DPS_FOLD_CASE ? UTF8PROC_CASEFOLD : 0) |
                  (flags & DPS_FOLD_MARKS ? UTF8PROC_STRIPMARK : 0);
    utf8proc_ssize_t n = utf8proc_decompose_char (c, parts, MAX_EXPANSION, (utf8proc_option_t)options, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < MAX_EXPANSION && !bad; i++) {
        char bytes[4];
        bad = dps_buf_add (out, bytes, dps_utf8_encode ((uint32_t)parts[i], bytes));
    }
    return bad;
}

int dps_fold (DpsStr text, unsigned flags, DpsBuf *out)
{
    size_t start = out->len;
    int pending = 0, bad = dps_buf_add (out, "", 0);
    for (size_t at = 0; at < text.len && !bad;) {
        size_t len = dps_utf8_sequence (text.ptr + at, text.len - at);
        utf8proc_int32_t c = -1;
        if (len)
            utf8proc_iterate ((const utf8proc_uint8_t *)text.ptr + at, (utf8proc_ssize_t)len, &c);
        if (c >= 0 && (((flags & DPS_FOLD_SPACES) && is_space (c)) || ((flags & DPS_FOLD_PUNCTUATION) && is_punctuation (c)))) {
            pending = 1;
            at += len;
            continue;
        }
        if (pending && (out->len > start || !(flags & DPS_FOLD_SPACES)))
            bad = dps_buf_add (out, " ", 1);
        pending = 0;
        bad = bad || (c >= 0 ? put_folded (c, flags, out) : dps_buf_add (out, text.ptr + at, 1));
        at += len ? len : 1;
    }
    return bad ? -1 : 0;
}

static int is_letter (const char *s, size_t len)
{
    utf8proc_int32_t c = -1;
    if (!dps_utf8_sequence (s, len) || utf8proc_iterate ((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)len, &c) <= 0)
        return 0;
    utf8proc_category_t k = utf8proc_category (c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO;
}

/* Is the character that ends before text[at] a letter, mark or digit? */
static int follows_letter (DpsStr text, size_t at)
{
    size_t before = at;
    do {
        if (before == 0)
            return 0;
        before--;
    } while (at - before < 4 && ((unsigned char)text.ptr[before] & 0xc0) == 0x80);
    return is_letter (text.ptr + before, text.len - before);
}

int dps_has_word (DpsStr text, DpsStr word, int whole)
{
    for (size_t at = 0; word.len && at + word.len <= text.len;) {
        const char *hit = memmem (text.ptr + at, text.len - at, word.ptr, word.len);
        if (!hit)
            return 0;
        at = (size_t)(hit - text.ptr);
        size_t end = at + word.len;
        int before = follows_letter (text, at), behind = end < text.len && is_letter (text.ptr + end, text.len - end);
        if (!whole || (!before && !behind))
            return 1;
        at++; /* no word begins within a word: go to where this one ends */
        while (at < text.len && follows_letter (text, at))
            at++;
    }
    return 0;
}
