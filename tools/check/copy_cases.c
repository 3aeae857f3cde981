/* SPDX-License-Identifier: Apache-2.0 */
#include "check/copy_cases.h"

#include <string.h>

#include "base/mem.h"

/* The whole of a buffer, as bytes. */
static DpsStatus bytes_of (Kit *k, struct DpsBuffer *buffer, void *host, int to_device, void *bytes, int64_t n, DpsError *err)
{
    const DpsView here = {.size = sizeof here, .dtype = DPS_DTYPE_U8, .rank = 1, .shape = &n, .host = bytes};
    DpsView there = here;
    there.buffer = buffer;
    there.host = k->info.flags & DPS_DEVICE_HOST_MEMORY ? host : NULL;
    return k->backend->copy (k->device, to_device ? &here : &there, to_device ? &there : &here, err);
}

/* Within one device, from one offset to another: the window, and nothing beside it. */
static DpsStatus copied_inside (Kit *k, uint32_t dtype, int64_t rows, int64_t cols, DpsError *err)
{
    const size_t item = kit_item (dtype), bytes = (size_t)(rows * cols) * item, from_at = 5 * item, to_at = 3 * item,
                 room = bytes + 8 * item;
    const int64_t shape[] = {rows, cols};
    unsigned char *from = dps_malloc (room, 1), *to = dps_malloc (room, 1);
    struct DpsBuffer *a = NULL, *b = NULL;
    void *a_host = NULL, *b_host = NULL;
    DpsStatus st = from && to ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK)
        st = k->backend->alloc (k->device, room, &a, &a_host, err);
    if (st == DPS_OK)
        st = k->backend->alloc (k->device, room, &b, &b_host, err);
    for (size_t i = 0; st == DPS_OK && i < room; i++) {
        from[i] = (unsigned char)(i % 97 + 1);
        to[i] = 0xEE;
    }
    int shared = (k->info.flags & DPS_DEVICE_HOST_MEMORY) != 0;
    const DpsView x = {.size = sizeof x,
                       .dtype = dtype,
                       .rank = 2,
                       .shape = shape,
                       .buffer = a,
                       .offset = from_at,
                       .host = shared ? (char *)a_host + from_at : NULL},
                  y = {.size = sizeof y,
                       .dtype = dtype,
                       .rank = 2,
                       .shape = shape,
                       .buffer = b,
                       .offset = to_at,
                       .host = shared ? (char *)b_host + to_at : NULL};
    if (st == DPS_OK)
        st = bytes_of (k, a, a_host, 1, from, (int64_t)room, err);
    if (st == DPS_OK)
        st = bytes_of (k, b, b_host, 1, to, (int64_t)room, err);
    if (st == DPS_OK)
        st = k->backend->copy (k->device, &x, &y, err);
    if (st == DPS_OK)
        st = bytes_of (k, b, b_host, 0, to, (int64_t)room, err);
    for (size_t i = 0; st == DPS_OK && i < room; i++)
        if (to[i] != (i >= to_at && i < to_at + bytes ? from[from_at + i - to_at] : 0xEE))
            st = dps_fail (err, DPS_ERR_INVALID,
                           "copy of %lldx%lld %s from byte %zu of a buffer to byte %zu of another: byte %zu there is wrong",
                           (long long)rows, (long long)cols, dps_dtype_name (dtype), from_at, to_at, i);
    k->backend->free (k->device, a);
    k->backend->free (k->device, b);
    dps_free (from);
    dps_free (to);
    return st;
}

/* There and back in every dtype at awkward sizes and offsets: the same bytes. */
static DpsStatus one_copy (Kit *k, uint32_t dtype, int64_t n, int64_t skip, DpsError *err)
{
    const size_t item = kit_item (dtype), bytes = (size_t)n * item, first = (size_t)skip * item, room = 2 * first + bytes;
    unsigned char *there = dps_malloc (bytes + 1, 1), *back = dps_malloc (bytes + 1, 1);
    struct DpsBuffer *buffer = NULL;
    void *host = NULL;
    DpsStatus st = there && back ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK)
        st = k->backend->alloc (k->device, room, &buffer, &host, err);
    for (size_t b = 0; st == DPS_OK && b < bytes; b++) {
        there[b] = (unsigned char)(b * 7 + 1);
        back[b] = 0;
    }
    /* numbers that every float dtype has, so that a backend may go through registers of that dtype: bytes of one sign and exponent */
    DpsView from = {.size = sizeof from, .dtype = dtype, .rank = 1, .shape = &n, .host = there}, to = from;
    to.buffer = buffer;
    to.offset = first;
    to.host = host && k->info.flags & DPS_DEVICE_HOST_MEMORY ? (char *)host + first : NULL;
    if (st == DPS_OK)
        st = k->backend->copy (k->device, &from, &to, err);
    from.host = back;
    if (st == DPS_OK)
        st = k->backend->copy (k->device, &to, &from, err);
    if (st == DPS_OK && bytes && memcmp (there, back, bytes) != 0)
        st = dps_fail (err, DPS_ERR_INVALID, "copy of %lld %s to the device and back gives other bytes", (long long)n,
                       dps_dtype_name (dtype));
    if (buffer)
        k->backend->free (k->device, buffer);
    dps_free (there);
    dps_free (back);
    return st;
}

DpsStatus copy_cases (Kit *k, DpsError *err)
{
    static const uint32_t dtypes[] = {F32, BF16, F16, F64, I32, DPS_DTYPE_I64, DPS_DTYPE_U8, DPS_DTYPE_I8, DPS_DTYPE_I16, DPS_DTYPE_BOOL};
    for (size_t t = 0; t < sizeof dtypes / sizeof *dtypes; t++)
        for (int i = 0; i < KIT_SIZES; i++)
            for (int64_t skip = 0; skip < 4; skip += 3)
                DPS_TRY (one_copy (k, dtypes[t], kit_sizes[i], skip, err));
    for (size_t t = 0; t < sizeof dtypes / sizeof *dtypes; t++)
        for (int i = 0; i < KIT_SIZES; i++)
            DPS_TRY (copied_inside (k, dtypes[t], 1 + i % 3, kit_sizes[i], err));
    k->n_compared++;
    KitArray *a = kit_normals (k, F32, 4, -1, 1), *b = kit_array (k, F32, 3, -1);
    DPS_TRY (kit_upload (k, &(KitCall){.name = "copy", .in = {a, b}}, err));
    if (k->backend->copy (k->device, &a->view, &b->view, err) == DPS_OK)
        return dps_fail (err, DPS_ERR_INVALID, "copy of 4 numbers into a window of 3 was done, expected SHAPE");
    return DPS_OK;
}
