/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read.c: a checkpoint folder as one list of tensors and metadata (file.h). Every digest is checked when it is opened, before anything is
 * given out; a text file is read, and its digest checked again, when it is asked for.
 */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "file.h"

typedef struct Item {
    struct DpsFormatFile *in; /* the tensor file; NULL for a text and for the step */
    uint64_t number;          /* in it */
    const DpsDigestFile *file;
    char *name;  /* "FILE/NAME"; NULL where the file's own name is meant */
    DpsBuf text; /* once read */
} Item;

typedef struct Items {
    Item *items;
    size_t n, capacity;
} Items;

struct DpsFormatFile {
    char *dir;
    const DpsFormat *format; /* of the tensor files */
    DpsDigests manifest;
    struct DpsFormatFile **files; /* the tensor files, in the manifest's order */
    size_t n_files;
    Items tensors, meta;
};

static DpsStatus no_memory (const char *what, DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", what); }

static void free_items (Items *l)
{
    for (size_t i = 0; i < l->n; i++) {
        dps_free (l->items[i].name);
        dps_buf_free (&l->items[i].text);
    }
    dps_free (l->items);
}

void reader_close (struct DpsFormatFile *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->n_files; i++)
        f->format->close (f->files[i]);
    free_items (&f->tensors);
    free_items (&f->meta);
    dps_digests_free (&f->manifest);
    dps_free (f->files);
    dps_free (f->dir);
    dps_free (f);
}

static DpsStatus add_item (Items *l, Item item, const DpsDigestFile *file, DpsStr name, DpsError *err)
{
    item.file = file;
    if (item.in && !(item.name = dps_strf ("%s/%.*s", file->name, (int)name.len, name.ptr)))
        return no_memory (file->name, err);
    if (DPS_GROW (l->items, l->n, l->capacity)) {
        dps_free (item.name);
        return no_memory (file->name, err);
    }
    l->items[l->n++] = item;
    return DPS_OK;
}

static DpsStatus list_tensors (struct DpsFormatFile *f, struct DpsFormatFile *in, const DpsDigestFile *file, DpsError *err)
{
    uint64_t n_tensors = 0, n_meta = 0;
    DPS_TRY (f->format->info (in, &n_tensors, &n_meta, err));
    for (uint64_t i = 0; i < n_tensors; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        DPS_TRY (f->format->tensor_info (in, i, &t, err));
        DPS_TRY (add_item (&f->tensors, (Item){.in = in, .number = i}, file, t.name, err));
    }
    for (uint64_t i = 0; i < n_meta; i++) {
        DpsMeta m = {.size = sizeof m};
        DPS_TRY (f->format->meta (in, i, &m, err));
        DPS_TRY (add_item (&f->meta, (Item){.in = in, .number = i}, file, m.key, err));
    }
    return DPS_OK;
}

static DpsStatus open_files (struct DpsFormatFile *f, DpsError *err)
{
    f->files = dps_calloc (f->manifest.n, sizeof *f->files);
    if (!f->files)
        return no_memory (f->dir, err);
    for (size_t i = 0; i < f->manifest.n; i++) {
        const DpsDigestFile *file = &f->manifest.files[i];
        if (file->n_tensors == 0) {
            DPS_TRY (add_item (&f->meta, (Item){.in = NULL}, file, (DpsStr){NULL, 0}, err));
            continue;
        }
        char *path = dps_path_join (f->dir, file->name);
        DpsStatus st = path ? f->format->open (dps_str (path), &f->files[f->n_files], err) : no_memory (f->dir, err);
        dps_free (path);
        DPS_TRY (st);
        f->n_files++;
        DPS_TRY (list_tensors (f, f->files[f->n_files - 1], file, err));
    }
    return DPS_OK;
}

static DpsStatus read_manifest (struct DpsFormatFile *f, DpsError *err)
{
    DpsBuf text = {0};
    char *path = dps_path_join (f->dir, DPS_DIGESTS_MANIFEST);
    DpsStatus st = DPS_OK;
    if (!path)
        return no_memory (f->dir, err);
    if (!dps_is_dir (f->dir))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "%s: no such checkpoint folder", f->dir);
    else if (!dps_is_file (path))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "%s: missing: not a Diapason checkpoint, or one that was never finished", path);
    else if ((st = dps_file_read (path, DPS_DIGESTS_LIMIT, &text, err)) == DPS_OK)
        st = dps_digests_read (text.data ? text.data : "", text.len, path, &f->manifest, err);
    dps_buf_free (&text);
    dps_free (path);
    return st;
}

/* A folder renamed by hand would make a run continue at the wrong step. */
static DpsStatus check_step (const struct DpsFormatFile *f, DpsError *err)
{
    char name[40];
    const char *slash = strrchr (f->dir, '/'), *last = slash ? slash + 1 : f->dir;
    snprintf (name, sizeof name, "checkpoint-%llu", (unsigned long long)f->manifest.step);
    if (!strncmp (last, "checkpoint-", 11) && strcmp (last, name) != 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: holds step %llu, so it should be called %s", f->dir,
                         (unsigned long long)f->manifest.step, name);
    return DPS_OK;
}

