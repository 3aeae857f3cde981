/* SPDX-License-Identifier: Apache-2.0 */
/* save.c: a checkpoint is gathered in memory, written under a temporary name by its format, and renamed when all of it is durable. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "ckpt/checkpoint.h"

/* A file that is text (or any bytes) to the format. */
typedef struct Text {
    char *name;
    DpsBuf bytes; /* a copy, or */
    DpsMap map;   /* a file that is being copied */
} Text;

struct DpsCheckpointWriter {
    const DpsFormat *format;
    char *output_dir, *path, *tmp; /* OUTPUT, OUTPUT/checkpoint-N, OUTPUT/.checkpoint-N.tmp-PID */
    uint64_t step;
    Text *texts;
    size_t n_texts, texts_capacity;
    DpsTensorOut *tensors; /* of all tensor files; names "FILE/NAME", ours */
    size_t n_tensors, tensors_capacity;
    DpsTensorMeta *meta; /* keys "FILE/KEY" and values, ours */
    size_t n_meta, meta_capacity;
};

static DpsStatus no_memory (DpsError *err, const char *what) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", what); }

DpsStatus dps_ckpt_begin (const DpsFormat *format, const char *output_dir, uint64_t step, DpsCheckpointWriter **out, DpsError *err)
{
    if (!format)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: the checkpoint plugin is not loaded. Hint: diapason plugins list", output_dir);
    DpsCheckpointWriter *w = dps_calloc (1, sizeof *w);
    if (!w)
        return no_memory (err, output_dir);
    w->format = format;
    w->step = step;
    w->output_dir = dps_strdup (output_dir);
    w->path = dps_strf ("%s/checkpoint-%llu", output_dir, (unsigned long long)step);
    char *tmp = dps_strf ("%s/.checkpoint-%llu.tmp-%ld", output_dir, (unsigned long long)step, (long)getpid ());
    DpsStatus st = w->output_dir && w->path && tmp ? dps_mkdirs (output_dir, err) : no_memory (err, output_dir);
    if (st == DPS_OK)
        st = dps_remove_tree (tmp, err);
    if (st == DPS_OK && mkdir (tmp, 0755) != 0)
        st = dps_fail (err, DPS_ERR_IO, "%s: cannot create folder: %s", tmp, strerror (errno));
    if (st != DPS_OK) {
        dps_free (tmp);
        dps_ckpt_discard (w);
        return st;
    }
    w->tmp = tmp;
    *out = w;
    return DPS_OK;
}

void dps_ckpt_discard (DpsCheckpointWriter *w)
{
    if (!w)
        return;
    if (w->tmp)
        dps_remove_tree (w->tmp, NULL);
    for (size_t i = 0; i < w->n_texts; i++) {
        dps_free (w->texts[i].name);
        dps_buf_free (&w->texts[i].bytes);
        dps_map_close (&w->texts[i].map);
    }
    for (size_t i = 0; i < w->n_tensors; i++)
        dps_free ((char *)w->tensors[i].name);
    for (size_t i = 0; i < w->n_meta; i++) {
        dps_free ((char *)w->meta[i].key);
        dps_free ((char *)w->meta[i].value);
    }
    dps_free (w->texts);
    dps_free (w->tensors);
    dps_free (w->meta);
    dps_free (w->output_dir);
    dps_free (w->path);
    dps_free (w->tmp);
    dps_free (w);
}

/* Is `name` the FILE of "FILE/…"? */
static int belongs (const char *full, const char *name)
{
    size_t n = strlen (name);
    return !strncmp (full, name, n) && full[n] == '/';
}

static DpsStatus check_name (const DpsCheckpointWriter *w, const char *name, DpsError *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen (name);
    if (n == 0 || n > 200 || name[0] == '.' || strspn (name, allowed) != n || !strcmp (name, DPS_CKPT_MANIFEST))
        return dps_fail (err, DPS_ERR_INVALID, "%s: '%.100s' is not a file name a checkpoint can hold", w->path, name);
    int taken = 0;
    for (size_t i = 0; i < w->n_texts; i++)
        taken |= !strcmp (w->texts[i].name, name);
    for (size_t i = 0; i < w->n_tensors; i++)
        taken |= belongs (w->tensors[i].name, name);
    return taken ? dps_fail (err, DPS_ERR_INVALID, "%s: '%.100s' is added twice", w->path, name) : DPS_OK;
}

static DpsStatus add_text (DpsCheckpointWriter *w, const char *name, Text text, DpsError *err)
{
    text.name = dps_strdup (name);
    if (!text.name || DPS_GROW (w->texts, w->n_texts, w->texts_capacity)) {
        dps_free (text.name);
        dps_buf_free (&text.bytes);
        dps_map_close (&text.map);
        return no_memory (err, name);
    }
    w->texts[w->n_texts++] = text;
    return DPS_OK;
}

DpsStatus dps_ckpt_add_bytes (DpsCheckpointWriter *w, const char *name, const void *data, size_t len, DpsError *err)
{
    Text text = {.map = {.fd = -1}};
    DPS_TRY (check_name (w, name, err));
    if (dps_buf_add (&text.bytes, data, len)) {
        dps_buf_free (&text.bytes);
        return no_memory (err, name);
    }
    return add_text (w, name, text, err);
}

