/* SPDX-License-Identifier: Apache-2.0 */
/* files.c: a file or the members of a folder, read and written whole, without durability: thousands of changed copies are made. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "check/content.h"

static DpsStatus add (CheckFiles *f, const char *path, const char *name, DpsError *err)
{
    if (f->n == CHECK_MAX_FILES)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: more than %d files", path, CHECK_MAX_FILES);
    if (!(f->names[f->n] = dps_strdup (name)))
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    return dps_file_read (path, 1 << 28, &f->data[f->n++], err);
}

static int by_name (const void *a, const void *b) { return strcmp (*(char *const *)a, *(char *const *)b); }

DpsStatus check_files_read (const char *path, CheckFiles *out, DpsError *err)
{
    char *names[CHECK_MAX_FILES];
    size_t n = 0;
    memset (out, 0, sizeof *out);
    out->folder = dps_is_dir (path);
    if (!out->folder)
        return add (out, path, "", err);
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    for (const char *name; dir && n < CHECK_MAX_FILES && (name = g_dir_read_name (dir));)
        names[n++] = g_strdup (name);
    qsort (names, n, sizeof *names, by_name);
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < n; i++) {
        g_autofree char *name = names[i], *member = g_build_filename (path, name, NULL);
        if (st == DPS_OK && dps_is_file (member))
            st = add (out, member, name, err);
    }
    return st;
}

static DpsStatus put (const char *path, const DpsBuf *data, DpsError *err)
{
    int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n = fd < 0 ? -1 : data->len ? write (fd, data->data, data->len) : 0;
    if (fd >= 0)
        close (fd);
    return n == (ssize_t)data->len ? DPS_OK : dps_fail (err, DPS_ERR_IO, "%s: %s", path, strerror (errno));
}

DpsStatus check_files_write (const CheckFiles *f, const char *path, DpsError *err)
{
    if (!f->folder)
        return put (path, &f->data[0], err);
    DPS_TRY (dps_mkdirs (path, err));
    for (size_t i = 0; i < f->n; i++) {
        g_autofree char *member = g_build_filename (path, f->names[i], NULL);
        DPS_TRY (put (member, &f->data[i], err));
    }
    return DPS_OK;
}

void check_files_free (CheckFiles *f)
{
    for (size_t i = 0; i < f->n; i++) {
        dps_free (f->names[i]);
        dps_buf_free (&f->data[i]);
    }
    memset (f, 0, sizeof *f);
}
