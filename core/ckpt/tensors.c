/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/tensors.h"

#include <string.h>

#include "base/file.h"
#include "diapason/draft/plugin.h"

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

const char *dps_tensor_dtype_name (uint32_t dtype)
{
    for (size_t i = 0; i < N_DTYPES; i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    return NULL;
}

size_t dps_tensor_dtype_bytes (uint32_t dtype)
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

/* Where the plugin's bytes go: to the file and into its digest. */
typedef struct Sink {
    DpsFileWriter file;
    DpsHasher *hasher;
    uint64_t bytes;
} Sink;

static DpsStatus sink_write (void *ctx, const void *data, size_t len, DpsError *err)
{
    Sink *s = ctx;
    DPS_TRY (dps_writer_add (&s->file, data, len, err));
    dps_hasher_add (s->hasher, data, len);
    s->bytes += len;
    return DPS_OK;
}

static DpsStatus describe (const DpsTensorOut *t, DpsTensorInfo *out, DpsError *err)
{
    const char *dtype = dps_tensor_dtype_name (t->dtype);
    uint64_t n = 1, bytes;
    if (!dtype)
        return dps_fail (err, DPS_ERR_DTYPE, "tensor '%.200s': dtype number %u cannot be saved", t->name, t->dtype);
    if (t->rank > DPS_TENSOR_MAX_RANK)
        return dps_fail (err, DPS_ERR_SHAPE, "tensor '%.200s': rank %u, at most %d can be saved", t->name, t->rank, DPS_TENSOR_MAX_RANK);
    for (uint32_t d = 0; d < t->rank; d++)
        if (t->shape[d] < 0 || __builtin_mul_overflow (n, (uint64_t)t->shape[d], &n))
            return dps_fail (err, DPS_ERR_SHAPE, "tensor '%.200s': its shape is negative or too large", t->name);
    if (__builtin_mul_overflow (n, dps_tensor_dtype_bytes (t->dtype), &bytes))
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
        l->metas[i].v.s = dps_str (meta[i].value);
        l->meta_ptrs[i] = &l->metas[i];
    }
    return DPS_OK;
}

/* One tensor through the plugin, its digest on the way. buf: PIECE bytes, only used when the tensor is read piecewise. */
static DpsStatus write_tensor (const DpsFormat *f, struct DpsFormatWriter *w, const DpsTensorOut *t, uint64_t bytes, void *buf,
                               DpsDigest *out, DpsError *err)
{
    DpsHasher *h = dps_hasher_new ();
    DpsStatus st = h ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    for (uint64_t at = 0; at < bytes && st == DPS_OK; at += PIECE) {
        uint64_t len = bytes - at < PIECE ? bytes - at : PIECE;
        const void *from = buf;
        if (t->data)
            from = (const char *)t->data + at;
        else
            st = t->read (t->ctx, at, len, buf, err);
        if (st != DPS_OK)
            break;
        dps_hasher_add (h, from, len);
        st = f->write (w, from, len, err);
    }
    DpsDigest digest;
    DpsStatus ended = h ? dps_hasher_final (h, &digest, st == DPS_OK ? err : NULL) : DPS_OK;
    if (st == DPS_OK && ended == DPS_OK)
        *out = digest;
    return st != DPS_OK ? st : ended;
}

static DpsStatus write_all (const DpsFormat *f, Sink *sink, const Lists *l, const DpsTensorOut *tensors, size_t n, size_t n_meta, void *buf,
                            DpsDigest *digests, DpsError *err)
{
    DpsStream stream = {.size = sizeof stream, .ctx = sink, .write = sink_write};
    struct DpsFormatWriter *w = NULL;
    DPS_TRY (f->create (&stream, l->info_ptrs, n, l->meta_ptrs, n_meta, &w, err));
    for (size_t i = 0; i < n; i++) {
        DpsStatus st = write_tensor (f, w, &tensors[i], l->infos[i].bytes, buf, &digests[i], err);
        if (st != DPS_OK) {
            f->abandon (w);
            return st;
        }
    }
    return f->finish (w, err);
}

