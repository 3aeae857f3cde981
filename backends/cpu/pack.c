/* SPDX-License-Identifier: Apache-2.0 */
/* pack.c: weights in the layouts that products want (product.h), panel by panel, written and read through tables of offsets. */
#include "pack.h"

#include <string.h>

enum { LAYOUT_FORWARD = DPS_LAYOUT_PACKED, LAYOUT_INPUT_GRAD = DPS_LAYOUT_PACKED + 1, BLOCK = 64, QUANT_ROWS = 16 };

int cpu_is_packed (const DpsView *w) { return w && w->layout >= DPS_LAYOUT_PACKED; }

int64_t cpu_block_rows (int64_t O) { return O <= CPU_WHOLE_ROWS ? O : CPU_HEAD_ROWS; }

int64_t cpu_forward_panel (int64_t O) { return O <= CPU_WHOLE_ROWS ? CPU_PANEL : CPU_HEAD_ROWS; }
int64_t cpu_grad_panel (int64_t O, int64_t I) { return O <= CPU_WHOLE_ROWS ? CPU_PANEL : I; }

static uint64_t aligned (uint64_t bytes) { return (bytes + 63) / 64 * 64; }
static int64_t at_most (int64_t a, int64_t b) { return a < b ? a : b; }

/* Bytes of a whole panel of B (K, …) and of all panels of N columns. */
static DpsStatus panel_bytes (int64_t K, int64_t N, int64_t width, uint32_t dtype, uint64_t *out_panel, uint64_t *out_all, DpsError *err)
{
    const CpuLayout *full = NULL, *last;
    int64_t panels = (N + width - 1) / width;
    if (panels > 1)
        DPS_TRY (cpu_layout (K, width, dtype, &full, err));
    DPS_TRY (cpu_layout (K, N - (panels - 1) * width, dtype, &last, err));
    *out_panel = full ? aligned (full->bytes) : 0;
    *out_all = (uint64_t)(panels - 1) * *out_panel + aligned (last->bytes);
    return DPS_OK;
}

DpsStatus cpu_forward_panels (int64_t O, int64_t I, uint32_t dtype, int64_t first, CpuPanels *out, DpsError *err)
{
    uint64_t all;
    DPS_TRY (panel_bytes (I, O, cpu_forward_panel (O), dtype, &out->panel_bytes, &all, err));
    out->base = (uint64_t)(first / cpu_forward_panel (O)) * out->panel_bytes;
    return DPS_OK;
}

DpsStatus cpu_grad_panels (int64_t O, int64_t I, uint32_t dtype, int64_t first, CpuPanels *out, DpsError *err)
{
    int64_t rows = cpu_block_rows (O);
    uint64_t block = 0, all;
    if (first > 0)
        DPS_TRY (panel_bytes (rows, I, cpu_grad_panel (O, I), dtype, &out->panel_bytes, &block, err));
    DPS_TRY (panel_bytes (at_most (O - first, rows), I, cpu_grad_panel (O, I), dtype, &out->panel_bytes, &all, err));
    out->base = (uint64_t)(first / rows) * block;
    return DPS_OK;
}

static DpsStatus packed_bytes (int64_t O, int64_t I, uint32_t dtype, uint32_t orientation, uint64_t *out, DpsError *err)
{
    uint64_t panel, block, last;
    if (orientation == DPS_PACK_FORWARD)
        return panel_bytes (I, O, cpu_forward_panel (O), dtype, &panel, out, err);
    int64_t rows = cpu_block_rows (O), blocks = (O + rows - 1) / rows;
    DPS_TRY (panel_bytes (rows, I, cpu_grad_panel (O, I), dtype, &panel, &block, err));
    DPS_TRY (panel_bytes (O - (blocks - 1) * rows, I, cpu_grad_panel (O, I), dtype, &panel, &last, err));
    *out = (uint64_t)(blocks - 1) * block + last;
    return DPS_OK;
}

