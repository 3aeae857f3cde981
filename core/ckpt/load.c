/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "ckpt/checkpoint.h"
#include "ckpt/manifest.h"

enum { JSON_LIMIT = 256 << 20 }; /* the longest trainer_state.json: a log history of a million steps */

struct DpsCheckpoint {
    char *path;
    DpsCkptManifest manifest;
    DpsBuf note;
};

static DpsStatus no_memory (DpsError *err, const char *what) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", what); }

/* Which tensor of a damaged file is damaged: for the message only, so every failure on the way just means "unknown". */
static DpsStatus name_damaged_tensor (const DpsFormat *format, const char *path, const DpsCkptFile *f, DpsError *err)
{
    DpsTensorFile *t = NULL;
    DpsDigest digest;
    if (!format || f->n_tensors == 0 || dps_tensors_open (format, path, &t, NULL) != DPS_OK)
        return DPS_OK;
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < f->n_tensors && st == DPS_OK; i++) {
        int64_t at = dps_tensors_find (t, f->tensors[i]);
        if (at < 0 || dps_tensors_digest (t, (size_t)at, &digest, NULL) != DPS_OK)
            continue;
        if (strcmp (digest.hex, f->tensor_sha256[i].hex) != 0)
            st = dps_fail (err, DPS_ERR_DIGEST, "%s: tensor '%.200s' is damaged: its SHA-256 is not the one it was saved with", path,
                           f->tensors[i]);
    }
    dps_tensors_close (t);
    return st;
}

static DpsStatus check_file (const char *dir, const DpsFormat *format, const DpsCkptFile *f, DpsError *err)
{
    struct stat sb;
    DpsDigest digest;
    char *path = dps_path_join (dir, f->name);
    if (!path)
        return no_memory (err, dir);
    DpsStatus st = DPS_OK;
    if (stat (path, &sb) != 0)
        st =
            dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: missing from the checkpoint: %s", path, strerror (errno));
    else if (!S_ISREG (sb.st_mode))
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: not a regular file", path);
    else if ((uint64_t)sb.st_size != f->bytes)
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: has %lld bytes, %llu were saved", path, (long long)sb.st_size,
                       (unsigned long long)f->bytes);
    else
        st = dps_sha256_file (path, &digest, err);
    if (st == DPS_OK && strcmp (digest.hex, f->sha256.hex) != 0) {
        st = name_damaged_tensor (format, path, f, err);
        if (st == DPS_OK)
            st = dps_fail (err, DPS_ERR_DIGEST, "%s: damaged: its SHA-256 is not the one it was saved with", path);
    }
    dps_free (path);
    return st;
}

static DpsStatus read_manifest (DpsCheckpoint *c, DpsError *err)
{
    DpsBuf text = {0};
    char *path = dps_path_join (c->path, DPS_CKPT_MANIFEST_NAME);
    DpsStatus st = DPS_OK;
    if (!path)
        return no_memory (err, c->path);
    if (!dps_is_dir (c->path))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "%s: no such checkpoint folder", c->path);
    else if (!dps_is_file (path))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "%s: missing: not a Diapason checkpoint, or one that was never finished", path);
    else if ((st = dps_file_read (path, DPS_CKPT_MANIFEST_LIMIT, &text, err)) == DPS_OK)
        st = dps__ckpt_manifest_read (text.data ? text.data : "", text.len, path, &c->manifest, err);
    dps_buf_free (&text);
    dps_free (path);
    return st;
}

/* A folder renamed by hand would make a run continue at the wrong step. */
static DpsStatus check_step (const DpsCheckpoint *c, DpsError *err)
{
    char name[40];
    const char *slash = strrchr (c->path, '/'), *last = slash ? slash + 1 : c->path;
    snprintf (name, sizeof name, "checkpoint-%llu", (unsigned long long)c->manifest.step);
    if (!strncmp (last, "checkpoint-", 11) && strcmp (last, name) != 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: holds step %llu, so it should be called %s", c->path,
                         (unsigned long long)c->manifest.step, name);
    return DPS_OK;
}