DpsStatus reader_open (DpsStr path, struct DpsFormatFile **out, DpsError *err)
{
    struct DpsFormatFile *f = dps_calloc (1, sizeof *f);
    while (path.len > 1 && path.ptr[path.len - 1] == '/')
        path.len--;
    if (!f || !(f->dir = dps_strndup (path.ptr, path.len))) {
        dps_free (f);
        return dps_fail (err, DPS_ERR_NOMEM, "%.*s: out of memory", (int)path.len, path.ptr);
    }
    DpsStatus st = checkpoint_safetensors (&f->format, err);
    if (st == DPS_OK)
        st = read_manifest (f, err);
    if (st == DPS_OK)
        st = check_step (f, err);
    if (st == DPS_OK)
        st = check_files (f->dir, &f->manifest, f->format, err);
    if (st == DPS_OK)
        st = open_files (f, err);
    if (st != DPS_OK) {
        reader_close (f);
        return st;
    }
    *out = f;
    return DPS_OK;
}

DpsStatus reader_info (struct DpsFormatFile *f, uint64_t *out_n_tensors, uint64_t *out_n_meta, DpsError *err)
{
    (void)err;
    if (out_n_tensors)
        *out_n_tensors = f->tensors.n;
    if (out_n_meta)
        *out_n_meta = f->meta.n + 1; /* the step comes last */
    return DPS_OK;
}

static DpsStatus find_tensor (const struct DpsFormatFile *f, uint64_t i, const Item **out, DpsError *err)
{
    if (i >= f->tensors.n)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: tensor %llu of %zu", f->dir, (unsigned long long)i, f->tensors.n);
    *out = &f->tensors.items[i];
    return DPS_OK;
}

DpsStatus reader_tensor_info (struct DpsFormatFile *f, uint64_t i, DpsTensorInfo *out, DpsError *err)
{
    const Item *item = NULL;
    DpsTensorInfo t = {.size = sizeof t};
    DPS_TRY (find_tensor (f, i, &item, err));
    DPS_TRY (f->format->tensor_info (item->in, item->number, &t, err));
    t.name = dps_str (item->name);
    dps_table_copy (out, out->size < sizeof t ? out->size : sizeof t, &t);
    return DPS_OK;
}

static DpsStatus read_text (const struct DpsFormatFile *f, Item *item, DpsError *err)
{
    DpsDigest digest;
    if (item->text.data)
        return DPS_OK;
    char *path = dps_path_join (f->dir, item->file->name);
    DpsStatus st = path ? dps_file_read (path, MAX_TEXT, &item->text, err) : no_memory (f->dir, err);
    if (st == DPS_OK)
        st = dps_sha256 (item->text.data, item->text.len, &digest, err);
    if (st == DPS_OK && strcmp (digest.hex, item->file->sha256.hex) != 0)
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: changed since the checkpoint was opened", path);
    if (st != DPS_OK)
        dps_buf_free (&item->text);
    dps_free (path);
    return st;
}

DpsStatus reader_meta (struct DpsFormatFile *f, uint64_t i, DpsMeta *out, DpsError *err)
{
    DpsMeta m = {.size = sizeof m, .key = dps_str ("step"), .type = DPS_META_U64, .n = 1};
    if (i > f->meta.n)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: metadata %llu of %zu", f->dir, (unsigned long long)i, f->meta.n + 1);
    if (i == f->meta.n)
        m.v.u = f->manifest.step;
    else if (f->meta.items[i].in) {
        DPS_TRY (f->format->meta (f->meta.items[i].in, f->meta.items[i].number, &m, err));
        m.key = dps_str (f->meta.items[i].name);
    } else {
        if (out->size > offsetof (DpsMeta, v))
            DPS_TRY (read_text (f, &f->meta.items[i], err));
        m.key = dps_str (f->meta.items[i].file->name);
        m.type = DPS_META_STR;
        m.v.s = (DpsStr){f->meta.items[i].text.data, f->meta.items[i].text.len};
    }
    dps_table_copy (out, out->size < sizeof m ? out->size : sizeof m, &m);
    return DPS_OK;
}

DpsStatus reader_read (struct DpsFormatFile *f, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    const Item *item = NULL;
    DPS_TRY (find_tensor (f, i, &item, err));
    return f->format->read (item->in, item->number, offset, len, dst, err);
}

DpsStatus reader_read_f32 (struct DpsFormatFile *f, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    const Item *item = NULL;
    DPS_TRY (find_tensor (f, i, &item, err));
    return f->format->read_f32 (item->in, item->number, first, n, dst, err);
}

DpsStatus reader_map (struct DpsFormatFile *f, uint64_t i, const void **out, DpsError *err)
{
    const Item *item = NULL;
    DPS_TRY (find_tensor (f, i, &item, err));
    if (!f->format->map)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: tensors cannot be mapped", f->dir);
    return f->format->map (item->in, item->number, out, err);
}

void reader_release (struct DpsFormatFile *f, uint64_t i)
{
    const Item *item = NULL;
    if (f->format->release && find_tensor (f, i, &item, NULL) == DPS_OK)
        f->format->release (item->in, item->number);
}
