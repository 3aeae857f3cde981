/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_quant.c: matrices as bitsandbytes saves them. Of a 4-bit "X.weight" (u8, two codes a byte) there are also
 *
 *     X.weight.absmax             f32 or, nested, u8: one a block
 *     X.weight.quant_map          f32 (16)
 *     X.weight.nested_absmax, X.weight.nested_quant_map (256)    when nested
 *     X.weight.quant_state.bitsandbytes__nf4 (__fp4)             JSON: quant_type, blocksize, shape, nested_blocksize, nested_offset
 *
 * and of an 8-bit one (i8, the matrix's own shape) X.SCB, f32, one a row, and X.weight_format, 0 for rows. Everything is checked here, once.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "graph/source_internal.h"

enum { MAX_STATE = 4096, MAX_NAME = 1400 };

typedef struct Fold {
    DpsSource *s;
    const char *weight; /* "X.weight" */
    DpsTensorInfo info; /* of its codes */
    DpsSourceCodes *c;
    DpsError *err;
} Fold;

static DpsStatus refuse (const Fold *f, DpsStatus code, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));
static DpsStatus refuse (const Fold *f, DpsStatus code, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (what, sizeof what, fmt, ap);
    va_end (ap);
    return dps_fail (f->err, code, "%s: tensor '%.300s' %s", f->s->path, f->weight, what);
}

static int is_dtype (const DpsTensorInfo *t, const char *name) { return dps_str_is (t->dtype, name); }

/* "X.weight" + suffix among the items, or -1. */
static int64_t companion (const Fold *f, const char *suffix)
{
    char name[MAX_NAME];
    snprintf (name, sizeof name, "%.1200s%s", f->weight, suffix);
    return dps_source_find (f->s, name);
}

/* A part by its tensor, which must be there with that many numbers. */
static DpsStatus take_part (Fold *f, DpsQuantPart part, const char *suffix, const char *dtype, uint64_t n)
{
    DpsTensorInfo t = {.size = sizeof t};
    int64_t at = companion (f, suffix);
    if (at < 0)
        return refuse (f, DPS_ERR_FORMAT, "is in %s codes, and '%.300s%s' is missing", dps_quant_name (f->c->form.type), f->weight, suffix);
    DPS_TRY (dps_source_info (f->s, (size_t)at, &t, f->err));
    if (!is_dtype (&t, dtype) || t.n_elements != n)
        return refuse (f, DPS_ERR_SHAPE, "is in %s codes: its %s has %llu numbers of type %.*s, expected %llu of type %s",
                       dps_quant_name (f->c->form.type), suffix + 1, (unsigned long long)t.n_elements, (int)t.dtype.len, t.dtype.ptr,
                       (unsigned long long)n, dtype);
    f->c->part[part] = at;
    f->s->items[at].is_part = 1;
    return DPS_OK;
}

static DpsStatus read_state (Fold *f, size_t state, json_t **out)
{
    const DpsSourceItem *item = &f->s->items[state];
    DpsTensorInfo t = {.size = sizeof t};
    char text[MAX_STATE];
    DPS_TRY (dps_source_info (f->s, state, &t, f->err));
    if (t.bytes > sizeof text)
        return refuse (f, DPS_ERR_FORMAT, "has a quant_state of %llu bytes, at most %d are read", (unsigned long long)t.bytes, MAX_STATE);
    DPS_TRY (f->s->format->read (f->s->files[item->file], item->tensor, 0, t.bytes, text, f->err));
    DpsStatus st = dps_json_parse (text, t.bytes, item->name, 1, 0, out, f->err);
    if (st != DPS_OK)
        dps_error_prefix (f->err, "%s", f->s->path);
    return st;
}

/* A number of the state within bounds. */
static DpsStatus state_integer (const Fold *f, const json_t *value, const char *what, int64_t min, int64_t max, int64_t *out)
{
    *out = json_integer_value (value);
    if (!json_is_integer (value) || *out < min || *out > max)
        return refuse (f, DPS_ERR_FORMAT, "has a quant_state whose %s is %lld, expected %lld to %lld", what, (long long)*out,
                       (long long)min, (long long)max);
    return DPS_OK;
}