DpsStatus dps_ckpt_open (const char *dir, const DpsFormat *format, DpsCheckpoint **out, DpsError *err)
{
    DpsCheckpoint *c = dps_calloc (1, sizeof *c);
    size_t len = strlen (dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    if (!c || !(c->path = dps_strndup (dir, len))) {
        dps_free (c);
        return no_memory (err, dir);
    }
    DpsStatus st = read_manifest (c, err);
    if (st == DPS_OK)
        st = check_step (c, err);
    for (size_t i = 0; i < c->manifest.n && st == DPS_OK; i++)
        st = check_file (c->path, format, &c->manifest.files[i], err);
    if (st != DPS_OK) {
        dps_ckpt_close (c);
        return st;
    }
    *out = c;
    return DPS_OK;
}

/* The newest sound one below `limit` (steps[0..n) rising), noting those passed over. NOT_FOUND when there is none. */
static DpsStatus open_newest (const char *output_dir, const uint64_t *steps, size_t n, const DpsFormat *format, DpsCheckpoint **out,
                              DpsError *err)
{
    DpsBuf note = {0};
    DpsError why = DPS_ERROR_INIT;
    DpsStatus st = DPS_ERR_NOT_FOUND;
    for (size_t i = n; i-- > 0;) {
        char *dir = dps_strf ("%s/checkpoint-%llu", output_dir, (unsigned long long)steps[i]);
        st = dir ? dps_ckpt_open (dir, format, out, &why) : dps_fail (&why, DPS_ERR_NOMEM, "out of memory");
        dps_free (dir);
        if (st == DPS_OK || st == DPS_ERR_NOMEM)
            break;
        dps_log (DPS_LOG_WARNING, "checkpoint-%llu is not usable: %s", (unsigned long long)steps[i], why.msg);
        if (dps_buf_printf (&note, "checkpoint-%llu: %s\n", (unsigned long long)steps[i], why.msg)) {
            st = dps_fail (&why, DPS_ERR_NOMEM, "out of memory");
            break;
        }
    }
    if (st == DPS_OK) {
        (*out)->note = note;
        return DPS_OK;
    }
    dps_buf_free (&note);
    if (st == DPS_ERR_NOMEM)
        return no_memory (err, output_dir);
    if (n == 0)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: holds no checkpoint-N folder to resume from", output_dir);
    return dps_fail (err, DPS_ERR_DIGEST, "%s: none of its %zu checkpoints is sound; the last one tried: %s", output_dir, n, why.msg);
}

static DpsStatus resume_newest (const char *output_dir, const DpsFormat *format, DpsCheckpoint **out, DpsError *err)
{
    uint64_t *steps = NULL;
    size_t n = 0;
    DPS_TRY (dps_ckpt_list (output_dir, &steps, &n, err));
    DpsStatus st = open_newest (output_dir, steps, n, format, out, err);
    dps_free (steps);
    return st;
}

/* A named checkpoint is damaged: name the sound one beside it, if any. */
static void suggest_other (const char *path, const DpsFormat *format, DpsError *err)
{
    const char *slash = strrchr (path, '/');
    char *parent = slash ? dps_strndup (path, (size_t)(slash - path)) : dps_strdup (".");
    DpsCheckpoint *other = NULL;
    if (err && parent && resume_newest (parent, format, &other, NULL) == DPS_OK) {
        size_t used = strlen (err->msg);
        snprintf (err->msg + used, sizeof err->msg - used, ". Hint: --resume %s is sound", other->path);
        dps_ckpt_close (other);
    }
    dps_free (parent);
}

DpsStatus dps_ckpt_resume (const char *output_dir, const char *where, const DpsFormat *format, DpsCheckpoint **out, DpsError *err)
{
    if (!where || !*where || !strcmp (where, "auto") || !strcmp (where, "true"))
        return resume_newest (output_dir, format, out, err);
    char *manifest = dps_path_join (where, DPS_CKPT_MANIFEST_NAME);
    if (!manifest)
        return no_memory (err, where);
    uint64_t *steps = NULL;
    size_t n = 0;
    DpsStatus st = dps_is_file (manifest) ? DPS_OK : dps_ckpt_list (where, &steps, &n, err);
    dps_free (manifest);
    if (st == DPS_OK && n)
        st = open_newest (where, steps, n, format, out, err);
    else if (st == DPS_OK) {
        st = dps_ckpt_open (where, format, out, err);
        if (st != DPS_OK && st != DPS_ERR_NOMEM)
            suggest_other (where, format, err);
    }
    dps_free (steps);
    return st;
}

void dps_ckpt_close (DpsCheckpoint *c)
{
    if (!c)
        return;
    dps__ckpt_manifest_free (&c->manifest);
    dps_buf_free (&c->note);
    dps_free (c->path);
    dps_free (c);
}

const char *dps_ckpt_path (const DpsCheckpoint *c) { return c->path; }
uint64_t dps_ckpt_step (const DpsCheckpoint *c) { return c->manifest.step; }
const char *dps_ckpt_note (const DpsCheckpoint *c) { return c->note.data ? c->note.data : ""; }
int dps_ckpt_has (const DpsCheckpoint *c, const char *name) { return dps__ckpt_manifest_find (&c->manifest, name) != NULL; }

DpsStatus dps_ckpt_read (const DpsCheckpoint *c, const char *name, size_t limit, DpsBuf *out, DpsError *err)
{
    const DpsCkptFile *f = dps__ckpt_manifest_find (&c->manifest, name);
    DpsDigest digest;
    size_t start = out->len;
    if (!f)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: holds no '%s'", c->path, name);
    char *path = dps_path_join (c->path, name);
    DpsStatus st = path ? dps_file_read (path, limit, out, err) : no_memory (err, name);
    if (st == DPS_OK)
        st = dps_sha256 (out->data + start, out->len - start, &digest, err);
    if (st == DPS_OK && strcmp (digest.hex, f->sha256.hex) != 0)
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: changed since the checkpoint was opened", path);
    dps_free (path);
    return st;
}

DpsStatus dps_ckpt_read_json (const DpsCheckpoint *c, const char *name, json_t **out, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = dps_ckpt_read (c, name, JSON_LIMIT, &text, err);
    if (st == DPS_OK)
        st = dps_json_parse (text.data, text.len, name, 1, DPS_JSON_UNIQUE, out, err);
    dps_buf_free (&text);
    return st;
}

DpsStatus dps_ckpt_tensors (const DpsCheckpoint *c, const DpsFormat *format, const char *name, DpsTensorFile **out, DpsError *err)
{
    if (!dps_ckpt_has (c, name))
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: holds no '%s'", c->path, name);
    char *path = dps_path_join (c->path, name);
    DpsStatus st = path ? dps_tensors_open (format, path, out, err) : no_memory (err, name);
    dps_free (path);
    return st;
}
