/* SPDX-License-Identifier: Apache-2.0 */
/* check.c: every file of a checkpoint against its manifest; of a damaged one, the message names the tensor. */
#include <string.h>

#include "base/file.h"
#include "file.h"

enum { PIECE = 1 << 20 }; /* bytes read and hashed at a time */

static DpsStatus tensor_digest (const DpsFormat *format, struct DpsFormatFile *f, uint64_t i, uint64_t bytes, DpsDigest *out)
{
    DpsHasher *h = dps_hasher_new ();
    void *buf = dps_malloc (PIECE, 1);
    DpsStatus st = h && buf ? DPS_OK : DPS_ERR_NOMEM;
    for (uint64_t at = 0; at < bytes && st == DPS_OK; at += PIECE) {
        uint64_t len = bytes - at < PIECE ? bytes - at : PIECE;
        st = format->read (f, i, at, len, buf, NULL);
        if (st == DPS_OK)
            dps_hasher_add (h, buf, len);
    }
    DpsStatus ended = h ? dps_hasher_final (h, out, NULL) : st;
    dps_free (buf);
    return st != DPS_OK ? st : ended;
}

/* The manifest's digest of a tensor, or NULL. */
static const char *saved_digest (const DpsDigestFile *f, DpsStr name)
{
    for (size_t i = 0; i < f->n_tensors; i++)
        if (dps_str_is (name, f->tensors[i]))
            return f->tensor_sha256[i].hex;
    return NULL;
}

/* Which tensor of a damaged file is damaged: for the message only, so every failure on the way just means "unknown". */
static DpsStatus name_damaged_tensor (const DpsFormat *format, const char *path, const DpsDigestFile *f, DpsError *err)
{
    struct DpsFormatFile *t = NULL;
    DpsDigest digest;
    uint64_t n = 0;
    if (f->n_tensors == 0 || format->open (dps_str (path), &t, NULL) != DPS_OK)
        return DPS_OK;
    DpsStatus st = DPS_OK;
    if (format->info (t, &n, NULL, NULL) != DPS_OK)
        n = 0;
    for (uint64_t i = 0; i < n && st == DPS_OK; i++) {
        DpsTensorInfo info = {.size = sizeof info};
        const char *saved = format->tensor_info (t, i, &info, NULL) == DPS_OK ? saved_digest (f, info.name) : NULL;
        if (saved && tensor_digest (format, t, i, info.bytes, &digest) == DPS_OK && strcmp (digest.hex, saved) != 0)
            st = dps_fail (err, DPS_ERR_DIGEST, "%s: tensor '%.*s' is damaged: its SHA-256 is not the one it was saved with", path,
                           (int)(info.name.len < 200 ? info.name.len : 200), info.name.ptr);
    }
    format->close (t);
    return st;
}

static DpsStatus check_file (const char *dir, const DpsDigestFile *f, const DpsFormat *format, DpsError *err)
{
    DpsStatus st = dps_digests_check (f, dir, err);
    char *path = st == DPS_ERR_DIGEST ? dps_path_join (dir, f->name) : NULL;
    if (path)
        name_damaged_tensor (format, path, f, err);
    dps_free (path);
    return st;
}

DpsStatus check_files (const char *dir, const DpsDigests *m, const DpsFormat *safetensors, DpsError *err)
{
    for (size_t i = 0; i < m->n; i++)
        DPS_TRY (check_file (dir, &m->files[i], safetensors, err));
    return DPS_OK;
}
