/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/run_recipe.h"

#include <stdlib.h>
#include <string.h>

#include "diapason/open_registry.h"
#include "plugin/host.h"

char **cli_overrides;
gboolean cli_allow_programs;

static DpsStatus set_environment (const DpsRecipe *r, DpsError *err)
{
    const char *name;
    json_t *value;
    char text[64];
    json_object_foreach (r->env, name, value) {
        g_autofree char *number = json_is_string (value) ? NULL : json_dumps (value, JSON_ENCODE_ANY);
        if (setenv (name, json_is_string (value) ? json_string_value (value) : number ? number : "", 1))
            return dps_fail (err, DPS_ERR_USAGE, "%s: '%s' cannot be an environment variable", dps_recipe_where (r, DPS_KEY_env), name);
    }
    if (cli_allow_programs)
        DPS_TRY (dps_host_config_set ("programs", "allowed", err));
    if (r->threads > 0) {
        snprintf (text, sizeof text, "%lld", (long long)r->threads);
        setenv ("OMP_NUM_THREADS", text, 1);
        return dps_host_config_set ("threads", text, err);
    }
    return DPS_OK;
}

int cli_one_recipe (const DpsVerb *verb, int argc, char **argv)
{
    if (argc == 2)
        return -1;
    if (argc < 2)
        return cli_usage (verb, "RECIPE is missing");
    return cli_usage (verb, "one RECIPE at a time, found '%s' too%s%s", argv[2], strchr (argv[2], '=') ? ". Hint: --set " : "",
                      strchr (argv[2], '=') ? argv[2] : "");
}

DpsStatus cli_open_recipe (const char *path, DpsRecipe **out, DpsRegistry **reg, DpsError *err)
{
    *out = NULL;
    *reg = NULL;
    DPS_TRY (dps_recipe_load (path, (const char *const *)cli_overrides, cli_overrides ? g_strv_length (cli_overrides) : 0, out, err));
    DpsStatus st = set_environment (*out, err);
    if (st == DPS_OK)
        st = cli_open_registry (reg, err);
    if (st != DPS_OK) {
        dps_recipe_free (*out);
        *out = NULL;
    }
    return st;
}

DpsStatus cli_open_chain (const char *path, DpsChain **out, DpsRegistry **reg, DpsError *err)
{
    *out = NULL;
    *reg = NULL;
    DPS_TRY (dps_chain_load (path, (const char *const *)cli_overrides, cli_overrides ? g_strv_length (cli_overrides) : 0, out, err));
    DpsStatus st = set_environment ((*out)->stages[0].recipe, err);
    if (st == DPS_OK)
        st = cli_open_registry (reg, err);
    if (st != DPS_OK) {
        dps_chain_free (*out);
        *out = NULL;
    }
    return st;
}

void cli_stage_heading (const DpsChain *c, size_t i)
{
    if (c->lock)
        printf ("%s%sStage '%s', %zu of %zu%s\n", i ? "\n" : "", cli_colour (stdout) ? "\033[1m" : "", c->stages[i].name, i + 1, c->n,
                cli_colour (stdout) ? "\033[0m" : "");
}

int cli_stage_waits (const DpsChain *c, size_t i, json_t *list)
{
    int k = dps_chain_waits (c, i);
    if (k < 0)
        return 0;
    if (list)
        json_array_append_new (list, json_pack ("{s:s, s:s}", "name", c->stages[i].name, "waits_for", c->stages[k].name));
    else
        printf ("It reads what stage '%s' will write: ask again when that is finished.\n", c->stages[k].name);
    return 1;
}

DpsStatus cli_stage_failed (const DpsChain *c, size_t i, DpsStatus st, DpsError *err)
{
    dps_error_prefix (err, "stage '%s'", c->stages[i].name);
    return st;
}

void cli_print_stages (const DpsChain *c, json_t *list, int indent)
{
    json_t *o = c->lock ? json_pack ("{s:O}", "stages", list) : json_incref (json_array_get (list, 0));
    json_dumpf (o, stdout, JSON_INDENT ((size_t)indent));
    putchar ('\n');
    json_decref (o);
}
