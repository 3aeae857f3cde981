/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention.h: what attention forward and backward share.
 *
 * A unit of work is (segment, key/value head, block of 64 query positions), all query heads of that key/value head stacked. Keys come in blocks
 * of 64 *positions of the sequence*: a block is gathered from the ancestors and the segment by position, so that a shared prefix, a cache page
 * or a split prompt gives the same bits as one long sequence. Absent keys of a block are zeros under the mask.
 */
#ifndef DPS_CPU_ATTENTION_H
#define DPS_CPU_ATTENTION_H

#include "ops.h"

enum { KEYS = 64, QUERIES = 64, MAX_CHAIN = 64 };

typedef struct Attention {
    const DpsView *q, *k, *v, *segments;
    int64_t H, G, h, R; /* R = H/G query heads share a key/value head */
    int64_t hp;         /* h rounded up to 64: columns of the scratch rows */
    int64_t N, Nkv, n_segments, stride;
    float scale, softcap;
    int64_t window;
} Attention;

/** A stretch of positions and the key rows that hold it. */
typedef struct Run {
    int64_t first, n, row;
} Run;

/** Where the keys of a segment's sequence are, in position order. */
typedef struct Chain {
    Run runs[MAX_CHAIN];
    int n;
    int64_t end; /* positions [0, end) exist */
} Chain;

DpsStatus ISA_NAME (attention_open) (CpuCall *c, Attention *a, int segments_at);
DpsSegment ISA_NAME (attention_segment) (const Attention *a, int64_t s);
void ISA_NAME (attention_chain) (const Attention *a, int64_t s, Chain *out);

/** First and last key block a query at position p looks at. */
INLINE int64_t first_block (const Attention *a, int64_t p) { return a->window > 0 && p >= a->window ? (p - a->window + 1) / KEYS : 0; }

/** Key block b (positions 64b …) of head g as f32: rows (64, hp), and/or transposed (hp, 64). Rows that do not exist are zero. */
void ISA_NAME (attention_gather) (const Attention *a, const DpsView *x, const Chain *chain, int64_t g, int64_t b, float *rows,
                                  float *transposed);

/**
 * C (m, n) (+)= A (m, d) · B (d, n): n a multiple of 64; A element (i, j) is a[i·am + j·ad]; sums run over j in order.
 * add: C is added to; else it is overwritten.
 */
void ISA_NAME (gemm64) (int64_t m, int64_t n, int64_t d, const float *a, int64_t am, int64_t ad, const float *b, int64_t ldb, float *c,
                        int64_t ldc, int add);

#endif
