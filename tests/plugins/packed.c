/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packed.c: the reference backend under the name "packed", on weights in layouts of its own: rows in reverse order for products, columns in reverse
 * order for input gradients. An op with a packed weight of more rows than columns is refused, so that it has to go elsewhere.
 */
#include "../../backends/ref/ref.h"

extern const DpsPluginEntry dps_ref_plugin_entry;

enum { ROWS_REVERSED = DPS_LAYOUT_PACKED + 1, COLUMNS_REVERSED };

static DpsBackend backend;

static const DpsBackend *ref (void) { return dps_ref_plugin_entry.get_interface (dps_str (DPS_BACKEND_ID)); }

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    DpsStatus st = ref ()->enumerate (i, out, err);
    if (st == DPS_OK)
        out->name = "packed";
    return st;
}

static DpsStatus query (struct DpsDevice *dev, int64_t out_features, int64_t in_features, uint32_t compute_dtype, uint32_t orientation,
                        uint64_t *out_bytes, uint32_t *out_layout, DpsError *err)
{
    (void)dev;
    if (compute_dtype != DPS_DTYPE_F32 && compute_dtype != DPS_DTYPE_BF16)
        return dps_fail (err, DPS_ERR_DTYPE, "packed: f32 and bf16 only");
    *out_bytes = (uint64_t)(out_features * in_features) * (compute_dtype == DPS_DTYPE_F32 ? 4 : 2);
    *out_layout = orientation == DPS_PACK_FORWARD ? ROWS_REVERSED : COLUMNS_REVERSED;
    return DPS_OK;
}

/* The number of element (row, column) of a packed weight. */
static int64_t place (const DpsView *w, int64_t row, int64_t column)
{
    int64_t rows = w->shape[0], columns = w->shape[1];
    return w->layout == ROWS_REVERSED ? (rows - 1 - row) * columns + column : row * columns + columns - 1 - column;
}

static DpsStatus pack (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to, DpsError *err)
{
    (void)dev;
    (void)orientation;
    (void)err;
    for (int64_t i = 0; i < from->shape[0]; i++)
        for (int64_t k = 0; k < from->shape[1]; k++)
            dps__ref_put (to, place (to, row + i, k), dps__ref_at (from, i * from->shape[1] + k));
    return DPS_OK;
}

static DpsStatus unpack_rows (struct DpsDevice *dev, const DpsView *w, const int32_t *ids, int64_t n, const DpsView *y, DpsError *err)
{
    (void)dev;
    if (w->layout != ROWS_REVERSED)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "packed: rows of a weight packed for products only");
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < w->shape[1]; k++)
            dps__ref_put (y, i * w->shape[1] + k, dps__ref_at (w, place (w, ids[i], k)));
    return DPS_OK;
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    const DpsView *in[16], *packed = NULL;
    DpsView rows;
    if (op->n_in > sizeof in / sizeof *in)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "packed: %u operands", op->n_in);
    for (uint32_t i = 0; i < op->n_in; i++) {
        int is_packed = op->in[i] && op->in[i]->layout >= DPS_LAYOUT_PACKED;
        in[i] = is_packed ? NULL : op->in[i];
        if (is_packed && !packed) {
            packed = op->in[i];
            rows = *packed;
            rows.layout = DPS_LAYOUT_ROW_MAJOR;
            in[i] = &rows;
        }
    }
    DpsOp plain = *op;
    plain.in = in;
    if (packed && packed->shape[0] > packed->shape[1])
        return dps_fail (err, DPS_ERR_SHAPE, "packed: more rows than columns");
    if (!packed || flags & DPS_RUN_DRY)
        return ref ()->run (dev, &plain, flags, err);
    rows.host = dps_malloc ((size_t)dps_view_count (packed), 4);
    for (int64_t i = 0; rows.host && i < packed->shape[0]; i++)
        for (int64_t k = 0; k < packed->shape[1]; k++)
            dps__ref_put (&rows, i * packed->shape[1] + k, dps__ref_at (packed, place (packed, i, k)));
    DpsStatus st = rows.host ? ref ()->run (dev, &plain, flags, err) : dps_fail (err, DPS_ERR_NOMEM, "packed: out of memory");
    dps_free (rows.host);
    return st;
}

static DpsStatus init (const DpsHost *theirs, const char *path, DpsError *err)
{
    backend = *ref ();
    backend.enumerate = enumerate;
    backend.run = run;
    return dps_ref_plugin_entry.init (theirs, path, err);
}

static const DpsPack pack_table = {.size = sizeof pack_table, .query = query, .pack = pack, .unpack_rows = unpack_rows};

static const void *get_interface (DpsStr id)
{
    return dps_str_is (id, DPS_BACKEND_ID) ? (const void *)&backend : dps_str_is (id, DPS_PACK_ID) ? &pack_table : NULL;
}

DPS_PLUGIN (init, NULL, get_interface);
