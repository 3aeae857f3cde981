/* SPDX-License-Identifier: Apache-2.0 */
/* plugins_sign.h: `plugins sign` and `plugins verify`: Ed25519 signatures of manifests, made and held to a key. */
#ifndef DPS_TOOLS_PLUGINS_SIGN_H
#define DPS_TOOLS_PLUGINS_SIGN_H

#include "base/status.h"

/** Write `signed-by` (NULL: the key file's name up to its first dot) and `signature` at the end of a manifest whose module lies beside it, in place of earlier ones. */
DpsStatus plugins_sign (const char *manifest, const char *key, const char *signer, DpsError *err);

/** The module is the one the manifest names, and the manifest what the key signed. */
DpsStatus plugins_verify (const char *manifest, const char *key, DpsError *err);

#endif
