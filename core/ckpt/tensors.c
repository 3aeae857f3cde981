/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/tensors.h"

#include <stdlib.h>
#include <string.h>

#include "ckpt/sink.h"

enum { PIECE = 1 << 20 }; /* bytes read, hashed and written at a time */

static const struct {
    uint32_t dtype;
    const char *name;
    size_t bytes;
} dtypes[] = {
    {DPS_DTYPE_F32, "F32", 4}, {DPS_DTYPE_BF16, "BF16", 2}, {DPS_DTYPE_F16, "F16", 2}, {DPS_DTYPE_F64, "F64", 8},
    {DPS_DTYPE_I64, "I64", 8}, {DPS_DTYPE_I32, "I32", 4},   {DPS_DTYPE_I16, "I16", 2}, {DPS_DTYPE_I8, "I8", 1},
    {DPS_DTYPE_U8, "U8", 1},   {DPS_DTYPE_BOOL, "BOOL", 1},
};
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes };

/* safetensors' spelling of a dtype ("F32"), or NULL; bytes of one element, or 0. */
static const char *dtype_name (uint32_t dtype)
{
    for (size_t i = 0; i < N_DTYPES; i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    return NULL;
}

static size_t dtype_bytes (uint32_t dtype)
{
    for (size_t i = 0; i < N_DTYPES; i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].bytes;
    return 0;
}

/* The descriptions in the shape the plugin wants them: pointers to sized structs. */
typedef struct Lists {
    DpsTensorInfo *infos;
    const DpsTensorInfo **info_ptrs;
    DpsMeta *metas;
    const DpsMeta **meta_ptrs;
} Lists;

static DpsStatus describe (const DpsTensorOut *t, DpsTensorInfo *out, DpsError *err)
{
    const char *dtype = dtype_name (t->dtype);
    uint64_t n = 1, bytes;
    if (!dtype)
        return dps_fail (err, DPS_ERR_DTYPE, "tensor '%.200s': dtype number %u cannot be saved", t->name, t->dtype);
    if (t->rank > DPS_TENSOR_MAX_RANK)
        return dps_fail (err, DPS_ERR_SHAPE, "tensor '%.200s': rank %u, at most %d can be saved", t->name, t->rank, DPS_TENSOR_MAX_RANK);
    for (uint32_t d = 0; d < t->rank; d++)
        if (t->shape[d] < 0 || __builtin_mul_overflow (n, (uint64_t)t->shape[d], &n))
            return dps_fail (err, DPS_ERR_SHAPE, "tensor '%.200s': its shape is negative or too large", t->name);
    if (__builtin_mul_overflow (n, dtype_bytes (t->dtype), &bytes))
        return dps_fail (err, DPS_ERR_SHAPE, "tensor '%.200s': too large", t->name);
    *out = (DpsTensorInfo){.size = sizeof *out,
                           .name = dps_str (t->name),
                           .dtype = dps_str (dtype),
                           .rank = t->rank,
                           .shape = t->shape,
                           .n_elements = n,
                           .bytes = bytes};
    return DPS_OK;
}

static void free_lists (Lists *l)
{
    dps_free (l->infos);
    dps_free (l->info_ptrs);
    dps_free (l->metas);
    dps_free (l->meta_ptrs);
}

static DpsStatus make_lists (const DpsTensorOut *tensors, size_t n, const DpsTensorMeta *meta, size_t n_meta, Lists *l, DpsError *err)
{
    *l = (Lists){dps_calloc (n, sizeof *l->infos), dps_calloc (n, sizeof *l->info_ptrs), dps_calloc (n_meta, sizeof *l->metas),
                 dps_calloc (n_meta, sizeof *l->meta_ptrs)};
    if (!l->infos || !l->info_ptrs || !l->metas || !l->meta_ptrs)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        DPS_TRY (describe (&tensors[i], &l->infos[i], err));
        l->info_ptrs[i] = &l->infos[i];
    }
    for (size_t i = 0; i < n_meta; i++) {
        l->metas[i] = (DpsMeta){.size = sizeof l->metas[i], .key = dps_str (meta[i].key), .type = DPS_META_STR, .n = 1};
        if (!meta[i].value) {
            l->metas[i].type = DPS_META_U64;
            l->metas[i].v.u = meta[i].number;
        } else
            l->metas[i].v.s = (DpsStr){meta[i].value, meta[i].len ? meta[i].len : strlen (meta[i].value)};
        l->meta_ptrs[i] = &l->metas[i];
    }
    return DPS_OK;
}

