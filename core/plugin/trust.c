/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trust.c: the checks are on what was opened, never on a name that could be swapped afterwards: folders are walked by descriptor
 * and files are opened relative to them, without following links; a module is hashed in the sealed copy that is loaded.
 */
#include "plugin/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010u
#endif

#define MAX_MODULE_BYTES ((off_t)2 << 30)

/* The running program: whoever owns its file, or a folder above it, can already replace the code this process runs. */
typedef struct Program {
    char path[4096];
    uid_t owner;
} Program;

static Program this_program (void)
{
    Program p = {.owner = 0};
    struct stat sb;
    ssize_t n = readlink ("/proc/self/exe", p.path, sizeof p.path - 1);
    if (n < 0 || stat ("/proc/self/exe", &sb) != 0)
        return (Program){.owner = 0};
    p.owner = sb.st_uid;
    return p;
}

static int ours (const struct stat *sb, const Program *program)
{
    return sb->st_uid == 0 || sb->st_uid == geteuid () || sb->st_uid == program->owner;
}

static int above_program (const char *folder, const Program *program)
{
    size_t n = strlen (folder);
    return !strncmp (program->path, folder, n) && program->path[n] == '/';
}

/* Somebody else than the owner may write. A group numbered like its owner is that user's private group. */
static int others_write (const struct stat *sb) { return (sb->st_mode & S_IWOTH) || ((sb->st_mode & S_IWGRP) && sb->st_gid != sb->st_uid); }

static DpsStatus distrust (DpsError *err, const char *path, const struct stat *sb)
{
    if (others_write (sb))
        return dps_fail (err, DPS_ERR_POLICY, "%s: writable by others (mode %04o). Hint: chmod go-w", path, (unsigned)sb->st_mode & 07777u);
    return dps_fail (err, DPS_ERR_POLICY, "%s: belongs to user %u, expected root or user %u, who runs this", path, (unsigned)sb->st_uid,
                     (unsigned)geteuid ());
}

/* One step down from *fd into its entry `part`. Inside a sticky folder an entry of ours or root's cannot be replaced by others. */
static DpsStatus descend (int *fd, const char *path, const char *part, int last, const Program *program, DpsError *err)
{
    struct stat sb;
    int next = openat (*fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0 || fstat (next, &sb) != 0) {
        DpsStatus st = dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: cannot open: %s", path, strerror (errno));
        if (next >= 0)
            close (next);
        return st;
    }
    close (*fd);
    *fd = next;
    int sticky_parent = !last && (sb.st_mode & S_ISVTX);
    int owner_known = ours (&sb, program) || above_program (path, program);
    return owner_known && (!others_write (&sb) || sticky_parent) ? DPS_OK : distrust (err, path, &sb);
}

