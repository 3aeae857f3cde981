/* SPDX-License-Identifier: Apache-2.0 */
#include "train/wrap.h"

#include <string.h>

#include "base/mem.h"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "packing: out of memory"); }

DpsStatus dps_wrap_make (uint64_t epoch, const uint32_t *tokens, uint64_t n_rows, uint64_t length, DpsWrap *out, DpsError *err)
{
    uint64_t total = 0;
    *out = (DpsWrap){.epoch = epoch, .n_rows = n_rows, .length = length, .ends = dps_malloc (n_rows, sizeof *out->ends)};
    if (!out->ends)
        return no_memory (err);
    for (uint64_t k = 0; k < n_rows; k++)
        out->ends[k] = total += tokens[k];
    out->n = (total + length - 1) / length;
    if (total > 0)
        return DPS_OK;
    dps_wrap_free (out);
    return dps_fail (err, DPS_ERR_DATA, "packing: the rows have no token");
}

void dps_wrap_free (DpsWrap *w)
{
    dps_free (w->ends);
    *w = (DpsWrap){0};
}

uint64_t dps_wrap_place (const DpsWrap *w, uint64_t p, uint64_t *out_row, uint64_t *out_skip)
{
    const uint64_t first = p * w->length, left = w->ends[w->n_rows - 1] - first;
    uint64_t lo = 0, hi = w->n_rows - 1; /* the first row that ends behind `first` */
    while (lo < hi) {
        const uint64_t middle = lo + (hi - lo) / 2;
        if (w->ends[middle] > first)
            hi = middle;
        else
            lo = middle + 1;
    }
    *out_row = lo;
    *out_skip = first - (lo ? w->ends[lo - 1] : 0);
    return left < w->length ? left : w->length;
}

DpsStatus dps_wrap_append (DpsPlace *p, const DpsSequence *from, size_t skip, size_t most, DpsError *err)
{
    DpsSequence *to = p->sequences;
    const size_t room = most - to->n, n = from->n - skip < room ? from->n - skip : room;
    int32_t *ids = dps_realloc ((int32_t *)to->ids, to->n + n, sizeof *ids);
    to->ids = ids ? ids : to->ids;
    float *weights = ids ? dps_realloc ((float *)to->weights, to->n + n, sizeof *weights) : NULL;
    if (!weights)
        return no_memory (err);
    to->weights = weights;
    memcpy (ids + to->n, from->ids + skip, n * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        weights[to->n + i] = from->weights ? from->weights[skip + i] : skip + i > 0;
    to->n += n;
    return DPS_OK;
}
