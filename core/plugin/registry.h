/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h: every plugin this process knows, loaded or refused with a reason, and the interface tables of those loaded. */
#ifndef DPS_PLUGIN_REGISTRY_H
#define DPS_PLUGIN_REGISTRY_H

#include "base/sha256.h"
#include "diapason/diapason.h"

typedef struct DpsRegistry DpsRegistry;

/** What `diapason plugins` shows of one plugin. Strings live until the registry is closed; absent ones are "". */
typedef struct DpsPlugin {
    const char *id;      /* "dps.gguf" */
    const char *name;    /* "gguf": the id's last component */
    const char *kinds;   /* "format", several separated by commas */
    const char *module;  /* path of the .so; "(built in)" for ref */
    const char *version; /* of the plugin */
    const char *licence;
    const char *summary;
    const char *abi;        /* "0.1" as its manifest says */
    const char *runtimes;   /* of its manifest: libraries it needs, separated by semicolons */
    const char *interfaces; /* ids it answered to, separated by commas */
    const char *signer;     /* the key that its manifest was signed with */
    DpsDigest digest;
    int loaded;
    int on_request;     /* a backend that is used only where it is named (manifest: automatic=no) */
    int absent;         /* refused by its own init: what it drives is not on this machine (NOT_FOUND); nothing is wrong */
    int quarantined;    /* refused for what it did in a child process: dps_plugin_release */
    const char *reason; /* why it was refused; "" when loaded */
} DpsPlugin;

/**
 * Where to look: absolute folders, each of which must exist. NULL folders: those of DIAPASON_PLUGINS (separated by ':', ignored in a
 * privileged process and under --production), then lib/diapason/plugins beside the executable's folder when there is one.
 * prober: a program that knows the verb of probe.h ("/proc/self/exe"), for modules that were never seen; NULL: they are loaded untried.
 * probe_ms: how long a step of a probe may take; 0: DPS_PROBE_MS.
 */
enum { DPS_PROBE_MS = 2000 };
typedef struct DpsRegistryOptions {
    const char *const *folders;
    size_t n_folders;
    const char *only; /* the one manifest of `folders` that is read ("x.plugin"); NULL: each */
    int and_usual;    /* after `folders` come those of NULL */
    const char *prober;
    int probe_ms;
} DpsRegistryOptions;

/**
 * Start the linked-in plugin (ref), then read the manifests of all folders in sorted order, check, load. A plugin or folder that cannot
 * be accepted is kept with its reason and does not make the call fail; of two plugins with one id the first loads.
 * Errors: NOT_FOUND (a folder of `options` does not exist), NOMEM. Thread: [init].
 */
DpsStatus dps_registry_open (const DpsRegistryOptions *options, DpsRegistry **out, DpsError *err);
void dps_registry_close (DpsRegistry *reg);

/** Lift a quarantine: the module will be tried again by the next registry that meets it. Errors: NOT_FOUND (it is in none), IO, NOMEM. [init] */
DpsStatus dps_plugin_release (const DpsPlugin *p, DpsError *err);

/** The number of plugins, and the i-th, sorted by id. */
size_t dps_registry_count (const DpsRegistry *reg);
const DpsPlugin *dps_registry_at (const DpsRegistry *reg, size_t i);
/** The folders that were searched, separated by ", ". Valid until close. */
const char *dps_registry_searched (const DpsRegistry *reg);

/**
 * The host's copy of interface `interface_id` of the plugin called `name` (its name or full id), or NULL when there is none. It has
 * the size of this host's struct, slots the plugin lacks are NULL, mandatory ones never. Of several plugins with one short name the one
 * of `dps.` wins, then the first by id. Valid until close. [any]
 */
const void *dps_registry_get (const DpsRegistry *reg, const char *interface_id, const char *name);

/** What plugins find through dps.host.formats/1: a format of the newest open registry that has it. [any] */
const DpsFormat *dps__registry_format (DpsStr name);

/** The k-th loaded plugin (sorted by id) that has `interface_id`: its table, and *out_plugin; NULL past the last. [any] */
const void *dps_registry_nth (const DpsRegistry *reg, const char *interface_id, size_t k, const DpsPlugin **out_plugin);

/** A refusal that names the plugins there are: "no format plugin 'x'; there are: gguf, safetensors". Returns NOT_FOUND. */
DpsStatus dps_registry_missing (const DpsRegistry *reg, const char *interface_id, const char *name, DpsError *err);

/** The host table given to plugins; host.h fills it. [any] */
const DpsHost *dps_host (void);
/** Interned numbers: dtypes and ops keep the numbers of types.h; others are given on first use. 0 when full. [any] */
uint32_t dps_intern (const char *name);
const char *dps_intern_name (uint32_t number);

#endif