static DpsStatus take_state (Fold *f, const json_t *state)
{
    const json_t *shape = json_object_get (state, "shape"), *offset = json_object_get (state, "nested_offset");
    int64_t block = 0, nested = DPS_QUANT_NESTED;
    const char *type = json_string_value (json_object_get (state, "quant_type"));
    f->c->form.type = !type                   ? DPS_QUANT_NONE
                      : !strcmp (type, "nf4") ? DPS_QUANT_NF4
                      : !strcmp (type, "fp4") ? DPS_QUANT_FP4
                                              : DPS_QUANT_NONE;
    if (f->c->form.type == DPS_QUANT_NONE)
        return refuse (f, DPS_ERR_UNSUPPORTED, "has a quant_state whose quant_type is '%.40s', expected nf4 or fp4", type ? type : "");
    DPS_TRY (state_integer (f, json_object_get (state, "blocksize"), "blocksize", 1, 1 << 20, &block));
    if (block < 32 || block > 4096 || block & (block - 1))
        return refuse (f, DPS_ERR_UNSUPPORTED, "is in blocks of %lld; bitsandbytes has those of 32, 64 … 4096", (long long)block);
    if (json_array_size (shape) != 2)
        return refuse (f, DPS_ERR_FORMAT, "has a quant_state whose shape has %zu dimensions, expected 2", json_array_size (shape));
    for (size_t i = 0; i < 2; i++)
        DPS_TRY (state_integer (f, json_array_get (shape, i), "shape", 1, 1 << 30, &f->c->shape[i]));
    f->c->form.block = (int32_t)block;
    f->c->form.nested = offset != NULL || json_object_get (state, "nested_blocksize") != NULL;
    if (!f->c->form.nested)
        return DPS_OK;
    DPS_TRY (
        state_integer (f, json_object_get (state, "nested_blocksize"), "nested_blocksize", DPS_QUANT_NESTED, DPS_QUANT_NESTED, &nested));
    if (!json_is_number (offset))
        return refuse (f, DPS_ERR_FORMAT, "has a quant_state without nested_offset");
    f->c->nested_offset = (float)json_number_value (offset);
    return DPS_OK;
}

static DpsStatus fold_four_bits (Fold *f, size_t state)
{
    json_t *j = NULL;
    uint64_t codes, parts[DPS_QPARTS];
    DpsStatus st = read_state (f, state, &j);
    if (st == DPS_OK)
        st = take_state (f, j);
    json_decref (j);
    DPS_TRY (st);
    DPS_TRY (dps_quant_bytes (&f->c->form, f->c->shape[0], f->c->shape[1], &codes, parts, f->err));
    if (!is_dtype (&f->info, "U8") || f->info.bytes != codes)
        return refuse (f, DPS_ERR_SHAPE, "holds %llu bytes of type %.*s, expected %llu of type U8: (%lld, %lld) numbers in %s codes",
                       (unsigned long long)f->info.bytes, (int)f->info.dtype.len, f->info.dtype.ptr, (unsigned long long)codes,
                       (long long)f->c->shape[0], (long long)f->c->shape[1], dps_quant_name (f->c->form.type));
    f->s->items[state].is_part = 1;
    DPS_TRY (take_part (f, DPS_QPART_CODE_BOOK, ".quant_map", "F32", 16));
    DPS_TRY (take_part (f, DPS_QPART_ABSMAX, ".absmax", f->c->form.nested ? "U8" : "F32",
                        parts[DPS_QPART_ABSMAX] / (f->c->form.nested ? 1 : 4)));
    if (!f->c->form.nested)
        return DPS_OK;
    DPS_TRY (take_part (f, DPS_QPART_NESTED_ABSMAX, ".nested_absmax", "F32", parts[DPS_QPART_NESTED_ABSMAX] / 4));
    return take_part (f, DPS_QPART_NESTED_CODE_BOOK, ".nested_quant_map", "F32", 256);
}

