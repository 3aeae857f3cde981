/* SPDX-License-Identifier: Apache-2.0 */
#include "token/vocab.h"

#include <string.h>
#include <sys/random.h>

/* Nobody outside the process can guess it. */
static uint64_t new_seed (void)
{
    uint64_t seed = 0;
    if (getrandom (&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = (uint64_t)(uintptr_t)&seed; /* an early boot without entropy: the stack's address has to do */
    return seed | 1;
}

/* Both halves of a 128-bit product folded together: every input bit reaches every output bit. */
static inline uint64_t fold (uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t hash_of (uint64_t seed, const char *s, size_t len)
{
    uint64_t h = seed ^ (len * 0x9e3779b97f4a7c15u), w;
    while (len > 8) {
        memcpy (&w, s, 8);
        h = fold (h ^ w, seed ^ 0xd6e8feb86659fd93u);
        s += 8;
        len -= 8;
    }
    w = 0;
    for (size_t i = 0; i < len; i++)
        w = w << 8 | (unsigned char)s[i];
    return fold (fold (h ^ w, seed ^ 0xa0761d6478bd642fu), 0xe7037ed1a0b428dbu);
}

DpsStatus dps_vocab_init (DpsVocab *v, size_t n, size_t text_bytes, DpsError *err)
{
    size_t slots = 64;
    while (slots < 2 * n && slots < (size_t)1 << 32)
        slots *= 2;
    v->expected = n;
    v->seed = new_seed ();
    v->slots = dps_calloc (slots, sizeof *v->slots);
    v->mask = slots - 1;
    if (!v->slots || dps_buf_reserve (&v->bytes, text_bytes + n))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for a vocabulary of %zu tokens", n);
    return DPS_OK;
}

void dps_vocab_free (DpsVocab *v)
{
    dps_buf_free (&v->bytes);
    dps_free (v->start);
    dps_free (v->length);
    dps_free (v->kind);
    dps_free (v->slots);
    *v = (DpsVocab){0};
}

static inline uint64_t tag_of (uint64_t hash) { return hash & 0xffffffff00000000u; }

/* The slot that holds this text, or the empty one where it belongs. */
static size_t probe (const DpsVocab *v, uint64_t hash, const char *text, size_t len)
{
    size_t i = hash & v->mask;
    for (; v->slots[i]; i = (i + 1) & v->mask) {
        if (tag_of (v->slots[i]) != tag_of (hash))
            continue;
        uint32_t id = (uint32_t)v->slots[i] - 1;
        if (v->length[id] == len && !memcmp (v->bytes.data + v->start[id], text, len))
            break;
    }
    return i;
}

int32_t dps_vocab_find (const DpsVocab *v, const char *text, size_t len)
{
    if (len > v->longest || !v->slots)
        return -1;
    uint64_t slot = v->slots[probe (v, hash_of (v->seed, text, len), text, len)];
    return (int32_t)(uint32_t)slot - 1;
}

static DpsStatus rehash (DpsVocab *v, DpsError *err)
{
    size_t slots = 2 * (v->mask + 1);
    uint64_t *fresh = dps_calloc (slots, sizeof *fresh), *old = v->slots;
    if (!fresh)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for %zu vocabulary slots", slots);
    size_t n_old = v->mask + 1;
    v->slots = fresh;
    v->mask = slots - 1;
    for (size_t i = 0; i < n_old; i++) {
        if (!old[i])
            continue;
        uint32_t id = (uint32_t)old[i] - 1;
        uint64_t hash = hash_of (v->seed, v->bytes.data + v->start[id], v->length[id]);
        size_t at = hash & v->mask;
        while (fresh[at])
            at = (at + 1) & v->mask;
        fresh[at] = old[i];
    }
    dps_free (old);
    return DPS_OK;
}

/* Make ids 0 … id valid; holes are ABSENT. */
static DpsStatus reach (DpsVocab *v, uint64_t id, DpsError *err)
{
    if (id < v->n)
        return DPS_OK;
    uint64_t tokens = v->n_used > v->expected ? v->n_used : v->expected;
    if (id > 65536 + 8 * tokens || id > 0x7ffffffe)
        return dps_fail (err, DPS_ERR_LIMIT, "token id %llu in a vocabulary of about %llu tokens: ids must be dense and below 2^31",
                         (unsigned long long)id, (unsigned long long)tokens);
    if (id >= v->capacity) {
        size_t capacity = v->capacity ? 2 * v->capacity : 256;
        capacity = capacity <= id ? (size_t)id + 1 : capacity;
        uint32_t *start = dps_realloc (v->start, capacity, sizeof *start);
        v->start = start ? start : v->start;
        uint32_t *length = dps_realloc (v->length, capacity, sizeof *length);
        v->length = length ? length : v->length;
        uint8_t *kind = dps_realloc (v->kind, capacity, 1);
        v->kind = kind ? kind : v->kind;
        if (!start || !length || !kind)
            return dps_fail (err, DPS_ERR_NOMEM, "out of memory for %zu token ids", capacity);
        v->capacity = capacity;
    }
    for (; v->n <= id; v->n++) {
        v->start[v->n] = 0;
        v->length[v->n] = 0;
        v->kind[v->n] = DPS_TOKEN_ABSENT;
    }
    return DPS_OK;
}

DpsStatus dps_vocab_set (DpsVocab *v, uint64_t id, const char *text, size_t len, int kind, DpsError *err)
{
    DPS_TRY (reach (v, id, err));
    if (v->bytes.len + len + 1 > UINT32_MAX)
        return dps_fail (err, DPS_ERR_LIMIT, "the vocabulary's texts pass 4 GiB");
    if (4 * (v->n_used + 1) > 3 * (v->mask + 1))
        DPS_TRY (rehash (v, err));
    uint64_t hash = hash_of (v->seed, text, len);
    size_t at = probe (v, hash, text, len);
    if (v->slots[at]) { /* the text is known: only its id changes */
        uint32_t old = (uint32_t)v->slots[at] - 1;
        v->start[id] = v->start[old];
        v->length[id] = v->length[old];
    } else {
        v->start[id] = (uint32_t)v->bytes.len;
        v->length[id] = (uint32_t)len;
        if (dps_buf_add (&v->bytes, text, len) || dps_buf_add (&v->bytes, "", 1))
            return dps_fail (err, DPS_ERR_NOMEM, "out of memory for token %llu", (unsigned long long)id);
        v->n_used++;
    }
    v->kind[id] = (uint8_t)kind;
    v->slots[at] = tag_of (hash) | (uint32_t)(id + 1);
    v->longest = len > v->longest ? len : v->longest;
    return DPS_OK;
}
