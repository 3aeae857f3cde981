/* SPDX-License-Identifier: Apache-2.0 */
/* kit.c: arrays in the memory of the device under test. */
#include "check/kit.h"

#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "exec/operands.h"

const int64_t kit_sizes[] = {0, 1, 3, 7, 16, 17, 31, 255, 257};
const int64_t kit_row_counts[] = {0, 1, 3, 17};

size_t kit_item (uint32_t dtype)
{
    uint64_t bytes = dps_dtype_bytes (dtype);
    return bytes ? (size_t)bytes : 1;
}

/* Memory of the device, and the host's image of it. */
static int allocate (Kit *k, KitArray *a)
{
    void *host = NULL;
    DpsError err = DPS_ERROR_INIT;
    if (!k->host_only && k->backend->alloc (k->device, a->bytes, &a->buffer, &host, &err) != DPS_OK)
        return -1;
    a->mirrored = !host || !(k->info.flags & DPS_DEVICE_HOST_MEMORY);
    a->room = a->mirrored ? dps_aligned_alloc (64, a->bytes, 1) : host;
    a->before = dps_malloc (a->bytes, 1);
    if (!a->room || !a->before)
        return -1;
    memset (a->room, KIT_BYTE, a->bytes);
    return 0;
}

static void release (Kit *k, KitArray *a)
{
    if (a->buffer)
        k->backend->free (k->device, a->buffer);
    if (a->mirrored)
        dps_free (a->room);
    dps_free (a->before);
    dps_free (a);
}

/* An array whose shape is set; `gap` elements between rows, the first element at a multiple of `align` bytes plus `skew`. */
static KitArray *make (Kit *k, const KitArray *like, int64_t gap, size_t align, size_t skew)
{
    KitArray *a = dps_copy (like, 1, sizeof *like);
    int64_t pitch = 1;
    if (!a) {
        k->failed_alloc = 1;
        return NULL;
    }
    a->n = 1;
    for (uint32_t i = 0; i < a->view.rank; i++)
        a->n *= a->shape[i];
    for (uint32_t i = a->view.rank; i-- > 0;) {
        a->stride[i] = pitch;
        pitch *= a->shape[i];
        if (i + 1 == a->view.rank)
            pitch += gap;
    }
    a->span =
        a->n ? (size_t)((a->view.rank ? a->shape[0] : 1) * (a->view.rank ? a->stride[0] : 1) - (a->view.rank > 1 ? gap : 0)) * a->item : 0;
    a->first = (KIT_GUARD + align - 1) / align * align + skew;
    a->bytes = (a->first + a->span + KIT_GUARD + 63) / 64 * 64;
    a->view.size = sizeof a->view;
    a->view.shape = a->shape;
    a->view.stride = gap ? a->stride : NULL;
    if (allocate (k, a)) {
        release (k, a);
        k->failed_alloc = 1;
        return NULL;
    }
    a->view.buffer = a->buffer;
    a->view.offset = a->first;
    a->view.host = a->mirrored && !k->host_only ? NULL : a->room + a->first;
    a->next = k->arrays;
    return k->arrays = a;
}

static KitArray *array_of (Kit *k, uint32_t dtype, int64_t rows, int64_t cols, int64_t gap)
{
    KitArray a = {.view = {.dtype = dtype, .rank = cols < 0 ? 1 : 2}, .shape = {rows, cols}, .item = kit_item (dtype)};
    return make (k, &a, cols < 0 ? 0 : gap, 64, (size_t)(++k->draws % 5) * a.item);
}

static int is_float (uint32_t dtype) { return dtype == F32 || dtype == BF16 || dtype == F16 || dtype == F64; }

KitArray *kit_array (Kit *k, uint32_t dtype, int64_t rows, int64_t cols)
{
    return array_of (k, dtype, rows, cols, k->apart && !k->host_only && is_float (dtype) ? 3 : 0);
}
KitArray *kit_array_strided (Kit *k, uint32_t dtype, int64_t rows, int64_t cols) { return array_of (k, dtype, rows, cols, 3); }

KitArray *kit_bytes (Kit *k, uint64_t bytes, size_t align)
{
    KitArray a = {.view = {.dtype = DPS_DTYPE_U8, .rank = 1}, .shape = {(int64_t)bytes}, .item = 1};
    ++k->draws;
    return make (k, &a, 0, align, 0);
}

void kit_clear (Kit *k)
{
    for (KitArray *next; k->arrays; k->arrays = next) {
        next = k->arrays->next;
        release (k, k->arrays);
    }
}

