/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c: buffers of three kinds and of imported host memory, found again by their host address; scratch of queues; `dps.memory/1`.
 * Scratch that grows is retired, not freed: work in flight may use it, or a graph that runs again.
 */
#include <string.h>

#include "cuda.h"

enum { IMPORT_ALIGNMENT = 8 /* of the largest element: a misaligned load would lose the device */ };

/* The first buffer whose host memory begins past `at`. */
static size_t after (const struct DpsDevice *dev, uintptr_t at)
{
    size_t low = 0, high = dev->n_buffers;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)dev->buffers[middle]->host <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static DpsStatus remember (struct DpsDevice *dev, struct DpsBuffer *b, DpsError *err)
{
    pthread_mutex_lock (&dev->lock);
    int full = DPS_GROW (dev->buffers, dev->n_buffers, dev->cap_buffers);
    if (!full) {
        size_t at = after (dev, (uintptr_t)b->host);
        memmove (dev->buffers + at + 1, dev->buffers + at, (dev->n_buffers - at) * sizeof *dev->buffers);
        dev->buffers[at] = b;
        dev->n_buffers++;
    }
    pthread_mutex_unlock (&dev->lock);
    return full ? dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for the list of buffers", dev->name) : DPS_OK;
}

static void forget (struct DpsDevice *dev, const struct DpsBuffer *b)
{
    pthread_mutex_lock (&dev->lock);
    size_t at = after (dev, (uintptr_t)b->host);
    while (at > 0 && dev->buffers[at - 1] != b)
        at--;
    if (at > 0) {
        memmove (dev->buffers + at - 1, dev->buffers + at, (dev->n_buffers - at) * sizeof *dev->buffers);
        dev->n_buffers--;
    }
    pthread_mutex_unlock (&dev->lock);
}

DpsStatus cuda_locate (struct DpsDevice *dev, const void *host, uint64_t bytes, struct DpsBuffer **buffer, uint64_t *offset, DpsError *err)
{
    struct DpsBuffer *b = *buffer;
    if (!b && host) {
        pthread_mutex_lock (&dev->lock);
        size_t at = after (dev, (uintptr_t)host);
        b = at ? dev->buffers[at - 1] : NULL;
        pthread_mutex_unlock (&dev->lock);
        uint64_t from = b ? (uint64_t)((uintptr_t)host - (uintptr_t)b->host) : 0;
        if (!b || from >= b->bytes)
            return DPS_OK;
        *buffer = b;
        *offset = from;
    }
    if (b && (*offset > b->bytes || bytes > b->bytes - *offset))
        return dps_fail (err, DPS_ERR_INVALID, "%s: an operand of %llu bytes at byte %llu of a buffer of %llu", dev->name,
                         (unsigned long long)bytes, (unsigned long long)*offset, (unsigned long long)b->bytes);
    return DPS_OK;
}

/* The device prefers pages of managed memory to stay on it; that it may not listen is no error. */
static void keep_on_device (struct DpsDevice *dev, CuPointer ptr, uint64_t bytes)
{
    CuLocation device = {.type = CU_LOCATION_DEVICE, .id = dev->ordinal};
    cuda_api.cu.mem_advise (ptr, bytes, CU_ADVISE_PREFERRED, device);
}

static CuResult acquire (struct DpsDevice *dev, struct DpsBuffer *b)
{
    CuResult r;
    uint64_t bytes = b->bytes ? b->bytes : 1;
    if (b->kind == CUDA_KIND_PINNED) {
        r = cuda_api.cu.host_alloc (&b->host, bytes, CU_HOST_PORTABLE);
        b->ptr = (CuPointer)(uintptr_t)b->host; /* one address on every 64-bit system */
        return r;
    }
    if (b->kind == CUDA_KIND_DEVICE || !dev->managed)
        return cuda_api.cu.mem_alloc (&b->ptr, bytes);
    r = cuda_api.cu.mem_managed (&b->ptr, bytes, CU_ATTACH_GLOBAL);
    if (r == CU_OK) {
        b->host = (void *)(uintptr_t)b->ptr;
        keep_on_device (dev, b->ptr, bytes);
    }
    return r;
}

static void release (struct DpsBuffer *b)
{
    if (b->kind == CUDA_KIND_IMPORTED)
        cuda_api.cu.host_unregister (b->host);
    else if (b->kind == CUDA_KIND_PINNED)
        cuda_api.cu.host_free (b->host);
    else
        cuda_api.cu.mem_free (b->ptr);
}

static DpsStatus no_memory (struct DpsDevice *dev, CuResult r, uint64_t bytes, DpsError *err)
{
    DpsStatus st = cuda_check (dev, r, "a buffer", err);
    return st == DPS_OK ? st : dps_error_prefix (err, "%llu bytes", (unsigned long long)bytes);
}

DpsStatus cuda_alloc (struct DpsDevice *dev, uint32_t kind, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    if (kind >= CUDA_KINDS)
        return dps_fail (err, DPS_ERR_INVALID, "%s: there is no memory kind %u, expected 0 to %d", dev->name, kind, CUDA_KINDS - 1);
    DPS_TRY (cuda_enter (dev, err));
    struct DpsBuffer *b = dps_calloc (1, sizeof *b);
    if (!b)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for a buffer's record", dev->name);
    *b = (struct DpsBuffer){.bytes = bytes, .kind = kind};
    DpsStatus st = no_memory (dev, acquire (dev, b), bytes, err);
    if (st == DPS_OK && (st = remember (dev, b, err)) != DPS_OK)
        release (b);
    if (st != DPS_OK) {
        dps_free (b);
        return st;
    }
    *out = b;
    if (out_host)
        *out_host = b->host;
    return DPS_OK;
}

