/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h: reading UTF-8 that may be broken, and the character classes that tokenizers and templates ask for (Unicode 15). */
#ifndef DPS_TOKEN_UTF8_H
#define DPS_TOKEN_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/utf8.h"

/** What dps_utf8_next gives for a byte that begins no valid sequence. */
#define DPS_UTF8_INVALID 0xFFFFFFFFu

/** Classes of a code point; exactly one of the first four. */
enum {
    DPS_CLASS_OTHER = 0,
    DPS_CLASS_LETTER = 1, /* \p{L} */
    DPS_CLASS_NUMBER = 2, /* \p{N} */
    DPS_CLASS_SPACE = 3   /* White_Space */
};

/** Decode one code point of s[0..len), len ≥ 1: its length in *out_n. An invalid byte gives DPS_UTF8_INVALID and length 1. [any] */
uint32_t dps_utf8_multi (const unsigned char *s, size_t len, size_t *out_n);

static inline uint32_t dps_utf8_next (const char *s, size_t len, size_t *out_n)
{
    if ((unsigned char)*s < 0x80) {
        *out_n = 1;
        return (unsigned char)*s;
    }
    return dps_utf8_multi ((const unsigned char *)s, len, out_n);
}

/** The code point that ends at s[len), len ≥ 1, and its length. */
uint32_t dps_utf8_previous (const char *s, size_t len, size_t *out_n);
/** Offset of the first invalid byte, or len when all is valid. */
size_t dps_utf8_valid (const char *s, size_t len);
/** Append s with every maximal invalid piece replaced by U+FFFD, as WHATWG and Rust do. 0 or -1 (no memory). */
int dps_utf8_repair (DpsBuf *out, const char *s, size_t len);

int dps_utf8_class (uint32_t c);
int dps_utf8_is_space (uint32_t c);       /* White_Space */
int dps_utf8_is_word (uint32_t c);        /* letter, number, mark or connector: a regex's \w */
int dps_utf8_is_punctuation (uint32_t c); /* ASCII punctuation and symbols, or \p{P} */

#endif
