/* SPDX-License-Identifier: Apache-2.0 */
#include "token/trie.h"

/* A new node in front of the list that begins at `next`; its index in *out. */
static DpsStatus add_node (DpsTrie *t, unsigned char byte, uint32_t next, uint32_t *out, DpsError *err)
{
    size_t used = t->n ? t->n : 1;
    if (used >= UINT32_MAX || DPS_GROW (t->nodes, used, t->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for added tokens");
    t->nodes[used] = (DpsTrieNode){.sibling = next, .value = -1, .byte = byte};
    t->n = used + 1;
    *out = (uint32_t)used;
    return DPS_OK;
}

static uint32_t child_of (const DpsTrie *t, uint32_t node, unsigned char byte)
{
    uint32_t child = t->nodes[node].child;
    while (child && t->nodes[child].byte != byte)
        child = t->nodes[child].sibling;
    return child;
}

DpsStatus dps_trie_add (DpsTrie *t, const char *text, size_t len, int32_t value, DpsError *err)
{
    if (len == 0 || len > DPS_TRIE_LONGEST)
        return dps_fail (err, DPS_ERR_LIMIT, "an added token of %zu bytes, expected 1 to %d", len, DPS_TRIE_LONGEST);
    unsigned char first = (unsigned char)*text;
    if (!t->root[first])
        DPS_TRY (add_node (t, first, 0, &t->root[first], err));
    uint32_t node = t->root[first];
    for (size_t i = 1; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        uint32_t child = child_of (t, node, byte);
        if (!child) {
            DPS_TRY (add_node (t, byte, t->nodes[node].child, &child, err));
            t->nodes[node].child = child;
        }
        node = child;
    }
    t->nodes[node].value = value;
    return DPS_OK;
}

void dps_trie_free (DpsTrie *t)
{
    dps_free (t->nodes);
    *t = (DpsTrie){0};
}

size_t dps_trie_match (const DpsTrie *t, const char *s, size_t len, const uint8_t *skip, int32_t *out)
{
    size_t best = 0;
    uint32_t node = len ? t->root[(unsigned char)*s] : 0;
    for (size_t i = 1; node; i++) {
        int32_t value = t->nodes[node].value;
        if (value >= 0 && !(skip && skip[value])) {
            best = i;
            *out = value;
        }
        node = i < len ? child_of (t, node, (unsigned char)s[i]) : 0;
    }
    return best;
}