/* One tensor through the plugin. buf: PIECE bytes, only used when the tensor is read piecewise. */
static DpsStatus write_tensor (const DpsFormat *f, struct DpsFormatWriter *w, const DpsTensorOut *t, uint64_t bytes, void *buf,
                               DpsError *err)
{
    if (t->data)
        return bytes ? f->write (w, t->data, bytes, err) : DPS_OK;
    for (uint64_t at = 0; at < bytes; at += PIECE) {
        uint64_t len = bytes - at < PIECE ? bytes - at : PIECE;
        DPS_TRY (t->read (t->ctx, at, len, buf, err));
        DPS_TRY (f->write (w, buf, len, err));
    }
    return DPS_OK;
}

static DpsStatus write_all (const DpsFormat *f, const DpsStream *to, const Lists *l, const DpsTensorOut *tensors, size_t n, size_t n_meta,
                            void *buf, DpsError *err)
{
    struct DpsFormatWriter *w = NULL;
    DPS_TRY (f->create (to, l->info_ptrs, n, l->meta_ptrs, n_meta, &w, err));
    for (size_t i = 0; i < n; i++) {
        DpsStatus st = write_tensor (f, w, &tensors[i], l->infos[i].bytes, buf, err);
        if (st != DPS_OK) {
            f->abandon (w);
            return st;
        }
    }
    return f->finish (w, err);
}

DpsStatus dps_tensors_write (const DpsFormat *format, const char *path, const DpsTensorOut *tensors, size_t n, const DpsTensorMeta *meta,
                             size_t n_meta, DpsError *err)
{
    Lists lists = {0};
    DpsSink sink = {.file = {.fd = -1}};
    DpsStream to;
    int is_folder = dps_is_dir (path);
    if (!format->create)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: format '%s' cannot write", path, format->name);
    void *buf = dps_malloc (PIECE, 1);
    DpsStatus st = buf ? make_lists (tensors, n, meta, n_meta, &lists, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (is_folder)
        dps__sink_folder (&sink, path, &to);
    else if (st == DPS_OK)
        st = dps__sink_file (&sink, path, &to, err);
    if (st == DPS_OK)
        st = write_all (format, &to, &lists, tensors, n, n_meta, buf, err);
    if (st == DPS_OK && !is_folder)
        st = dps__sink_commit (&sink, NULL, NULL, err);
    dps__sink_discard (&sink);
    if (st != DPS_OK && err && !strstr (err->msg, path))
        dps_error_prefix (err, "%s", path);
    free_lists (&lists);
    dps_free (buf);
    return st;
}

static DpsStatus keep_nothing (void *ctx, const void *data, size_t len, DpsError *err)
{
    (void)ctx, (void)data, (void)len, (void)err;
    return DPS_OK;
}

DpsStatus dps_tensors_check (const DpsFormat *format, const DpsTensorOut *tensors, size_t n, const DpsTensorMeta *meta, size_t n_meta,
                             DpsError *err)
{
    const DpsStream nowhere = {.size = sizeof nowhere, .write = keep_nothing};
    struct DpsFormatWriter *w = NULL;
    Lists lists = {0};
    if (!format->create)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "format '%s' cannot write", format->name);
    DpsStatus st = make_lists (tensors, n, meta, n_meta, &lists, err);
    if (st == DPS_OK)
        st = format->create (&nowhere, lists.info_ptrs, n, lists.meta_ptrs, n_meta, &w, err);
    if (st == DPS_OK)
        format->abandon (w);
    free_lists (&lists);
    return st;
}

