/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gguf.c: dps.format/1 over GGUF files, reading only. A file is immutable after open: read, read_f32 and map may be called from several
 * threads at once.
 */
#include <string.h>

#include "diapason/sdk.h"
#include "file.h"

static int32_t probe (DpsStr path, const void *head, size_t head_len)
{
    (void)path;
    return head_len >= 4 && !memcmp (head, "GGUF", 4) ? 100 : 0;
}

static void close_file (struct DpsFormatFile *f)
{
    if (!f)
        return;
    gguf_free (f);
    dps_map_close (&f->map);
    dps_free (f->path);
    dps_free (f);
}

static DpsStatus open_file (DpsStr path, struct DpsFormatFile **out, DpsError *err)
{
    struct DpsFormatFile *f = dps_calloc (1, sizeof *f);
    if (!f)
        return dps_fail (err, DPS_ERR_NOMEM, "%.*s: out of memory", (int)path.len, path.ptr);
    DpsStatus st = dps_map_open_named (path, &f->path, &f->map, err);
    if (st == DPS_OK)
        st = gguf_parse (f, err);
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
        *out_n_tensors = f->n_tensors;
    if (out_n_meta)
        *out_n_meta = f->n_meta;
    return DPS_OK;
}

static DpsStatus tensor_at (const struct DpsFormatFile *f, uint64_t i, const Tensor **out, DpsError *err)
{
    if (i >= f->n_tensors)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: tensor %llu of %zu", f->path, (unsigned long long)i, f->n_tensors);
    *out = &f->tensors[i];
    return DPS_OK;
}

static DpsStatus tensor_info (struct DpsFormatFile *f, uint64_t i, DpsTensorInfo *out, DpsError *err)
{
    const Tensor *t = NULL;
    DPS_TRY (tensor_at (f, i, &t, err));
    DpsTensorInfo full = {.size = sizeof full,
                          .name = t->name,
                          .dtype = dps_str (t->type->name),
                          .rank = t->rank,
                          .shape = t->shape,
                          .n_elements = t->n,
                          .bytes = t->bytes,
                          .file_offset = t->offset};
    dps_table_copy (out, out->size < sizeof full ? out->size : sizeof full, &full);
    return DPS_OK;
}

static DpsStatus meta (struct DpsFormatFile *f, uint64_t i, DpsMeta *out, DpsError *err)
{
    if (i >= f->n_meta)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: key-value %llu of %zu", f->path, (unsigned long long)i, f->n_meta);
    dps_table_copy (out, out->size < sizeof *out ? out->size : sizeof *out, &f->meta[i]);
    return DPS_OK;
}

static DpsStatus read_raw (struct DpsFormatFile *f, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    const Tensor *t = NULL;
    DPS_TRY (tensor_at (f, i, &t, err));
    if (offset > t->bytes || len > t->bytes - offset)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: bytes outside tensor '%.*s'", f->path, (int)t->name.len, t->name.ptr);
    memcpy (dst, f->map.data + t->offset + offset, len);
    return DPS_OK;
}

static DpsStatus read_f32 (struct DpsFormatFile *f, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    const Tensor *t = NULL;
    DPS_TRY (tensor_at (f, i, &t, err));
    if (first > t->n || n > t->n - first)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: elements outside tensor '%.*s'", f->path, (int)t->name.len, t->name.ptr);
    dps_block_decode (t->type, f->map.data + t->offset, first, n, dst);
    return DPS_OK;
}

static DpsStatus map_tensor (struct DpsFormatFile *f, uint64_t i, const void **out, DpsError *err)
{
    const Tensor *t = NULL;
    DPS_TRY (tensor_at (f, i, &t, err));
    *out = f->map.data + t->offset;
    return DPS_OK;
}

static void release (struct DpsFormatFile *f, uint64_t i)
{
    if (i < f->n_tensors)
        dps_map_release (&f->map, f->tensors[i].offset, f->tensors[i].bytes);
}

static const DpsFormat format = {
    .size = sizeof (DpsFormat),
    .name = "gguf",
    .extensions = ".gguf",
    .probe = probe,
    .open = open_file,
    .close = close_file,
    .info = info,
    .tensor_info = tensor_info,
    .meta = meta,
    .read = read_raw,
    .read_f32 = read_f32,
    .map = map_tensor,
    .release = release,
};

DPS_PLUGIN_ONE (DPS_FORMAT_ID, format);
