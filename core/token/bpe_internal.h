/* SPDX-License-Identifier: Apache-2.0 */
/* bpe_internal.h: the two hot look-ups bpe.c fills and bpe_encode.c reads. */
#ifndef DPS_TOKEN_BPE_INTERNAL_H
#define DPS_TOKEN_BPE_INTERNAL_H

#include "token/bpe.h"

/* 2^22 bits, 512 KiB: Gemma's 262,144 tokens hold some 250,000 different pairs. */
#define DPS__PAIR_BITS  22
#define DPS__PAIR_WORDS ((size_t)1 << (DPS__PAIR_BITS - 6))

static inline uint32_t dps__pair_hash (uint32_t a, uint32_t b) { return (a * 0x9e3779b1u ^ b * 0x85ebca77u) >> (32 - DPS__PAIR_BITS); }

static inline void dps__pair_add (uint64_t *pairs, uint32_t a, uint32_t b)
{
    uint32_t bit = dps__pair_hash (a, b);
    pairs[bit >> 6] |= (uint64_t)1 << (bit & 63);
}

static inline int dps__pair_has (const uint64_t *pairs, uint32_t a, uint32_t b)
{
    uint32_t bit = dps__pair_hash (a, b);
    return (int)(pairs[bit >> 6] >> (bit & 63) & 1);
}

/* The slot of a pair of ids, or the empty one where it belongs. */
static inline size_t dps__bpe_slot (const DpsBpe *bpe, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ bpe->vocab->seed;
    h *= 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    size_t i = (h >> 24) & bpe->mask;
    while (bpe->merges[i].left >= 0 && (bpe->merges[i].left != left || bpe->merges[i].right != right))
        i = (i + 1) & bpe->mask;
    return i;
}

#endif
