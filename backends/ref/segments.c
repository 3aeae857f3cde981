/* SPDX-License-Identifier: Apache-2.0 */
/* segments.c: which tokens belong together: the segment table of ops.h, checked, and the keys a query sees. */
#include "ref.h"

#include <string.h>

static int range_fits (int64_t start, int64_t len, int64_t limit)
{
    return start >= 0 && len >= 0 && start <= limit && len <= limit - start;
}

DpsStatus dps__ref_segments (DpsRefCall *c, const DpsView *view, int64_t n_q, int64_t n_kv, const DpsSegment **out, int64_t *out_n)
{
    int64_t n = view->shape[0], stride = view->shape[1];
    if (stride < (int64_t)sizeof (DpsSegment))
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref %s: segments of %lld bytes, expected at least %zu", c->name, (long long)stride,
                         sizeof (DpsSegment));
    int64_t step = view->stride ? view->stride[0] : stride;
    void *scratch;
    DPS_TRY (dps__ref_scratch_bytes (c, n, (int64_t)sizeof (DpsSegment), &scratch));
    DpsSegment *table = scratch;
    for (int64_t i = 0; i < n; i++) {
        DpsSegment *s = &table[i];
        memcpy (s, (const char *)dps__ref_data (view) + i * step, sizeof *s);
        if (!range_fits (s->q_start, s->q_len, n_q))
            return dps_fail (c->err, DPS_ERR_INVALID, "ref %s: segment %lld has queries %d+%d of %lld rows", c->name, (long long)i,
                             (int)s->q_start, (int)s->q_len, (long long)n_q);
        if (n_kv >= 0 && !range_fits (s->kv_start, s->kv_len, n_kv))
            return dps_fail (c->err, DPS_ERR_INVALID, "ref %s: segment %lld has keys %d+%d of %lld rows", c->name, (long long)i,
                             (int)s->kv_start, (int)s->kv_len, (long long)n_kv);
        if (s->position < 0 || (n_kv >= 0 && (int64_t)s->position + s->q_len < s->kv_len))
            return dps_fail (c->err, DPS_ERR_INVALID, "ref %s: segment %lld has %d keys for queries %d+%d of its sequence", c->name,
                             (long long)i, (int)s->kv_len, (int)s->position, (int)s->q_len);
        if (s->parent < -1 || s->parent >= i)
            return dps_fail (c->err, DPS_ERR_INVALID, "ref %s: segment %lld has parent %d, expected -1 or an earlier segment", c->name,
                             (long long)i, (int)s->parent);
    }
    *out = table;
    *out_n = n;
    return DPS_OK;
}

/* Append the keys of one segment that position p sees. own: p is in this very segment. */
static int64_t add_keys (const DpsSegment *s, int own, int64_t p, int64_t window, int64_t *rows, int64_t n)
{
    int64_t first = (int64_t)s->position + s->q_len - s->kv_len; /* position of key row kv_start */
    int ahead = own && (s->flags & DPS_SEGMENT_BIDIRECTIONAL);
    for (int64_t j = 0; j < s->kv_len; j++) {
        int64_t at = first + j;
        if (at > p && !ahead)
            break;
        if (window && (at <= p - window || at >= p + window))
            continue;
        rows[n++] = s->kv_start + j;
    }
    return n;
}

int64_t dps__ref_visible (const DpsSegment *table, int64_t s, int64_t i, int64_t window, int64_t *rows)
{
    int64_t p = (int64_t)table[s].position + i, n = 0;
    /* The chain is walked from its oldest ancestor: find it again for every generation, chains are short. */
    for (int64_t below = -1; below != s;) {
        int64_t at = s;
        while (table[at].parent != below)
            at = table[at].parent;
        n = add_keys (&table[at], at == s, p, window, rows, n);
        below = at;
    }
    return n;
}
