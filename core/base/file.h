/* SPDX-License-Identifier: Apache-2.0 */
/* file.h: reading files whole or mapped, and writing them so that a crash at any moment leaves the old or the new one. */
#ifndef DPS_BASE_FILE_H
#define DPS_BASE_FILE_H

#include "base/mem.h"
#include "base/status.h"

/** Read a whole file of at most `limit` bytes into `out` (appended). Errors: NOT_FOUND, IO, LIMIT, NOMEM. [any] */
DpsStatus dps_file_read (const char *path, size_t limit, DpsBuf *out, DpsError *err);

/** A read-only mapping. data is NULL for an empty file. */
typedef struct DpsMap {
    const unsigned char *data;
    size_t len;
    int fd;
} DpsMap;
DpsStatus dps_map_open (const char *path, DpsMap *out, DpsError *err);
/** The same by a path that need not end in NUL; a copy that does is the caller's, also after an error (dps_free). [any] */
DpsStatus dps_map_open_named (DpsStr path, char **out_path, DpsMap *out, DpsError *err);
/** Tell the kernel that [offset, offset+len) will not be read again soon, so that it leaves the resident set. */
void dps_map_release (const DpsMap *map, size_t offset, size_t len);
void dps_map_close (DpsMap *map);

/**
 * Write a file atomically: PATH.tmp-PID → write → fsync → rename → fsync of the directory.
 * A failed fsync is never retried; on any failure the temporary is removed and PATH is what it was.
 * A PATH that is a device or a pipe (/dev/stdout, /dev/full) is written to as it stands, never replaced. [any]
 */
DpsStatus dps_file_write (const char *path, const void *data, size_t len, DpsError *err);
/** The same of a text that was put together, and free it. bad: a dps_buf_* call failed, and NOMEM is all there is to say. [any] */
DpsStatus dps_file_write_buf (const char *path, DpsBuf *text, int bad, DpsError *err);

/** The same in pieces: begin, then write to the fd (dps_fd_write), then commit or discard. Zero-initialise. */
typedef struct DpsFileWriter {
    char *path, *tmp; /* tmp NULL: path is a device or a pipe */
    int fd;
} DpsFileWriter;
DpsStatus dps_writer_begin (DpsFileWriter *w, const char *path, DpsError *err);
DpsStatus dps_writer_add (DpsFileWriter *w, const void *data, size_t len, DpsError *err);
DpsStatus dps_writer_commit (DpsFileWriter *w, DpsError *err);
void dps_writer_discard (DpsFileWriter *w);

/** mkdir -p. [any] */
DpsStatus dps_mkdirs (const char *path, DpsError *err);
/**
 * Hold a folder: until *out_fd is closed, or the process ends, however it does, nobody else holds it. One that is being given up is waited for, for
 * two seconds. *out_fd is -1 where the file system knows no locks. Errors: NOT_FOUND, IO; LOCK: another process holds it. [any]
 */
DpsStatus dps_dir_hold (const char *path, int *out_fd, DpsError *err);
/** fsync a directory so that the names in it are durable. [any] */
DpsStatus dps_dir_sync (const char *path, DpsError *err);
/** Remove a file or a folder and what is in it (never follows links); no error when it is absent. [any] */
DpsStatus dps_remove_tree (const char *path, DpsError *err);
/** 1 when the path exists and is a folder / a regular file. [any] */
int dps_is_dir (const char *path);
/** 1 when both paths lead to one file or folder. */
int dps_same_file (const char *a, const char *b);
int dps_is_file (const char *path);
/** "a/b"; NULL when out of memory. Free with dps_free. [any] */
char *dps_path_join (const char *a, const char *b);

#endif
