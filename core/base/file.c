/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static DpsStatus io_fail (DpsError *err, const char *what, const char *path)
{
    int e = errno;
    return dps_fail (err, e == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: cannot %s: %s", path, what, strerror (e));
}

DpsStatus dps_file_read (const char *path, size_t limit, DpsBuf *out, DpsError *err)
{
    int fd = open (path, O_RDONLY | O_CLOEXEC);
    struct stat sb;
    if (fd < 0)
        return io_fail (err, "open", path);
    DpsStatus st = DPS_OK;
    if (fstat (fd, &sb) == 0 && S_ISDIR (sb.st_mode))
        st = dps_fail (err, DPS_ERR_IO, "%s: is a folder, expected a file", path);
    size_t start = out->len;
    while (st == DPS_OK) {
        if (dps_buf_reserve (out, 65536)) {
            st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
            break;
        }
        ssize_t n = read (fd, out->data + out->len, out->capacity - out->len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            st = io_fail (err, "read", path);
        if (n <= 0)
            break;
        out->len += (size_t)n;
        if (out->len - start > limit)
            st = dps_fail (err, DPS_ERR_LIMIT, "%s: longer than the %zu bytes allowed here", path, limit);
    }
    if (out->data)
        out->data[out->len] = '\0';
    close (fd);
    return st;
}

DpsStatus dps_map_open (const char *path, DpsMap *out, DpsError *err)
{
    struct stat sb;
    *out = (DpsMap){.fd = -1};
    int fd = open (path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return io_fail (err, "open", path);
    if (fstat (fd, &sb) != 0 || !S_ISREG (sb.st_mode)) {
        close (fd);
        return dps_fail (err, DPS_ERR_IO, "%s: not a regular file", path);
    }
    out->len = (size_t)sb.st_size;
    out->fd = fd;
    if (out->len == 0)
        return DPS_OK;
    void *p = mmap (NULL, out->len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        DpsStatus st = io_fail (err, "map", path);
        close (fd);
        *out = (DpsMap){.fd = -1};
        return st;
    }
    out->data = p;
    return DPS_OK;
}

DpsStatus dps_map_open_named (DpsStr path, char **out_path, DpsMap *out, DpsError *err)
{
    *out = (DpsMap){.fd = -1};
    *out_path = dps_strndup (path.ptr, path.len);
    if (!*out_path)
        return dps_fail (err, DPS_ERR_NOMEM, "%.*s: out of memory", (int)path.len, path.ptr);
    return dps_map_open (*out_path, out, err);
}

void dps_map_release (const DpsMap *map, size_t offset, size_t len)
{
    size_t page = (size_t)sysconf (_SC_PAGESIZE), first = (offset + page - 1) / page * page;
    size_t last = (offset + len) / page * page;
    if (map->data && last > first && last <= map->len + page)
        madvise ((void *)(map->data + first), last - first, MADV_DONTNEED);
}

void dps_map_close (DpsMap *map)
{
    if (map->data)
        munmap ((void *)map->data, map->len);
    if (map->fd >= 0)
        close (map->fd);
    *map = (DpsMap){.fd = -1};
}

static DpsStatus sync_parent (const char *path, DpsError *err)
{
    const char *slash = strrchr (path, '/');
    char *dir = slash == path ? dps_strdup ("/") : slash ? dps_strndup (path, (size_t)(slash - path)) : dps_strdup (".");
    if (!dir)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    DpsStatus st = dps_dir_sync (dir, err);
    dps_free (dir);
    return st;
}

DpsStatus dps_dir_sync (const char *path, DpsError *err)
{
    int fd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return io_fail (err, "open", path);
    DpsStatus st = DPS_OK;
    if (fsync (fd) != 0 && errno != EINVAL && errno != EROFS)
        st = io_fail (err, "sync", path);
    close (fd);
    return st;
}

DpsStatus dps_dir_hold (const char *path, int *out_fd, DpsError *err)
{
    static const struct timespec pause = {.tv_nsec = 100000000};
    *out_fd = -1;
    int fd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), failed = 0;
    if (fd < 0)
        return io_fail (err, "open", path);
    for (int tries = 0; (failed = flock (fd, LOCK_EX | LOCK_NB)) != 0 && (errno == EWOULDBLOCK || errno == EINTR) && tries < 20; tries++)
        nanosleep (&pause, NULL);
    if (!failed) {
        *out_fd = fd;
        return DPS_OK;
    }
    int busy = errno == EWOULDBLOCK;
    close (fd);
    return busy ? dps_fail (err, DPS_ERR_LOCK, "%s: another process is writing to it", path) : DPS_OK;
}

DpsStatus dps_writer_begin (DpsFileWriter *w, const char *path, DpsError *err)
{
    struct stat sb;
    int special = stat (path, &sb) == 0 && (S_ISCHR (sb.st_mode) || S_ISFIFO (sb.st_mode) || S_ISSOCK (sb.st_mode));
    *w = (DpsFileWriter){.fd = -1};
    w->path = dps_strdup (path);
    w->tmp = special ? NULL : dps_strf ("%s.tmp-%ld", path, (long)getpid ());
    if (!w->path || (!special && !w->tmp)) {
        dps_writer_discard (w);
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    }
    if (special && (w->fd = open (path, O_WRONLY | O_CLOEXEC | O_NOCTTY)) < 0) {
        dps_writer_discard (w);
        return io_fail (err, "open", path);
    }
    int is_dir = !special && dps_is_dir (path);
    if (is_dir || (!special && (w->fd = open (w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644)) < 0)) {
        DpsStatus st =
            is_dir ? dps_fail (err, DPS_ERR_USAGE, "%s: is a folder, expected a file's name", path) : io_fail (err, "create", path);
        dps_free (w->tmp);
        w->tmp = NULL;
        dps_writer_discard (w);
        return st;
    }
    return DPS_OK;
}

DpsStatus dps_writer_add (DpsFileWriter *w, const void *data, size_t len, DpsError *err)
{
    const char *p = data;
    while (len) {
        ssize_t n = write (w->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = ENOSPC;
            return io_fail (err, "write", w->path);
        }
        p += n;
        len -= (size_t)n;
    }
    return DPS_OK;
}

DpsStatus dps_writer_commit (DpsFileWriter *w, DpsError *err)
{
    DpsStatus st = DPS_OK;
    if (w->tmp && fsync (w->fd) != 0)
        st = io_fail (err, "sync", w->path);
    if (close (w->fd) != 0 && st == DPS_OK)
        st = io_fail (err, "close", w->path);
    w->fd = -1;
    if (st == DPS_OK && w->tmp && rename (w->tmp, w->path) != 0)
        st = io_fail (err, "rename into place", w->path);
    if (st == DPS_OK && w->tmp) {
        dps_free (w->tmp);
        w->tmp = NULL;
        st = sync_parent (w->path, err);
    }
    dps_writer_discard (w);
    return st;
}

void dps_writer_discard (DpsFileWriter *w)
{
    if (w->fd >= 0)
        close (w->fd);
    if (w->tmp)
        unlink (w->tmp);
    dps_free (w->tmp);
    dps_free (w->path);
    *w = (DpsFileWriter){.fd = -1};
}

DpsStatus dps_file_write (const char *path, const void *data, size_t len, DpsError *err)
{
    DpsFileWriter w;
    DPS_TRY (dps_writer_begin (&w, path, err));
    DpsStatus st = dps_writer_add (&w, data, len, err);
    if (st != DPS_OK) {
        dps_writer_discard (&w);
        return st;
    }
    return dps_writer_commit (&w, err);
}

DpsStatus dps_file_write_buf (const char *path, DpsBuf *text, int bad, DpsError *err)
{
    DpsStatus st = bad ? dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path)
                       : dps_file_write (path, text->data ? text->data : "", text->len, err);
    dps_buf_free (text);
    return st;
}

DpsStatus dps_mkdirs (const char *path, DpsError *err)
{
    char *copy = dps_strdup (path);
    if (!copy)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    DpsStatus st = DPS_OK;
    for (char *p = copy + 1; st == DPS_OK; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char kept = *p;
        *p = '\0';
        if (mkdir (copy, 0755) != 0 && !(errno == EEXIST && dps_is_dir (copy)))
            st = errno == EEXIST ? dps_fail (err, DPS_ERR_USAGE, "%s: is a file, expected a folder or nothing there", copy)
                                 : io_fail (err, "create folder", copy);
        *p = kept;
        if (kept == '\0')
            break;
    }
    dps_free (copy);
    return st;
}

DpsStatus dps_remove_tree (const char *path, DpsError *err)
{
    struct stat sb;
    if (lstat (path, &sb) != 0)
        return errno == ENOENT ? DPS_OK : io_fail (err, "look at", path);
    if (!S_ISDIR (sb.st_mode))
        return unlink (path) == 0 ? DPS_OK : io_fail (err, "remove", path);
    DIR *dir = opendir (path);
    if (!dir)
        return io_fail (err, "open", path);
    DpsStatus st = DPS_OK;
    for (struct dirent *d; st == DPS_OK && (d = readdir (dir));) {
        if (!strcmp (d->d_name, ".") || !strcmp (d->d_name, ".."))
            continue;
        char *child = dps_path_join (path, d->d_name);
        st = child ? dps_remove_tree (child, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
        dps_free (child);
    }
    closedir (dir);
    if (st == DPS_OK && rmdir (path) != 0)
        st = io_fail (err, "remove", path);
    return st;
}

int dps_is_dir (const char *path)
{
    struct stat sb;
    return stat (path, &sb) == 0 && S_ISDIR (sb.st_mode);
}

int dps_same_file (const char *a, const char *b)
{
    struct stat x, y;
    return stat (a, &x) == 0 && stat (b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int dps_is_file (const char *path)
{
    struct stat sb;
    return stat (path, &sb) == 0 && S_ISREG (sb.st_mode);
}

char *dps_path_join (const char *a, const char *b)
{
    size_t n = strlen (a);
    return dps_strf (n && a[n - 1] == '/' ? "%s%s" : "%s/%s", a, b);
}
