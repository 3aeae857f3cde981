/* SPDX-License-Identifier: Apache-2.0 */
/* probe_child.c: what runs in the child: every function of a plugin that the host calls without being asked by a recipe. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "plugin/interface.h"
#include "plugin/module.h"
#include "plugin/probe.h"

/* Whoever reads this knows how far it got when nothing more comes. */
static void step (const char *what, const char *detail)
{
    char line[120];
    int n = snprintf (line, sizeof line, "%s%s%s\n", what, *detail ? " of " : "", detail);
    if (n > 0 && write (DPS_PROBE_REPORT_FD, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
        return; /* the parent has given up */
}

static void try_backend (const DpsBackend *b)
{
    DpsError why = DPS_ERROR_INIT;
    DpsDeviceInfo info = {.size = sizeof info};
    step ("enumerate", "");
    for (uint32_t i = 0; i < DPS_DEVICES_MAX && b->enumerate (i, &info, &why) == DPS_OK; i++)
        info = (DpsDeviceInfo){.size = sizeof info};
}

static void try_interface (const char *id, const void *table)
{
    step ("describe", id);
    if (!strcmp (id, DPS_BACKEND_ID))
        try_backend (table);
    else if (!strcmp (id, DPS_OBJECTIVE_ID))
        ((const DpsObjective *)table)->describe ();
    else if (!strcmp (id, DPS_ADAPTER_ID))
        ((const DpsAdapter *)table)->describe ();
    else if (!strcmp (id, DPS_REWARD_ID))
        ((const DpsReward *)table)->describe ();
    else if (!strcmp (id, DPS_FORMAT_ID))
        ((const DpsFormat *)table)->probe (dps_str ("/nowhere/at/all"), "", 0);
}

static void try_module (const DpsModule *module, const char *path)
{
    DpsError why = DPS_ERROR_INIT;
    for (size_t i = 0; i < DPS_N_INTERFACES; i++) {
        const char *id = dps__interface_id (i);
        void *table;
        step ("get_interface", id);
        const void *theirs = dps__module_interface (module, id);
        if (!theirs)
            continue;
        step ("the table", id);
        if (dps__interface_copy (i, theirs, path, &table, &why) != DPS_OK)
            continue;
        try_interface (id, table);
        dps_free (table);
    }
}

void dps__probe_child (const char *path)
{
    const struct rlimit no_core = {0, 0};
    DpsError why = DPS_ERROR_INIT;
    DpsSealed sealed;
    DpsModule *module;
    setrlimit (RLIMIT_CORE, &no_core);
    /* What the plugin starts must not keep the report open. */
    fcntl (DPS_PROBE_MODULE_FD, F_SETFD, FD_CLOEXEC);
    fcntl (DPS_PROBE_REPORT_FD, F_SETFD, FD_CLOEXEC);
    lseek (DPS_PROBE_MODULE_FD, 0, SEEK_SET);
    if (dps__seal_copy (DPS_PROBE_MODULE_FD, path, &sealed, &why) != DPS_OK)
        return;
    step ("a constructor", "");
    if (dps__module_load (&sealed, path, &module, &why) == DPS_OK) {
        step ("init", "");
        if (dps__module_start (module, path, &why) == DPS_OK) {
            try_module (module, path);
            step ("deinit", "");
            dps__module_stop (module);
        }
    }
    dps__seal_close (&sealed);
    step ("done", "");
}
