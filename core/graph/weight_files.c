/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/weight_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { HEAD = 4096 };

size_t dps__format_ending (const DpsFormat *format, const char *file)
{
    const char *end = format->extensions ? format->extensions : "";
    size_t len = strlen (file);
    for (size_t n; *end; end += n + (end[n] == ',')) {
        n = strcspn (end, ",");
        if (n && n < len && !memcmp (file + len - n, end, n))
            return n;
    }
    return 0;
}

/* The k-th format that is asked, NULL past the last. */
static const DpsFormat *asked (const DpsRegistry *reg, size_t k)
{
    const void *safetensors = dps_registry_get (reg, DPS_FORMAT_ID, "safetensors"), *gguf = dps_registry_get (reg, DPS_FORMAT_ID, "gguf");
    const void *format;
    for (size_t i = 0; (format = dps_registry_nth (reg, DPS_FORMAT_ID, i, NULL)); i++)
        if (format != safetensors && format != gguf && k-- == 0)
            return format;
    return NULL;
}

static int by_name (const void *a, const void *b) { return strcmp (*(char *const *)a, *(char *const *)b); }

static DpsStatus add_name (DpsWeightFiles *files, size_t *capacity, const char *folder, const char *name, DpsError *err)
{
    char *path = dps_path_join (folder, name);
    int is_file = path && dps_is_file (path);
    dps_free (path);
    if (path && !is_file)
        return DPS_OK;
    if (files->n == DPS_WEIGHT_FILES_MAX)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: more than %d files of weights. Hint: save the model in larger ones", folder,
                         DPS_WEIGHT_FILES_MAX);
    if (!path || DPS_GROW (files->names, files->n, *capacity) || !(files->names[files->n] = dps_strdup (name)))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder);
    files->n++;
    return DPS_OK;
}

/* The files of one format, sorted. */
static DpsStatus list (const char *folder, const DpsFormat *format, DpsWeightFiles *out, DpsError *err)
{
    size_t capacity = 0;
    DIR *dir = opendir (folder);
    DpsStatus st = dir ? DPS_OK : dps_fail (err, DPS_ERR_IO, "%s: cannot be read: %s", folder, strerror (errno));
    *out = (DpsWeightFiles){.format = format};
    for (const struct dirent *d; st == DPS_OK && (d = readdir (dir));)
        if (d->d_name[0] != '.' && dps__format_ending (format, d->d_name))
            st = add_name (out, &capacity, folder, d->d_name, err);
    if (dir)
        closedir (dir);
    if (out->n > 1)
        qsort (out->names, out->n, sizeof *out->names, by_name);
    return st;
}

/* How sure the plugin is of the first file, 0 to 100. */
static DpsStatus sureness (const DpsWeightFiles *files, const char *folder, int32_t *out, DpsError *err)
{
    char head[HEAD];
    char *path = dps_path_join (folder, files->names[0]);
    if (!path)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder);
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : pread (fd, head, sizeof head, 0);
    DpsStatus st = n < 0 ? dps_fail (err, DPS_ERR_IO, "%s: cannot be read: %s", path, strerror (errno)) : DPS_OK;
    if (n >= 0)
        *out = files->format->probe ((DpsStr){path, strlen (path)}, head, (size_t)n);
    if (fd >= 0)
        close (fd);
    dps_free (path);
    return st;
}

DpsStatus dps__weight_files_find (const DpsRegistry *reg, const char *folder, DpsWeightFiles *out, DpsError *err)
{
    int32_t best = 0;
    const DpsFormat *rival = NULL, *format;
    DpsStatus st = DPS_OK;
    *out = (DpsWeightFiles){0};
    for (size_t k = 0; st == DPS_OK && (format = asked (reg, k)); k++) {
        DpsWeightFiles mine;
        int32_t sure = 0;
        st = list (folder, format, &mine, err);
        if (st == DPS_OK && mine.n)
            st = sureness (&mine, folder, &sure, err);
        if (st == DPS_OK && sure > best) {
            const DpsWeightFiles worse = *out;
            *out = mine;
            mine = worse;
            best = sure;
            rival = NULL;
        } else if (st == DPS_OK && sure == best && sure > 0)
            rival = format;
        dps__weight_files_close (&mine);
    }
    if (st == DPS_OK && rival)
        st = dps_fail (err, DPS_ERR_INVALID,
                       "%s: the format plugins '%s' and '%s' are equally sure of %s. Hint: take one of them out of DIAPASON_PLUGINS",
                       folder, out->format->name, rival->name, out->names[0]);
    return st;
}

void dps__weight_files_close (DpsWeightFiles *files)
{
    for (size_t i = 0; i < files->n; i++)
        dps_free (files->names[i]);
    dps_free (files->names);
    *files = (DpsWeightFiles){0};
}
