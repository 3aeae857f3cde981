/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bpe_encode.c: one word → ids: cut into symbols, then the best pair is joined until none is left. Short words scan for it, long ones keep
 * a heap.
 */
#include <string.h>

#include "token/bpe_internal.h"
#include "token/utf8.h"

enum {
    SHORT_WORD = 24 /* symbols; above, the heap is faster */
};

typedef struct Symbol {
    int32_t id;
    uint32_t start, end;    /* bytes of the word */
    int32_t previous, next; /* symbols; -1: none; an id of -2 marks a symbol merged away */
} Symbol;

typedef struct Candidate {
    uint32_t rank;
    int32_t left; /* symbol */
    int32_t id;   /* of the joined token */
    uint32_t end; /* where the right symbol ended: it has changed when this differs */
} Candidate;

/* The joined token of two neighbours and its rank; 0 when they do not join. */
static inline int join (const DpsBpe *bpe, const char *word, const Symbol *a, const Symbol *b, uint32_t *rank, int32_t *id)
{
    if (bpe->merges) {
        if (a->id < 0 || b->id < 0)
            return 0;
        const DpsMerge *m = &bpe->merges[dps__bpe_slot (bpe, a->id, b->id)];
        *rank = m->rank;
        *id = m->id;
        return m->left >= 0;
    }
    *id = dps_vocab_find (bpe->vocab, word + a->start, b->end - a->start);
    if (*id < 0)
        return 0;
    *rank = bpe->rank[*id];
    return *rank != UINT32_MAX;
}

/* Merge n ≤ SHORT_WORD symbols by scanning for the best pair; returns how many are left. */
static size_t merge_short (const DpsBpe *bpe, const char *word, Symbol *s, size_t n)
{
    uint32_t rank[SHORT_WORD];
    int32_t id[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++)
        if (!join (bpe, word, &s[i], &s[i + 1], &rank[i], &id[i]))
            rank[i] = UINT32_MAX;
    for (;;) {
        size_t best = 0;
        uint32_t lowest = UINT32_MAX;
        for (size_t i = 0; i + 1 < n; i++)
            if (rank[i] < lowest) {
                lowest = rank[i];
                best = i;
            }
        if (lowest == UINT32_MAX)
            return n;
        s[best].id = id[best];
        s[best].end = s[best + 1].end;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            s[i] = s[i + 1];
            rank[i] = rank[i + 1];
            id[i] = id[i + 1];
        }
        if (best + 1 < n && !join (bpe, word, &s[best], &s[best + 1], &rank[best], &id[best]))
            rank[best] = UINT32_MAX;
        if (best > 0 && !join (bpe, word, &s[best - 1], &s[best], &rank[best - 1], &id[best - 1]))
            rank[best - 1] = UINT32_MAX;
    }
}

static inline int before (const Candidate *a, const Candidate *b) { return a->rank < b->rank || (a->rank == b->rank && a->left < b->left); }