/* scales: the item X.SCB. */
static DpsStatus fold_eight_bits (Fold *f, size_t scales)
{
    char name[MAX_NAME];
    DpsTensorInfo t = {.size = sizeof t};
    float format = 0;
    f->c->form.type = DPS_QUANT_INT8;
    if (!is_dtype (&f->info, "I8") || f->info.rank != 2)
        return refuse (f, DPS_ERR_SHAPE, "has 8-bit scales (SCB), and is of type %.*s with %u dimensions, expected I8 with 2",
                       (int)f->info.dtype.len, f->info.dtype.ptr, f->info.rank);
    memcpy (f->c->shape, f->info.shape, sizeof f->c->shape);
    DPS_TRY (dps_source_info (f->s, scales, &t, f->err));
    if (!is_dtype (&t, "F32") || t.n_elements != (uint64_t)f->c->shape[0])
        return refuse (f, DPS_ERR_SHAPE, "has %llu 8-bit scales (SCB) of type %.*s, expected %lld of type F32",
                       (unsigned long long)t.n_elements, (int)t.dtype.len, t.dtype.ptr, (long long)f->c->shape[0]);
    f->c->part[DPS_QPART_SCALES] = (int64_t)scales;
    f->s->items[scales].is_part = 1;
    snprintf (name, sizeof name, "%.1200s_format", f->weight);
    int64_t at = dps_source_find (f->s, name);
    if (at < 0)
        return DPS_OK;
    DPS_TRY (dps_source_read (f->s, (size_t)at, 0, 1, &format, f->err));
    f->s->items[at].is_part = 1;
    return format == 0 ? DPS_OK : refuse (f, DPS_ERR_UNSUPPORTED, "has weight_format %g, expected 0: rows", (double)format);
}

static DpsStatus fold_one (DpsSource *s, size_t i, DpsError *err)
{
    Fold f = {.s = s, .weight = s->items[i].name, .info = {.size = sizeof f.info}, .err = err};
    size_t n = strlen (f.weight), stem = strlen ("weight");
    char scb[MAX_NAME];
    if (n < stem + 1 || n > 1200 || strcmp (f.weight + n - stem - 1, ".weight"))
        return DPS_OK;
    snprintf (scb, sizeof scb, "%.*sSCB", (int)(n - stem), f.weight);
    int64_t nf4 = companion (&f, ".quant_state.bitsandbytes__nf4"), fp4 = companion (&f, ".quant_state.bitsandbytes__fp4"),
            scales = dps_source_find (s, scb), absmax = companion (&f, ".absmax");
    DPS_TRY (dps_source_info (s, i, &f.info, err));
    if (nf4 < 0 && fp4 < 0 && scales < 0) {
        if (absmax >= 0 || is_dtype (&f.info, "U8") || is_dtype (&f.info, "I8"))
            return refuse (&f, DPS_ERR_FORMAT,
                           "is in codes (%.*s), and what they mean is missing: no '….quant_state.bitsandbytes__nf4' (or fp4), no '…SCB'",
                           (int)f.info.dtype.len, f.info.dtype.ptr);
        return DPS_OK;
    }
    f.c = dps_calloc (1, sizeof *f.c);
    if (!f.c)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s->path);
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        f.c->part[p] = -1;
    DpsStatus st = nf4 >= 0 || fp4 >= 0 ? fold_four_bits (&f, (size_t)(nf4 >= 0 ? nf4 : fp4)) : fold_eight_bits (&f, (size_t)scales);
    if (st == DPS_OK)
        s->items[i].codes = f.c;
    else
        dps_free (f.c);
    return st;
}

DpsStatus dps__source_fold (DpsSource *s, DpsError *err)
{
    const json_t *q = json_object_get (s->config, "quantization_config");
    const char *method = json_string_value (json_object_get (q, "quant_method"));
    if (q && method && strcmp (method, "bitsandbytes"))
        return dps_fail (
            err, DPS_ERR_UNSUPPORTED,
            "%s/config.json: quantization_config: quant_method is '%.40s', which has no reader. Hint: bitsandbytes folders and "
            "GGUF files are read; or give the model that was quantised",
            s->path, method);
    for (size_t i = 0; i < s->n_items; i++)
        DPS_TRY (fold_one (s, i, err));
    return DPS_OK;
}

