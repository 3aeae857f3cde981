/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plugin.h: the one symbol a plugin exports, and how host and plugin exchange interface tables.
 *
 * Versioning: every table starts with `size` (sizeof, never typed by hand) and only grows at its end. Whoever receives a table copies
 * min(theirs, ours) bytes into its own zeroed one (dps_table_copy), so a slot the other side does not know is NULL, with the default
 * its documentation gives. abi_major differs: refused. abi_minor differs: fine both ways.
 */
#ifndef DIAPASON_PLUGIN_H
#define DIAPASON_PLUGIN_H

#include "diapason/types.h"

#define DPS_PLUGIN_MAGIC 0x44505331u /* "DPS1" */
#define DPS_ABI_MAJOR    0u
#define DPS_ABI_MINOR    1u
#define DPS_SDK_VERSION  "0.1.0"

struct DpsHost;

typedef struct DpsPluginEntry {
    uint32_t magic; /* DPS_PLUGIN_MAGIC */
    uint32_t reserved;
    size_t size; /* sizeof (DpsPluginEntry) */
    uint32_t abi_major;
    uint32_t abi_minor;
    const char *sdk_version; /* NUL-terminated, static */

    /**
     * Called once after load, before anything else. `host` stays valid for the life of the process; `path` (NUL-terminated) is
     * the plugin's own file, borrowed until return.
     * Thread: [init]. Errors: any code; the plugin is then refused with err->msg as the reason. NOT_FOUND is for hardware or a driver that
     * this machine does not have: `diapason doctor` lists it as "not available here", and nothing is wrong.
     */
    DpsStatus (*init) (const struct DpsHost *host, const char *path, DpsError *err);

    /** Undo init. The module is never dlclosed. Thread: [init]. May be NULL. */
    void (*deinit) (void);

    /**
     * The table of interface `id` ("dps.backend/1"), static storage owned by the plugin, its first member its size; NULL when the
     * plugin does not provide it. Thread: [any].
     */
    const void *(*get_interface) (DpsStr id);
} DpsPluginEntry;

/**
 * The symbol itself; define it with DPS_PLUGIN, from C or from C++ (any standard from C++11, outside namespaces). A language that does neither defines a
 * constant of this name and type, with C's linkage and as the module's only exported symbol.
 */
#define DPS_PLUGIN_SYMBOL "dps_plugin_entry"
#define DPS_PLUGIN(init_fn, deinit_fn, get_fn)                                                                                             \
    extern __attribute__ ((visibility ("default"))) const DpsPluginEntry dps_plugin_entry;                                                 \
    const DpsPluginEntry dps_plugin_entry = {                                                                                              \
        DPS_PLUGIN_MAGIC, 0, sizeof (DpsPluginEntry), DPS_ABI_MAJOR, DPS_ABI_MINOR, DPS_SDK_VERSION, init_fn, deinit_fn, get_fn}

/** Copy at load: `to` is zeroed and receives min(*(size_t *) from, to_size) bytes; its size member says to_size. [any] */
static inline void dps_table_copy (void *to, size_t to_size, const void *from)
{
    unsigned char *t = (unsigned char *)to;
    const unsigned char *f = (const unsigned char *)from;
    size_t theirs = *(const size_t *)from, n = theirs < to_size ? theirs : to_size;
    for (size_t i = 0; i < to_size; i++)
        t[i] = i < n ? f[i] : 0;
    *(size_t *)to = to_size;
}

/** 1 when a view equals a C string. [any] */
static inline int dps_str_is (DpsStr s, const char *c)
{
    size_t i = 0;
    while (i < s.len && c[i] && s.ptr[i] == c[i])
        i++;
    return i == s.len && !c[i];
}

/** A view of a C string, borrowed. [any] */
static inline DpsStr dps_str (const char *c)
{
    DpsStr s = {c, 0};
    while (c && c[s.len])
        s.len++;
    return s;
}

#endif
