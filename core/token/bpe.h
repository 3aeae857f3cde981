/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bpe.h: byte-pair encoding of one word. Pairs are joined in order of priority, leftmost first among equals, until none is left.
 *
 * Two ways to know a pair: a table of merges (tokenizer.json, GGUF "gpt2"), or any two neighbours whose joined text is a token, by that
 * token's score (SentencePiece, GGUF "llama"). Words are read as characters, or as bytes (byte-level).
 *
 * Words up to SHORT_WORD symbols are merged by scanning, longer ones with a heap: O(n log n) time, at most 68 bytes per byte of the word.
 */
#ifndef DPS_TOKEN_BPE_H
#define DPS_TOKEN_BPE_H

#include <stdatomic.h>

#include "token/tokenizer.h"
#include "token/vocab.h"

typedef struct DpsMerge {
    int32_t left, right; /* ids; left -1: empty slot */
    uint32_t rank;       /* lower joins first */
    int32_t id;          /* of the joined token */
} DpsMerge;

/** DpsBpe.unknown: the file names a token that is not there, as tokenizers takes it: an error for the text that needs it. */
enum { DPS_UNKNOWN_ABSENT = -2 };

typedef struct DpsBpe {
    const DpsVocab *vocab;
    /* Merge table, open addressing; NULL when pairs are known by score. */
    DpsMerge *merges;
    size_t mask, n_merges;
    uint32_t *rank; /* [vocab] by score: lower joins first, UINT32_MAX never joins (control, unknown, byte tokens) */
    int by_bytes;   /* byte-level */
    int byte_fallback;
    int ignore_merges; /* a word that is a token is that token */
    int fuse_unknown;
    int32_t unknown;        /* -1: characters without token are dropped; or DPS_UNKNOWN_ABSENT */
    int32_t byte_ids[256];  /* byte-level: the byte's own token; else <0xHH>; -1 missing */
    uint32_t stand_in[256]; /* byte-level: UTF-8 of the byte's stand-in, length in the top byte */
    /*
     * What is known of the vocabulary's words: 0 nothing yet, 1 encoding the token's own text gives the token, 2 it does not. Filled in
     * as words are met; every thread would write the same value.
     */
    _Atomic uint8_t *whole;
    /*
     * Pairs of neighbouring characters some token contains, a hashed bitmap (NULL: unused). Where a pair is absent no merge crosses, so a
     * long text without words (SentencePiece) is cut there: the pieces encode exactly as the whole does.
     */
    uint64_t *pairs;
} DpsBpe;

/** Growing room for the symbols of one long word; zero-initialise, free after. */
typedef struct DpsBpeScratch {
    void *symbols, *heap;
    size_t symbols_capacity, heap_capacity;
    DpsBuf text;
} DpsBpeScratch;
void dps_bpe_scratch_free (DpsBpeScratch *s);

/** Prepare for about n merges. Then add them in order of rank; a pair added twice keeps the last. `bpe->vocab` is set before. */
DpsStatus dps_bpe_reserve_merges (DpsBpe *bpe, size_t n, DpsError *err);
DpsStatus dps_bpe_add_merge (DpsBpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id, DpsError *err);
/** After vocabulary, flags and merges: fill byte_ids, whole, pairs. Errors: FORMAT when a byte-level vocabulary lacks bytes; NOMEM. */
DpsStatus dps_bpe_finish (DpsBpe *bpe, DpsError *err);
void dps_bpe_free (DpsBpe *bpe);

/** Append the ids of one word. [any], several threads at once with their own scratch. */
DpsStatus dps_bpe_encode (const DpsBpe *bpe, const char *word, size_t len, DpsBpeScratch *scratch, DpsIds *out, DpsError *err);

/** Append one id. */
DpsStatus dps_ids_add (DpsIds *ids, int32_t id, DpsError *err);

#endif