void dps__source_codes_info (const DpsSourceCodes *c, DpsTensorInfo *out)
{
    out->dtype = dps_str (dps_quant_name (c->form.type));
    out->rank = 2;
    out->shape = c->shape;
    out->n_elements = (uint64_t)c->shape[0] * (uint64_t)c->shape[1];
}

DpsQuantForm dps_source_form (const DpsSource *s, size_t i)
{
    DpsTensorInfo t = {.size = sizeof t};
    if (i >= s->n_items)
        return (DpsQuantForm){0};
    if (s->items[i].codes)
        return s->items[i].codes->form;
    if (!s->is_gguf || s->items[i].fix == DPS_GGUF_MINUS_ONE || dps_source_info (s, i, &t, NULL) != DPS_OK || t.rank != 2)
        return (DpsQuantForm){0};
    return (DpsQuantForm){.type = dps_quant_named (t.dtype)};
}

int dps_source_is_part (const DpsSource *s, size_t i) { return i < s->n_items && s->items[i].is_part; }

static DpsStatus raw (DpsSource *s, size_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    return s->format->read (s->files[s->items[i].file], s->items[i].tensor, offset, len, dst, err);
}

static DpsStatus copy_rows (DpsSource *s, size_t i, const DpsTensorInfo *t, char *dst, DpsError *err)
{
    uint64_t row_bytes = t->bytes / (uint64_t)t->shape[0];
    for (int64_t row = 0; row < t->shape[0]; row++) {
        int64_t stored;
        DPS_TRY (dps__source_stored_row (s, &s->items[i], t->shape[0], row, &stored, err));
        DPS_TRY (raw (s, i, (uint64_t)stored * row_bytes, row_bytes, dst + (uint64_t)row * row_bytes, err));
    }
    return DPS_OK;
}

DpsStatus dps_source_codes (DpsSource *s, size_t i, void *codes, void *const parts[DPS_QPARTS], DpsError *err)
{
    const DpsSourceCodes *c = s->items[i].codes;
    DpsTensorInfo t = {.size = sizeof t};
    DPS_TRY (dps_source_info (s, i, &t, err));
    if (codes && s->items[i].fix == DPS_GGUF_UNPERMUTE)
        DPS_TRY (copy_rows (s, i, &t, codes, err));
    else if (codes)
        DPS_TRY (raw (s, i, 0, t.bytes, codes, err));
    for (uint32_t p = 0; c && p < DPS_QPARTS; p++) {
        DpsTensorInfo part = {.size = sizeof part};
        if (!parts[p])
            continue;
        if (p == DPS_QPART_BLOCK)
            memcpy (parts[p], &c->form.block, sizeof c->form.block);
        else if (p == DPS_QPART_NESTED_OFFSET)
            memcpy (parts[p], &c->nested_offset, sizeof c->nested_offset);
        else {
            DPS_TRY (dps_source_info (s, (size_t)c->part[p], &part, err));
            DPS_TRY (raw (s, (size_t)c->part[p], 0, part.bytes, parts[p], err));
        }
    }
    return DPS_OK;
}

/* The absmax of blocks [first, first + n) as numbers. */
static DpsStatus read_absmax (DpsSource *s, const DpsSourceCodes *c, uint64_t first, uint64_t n, float *out, DpsError *err)
{
    size_t at = (size_t)c->part[DPS_QPART_ABSMAX];
    float book[256], nested[16];
    if (!c->form.nested)
        return raw (s, at, 4 * first, 4 * n, out, err);
    DPS_TRY (dps_source_read (s, at, first, n, out, err)); /* u8 codes as numbers */
    DPS_TRY (raw (s, (size_t)c->part[DPS_QPART_NESTED_CODE_BOOK], 0, sizeof book, book, err));
    uint64_t from = first / DPS_QUANT_NESTED, to = (first + n - 1) / DPS_QUANT_NESTED;
    DPS_TRY (raw (s, (size_t)c->part[DPS_QPART_NESTED_ABSMAX], 4 * from, 4 * (to - from + 1), nested, err));
    for (uint64_t k = 0; k < n; k++)
        out[k] = book[(unsigned char)out[k]] * nested[(first + k) / DPS_QUANT_NESTED - from] + c->nested_offset;
    return DPS_OK;
}

