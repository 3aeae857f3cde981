/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps.h: the pipeline around the model, flattened from tokenizer.json (or implied by GGUF): normalisers rewrite text, pre-tokenizers cut
 * it into words, decoders turn token texts back into text. Each is a list of steps, run in order.
 */
#ifndef DPS_TOKEN_STEPS_H
#define DPS_TOKEN_STEPS_H

#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "token/regex.h"

/** Most steps in one list, and deepest nesting of Sequence. */
enum { DPS_STEPS_MOST = 64, DPS_STEPS_DEPTH = 16 };

enum {
    /* normalisers */
    DPS_NORM_REPLACE = 1, /* pattern → text */
    DPS_NORM_PREPEND,     /* text, unless the input is empty */
    DPS_NORM_UNICODE,     /* flag: DPS_UNICODE_* */
    DPS_NORM_LOWER,
    DPS_NORM_STRIP, /* flag: 1 left, 2 right, 3 both */
    DPS_NORM_ACCENTS,
    DPS_NORM_SPACE_MARK, /* " " → text, fast path of REPLACE */
    /* pre-tokenizers */
    DPS_PRE_SPLIT,      /* pattern, behaviour, invert */
    DPS_PRE_SCAN,       /* flag: DPS_SCAN_*, hand-written; pieces isolated */
    DPS_PRE_DIGITS,     /* flag 1: each alone */
    DPS_PRE_METASPACE,  /* text replaces " "; flag: DPS_METASPACE_* */
    DPS_PRE_WHITESPACE, /* words and runs of others: \w+|[^\w\s]+ */
    DPS_PRE_WHITESPACE_SPLIT,
    DPS_PRE_PUNCTUATION,  /* behaviour */
    DPS_PRE_PREFIX_SPACE, /* a space in front of a piece that does not begin with one */
    /* decoders */
    DPS_DECODE_REPLACE,       /* pattern → text */
    DPS_DECODE_BYTE_FALLBACK, /* flag 1: keep what is valid of a broken run (SentencePiece); 0: the whole run becomes U+FFFD (tokenizers) */
    DPS_DECODE_FUSE,
    DPS_DECODE_STRIP, /* text, left, right */
    DPS_DECODE_BYTE_LEVEL,
    DPS_DECODE_METASPACE, /* text; flag 1: drop it from the first token */
    DPS_DECODE_WORD_END   /* text: the suffix that ends a word becomes a space (BPEDecoder) */
};

enum { DPS_UNICODE_NFC = 1, DPS_UNICODE_NFD, DPS_UNICODE_NFKC, DPS_UNICODE_NFKD };
enum { DPS_SCAN_GPT2 = 1, DPS_SCAN_LLAMA3, DPS_SCAN_QWEN2 };
enum { DPS_METASPACE_FIRST = 1, DPS_METASPACE_ALWAYS = 2, DPS_METASPACE_SPLIT = 4 };
enum { DPS_SPLIT_REMOVED = 1, DPS_SPLIT_ISOLATED, DPS_SPLIT_PREVIOUS, DPS_SPLIT_NEXT, DPS_SPLIT_CONTIGUOUS };

typedef struct DpsStep {
    int kind;
    unsigned flag;
    int behaviour; /* DPS_SPLIT_* */
    int invert;
    uint32_t left, right; /* of STRIP */
    DpsRegex *pattern;
    char *text;
    size_t text_len;
} DpsStep;

typedef struct DpsSteps {
    DpsStep *list;
    size_t n, capacity;
} DpsSteps;

/** Append a step; `text` is copied (NULL: none). The new step in *out, valid until the next append. */
DpsStatus dps_steps_add (DpsSteps *s, int kind, const char *text, size_t text_len, DpsStep **out, DpsError *err);
void dps_steps_free (DpsSteps *s);

/** Flatten one member of tokenizer.json into steps. `part` may be NULL or null. Errors name the type that is not supported. */
DpsStatus dps_steps_normalizer (json_t *part, DpsSteps *out, DpsError *err);
/** *out_byte_level is set to 1 when the words are to be read as bytes (ByteLevel). */
DpsStatus dps_steps_pretokenizer (json_t *part, DpsSteps *out, int *out_byte_level, DpsError *err);
DpsStatus dps_steps_decoder (json_t *part, DpsSteps *out, DpsError *err);

/** Rewrite s by all normaliser steps into `out` (appended; empty before). Errors: LIMIT (regular expression, growth), NOMEM. */
DpsStatus dps_normalise (const DpsSteps *steps, const char *s, size_t len, DpsBuf *out, DpsError *err);

/** Called for every word, in order. The text is valid during the call only. */
typedef DpsStatus (*DpsWordSink) (void *ctx, const char *word, size_t len, DpsError *err);
/** Cut s into words. first: s begins the input (Metaspace "first"). */
DpsStatus dps_pretokenise (const DpsSteps *steps, const char *s, size_t len, int first, DpsWordSink sink, void *ctx, DpsError *err);
/** End of the word that begins at s[at), at < len, by one of the hand-written scanners. */
size_t dps_scan_word (unsigned scanner, const char *s, size_t len, size_t at);

/** A list of byte strings in one buffer: piece i is text[end[i-1] .. end[i]). */
typedef struct DpsPieces {
    DpsBuf text;
    size_t *end;
    size_t n, capacity;
} DpsPieces;
/** End the piece that now lies at the end of p->text. 0 or -1 (no memory). */
int dps_pieces_close (DpsPieces *p);
void dps_pieces_free (DpsPieces *p);
/** Run decoder steps over token texts, in place. */
DpsStatus dps_decode_pieces (const DpsSteps *steps, DpsPieces *p, DpsError *err);

/** GPT-2's alphabet of printable stand-ins: the code point for a byte. */
uint32_t dps_byte_stand_in (unsigned char byte);

#endif
