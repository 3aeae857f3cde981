/* SPDX-License-Identifier: Apache-2.0 */
/* verb_data.c: rows looked at before training does. Each part is in a file of its own, data_NAME.c. */
#include "base/json.h"
#include "diapason/data.h"
#include "diapason/objective.h"
#include "diapason/run_recipe.h"

static int run_data (int argc, char **argv);

const DpsVerb dps_verb_data = {
    .name = "data",
    .summary = "look at rows, judge answers, simulate preferences: check, mask, reward, simulate",
    .synopsis = "{check|mask} [RECIPE] [--model M] [--data F.jsonl] [--set key=value …] | reward … | simulate …",
    .help = "Examples:\n"
            "  diapason data check recipe.yaml\n"
            "  diapason data mask recipe.yaml --rows 2 --row 10",
    .run = run_data,
};

static int n_rows = 3, first_row;
static DataFlags flags = DATA_FLAGS_INIT;
enum { ONLY_MASK = 2 }; /* entries at the front that check has not */
static const GOptionEntry entries[] = {
    {"rows", 0, 0, G_OPTION_ARG_INT, &n_rows, "how many rows (3)", "N"},
    {"row", 0, 0, G_OPTION_ARG_INT, &first_row, "the first of them, counted from 0 in the files' order", "K"},
    {"model", 'm', 0, G_OPTION_ARG_FILENAME, &flags.model, "instead of the recipe's, or without one", "M"},
    {"data", 'd', 0, G_OPTION_ARG_FILENAME, &flags.data, "rows instead of the recipe's, or without one", "F.jsonl"},
    CLI_SET_ENTRY,
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static const CliSub subs[] = {
    {&(const DpsVerb){.name = "data check",
                      .summary = "read every row as training would",
                      .synopsis = "[RECIPE] [--model M] [--data F.jsonl] [--set key=value …]",
                      .help = "Prints counts and lengths, and each row that training would refuse, by file and line (exit code 5). Without "
                              "a recipe it wants\n"
                              "--model, whose tokenizer reads the rows, and --data.\n\n"
                              "Examples:\n"
                              "  diapason data check recipe.yaml\n"
                              "  diapason data check --model model.gguf --data rows.jsonl --set stage=sft"},
     entries + ONLY_MASK},
    {&(const DpsVerb){
         .name = "data mask",
         .summary = "print rows token by token, and which of them are trained",
         .synopsis = "[RECIPE] [--model M] [--data F.jsonl] [--rows N] [--row K] [--set key=value …]",
         .help =
             "Trained tokens are in colour (without colours in [brackets]), the others dim. --json writes a line a row: ids and mask.\n\n"
             "Example: diapason data mask recipe.yaml --rows 2 --row 10"},
     entries},
    {&data_verb_reward, NULL},
    {&data_verb_simulate, NULL},
    {NULL, NULL},
};

static DpsStatus find_unit (DataRows *r, DpsError *err)
{
    DpsObjectiveInfo info = {.unit = DPS_UNIT_SINGLE};
    const DpsObjective *stage = dps_registry_get (r->reg, DPS_OBJECTIVE_ID, r->recipe->stage);
    if (!stage)
        return dps_registry_missing (r->reg, DPS_OBJECTIVE_ID, r->recipe->stage, err);
    dps_table_copy (&info, sizeof info, stage->describe ());
    r->unit = info.unit;
    return DPS_OK;
}

static DpsStatus open_rows (DataRows *r, const char *path, DpsError *err)
{
    *r = (DataRows){0};
    data_set_flags (&flags);
    DPS_TRY (cli_open_recipe (path, &r->recipe, &r->reg, err));
    if (!r->recipe->model_name_or_path)
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s: no model, whose tokenizer reads the rows: give --model, or model_name_or_path in a recipe", r->recipe->file);
    DPS_TRY (find_unit (r, err));
    r->recipe->shuffle = 0; /* files' order: what a person looks for */
    DPS_TRY (data_text_open (&r->text, r->reg, r->recipe, err));
    return dps_dataset_from_recipe (r->recipe, 0, &r->ds, err);
}

static void close_rows (DataRows *r)
{
    dps_dataset_close (r->ds);
    data_text_close (&r->text);
    if (r->reg)
        dps_registry_close (r->reg);
    dps_recipe_free (r->recipe);
}

static int run_data (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DataRows r;
    static const char *const later[] = {"mix", "split", "dedup", "pii", NULL};
    const CliSub *sub;
    if (argc > 1 && g_strv_contains (later, argv[1]))
        return cli_usage (&dps_verb_data, "data %s is not implemented in this version; check, mask, reward and simulate are", argv[1]);
    int code = cli_parse_sub (&dps_verb_data, subs, NULL, entries, &argc, &argv, &sub);
    if (code >= 0)
        return code;
    code = argc == 1 && flags.data ? -1 : cli_one_recipe (sub->verb, argc, argv);
    if (code >= 0)
        return code;
    if (n_rows < 1 || first_row < 0)
        return cli_usage (sub->verb, "--%s is %d, expected at least %d", n_rows < 1 ? "rows" : "row", n_rows < 1 ? n_rows : first_row,
                          n_rows < 1);
    DpsStatus st = open_rows (&r, argv[1], &err);
    if (st == DPS_OK)
        st = sub == subs ? data_check (&r, &err) : data_mask (&r, first_row, n_rows, &err);
    close_rows (&r);
    return st == DPS_OK ? 0 : cli_fail (sub->verb, st, &err);
}
