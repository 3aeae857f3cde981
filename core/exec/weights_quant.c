/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights_quant.c: frozen weights that stay quantised: one allocation a weight, its codes and behind them its parts. They come as the source has
 * them, or are made from its numbers, some rows at a time.
 */
#include <string.h>

#include "base/mem.h"
#include "exec/stage.h"
#include "exec/weights.h"

enum { ALIGN = 64 };

int dps__weight_quantised (const DpsWeight *spec, int training)
{
    return spec->form.type != DPS_QUANT_NONE && !(training && spec->trainable);
}

static uint64_t aligned (uint64_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

static DpsStatus sizes (const DpsWeight *spec, uint64_t *codes, uint64_t parts[DPS_QPARTS], DpsError *err)
{
    DpsStatus st = dps_quant_bytes (&spec->form, spec->shape[0], spec->shape[1], codes, parts, err);
    if (st != DPS_OK)
        dps_error_prefix (err, "weights: '%s'", spec->name);
    return st;
}

DpsStatus dps__quantised_bytes (const DpsWeight *spec, uint64_t *out, DpsError *err)
{
    uint64_t codes, parts[DPS_QPARTS];
    DPS_TRY (sizes (spec, &codes, parts, err));
    *out = aligned (codes);
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        *out += aligned (parts[p]);
    return DPS_OK;
}

DpsStatus dps__quantised_open (DpsWeights *w, int32_t weight, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[weight];
    DpsStore *s = &w->stores[weight];
    uint64_t codes, bytes[DPS_QPARTS], all;
    DPS_TRY (sizes (spec, &codes, bytes, err));
    DPS_TRY (dps__quantised_bytes (spec, &all, err));
    if (!w->outline)
        DPS_TRY (dps_exec_alloc (w->ex, all, &s->codes, err));
    uint64_t at = aligned (codes);
    for (uint32_t p = 0; p < DPS_QPARTS; p++) {
        if (!bytes[p])
            continue;
        s->parts[p] = (DpsPart){.size = sizeof (DpsPart),
                                .role = w->ex->quants.role[p],
                                .dtype = p == DPS_QPART_BLOCK                         ? DPS_DTYPE_I32
                                         : p == DPS_QPART_ABSMAX && spec->form.nested ? DPS_DTYPE_U8
                                                                                      : DPS_DTYPE_F32,
                                .buffer = s->codes.buffer,
                                .offset = at,
                                .bytes = bytes[p],
                                .host = s->codes.host ? (char *)s->codes.host + at : NULL};
        s->part_list[s->n_parts++] = &s->parts[p];
        at += aligned (bytes[p]);
    }
    return DPS_OK;
}

void dps__quantised_view (const DpsWeights *w, int32_t weight, DpsView *out)
{
    const DpsStore *s = &w->stores[weight];
    out->dtype = w->ex->quants.dtype[w->model->weights[weight].form.type];
    out->buffer = s->codes.buffer;
    out->host = s->codes.host;
    out->layout = DPS_LAYOUT_ROW_MAJOR;
    out->n_parts = s->n_parts;
    out->parts = s->part_list;
}

/* Making codes. */

static DpsStatus encode_rows (const DpsStore *s, const DpsWeight *spec, int64_t row, int64_t n, const float *values, DpsError *err)
{
    int64_t cols = spec->shape[1];
    float *scales = (float *)s->parts[DPS_QPART_SCALES].host + row;
    for (int64_t i = 0; i < n; i++)
        DPS_TRY (dps_quant_encode_row (values + i * cols, cols, (int8_t *)s->codes.host + (row + i) * cols, &scales[i], err));
    return DPS_OK;
}

/* Pieces of a multiple of `block` rows begin at whole blocks and whole bytes. */
static DpsStatus encode_piece (const DpsStore *s, const DpsWeight *spec, int64_t row, int64_t n, const float *values, float *absmax,
                               DpsError *err)
{
    if (spec->form.type == DPS_QUANT_INT8)
        return encode_rows (s, spec, row, n, values, err);
    int64_t first = row * spec->shape[1];
    unsigned char *codes = (unsigned char *)s->codes.host + (spec->form.type == DPS_QUANT_DYNAMIC8 ? first : first / 2);
    return dps_quant_encode (spec->form.type, spec->form.block, values, n * spec->shape[1], codes, absmax + first / spec->form.block, err);
}

static DpsStatus put_parts (const DpsStore *s, const DpsWeight *spec, float *absmax, DpsError *err)
{
    float book[256];
    if (spec->form.type == DPS_QUANT_INT8)
        return DPS_OK;
    int64_t blocks = (int64_t)(s->parts[DPS_QPART_ABSMAX].bytes / (spec->form.nested ? 1 : sizeof *absmax));
    dps_quant_code_book (spec->form.type, book);
    memcpy (s->parts[DPS_QPART_CODE_BOOK].host, book, s->parts[DPS_QPART_CODE_BOOK].bytes);
    memcpy (s->parts[DPS_QPART_BLOCK].host, &spec->form.block, sizeof spec->form.block);
    if (!spec->form.nested) {
        memcpy (s->parts[DPS_QPART_ABSMAX].host, absmax, (size_t)blocks * sizeof *absmax);
        return DPS_OK;
    }
    dps_quant_code_book (DPS_QUANT_DYNAMIC8, s->parts[DPS_QPART_NESTED_CODE_BOOK].host);
    return dps_quant_encode_absmax (absmax, blocks, s->parts[DPS_QPART_ABSMAX].host, s->parts[DPS_QPART_NESTED_ABSMAX].host,
                                    s->parts[DPS_QPART_NESTED_OFFSET].host, err);
}

static DpsStatus make_codes (const DpsStore *s, const DpsWeight *spec, DpsSource *src, size_t at, float *buffer, int64_t piece,
                             DpsError *err)
{
    int64_t cols = spec->shape[1], block = spec->form.block ? spec->form.block : 1;
    if (piece % block)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "weights: '%s': blocks of %lld are not made here", spec->name, (long long)block);
    float *absmax = dps_malloc ((size_t)(spec->shape[0] * cols / block + 1), sizeof *absmax);
    DpsStatus st = absmax ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "weights: out of memory");
    for (int64_t row = 0; st == DPS_OK && row < spec->shape[0]; row += piece) {
        int64_t n = spec->shape[0] - row < piece ? spec->shape[0] - row : piece;
        st = dps_source_read (src, at, (uint64_t)(row * cols), (uint64_t)(n * cols), buffer, err);
        if (st == DPS_OK)
            st = encode_piece (s, spec, row, n, buffer, absmax, err);
    }
    if (st == DPS_OK)
        st = put_parts (s, spec, absmax, err);
    dps_free (absmax);
    return st == DPS_ERR_NONFINITE ? dps_error_prefix (err, "weights: '%s'", spec->name) : st;
}

