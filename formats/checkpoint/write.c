/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write.c: texts first, then one tensor file after the other as their bytes come, the manifest last. The host makes each member durable
 * and gives its digest; those of the tensors are made here.
 */
#include <string.h>

#include "base/file.h"
#include "file.h"

/* One tensor of the list, kept: the caller's arrays are gone when its bytes come. */
typedef struct Tensor {
    char *full; /* "FILE/NAME" */
    size_t split;
    char dtype[16];
    int64_t shape[8];
    uint64_t bytes;
    DpsTensorInfo info; /* of the tensor in its file */
} Tensor;

struct DpsFormatWriter {
    DpsStream to;
    const DpsFormat *format; /* of the tensor files */
    DpsDigests manifest;
    Tensor *tensors;
    uint64_t n_tensors;
    uint64_t at, done;  /* the tensor whose bytes come next, and how many of them came */
    uint64_t file_end;  /* the number of the first tensor after the open file */
    DpsHasher *hasher;  /* of tensor `at`, once its first byte came */
    DpsDigest *digests; /* [n_tensors] */
    DpsBuf meta;        /* pairs of NUL-terminated "FILE/KEY" and value: the tensor files' own */
    struct DpsFormatWriter *inner;
};

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory"); }

void writer_abandon (struct DpsFormatWriter *w)
{
    if (!w)
        return;
    if (w->inner)
        w->format->abandon (w->inner);
    if (w->hasher) {
        DpsDigest unused;
        dps_hasher_final (w->hasher, &unused, NULL);
    }
    for (uint64_t i = 0; w->tensors && i < w->n_tensors; i++)
        dps_free (w->tensors[i].full);
    dps_free (w->tensors);
    dps_free (w->digests);
    dps_buf_free (&w->meta);
    dps_digests_free (&w->manifest);
    dps_free (w);
}

static DpsStatus keep_tensor (Tensor *t, const DpsTensorInfo *from, DpsError *err)
{
    t->split = checkpoint_split (from->name);
    if (!t->split || from->dtype.len >= sizeof t->dtype || from->rank > 8)
        return dps_fail (err, DPS_ERR_INVALID, "checkpoint: tensor '%.*s': expected a name FILE/NAME, a known dtype, at most 8 dimensions",
                         (int)(from->name.len < 200 ? from->name.len : 200), from->name.ptr);
    if (!(t->full = dps_strndup (from->name.ptr, from->name.len)))
        return no_memory (err);
    memcpy (t->dtype, from->dtype.ptr, from->dtype.len);
    if (from->rank)
        memcpy (t->shape, from->shape, from->rank * sizeof *t->shape);
    t->bytes = from->bytes;
    t->info = (DpsTensorInfo){.size = sizeof t->info,
                              .name = dps_str (t->full + t->split + 1),
                              .dtype = dps_str (t->dtype),
                              .rank = from->rank,
                              .shape = t->shape,
                              .n_elements = from->n_elements,
                              .bytes = from->bytes};
    return DPS_OK;
}

/* Close the member at hand and enter it in the manifest. */
static DpsStatus enter_member (struct DpsFormatWriter *w, const char *name, DpsDigestFile **out, DpsError *err)
{
    DpsDigest digest = {.hex = ""};
    uint64_t bytes = 0;
    DPS_TRY (w->to.close_member (w->to.ctx, digest.hex, &bytes, err));
    *out = dps_digests_add (&w->manifest, name, bytes, &digest);
    return *out ? DPS_OK : no_memory (err);
}

static DpsStatus check_name (const struct DpsFormatWriter *w, const char *name, DpsError *err)
{
    if (!dps_digests_name_ok (name))
        return dps_fail (err, DPS_ERR_INVALID, "checkpoint: '%.100s' is not a file name a checkpoint can hold", name);
    if (dps_digests_find (&w->manifest, name))
        return dps_fail (err, DPS_ERR_INVALID, "checkpoint: '%.100s' comes twice", name);
    return DPS_OK;
}

static DpsStatus write_text (struct DpsFormatWriter *w, const DpsMeta *m, DpsError *err)
{
    DpsStream member = {.size = sizeof member};
    DpsDigestFile *unused;
    char *name = dps_strndup (m->key.ptr, m->key.len);
    DpsStatus st = name ? check_name (w, name, err) : no_memory (err);
    if (st == DPS_OK)
        st = w->to.open_member (w->to.ctx, m->key, &member, err);
    if (st == DPS_OK)
        st = member.write (member.ctx, m->v.s.ptr, m->v.s.len, err);
    if (st == DPS_OK)
        st = enter_member (w, name, &unused, err);
    dps_free (name);
    return st;
}

