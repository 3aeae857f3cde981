/* SPDX-License-Identifier: Apache-2.0 */
/* module.h: one loaded shared object: its entry, checked, and its init and deinit. Modules are never unloaded. */
#ifndef DPS_PLUGIN_MODULE_H
#define DPS_PLUGIN_MODULE_H

#include "diapason/diapason.h"
#include "plugin/trust.h"

typedef struct DpsModule DpsModule;

/**
 * The module in `sealed`, loaded from that memory (once per path and content, however many registries are opened). `path` is where the
 * plugin believes it lies. Takes sealed->fd when it loads.
 * Errors: FORMAT (does not load, no entry, not an entry), VERSION (other ABI major), LIMIT. [init]
 */
DpsStatus dps__module_load (DpsSealed *sealed, const char *path, DpsModule **out, DpsError *err);

/** The same checks for an entry linked into the program. [init] */
DpsStatus dps__module_builtin (const DpsPluginEntry *entry, DpsModule **out, DpsError *err);

/** Call init unless another registry did. Errors: the plugin's own, with its message made one line of UTF-8. [init] */
DpsStatus dps__module_start (DpsModule *m, const char *path, DpsError *err);
/** Undo one start; the last calls deinit. [init] */
void dps__module_stop (DpsModule *m);

/** The module's table of an interface, not copied yet, or NULL. [any] */
const void *dps__module_interface (const DpsModule *m, const char *id);

/** Control characters and broken UTF-8 in text that came from outside become spaces and '?'. [any] */
void dps__one_line (char *s);

#endif
