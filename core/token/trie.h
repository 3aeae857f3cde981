/* SPDX-License-Identifier: Apache-2.0 */
/* trie.h: finds added tokens in text: at each place the longest one, places from left to right. */
#ifndef DPS_TOKEN_TRIE_H
#define DPS_TOKEN_TRIE_H

#include "base/mem.h"
#include "base/status.h"

/** Longest added token, bytes: it bounds the work per byte of text. */
#define DPS_TRIE_LONGEST 1024

typedef struct DpsTrieNode {
    uint32_t child;   /* first child, 0: none */
    uint32_t sibling; /* next child of the same parent, 0: none */
    int32_t value;    /* what ends here, -1: nothing */
    unsigned char byte;
} DpsTrieNode;

typedef struct DpsTrie {
    DpsTrieNode *nodes; /* [0] is unused */
    size_t n, capacity;
    uint32_t root[256]; /* node of each first byte, 0: none */
} DpsTrie;

/** Add a non-empty text; a second value for the same text replaces the first. `t` starts as all zeros. Errors: LIMIT, NOMEM. */
DpsStatus dps_trie_add (DpsTrie *t, const char *text, size_t len, int32_t value, DpsError *err);
void dps_trie_free (DpsTrie *t);

/**
 * The longest entry at exactly s[0..len) whose `skip[value]` is 0 (skip NULL: every entry). Returns its length in bytes, 0 when there is
 * none; the value in *out.
 */
size_t dps_trie_match (const DpsTrie *t, const char *s, size_t len, const uint8_t *skip, int32_t *out);

#endif