static void sift_down (Candidate *heap, size_t n, size_t i)
{
    Candidate moving = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && before (&heap[child + 1], &heap[child]);
        if (!before (&heap[child], &moving))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

static void sift_up (Candidate *heap, size_t i)
{
    Candidate moving = heap[i];
    for (; i > 0 && before (&moving, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = moving;
}

static void push (const DpsBpe *bpe, const char *word, const Symbol *s, int32_t left, Candidate *heap, size_t *n_heap)
{
    if (left < 0 || s[left].next < 0)
        return;
    Candidate c = {.left = left, .end = s[s[left].next].end};
    if (!join (bpe, word, &s[left], &s[s[left].next], &c.rank, &c.id))
        return;
    heap[*n_heap] = c;
    sift_up (heap, (*n_heap)++);
}

/* The same for any n, with a heap of candidates; those whose symbols have changed are dropped when they surface. */
static size_t merge_long (const DpsBpe *bpe, const char *word, Symbol *s, size_t n, Candidate *heap)
{
    size_t n_heap = 0, left = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        Candidate c = {.left = (int32_t)i, .end = s[i + 1].end};
        if (join (bpe, word, &s[i], &s[i + 1], &c.rank, &c.id))
            heap[n_heap++] = c;
    }
    for (size_t i = n_heap / 2; i-- > 0;)
        sift_down (heap, n_heap, i);
    while (n_heap) {
        Candidate top = heap[0];
        heap[0] = heap[--n_heap];
        if (n_heap)
            sift_down (heap, n_heap, 0);
        Symbol *a = &s[top.left];
        if (a->id == -2 || a->next < 0 || s[a->next].end != top.end)
            continue;
        Symbol *b = &s[a->next];
        uint32_t rank;
        int32_t id; /* the left symbol may have grown meanwhile: then this pair is another one */
        if (!join (bpe, word, a, b, &rank, &id) || id != top.id || rank != top.rank)
            continue;
        a->id = top.id;
        a->end = b->end;
        a->next = b->next;
        b->id = -2;
        if (a->next >= 0)
            s[a->next].previous = top.left;
        push (bpe, word, s, a->previous, heap, &n_heap);
        push (bpe, word, s, top.left, heap, &n_heap);
    }
    for (size_t i = 0; i < n; i++)
        if (s[i].id != -2)
            s[left++] = s[i];
    return left;
}

/* One symbol per character or byte. A character without token: its bytes' tokens, or unknown, or nothing (id -1: no token yet). */
typedef struct Cutter {
    Symbol *s;
    size_t n;
    uint32_t unknown_start, unknown_end; /* a run of unknown characters not yet put; empty when equal */
} Cutter;

static inline void put (Cutter *c, int32_t id, size_t start, size_t end)
{
    c->s[c->n] =
        (Symbol){.id = id, .start = (uint32_t)start, .end = (uint32_t)end, .previous = (int32_t)c->n - 1, .next = (int32_t)c->n + 1};
    c->n++;
}

static void flush_unknown (const DpsBpe *bpe, Cutter *c)
{
    if (c->unknown_end > c->unknown_start)
        put (c, bpe->unknown, c->unknown_start, c->unknown_end);
    c->unknown_start = c->unknown_end = 0;
}

static int has_bytes (const DpsBpe *bpe, const char *s, size_t n)
{
    int all = bpe->byte_fallback;
    for (size_t i = 0; i < n; i++)
        all = all && bpe->byte_ids[(unsigned char)s[i]] >= 0;
    return all;
}

static void cut_character (const DpsBpe *bpe, const char *word, size_t at, size_t n, Cutter *c)
{
    int32_t id = dps_vocab_find (bpe->vocab, word + at, n);
    if (id >= 0 && (bpe->rank ? bpe->rank[id] == UINT32_MAX : bpe->vocab->kind[id] == DPS_TOKEN_CONTROL))
        id = -1;                /* text never becomes a control token */
    if (id >= 0 || bpe->rank) { /* by score a character without token stays whole: a token may yet contain it */
        flush_unknown (bpe, c);
        put (c, id, at, at + n);
        return;
    }
    if (has_bytes (bpe, word + at, n)) {
        for (size_t i = 0; i < n; i++)
            put (c, bpe->byte_ids[(unsigned char)word[at + i]], at + i, at + i + 1);
        return;
    }
    if (bpe->unknown == DPS_UNKNOWN_ABSENT)
        put (c, -1, at, at + n);
    if (bpe->unknown < 0)
        return;
    if (!bpe->fuse_unknown || c->unknown_end != at)
        flush_unknown (bpe, c);
    if (c->unknown_end == c->unknown_start)
        c->unknown_start = (uint32_t)at;
    c->unknown_end = (uint32_t)(at + n);
}

static size_t cut_symbols (const DpsBpe *bpe, const char *word, size_t len, Symbol *s)
{
    Cutter c = {.s = s};
    for (size_t at = 0, n; at < len; at += n) {
        if (bpe->by_bytes) {
            n = 1;
            int32_t id = bpe->byte_ids[(unsigned char)word[at]];
            if (id >= 0)
                put (&c, id, at, at + 1);
            else if (bpe->unknown != -1)
                put (&c, bpe->unknown < 0 ? -1 : bpe->unknown, at, at + 1);
        } else {
            dps_utf8_next (word + at, len - at, &n);
            cut_character (bpe, word, at, n, &c);
        }
    }
    flush_unknown (bpe, &c);
    if (c.n)
        s[c.n - 1].next = -1;
    return c.n;
}

static DpsStatus put_ids (const DpsBpe *bpe, const char *word, const Symbol *s, size_t n, DpsIds *out, DpsError *err)
{
    int unknown = 0; /* neighbours without token become one unknown */
    for (size_t i = 0; i < n; i++) {
        if (s[i].id >= 0) {
            DPS_TRY (dps_ids_add (out, s[i].id, err));
            unknown = 0;
            continue;
        }
        if (!has_bytes (bpe, word + s[i].start, s[i].end - s[i].start)) {
            if (bpe->unknown == DPS_UNKNOWN_ABSENT)
                return dps_fail (
                    err, DPS_ERR_FORMAT,
                    "'%.*s' has no token, and the tokenizer's unk_token is not in its vocabulary. Hint: is tokenizer.json the one of "
                    "this model?",
                    (int)(s[i].end - s[i].start), word + s[i].start);
            if (!unknown && bpe->unknown >= 0)
                DPS_TRY (dps_ids_add (out, bpe->unknown, err));
            unknown = 1;
            continue;
        }
        unknown = 0;
        for (uint32_t at = s[i].start; at < s[i].end; at++)
            DPS_TRY (dps_ids_add (out, bpe->byte_ids[(unsigned char)word[at]], err));
    }
    return DPS_OK;
}

static DpsStatus merge_word (const DpsBpe *bpe, const char *word, size_t len, DpsBpeScratch *scratch, DpsIds *out, DpsError *err)
{
    if (len <= SHORT_WORD) {
        Symbol s[SHORT_WORD];
        size_t n = merge_short (bpe, word, s, cut_symbols (bpe, word, len, s));
        return put_ids (bpe, word, s, n, out, err);
    }
    if (len > INT32_MAX / 4)
        return dps_fail (err, DPS_ERR_LIMIT, "a word of %zu bytes, the limit is %d", len, INT32_MAX / 4);
    if (scratch->symbols_capacity < len) {
        void *room = dps_realloc (scratch->symbols, len, sizeof (Symbol));
        scratch->symbols = room ? room : scratch->symbols;
        scratch->symbols_capacity = room ? len : scratch->symbols_capacity;
        void *heap = room ? dps_realloc (scratch->heap, 3 * len, sizeof (Candidate)) : NULL; /* n − 1 at first, two more per merge */
        scratch->heap = heap ? heap : scratch->heap;
        if (!heap) {
            scratch->symbols_capacity = 0;
            return dps_fail (err, DPS_ERR_NOMEM, "out of memory for a word of %zu bytes", len);
        }
    }
    Symbol *s = scratch->symbols;
    size_t n = cut_symbols (bpe, word, len, s);
    n = n <= SHORT_WORD ? merge_short (bpe, word, s, n) : merge_long (bpe, word, s, n, scratch->heap);
    return put_ids (bpe, word, s, n, out, err);
}

/* The id of the token whose text is this word, or -1. */
static int32_t find_word (const DpsBpe *bpe, const char *word, size_t len)
{
    if (!bpe->by_bytes)
        return dps_vocab_find (bpe->vocab, word, len);
    char text[256];
    size_t n = 0;
    if (len > sizeof text / 2 || len > bpe->vocab->longest)
        return -1;
    for (size_t i = 0; i < len; i++) {
        uint32_t stand_in = bpe->stand_in[(unsigned char)word[i]];
        text[n] = (char)stand_in;
        text[n + 1] = (char)(stand_in >> 8);
        n += stand_in >> 24;
    }
    return dps_vocab_find (bpe->vocab, text, n);
}

/* A word the vocabulary holds is that token when merging makes it so: learnt once per token. */
static DpsStatus encode_word (const DpsBpe *bpe, const char *word, size_t len, DpsBpeScratch *scratch, DpsIds *out, DpsError *err)
{
    int32_t id = find_word (bpe, word, len);
    if (id < 0)
        return merge_word (bpe, word, len, scratch, out, err);
    int kind = bpe->vocab->kind[id];
    uint8_t known = atomic_load_explicit (&bpe->whole[id], memory_order_relaxed);
    if (known == 1 || (bpe->ignore_merges && kind != DPS_TOKEN_CONTROL && kind != DPS_TOKEN_UNKNOWN))
        return dps_ids_add (out, id, err);
    size_t first = out->n;
    DPS_TRY (merge_word (bpe, word, len, scratch, out, err));
    if (known == 0)
        atomic_store_explicit (&bpe->whole[id], out->n == first + 1 && out->ids[first] == id ? 1 : 2, memory_order_relaxed);
    return DPS_OK;
}

DpsStatus dps_bpe_encode (const DpsBpe *bpe, const char *word, size_t len, DpsBpeScratch *scratch, DpsIds *out, DpsError *err)
{
    if (!bpe->pairs)
        return encode_word (bpe, word, len, scratch, out, err);
    size_t start = 0, n;
    uint32_t previous = 0;
    for (size_t at = 0; at < len; at += n) {
        uint32_t c = dps_utf8_next (word + at, len - at, &n);
        if (at > start && !dps__pair_has (bpe->pairs, previous, c)) {
            DPS_TRY (encode_word (bpe, word + start, at - start, scratch, out, err));
            start = at;
        }
        previous = c;
    }
    return start < len ? encode_word (bpe, word + start, len - start, scratch, out, err) : DPS_OK;
}