unsigned char *kit_data (const KitArray *a) { return a->room + a->first; }

/* The bytes of element i in row-major order. */
static unsigned char *element (const KitArray *a, int64_t i)
{
    int64_t at = i;
    if (a->view.stride)
        at = i / a->shape[1] * a->stride[0] + i % a->shape[1];
    return kit_data (a) + (size_t)at * a->item;
}

/* Of an element where it stands, which need not be aligned to more than its own size. */
double kit_get (const KitArray *a, int64_t i) { return dps__element (a->view.dtype, element (a, i), 0); }

void kit_put (KitArray *a, int64_t i, double v)
{
    if (a)
        dps__put_element (a->view.dtype, element (a, i), 0, v);
}

KitArray *kit_filled (Kit *k, uint32_t dtype, int64_t rows, int64_t cols, double value)
{
    KitArray *a = kit_array (k, dtype, rows, cols);
    for (int64_t i = 0; a && i < a->n; i++)
        kit_put (a, i, value);
    return a;
}

/* Sums of four uniform numbers, of variance 1: as good as normal ones here, and ten times as fast. Two of them from one draw. */
static void fill_normals (Kit *k, KitArray *a, double scale)
{
    uint64_t stream = k->draws;
    for (int64_t i = 0; a && i < a->n; i++) {
        uint32_t w[4];
        dps_philox (k->seed, stream, (uint64_t)i / 2, w);
        const uint32_t *two = w + 2 * (i % 2);
        double sum = (double)(two[0] & 0xffff) + (double)(two[0] >> 16) + (double)(two[1] & 0xffff) + (double)(two[1] >> 16);
        double x = scale * 1.7320508075688772 * (sum / 65536 - 2);
        uint16_t rounded;
        dps__put_element (BF16, &rounded, 0, x);
        kit_put (a, i, dps__element (BF16, &rounded, 0));
    }
}

KitArray *kit_normals (Kit *k, uint32_t dtype, int64_t rows, int64_t cols, double scale)
{
    KitArray *a = kit_array (k, dtype, rows, cols);
    fill_normals (k, a, scale);
    return a;
}

/* Whole numbers steer an op: the host may look at them. */
static KitArray *shown (KitArray *a)
{
    if (a)
        a->view.host = kit_data (a);
    return a;
}

KitArray *kit_indices (Kit *k, int64_t n, int64_t limit)
{
    KitArray *a = kit_array (k, DPS_DTYPE_I32, n, -1);
    uint64_t stream = k->draws;
    for (int64_t i = 0; a && i < n; i++)
        kit_put (a, i, (double)dps_rng_below (k->seed + 1, stream, (uint64_t)i, (uint64_t)limit));
    return shown (a);
}

KitArray *kit_i32s (Kit *k, int64_t n, const int32_t *values)
{
    KitArray *a = kit_array (k, DPS_DTYPE_I32, n, -1);
    for (int64_t i = 0; a && i < n; i++)
        kit_put (a, i, values[i]);
    return shown (a);
}

KitArray *kit_roots (Kit *k, int64_t n)
{
    const int32_t at[] = {0, 0, n > 0, (int32_t)(n / 2 > 1 ? n / 2 : n > 0), (int32_t)n};
    return kit_i32s (k, 5, at);
}

KitArray *kit_segments (Kit *k, int64_t n, const DpsSegment *s)
{
    size_t wide = sizeof *s + 8 * (k->draws % 2); /* the table may grow */
    KitArray *a = kit_array (k, DPS_DTYPE_U8, n, (int64_t)wide);
    for (int64_t i = 0; a && i < n; i++)
        memcpy (kit_data (a) + (size_t)i * wide, &s[i], sizeof *s);
    return shown (a);
}

KitArray *kit_copy (Kit *k, const KitArray *a)
{
    KitArray *b = !a ? NULL : kit_array (k, a->view.dtype, a->shape[0], a->view.rank == 1 ? -1 : a->shape[1]);
    for (int64_t i = 0; b && i < a->n; i++)
        memcpy (element (b, i), element (a, i), a->item);
    return b;
}

KitArray *kit_rows_of (Kit *k, const KitArray *a, int64_t first, int64_t n)
{
    int vector = a && a->view.rank == 1;
    KitArray *b = !a ? NULL : kit_array (k, a->view.dtype, n, vector ? -1 : a->shape[1]);
    int64_t row = vector ? 1 : a ? a->shape[1] : 0;
    for (int64_t i = 0; b && i < n * row; i++)
        memcpy (element (b, i), element (a, first * row + i), a->item);
    return b;
}