DpsStatus dps_ckpt_add_json (DpsCheckpointWriter *w, const char *name, const json_t *value, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = !value || dps_json_write (&text, value, 2) || dps_buf_str (&text, "\n")
                       ? no_memory (err, name)
                       : dps_ckpt_add_bytes (w, name, text.data, text.len, err);
    dps_buf_free (&text);
    return st;
}

DpsStatus dps_ckpt_add_copy (DpsCheckpointWriter *w, const char *name, const char *from_path, DpsError *err)
{
    Text text = {.map = {.fd = -1}};
    DPS_TRY (check_name (w, name, err));
    DPS_TRY (dps_map_open (from_path, &text.map, err));
    return add_text (w, name, text, err);
}

static DpsStatus add_meta (DpsCheckpointWriter *w, const char *file, const DpsTensorMeta *meta, DpsError *err)
{
    char *key = dps_strf ("%s/%s", file, meta->key), *value = dps_strdup (meta->value);
    if (!key || !value || DPS_GROW (w->meta, w->n_meta, w->meta_capacity)) {
        dps_free (key);
        dps_free (value);
        return no_memory (err, file);
    }
    w->meta[w->n_meta++] = (DpsTensorMeta){.key = key, .value = value};
    return DPS_OK;
}

DpsStatus dps_ckpt_add_tensors (DpsCheckpointWriter *w, const char *name, const DpsTensorOut *tensors, size_t n, const DpsTensorMeta *meta,
                                size_t n_meta, DpsError *err)
{
    DPS_TRY (check_name (w, name, err));
    for (size_t i = 0; i < n; i++) {
        if (DPS_GROW (w->tensors, w->n_tensors, w->tensors_capacity))
            return no_memory (err, name);
        w->tensors[w->n_tensors] = tensors[i];
        if (!(w->tensors[w->n_tensors].name = dps_strf ("%s/%s", name, tensors[i].name)))
            return no_memory (err, name);
        w->n_tensors++;
    }
    for (size_t i = 0; i < n_meta; i++)
        DPS_TRY (add_meta (w, name, &meta[i], err));
    return DPS_OK;
}

/*
 * Put tmp in path's place. When there is one already (a step written again after a rollback), the two change places at once, so that there
 * is a whole checkpoint at every moment; a file system that cannot do this gets two renames.
 */
static DpsStatus move_into_place (DpsCheckpointWriter *w, DpsError *err)
{
    if (rename (w->tmp, w->path) == 0) {
        dps_free (w->tmp);
        w->tmp = NULL; /* nothing to remove any more */
        return DPS_OK;
    }
    if (errno != ENOTEMPTY && errno != EEXIST)
        return dps_fail (err, DPS_ERR_IO, "%s: cannot rename into place: %s", w->path, strerror (errno));
    if (renameat2 (AT_FDCWD, w->tmp, AT_FDCWD, w->path, RENAME_EXCHANGE) == 0)
        return DPS_OK; /* tmp is the old one now and goes with discard */
    if (errno != EINVAL && errno != ENOSYS)
        return dps_fail (err, DPS_ERR_IO, "%s: cannot change places with the older one: %s", w->path, strerror (errno));
    char *aside = dps_strf ("%s.old", w->tmp);
    DpsStatus st = DPS_OK;
    if (!aside)
        return no_memory (err, w->path);
    if (rename (w->path, aside) != 0 || rename (w->tmp, w->path) != 0)
        st = dps_fail (err, DPS_ERR_IO, "%s: cannot rename into place: %s", w->path, strerror (errno));
    else {
        dps_free (w->tmp);
        w->tmp = aside;
        aside = NULL;
    }
    dps_free (aside);
    return st;
}

static DpsStatus write_all (const DpsCheckpointWriter *w, DpsError *err)
{
    size_t n = w->n_texts + w->n_meta + 1;
    DpsTensorMeta *meta = dps_calloc (n, sizeof *meta);
    if (!meta)
        return no_memory (err, w->path);
    meta[0] = (DpsTensorMeta){.key = "step", .number = w->step};
    for (size_t i = 0; i < w->n_texts; i++) {
        const Text *t = &w->texts[i];
        const char *bytes = t->map.data ? (const char *)t->map.data : t->bytes.data ? t->bytes.data : "";
        meta[1 + i] = (DpsTensorMeta){.key = t->name, .value = bytes, .len = t->map.data ? t->map.len : t->bytes.len};
    }
    for (size_t i = 0; i < w->n_meta; i++)
        meta[1 + w->n_texts + i] = w->meta[i];
    DpsStatus st = dps_tensors_write (w->format, w->tmp, w->tensors, w->n_tensors, meta, n, err);
    dps_free (meta);
    return st;
}

DpsStatus dps_ckpt_commit (DpsCheckpointWriter *w, DpsError *err)
{
    DpsStatus st = write_all (w, err);
    if (st == DPS_OK)
        st = dps_dir_sync (w->tmp, err);
    if (st == DPS_OK)
        st = move_into_place (w, err);
    if (st == DPS_OK)
        st = dps_dir_sync (w->output_dir, err);
    dps_ckpt_discard (w);
    return st;
}