/* The step, texts, and what belongs into the tensor files. */
static DpsStatus take_meta (struct DpsFormatWriter *w, const DpsMeta *m, DpsError *err)
{
    if (m->type == DPS_META_U64 && dps_str_is (m->key, "step")) {
        w->manifest.step = m->v.u;
        return DPS_OK;
    }
    if (m->type != DPS_META_STR)
        return dps_fail (err, DPS_ERR_INVALID, "checkpoint: metadata '%.*s' is neither a string nor the step",
                         (int)(m->key.len < 200 ? m->key.len : 200), m->key.ptr);
    if (!checkpoint_split (m->key))
        return write_text (w, m, err);
    int bad = memchr (m->key.ptr, '\0', m->key.len) || (m->v.s.len && memchr (m->v.s.ptr, '\0', m->v.s.len));
    if (bad)
        return dps_fail (err, DPS_ERR_INVALID, "checkpoint: metadata '%.*s' has a NUL in it", (int)m->key.len, m->key.ptr);
    bad = dps_buf_add (&w->meta, m->key.ptr, m->key.len) || dps_buf_add (&w->meta, "", 1) ||
          dps_buf_add (&w->meta, m->v.s.ptr, m->v.s.len) || dps_buf_add (&w->meta, "", 1);
    return bad ? no_memory (err) : DPS_OK;
}

static int same_file (const Tensor *a, const Tensor *b) { return a->split == b->split && !memcmp (a->full, b->full, a->split); }

/* The pairs of w->meta that belong to the file of tensor t; out NULL: only their number. */
static size_t file_meta (const struct DpsFormatWriter *w, const Tensor *t, DpsMeta *out)
{
    size_t n = 0;
    for (size_t at = 0; at < w->meta.len;) {
        const char *key = w->meta.data + at, *value = key + strlen (key) + 1;
        at = (size_t)(value - w->meta.data) + strlen (value) + 1;
        if (strncmp (key, t->full, t->split + 1) != 0)
            continue;
        if (out) {
            out[n] = (DpsMeta){.size = sizeof *out, .key = dps_str (key + t->split + 1), .type = DPS_META_STR, .n = 1};
            out[n].v.s = dps_str (value);
        }
        n++;
    }
    return n;
}

/* Begin the file of tensor w->at. */
static DpsStatus open_file (struct DpsFormatWriter *w, DpsError *err)
{
    const Tensor *first = &w->tensors[w->at];
    DpsStream member = {.size = sizeof member};
    size_t n = 0, n_meta = file_meta (w, first, NULL);
    while (w->at + n < w->n_tensors && same_file (first, &w->tensors[w->at + n]))
        n++;
    char *name = dps_strndup (first->full, first->split);
    const DpsTensorInfo **list = dps_calloc (n, sizeof *list);
    DpsMeta *meta = dps_calloc (n_meta, sizeof *meta);
    const DpsMeta **meta_list = dps_calloc (n_meta, sizeof *meta_list);
    DpsStatus st = name && list && meta && meta_list ? check_name (w, name, err) : no_memory (err);
    for (size_t i = 0; st == DPS_OK && i < n; i++)
        list[i] = &w->tensors[w->at + i].info;
    if (st == DPS_OK)
        file_meta (w, first, meta);
    for (size_t i = 0; st == DPS_OK && i < n_meta; i++)
        meta_list[i] = &meta[i];
    if (st == DPS_OK)
        st = w->to.open_member (w->to.ctx, dps_str (name), &member, err);
    if (st == DPS_OK)
        st = w->format->create (&member, list, n, meta_list, n_meta, &w->inner, err);
    w->file_end = w->at + n;
    dps_free (name);
    dps_free (list);
    dps_free (meta);
    dps_free (meta_list);
    return st;
}

static DpsStatus list_tensors (const struct DpsFormatWriter *w, uint64_t first, DpsDigestFile *f, DpsError *err)
{
    uint64_t n = w->file_end - first;
    f->tensors = dps_calloc (n, sizeof *f->tensors);
    f->tensor_sha256 = dps_calloc (n, sizeof *f->tensor_sha256);
    if (!f->tensors || !f->tensor_sha256)
        return no_memory (err);
    for (; f->n_tensors < n; f->n_tensors++) {
        const Tensor *t = &w->tensors[first + f->n_tensors];
        f->tensor_sha256[f->n_tensors] = w->digests[first + f->n_tensors];
        if (!(f->tensors[f->n_tensors] = dps_strdup (t->full + t->split + 1)))
            return no_memory (err);
    }
    return DPS_OK;
}