/* Stored bytes [at, at + n) of the codes: in place where the format maps, else read into *room, which grows. */
static DpsStatus stored (DpsSource *s, const DpsSourceItem *item, uint64_t at, uint64_t n, void **room, const unsigned char **out,
                         DpsError *err)
{
    const void *all = NULL;
    struct DpsFormatFile *file = s->files[item->file];
    DpsStatus st = s->format->map ? s->format->map (file, item->tensor, &all, err) : DPS_ERR_UNSUPPORTED;
    *out = st == DPS_OK ? (const unsigned char *)all + at : NULL;
    if (st != DPS_ERR_UNSUPPORTED)
        return st;
    void *larger = dps_realloc (*room, n, 1);
    if (!larger)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s->path);
    *room = larger;
    *out = larger;
    return s->format->read (file, item->tensor, at, n, larger, err);
}

/* Some blocks at a time; codes of whole blocks begin at whole bytes. */
static DpsStatus read_blocks (DpsSource *s, const DpsSourceItem *item, uint64_t first, uint64_t n, float *dst, void **room, DpsError *err)
{
    enum { BLOCKS = 1024 };
    const DpsSourceCodes *c = item->codes;
    float absmax[BLOCKS], book[256];
    const unsigned char *codes;
    uint64_t block = (uint64_t)c->form.block, at = first / block, end = (first + n - 1) / block + 1;
    uint64_t total = ((uint64_t)c->shape[0] * (uint64_t)c->shape[1] + 1) / 2;
    DPS_TRY (raw (s, (size_t)c->part[DPS_QPART_CODE_BOOK], 0, 16 * sizeof *book, book, err));
    for (; n; at += BLOCKS) {
        uint64_t blocks = end - at < BLOCKS ? end - at : BLOCKS, left = (at + blocks) * block - first, len = n < left ? n : left;
        uint64_t from = at * block / 2, bytes = (blocks * block + 1) / 2;
        DPS_TRY (stored (s, item, from, bytes < total - from ? bytes : total - from, room, &codes, err));
        DPS_TRY (read_absmax (s, c, at, blocks, absmax, err));
        const DpsQuantised q = {.form = {c->form.type, c->form.block, 0},
                                .rows = c->shape[0],
                                .cols = c->shape[1],
                                .codes = codes,
                                .absmax = absmax,
                                .code_book = book};
        dps_quant_decode (&q, (int64_t)(first - at * block), (int64_t)len, dst);
        first += len;
        dst += len;
        n -= len;
    }
    return DPS_OK;
}

/* A row at a time. */
static DpsStatus read_rows (DpsSource *s, const DpsSourceItem *item, uint64_t first, uint64_t n, float *dst, void **room, DpsError *err)
{
    const DpsSourceCodes *c = item->codes;
    uint64_t cols = (uint64_t)c->shape[1];
    const unsigned char *codes;
    while (n) {
        uint64_t row = first / cols, left = (row + 1) * cols - first, len = n < left ? n : left;
        float scale;
        DPS_TRY (raw (s, (size_t)c->part[DPS_QPART_SCALES], 4 * row, 4, &scale, err));
        DPS_TRY (stored (s, item, row * cols, cols, room, &codes, err));
        const DpsQuantised q = {.form = c->form, .rows = 1, .cols = (int64_t)cols, .codes = codes, .scales = &scale};
        dps_quant_decode (&q, (int64_t)(first - row * cols), (int64_t)len, dst);
        first += len;
        dst += len;
        n -= len;
    }
    return DPS_OK;
}

DpsStatus dps__source_codes_read (DpsSource *s, const DpsSourceItem *item, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    uint64_t all = (uint64_t)item->codes->shape[0] * (uint64_t)item->codes->shape[1];
    if (first > all || n > all - first)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: elements outside tensor '%s'", s->path, item->name);
    if (n == 0)
        return DPS_OK;
    void *room = NULL;
    DpsStatus st = item->codes->form.type == DPS_QUANT_INT8 ? read_rows (s, item, first, n, dst, &room, err)
                                                            : read_blocks (s, item, first, n, dst, &room, err);
    dps_free (room);
    return st;
}
