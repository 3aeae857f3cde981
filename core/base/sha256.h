/* SPDX-License-Identifier: Apache-2.0 */
/* sha256.h: SHA-256 through OpenSSL's libcrypto, in hexadecimal. */
#ifndef DPS_BASE_SHA256_H
#define DPS_BASE_SHA256_H

#include "base/status.h"

/** 64 lower-case hex digits and a NUL. */
typedef struct DpsDigest {
    char hex[65];
} DpsDigest;

/** Digest of a byte range. Errors: INTERNAL when libcrypto fails. [any] */
DpsStatus dps_sha256 (const void *data, size_t len, DpsDigest *out, DpsError *err);
/** Digest of a file, read in 1 MiB pieces. [any] */
DpsStatus dps_sha256_file (const char *path, DpsDigest *out, DpsError *err);
/** Incremental: create, update any number of times, final (which also frees). */
typedef struct DpsHasher DpsHasher;
DpsHasher *dps_hasher_new (void);
void dps_hasher_add (DpsHasher *h, const void *data, size_t len);
DpsStatus dps_hasher_final (DpsHasher *h, DpsDigest *out, DpsError *err);

#endif
