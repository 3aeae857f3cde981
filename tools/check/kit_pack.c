/* SPDX-License-Identifier: Apache-2.0 */
/* kit_pack.c: weights in the layouts of the backend under test. */
#include <string.h>

#include "check/kit.h"

static DpsStatus fill (Kit *k, const KitArray *w, uint32_t orientation, KitArray *p, DpsError *err)
{
    for (int64_t row = 0, piece = 64; row < w->shape[0]; row += piece, piece = piece % 192 + 64) {
        const int64_t shape[] = {w->shape[0] - row < piece ? w->shape[0] - row : piece, w->shape[1]};
        DpsView from = w->view;
        from.shape = shape;
        from.buffer = NULL;
        from.offset = 0;
        from.host = kit_data (w) + (size_t)(row * w->shape[1]) * w->item;
        DPS_TRY (k->pack->pack (k->device, &from, row, orientation, &p->view, err));
    }
    return DPS_OK;
}

/* Nothing outside the bytes that were asked for is written. */
static DpsStatus check_guards (const KitArray *p, uint64_t bytes, DpsError *err)
{
    for (size_t i = 0; i < p->bytes; i++)
        if ((i < p->first || i >= p->first + bytes) && p->room[i] != KIT_BYTE)
            return dps_fail (err, DPS_ERR_INVALID, "pack wrote %s of the %llu bytes that query asked for",
                             i < p->first ? "before the start" : "past the end", (unsigned long long)bytes);
    return DPS_OK;
}

DpsStatus kit_packed (Kit *k, KitArray *w, uint32_t orientation, KitArray **out, int *out_refused, DpsError *err)
{
    return kit_packed_as (k, w, w ? w->view.dtype : F32, orientation, out, out_refused, err);
}

/* The numbers of w in another dtype, rounded. */
static KitArray *rounded (Kit *k, KitArray *w, uint32_t dtype)
{
    if (w->view.dtype == dtype)
        return w;
    KitArray *to = kit_array (k, dtype, w->shape[0], w->shape[1]);
    for (int64_t i = 0; to && i < w->n; i++)
        kit_put (to, i, kit_get (w, i));
    return to;
}

DpsStatus kit_packed_as (Kit *k, KitArray *w, uint32_t dtype, uint32_t orientation, KitArray **out, int *out_refused, DpsError *err)
{
    uint64_t bytes = 0;
    uint32_t layout = 0;
    *out = w;
    *out_refused = 1;
    if (!w)
        return dps_fail (err, DPS_ERR_NOMEM, "no memory for a weight");
    if (!k->pack)
        return DPS_OK;
    err->msg[0] = '\0';
    DpsStatus st = k->pack->query (k->device, w->shape[0], w->shape[1], dtype, orientation, &bytes, &layout, err);
    if ((st == DPS_ERR_UNSUPPORTED || st == DPS_ERR_DTYPE) && err->msg[0])
        return DPS_OK;
    if (st != DPS_OK)
        return dps_error_prefix (err, "pack query of %lld x %lld", (long long)w->shape[0], (long long)w->shape[1]);
    if (layout < DPS_LAYOUT_PACKED)
        return dps_fail (err, DPS_ERR_INVALID, "pack query gives layout %u, expected %d or more", layout, DPS_LAYOUT_PACKED);
    KitArray *p = kit_bytes (k, bytes, 64), *plain = rounded (k, w, dtype);
    if (!p || !plain)
        return dps_fail (err, DPS_ERR_NOMEM, "no memory for a packed weight of %llu bytes", (unsigned long long)bytes);
    p->view.dtype = dtype;
    p->view.rank = 2;
    p->view.layout = layout;
    p->shape[0] = w->shape[0];
    p->shape[1] = w->shape[1];
    p->n = 0; /* its elements are nobody's to read */
    p->plain = plain;
    const KitCall moved = {.name = "pack", .in = {p}};
    DPS_TRY (kit_upload (k, &moved, err));
    if (fill (k, w, orientation, p, err) != DPS_OK)
        return dps_error_prefix (err, "packing %lld x %lld", (long long)w->shape[0], (long long)w->shape[1]);
    DPS_TRY (kit_download (k, &moved, err));
    DPS_TRY (check_guards (p, bytes, err));
    *out = p;
    *out_refused = 0;
    return DPS_OK;
}