/* Walk the canonical path from the root; on success *out_fd is the folder. The path is cut and mended in place for messages. */
static DpsStatus walk (char *path, int *out_fd, DpsError *err)
{
    Program program = this_program ();
    int fd = open ("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return dps_fail (err, DPS_ERR_IO, "/: cannot open: %s", strerror (errno));
    DpsStatus st = DPS_OK;
    for (char *part = path + 1; st == DPS_OK && *part;) {
        char *end = part + strcspn (part, "/"), kept = *end;
        *end = '\0';
        st = descend (&fd, path, part, kept == '\0', &program, err);
        *end = kept;
        part = end + (kept == '/');
    }
    if (st == DPS_OK && (*out_fd = openat (fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        st = dps_fail (err, DPS_ERR_IO, "%s: cannot open: %s", path, strerror (errno));
    close (fd);
    return st;
}

DpsStatus dps__folder_open (const char *path, DpsFolder *out, DpsError *err)
{
    *out = (DpsFolder){.fd = -1};
    if (path[0] != '/')
        return dps_fail (err, DPS_ERR_POLICY,
                         "plugin folder '%s' is relative, and the current directory is never searched. "
                         "Hint: give its absolute path",
                         path);
    char *real = realpath (path, NULL);
    if (!real)
        return dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: no such plugin folder: %s", path, strerror (errno));
    DpsStatus st = walk (real, &out->fd, err);
    if (st == DPS_OK && !(out->path = dps_strdup (real)))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    free (real); /* allocated by libc */
    if (st != DPS_OK)
        dps__folder_close (out);
    return st;
}

void dps__folder_close (DpsFolder *f)
{
    if (f->fd >= 0)
        close (f->fd);
    dps_free (f->path);
    *f = (DpsFolder){.fd = -1};
}

DpsStatus dps__folder_file (const DpsFolder *f, const char *name, int *out_fd, DpsError *err)
{
    struct stat sb;
    Program program = this_program ();
    /* O_NONBLOCK: a FIFO of that name must not hang the program. */
    int fd = openat (f->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP)
        return dps_fail (err, DPS_ERR_POLICY, "%s/%s: is a symbolic link, expected the file itself", f->path, name);
    if (fd < 0)
        return dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s/%s: cannot open: %s", f->path, name, strerror (errno));
    DpsStatus st = DPS_OK;
    if (fstat (fd, &sb) != 0 || !S_ISREG (sb.st_mode))
        st = dps_fail (err, DPS_ERR_POLICY, "%s/%s: not a regular file", f->path, name);
    else if (!ours (&sb, &program) || others_write (&sb)) {
        char path[4096];
        snprintf (path, sizeof path, "%s/%s", f->path, name);
        st = distrust (err, path, &sb);
    }
    if (st != DPS_OK)
        close (fd);
    else
        *out_fd = fd;
    return st;
}

DpsStatus dps__fd_read (int fd, const char *where, size_t limit, DpsBuf *out, DpsError *err)
{
    char piece[4096];
    size_t start = out->len;
    for (ssize_t n; (n = read (fd, piece, sizeof piece)) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dps_fail (err, DPS_ERR_IO, "%s: cannot read: %s", where, strerror (errno));
        if (out->len - start + (size_t)n > limit)
            return dps_fail (err, DPS_ERR_LIMIT, "%s: longer than the %zu bytes allowed here", where, limit);
        if (dps_buf_add (out, piece, (size_t)n))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    }
    return DPS_OK;
}

static int anonymous_file (const char *name)
{
    /* Kernels before 6.3 do not know MFD_EXEC, later ones may be told to refuse memory files without it. */
    int fd = memfd_create (name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    return fd >= 0 || errno != EINVAL ? fd : memfd_create (name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

static int write_all (int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write (fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* 0, or -1 with errno. */
static int copy_all (int from, int to)
{
    const size_t piece = 1 << 20;
    char *buffer = dps_malloc (piece, 1);
    off_t copied = 0;
    ssize_t n = -1;
    errno = ENOMEM;
    while (buffer && (n = read (from, buffer, piece)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || write_all (to, buffer, (size_t)n))
            break;
        copied += n;
        errno = EFBIG;
        if (copied > MAX_MODULE_BYTES)
            break;
    }
    int kept = errno;
    dps_free (buffer);
    errno = kept;
    return n == 0 ? 0 : -1;
}

/*
 * The kernel refuses while it holds a page itself, as reclaim and compaction do for a moment; it has waited 150 ms by then. 0, or -1 with
 * errno.
 */
static int seal (int fd)
{
    int tries = 40, bad;
    while ((bad = fcntl (fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) && errno == EBUSY && --tries)
        ;
    return bad;
}

DpsStatus dps__seal_copy (int fd, const char *where, DpsSealed *out, DpsError *err)
{
    const char *slash = strrchr (where, '/');
    struct stat sb;
    *out = (DpsSealed){.fd = anonymous_file (slash ? slash + 1 : where)};
    if (out->fd < 0 || copy_all (fd, out->fd) || seal (out->fd) || fstat (out->fd, &sb)) {
        DpsStatus code = errno == ENOMEM ? DPS_ERR_NOMEM : errno == EFBIG ? DPS_ERR_LIMIT : DPS_ERR_IO;
        dps_fail (err, code, "%s: cannot copy into sealed memory: %s", where, strerror (errno));
        dps__seal_close (out);
        return code;
    }
    out->len = (size_t)sb.st_size;
    void *p = out->len ? mmap (NULL, out->len, PROT_READ, MAP_PRIVATE, out->fd, 0) : MAP_FAILED;
    if (p == MAP_FAILED) {
        DpsStatus st = out->len ? dps_fail (err, DPS_ERR_NOMEM, "%s: cannot map: %s", where, strerror (errno))
                                : dps_fail (err, DPS_ERR_FORMAT, "%s: the file is empty", where);
        dps__seal_close (out);
        return st;
    }
    out->data = p;
    DpsStatus st = dps_sha256 (out->data, out->len, &out->digest, err);
    if (st != DPS_OK)
        dps__seal_close (out);
    return st;
}

void dps__seal_close (DpsSealed *s)
{
    if (s->data)
        munmap ((void *)s->data, s->len);
    if (s->fd >= 0)
        close (s->fd);
    *s = (DpsSealed){.fd = -1};
}

int dps__privileged (void) { return getauxval (AT_SECURE) != 0 || geteuid () != getuid () || getegid () != getgid (); }

static int production;

void dps_trust_production (int on) { production = on; }
int dps__production (void) { return production; }
int dps__environment_counts (void) { return !production && !dps__privileged (); }
