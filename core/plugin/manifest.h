/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.h: NAME.plugin, read before the module it describes is opened. The file format is in core/doc/ABI.md. */
#ifndef DPS_PLUGIN_MANIFEST_H
#define DPS_PLUGIN_MANIFEST_H

#include "base/status.h"

enum { DPS_MANIFEST_MAX_BYTES = 64 * 1024 };

/** Checked values; "" where an optional key is absent. Lists keep the file's own text, separated by ';'. */
typedef struct DpsManifest {
    char id[97];
    char kinds[97];
    char module[201]; /* a file name, no '/'; short enough to name a memory file */
    char sha256[65];  /* lower case */
    char abi[32];     /* "0.1" or "0.1-0.3" */
    char version[65];
    char licence[129];
    char summary[257];
    char needs[513];
    char isa[513];
    char runtimes[513];
    char automatic[8]; /* "no": a backend that is used only where it is named */
    char signed_by[65];
    char signature[129]; /* of what stands before it: sign.h */
    uint32_t abi_major;
    uint32_t abi_minor; /* the lowest of a range */
} DpsManifest;

/**
 * Parse and check. `where` names the file in errors. *out is untouched on failure.
 * Errors: LIMIT (too long), FORMAT "where: key 'x': found, expected". [any]
 */
DpsStatus dps__manifest_parse (const char *data, size_t len, const char *where, DpsManifest *out, DpsError *err);

/** The short name of an id: what follows its last dot. [any] */
const char *dps__manifest_name (const char *id);

/** The next item of a ';' list, blanks trimmed, empty items skipped; 0 at its end. `*at` starts at the list. [any] */
int dps__list_next (const char **at, DpsStr *out_item);

#endif
