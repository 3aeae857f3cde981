/* SPDX-License-Identifier: Apache-2.0 */
/* contain.h: whether a module may be loaded into this process: known from before, or tried in a child now (rule 15). */
#ifndef DPS_PLUGIN_CONTAIN_H
#define DPS_PLUGIN_CONTAIN_H

#include "plugin/manifest.h"
#include "plugin/trust.h"

typedef struct DpsContain {
    const char *program; /* run with DPS_PROBE_VERB; NULL: nothing is probed */
    int deadline_ms;     /* of a step of the probe */
    char *ledger;        /* path, or NULL */
} DpsContain;

/**
 * OK: go on. What comes with the program (dps.* in its own folder: whoever can write there can replace the program) is not asked about; a
 * module that came through a probe once is not tried again. *out_quarantined: 1 when it is refused for what it did in a probe, now or earlier.
 * Errors: POLICY with what it did; IO, NOMEM when it could not be tried. [init]
 */
DpsStatus dps__contain (const DpsContain *c, int beside_program, const DpsManifest *m, const DpsSealed *sealed, const char *path,
                        int *out_quarantined, DpsError *err);

#endif
