/* SPDX-License-Identifier: Apache-2.0 */
/* interface.h: the interfaces this host knows, how large its own struct of each is, and which slots a plugin cannot leave out. */
#ifndef DPS_PLUGIN_INTERFACE_H
#define DPS_PLUGIN_INTERFACE_H

#include "diapason/diapason.h"

enum { DPS_N_INTERFACES = 13 };

/** "dps.backend/1" for i < DPS_N_INTERFACES. Static storage. [any] */
const char *dps__interface_id (size_t i);
/** The number of an id, or DPS_N_INTERFACES. [any] */
size_t dps__interface_find (const char *id);

/**
 * Copy at load: a zeroed table of the host's size that received what the plugin's table has of it.
 * Errors: NOMEM; FORMAT when the size is impossible or a mandatory slot is missing. *out: dps_free. [init]
 */
DpsStatus dps__interface_copy (size_t i, const void *theirs, const char *where, void **out, DpsError *err);

#endif
