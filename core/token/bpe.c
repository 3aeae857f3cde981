/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.c: the merge table and what is derived from the vocabulary. The merging itself is in bpe_encode.c. */
#include "token/bpe.h"

#include <stdio.h>

#include "token/bpe_internal.h"
#include "token/steps.h"
#include "token/utf8.h"

DpsStatus dps_bpe_reserve_merges (DpsBpe *bpe, size_t n, DpsError *err)
{
    size_t slots = 64;
    while (slots < 2 * n && slots < (size_t)1 << 31)
        slots *= 2;
    bpe->merges = dps_malloc (slots, sizeof *bpe->merges);
    if (!bpe->merges)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for %zu merges", n);
    for (size_t i = 0; i < slots; i++)
        bpe->merges[i].left = -1;
    bpe->mask = slots - 1;
    return DPS_OK;
}

static DpsStatus grow_merges (DpsBpe *bpe, DpsError *err)
{
    DpsBpe wider = {.vocab = bpe->vocab};
    DPS_TRY (dps_bpe_reserve_merges (&wider, bpe->mask + 1, err));
    for (size_t i = 0; i <= bpe->mask; i++)
        if (bpe->merges[i].left >= 0)
            wider.merges[dps__bpe_slot (&wider, bpe->merges[i].left, bpe->merges[i].right)] = bpe->merges[i];
    dps_free (bpe->merges);
    bpe->merges = wider.merges;
    bpe->mask = wider.mask;
    return DPS_OK;
}

DpsStatus dps_bpe_add_merge (DpsBpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id, DpsError *err)
{
    if (4 * (bpe->n_merges + 1) > 3 * (bpe->mask + 1))
        DPS_TRY (grow_merges (bpe, err));
    DpsMerge *merge = &bpe->merges[dps__bpe_slot (bpe, left, right)];
    bpe->n_merges += merge->left < 0;
    *merge = (DpsMerge){.left = left, .right = right, .rank = rank, .id = id};
    return DPS_OK;
}

static DpsStatus find_bytes (DpsBpe *bpe, DpsError *err)
{
    int n_found = 0;
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        size_t len;
        if (bpe->by_bytes) {
            len = dps_utf8_encode (dps_byte_stand_in ((unsigned char)byte), text);
            bpe->stand_in[byte] = (uint32_t)len << 24 | (uint32_t)(unsigned char)text[0] | (uint32_t)(unsigned char)text[1] << 8;
        } else
            len = (size_t)snprintf (text, sizeof text, "<0x%02X>", (unsigned)byte);
        bpe->byte_ids[byte] = dps_vocab_find (bpe->vocab, text, len);
        n_found += bpe->byte_ids[byte] >= 0;
    }
    if (bpe->by_bytes && n_found == 0)
        return dps_fail (err, DPS_ERR_FORMAT, "a byte-level vocabulary in which no single byte has a token");
    return DPS_OK;
}

/* Record every pair of neighbouring characters of every token a merge can make. */
static DpsStatus find_pairs (DpsBpe *bpe, DpsError *err)
{
    bpe->pairs = dps_calloc (DPS__PAIR_WORDS, sizeof *bpe->pairs);
    if (!bpe->pairs)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for character pairs");
    for (size_t id = 0; id < bpe->vocab->n; id++) {
        size_t len = bpe->vocab->length[id], n;
        const char *text = dps_vocab_text (bpe->vocab, (int32_t)id);
        if (bpe->rank && bpe->rank[id] == UINT32_MAX)
            continue;
        uint32_t previous = 0;
        for (size_t at = 0; at < len; at += n) {
            uint32_t c = dps_utf8_next (text + at, len - at, &n);
            if (at)
                dps__pair_add (bpe->pairs, previous, c);
            previous = c;
        }
    }
    return DPS_OK;
}

DpsStatus dps_bpe_finish (DpsBpe *bpe, DpsError *err)
{
    DPS_TRY (find_bytes (bpe, err));
    bpe->whole = dps_calloc (bpe->vocab->n, 1);
    if (!bpe->whole)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for %zu tokens", bpe->vocab->n);
    int complete = bpe->byte_fallback;
    for (int byte = 0; byte < 256; byte++)
        complete = complete && bpe->byte_ids[byte] >= 0;
    /* Unknown characters may fuse across a cut: cut only where there are none, or where they do not fuse. */
    if (!bpe->by_bytes && (complete || bpe->unknown < 0 || !bpe->fuse_unknown) && !bpe->ignore_merges)
        return find_pairs (bpe, err);
    return DPS_OK;
}

void dps_bpe_free (DpsBpe *bpe)
{
    dps_free (bpe->merges);
    dps_free (bpe->rank);
    dps_free ((void *)bpe->whole);
    dps_free (bpe->pairs);
    *bpe = (DpsBpe){0};
}

void dps_bpe_scratch_free (DpsBpeScratch *s)
{
    dps_free (s->symbols);
    dps_free (s->heap);
    dps_buf_free (&s->text);
    *s = (DpsBpeScratch){0};
}

DpsStatus dps_ids_add (DpsIds *ids, int32_t id, DpsError *err)
{
    if (DPS_GROW (ids->ids, ids->n, ids->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for token ids");
    ids->ids[ids->n++] = id;
    return DPS_OK;
}