struct DpsTensorFile {
    const DpsFormat *format;
    struct DpsFormatFile *file;
    char *path, *part; /* part: "FILE/", what the names of these tensors and metadata begin with in `file`; "" for all of it */
    int borrowed;      /* the file is somebody else's to close */
    DpsTensorInfo *infos;
    uint64_t *numbers; /* in the file */
    size_t n;
};

static int in_part (const DpsTensorFile *f, DpsStr name)
{
    size_t n = strlen (f->part);
    return name.len > n && !memcmp (name.ptr, f->part, n);
}

/* Without the part. */
static DpsStr plain (const DpsTensorFile *f, DpsStr name)
{
    size_t n = strlen (f->part);
    return (DpsStr){name.ptr + n, name.len - n};
}

static DpsStatus list_infos (DpsTensorFile *f, DpsError *err)
{
    uint64_t n = 0;
    DPS_TRY (f->format->info (f->file, &n, NULL, err));
    if (n > SIZE_MAX / sizeof *f->infos || !(f->infos = dps_calloc ((size_t)n, sizeof *f->infos)) ||
        !(f->numbers = dps_calloc ((size_t)n, sizeof *f->numbers)))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", f->path);
    for (uint64_t i = 0; i < n; i++) {
        DpsTensorInfo *t = &f->infos[f->n];
        t->size = sizeof *t;
        DPS_TRY (f->format->tensor_info (f->file, i, t, err));
        if (!in_part (f, t->name))
            continue;
        t->name = plain (f, t->name);
        f->numbers[f->n++] = i;
    }
    return DPS_OK;
}

static DpsStatus open_part (const DpsFormat *format, const char *path, struct DpsFormatFile *file, const char *part, DpsTensorFile **out,
                            DpsError *err)
{
    DpsTensorFile *f = dps_calloc (1, sizeof *f);
    if (f) {
        *f = (DpsTensorFile){.format = format, .file = file, .borrowed = file != NULL};
        f->path = *part ? dps_strf ("%s/%s", path, part) : dps_strdup (path);
        f->part = *part ? dps_strf ("%s/", part) : dps_strdup ("");
    }
    DpsStatus st = f && f->path && f->part ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    if (st == DPS_OK && !file)
        st = format->open (dps_str (path), &f->file, err);
    if (st == DPS_OK)
        st = list_infos (f, err);
    if (st != DPS_OK) {
        dps_tensors_close (f);
        return st;
    }
    *out = f;
    return DPS_OK;
}

DpsStatus dps_tensors_open (const DpsFormat *format, const char *path, DpsTensorFile **out, DpsError *err)
{
    return open_part (format, path, NULL, "", out, err);
}

DpsStatus dps__tensors_part (const DpsFormat *format, const char *path, struct DpsFormatFile *file, const char *part, DpsTensorFile **out,
                             DpsError *err)
{
    return open_part (format, path, file, part, out, err);
}

void dps_tensors_close (DpsTensorFile *f)
{
    if (!f)
        return;
    if (f->file && !f->borrowed)
        f->format->close (f->file);
    dps_free (f->infos);
    dps_free (f->numbers);
    dps_free (f->path);
    dps_free (f->part);
    dps_free (f);
}

size_t dps_tensors_count (const DpsTensorFile *f) { return f->n; }

const DpsTensorInfo *dps_tensors_at (const DpsTensorFile *f, size_t i) { return &f->infos[i]; }

int64_t dps_tensors_find (const DpsTensorFile *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (dps_str_is (f->infos[i].name, name))
            return (int64_t)i;
    return -1;
}

