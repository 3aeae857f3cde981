/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.c: dps.format/1 over safetensors files. Source of the layout: huggingface/safetensors, README "Format". */
#include <string.h>

#include "diapason/sdk.h"
#include "file.h"

static int32_t probe (DpsStr path, const void *head, size_t head_len)
{
    const unsigned char *h = head;
    static const char extension[] = ".safetensors";
    size_t n = sizeof extension - 1;
    int named = path.len >= n && !memcmp (path.ptr + path.len - n, extension, n);
    int looks = head_len > 8 && h[8] == '{' && h[4] == 0 && h[5] == 0 && h[6] == 0 && h[7] == 0;
    return named ? 90 : looks ? 60 : 0;
}

static void close_file (struct DpsFormatFile *f)
{
    if (!f)
        return;
    dps_map_close (&f->map);
    dps_free (f->path);
    header_free (f);
    dps_free (f);
}

static DpsStatus open_file (DpsStr path, struct DpsFormatFile **out, DpsError *err)
{
    struct DpsFormatFile *f = dps_calloc (1, sizeof *f);
    if (!f)
        return dps_fail (err, DPS_ERR_NOMEM, "%.*s: out of memory", (int)path.len, path.ptr);
    DpsStatus st = dps_map_open_named (path, &f->path, &f->map, err);
    if (st == DPS_OK)
        st = header_parse (f, err);
    if (st == DPS_OK)
        *out = f;
    else
        close_file (f);
    return st;
}

static DpsStatus info (struct DpsFormatFile *f, uint64_t *out_n_tensors, uint64_t *out_n_meta, DpsError *err)
{
    (void)err;
    if (out_n_tensors)
        *out_n_tensors = f->n_entries;
    if (out_n_meta)
        *out_n_meta = f->n_meta;
    return DPS_OK;
}

static DpsStatus entry_at (const struct DpsFormatFile *f, uint64_t i, const Entry **out, DpsError *err)
{
    if (i >= f->n_entries)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: tensor %llu of %zu", f->path, (unsigned long long)i, f->n_entries);
    *out = &f->entries[i];
    return DPS_OK;
}

static uint64_t elements (const Entry *e) { return (e->end - e->begin) / dtype_at (e->dtype)->bytes; }

static DpsStatus tensor_info (struct DpsFormatFile *f, uint64_t i, DpsTensorInfo *out, DpsError *err)
{
    const Entry *e = NULL;
    DPS_TRY (entry_at (f, i, &e, err));
    DpsTensorInfo t = {.size = sizeof t,
                       .name = {f->names.data + e->name, e->name_len},
                       .dtype = dps_str (dtype_at (e->dtype)->name),
                       .rank = e->rank,
                       .shape = f->shapes + e->shape,
                       .n_elements = elements (e),
                       .bytes = e->end - e->begin,
                       .file_offset = (uint64_t)(f->data - f->map.data) + e->begin};
    dps_table_copy (out, out->size < sizeof t ? out->size : sizeof t, &t);
    return DPS_OK;
}

static DpsStatus meta (struct DpsFormatFile *f, uint64_t i, DpsMeta *out, DpsError *err)
{
    if (i >= f->n_meta)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: metadata %llu of %zu", f->path, (unsigned long long)i, f->n_meta);
    const Pair *p = &f->meta[i];
    DpsMeta m = {.size = sizeof m, .key = {f->names.data + p->key, p->key_len}, .type = DPS_META_STR, .n = 1};
    m.v.s = (DpsStr){f->names.data + p->value, p->value_len};
    dps_table_copy (out, out->size < sizeof m ? out->size : sizeof m, &m);
    return DPS_OK;
}

static DpsStatus read_raw (struct DpsFormatFile *f, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    const Entry *e = NULL;
    DPS_TRY (entry_at (f, i, &e, err));
    if (offset > e->end - e->begin || len > e->end - e->begin - offset)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: bytes outside tensor %llu", f->path, (unsigned long long)i);
    memcpy (dst, f->data + e->begin + offset, len);
    return DPS_OK;
}

static DpsStatus read_f32 (struct DpsFormatFile *f, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    const Entry *e = NULL;
    DPS_TRY (entry_at (f, i, &e, err));
    if (first > elements (e) || n > elements (e) - first)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: elements outside tensor %llu", f->path, (unsigned long long)i);
    if (dtype_to_f32 (e->dtype, f->data + e->begin + first * dtype_at (e->dtype)->bytes, n, dst))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: tensor '%.*s' is %s, which has no f32 reading", f->path, (int)e->name_len,
                     f->names.data + e->name, dtype_at (e->dtype)->name);
}

static DpsStatus map_tensor (struct DpsFormatFile *f, uint64_t i, const void **out, DpsError *err)
{
    const Entry *e = NULL;
    DPS_TRY (entry_at (f, i, &e, err));
    *out = f->data + e->begin;
    return DPS_OK;
}

static void release (struct DpsFormatFile *f, uint64_t i)
{
    if (i < f->n_entries)
        dps_map_release (&f->map, (size_t)(f->data - f->map.data) + f->entries[i].begin, f->entries[i].end - f->entries[i].begin);
}

static const DpsFormat format = {
    .size = sizeof (DpsFormat),
    .name = "safetensors",
    .extensions = ".safetensors",
    .probe = probe,
    .open = open_file,
    .close = close_file,
    .info = info,
    .tensor_info = tensor_info,
    .meta = meta,
    .read = read_raw,
    .read_f32 = read_f32,
    .map = map_tensor,
    .create = writer_create,
    .write = writer_write,
    .finish = writer_finish,
    .abandon = writer_abandon,
    .release = release,
};

DPS_PLUGIN_ONE (DPS_FORMAT_ID, format);
