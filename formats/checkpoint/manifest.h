/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.h: manifest.json, written last into a checkpoint: what belongs to it and the SHA-256 of every file and tensor.
 *
 *     {
 *       "diapason_checkpoint": 1,
 *       "step": 40,
 *       "files": {
 *         "adapter_model.safetensors": {"bytes": 38144, "sha256": "…", "tensors": {"base_model.….lora_A.weight": "…"}},
 *         "trainer_state.json": {"bytes": 2104, "sha256": "…"}
 *       },
 *       "self_sha256": "…"
 *     }
 *
 * self_sha256 is the digest of the manifest's own bytes with these 64 digits as zeros, so that a flipped bit in the manifest shows too.
 */
#ifndef DPS_CHECKPOINT_MANIFEST_H
#define DPS_CHECKPOINT_MANIFEST_H

#include "base/mem.h"
#include "base/sha256.h"

#define MANIFEST_NAME "manifest.json"
enum { MANIFEST_LIMIT = 16 << 20, MANIFEST_MAX_FILES = 4096 };

typedef struct ManifestFile {
    char *name; /* a plain file name */
    uint64_t bytes;
    DpsDigest sha256;
    char **tensors; /* [n_tensors] names */
    DpsDigest *tensor_sha256;
    size_t n_tensors;
} ManifestFile;

/** All zeros is an empty one. */
typedef struct Manifest {
    uint64_t step;
    ManifestFile *files;
    size_t n, capacity;
} Manifest;

/** 1 for a name a checkpoint may hold: no folder, not hidden, at most 200 characters of [A-Za-z0-9._-], not the manifest's own. [any] */
int manifest_name_ok (const char *name);

/** Add a file; its name must be new. Returns the entry, or NULL when out of memory or the name is taken or not allowed. */
ManifestFile *manifest_add (Manifest *m, const char *name, uint64_t bytes, const DpsDigest *digest);
const ManifestFile *manifest_find (const Manifest *m, const char *name);
void manifest_free (Manifest *m);

/** The text of manifest.json, with self_sha256. */
DpsStatus manifest_write (const Manifest *m, DpsBuf *out, DpsError *err);
/** Check self_sha256, then parse. Errors: DIGEST, FORMAT, LIMIT, NOMEM, each with `where`; *out untouched then. */
DpsStatus manifest_read (const char *data, size_t len, const char *where, Manifest *out, DpsError *err);
/** Parse without the check of self_sha256: what the fuzzer enters by. */
DpsStatus manifest_parse (const char *data, size_t len, const char *where, Manifest *out, DpsError *err);

#endif
