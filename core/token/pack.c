/* SPDX-License-Identifier: Apache-2.0 */
#include "token/pack.h"

#include "base/mem.h"

/* Places with r free tokens form a list; a bitmap tree over r finds the smallest r ≥ wanted. */
typedef struct Free {
    uint32_t capacity;
    uint32_t *heads;   /* [capacity + 1] place, or NONE */
    uint32_t *next;    /* [places] */
    uint64_t *bits[6]; /* level 0: one bit per r; each level above: one bit per word below */
    int levels;
} Free;

static const uint32_t NONE = UINT32_MAX;

static void set_bit (Free *f, uint32_t r)
{
    for (int k = 0; k < f->levels; k++, r >>= 6)
        f->bits[k][r >> 6] |= (uint64_t)1 << (r & 63);
}

static void clear_bit (Free *f, uint32_t r)
{
    for (int k = 0; k < f->levels; k++, r >>= 6) {
        f->bits[k][r >> 6] &= ~((uint64_t)1 << (r & 63));
        if (f->bits[k][r >> 6])
            return;
    }
}

/* The smallest set r ≥ wanted, or NONE. */
static uint32_t find (const Free *f, uint32_t wanted)
{
    uint32_t r = wanted;
    for (int k = 0; k < f->levels; k++) {
        uint64_t word = (r >> 6) < ((f->capacity >> (6 * k)) >> 6) + 1 ? f->bits[k][r >> 6] >> (r & 63) << (r & 63) : 0;
        if (word) {
            r = (r & ~(uint32_t)63) | (uint32_t)__builtin_ctzll (word);
            while (k-- > 0)
                r = r << 6 | (uint32_t)__builtin_ctzll (f->bits[k][r]);
            return r;
        }
        r = (r >> 6) + 1;
    }
    return NONE;
}

static void push (Free *f, uint32_t place, uint32_t r)
{
    f->next[place] = f->heads[r];
    f->heads[r] = place;
    set_bit (f, r);
}

static uint32_t pop (Free *f, uint32_t r)
{
    uint32_t place = f->heads[r];
    f->heads[r] = f->next[place];
    if (f->heads[r] == NONE)
        clear_bit (f, r);
    return place;
}

static int make (Free *f, uint32_t capacity, size_t n)
{
    *f = (Free){
        .capacity = capacity, .heads = dps_malloc ((size_t)capacity + 1, sizeof *f->heads), .next = dps_malloc (n + 1, sizeof *f->next)};
    for (uint64_t words = capacity; f->levels < 6; words = (words >> 6)) {
        f->bits[f->levels] = dps_calloc ((words >> 6) + 1, sizeof *f->bits[0]);
        if (!f->bits[f->levels++])
            return -1;
        if (words < 64)
            break;
    }
    for (uint64_t r = 0; f->heads && r <= capacity; r++)
        f->heads[r] = NONE;
    return f->heads && f->next ? 0 : -1;
}

static void release (Free *f)
{
    for (int k = 0; k < f->levels; k++)
        dps_free (f->bits[k]);
    dps_free (f->heads);
    dps_free (f->next);
}

/* Indices by falling length, stable: counted, not compared. Longer ones count as the capacity. */
static int order_by_length (const uint32_t *lengths, size_t n, uint32_t capacity, size_t *out)
{
    size_t *counts = dps_calloc ((size_t)capacity + 2, sizeof *counts);
    if (!counts)
        return -1;
    for (size_t i = 0; i < n; i++)
        counts[capacity - (lengths[i] < capacity ? lengths[i] : capacity) + 1]++;
    for (size_t k = 1; k <= capacity; k++)
        counts[k] += counts[k - 1];
    for (size_t i = 0; i < n; i++)
        out[counts[capacity - (lengths[i] < capacity ? lengths[i] : capacity)]++] = i;
    dps_free (counts);
    return 0;
}

DpsStatus dps_pack_bfd (const uint32_t *lengths, size_t n, uint32_t capacity, uint32_t *out_bin, size_t *out_n_bins, DpsError *err)
{
    Free f;
    size_t *order = dps_malloc (n ? n : 1, sizeof *order);
    int bad = make (&f, capacity, n) || !order || order_by_length (lengths, n, capacity, order);
    *out_n_bins = 0;
    for (size_t i = 0; i < n && !bad; i++) {
        uint32_t len = lengths[order[i]], fits = len < capacity ? len : capacity, room = find (&f, fits);
        uint32_t place = room == NONE ? (uint32_t)(*out_n_bins)++ : pop (&f, room);
        out_bin[order[i]] = place;
        push (&f, place, (room == NONE ? capacity : room) - fits);
    }
    release (&f);
    dps_free (order);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "packing: out of memory") : DPS_OK;
}
