/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "ckpt/checkpoint.h"
#include "ckpt/manifest.h"

struct DpsCheckpointWriter {
    char *output_dir, *path, *tmp; /* OUTPUT, OUTPUT/checkpoint-N, OUTPUT/.checkpoint-N.tmp-PID */
    DpsCkptManifest manifest;
};

static DpsStatus no_memory (DpsError *err, const char *what) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", what); }

DpsStatus dps_ckpt_begin (const char *output_dir, uint64_t step, DpsCheckpointWriter **out, DpsError *err)
{
    DpsCheckpointWriter *w = dps_calloc (1, sizeof *w);
    if (!w)
        return no_memory (err, output_dir);
    w->manifest.step = step;
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
    dps__ckpt_manifest_free (&w->manifest);
    dps_free (w->output_dir);
    dps_free (w->path);
    dps_free (w->tmp);
    dps_free (w);
}

static DpsStatus check_name (const DpsCheckpointWriter *w, const char *name, DpsError *err)
{
    if (!dps__ckpt_manifest_name_ok (name))
        return dps_fail (err, DPS_ERR_INVALID, "%s: '%.100s' is not a file name a checkpoint can hold", w->path, name);
    if (dps__ckpt_manifest_find (&w->manifest, name))
        return dps_fail (err, DPS_ERR_INVALID, "%s: '%.100s' is added twice", w->path, name);
    return DPS_OK;
}

DpsStatus dps_ckpt_add_bytes (DpsCheckpointWriter *w, const char *name, const void *data, size_t len, DpsError *err)
{
    DpsDigest digest;
    DPS_TRY (check_name (w, name, err));
    DPS_TRY (dps_sha256 (data, len, &digest, err));
    char *path = dps_path_join (w->tmp, name);
    DpsStatus st = path ? dps_file_write (path, data, len, err) : no_memory (err, name);
    dps_free (path);
    if (st == DPS_OK && !dps__ckpt_manifest_add (&w->manifest, name, len, &digest))
        st = no_memory (err, name);
    return st;
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
    DpsMap map;
    DPS_TRY (dps_map_open (from_path, &map, err));
    DpsStatus st = dps_ckpt_add_bytes (w, name, map.data ? map.data : (const unsigned char *)"", map.len, err);
    dps_map_close (&map);
    return st;
}

DpsStatus dps_ckpt_add_model_files (DpsCheckpointWriter *w, const char *model_dir, DpsError *err)
{
    static const char *const names[] = {"config.json",     "generation_config.json",  "tokenizer.json",    "tokenizer_config.json",
                                        "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
                                        "merges.txt",      "chat_template.jinja"};
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && st == DPS_OK; i++) {
        char *from = dps_path_join (model_dir, names[i]);
        if (!from)
            return no_memory (err, model_dir);
        if (dps_is_file (from))
            st = dps_ckpt_add_copy (w, names[i], from, err);
        dps_free (from);
    }
    return st;
}

/* Names and digests of the tensors into the manifest's entry, which takes over `digests`. */
static DpsStatus list_tensors (DpsCkptFile *f, const DpsTensorOut *tensors, size_t n, DpsDigest *digests, DpsError *err)
{
    f->tensor_sha256 = digests;
    f->tensors = dps_calloc (n, sizeof *f->tensors);
    if (!f->tensors)
        return no_memory (err, f->name);
    for (; f->n_tensors < n; f->n_tensors++)
        if (!(f->tensors[f->n_tensors] = dps_strdup (tensors[f->n_tensors].name)))
            return no_memory (err, f->name);
    return DPS_OK;
}

DpsStatus dps_ckpt_add_tensors (DpsCheckpointWriter *w, const DpsFormat *format, const char *name, const DpsTensorOut *tensors, size_t n,
                                const DpsTensorMeta *meta, size_t n_meta, DpsError *err)
{
    DpsTensorsWritten written = {0};
    DPS_TRY (check_name (w, name, err));
    char *path = dps_path_join (w->tmp, name);
    DpsStatus st = path ? dps_tensors_write (format, path, tensors, n, meta, n_meta, &written, err) : no_memory (err, name);
    dps_free (path);
    DPS_TRY (st);
    DpsCkptFile *f = dps__ckpt_manifest_add (&w->manifest, name, written.bytes, &written.file);
    if (!f) {
        dps_free (written.tensors);
        return no_memory (err, name);
    }
    return list_tensors (f, tensors, n, written.tensors, err);
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

static DpsStatus write_manifest (DpsCheckpointWriter *w, DpsError *err)
{
    DpsBuf text = {0};
    char *path = dps_path_join (w->tmp, DPS_CKPT_MANIFEST_NAME);
    DpsStatus st = path ? dps__ckpt_manifest_write (&w->manifest, &text, err) : no_memory (err, w->path);
    if (st == DPS_OK)
        st = dps_file_write (path, text.data, text.len, err);
    dps_buf_free (&text);
    dps_free (path);
    return st;
}

DpsStatus dps_ckpt_commit (DpsCheckpointWriter *w, DpsError *err)
{
    DpsStatus st = write_manifest (w, err);
    if (st == DPS_OK)
        st = dps_dir_sync (w->tmp, err);
    if (st == DPS_OK)
        st = move_into_place (w, err);
    if (st == DPS_OK)
        st = dps_dir_sync (w->output_dir, err);
    dps_ckpt_discard (w);
    return st;
}
