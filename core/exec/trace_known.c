/* SPDX-License-Identifier: Apache-2.0 */
/* trace_known.c: the buffers of a run, and of which ranges in them a replay of the record so far has the contents. */
#include <string.h>

#include "exec/trace_write.h"

typedef struct Known {
    uint64_t buffer, first, end, hash;
} Known;

static struct {
    DpsTracedBuffer *buffers;
    size_t n_live, buffer_capacity;
    uint64_t n_buffers; /* ever */
    Known *known;
    size_t n_known, known_capacity;
} r;

DpsTracedBuffer *dps__traced_add (const struct DpsBuffer *handle, const void *host, uint64_t bytes)
{
    if (DPS_GROW (r.buffers, r.n_live, r.buffer_capacity))
        return NULL;
    r.buffers[r.n_live] = (DpsTracedBuffer){.handle = handle, .host = host, .bytes = bytes, .id = ++r.n_buffers};
    return &r.buffers[r.n_live++];
}

void dps__traced_drop (DpsTracedBuffer *b)
{
    dps__known_forget (b->id, 0, UINT64_MAX);
    *b = r.buffers[--r.n_live];
}

DpsTracedBuffer *dps__traced_find (const struct DpsBuffer *handle, const void *host)
{
    const char *at = host;
    for (size_t i = r.n_live; i-- > 0;) {
        DpsTracedBuffer *b = &r.buffers[i];
        if (handle ? b->handle == handle : at && b->host && at >= b->host && at < b->host + b->bytes)
            return b;
    }
    return NULL;
}

/* A view may have the host's copy of what a device's own memory holds beside it. */
uint64_t dps__traced_place (const DpsView *v, const DpsTracedBuffer *b)
{
    return v->buffer || !b->host ? v->offset : (uint64_t)((const char *)v->host - b->host);
}

void dps__known_forget (uint64_t buffer, uint64_t first, uint64_t end)
{
    size_t kept = 0;
    for (size_t i = 0; i < r.n_known; i++)
        if (r.known[i].buffer != buffer || r.known[i].end <= first || end <= r.known[i].first)
            r.known[kept++] = r.known[i];
    r.n_known = kept;
}

int dps__known_is (uint64_t buffer, uint64_t first, uint64_t end, uint64_t hash)
{
    for (size_t i = r.n_known; i-- > 0;)
        if (r.known[i].buffer == buffer && r.known[i].first == first && r.known[i].end == end)
            return r.known[i].hash == hash;
    return 0;
}

void dps__known_put (uint64_t buffer, uint64_t first, uint64_t end, uint64_t hash)
{
    dps__known_forget (buffer, first, end);
    if (DPS_GROW (r.known, r.n_known, r.known_capacity))
        return; /* it is filled once more */
    r.known[r.n_known++] = (Known){buffer, first, end, hash};
}

void dps__traced_clear (void)
{
    dps_free (r.buffers);
    dps_free (r.known);
    memset (&r, 0, sizeof r);
}
