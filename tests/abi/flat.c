/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flat.c: a format of another house, read and written: "FLAT 2\n", a line for each tensor ("name 2 640 256": its name, rank and sizes), then the values of
 * all of them, f32. No metadata. Every byte is hostile.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "diapason/diapason.h"
#include "diapason/sdk.h"

enum { MAX_RANK = 8, MAX_TENSORS = 100000, MAX_NAME = 511 };

typedef struct Tensor {
    char name[MAX_NAME + 1];
    int64_t shape[MAX_RANK];
    uint32_t rank;
    uint64_t n, at; /* elements, and the number of the first */
} Tensor;

struct DpsFormatFile {
    FILE *stream;
    Tensor *tensors;
    uint64_t n;
    long data;
};

struct DpsFormatWriter {
    DpsStream to;
    uint64_t missing; /* bytes */
};

static int32_t probe (DpsStr path, const void *head, size_t len)
{
    (void)path;
    return len > 5 && !memcmp (head, "FLAT ", 5) ? 100 : 0;
}

static void close_file (struct DpsFormatFile *f)
{
    if (!f)
        return;
    if (f->stream)
        fclose (f->stream);
    dps_free (f->tensors);
    dps_free (f);
}

static int read_tensor (FILE *stream, Tensor *t)
{
    t->n = 1;
    if (fscanf (stream, "%511s %u", t->name, &t->rank) != 2 || t->rank > MAX_RANK)
        return -1;
    for (uint32_t d = 0; d < t->rank; d++)
        if (fscanf (stream, "%ld", &t->shape[d]) != 1 || t->shape[d] < 0 || __builtin_mul_overflow (t->n, (uint64_t)t->shape[d], &t->n))
            return -1;
    return fgetc (stream) == '\n' ? 0 : -1;
}

static int read_list (struct DpsFormatFile *f)
{
    uint64_t total = 0, bytes;
    for (uint64_t i = 0; i < f->n; i++) {
        Tensor *t = &f->tensors[i];
        if (read_tensor (f->stream, t))
            return -1;
        for (uint64_t k = 0; k < i; k++)
            if (!strcmp (f->tensors[k].name, t->name))
                return -1;
        t->at = total;
        if (__builtin_add_overflow (total, t->n, &total))
            return -1;
    }
    f->data = ftell (f->stream);
    return __builtin_mul_overflow (total, (uint64_t)4, &bytes) || fseek (f->stream, 0, SEEK_END) ||
                   (uint64_t)(ftell (f->stream) - f->data) != bytes
               ? -1
               : 0;
}

static DpsStatus read_header (struct DpsFormatFile *f, const char *name, DpsError *err)
{
    int is_flat = fscanf (f->stream, "FLAT %lu", &f->n) == 1 && fgetc (f->stream) == '\n' && f->n <= MAX_TENSORS;
    if (is_flat && !(f->tensors = dps_calloc ((size_t)f->n, sizeof *f->tensors)))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", name);
    if (!is_flat || read_list (f))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: not a whole flat file: expected \"FLAT n\", n lines of name, rank and sizes, the values",
                         name);
    return DPS_OK;
}

static DpsStatus open_file (DpsStr path, struct DpsFormatFile **out, DpsError *err)
{
    struct DpsFormatFile *f = dps_calloc (1, sizeof *f);
    char *name = dps_strndup (path.ptr, path.len);
    DpsStatus st = f && name ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "flat: out of memory");
    if (st == DPS_OK && !(f->stream = fopen (name, "rb")))
        st = dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: cannot open: %s", name, strerror (errno));
    if (st == DPS_OK)
        st = read_header (f, name, err);
    dps_free (name);
    if (st == DPS_OK)
        *out = f;
    else
        close_file (f);
    return st;
}

static DpsStatus info (struct DpsFormatFile *f, uint64_t *n_tensors, uint64_t *n_meta, DpsError *err)
{
    (void)err;
    if (n_tensors)
        *n_tensors = f->n;
    if (n_meta)
        *n_meta = 0;
    return DPS_OK;
}

static DpsStatus find (const struct DpsFormatFile *f, uint64_t i, DpsError *err)
{
    return i < f->n ? DPS_OK : dps_fail (err, DPS_ERR_NOT_FOUND, "flat: no tensor %lu of %lu", i, f->n);
}

static DpsStatus tensor_info (struct DpsFormatFile *f, uint64_t i, DpsTensorInfo *out, DpsError *err)
{
    DPS_TRY (find (f, i, err));
    const Tensor *t = &f->tensors[i];
    const DpsTensorInfo mine = {.size = out->size,
                                .name = {t->name, strlen (t->name)},
                                .dtype = {"F32", 3},
                                .rank = t->rank,
                                .shape = t->shape,
                                .n_elements = t->n,
                                .bytes = 4 * t->n};
    memcpy (out, &mine, out->size < sizeof mine ? out->size : sizeof mine);
    return DPS_OK;
}

static DpsStatus meta (struct DpsFormatFile *f, uint64_t i, DpsMeta *out, DpsError *err)
{
    (void)f, (void)out;
    return dps_fail (err, DPS_ERR_NOT_FOUND, "flat: no metadata value %lu", i);
}

