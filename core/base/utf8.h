/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h: what every reader of foreign text needs to know about its bytes. Classes and decoding are in token/utf8.h. */
#ifndef DPS_BASE_UTF8_H
#define DPS_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/** Length of the valid UTF-8 sequence (RFC 3629) at s, of which `left` ≥ 1 bytes may be read; 0 when there is none. [any] */
size_t dps_utf8_sequence (const char *s, size_t left);

/** 1 when text is valid UTF-8 without control characters, those of writing direction too, so that it can be a name in a message or on a terminal. [any] */
int dps_utf8_is_plain (const char *text, size_t len);

/** Encode one code point; returns its length, 1 to 4. A surrogate or a number past U+10FFFF becomes U+FFFD. */
size_t dps_utf8_encode (uint32_t c, char out[4]);

#endif
