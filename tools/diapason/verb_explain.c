/* SPDX-License-Identifier: Apache-2.0 */
/* verb_explain.c: where each op of a training step runs, and why not elsewhere. */
#include <string.h>

#include "base/json.h"
#include "diapason/run_recipe.h"
#include "train/train.h"

static int run_explain (int argc, char **argv);

const DpsVerb dps_verb_explain = {
    .name = "explain",
    .summary = "where each op of a recipe's step runs, and why",
    .synopsis = "RECIPE [--set key=value …]",
    .help =
        "Records one step of the recipe (forward, backward, update), places every op on the first device that takes it, and runs none. A "
        "line\n"
        "for each op with its operands, how often it comes up for one row, and the device; under it what other devices said when they "
        "refused. What\n"
        "is copied to and from devices with memory of their own is counted. `op_devices` of the recipe asks for other places.\n\n"
        "Example: diapason explain recipe.yaml --set device=cpu --set 'op_devices={attention: ref}'",
    .run = run_explain,
};

static const GOptionEntry entries[] = {CLI_SET_ENTRY, {NULL, 0, 0, 0, NULL, NULL, NULL}};

/* What a step copies, call by call, between the first device's memory and what another device reaches. */
static struct {
    const char *device;
    uint64_t to, from;
} moved[DPS_EXEC_MAX_DEVICES];

static void add_moved (const DpsExec *ex, const DpsCase *c)
{
    moved[c->device].device = ex->devices[c->device].info.name;
    moved[c->device].to += c->in_bytes;
    moved[c->device].from += c->out_bytes;
}

static void print_moved (void)
{
    for (size_t d = 0; d < G_N_ELEMENTS (moved); d++)
        if (moved[d].to + moved[d].from)
            printf ("\nto where %s reaches it, this step copies %.1f KiB, and %.1f KiB back\n", moved[d].device, (double)moved[d].to / 1024,
                    (double)moved[d].from / 1024);
    memset (moved, 0, sizeof moved);
}

static const DpsExec *heading; /* whose cases follow a line that says so */
static int n_printed;          /* cases of the stage */

/* `of` of a case in JSON: policy, or what is trained beside it. */
static json_t *describe_case (const DpsCase *c, const char *device, const char *whose)
{
    return json_pack ("{s:s, s:s, s:I, s:s, s:o, s:s}", "op", dps_op_name (c->op), "operands", c->operands, "runs", (json_int_t)c->runs,
                      "device", device, "refused", c->reasons ? json_string (c->reasons) : json_null (), "of", whose ? whose : "policy");
}

static void print_case (void *ctx, const DpsExec *ex, const DpsCase *c, const char *whose)
{
    const char *device = ex->devices[c->device].info.name;
    if (ctx) {
        json_t *o = describe_case (c, device, whose);
        json_object_set_new (o, "decomposed", json_boolean (c->decomposed));
        json_object_set_new (o, "to_device_bytes", json_integer ((json_int_t)c->in_bytes));
        json_object_set_new (o, "from_device_bytes", json_integer ((json_int_t)c->out_bytes));
        json_array_append_new (ctx, o);
        return;
    }
    if (!n_printed++)
        printf ("%-18s %5s  %-10s %s\n", "OP", "RUNS", "DEVICE", "OPERANDS");
    if (whose && heading != ex) {
        printf ("\nOf the %s:\n", whose);
        heading = ex;
    }
    add_moved (ex, c);
    printf ("%-18s %5llu  %-10s %s%s\n", dps_op_name (c->op), (unsigned long long)c->runs, device, c->operands,
            c->decomposed ? ", as simple ops" : "");
    g_auto (GStrv) reasons = g_strsplit (c->reasons ? c->reasons : "", "\n", -1);
    for (char **reason = reasons; *reason; reason++)
        cli_labelled ("    not on", 11, "2", *reason);
}

/* Stage i, printed, or in JSON at the end of `list`. */
static DpsStatus explain_stage (const DpsRegistry *reg, const DpsChain *c, size_t i, json_t *list, DpsError *err)
{
    if (!list)
        cli_stage_heading (c, i);
    if (cli_stage_waits (c, i, list))
        return DPS_OK;
    json_t *cases = list ? json_array () : NULL;
    heading = NULL;
    n_printed = 0;
    const DpsRecipe *under[DPS_CHAIN_MAX];
    const DpsTrainOptions options = {.under = under, .n_under = dps_chain_under (c, i, under)};
    DpsStatus st = dps_train_explain (reg, dps_chain_plan (c, i), &options, print_case, cases, err);
    if (st != DPS_OK) {
        json_decref (cases);
        return c->lock ? cli_stage_failed (c, i, st, err) : st;
    }
    print_moved ();
    if (list)
        json_array_append_new (list, c->lock ? json_pack ("{s:s, s:o}", "name", c->stages[i].name, "ops", cases) : cases);
    return DPS_OK;
}

static int run_explain (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DpsChain *chain;
    DpsRegistry *reg;
    int code = cli_parse (&dps_verb_explain, entries, &argc, &argv);
    if (code >= 0)
        return code;
    code = cli_one_recipe (&dps_verb_explain, argc, argv);
    if (code >= 0)
        return code;
    cli_allow_programs = TRUE; /* none is started */
    DpsStatus st = cli_open_chain (argv[1], &chain, &reg, &err);
    if (st != DPS_OK)
        return cli_fail (&dps_verb_explain, st, &err);
    json_t *list = cli_common.json ? json_array () : NULL;
    for (size_t i = 0; st == DPS_OK && i < chain->n; i++)
        st = explain_stage (reg, chain, i, list, &err);
    if (st == DPS_OK && list)
        cli_print_stages (chain, list, 1);
    json_decref (list);
    dps_registry_close (reg);
    dps_chain_free (chain);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_explain, st, &err);
}
