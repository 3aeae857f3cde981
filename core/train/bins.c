/* SPDX-License-Identifier: Apache-2.0 */
#include "train/bins.h"

#include <string.h>

#include "base/mem.h"
#include "token/pack.h"

enum { WINDOW = 8192 }; /* rows */

/* Room for one window. */
typedef struct Window {
    uint32_t *bins; /* [WINDOW] of each row */
    uint64_t *fill; /* [WINDOW + 1] */
} Window;

static DpsStatus fill_window (const uint32_t *tokens, uint64_t first, size_t n, uint64_t length, Window *w, DpsBins *b, DpsError *err)
{
    size_t bins;
    DPS_TRY (dps_pack_bfd (tokens + first, n, (uint32_t)length, w->bins, &bins, err));
    memset (w->fill, 0, (bins + 1) * sizeof *w->fill);
    for (size_t i = 0; i < n; i++)
        w->fill[w->bins[i] + 1]++;
    for (size_t k = 0; k < bins; k++) {
        b->starts[b->n + k] = first + w->fill[k];
        w->fill[k + 1] += w->fill[k];
    }
    for (size_t i = 0; i < n; i++)
        b->rows[first + w->fill[w->bins[i]]++] = first + i;
    b->n += bins;
    b->starts[b->n] = first + n;
    return DPS_OK;
}

DpsStatus dps_bins_make (uint64_t epoch, const uint32_t *tokens, uint64_t n_rows, uint64_t length, DpsBins *out, DpsError *err)
{
    Window w = {.bins = dps_malloc (WINDOW, sizeof *w.bins), .fill = dps_malloc (WINDOW + 1, sizeof *w.fill)};
    *out =
        (DpsBins){.epoch = epoch, .starts = dps_malloc (n_rows + 1, sizeof *out->starts), .rows = dps_malloc (n_rows, sizeof *out->rows)};
    DpsStatus st = w.bins && w.fill && out->starts && out->rows ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "packing: out of memory");
    for (uint64_t i = 0; st == DPS_OK && i < n_rows; i += WINDOW)
        st = fill_window (tokens, i, n_rows - i < WINDOW ? (size_t)(n_rows - i) : WINDOW, length, &w, out, err);
    dps_free (w.bins);
    dps_free (w.fill);
    if (st != DPS_OK)
        dps_bins_free (out);
    return st;
}

void dps_bins_free (DpsBins *b)
{
    dps_free (b->starts);
    dps_free (b->rows);
    *b = (DpsBins){0};
}
