/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warrant.h: what speaks for a module besides the folder it lies in: an administrator's list of digests, and signatures (rule 13). Both are
 * in a folder under the same rule as plugins (trust.h): PREFIX/etc/diapason beside the program's PREFIX/bin, /etc/diapason for /usr.
 *
 *     plugins.allow    lines as sha256sum prints them. When it is there, no module is loaded that is not on it.
 *     keys/NAME.pem    Ed25519 public keys; a manifest that says signed-by=NAME is held to it. $XDG_CONFIG_HOME/diapason/keys counts too,
 *                      where the environment does.
 *
 * Under --production a module is loaded when it comes with the program, is on the list, or is signed; otherwise unsigned ones are welcome.
 */
#ifndef DPS_PLUGIN_WARRANT_H
#define DPS_PLUGIN_WARRANT_H

#include "plugin/manifest.h"
#include "plugin/trust.h"

typedef struct DpsWarrants {
    char *list_path; /* NULL: no list */
    DpsBuf list;
    DpsFolder keys[2];
    DpsError broken; /* the folder or list cannot be believed: code is not OK, and nothing is loaded */
} DpsWarrants;

/** Errors: NOMEM. [init] */
DpsStatus dps__warrants_open (DpsWarrants *w, DpsError *err);
void dps__warrants_close (DpsWarrants *w);

/**
 * May the module of this manifest (its whole text in `text`) be loaded? out_signer: the key that signed it, or "".
 * Errors: POLICY (not on the list; production), DIGEST (wrong signature), FORMAT, what is wrong with the folder. [init]
 */
DpsStatus dps__warrant (const DpsWarrants *w, const DpsManifest *m, const DpsBuf *text, const DpsDigest *digest, int beside_program,
                        const char *path, char out_signer[65], DpsError *err);

#endif