static DpsStatus query (struct DpsDevice *dev, int64_t out_features, int64_t in_features, uint32_t compute_dtype, uint32_t orientation,
                        uint64_t *out_bytes, uint32_t *out_layout, DpsError *err)
{
    (void)dev;
    if (out_features <= 0 || in_features <= 0)
        return dps_fail (err, DPS_ERR_SHAPE, "cpu: an empty weight is not packed");
    if (compute_dtype != DPS_DTYPE_BF16 && compute_dtype != DPS_DTYPE_F32)
        return dps_fail (err, DPS_ERR_DTYPE, "cpu: matrix products are in f32 or bf16");
    if (orientation > DPS_PACK_INPUT_GRAD)
        return dps_fail (err, DPS_ERR_INVALID, "cpu: orientation %u is unknown", orientation);
    *out_layout = orientation == DPS_PACK_FORWARD ? LAYOUT_FORWARD : LAYOUT_INPUT_GRAD;
    return packed_bytes (out_features, in_features, compute_dtype, orientation, out_bytes, err);
}

static uint16_t to_bf16 (float f)
{
    uint32_t u;
    memcpy (&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float value_at (const DpsView *v, int64_t i)
{
    if (v->dtype == DPS_DTYPE_F32)
        return ((const float *)v->host)[i];
    uint32_t u = (uint32_t)((const uint16_t *)v->host)[i] << 16;
    float f;
    memcpy (&f, &u, 4);
    return f;
}

/* Row `row` of a weight, from column `column` on, of an f32 or bf16 matrix. */
static const char *element (const DpsView *v, int64_t row, int64_t column)
{
    return (const char *)v->host + (row * v->shape[1] + column) * (v->dtype == DPS_DTYPE_BF16 ? 2 : 4);
}

/* Rows [row, row + n) of a weight, which from's rows `skip` … are, into one FORWARD panel that begins at row `first`. */
static DpsStatus pack_forward (const DpsView *from, int64_t skip, int64_t row, int64_t n, const DpsView *to, DpsError *err)
{
    int64_t O = to->shape[0], I = to->shape[1], panel = cpu_forward_panel (O), first = row / panel * panel,
            width = at_most (O - first, panel);
    const CpuLayout *l;
    CpuPanels p;
    DPS_TRY (cpu_forward_panels (O, I, to->dtype, first, &p, err));
    DPS_TRY (cpu_layout (I, width, to->dtype, &l, err));
    cpu_machine ()->vector->repack (&(CpuRectangle){.from = element (from, skip, 0),
                                                    .ld = I,
                                                    .rows = n,
                                                    .columns = I,
                                                    .row_offset = l->n_offset + (row - first),
                                                    .column_offset = l->k_offset,
                                                    .panel = (char *)to->host + p.base,
                                                    .from_bf16 = from->dtype == DPS_DTYPE_BF16,
                                                    .to_bf16 = to->dtype == DPS_DTYPE_BF16,
                                                    .across = 1,
                                                    .step = l->step});
    return DPS_OK;
}

/* The same into all INPUT_GRAD panels of the block of rows; n does not leave the block. */
static DpsStatus pack_grad (const DpsView *from, int64_t skip, int64_t row, int64_t n, const DpsView *to, DpsError *err)
{
    int64_t O = to->shape[0], I = to->shape[1], rows = cpu_block_rows (O), panel = cpu_grad_panel (O, I), first = row / rows * rows;
    CpuPanels p;
    DPS_TRY (cpu_grad_panels (O, I, to->dtype, first, &p, err));
    for (int64_t column = 0; column < I; column += panel) {
        const CpuLayout *l;
        DPS_TRY (cpu_layout (at_most (O - first, rows), at_most (I - column, panel), to->dtype, &l, err));
        cpu_machine ()->vector->repack (&(CpuRectangle){.from = element (from, skip, column),
                                                        .ld = I,
                                                        .rows = n,
                                                        .columns = at_most (I - column, panel),
                                                        .row_offset = l->k_offset + (row - first),
                                                        .column_offset = l->n_offset,
                                                        .panel = (char *)to->host + p.base + (uint64_t)(column / panel) * p.panel_bytes,
                                                        .from_bf16 = from->dtype == DPS_DTYPE_BF16,
                                                        .to_bf16 = to->dtype == DPS_DTYPE_BF16,
                                                        .step = l->step});
    }
    return DPS_OK;
}

/* Padding of the panels that begin within the rows: cleared before several threads fill them. */
static DpsStatus clear_forward (int64_t row, int64_t n, const DpsView *to, DpsError *err)
{
    int64_t O = to->shape[0], I = to->shape[1], panel = cpu_forward_panel (O);
    for (int64_t first = (row + panel - 1) / panel * panel; first < row + n; first += panel) {
        const CpuLayout *l;
        CpuPanels p;
        DPS_TRY (cpu_forward_panels (O, I, to->dtype, first, &p, err));
        DPS_TRY (cpu_layout (I, at_most (O - first, panel), to->dtype, &l, err));
        if (l->padded)
            memset ((char *)to->host + p.base, 0, l->bytes);
    }
    return DPS_OK;
}

static DpsStatus clear_grad (int64_t row, int64_t n, const DpsView *to, DpsError *err)
{
    int64_t O = to->shape[0], I = to->shape[1], rows = cpu_block_rows (O), panel = cpu_grad_panel (O, I);
    for (int64_t first = (row + rows - 1) / rows * rows; first < row + n; first += rows)
        for (int64_t column = 0; column < I; column += panel) {
            const CpuLayout *l;
            CpuPanels p;
            DPS_TRY (cpu_grad_panels (O, I, to->dtype, first, &p, err));
            DPS_TRY (cpu_layout (at_most (O - first, rows), at_most (I - column, panel), to->dtype, &l, err));
            if (l->padded)
                memset ((char *)to->host + p.base + (uint64_t)(column / panel) * p.panel_bytes, 0, l->bytes);
        }
    return DPS_OK;
}

/* Layouts are looked up before threads ask for them. */
static DpsStatus warm_layouts (const DpsView *to, uint32_t orientation, DpsError *err)
{
    uint64_t bytes;
    return packed_bytes (to->shape[0], to->shape[1], to->dtype, orientation, &bytes, err);
}

/* Rows of a weight on their way into its packed form. */
typedef struct Source {
    const DpsView *rows;       /* row 0 is row `row` of the weight */
    const DpsQuantised *quant; /* the whole weight, in place of rows */
    int64_t row, n;
    float *room; /* of each thread, QUANT_ROWS rows */
} Source;

/* Rows [first, last), which do not leave a BLOCK. */
static DpsStatus pack_block (const Source *s, int64_t first, int64_t last, uint32_t orientation, const DpsView *to)
{
    DpsStatus (*into) (const DpsView *, int64_t, int64_t, int64_t, const DpsView *, DpsError *) =
        orientation == DPS_PACK_FORWARD ? pack_forward : pack_grad;
    if (!s->quant)
        return into (s->rows, first - s->row, first, last - first, to, NULL);
    int64_t I = to->shape[1], shape[2] = {0, I};
    float *room = s->room + (int64_t)cpu_thread () * QUANT_ROWS * I;
    const DpsView decoded = {.size = sizeof decoded, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = shape, .host = room};
    for (; first < last; first += QUANT_ROWS) {
        shape[0] = at_most (last - first, QUANT_ROWS);
        dps_quant_decode_by (s->quant, first * I, shape[0] * I, cpu_machine ()->vector->nibbles, room);
        DPS_TRY (into (&decoded, 0, first, shape[0], to, NULL));
    }
    return DPS_OK;
}

static DpsStatus pack_all (const Source *s, uint32_t orientation, const DpsView *to, DpsError *err)
{
    int64_t O = to->shape[0], I = to->shape[1], begin = s->row / BLOCK, end = (s->row + s->n + BLOCK - 1) / BLOCK;
    DPS_TRY (warm_layouts (to, orientation, err));
    DPS_TRY ((orientation == DPS_PACK_FORWARD ? clear_forward : clear_grad) (s->row, s->n, to, err));
    DpsStatus st = DPS_OK;
#pragma omp parallel for schedule(static) if (s->n * I > CPU_SERIAL_WORK && end - begin > 1)
    for (int64_t b = begin; b < end; b++) {
        DpsStatus one = pack_block (s, b * BLOCK, at_most ((b + 1) * BLOCK, s->row + s->n), orientation, to);
        if (one != DPS_OK)
#pragma omp critical
            st = one;
    }
    return st == DPS_OK ? DPS_OK : dps_fail (err, st, "cpu: packing a weight of %lld x %lld failed", (long long)O, (long long)I);
}

static DpsStatus pack (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to, DpsError *err)
{
    (void)dev;
    int64_t O = to->shape[0], rows = from->shape[0];
    if (from->rank != 2 || from->shape[1] != to->shape[1] || row < 0 || row + rows > O || row % BLOCK)
        return dps_fail (err, DPS_ERR_SHAPE, "cpu: rows %lld to %lld do not lie in a weight of %lld rows, in blocks of %d", (long long)row,
                         (long long)(row + rows), (long long)O, BLOCK);
    if (from->dtype != DPS_DTYPE_F32 && from->dtype != DPS_DTYPE_BF16)
        return dps_fail (err, DPS_ERR_DTYPE, "cpu: a weight to pack must be f32 or bf16");
    return pack_all (&(Source){.rows = from, .row = row, .n = rows}, orientation, to, err);
}

DpsStatus cpu_unpack_rows (const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y, DpsError *err)
{
    int64_t O = packed->shape[0], I = packed->shape[1];
    for (int64_t i = 0; i < n; i++) {
        const CpuLayout *l;
        CpuPanels p;
        if (ids[i] < 0 || ids[i] >= O)
            return dps_fail (err, DPS_ERR_INVALID, "cpu: row %d of a table of %lld", ids[i], (long long)O);
        int64_t panel = cpu_forward_panel (O), first = ids[i] / panel * panel;
        DPS_TRY (cpu_forward_panels (O, I, packed->dtype, first, &p, err));
        DPS_TRY (cpu_layout (I, at_most (O - first, panel), packed->dtype, &l, err));
        DpsView at = *packed;
        at.host = (char *)packed->host + p.base;
        int64_t base = l->n_offset[ids[i] - first];
        for (int64_t k = 0; k < I; k++) {
            float v = value_at (&at, base + l->k_offset[k]);
            if (y->dtype == DPS_DTYPE_F32)
                ((float *)y->host)[i * I + k] = v;
            else
                ((uint16_t *)y->host)[i * I + k] = to_bf16 (v);
        }
    }
    return DPS_OK;
}

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "cpu: out of memory for a packed weight"); }

