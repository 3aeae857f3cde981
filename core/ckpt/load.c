/* SPDX-License-Identifier: Apache-2.0 */
/* load.c: checkpoints read again: the newest sound one of a run or the one that is named, and the files in it. What is damaged is never opened. */
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "ckpt/checkpoint.h"
#include "diapason/plugin.h"

enum { JSON_LIMIT = 256 << 20 }; /* the longest trainer_state.json: a log history of a million steps */

struct DpsCheckpoint {
    char *path;
    const DpsFormat *format;
    struct DpsFormatFile *file;
    uint64_t step;
};

static DpsStatus no_memory (DpsError *err, const char *what) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", what); }

static DpsStatus read_step (DpsCheckpoint *c, DpsError *err)
{
    DpsMeta m = {.size = sizeof m};
    int64_t i = dps__format_meta (c->format, c->file, "", "step");
    if (i < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: does not say its step", c->path);
    DPS_TRY (c->format->meta (c->file, (uint64_t)i, &m, err));
    c->step = m.v.u;
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
    c->format = format;
    DpsStatus st = format
                       ? format->open (dps_str (c->path), &c->file, err)
                       : dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: the checkpoint plugin is not loaded. Hint: diapason plugins list", dir);
    if (st == DPS_OK)
        st = read_step (c, err);
    if (st != DPS_OK) {
        dps_ckpt_close (c);
        return st;
    }
    *out = c;
    return DPS_OK;
}

/* The newest sound one of steps[0..n), which rise. NOT_FOUND when n is 0. */
static DpsStatus open_newest (const char *output_dir, const uint64_t *steps, size_t n, const DpsFormat *format, DpsCheckpoint **out,
                              DpsError *err)
{
    DpsError why = DPS_ERROR_INIT;
    DpsStatus st = DPS_ERR_NOT_FOUND;
    for (size_t i = n; i-- > 0;) {
        char *dir = dps_strf ("%s/checkpoint-%llu", output_dir, (unsigned long long)steps[i]);
        st = dir ? dps_ckpt_open (dir, format, out, &why) : dps_fail (&why, DPS_ERR_NOMEM, "out of memory");
        dps_free (dir);
        if (st == DPS_OK || st == DPS_ERR_NOMEM)
            break;
        dps_log (DPS_LOG_WARNING, "checkpoint-%llu is not usable: %s", (unsigned long long)steps[i], why.msg);
    }
    if (st == DPS_OK)
        return DPS_OK;
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
        dps_error_hint (err, "--resume %s is sound", other->path);
        dps_ckpt_close (other);
    }
    dps_free (parent);
}

DpsStatus dps_ckpt_resume (const char *output_dir, const char *where, const DpsFormat *format, DpsCheckpoint **out, DpsError *err)
{
    if (!where || !*where || !strcmp (where, "auto") || !strcmp (where, "true"))
        return resume_newest (output_dir, format, out, err);
    char *manifest = dps_path_join (where, DPS_CKPT_MANIFEST);
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
    if (c->file)
        c->format->close (c->file);
    dps_free (c->path);
    dps_free (c);
}

const char *dps_ckpt_path (const DpsCheckpoint *c) { return c->path; }
uint64_t dps_ckpt_step (const DpsCheckpoint *c) { return c->step; }

/* 1 when it holds the tensor file. */
static int has_tensors (const DpsCheckpoint *c, const char *name)
{
    uint64_t n = 0;
    size_t len = strlen (name);
    if (c->format->info (c->file, &n, NULL, NULL) != DPS_OK)
        return 0;
    for (uint64_t i = 0; i < n; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        if (c->format->tensor_info (c->file, i, &t, NULL) == DPS_OK && t.name.len > len && !memcmp (t.name.ptr, name, len) &&
            t.name.ptr[len] == '/')
            return 1;
    }
    return 0;
}

int dps_ckpt_has (const DpsCheckpoint *c, const char *name)
{
    return dps__format_meta (c->format, c->file, "", name) >= 0 || has_tensors (c, name);
}

DpsStatus dps_ckpt_read (const DpsCheckpoint *c, const char *name, size_t limit, DpsBuf *out, DpsError *err)
{
    DpsMeta m = {.size = sizeof m};
    int64_t i = dps__format_meta (c->format, c->file, "", name);
    if (i < 0)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: holds no '%s'", c->path, name);
    DPS_TRY (c->format->meta (c->file, (uint64_t)i, &m, err));
    if (m.type != DPS_META_STR || m.v.s.len > limit)
        return dps_fail (err, DPS_ERR_LIMIT, "%s/%s: %zu bytes, at most %zu are read", c->path, name, m.v.s.len, limit);
    return dps_buf_add (out, m.v.s.ptr, m.v.s.len) ? no_memory (err, name) : DPS_OK;
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

DpsStatus dps_ckpt_tensors (const DpsCheckpoint *c, const char *name, DpsTensorFile **out, DpsError *err)
{
    if (!has_tensors (c, name))
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: holds no '%s'", c->path, name);
    return dps__tensors_part (c->format, c->path, c->file, name, out, err);
}
