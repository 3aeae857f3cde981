/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink.h: where a format plugin's bytes go: one file, or the files of a folder. Each is written as base/file.h says (new file, fsync, rename, fsync
 * of the folder) and hashed on the way, whatever the plugin does.
 */
#ifndef DPS_CKPT_SINK_H
#define DPS_CKPT_SINK_H

#include "base/file.h"
#include "base/sha256.h"
#include "diapason/format.h"
#include "diapason/plugin.h"

typedef struct DpsSink {
    const char *dir; /* of a folder, borrowed; NULL for one file */
    DpsFileWriter file;
    DpsHasher *hasher; /* NULL: no file is open */
    uint64_t bytes;
} DpsSink;

/** A folder that exists: *out is its stream. End with dps__sink_discard. [any] */
void dps__sink_folder (DpsSink *s, const char *dir, DpsStream *out);

/** One file: begin gives the stream, commit makes it durable. Errors: IO, NOMEM; nothing is left at path then. [any] */
DpsStatus dps__sink_file (DpsSink *s, const char *path, DpsStream *out, DpsError *err);
DpsStatus dps__sink_commit (DpsSink *s, DpsDigest *out_digest, uint64_t *out_bytes, DpsError *err);

/** Throw an open file away. Fine when there is none. */
void dps__sink_discard (DpsSink *s);

#endif
