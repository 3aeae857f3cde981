/* SPDX-License-Identifier: Apache-2.0 */
/* open_registry.h: the registry as every verb opens it, and one plugin as JSON. */
#ifndef DPS_TOOLS_OPEN_REGISTRY_H
#define DPS_TOOLS_OPEN_REGISTRY_H

#include <jansson.h>

#include "plugin/registry.h"

/** Offer plugins the extensions of the later stages: the tape, reward models. [init] */
DpsStatus cli_provide (DpsError *err);

/** Offer plugins the extensions of the later stages (the tape), then open the registry of the default folders; warns of one that is not searched. [init] */
DpsStatus cli_open_registry (DpsRegistry **out, DpsError *err);
/** The same without the warning, where refusals are listed; probe_ms for each step of an unknown plugin's probe (0: the usual). [init] */
DpsStatus cli_open_registry_patient (int probe_ms, DpsRegistry **out, DpsError *err);

/** Why a plugin folder that was named was not searched, as `diapason plugins list` has it; NULL: each was. The registry's. */
const char *cli_folder_refused (const DpsRegistry *reg);

/** Everything the registry knows of a plugin; a new reference, NULL when out of memory. */
json_t *cli_plugin_json (const DpsPlugin *p);

#endif
