/* SPDX-License-Identifier: Apache-2.0 */
#include "token/utf8.h"

#include <utf8proc.h>

/* Length of the longest prefix of s that could begin a valid sequence (≥ 1), and in *out_c its code point when it is complete. */
static size_t sequence (const unsigned char *s, size_t len, uint32_t *out_c)
{
    *out_c = DPS_UTF8_INVALID;
    unsigned char lead = s[0];
    size_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4)
        return 1;
    uint32_t c = lead & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        unsigned char low = 0x80, high = 0xbf;
        if (i == 1) { /* overlong forms, surrogates and numbers past U+10FFFF show in the second byte */
            low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
            high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        }
        if (i >= len || s[i] < low || s[i] > high)
            return i;
        c = c << 6 | (s[i] & 0x3fu);
    }
    *out_c = c;
    return n;
}

uint32_t dps_utf8_multi (const unsigned char *s, size_t len, size_t *out_n)
{
    uint32_t c = s[0];
    *out_n = 1;
    if (c < 0x80)
        return c;
    size_t n = sequence (s, len, &c);
    if (c != DPS_UTF8_INVALID)
        *out_n = n;
    return c;
}

uint32_t dps_utf8_previous (const char *s, size_t len, size_t *out_n)
{
    for (size_t n = 1; n <= 4 && n <= len; n++) {
        size_t got;
        uint32_t c = dps_utf8_next (s + len - n, n, &got);
        if (c != DPS_UTF8_INVALID && got == n) {
            *out_n = n;
            return c;
        }
    }
    *out_n = 1;
    return DPS_UTF8_INVALID;
}

size_t dps_utf8_valid (const char *s, size_t len)
{
    size_t i = 0, n;
    while (i < len && dps_utf8_next (s + i, len - i, &n) != DPS_UTF8_INVALID)
        i += n;
    return i;
}

int dps_utf8_repair (DpsBuf *out, const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t valid = dps_utf8_valid (s + i, len - i);
        if (dps_buf_add (out, s + i, valid))
            return -1;
        i += valid;
        if (i < len) {
            uint32_t c;
            i += sequence ((const unsigned char *)s + i, len - i, &c);
            if (dps_buf_str (out, "\xef\xbf\xbd"))
                return -1;
        }
    }
    return len ? 0 : dps_buf_add (out, "", 0);
}

int dps_utf8_is_space (uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* Digits of Unicode 16, which the tokenizers library knows and Debian 12's utf8proc (Unicode 15) does not. */
static int is_late_digit (uint32_t c)
{
    return (c >= 0x10d40 && c <= 0x10d49) || (c >= 0x116d0 && c <= 0x116e3) || (c >= 0x11bf0 && c <= 0x11bf9) ||
           (c >= 0x16130 && c <= 0x16139) || (c >= 0x16d70 && c <= 0x16d79) || (c >= 0x1ccf0 && c <= 0x1ccf9) ||
           (c >= 0x1e5f1 && c <= 0x1e5fa);
}

int dps_utf8_class (uint32_t c)
{
    if (c < 0x80) {
        if ((c | 0x20) - 'a' < 26)
            return DPS_CLASS_LETTER;
        if (c - '0' < 10)
            return DPS_CLASS_NUMBER;
        return dps_utf8_is_space (c) ? DPS_CLASS_SPACE : DPS_CLASS_OTHER;
    }
    if (c > 0x10ffff)
        return DPS_CLASS_OTHER;
    utf8proc_category_t category = utf8proc_category ((utf8proc_int32_t)c);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO)
        return DPS_CLASS_LETTER;
    if ((category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) || is_late_digit (c))
        return DPS_CLASS_NUMBER;
    return dps_utf8_is_space (c) ? DPS_CLASS_SPACE : DPS_CLASS_OTHER;
}

int dps_utf8_is_word (uint32_t c)
{
    if (c < 0x80)
        return (c | 0x20) - 'a' < 26 || c - '0' < 10 || c == '_';
    if (c > 0x10ffff)
        return 0;
    utf8proc_category_t category = utf8proc_category ((utf8proc_int32_t)c);
    /* Beyond the categories, as Unicode's word characters are: joiners, and symbols that are letters in a circle or a square. */
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC || c == 0x200c ||
           c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
           (c >= 0x1f170 && c <= 0x1f189);
}

int dps_utf8_is_punctuation (uint32_t c)
{
    if (c < 0x80)
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    if (c > 0x10ffff)
        return 0;
    utf8proc_category_t category = utf8proc_category ((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}