DpsStatus dps_tensors_write (const DpsFormat *format, const char *path, const DpsTensorOut *tensors, size_t n, const DpsTensorMeta *meta,
                             size_t n_meta, DpsTensorsWritten *written, DpsError *err)
{
    Lists lists = {0};
    Sink sink = {.file = {.fd = -1}};
    if (!format->create || !format->write || !format->finish || !format->abandon)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: format '%s' cannot write", path, format->name);
    DpsDigest *digests = dps_calloc (n, sizeof *digests), file;
    void *buf = dps_malloc (PIECE, 1);
    sink.hasher = dps_hasher_new ();
    DpsStatus st =
        digests && buf && sink.hasher ? make_lists (tensors, n, meta, n_meta, &lists, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK && (st = dps_writer_begin (&sink.file, path, err)) == DPS_OK)
        st = write_all (format, &sink, &lists, tensors, n, n_meta, buf, digests, err);
    DpsStatus ended = sink.hasher ? dps_hasher_final (sink.hasher, &file, st == DPS_OK ? err : NULL) : st;
    st = st != DPS_OK ? st : ended;
    if (st == DPS_OK)
        st = dps_writer_commit (&sink.file, err);
    else
        dps_writer_discard (&sink.file);
    if (st == DPS_OK && written) {
        *written = (DpsTensorsWritten){sink.bytes, file, digests};
        digests = NULL;
    } else if (st != DPS_OK && err && !strstr (err->msg, path))
        dps_error_prefix (err, "%s", path);
    free_lists (&lists);
    dps_free (buf);
    dps_free (digests);
    return st;
}

struct DpsTensorFile {
    const DpsFormat *format;
    struct DpsFormatFile *file;
    char *path;
    DpsTensorInfo *infos;
    size_t n;
};

DpsStatus dps_tensors_open (const DpsFormat *format, const char *path, DpsTensorFile **out, DpsError *err)
{
    uint64_t n = 0;
    DpsTensorFile *f = dps_calloc (1, sizeof *f);
    if (!f || !(f->path = dps_strdup (path))) {
        dps_free (f);
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    }
    f->format = format;
    DpsStatus st = format->open (dps_str (path), &f->file, err);
    if (st == DPS_OK)
        st = format->info (f->file, &n, NULL, err);
    if (st == DPS_OK && (n > SIZE_MAX / sizeof *f->infos || !(f->infos = dps_calloc ((size_t)n, sizeof *f->infos))))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    for (f->n = 0; st == DPS_OK && f->n < n; f->n++) {
        f->infos[f->n].size = sizeof *f->infos;
        st = format->tensor_info (f->file, f->n, &f->infos[f->n], err);
    }
    if (st != DPS_OK) {
        dps_tensors_close (f);
        return st;
    }
    *out = f;
    return DPS_OK;
}

void dps_tensors_close (DpsTensorFile *f)
{
    if (!f)
        return;
    if (f->file)
        f->format->close (f->file);
    dps_free (f->infos);
    dps_free (f->path);
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

char *dps_tensors_meta (DpsTensorFile *f, const char *key)
{
    uint64_t n = 0;
    if (f->format->info (f->file, NULL, &n, NULL) != DPS_OK)
        return NULL;
    for (uint64_t i = 0; i < n; i++) {
        DpsMeta m = {.size = sizeof m};
        if (f->format->meta (f->file, i, &m, NULL) == DPS_OK && m.type == DPS_META_STR && dps_str_is (m.key, key))
            return dps_strndup (m.v.s.ptr, m.v.s.len);
    }
    return NULL;
}

DpsStatus dps_tensors_read (DpsTensorFile *f, size_t i, void *dst, uint64_t bytes, DpsError *err)
{
    const DpsTensorInfo *t = &f->infos[i];
    if (t->bytes != bytes)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: tensor '%.*s' has %llu bytes, expected %llu", f->path, (int)t->name.len, t->name.ptr,
                         (unsigned long long)t->bytes, (unsigned long long)bytes);
    return f->format->read (f->file, i, 0, bytes, dst, err);
}

DpsStatus dps_tensors_read_f32 (DpsTensorFile *f, size_t i, float *dst, uint64_t n, DpsError *err)
{
    const DpsTensorInfo *t = &f->infos[i];
    if (t->n_elements != n)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: tensor '%.*s' has %llu elements, expected %llu", f->path, (int)t->name.len, t->name.ptr,
                         (unsigned long long)t->n_elements, (unsigned long long)n);
    return f->format->read_f32 (f->file, i, 0, n, dst, err);
}

DpsStatus dps_tensors_digest (DpsTensorFile *f, size_t i, DpsDigest *out, DpsError *err)
{
    uint64_t bytes = f->infos[i].bytes;
    DpsHasher *h = dps_hasher_new ();
    void *buf = dps_malloc (PIECE, 1);
    DpsStatus st = h && buf ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", f->path);
    for (uint64_t at = 0; at < bytes && st == DPS_OK; at += PIECE) {
        uint64_t len = bytes - at < PIECE ? bytes - at : PIECE;
        st = f->format->read (f->file, i, at, len, buf, err);
        if (st == DPS_OK)
            dps_hasher_add (h, buf, len);
    }
    DpsDigest digest;
    DpsStatus ended = h ? dps_hasher_final (h, &digest, st == DPS_OK ? err : NULL) : st;
    if (st == DPS_OK && ended == DPS_OK)
        *out = digest;
    dps_free (buf);
    return st != DPS_OK ? st : ended;
}