/* All tensors of the open file came. */
static DpsStatus close_file (struct DpsFormatWriter *w, DpsError *err)
{
    uint64_t first = w->at - 1;
    struct DpsFormatWriter *inner = w->inner;
    DpsDigestFile *f = NULL;
    while (first > 0 && same_file (&w->tensors[first - 1], &w->tensors[first]))
        first--;
    w->inner = NULL;
    DPS_TRY (w->format->finish (inner, err));
    char *name = dps_strndup (w->tensors[first].full, w->tensors[first].split);
    DpsStatus st = name ? enter_member (w, name, &f, err) : no_memory (err);
    dps_free (name);
    return st == DPS_OK ? list_tensors (w, first, f, err) : st;
}

/* Step over tensors that are whole (empty ones at once), opening and closing files on the way. */
static DpsStatus advance (struct DpsFormatWriter *w, DpsError *err)
{
    while (w->at < w->n_tensors) {
        if (!w->inner)
            DPS_TRY (open_file (w, err));
        if (!w->hasher && !(w->hasher = dps_hasher_new ()))
            return no_memory (err);
        if (w->done < w->tensors[w->at].bytes)
            return DPS_OK;
        DpsHasher *h = w->hasher;
        w->hasher = NULL;
        DPS_TRY (dps_hasher_final (h, &w->digests[w->at], err));
        w->at++;
        w->done = 0;
        if (w->at == w->file_end)
            DPS_TRY (close_file (w, err));
    }
    return DPS_OK;
}

static DpsStatus begin (struct DpsFormatWriter *w, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta,
                        uint64_t n_meta, DpsError *err)
{
    DPS_TRY (checkpoint_safetensors (&w->format, err));
    if (!w->format->create)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "checkpoint: the safetensors plugin cannot write");
    w->tensors = dps_calloc (n_tensors, sizeof *w->tensors);
    w->digests = dps_calloc (n_tensors, sizeof *w->digests);
    w->n_tensors = w->tensors ? n_tensors : 0;
    if (!w->tensors || !w->digests)
        return no_memory (err);
    for (uint64_t i = 0; i < n_tensors; i++)
        DPS_TRY (keep_tensor (&w->tensors[i], tensors[i], err));
    for (uint64_t i = 0; i < n_meta; i++)
        DPS_TRY (take_meta (w, meta[i], err));
    return advance (w, err);
}

DpsStatus writer_create (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err)
{
    struct DpsFormatWriter *w = dps_calloc (1, sizeof *w);
    if (!w)
        return no_memory (err);
    dps_table_copy (&w->to, sizeof w->to, to);
    DpsStatus st = w->to.open_member && w->to.close_member
                       ? begin (w, tensors, n_tensors, meta, n_meta, err)
                       : dps_fail (err, DPS_ERR_UNSUPPORTED, "checkpoint: is a folder of files and cannot be written into one file");
    if (st != DPS_OK) {
        writer_abandon (w);
        return st;
    }
    *out = w;
    return DPS_OK;
}

DpsStatus writer_write (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err)
{
    for (const char *from = data; len;) {
        if (w->at == w->n_tensors)
            return dps_fail (err, DPS_ERR_SHAPE, "checkpoint: %llu bytes more than its tensors have", (unsigned long long)len);
        uint64_t left = w->tensors[w->at].bytes - w->done, n = len < left ? len : left;
        DPS_TRY (w->format->write (w->inner, from, n, err));
        dps_hasher_add (w->hasher, from, n);
        w->done += n;
        from += n;
        len -= n;
        DPS_TRY (advance (w, err));
    }
    return DPS_OK;
}

static DpsStatus write_manifest (struct DpsFormatWriter *w, DpsError *err)
{
    DpsBuf text = {0};
    DpsStream member = {.size = sizeof member};
    DpsStatus st = dps_digests_write (&w->manifest, &text, err);
    if (st == DPS_OK)
        st = w->to.open_member (w->to.ctx, dps_str (DPS_DIGESTS_MANIFEST), &member, err);
    if (st == DPS_OK)
        st = member.write (member.ctx, text.data, text.len, err);
    dps_buf_free (&text);
    return st == DPS_OK ? w->to.close_member (w->to.ctx, NULL, NULL, err) : st;
}

DpsStatus writer_finish (struct DpsFormatWriter *w, DpsError *err)
{
    DpsStatus st = DPS_OK;
    if (w->at < w->n_tensors)
        st = dps_fail (err, DPS_ERR_SHAPE, "checkpoint: tensor '%s' has %llu of %llu bytes", w->tensors[w->at].full,
                       (unsigned long long)w->done, (unsigned long long)w->tensors[w->at].bytes);
    else if (w->manifest.n == 0)
        st = dps_fail (err, DPS_ERR_INVALID, "checkpoint: it holds no file");
    if (st == DPS_OK)
        st = write_manifest (w, err);
    writer_abandon (w);
    return st;
}
