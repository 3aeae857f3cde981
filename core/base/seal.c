/* SPDX-License-Identifier: Apache-2.0 */
#include "base/seal.h"

#include <string.h>
#include <sys/stat.h>

#include "base/digests.h"
#include "base/file.h"

static DpsStatus no_memory (const char *dir, DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dir); }

DpsStatus dps_seal_break (const char *dir, DpsError *err)
{
    char *path = dps_path_join (dir, DPS_SEAL_NAME);
    DpsStatus st = path ? DPS_OK : no_memory (dir, err);
    if (path && dps_is_file (path)) {
        st = dps_remove_tree (path, err);
        if (st == DPS_OK)
            st = dps_dir_sync (dir, err);
    }
    dps_free (path);
    return st;
}

static DpsStatus add (DpsDigests *list, const char *dir, const char *name, DpsError *err)
{
    struct stat sb;
    DpsDigest digest;
    char *path = dps_path_join (dir, name);
    DpsStatus st = path ? DPS_OK : no_memory (dir, err);
    if (path && stat (path, &sb) == 0 && S_ISREG (sb.st_mode)) {
        st = dps_sha256_file (path, &digest, err);
        if (st == DPS_OK && !dps_digests_add (list, name, (uint64_t)sb.st_size, &digest))
            st = dps_fail (err, DPS_ERR_INVALID, "%s: cannot be sealed (a name that is not plain, or out of memory)", path);
    }
    dps_free (path);
    return st;
}

DpsStatus dps_seal_write (const char *dir, const char *const *names, size_t n, DpsError *err)
{
    DpsDigests list = {0};
    DpsBuf text = {0};
    char *path = dps_path_join (dir, DPS_SEAL_NAME);
    DpsStatus st = path ? DPS_OK : no_memory (dir, err);
    for (size_t i = 0; st == DPS_OK && i < n; i++)
        st = add (&list, dir, names[i], err);
    if (st == DPS_OK && list.n == 0)
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "%s: holds nothing to seal", dir);
    if (st == DPS_OK)
        st = dps_digests_write (&list, &text, err);
    if (st == DPS_OK)
        st = dps_file_write (path, text.data, text.len, err);
    dps_buf_free (&text);
    dps_digests_free (&list);
    dps_free (path);
    return st;
}

/* What only a resumed run reads, through the checkpoint format, which checks it. */
static int is_state (const char *name)
{
    static const char *const names[] = {"optimizer.safetensors", "trainer_state.json", "run_state.json", "recipe.lock.yaml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp (name, names[i]))
            return 1;
    return 0;
}

static DpsStatus check_list (const DpsDigests *list, const char *dir, int whole, DpsError *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (is_state (list->files[i].name))
            continue;
        DpsStatus st = dps_digests_check (&list->files[i], dir, err);
        if (st != DPS_OK && (whole || st != DPS_ERR_NOT_FOUND))
            return st;
    }
    return DPS_OK;
}

/* Somebody else's manifest.json has neither key; a flipped bit cannot take both. */
static int is_ours (const DpsBuf *text)
{
    return memmem (text->data, text->len, "\"diapason_checkpoint\"", 21) || memmem (text->data, text->len, "\"self_sha256\"", 13);
}

static DpsStatus check_by (const char *dir, const char *name, int maybe_foreign, int whole, DpsError *err)
{
    DpsDigests list = {0};
    DpsBuf text = {0};
    char *path = dps_path_join (dir, name);
    DpsStatus st = path ? DPS_OK : no_memory (dir, err);
    if (path && dps_is_file (path)) {
        st = dps_file_read (path, DPS_DIGESTS_LIMIT, &text, err);
        if (maybe_foreign && (st == DPS_ERR_LIMIT || (st == DPS_OK && (!text.len || !is_ours (&text)))))
            st = DPS_OK;
        else if (st == DPS_OK)
            st = dps_digests_read (text.len ? text.data : "", text.len, path, &list, err);
        if (st == DPS_OK)
            st = check_list (&list, dir, whole, err);
    } else if (path && whole)
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "%s: missing", path);
    if (st == DPS_ERR_DIGEST && !whole)
        dps_error_hint (err, "write or fetch it again; if it was changed on purpose, remove %s", path);
    dps_digests_free (&list);
    dps_buf_free (&text);
    dps_free (path);
    return st;
}

DpsStatus dps_seal_check (const char *dir, DpsError *err)
{
    DPS_TRY (check_by (dir, DPS_SEAL_NAME, 0, 0, err));
    return check_by (dir, DPS_DIGESTS_MANIFEST, 1, 0, err);
}

DpsStatus dps_seal_check_whole (const char *dir, DpsError *err) { return check_by (dir, DPS_SEAL_NAME, 0, 1, err); }
