/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h: the vocabulary: text of every id, id of every text. One block of bytes, one seeded open-addressing table. */
#ifndef DPS_TOKEN_VOCAB_H
#define DPS_TOKEN_VOCAB_H

#include "base/mem.h"
#include "base/status.h"

/** Kinds of token; the numbers are GGUF's. */
enum {
    DPS_TOKEN_ABSENT = 0, /* a hole between ids */
    DPS_TOKEN_NORMAL = 1,
    DPS_TOKEN_UNKNOWN = 2,
    DPS_TOKEN_CONTROL = 3,
    DPS_TOKEN_USER = 4,
    DPS_TOKEN_UNUSED = 5,
    DPS_TOKEN_BYTE = 6
};

typedef struct DpsVocab {
    DpsBuf bytes;     /* all texts, each NUL-terminated */
    uint32_t *start;  /* [n] offset into bytes */
    uint32_t *length; /* [n] in bytes, without the NUL */
    uint8_t *kind;    /* [n] DPS_TOKEN_* */
    size_t n;         /* ids are 0 … n-1 */
    size_t capacity;
    size_t n_used;   /* texts in the table */
    size_t expected; /* tokens announced to dps_vocab_init: bounds the largest id */
    uint64_t *slots; /* hash tag << 32 | id + 1; 0 is empty */
    size_t mask;     /* slots − 1, a power of two less one */
    uint64_t seed;   /* drawn when the table is made: keys come from files */
    size_t longest;  /* bytes of the longest text */
} DpsVocab;

/** Prepare for about n tokens of text_bytes in all (an upper estimate: it bounds how sparse ids may be). `v` must be all zeros. */
DpsStatus dps_vocab_init (DpsVocab *v, size_t n, size_t text_bytes, DpsError *err);
void dps_vocab_free (DpsVocab *v);
/**
 * Give `id` this text. A text seen before moves to the new id; an id seen before gets the new text (both: the last one wins).
 * Errors: LIMIT for an id that would leave most of the table empty, or 4 GiB of text; NOMEM.
 */
DpsStatus dps_vocab_set (DpsVocab *v, uint64_t id, const char *text, size_t len, int kind, DpsError *err);
/** The id of a text, or -1. */
int32_t dps_vocab_find (const DpsVocab *v, const char *text, size_t len);

static inline const char *dps_vocab_text (const DpsVocab *v, int32_t id) { return v->bytes.data + v->start[id]; }

#endif