static DpsStatus pack_quantised (const DpsView *w, uint32_t orientation, const DpsView *to, DpsError *err)
{
    DpsQuantised q;
    DPS_TRY (dps_quant_from_view (&cpu_quants, w, 1, &q, err));
    uint64_t room = (uint64_t)(QUANT_ROWS * w->shape[1]) * sizeof (float) * (uint64_t)cpu_threads (1 << 20);
    const Source s = {.quant = &q, .n = w->shape[0], .room = cpu_scratch (CPU_SLOT_ROWS, room)};
    return s.room ? pack_all (&s, orientation, to, err) : no_memory (err);
}

DpsStatus cpu_packed (const DpsView *w, uint32_t orientation, uint32_t dtype, const void **out, DpsError *err)
{
    int quantised = cpu_is_quantised (w);
    DpsView to = {.size = sizeof to, .dtype = dtype, .rank = 2, .shape = w->shape};
    uint64_t bytes;
    *out = w->host;
    if (cpu_is_packed (w))
        return DPS_OK;
    DPS_TRY (packed_bytes (w->shape[0], w->shape[1], dtype, orientation, &bytes, err));
    to.host = cpu_scratch (quantised ? CPU_SLOT_UNQUANTISED : orientation == DPS_PACK_FORWARD ? CPU_SLOT_FORWARD : CPU_SLOT_GRAD, bytes);
    *out = to.host;
    if (!to.host)
        return no_memory (err);
    return quantised ? pack_quantised (w, orientation, &to, err) : pack (NULL, w, 0, orientation, &to, err);
}

static DpsStatus unpack_rows (struct DpsDevice *dev, const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y, DpsError *err)
{
    (void)dev;
    return cpu_unpack_rows (packed, ids, n, y, err);
}

const DpsPack cpu_pack = {.size = sizeof (DpsPack), .query = query, .pack = pack, .unpack_rows = unpack_rows};
