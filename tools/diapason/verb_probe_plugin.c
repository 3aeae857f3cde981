/* SPDX-License-Identifier: Apache-2.0 */
/* verb_probe_plugin.c: the child in which an unknown plugin is tried (core/plugin/probe.h). Not for people, so not listed. */
#include "diapason/cli.h"
#include "diapason/open_registry.h"
#include "plugin/probe.h"

static int run (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    if (argc != 2)
        return 2;
    if (cli_provide (&err) == DPS_OK)
        dps__probe_child (argv[1]);
    return 0;
}

const DpsVerb dps_verb_probe_plugin = {.name = DPS_PROBE_VERB, .run = run};
