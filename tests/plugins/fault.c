/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c: the reference backend under the name "fault", whose log-probabilities are NaN in the calls that DIAPASON_TEST_FAULT names:
 * "8,12-14". For tests of what a run does then (R12).
 */
#include <math.h>
#include <stdlib.h>

#include "../../backends/ref/ref.h"

extern const DpsPluginEntry dps_ref_plugin_entry;

static DpsBackend backend;
static uint32_t victim;
static unsigned long calls;

static int is_bad (unsigned long call)
{
    const char *list = getenv ("DIAPASON_TEST_FAULT");
    for (char *s = (char *)list; s && *s;) {
        unsigned long first = strtoul (s, &s, 10), last = *s == '-' ? strtoul (s + 1, &s, 10) : first;
        if (call >= first && call <= last)
            return 1;
        s += *s == ',';
    }
    return 0;
}

static const DpsBackend *ref (void) { return dps_ref_plugin_entry.get_interface (dps_str (DPS_BACKEND_ID)); }

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    DpsStatus st = ref ()->enumerate (i, out, err);
    if (st == DPS_OK)
        out->name = "fault";
    return st;
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    DpsStatus st = ref ()->run (dev, op, flags, err);
    if (st == DPS_OK && op->id == victim && !(flags & DPS_RUN_DRY) && is_bad (++calls))
        ((float *)dps__ref_data (op->out[0]))[0] = NAN;
    return st;
}

static DpsStatus init (const DpsHost *host, const char *path, DpsError *err)
{
    victim = host->intern (dps_str ("token_logprobs"));
    backend = *ref ();
    backend.enumerate = enumerate;
    backend.run = run;
    return dps_ref_plugin_entry.init (host, path, err);
}

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_BACKEND_ID) ? &backend : NULL; }

DPS_PLUGIN (init, NULL, get_interface);
