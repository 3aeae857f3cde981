/* SPDX-License-Identifier: Apache-2.0 */
/* needs.h: whether this host and this machine have what a manifest asks for; answered before any code of the plugin is read. */
#ifndef DPS_PLUGIN_NEEDS_H
#define DPS_PLUGIN_NEEDS_H

#include "plugin/manifest.h"

/** ABI major, host interfaces, CPU features. Errors: VERSION, UNSUPPORTED with what is missing. [init] */
DpsStatus dps__needs_check (const DpsManifest *m, const char *where, DpsError *err);

/** The next soname of a list of `runtimes`, cut to fit: 1, *at moves on; 0 at its end. [any] */
int dps__needs_soname (const char **at, char *out, size_t cap);
/** The shared libraries of `runtimes`: each is loaded, as the plugin would. Errors: NOT_FOUND. [init] */
DpsStatus dps__needs_runtimes (const DpsManifest *m, const char *where, DpsError *err);

#endif
