/* SPDX-License-Identifier: Apache-2.0 */
/* quant.c: names and sizes of the quantised forms, views of them, and their numbers. */
#include "base/quant_draw.h"

#include <string.h>

static const char *const names[DPS_QUANT_TYPES] = {
#define DPS_X(id, name, bits) [DPS_QUANT_##id] = name,
    DPS_QUANTS (DPS_X)
#undef DPS_X
};
static const uint8_t code_bits[DPS_QUANT_TYPES] = {
#define DPS_X(id, name, bits) [DPS_QUANT_##id] = bits,
    DPS_QUANTS (DPS_X)
#undef DPS_X
};
static const char *const part_names[DPS_QPARTS] = {
#define DPS_X(id, name) #name,
    DPS_QUANT_PARTS (DPS_X)
#undef DPS_X
};

const char *dps_quant_name (DpsQuantType type) { return type > DPS_QUANT_NONE && type < DPS_QUANT_TYPES ? names[type] : "none"; }
const char *dps_quant_part_name (DpsQuantPart part) { return part_names[part]; }

DpsQuantType dps_quant_named (DpsStr name)
{
    for (uint32_t t = DPS_QUANT_NONE + 1; t < DPS_QUANT_TYPES; t++)
        if (dps_str_is (name, names[t]))
            return (DpsQuantType)t;
    return DPS_QUANT_NONE;
}

static const DpsBlockType *blocks_of (DpsQuantType type) { return dps_block_type_named (dps_str (names[type])); }

int dps_quant_names (uint32_t (*intern) (DpsStr), DpsQuantNames *out)
{
    int bad = 0;
    for (uint32_t t = DPS_QUANT_NONE + 1; t < DPS_QUANT_TYPES; t++)
        bad |= !(out->dtype[t] = intern (dps_str (names[t])));
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        bad |= !(out->role[p] = intern (dps_str (part_names[p])));
    return bad ? -1 : 0;
}

DpsQuantType dps_quant_find (const DpsQuantNames *n, uint32_t dtype)
{
    for (uint32_t t = DPS_QUANT_NONE + 1; t < DPS_QUANT_TYPES; t++)
        if (n->dtype[t] && n->dtype[t] == dtype)
            return (DpsQuantType)t;
    return DPS_QUANT_NONE;
}

uint32_t dps_quant_part_dtype (const DpsQuantForm *f, DpsQuantPart part)
{
    return part == DPS_QPART_BLOCK ? DPS_DTYPE_I32 : part == DPS_QPART_ABSMAX && f->nested ? DPS_DTYPE_U8 : DPS_DTYPE_F32;
}

static uint64_t ceil_div (uint64_t a, uint64_t b) { return (a + b - 1) / b; }

DpsStatus dps_quant_bytes (const DpsQuantForm *f, int64_t rows, int64_t cols, uint64_t *out_codes, uint64_t parts[DPS_QPARTS],
                           DpsError *err)
{
    uint64_t n = (uint64_t)rows * (uint64_t)cols, bits = code_bits[f->type];
    memset (parts, 0, DPS_QPARTS * sizeof *parts);
    if (!bits) {
        const DpsBlockType *b = blocks_of (f->type);
        if (cols % b->elements)
            return dps_fail (err, DPS_ERR_SHAPE, "rows of %lld numbers are no whole number of %s blocks of %u", (long long)cols,
                             names[f->type], b->elements);
        *out_codes = n / b->elements * b->bytes;
        return DPS_OK;
    }
    *out_codes = ceil_div (n * bits, 8);
    if (f->type == DPS_QUANT_INT8) {
        parts[DPS_QPART_SCALES] = 4 * (uint64_t)rows;
        return DPS_OK;
    }
    if (f->block <= 0)
        return dps_fail (err, DPS_ERR_SHAPE, "%s in blocks of %d elements", names[f->type], f->block);
    uint64_t blocks = ceil_div (n, (uint64_t)f->block);
    parts[DPS_QPART_CODE_BOOK] = (uint64_t)4 << bits;
    parts[DPS_QPART_BLOCK] = 4;
    parts[DPS_QPART_ABSMAX] = f->nested ? blocks : 4 * blocks;
    if (f->nested) {
        parts[DPS_QPART_NESTED_ABSMAX] = 4 * ceil_div (blocks, DPS_QUANT_NESTED);
        parts[DPS_QPART_NESTED_CODE_BOOK] = 4 * 256;
        parts[DPS_QPART_NESTED_OFFSET] = 4;
    }
    return DPS_OK;
}

