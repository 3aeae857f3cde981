/* SPDX-License-Identifier: Apache-2.0 */
/* run_recipe.h: what the verbs that take a RECIPE share: read it with its --set overrides, make the machine as it says, open the plugins. */
#ifndef DPS_TOOLS_RUN_RECIPE_H
#define DPS_TOOLS_RUN_RECIPE_H

#include "diapason/cli.h"
#include "plugin/registry.h"
#include "recipe/recipe.h"

/** --set key=value, any number of times: an entry for the table of cli_parse. */
#define CLI_SET_ENTRY                                                                                                                      \
    {                                                                                                                                      \
        "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &cli_overrides, "replace a value of the recipe", "KEY=VALUE"                               \
    }
extern char **cli_overrides;

/**
 * The recipe at `path` with the overrides, its env and threads put into the process's environment (before any backend reads it), then the
 * registry. Both are NULL after an error. [init]
 */
DpsStatus cli_open_recipe (const char *path, DpsRecipe **out, DpsRegistry **reg, DpsError *err);

#endif