int64_t dps__format_meta (const DpsFormat *format, struct DpsFormatFile *file, const char *part, const char *key)
{
    uint64_t n = 0;
    size_t skip = strlen (part);
    if (format->info (file, NULL, &n, NULL) != DPS_OK)
        return -1;
    for (uint64_t i = 0; i < n; i++) {
        DpsMeta m = {.size = offsetof (DpsMeta, type)}; /* the key alone */
        if (format->meta (file, i, &m, NULL) == DPS_OK && m.key.len >= skip && !memcmp (m.key.ptr, part, skip) &&
            dps_str_is ((DpsStr){m.key.ptr + skip, m.key.len - skip}, key))
            return (int64_t)i;
    }
    return -1;
}

char *dps_tensors_meta (DpsTensorFile *f, const char *key)
{
    DpsMeta m = {.size = sizeof m};
    int64_t i = dps__format_meta (f->format, f->file, f->part, key);
    if (i < 0 || f->format->meta (f->file, (uint64_t)i, &m, NULL) != DPS_OK || m.type != DPS_META_STR)
        return NULL;
    return dps_strndup (m.v.s.ptr, m.v.s.len);
}

DpsStatus dps_tensors_read (DpsTensorFile *f, size_t i, void *dst, uint64_t bytes, DpsError *err)
{
    const DpsTensorInfo *t = &f->infos[i];
    if (t->bytes != bytes)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: tensor '%.*s' has %llu bytes, expected %llu", f->path, (int)t->name.len, t->name.ptr,
                         (unsigned long long)t->bytes, (unsigned long long)bytes);
    return f->format->read (f->file, f->numbers[i], 0, bytes, dst, err);
}

static int by_name (const void *a, const void *b)
{
    const DpsStr x = (*(const DpsTensorInfo *const *)a)->name, y = (*(const DpsTensorInfo *const *)b)->name;
    const int order = memcmp (x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
    return order ? order : (x.len > y.len) - (x.len < y.len);
}

static DpsStatus hash_tensor (DpsTensorFile *f, const DpsTensorInfo *t, char *piece, DpsHasher *h, DpsError *err)
{
    const uint64_t sizes[] = {t->name.len, t->dtype.len, t->rank, t->bytes};
    dps_hasher_add (h, sizes, sizeof sizes);
    dps_hasher_add (h, t->name.ptr, t->name.len);
    dps_hasher_add (h, t->dtype.ptr, t->dtype.len);
    dps_hasher_add (h, t->shape, t->rank * sizeof *t->shape);
    for (uint64_t at = 0; at < t->bytes; at += PIECE) {
        const uint64_t n = t->bytes - at < PIECE ? t->bytes - at : PIECE;
        DPS_TRY (f->format->read (f->file, f->numbers[t - f->infos], at, n, piece, err));
        dps_hasher_add (h, piece, n);
    }
    return DPS_OK;
}

DpsStatus dps_tensors_digest (DpsTensorFile *f, DpsDigest *out, DpsError *err)
{
    const size_t n = dps_tensors_count (f);
    const DpsTensorInfo **order = dps_calloc (n, sizeof *order);
    char *piece = dps_malloc (PIECE, 1);
    DpsHasher *h = order && piece ? dps_hasher_new () : NULL;
    DpsStatus st = h ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", f->path);
    for (size_t i = 0; h && i < n; i++)
        order[i] = &f->infos[i];
    if (h && n)
        qsort (order, n, sizeof *order, by_name);
    for (size_t i = 0; st == DPS_OK && i < n; i++)
        st = hash_tensor (f, order[i], piece, h, err);
    if (h) {
        DpsStatus done = dps_hasher_final (h, out, st == DPS_OK ? err : NULL);
        st = st == DPS_OK ? done : st;
    }
    dps_free (piece);
    dps_free (order);
    return st;
}

DpsStatus dps_tensors_read_f32 (DpsTensorFile *f, size_t i, float *dst, uint64_t n, DpsError *err)
{
    const DpsTensorInfo *t = &f->infos[i];
    if (t->n_elements != n)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: tensor '%.*s' has %llu elements, expected %llu", f->path, (int)t->name.len, t->name.ptr,
                         (unsigned long long)t->n_elements, (unsigned long long)n);
    return f->format->read_f32 (f->file, f->numbers[i], 0, n, dst, err);
}
