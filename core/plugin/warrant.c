/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/warrant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "plugin/sign.h"

enum { MAX_LIST = 1 << 20, MAX_KEY = 1 << 14 };

static const char list_name[] = "plugins.allow";

/* PREFIX/etc/diapason of PREFIX/bin/diapason; dps_free. NULL: no memory, or nobody knows where this program is. */
static char *etc_folder (void)
{
    char exe[4096];
    ssize_t n = readlink ("/proc/self/exe", exe, sizeof exe - 1);
    for (int up = 0; n > 0 && up < 2; up++) {
        exe[n] = '\0';
        char *slash = strrchr (exe, '/');
        n = slash - exe;
        *slash = '\0';
    }
    return n < 0 ? NULL : dps_path_join (strcmp (exe, "/usr") ? exe : "", "etc/diapason");
}

/* The user's own keys. */
static char *user_folder (void)
{
    const char *config = getenv ("XDG_CONFIG_HOME"), *home = getenv ("HOME");
    if (!dps__environment_counts ())
        return NULL;
    if (config && config[0] == '/')
        return dps_path_join (config, "diapason/keys");
    return home && home[0] == '/' ? dps_path_join (home, ".config/diapason/keys") : NULL;
}

static DpsStatus open_keys (const char *path, DpsFolder *out, DpsError *err)
{
    DpsStatus st = dps__folder_open (path, out, err);
    return st == DPS_ERR_NOT_FOUND ? DPS_OK : st;
}

static DpsStatus read_list (DpsWarrants *w, const DpsFolder *etc, DpsError *err)
{
    int fd;
    DpsStatus st = dps__folder_file (etc, list_name, &fd, err);
    if (st != DPS_OK)
        return st == DPS_ERR_NOT_FOUND ? DPS_OK : st;
    w->list_path = dps_path_join (etc->path, list_name);
    st = w->list_path ? dps__fd_read (fd, w->list_path, MAX_LIST, &w->list, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    close (fd);
    return st;
}

static DpsStatus open_etc (DpsWarrants *w, const char *path, DpsError *err)
{
    DpsFolder etc;
    DpsStatus st = dps__folder_open (path, &etc, err);
    if (st == DPS_ERR_NOT_FOUND)
        return DPS_OK;
    char *keys = dps_path_join (path, "keys");
    if (st == DPS_OK)
        st = keys ? read_list (w, &etc, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK)
        st = open_keys (keys, &w->keys[0], err);
    dps__folder_close (&etc);
    dps_free (keys);
    return st;
}

DpsStatus dps__warrants_open (DpsWarrants *w, DpsError *err)
{
    DpsError ignored = DPS_ERROR_INIT;
    *w = (DpsWarrants){.keys = {{.fd = -1}, {.fd = -1}}, .broken = DPS_ERROR_INIT};
    char *etc = etc_folder (), *user = user_folder ();
    DpsStatus st = etc ? open_etc (w, etc, &w->broken) : dps_fail (err, DPS_ERR_NOMEM, "plugin registry: out of memory");
    if (st == DPS_OK)
        w->broken.code = DPS_OK; /* what was not there is no fault */
    if (user && dps__folder_open (user, &w->keys[1], &ignored) != DPS_OK)
        w->keys[1].fd = -1; /* the user's own is an addition: an untrusted one is not used */
    dps_free (etc);
    dps_free (user);
    if (st != DPS_ERR_NOMEM)
        return DPS_OK;
    dps__warrants_close (w);
    return dps_fail (err, DPS_ERR_NOMEM, "plugin registry: out of memory");
}

void dps__warrants_close (DpsWarrants *w)
{
    dps__folder_close (&w->keys[0]);
    dps__folder_close (&w->keys[1]);
    dps_buf_free (&w->list);
    dps_free (w->list_path);
    w->list_path = NULL;
}

/* A line of the list begins with the digest; some tools print capitals. */
static int is_listed (const DpsWarrants *w, const DpsDigest *digest)
{
    const char *stop = w->list.len ? w->list.data + w->list.len : NULL;
    for (const char *at = w->list.data; at && at < stop; at++) {
        if (stop - at >= 64 && !strncasecmp (at, digest->hex, 64) && (at + 64 == stop || memchr (" \t\r\n", at[64], 4)))
            return 1;
        at = memchr (at, '\n', (size_t)(stop - at));
        if (!at)
            return 0;
    }
    return 0;
}

/* The key of that name, from the first folder that has it; NOT_FOUND when none has. */
static DpsStatus find_key (const DpsWarrants *w, const char *name, DpsBuf *out, char *where, size_t room, DpsError *err)
{
    char file[80];
    snprintf (file, sizeof file, "%.64s.pem", name);
    for (size_t i = 0; i < 2; i++) {
        int fd;
        if (w->keys[i].fd < 0)
            continue;
        DpsStatus st = dps__folder_file (&w->keys[i], file, &fd, err);
        if (st == DPS_ERR_NOT_FOUND)
            continue;
        DPS_TRY (st);
        snprintf (where, room, "%s/%s", w->keys[i].path, file);
        st = dps__fd_read (fd, where, MAX_KEY, out, err);
        close (fd);
        return st;
    }
    return DPS_ERR_NOT_FOUND;
}

static DpsStatus check_signature (const DpsWarrants *w, const DpsManifest *m, const DpsBuf *text, const char *path, char out_signer[65],
                                  DpsError *err)
{
    char where[4200];
    DpsBuf key = {0};
    size_t n = dps__signed_bytes (text->len ? text->data : "", text->len);
    if (!m->signature[0])
        return DPS_OK;
    if (!n || !m->signed_by[0])
        return dps_fail (err, DPS_ERR_FORMAT, "%s: its manifest's last line is not signature=, or signed-by= is missing", path);
    DpsStatus st = find_key (w, m->signed_by, &key, where, sizeof where, err);
    if (st == DPS_OK)
        st = dps__sign_check (&key, where, text->data, n, m->signature, err);
    dps_buf_free (&key);
    if (st == DPS_ERR_NOT_FOUND)
        return DPS_OK; /* as if it were unsigned */
    if (st != DPS_OK) {
        dps_error_prefix (err, "%s: signed by %s, but", path, m->signed_by);
        return st;
    }
    snprintf (out_signer, 65, "%s", m->signed_by);
    return DPS_OK;
}

DpsStatus dps__warrant (const DpsWarrants *w, const DpsManifest *m, const DpsBuf *text, const DpsDigest *digest, int beside_program,
                        const char *path, char out_signer[65], DpsError *err)
{
    out_signer[0] = '\0';
    if (w->broken.code != DPS_OK)
        return dps_fail (err, w->broken.code, "%s: not loaded, because what may be loaded cannot be read: %s", path, w->broken.msg);
    DPS_TRY (check_signature (w, m, text, path, out_signer, err));
    int listed = is_listed (w, digest), ours = beside_program && !strncmp (m->id, "dps.", 4);
    if (w->list_path && !listed)
        return dps_fail (err, DPS_ERR_POLICY, "%s: its digest is not in %s. Hint: sha256sum %s >> %s", path, w->list_path, path,
                         w->list_path);
    if (dps__production () && !ours && !listed && !out_signer[0])
        return dps_fail (err, DPS_ERR_POLICY,
                         "%s: --production loads what comes with Diapason, is in etc/diapason/plugins.allow, or is signed by a key in "
                         "etc/diapason/keys%s%s",
                         path, m->signature[0] ? "; there is no key " : "", m->signature[0] ? m->signed_by : "");
    return DPS_OK;
}