/* Views. */

static DpsStatus collect_parts (const DpsQuantNames *n, const DpsView *v, int data, const DpsPart *found[DPS_QPARTS], DpsError *err)
{
    for (uint32_t i = 0; i < v->n_parts; i++) {
        uint32_t p = 0;
        while (p < DPS_QPARTS && n->role[p] != v->parts[i]->role)
            p++;
        if (p == DPS_QPARTS)
            continue; /* of a younger host */
        if (data && !v->parts[i]->host)
            return dps_fail (err, DPS_ERR_INVALID, "part %s has no host memory", part_names[p]);
        found[p] = v->parts[i];
    }
    return DPS_OK;
}

static DpsStatus check_parts (const DpsQuantForm *f, const DpsView *v, const DpsPart *const found[DPS_QPARTS], DpsError *err)
{
    uint64_t codes, want[DPS_QPARTS];
    DPS_TRY (dps_quant_bytes (f, v->shape[0], v->shape[1], &codes, want, err));
    for (uint32_t p = 0; p < DPS_QPARTS; p++) {
        uint64_t got = found[p] ? found[p]->bytes : 0;
        uint32_t dtype = dps_quant_part_dtype (f, (DpsQuantPart)p);
        if (got != want[p])
            return dps_fail (err, DPS_ERR_INVALID, "%s (%lld,%lld): part %s has %llu bytes, expected %llu", names[f->type],
                             (long long)v->shape[0], (long long)v->shape[1], part_names[p], (unsigned long long)got,
                             (unsigned long long)want[p]);
        if (got && found[p]->dtype != dtype)
            return dps_fail (err, DPS_ERR_DTYPE, "%s: part %s has dtype number %u, expected %u", names[f->type], part_names[p],
                             found[p]->dtype, dtype);
    }
    return DPS_OK;
}

static const void *host_of (const DpsPart *p) { return p ? p->host : NULL; }

DpsStatus dps_quant_from_view (const DpsQuantNames *n, const DpsView *v, int data, DpsQuantised *out, DpsError *err)
{
    const DpsPart *found[DPS_QPARTS] = {NULL};
    *out = (DpsQuantised){.form.type = dps_quant_find (n, v->dtype)};
    if (out->form.type == DPS_QUANT_NONE)
        return dps_fail (err, DPS_ERR_DTYPE, "dtype number %u is no quantised one", v->dtype);
    if (v->rank != 2 || v->stride || v->layout != DPS_LAYOUT_ROW_MAJOR || v->shape[0] < 0 || v->shape[1] < 0)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: expected a whole matrix", names[out->form.type]);
    DPS_TRY (collect_parts (n, v, data, found, err));
    out->form.nested = found[DPS_QPART_NESTED_ABSMAX] != NULL;
    if (code_bits[out->form.type] && out->form.type != DPS_QUANT_INT8)
        out->form.block = DPS_QUANT_BLOCK;
    if (data && found[DPS_QPART_BLOCK] && found[DPS_QPART_BLOCK]->bytes == 4)
        memcpy (&out->form.block, found[DPS_QPART_BLOCK]->host, 4);
    if (data)
        DPS_TRY (check_parts (&out->form, v, found, err));
    out->blocks = code_bits[out->form.type] ? NULL : blocks_of (out->form.type);
    out->rows = v->shape[0];
    out->cols = v->shape[1];
    out->codes = v->host;
    const void *absmax = host_of (found[DPS_QPART_ABSMAX]);
    out->absmax = out->form.nested ? NULL : absmax;
    out->absmax_codes = out->form.nested ? absmax : NULL;
    out->code_book = host_of (found[DPS_QPART_CODE_BOOK]);
    out->nested_absmax = host_of (found[DPS_QPART_NESTED_ABSMAX]);
    out->nested_code_book = host_of (found[DPS_QPART_NESTED_CODE_BOOK]);
    out->scales = host_of (found[DPS_QPART_SCALES]);
    if (host_of (found[DPS_QPART_NESTED_OFFSET]))
        memcpy (&out->nested_offset, found[DPS_QPART_NESTED_OFFSET]->host, 4);
    return DPS_OK;
}

