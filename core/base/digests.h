/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digests.h: the list of what belongs to a folder that Diapason wrote, with the SHA-256 of every file and, in a checkpoint, every tensor: its
 * manifest.json, written last. The same list seals finished adapters and models (seal.h).
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
 * self_sha256 is the digest of the list's own bytes with these 64 digits as zeros, so that a flipped bit in the list shows too.
 */
#ifndef DPS_BASE_DIGESTS_H
#define DPS_BASE_DIGESTS_H

#include "base/mem.h"
#include "base/sha256.h"

#define DPS_DIGESTS_MANIFEST "manifest.json"
enum { DPS_DIGESTS_LIMIT = 16 << 20, DPS_DIGESTS_MAX_FILES = 4096 };

typedef struct DpsDigestFile {
    char *name; /* a plain file name */
    uint64_t bytes;
    DpsDigest sha256;
    char **tensors; /* [n_tensors] names */
    DpsDigest *tensor_sha256;
    size_t n_tensors;
} DpsDigestFile;

/** All zeros is an empty one. */
typedef struct DpsDigests {
    uint64_t step;
    DpsDigestFile *files;
    size_t n, capacity;
} DpsDigests;

/** 1 for a name a checkpoint may hold: no folder, not hidden, at most 200 characters of [A-Za-z0-9._-], not the manifest's own. [any] */
int dps_digests_name_ok (const char *name);

/**
 * A listed file is in `dir`, regular, whole and with its digest.
 * Errors: NOT_FOUND, FORMAT (no regular file), DIGEST, IO, NOMEM. [any]
 */
DpsStatus dps_digests_check (const DpsDigestFile *f, const char *dir, DpsError *err);

/** Add a file; its name must be new. Returns the entry, or NULL when out of memory or the name is taken or not allowed. */
DpsDigestFile *dps_digests_add (DpsDigests *m, const char *name, uint64_t bytes, const DpsDigest *digest);
const DpsDigestFile *dps_digests_find (const DpsDigests *m, const char *name);
void dps_digests_free (DpsDigests *m);

/** The text of manifest.json, with self_sha256. */
DpsStatus dps_digests_write (const DpsDigests *m, DpsBuf *out, DpsError *err);
/** Check self_sha256, then parse. Errors: DIGEST, FORMAT, LIMIT, NOMEM, each with `where`; *out untouched then. */
DpsStatus dps_digests_read (const char *data, size_t len, const char *where, DpsDigests *out, DpsError *err);
/** Parse without the check of self_sha256: what the fuzzer enters by. */
DpsStatus dps_digests_parse (const char *data, size_t len, const char *where, DpsDigests *out, DpsError *err);

#endif
