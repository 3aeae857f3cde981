/* SPDX-License-Identifier: Apache-2.0 */
/* record.h: one plugin of the registry, from the name of its manifest to its tables, or to the reason why it has none. */
#ifndef DPS_PLUGIN_RECORD_H
#define DPS_PLUGIN_RECORD_H

#include "plugin/contain.h"
#include "plugin/interface.h"
#include "plugin/manifest.h"
#include "plugin/module.h"
#include "plugin/registry.h"
#include "plugin/warrant.h"

typedef struct DpsRecord {
    DpsPlugin pub; /* its strings are the members below */
    DpsManifest manifest;
    char *path; /* of the module, or of the manifest or folder while there is none; NULL: built in */
    char interfaces[256];
    DpsBuf text; /* of the manifest, while it is checked */
    char signer[65];
    DpsError error;
    DpsModule *module; /* started; NULL when refused */
    int init_failed;
    void *tables[DPS_N_INTERFACES];
} DpsRecord;

/** What stands between a module and this process. */
typedef struct DpsGuards {
    DpsContain contain;
    DpsWarrants warrants;
    int beside_program; /* the folder being read is the program's own */
} DpsGuards;

/** The plugin another record already is, or NULL: how a record learns that an id is taken. */
typedef const DpsRecord *(*DpsRecordFind) (void *ctx, const char *id);

/** Allocate an empty record whose id is `id` until a manifest says otherwise. NULL: no memory. dps__record_free. */
DpsRecord *dps__record_new (const char *id, size_t id_len, char *path);
void dps__record_free (DpsRecord *r);

/**
 * Read manifest `file` of `folder`, check by the guards, load, start. A refusal is in the record. Errors: NOMEM, of the host: no fault of the
 * plugin, and a run without it might be another. [init]
 */
DpsStatus dps__record_load (DpsRecord *r, const DpsFolder *folder, const char *file, const DpsGuards *guards, DpsRecordFind find, void *ctx,
                            DpsError *err);

/** The same from an entry linked into the program, whose init is the host's own too, with a manifest made of constants. Errors: NOMEM. [init] */
DpsStatus dps__record_builtin (DpsRecord *r, const DpsManifest *manifest, const DpsPluginEntry *entry, DpsError *err);

/** Refuse with a status and message already in r->error. */
void dps__record_refuse (DpsRecord *r);

#endif
