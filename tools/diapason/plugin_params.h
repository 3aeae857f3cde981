/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_params.h: what a plugin declares beside its code, as `diapason plugins show` prints it: its parameters. */
#ifndef DPS_TOOLS_PLUGIN_PARAMS_H
#define DPS_TOOLS_PLUGIN_PARAMS_H

#include <jansson.h>

#include "plugin/registry.h"

/**
 * The parameters of a loaded plugin's objective, adapter or reward, in the order of describe: [{"of": "objective", "name", "type": number, integer,
 * boolean or string, "default" (null: none), "min" and "max" of numbers, "choices" of strings that have them, "help"}]. A new reference.
 */
json_t *plugin_params_json (const DpsRegistry *reg, const DpsPlugin *p);

/** These, one a line under a heading; nothing where there are none. */
void plugin_params_print (const json_t *params);

#endif