/* On a lost device the driver refuses to free; it took the memory back itself. */
void cuda_free (struct DpsDevice *dev, struct DpsBuffer *b)
{
    if (!b)
        return;
    cuda_api.cu.context_use (dev->context);
    forget (dev, b);
    release (b);
    dps_free (b);
}

DpsStatus cuda_mem_info (struct DpsDevice *dev, uint64_t *out_free, uint64_t *out_total, DpsError *err)
{
    size_t available = 0, total = 0;
    DPS_TRY (cuda_enter (dev, err));
    DPS_TRY (cuda_check (dev, cuda_api.cu.mem_info (&available, &total), "cuMemGetInfo", err));
    *out_free = available;
    *out_total = total;
    return DPS_OK;
}

/* Scratch. */

DpsStatus cuda_scratch (struct DpsQueue *q, uint32_t slot, uint64_t bytes, struct DpsBuffer **out, DpsError *err)
{
    struct DpsBuffer *b = &q->slots[slot], grown = {.bytes = (bytes + bytes / 8 + 4095) / 4096 * 4096, .kind = CUDA_KIND_DEVICE};
    *out = b;
    if (b->ptr && bytes <= b->bytes)
        return DPS_OK;
    if (DPS_GROW (q->retired, q->n_retired, q->cap_retired))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for the list of retired scratch", q->dev->name);
    if (!grown.bytes)
        grown.bytes = 4096;
    DPS_TRY (no_memory (q->dev, acquire (q->dev, &grown), grown.bytes, err));
    if (b->ptr)
        q->retired[q->n_retired++] = *b;
    *b = grown;
    return DPS_OK;
}

void cuda_scratch_trim (struct DpsQueue *q, int all)
{
    while (q->n_retired > 0)
        release (&q->retired[--q->n_retired]);
    for (int i = 0; all && i < CUDA_SLOTS; i++)
        if (q->slots[i].ptr) {
            release (&q->slots[i]);
            q->slots[i] = (struct DpsBuffer){0};
        }
    if (all) {
        dps_free (q->retired);
        q->retired = NULL;
        q->cap_retired = 0;
    }
}

/* dps.memory/1 */

static DpsStatus kind (struct DpsDevice *dev, uint32_t i, DpsMemoryKind *out, DpsError *err)
{
    static const uint32_t flags[CUDA_KINDS] = {0, 0, DPS_MEMORY_HOST_VISIBLE | DPS_MEMORY_PINNED | DPS_MEMORY_UNIFIED};
    static const char *const names[CUDA_KINDS] = {"device", "device", "pinned"};
    if (i >= CUDA_KINDS)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s has %d kinds of memory", dev->name, CUDA_KINDS);
    DpsMemoryKind k = {.size = sizeof k, .name = names[i], .flags = flags[i], .alignment = 256};
    if (i == CUDA_KIND_DEFAULT && dev->managed) {
        k.name = "managed";
        k.flags = DPS_MEMORY_HOST_VISIBLE | DPS_MEMORY_UNIFIED;
    }
    if (i != CUDA_KIND_PINNED)
        DPS_TRY (cuda_mem_info (dev, &k.free_bytes, &k.total_bytes, err));
    dps_table_copy (out, out->size < sizeof k ? out->size : sizeof k, &k);
    return DPS_OK;
}

static DpsStatus import (struct DpsDevice *dev, void *host, uint64_t bytes, uint32_t read_only, struct DpsBuffer **out, DpsError *err)
{
    DPS_TRY (cuda_enter (dev, err));
    if (!host || !bytes)
        return dps_fail (err, DPS_ERR_INVALID, "%s: nothing to import: no address or no bytes", dev->name);
    if ((uintptr_t)host % IMPORT_ALIGNMENT)
        return dps_fail (err, DPS_ERR_INVALID, "%s: memory to import begins at %p, expected a multiple of %d bytes", dev->name, host,
                         IMPORT_ALIGNMENT);
    struct DpsBuffer *b = dps_calloc (1, sizeof *b);
    if (!b)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for a buffer's record", dev->name);
    *b = (struct DpsBuffer){(CuPointer)(uintptr_t)host, host, bytes, CUDA_KIND_IMPORTED};
    unsigned int flags = CU_REGISTER_PORTABLE | (read_only ? CU_REGISTER_READ_ONLY : 0);
    DpsStatus st = cuda_check (dev, cuda_api.cu.host_register (host, bytes, flags), "host memory does not register", err);
    if (st == DPS_OK && (st = remember (dev, b, err)) != DPS_OK)
        release (b);
    if (st == DPS_OK)
        *out = b;
    else
        dps_free (b);
    return st == DPS_ERR_DEVICE && !dev->lost ? DPS_ERR_UNSUPPORTED : st;
}

static void trim (struct DpsDevice *dev)
{
    if (cuda_queue_sync (&dev->own, NULL) == DPS_OK)
        cuda_scratch_trim (&dev->own, 1);
}

const DpsMemory cuda_memory = {.size = sizeof (DpsMemory), .kind = kind, .alloc = cuda_alloc, .import = import, .trim = trim};
