/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/layer.h"

#include "exec/trace.h"
#include "plugin/validate.h"

DpsStatus dps__layers_add (DpsExec *ex, const DpsRegistry *reg, DpsError *err)
{
    const DpsBackend *ref = dps_registry_get (reg, DPS_BACKEND_ID, "dps.ref");
    struct CheckedShared *shared = NULL;
    for (int i = 0; i < ex->n_devices; i++) {
        if (dps__validating ())
            DPS_TRY (dps__checked_add (&ex->devices[i], ref, &shared, err));
        DPS_TRY (dps__trace_add (&ex->devices[i], i, err));
    }
    return DPS_OK;
}

void dps__layers_close (DpsExec *ex)
{
    for (int i = 0; i < ex->n_devices; i++)
        for (DpsCallLayer *layer = ex->devices[i].layer; layer; layer = ex->devices[i].layer) {
            ex->devices[i] = layer->below;
            layer->close (layer);
        }
}