/* Numbers. */

static float absmax_of (const DpsQuantised *q, int64_t block)
{
    if (q->absmax)
        return q->absmax[block];
    return q->nested_code_book[q->absmax_codes[block]] * q->nested_absmax[block / DPS_QUANT_NESTED] + q->nested_offset;
}

static void nibbles_one_by_one (const unsigned char *codes, const float level[16], int64_t n, float *out)
{
    int64_t i = 0;
    for (; i + 2 <= n; i += 2, codes++) {
        out[i] = level[*codes >> 4];
        out[i + 1] = level[*codes & 15];
    }
    if (i < n)
        out[i] = level[*codes >> 4];
}

/* Codes [first, first + n) of one block. */
static void decode_nibbles (const DpsQuantised *q, int64_t first, int64_t n, float absmax, DpsNibbles nibbles, float *out)
{
    const unsigned char *at = q->codes + first / 2;
    int64_t odd = first % 2 && n > 0;
    float level[16];
    for (int k = 0; k < 16; k++)
        level[k] = q->code_book[k] * absmax;
    if (odd)
        out[0] = level[*at & 15];
    nibbles (at + odd, level, n - odd, out + odd);
}

static void decode_codes (const DpsQuantised *q, int64_t first, int64_t n, DpsNibbles nibbles, float *out)
{
    while (n > 0) {
        int64_t block = first / q->form.block, left = (block + 1) * q->form.block - first, len = left < n ? left : n;
        float absmax = absmax_of (q, block);
        if (q->form.type == DPS_QUANT_DYNAMIC8)
            for (int64_t i = 0; i < len; i++)
                out[i] = q->code_book[q->codes[first + i]] * absmax;
        else
            decode_nibbles (q, first, len, absmax, nibbles, out);
        first += len;
        out += len;
        n -= len;
    }
}

static void decode_rows (const DpsQuantised *q, int64_t first, int64_t n, float *out)
{
    const float share = 1.0f / 127;
    while (n > 0) {
        int64_t row = first / q->cols, left = (row + 1) * q->cols - first, len = left < n ? left : n;
        const signed char *codes = (const signed char *)q->codes + first;
        for (int64_t i = 0; i < len; i++)
            out[i] = (float)codes[i] * q->scales[row] * share;
        first += len;
        out += len;
        n -= len;
    }
}

void dps_quant_decode (const DpsQuantised *q, int64_t first, int64_t n, float *out)
{
    dps_quant_decode_by (q, first, n, nibbles_one_by_one, out);
}

void dps_quant_decode_by (const DpsQuantised *q, int64_t first, int64_t n, DpsNibbles nibbles, float *out)
{
    if (q->blocks)
        dps_block_decode (q->blocks, q->codes, (uint64_t)first, (uint64_t)n, out);
    else if (q->form.type == DPS_QUANT_INT8)
        decode_rows (q, first, n, out);
    else
        decode_codes (q, first, n, nibbles, out);
}