static DpsStatus load_into (const DpsStore *s, const DpsWeight *spec, DpsSource *src, float *buffer, int64_t rows, DpsError *err)
{
    size_t at = (size_t)dps_source_find (src, spec->name);
    DpsQuantForm stored = dps_source_form (src, at);
    void *parts[DPS_QPARTS];
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        parts[p] = s->parts[p].host;
    int same = stored.type == spec->form.type && stored.block == spec->form.block && stored.nested == spec->form.nested;
    DPS_TRY (same ? dps_source_codes (src, at, s->codes.host, parts, err) : make_codes (s, spec, src, at, buffer, rows, err));
    dps_source_release (src, at);
    return DPS_OK;
}

/* The store as it would be in host memory, then its bytes to the device. */
DpsStatus dps__quantised_load (DpsWeights *w, int32_t weight, DpsSource *src, float *buffer, int64_t rows, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[weight];
    DpsStore here = w->stores[weight];
    if (here.codes.host)
        return load_into (&here, spec, src, buffer, rows, err);
    here.codes.host = dps_calloc (1, here.codes.bytes);
    if (!here.codes.host)
        return dps_fail (err, DPS_ERR_NOMEM, "weights: out of memory");
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        here.parts[p].host = here.parts[p].bytes ? (char *)here.codes.host + here.parts[p].offset : NULL;
    DpsStatus st = load_into (&here, spec, src, buffer, rows, err);
    if (st == DPS_OK)
        st = dps_block_put (w->ex, &w->stores[weight].codes, 0, here.codes.host, here.codes.bytes, err);
    dps_free (here.codes.host);
    return st;
}

/* On a device with memory of its own: the embedding of the rows' numbers. */
static DpsStatus embed_rows (const DpsWeights *w, int32_t weight, int64_t row, int64_t n, float *out, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[weight];
    int64_t shape[2] = {n, spec->shape[1]};
    int32_t *ids = dps_malloc ((size_t)n, sizeof *ids);
    DpsView table = dps_view (0, 2, spec->shape, NULL), id = dps_view (DPS_DTYPE_I32, 1, shape, ids),
            y = dps_view (DPS_DTYPE_F32, 2, shape, out);
    if (!ids)
        return dps_fail (err, DPS_ERR_NOMEM, "weights: out of memory");
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)(row + i);
    dps__quantised_view (w, weight, &table);
    DpsStatus st = dps_exec_op (w->ex, DPS_OP_embed, (DpsOp){DPS_IN (&table, &id), DPS_OUT (&y), DPS_ATTRS ({.f = 1})}, err);
    dps_free (ids);
    return st;
}

static DpsStatus decode_rows (const DpsWeights *w, int32_t weight, int64_t row, int64_t n, float *out, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[weight];
    DpsView v = dps_view (0, 2, spec->shape, NULL);
    DpsQuantised q;
    if (!w->stores[weight].codes.host)
        return embed_rows (w, weight, row, n, out, err);
    dps__quantised_view (w, weight, &v);
    DPS_TRY (dps_quant_from_view (&w->ex->quants, &v, 1, &q, err));
    dps_quant_decode (&q, row * spec->shape[1], n * spec->shape[1], out);
    return DPS_OK;
}

DpsStatus dps_weights_rows (const DpsWeights *w, int32_t weight, int64_t row, int64_t n, float *out, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[weight];
    const DpsStore *s = &w->stores[weight];
    int64_t cols = spec->rank > 1 ? spec->shape[1] : 1, shape[2] = {n, cols};
    if (row < 0 || n < 0 || row > spec->shape[0] - n)
        return dps_fail (err, DPS_ERR_SHAPE, "weights: '%s' has %lld rows; asked for %lld from %lld", spec->name, (long long)spec->shape[0],
                         (long long)n, (long long)row);
    if (dps__weight_quantised (spec, w->training))
        return decode_rows (w, weight, row, n, out, err);
    if (!s->rows.buffer)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "weights: '%s' is kept packed only", spec->name);
    DpsView from = dps_block_view (s->rows_dtype, 2, shape, &s->rows, (uint64_t)(row * cols) * dps_dtype_bytes (s->rows_dtype)),
            to = dps_view (DPS_DTYPE_F32, 2, shape, out);
    return dps_exec_op (w->ex, DPS_OP_copy, (DpsOp){DPS_IN (&from), DPS_OUT (&to)}, err);
}
