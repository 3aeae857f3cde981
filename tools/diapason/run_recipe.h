/* SPDX-License-Identifier: Apache-2.0 */
/* run_recipe.h: what the verbs that take a RECIPE share: read it with its --set overrides, make the machine as it says, open the plugins. */
#ifndef DPS_TOOLS_RUN_RECIPE_H
#define DPS_TOOLS_RUN_RECIPE_H

#include "diapason/cli.h"
#include "plugin/registry.h"
#include "recipe/chain.h"

/** --set key=value, any number of times: an entry for the table of cli_parse. */
#define CLI_SET_ENTRY                                                                                                                      \
    {                                                                                                                                      \
        "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &cli_overrides, "replace a value of the recipe", "KEY=VALUE"                               \
    }
extern char **cli_overrides;

/** --allow-programs: a recipe's rewards may start programs. Never from the environment. */
#define CLI_PROGRAMS_ENTRY                                                                                                                 \
    {                                                                                                                                      \
        "allow-programs", 0, 0, G_OPTION_ARG_NONE, &cli_allow_programs, "let the recipe's process rewards start their programs", NULL      \
    }
extern gboolean cli_allow_programs;

/** -1 when argv[1] is the only argument; else an exit code, and what is wrong is said. Keys are not given without --set. */
int cli_one_recipe (const DpsVerb *verb, int argc, char **argv);

/**
 * The recipe at `path` with the overrides, its env and threads put into the process's environment (before any backend reads it), then the
 * registry. Both are NULL after an error. [init]
 */
DpsStatus cli_open_recipe (const char *path, DpsRecipe **out, DpsRegistry **reg, DpsError *err);

/** The same for verbs that take a chain too; the environment is the first stage's, which all share. [init] */
DpsStatus cli_open_chain (const char *path, DpsChain **out, DpsRegistry **reg, DpsError *err);

/** "stage 'it', 1 of 3" above what is printed of a chain's stage; of a plain recipe nothing. */
void cli_stage_heading (const DpsChain *c, size_t i);
/**
 * 1 for a stage that cannot be looked at yet, because it reads what an unfinished one will write: said on stdout, or in JSON at the end of `list`
 * unless that is NULL.
 */
int cli_stage_waits (const DpsChain *c, size_t i, json_t *list);
/** Put the stage's name before a message; returns st. */
DpsStatus cli_stage_failed (const DpsChain *c, size_t i, DpsStatus st, DpsError *err);
/** {"stages": list} of a chain; of a plain recipe the one item. */
void cli_print_stages (const DpsChain *c, json_t *list, int indent);

#endif
