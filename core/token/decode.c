/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c: token texts → text. Each decoder maps a list of byte strings to another, as in the tokenizers library. */
#include <string.h>

#include "token/steps.h"
#include "token/utf8.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

int dps_pieces_close (DpsPieces *p)
{
    if (DPS_GROW (p->end, p->n, p->capacity))
        return -1;
    p->end[p->n++] = p->text.len;
    return 0;
}

void dps_pieces_free (DpsPieces *p)
{
    dps_buf_free (&p->text);
    dps_free (p->end);
    *p = (DpsPieces){0};
}

static const char *piece (const DpsPieces *p, size_t i, size_t *out_len)
{
    size_t start = i ? p->end[i - 1] : 0;
    *out_len = p->end[i] - start;
    return (p->text.data ? p->text.data : "") + start;
}

/* GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up, in order. */
static int is_printable (unsigned byte) { return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad); }

uint32_t dps_byte_stand_in (unsigned char byte)
{
    if (is_printable (byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    return byte < 0xad ? 0x121u + byte - 0x7f : 0x143u;
}

/* The byte, or -1. */
static int byte_of_stand_in (uint32_t c)
{
    if (c < 0x100)
        return is_printable (c) ? (int)c : -1;
    if (c <= 0x120)
        return (int)(c - 0x100);
    return c <= 0x142 ? (int)(c - 0x121 + 0x7f) : c == 0x143 ? 0xad : -1;
}

/* All pieces become one string of bytes; a piece with a character outside the alphabet stands for itself. */
static int byte_level (const DpsPieces *from, DpsPieces *to)
{
    DpsBuf bytes = {0};
    int bad = 0;
    for (size_t i = 0; i < from->n && !bad; i++) {
        size_t len, n, mark = bytes.len;
        const char *s = piece (from, i, &len);
        for (size_t at = 0; at < len && !bad; at += n) {
            int byte = byte_of_stand_in (dps_utf8_next (s + at, len - at, &n));
            if (byte < 0) {
                bytes.len = mark;
                bad = dps_buf_add (&bytes, s, len);
                break;
            }
            char c = (char)byte;
            bad = dps_buf_add (&bytes, &c, 1);
        }
    }
    bad = bad || dps_buf_add (&to->text, bytes.data, bytes.len) || dps_pieces_close (to);
    dps_buf_free (&bytes);
    return bad ? -1 : 0;
}

static int hex (char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte a text like <0x0A> stands for, or -1. */
static int byte_token (const char *s, size_t len)
{
    if (len != 6 || memcmp (s, "<0x", 3) || s[5] != '>' || hex (s[3]) < 0 || hex (s[4]) < 0)
        return -1;
    return hex (s[3]) << 4 | hex (s[4]);
}

/* Put a run of bytes as text: as SentencePiece does, each bad byte alone becomes U+FFFD; as tokenizers does, each byte of a bad run. */
static int put_bytes (DpsPieces *to, const DpsBuf *run, int keep_valid)
{
    int whole = dps_utf8_valid (run->data, run->len) == run->len, bad = 0;
    for (size_t i = 0, n; i < run->len && !bad; i += n) {
        uint32_t c = dps_utf8_next (run->data + i, run->len - i, &n);
        n = whole || keep_valid ? n : 1;
        bad = c != DPS_UTF8_INVALID && (whole || keep_valid) ? dps_buf_add (&to->text, run->data + i, n)
                                                             : dps_buf_add (&to->text, replacement, 3);
        bad = bad || (!whole && !keep_valid && dps_pieces_close (to));
    }
    return bad || ((whole || keep_valid) && run->len && dps_pieces_close (to)) ? -1 : 0;
}

static int byte_fallback (const DpsPieces *from, DpsPieces *to, int keep_valid)
{
    DpsBuf run = {0};
    int bad = 0;
    for (size_t i = 0; i < from->n && !bad; i++) {
        size_t len;
        const char *s = piece (from, i, &len);
        int byte = byte_token (s, len);
        if (byte >= 0) {
            char c = (char)byte;
            bad = dps_buf_add (&run, &c, 1);
            continue;
        }
        bad = (run.len && put_bytes (to, &run, keep_valid)) || dps_buf_add (&to->text, s, len) || dps_pieces_close (to);
        run.len = 0;
    }
    bad = bad || (run.len && put_bytes (to, &run, keep_valid));
    dps_buf_free (&run);
    return bad ? -1 : 0;
}

static DpsStatus replace (const DpsStep *step, const char *s, size_t len, DpsBuf *out, DpsError *err)
{
    DpsStep normaliser = *step;
    normaliser.kind = DPS_NORM_REPLACE;
    DpsSteps one = {.list = &normaliser, .n = 1};
    return dps_normalise (&one, s, len, out, err);
}

/* Drop up to left and right copies of the content. */
static int strip (const DpsStep *step, const char *s, size_t len, DpsBuf *out)
{
    for (uint32_t k = 0; k < step->left && len >= step->text_len && !memcmp (s, step->text, step->text_len); k++) {
        s += step->text_len;
        len -= step->text_len;
    }
    for (uint32_t k = 0; k < step->right && len >= step->text_len && !memcmp (s + len - step->text_len, step->text, step->text_len); k++)
        len -= step->text_len;
    return dps_buf_add (out, s, len);
}

/* Each mark becomes a space, or nothing in the first token (METASPACE); a word's end becomes a space, or nothing in the last (WORD_END). */
static int unmark (const DpsStep *step, const char *s, size_t len, int drop, DpsBuf *out)
{
    for (size_t i = 0; i < len;) {
        int mark = step->text_len && len - i >= step->text_len && !memcmp (s + i, step->text, step->text_len);
        if (mark ? !drop && dps_buf_add (out, " ", 1) : dps_buf_add (out, s + i, 1))
            return -1;
        i += mark ? step->text_len : 1;
    }
    return 0;
}

static DpsStatus map_pieces (const DpsStep *step, const DpsPieces *from, DpsPieces *to, DpsError *err)
{
    for (size_t i = 0; i < from->n; i++) {
        size_t len;
        const char *s = piece (from, i, &len);
        int bad = 0;
        switch (step->kind) {
        case DPS_DECODE_REPLACE: DPS_TRY (replace (step, s, len, &to->text, err)); break;
        case DPS_DECODE_STRIP: bad = strip (step, s, len, &to->text); break;
        case DPS_DECODE_METASPACE: bad = unmark (step, s, len, i == 0 && step->flag, &to->text); break;
        case DPS_DECODE_WORD_END: bad = unmark (step, s, len, i + 1 == from->n, &to->text); break;
        default: return dps_fail (err, DPS_ERR_INTERNAL, "decoder step %d", step->kind);
        }
        if (bad || dps_pieces_close (to))
            return dps_fail (err, DPS_ERR_NOMEM, "out of memory for decoded text");
    }
    return DPS_OK;
}

static DpsStatus run (const DpsStep *step, const DpsPieces *from, DpsPieces *to, DpsError *err)
{
    int bad;
    switch (step->kind) {
    case DPS_DECODE_BYTE_LEVEL: bad = byte_level (from, to); break;
    case DPS_DECODE_BYTE_FALLBACK: bad = byte_fallback (from, to, (int)step->flag); break;
    case DPS_DECODE_FUSE: bad = dps_buf_add (&to->text, from->text.data, from->text.len) || dps_pieces_close (to); break;
    default: return map_pieces (step, from, to, err);
    }
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory for decoded text") : DPS_OK;
}

DpsStatus dps_decode_pieces (const DpsSteps *steps, DpsPieces *p, DpsError *err)
{
    for (size_t i = 0; i < steps->n; i++) {
        DpsPieces next = {0};
        DpsStatus st = run (&steps->list[i], p, &next, err);
        dps_pieces_free (p);
        *p = next;
        DPS_TRY (st);
    }
    return DPS_OK;
}
