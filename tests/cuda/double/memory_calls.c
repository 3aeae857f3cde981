/* SPDX-License-Identifier: Apache-2.0 */
/* memory_calls.c: libcuda's functions of memory: blocks of memory.c given out and taken back, copies and fills put on streams. */
#include <string.h>

#include "calls.h"
#include "work.h"

API cuMemGetInfo_v2 (size_t *available, size_t *total);
API cuMemGetInfo_v2 (size_t *available, size_t *total)
{
    ENTER (0, 1);
    *total = (size_t)1 << 34;
    *available = *total / 2;
    LEAVE (CU_OK);
}

static CuResult take (CuPointer *out, size_t bytes, BlockKind kind)
{
    if (!bytes)
        return CU_INVALID_VALUE;
    Block *b = double_block_new (bytes, kind, NULL);
    if (!b)
        return CU_OUT_OF_MEMORY;
    *out = (CuPointer)(uintptr_t)b->data;
    return CU_OK;
}

API cuMemAlloc_v2 (CuPointer *out, size_t bytes);
API cuMemAlloc_v2 (CuPointer *out, size_t bytes)
{
    ENTER (1, 1);
    LEAVE (take (out, bytes, BLOCK_DEVICE));
}

API cuMemAllocManaged (CuPointer *out, size_t bytes, unsigned int flags);
API cuMemAllocManaged (CuPointer *out, size_t bytes, unsigned int flags)
{
    ENTER (1, 1);
    LEAVE (flags != CU_ATTACH_GLOBAL || !double_has_managed () ? CU_INVALID_VALUE : take (out, bytes, BLOCK_MANAGED));
}

/* The driver would do all work first; here work that comes too late finds its memory freed. */
API cuMemFree_v2 (CuPointer p);
API cuMemFree_v2 (CuPointer p)
{
    ENTER (0, 1);
    LEAVE (double_block_free ((void *)(uintptr_t)p, BLOCK_DEVICE, 1));
}

API cuMemAdvise_v2 (CuPointer p, size_t bytes, CuAdvice advice, CuLocation where);
API cuMemAdvise_v2 (CuPointer p, size_t bytes, CuAdvice advice, CuLocation where)
{
    (void)advice, (void)where;
    ENTER (0, 1);
    LEAVE (double_holds ((void *)(uintptr_t)p, bytes, "cuMemAdvise") ? CU_OK : CU_INVALID_VALUE);
}

API cuMemHostAlloc (void **out, size_t bytes, unsigned int flags);
API cuMemHostAlloc (void **out, size_t bytes, unsigned int flags)
{
    CuPointer p = 0;
    (void)flags;
    ENTER (1, 1);
    CuResult r = take (&p, bytes, BLOCK_PINNED);
    *out = (void *)(uintptr_t)p;
    LEAVE (r);
}

API cuMemFreeHost (void *p);
API cuMemFreeHost (void *p)
{
    ENTER (0, 1);
    LEAVE (double_block_free (p, BLOCK_PINNED, 0));
}

API cuMemHostRegister_v2 (void *p, size_t bytes, unsigned int flags);
API cuMemHostRegister_v2 (void *p, size_t bytes, unsigned int flags)
{
    (void)flags;
    ENTER (1, 1);
    LEAVE (double_is_block (p) ? 712 : double_block_new (bytes, BLOCK_REGISTERED, p) ? CU_OK : CU_OUT_OF_MEMORY);
}

API cuMemHostUnregister (void *p);
API cuMemHostUnregister (void *p)
{
    ENTER (0, 1);
    LEAVE (double_block_free (p, BLOCK_REGISTERED, 0));
}

/* Copies happen when the stream gets there; what is copied from host memory is what stands there then. */
typedef struct Copy {
    void *to;
    const void *from;
    size_t bytes;
    unsigned char value;
} Copy;

static void copy_run (void *arg)
{
    const Copy *c = arg;
    memcpy (c->to, c->from, c->bytes);
}

static void fill_run (void *arg)
{
    const Copy *c = arg;
    memset (c->to, c->value, c->bytes);
}

static CuResult copy (CuStream s, void *to, const void *from, size_t bytes, int to_device, int from_device)
{
    const Copy c = {to, from, bytes, 0};
    if ((to_device && !double_holds (to, bytes, "a copy")) || (from_device && !double_holds (from, bytes, "a copy")))
        return CU_ILLEGAL_ADDRESS;
    return double_stream_add (s, copy_run, &c, sizeof c, 0);
}

API cuMemcpyHtoDAsync_v2 (CuPointer to, const void *from, size_t bytes, CuStream s);
API cuMemcpyHtoDAsync_v2 (CuPointer to, const void *from, size_t bytes, CuStream s)
{
    ENTER (0, 1);
    LEAVE (copy (s, (void *)(uintptr_t)to, from, bytes, 1, 0));
}

API cuMemcpyDtoHAsync_v2 (void *to, CuPointer from, size_t bytes, CuStream s);
API cuMemcpyDtoHAsync_v2 (void *to, CuPointer from, size_t bytes, CuStream s)
{
    ENTER (0, 1);
    LEAVE (copy (s, to, (const void *)(uintptr_t)from, bytes, 0, 1));
}

API cuMemcpyDtoDAsync_v2 (CuPointer to, CuPointer from, size_t bytes, CuStream s);
API cuMemcpyDtoDAsync_v2 (CuPointer to, CuPointer from, size_t bytes, CuStream s)
{
    ENTER (0, 1);
    LEAVE (copy (s, (void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes, 1, 1));
}

API cuMemsetD8Async (CuPointer to, unsigned char value, size_t bytes, CuStream s);
API cuMemsetD8Async (CuPointer to, unsigned char value, size_t bytes, CuStream s)
{
    const Copy c = {(void *)(uintptr_t)to, NULL, bytes, value};
    ENTER (0, 1);
    LEAVE (double_holds (c.to, bytes, "a fill") ? double_stream_add (s, fill_run, &c, sizeof c, 0) : CU_ILLEGAL_ADDRESS);
}
