/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content.h: what a format stores, and the bytes it makes of it. Content is made up (a tensor of each dtype), or what --sample holds, since a format may
 * want names or texts of its own. A format is one file, or a folder of files: both are CheckFiles here, which can be cut and changed.
 */
#ifndef DPS_CHECK_CONTENT_H
#define DPS_CHECK_CONTENT_H

#include "base/mem.h"
#include "check/check.h"

enum { CHECK_MAX_TENSORS = 512, CHECK_MAX_META = 64, CHECK_MAX_FILES = 16 };

typedef struct CheckContent {
    DpsTensorInfo tensors[CHECK_MAX_TENSORS];
    unsigned char *bytes[CHECK_MAX_TENSORS]; /* raw, as stored */
    DpsMeta meta[CHECK_MAX_META];
    uint64_t n_tensors, n_meta;
    const DpsFormat *format;
    struct DpsFormatFile *sample; /* names, shapes and texts live in it; NULL: static */
} CheckContent;

/** What the file or folder --sample holds, read with the plugin; without one, made up. Errors: the plugin's; LIMIT. End with free. */
DpsStatus check_content_open (CheckContext *ctx, CheckContent *out, DpsError *err);
void check_content_free (CheckContent *c);

/** How to write: in pieces of so many bytes (0: each tensor at once); the k-th call of the stream fails (0: none). */
typedef struct CheckWriting {
    uint64_t piece;
    uint64_t fail_at;
    uint64_t kill_at; /* in the k-th call of the stream this process dies */
    int64_t miss;     /* bytes left out at the end; negative: bytes too many */
    int abandon;      /* half-way */
    uint64_t n_calls; /* out: of the stream */
} CheckWriting;

/**
 * The content as the format writes it, at `path` (nothing is there yet): a file, or a folder where the format wants one. *out_folder: which.
 * Errors: the plugin's, the stream's; nothing is left at path then.
 */
DpsStatus check_content_write (const CheckContent *c, const char *path, CheckWriting *how, int *out_folder, DpsError *err);

/** Everything at `path` is as in c: names, shapes, bytes, texts, ranges, f32 values where they are plain. Errors: INVALID; the plugin's. */
DpsStatus check_content_compare (const CheckContent *c, const char *path, DpsError *err);

/** Two files open at a time, read in turns: each is as in its content. Errors: as above. */
DpsStatus check_content_compare_both (const CheckContent *a, const char *a_path, const CheckContent *b, const char *b_path, DpsError *err);

/**
 * Open `path` and use all of it, whatever it says: indices and ranges past the end too, into buffers that end at a forbidden page. OK when it could be
 * opened and every tensor read; the plugin's error else. *out_sum: of all that was read, for comparisons.
 */
DpsStatus check_content_use (const DpsFormat *format, const char *path, uint64_t *out_sum, DpsError *err);

/** A file, or the members of a folder, in memory. */
typedef struct CheckFiles {
    char *names[CHECK_MAX_FILES];
    DpsBuf data[CHECK_MAX_FILES];
    size_t n;
    int folder;
} CheckFiles;

DpsStatus check_files_read (const char *path, CheckFiles *out, DpsError *err);
/** Write them at `path`, over what lies there; not durable. */
DpsStatus check_files_write (const CheckFiles *f, const char *path, DpsError *err);
void check_files_free (CheckFiles *f);

#endif
