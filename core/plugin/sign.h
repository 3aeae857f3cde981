/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign.h: Ed25519 signatures of manifests. A manifest holds the digest of its module, so a signature of the one covers both. Signed is every
 * byte before the line `signature=…`, which is the last one. Keys are PEM files, as `openssl genpkey -algorithm ed25519` writes them.
 */
#ifndef DPS_PLUGIN_SIGN_H
#define DPS_PLUGIN_SIGN_H

#include "base/mem.h"
#include "base/status.h"

/** The number of signed bytes of a manifest: where its last line begins, when that is the signature; else 0. [any] */
size_t dps__signed_bytes (const char *text, size_t len);

/** Sign with a private key that has no passphrase; 128 hex digits. Errors: FORMAT (no such key), INTERNAL (libcrypto), NOMEM. [any] */
DpsStatus dps__sign (const DpsBuf *key, const char *where, const void *text, size_t len, char out_hex[129], DpsError *err);

/** Errors: DIGEST (the signature is not this key's, of these bytes), FORMAT (no Ed25519 public key; no signature), NOMEM. [any] */
DpsStatus dps__sign_check (const DpsBuf *key, const char *where, const void *text, size_t len, const char *hex, DpsError *err);

#endif
