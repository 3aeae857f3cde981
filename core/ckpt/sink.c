/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/sink.h"

#include <string.h>

/* A plain file name, as dps.format/1 promises the host will insist on. */
static int name_ok (DpsStr name)
{
    return name.len > 0 && name.len <= 200 && name.ptr[0] != '.' && !memchr (name.ptr, '/', name.len) && !memchr (name.ptr, '\0', name.len);
}

static DpsStatus sink_write (void *ctx, const void *data, size_t len, DpsError *err)
{
    DpsSink *s = ctx;
    if (!s->hasher)
        return dps_fail (err, DPS_ERR_INVALID, "bytes after the end of a file");
    DPS_TRY (dps_writer_add (&s->file, data, len, err));
    dps_hasher_add (s->hasher, data, len);
    s->bytes += len;
    return DPS_OK;
}

/* A format of one file that was given a folder. */
static DpsStatus folder_write (void *ctx, const void *data, size_t len, DpsError *err)
{
    const DpsSink *s = ctx;
    (void)data, (void)len;
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: is a folder, and the format writes one file", s->dir);
}

static DpsStatus begin (DpsSink *s, const char *path, DpsError *err)
{
    s->bytes = 0;
    if (!(s->hasher = dps_hasher_new ()))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    DpsStatus st = dps_writer_begin (&s->file, path, err);
    if (st != DPS_OK)
        dps__sink_discard (s);
    return st;
}

static DpsStatus open_member (void *ctx, DpsStr name, DpsStream *out, DpsError *err)
{
    DpsSink *s = ctx;
    if (!name_ok (name))
        return dps_fail (err, DPS_ERR_INVALID, "%s: '%.*s' is not a plain file name", s->dir, (int)(name.len < 100 ? name.len : 100),
                         name.ptr);
    if (s->hasher)
        return dps_fail (err, DPS_ERR_INVALID, "%s/%.*s: another file of the folder is still open", s->dir, (int)name.len, name.ptr);
    char *path = dps_strf ("%s/%.*s", s->dir, (int)name.len, name.ptr);
    DpsStatus st = path ? begin (s, path, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s->dir);
    dps_free (path);
    DPS_TRY (st);
    const DpsStream stream = {.size = sizeof stream, .ctx = s, .write = sink_write};
    dps_table_copy (out, out->size < sizeof stream ? out->size : sizeof stream, &stream);
    return DPS_OK;
}

static DpsStatus close_member (void *ctx, char *out_sha256, uint64_t *out_bytes, DpsError *err)
{
    DpsDigest digest;
    DPS_TRY (dps__sink_commit (ctx, &digest, out_bytes, err));
    if (out_sha256)
        memcpy (out_sha256, digest.hex, 64);
    return DPS_OK;
}

void dps__sink_folder (DpsSink *s, const char *dir, DpsStream *out)
{
    *s = (DpsSink){.dir = dir, .file = {.fd = -1}};
    *out = (DpsStream){.size = sizeof *out, .ctx = s, .write = folder_write, .open_member = open_member, .close_member = close_member};
}

DpsStatus dps__sink_file (DpsSink *s, const char *path, DpsStream *out, DpsError *err)
{
    *s = (DpsSink){.file = {.fd = -1}};
    *out = (DpsStream){.size = sizeof *out, .ctx = s, .write = sink_write};
    return begin (s, path, err);
}

DpsStatus dps__sink_commit (DpsSink *s, DpsDigest *out_digest, uint64_t *out_bytes, DpsError *err)
{
    DpsHasher *h = s->hasher;
    DpsDigest digest;
    if (!h)
        return dps_fail (err, DPS_ERR_INVALID, "no file is open");
    s->hasher = NULL;
    DpsStatus st = dps_hasher_final (h, &digest, err);
    if (st == DPS_OK)
        st = dps_writer_commit (&s->file, err);
    else
        dps_writer_discard (&s->file);
    if (st == DPS_OK && out_digest)
        *out_digest = digest;
    if (st == DPS_OK && out_bytes)
        *out_bytes = s->bytes;
    return st;
}

void dps__sink_discard (DpsSink *s)
{
    DpsDigest unused;
    if (!s->hasher)
        return;
    dps_hasher_final (s->hasher, &unused, NULL);
    s->hasher = NULL;
    dps_writer_discard (&s->file);
}
