/* SPDX-License-Identifier: Apache-2.0 */
/* trust.h: where code may come from: folders nobody else can change, and files read into memory that nothing can change. */
#ifndef DPS_PLUGIN_TRUST_H
#define DPS_PLUGIN_TRUST_H

#include "base/mem.h"
#include "base/sha256.h"

/** An open plugin folder: its canonical path (dps_free) and a descriptor that later opens go through. */
typedef struct DpsFolder {
    char *path;
    int fd;
} DpsFolder;

/**
 * Open a folder of plugins. It and each of its parents must belong to root, to this user or to the owner of the running program, and be
 * writable by nobody else. A parent that others may write to is accepted when it is sticky (/tmp): there, an entry can only be replaced
 * by its owner. A parent that is also above the program may belong to anybody: its owner could replace the program itself.
 * Errors: POLICY (relative path, or who could change what), NOT_FOUND, IO, NOMEM; *out has fd -1 then. [init]
 */
DpsStatus dps__folder_open (const char *path, DpsFolder *out, DpsError *err);
void dps__folder_close (DpsFolder *f);

/** Open regular file `name` of the folder for reading, under the same rule; links are refused. *out_fd is the caller's. [init] */
DpsStatus dps__folder_file (const DpsFolder *f, const char *name, int *out_fd, DpsError *err);

/** Append what an open file holds, at most `limit` bytes. Errors: IO, LIMIT, NOMEM. [any] */
DpsStatus dps__fd_read (int fd, const char *where, size_t limit, DpsBuf *out, DpsError *err);

/** A copy of a file in anonymous memory that no process can write to any more, its digest, and a mapping of it. */
typedef struct DpsSealed {
    int fd;
    const unsigned char *data;
    size_t len;
    DpsDigest digest;
} DpsSealed;

/** Copy, seal, hash. The digest is of the sealed bytes. Errors: LIMIT, IO, NOMEM; *out has fd -1 then. [init] */
DpsStatus dps__seal_copy (int fd, const char *where, DpsSealed *out, DpsError *err);
/** Unmap and, unless the descriptor was taken (fd set to -1), close it. */
void dps__seal_close (DpsSealed *s);

/** 1 when this process has rights its user has not (set-uid and the like), so that the environment must not steer it. [any] */
int dps__privileged (void);

/** --production: from now on no environment variable decides where code comes from, and strangers' plugins need a warrant (warrant.h). [init] */
void dps_trust_production (int on);
int dps__production (void);
/** 1 when variables such as DIAPASON_PLUGINS and HOME may say where things lie: neither privileged nor in production. [any] */
int dps__environment_counts (void);

#endif