static DpsStatus read_raw (struct DpsFormatFile *f, uint64_t i, uint64_t offset, uint64_t len, void *to, DpsError *err)
{
    DPS_TRY (find (f, i, err));
    const Tensor *t = &f->tensors[i];
    if (offset > 4 * t->n || len > 4 * t->n - offset)
        return dps_fail (err, DPS_ERR_SHAPE, "flat: bytes %lu + %lu lie outside %s", offset, len, t->name);
    if (fseek (f->stream, f->data + (long)(4 * t->at + offset), SEEK_SET) || fread (to, 1, len, f->stream) != len)
        return dps_fail (err, DPS_ERR_IO, "flat: %s cannot be read", t->name);
    return DPS_OK;
}

static DpsStatus read_f32 (struct DpsFormatFile *f, uint64_t i, uint64_t first, uint64_t n, float *to, DpsError *err)
{
    DPS_TRY (find (f, i, err));
    if (first > f->tensors[i].n || n > f->tensors[i].n - first)
        return dps_fail (err, DPS_ERR_SHAPE, "flat: elements %lu + %lu lie outside %s", first, n, f->tensors[i].name);
    return read_raw (f, i, 4 * first, 4 * n, to, err);
}

static DpsStatus put (struct DpsFormatWriter *w, const char *text, DpsError *err)
{
    return w->to.write (w->to.ctx, text, strlen (text), err);
}

static DpsStatus put_tensor (struct DpsFormatWriter *w, const DpsTensorInfo *t, DpsError *err)
{
    char line[MAX_NAME + 22 * (MAX_RANK + 2)];
    uint64_t bytes = 4;
    if (!dps_str_is (t->dtype, "F32"))
        return dps_fail (err, DPS_ERR_DTYPE, "flat: '%.*s' is %.*s, expected F32. Hint: --dtype float32", (int)t->name.len, t->name.ptr,
                         (int)t->dtype.len, t->dtype.ptr);
    if (t->rank > MAX_RANK || !t->name.len || t->name.len > MAX_NAME || memchr (t->name.ptr, ' ', t->name.len))
        return dps_fail (err, DPS_ERR_INVALID, "flat: '%.*s' of rank %u has no line", (int)t->name.len, t->name.ptr, t->rank);
    int at = snprintf (line, sizeof line, "%.*s %u", (int)t->name.len, t->name.ptr, t->rank);
    for (uint32_t d = 0; d < t->rank; d++) {
        at += snprintf (line + at, sizeof line - (size_t)at, " %ld", t->shape[d]);
        if (t->shape[d] < 0 || __builtin_mul_overflow (bytes, (uint64_t)t->shape[d], &bytes))
            return dps_fail (err, DPS_ERR_SHAPE, "flat: '%.*s' has an impossible shape", (int)t->name.len, t->name.ptr);
    }
    w->missing += bytes;
    DPS_TRY (put (w, line, err));
    return put (w, "\n", err);
}

static DpsStatus create (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n, const DpsMeta *const *values,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err)
{
    char line[40];
    DpsStream stream = {0};
    (void)values;
    dps_table_copy (&stream, sizeof stream, to);
    if (stream.open_member || n_meta)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "flat: one file without metadata is written, no folder");
    struct DpsFormatWriter *w = n <= MAX_TENSORS ? dps_calloc (1, sizeof *w) : NULL;
    if (!w)
        return dps_fail (err, n > MAX_TENSORS ? DPS_ERR_LIMIT : DPS_ERR_NOMEM, "flat: no room for %lu tensors", n);
    w->to = stream;
    snprintf (line, sizeof line, "FLAT %lu\n", n);
    DpsStatus st = put (w, line, err);
    for (uint64_t i = 0; st == DPS_OK && i < n; i++)
        st = put_tensor (w, tensors[i], err);
    if (st == DPS_OK)
        *out = w;
    else
        dps_free (w);
    return st;
}

static DpsStatus write_data (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err)
{
    if (len > w->missing)
        return dps_fail (err, DPS_ERR_SHAPE, "flat: %lu bytes more than the shapes need", len - w->missing);
    w->missing -= len;
    return w->to.write (w->to.ctx, data, len, err);
}

static DpsStatus finish (struct DpsFormatWriter *w, DpsError *err)
{
    uint64_t missing = w->missing;
    dps_free (w);
    return missing ? dps_fail (err, DPS_ERR_SHAPE, "flat: %lu bytes did not come", missing) : DPS_OK;
}

static void abandon (struct DpsFormatWriter *w) { dps_free (w); }

static const DpsFormat format = {.size = sizeof format,
                                 .name = "flat",
                                 .extensions = ".flat,.flt",
                                 .probe = probe,
                                 .open = open_file,
                                 .close = close_file,
                                 .info = info,
                                 .tensor_info = tensor_info,
                                 .meta = meta,
                                 .read = read_raw,
                                 .read_f32 = read_f32,
                                 .create = create,
                                 .write = write_data,
                                 .finish = finish,
                                 .abandon = abandon};

DPS_PLUGIN_ONE (DPS_FORMAT_ID, format);
