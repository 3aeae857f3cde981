/* SPDX-License-Identifier: Apache-2.0 */
/* checked_memory.c: the allocations that the checking layer knows of, live and freed. The lock is the caller's. */
#include "base/mem.h"
#include "exec/checked.h"

enum { MAX_FREED = 4096 };

Memory *dps__checked_memory (Checked *c, const struct DpsBuffer *buffer, const void *host)
{
    for (size_t i = c->shared->n_memory; i-- > 0;) {
        Memory *m = &c->shared->memory[i];
        const char *at = host;
        if (buffer ? m->buffer == buffer : m->live && m->host && at >= m->host && at < m->host + m->bytes)
            return m;
    }
    return NULL;
}

/* The live allocation that is this buffer or has some of these bytes, NULL: none. */
static const Memory *taken (Checked *c, const struct DpsBuffer *buffer, const char *host, uint64_t bytes)
{
    for (size_t i = 0; i < c->shared->n_memory; i++) {
        const Memory *m = &c->shared->memory[i];
        if (m->live && (m->buffer == buffer || (host && m->host && host < m->host + m->bytes && m->host < host + bytes)))
            return m;
    }
    return NULL;
}

static DpsStatus remember (Checked *c, struct DpsBuffer *buffer, void *host, uint64_t bytes, DpsError *err)
{
    Memory *m = dps__checked_memory (c, buffer, NULL);
    if (!m) {
        if (DPS_GROW (c->shared->memory, c->shared->n_memory, c->shared->memory_capacity))
            return dps_fail (err, DPS_ERR_NOMEM, "validate: out of memory");
        m = &c->shared->memory[c->shared->n_memory++];
    }
    *m = (Memory){buffer, host, bytes, ++c->shared->allocs, 1, c};
    return DPS_OK;
}

DpsStatus dps__checked_take (Checked *c, struct DpsBuffer *buffer, void *host, uint64_t bytes, DpsError *err)
{
    int shares = (c->layer.below.info.flags & DPS_DEVICE_HOST_MEMORY) != 0;
    const Memory *other = buffer ? taken (c, buffer, host, bytes) : NULL;
    DpsStatus st;
    if (!buffer || (shares && bytes && !host))
        st = dps__checked_fault (c, DPS_BLAME_PLUGIN, "alloc", err, "returned no %s; expected one", buffer ? "host address" : "buffer");
    else if (other)
        return dps__checked_fault (c, DPS_BLAME_PLUGIN, "alloc", err, "gave buffer %llu again, which is in use; expected another",
                                   (unsigned long long)other->number);
    else if ((uintptr_t)host % 64)
        st = dps__checked_fault (c, DPS_BLAME_PLUGIN, "alloc", err, "host address %p; expected a multiple of 64", host);
    else
        st = remember (c, buffer, host, bytes, err);
    if (st != DPS_OK && buffer)
        c->layer.below.backend->free (c->layer.below.info.device, buffer);
    return st;
}

/* The devices of an exec number their buffers together. Old entries of freed buffers go first. */
static void forget_old (Checked *c)
{
    size_t freed = 0, kept = 0;
    for (size_t i = 0; i < c->shared->n_memory; i++)
        freed += !c->shared->memory[i].live;
    for (size_t i = 0; i < c->shared->n_memory; i++)
        if (c->shared->memory[i].live || freed <= MAX_FREED)
            c->shared->memory[kept++] = c->shared->memory[i];
        else
            freed--;
    c->shared->n_memory = kept;
}

int dps__checked_release (Checked *c, const struct DpsBuffer *buffer)
{
    Memory *m = buffer ? dps__checked_memory (c, buffer, NULL) : NULL;
    if (buffer && !m)
        dps__checked_log (c, DPS_BLAME_HOST, "free", "a buffer that this device never gave; expected one of its own");
    else if (m && !m->live)
        dps__checked_log (c, DPS_BLAME_HOST, "free", "buffer %llu is freed a second time; expected once", (unsigned long long)m->number);
    else if (m && dps__checked_in_flight (c, m))
        dps__checked_log (c, DPS_BLAME_HOST, "free",
                          "buffer %llu is freed while work on it is in a queue; expected an event after that work first",
                          (unsigned long long)m->number);
    int frees = !buffer || (m && m->live);
    if (m)
        m->live = 0;
    forget_old (c);
    return frees;
}
