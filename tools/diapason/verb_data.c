/* SPDX-License-Identifier: Apache-2.0 */
/* verb_data.c: rows looked at before training does: what there is, what would be refused, which tokens are trained. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "data/criteria.h"
#include "data/dataset.h"
#include "diapason/data.h"
#include "diapason/objective.h"
#include "diapason/output.h"
#include "diapason/run_recipe.h"
#include "infer/tokenizer_source.h"
#include "token/encode.h"

static int run_data (int argc, char **argv);

const DpsVerb dps_verb_data = {
    .name = "data",
    .summary = "look at rows, judge answers, simulate preferences: check, mask, reward, simulate",
    .synopsis = "{check|mask} [RECIPE] [--model M] [--data F.jsonl] [--set key=value …] | reward … | simulate …",
    .help =
        "check     reads every row as training would: counts, lengths, and each row that would be refused, by file and line (exit code 5)\n"
        "mask      prints rows token by token: trained ones in colour (without colours in [brackets]), the others dim\n"
        "reward    says what rewards make of answers that are there\n"
        "simulate  samples answers and writes preferences\n"
        "Each has its own options: diapason data check --help\n\n"
        "Examples:\n"
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
    {{.name = "data check",
      .summary = "read every row as training would",
      .synopsis = "[RECIPE] [--model M] [--data F.jsonl] [--set key=value …]",
      .help =
          "Prints counts and lengths, and each row that training would refuse, by file and line (exit code 5). Without a recipe it wants\n"
          "--model, whose tokenizer reads the rows, and --data.\n\n"
          "Examples:\n"
          "  diapason data check recipe.yaml\n"
          "  diapason data check --model model.gguf --data rows.jsonl --set stage=sft"},
     entries + ONLY_MASK},
    {{.name = "data mask",
      .summary = "print rows token by token, and which of them are trained",
      .synopsis = "[RECIPE] [--model M] [--data F.jsonl] [--rows N] [--row K] [--set key=value …]",
      .help = "Trained tokens are in colour (without colours in [brackets]), the others dim. --json writes a line a row: ids and mask.\n\n"
              "Example: diapason data mask recipe.yaml --rows 2 --row 10"},
     entries},
    {{.name = "data reward", .run = data_reward}, NULL},
    {{.name = "data simulate", .run = data_simulate}, NULL},
    {{.name = NULL}, NULL},
};

typedef struct Rows {
    DpsRegistry *reg;
    DpsRecipe *recipe;
    DpsSource *source;
    DpsTokenizer *tok;
    DpsDataset *ds;
    DpsEncoder *encoder;
    uint32_t unit; /* what the recipe's stage makes of a row */
} Rows;

static DpsStatus find_unit (Rows *r, DpsError *err)
{
    DpsObjectiveInfo info = {.unit = DPS_UNIT_SINGLE};
    const DpsObjective *stage = dps_registry_get (r->reg, DPS_OBJECTIVE_ID, r->recipe->stage);
    if (!stage)
        return dps_registry_missing (r->reg, DPS_OBJECTIVE_ID, r->recipe->stage, err);
    dps_table_copy (&info, sizeof info, stage->describe ());
    r->unit = info.unit;
    return DPS_OK;
}

static DpsStatus open_rows (Rows *r, const char *path, DpsError *err)
{
    const char *model;
    *r = (Rows){0};
    data_set_flags (&flags);
    DPS_TRY (cli_open_recipe (path, &r->recipe, &r->reg, err));
    model = r->recipe->model_name_or_path;
    if (!model)
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s: no model, whose tokenizer reads the rows: give --model, or model_name_or_path in a recipe", r->recipe->file);
    DPS_TRY (find_unit (r, err));
    r->recipe->shuffle = 0; /* files' order: what a person looks for */
    DPS_TRY (dps_recipe_named (r->recipe, DPS_KEY_model_name_or_path, dps_source_open (r->reg, model, &r->source, err), err));
    DPS_TRY (dps_tokenizer_from_source (r->reg, r->source, &r->tok, err));
    DPS_TRY (dps_dataset_from_recipe (r->recipe, 0, &r->ds, err));
    DPS_TRY (dps_encoder_new (r->recipe, r->tok, &r->encoder, err));
    json_t *config = dps_source_config (r->source), *inner = json_object_get (config, "text_config");
    return dps_encoder_set_model (r->encoder, config, json_integer_value (json_object_get (inner ? inner : config, "vocab_size")), err);
}

static void close_rows (Rows *r)
{
    dps_encoder_free (r->encoder);
    dps_dataset_close (r->ds);
    dps_tokenizer_free (r->tok);
    dps_source_close (r->source);
    if (r->reg)
        dps_registry_close (r->reg);
    dps_recipe_free (r->recipe);
}

/* ---- check ---- */

typedef struct Count {
    uint64_t rows, held_out, refused, dropped, cut, tokens, trained, longest, kinds[DPS_ROW_STEPS + 1];
    uint64_t whole; /* conversations of which every token is trained, the user's too */
    json_t *problems;
    json_t *judged; /* {criterion: {judged, sum}} of groups */
    DpsCriteria criteria;
} Count;

enum { PROBLEMS_SHOWN = 20 };

static void note_problem (Count *c, const char *message)
{
    if (c->refused++ < PROBLEMS_SHOWN && !cli_common.json) {
        cli_progress_end ();
        fprintf (stderr, "%s\n", message);
    }
    json_array_append_new (c->problems, json_string (message));
}

/* What a group's criteria say, and how often. */
static DpsStatus count_scores (const Rows *r, const DpsRow *row, Count *c, DpsError *err)
{
    const DpsScores *s = &row->scores;
    for (size_t i = 0; i < s->n; i++) {
        json_t *of = json_object_get (c->judged, s->names[i]);
        if (!of)
            json_object_set_new (c->judged, s->names[i], of = json_pack ("{s:i, s:f}", "judged", 0, "sum", 0.0));
        for (size_t k = 0; k < row->n_answers; k++) {
            const double v = s->values[k * s->n + i];
            if (isnan (v))
                continue;
            json_object_set_new (of, "judged", json_integer (json_integer_value (json_object_get (of, "judged")) + 1));
            json_object_set_new (of, "sum", json_real (json_number_value (json_object_get (of, "sum")) + v));
        }
    }
    return dps_criteria_add (&c->criteria, row, r->recipe->criteria_weights, err);
}

/* A held-out row: nothing of it is trained, but what is wrong with it would end the run as well. */
static DpsStatus check_held_out (const Rows *r, const DpsDatasetFile *file, uint64_t k, Count *c, DpsError *err)
{
    DpsRow row;
    DpsEncodedUnit u = {0};
    DpsError why = DPS_ERROR_INIT;
    c->held_out++;
    DpsStatus st = dps_dataset_file_row (file, k, &row, &why);
    if (st == DPS_OK) {
        st = dps_encode_unit (r->encoder, &row, r->unit, &u, &why);
        dps_encoded_unit_free (&u);
        dps_row_clear (&row);
    }
    if (st == DPS_ERR_DATA)
        note_problem (c, why.msg);
    else if (st != DPS_OK)
        return dps_fail (err, st, "%s", why.msg);
    return DPS_OK;
}

/* One row; what is wrong with a row is counted, anything else ends the check. */
static DpsStatus check_row (const Rows *r, const DpsDatasetFile *file, uint64_t k, Count *c, DpsError *err)
{
    DpsRow row;
    DpsEncodedUnit u = {0};
    DpsError why = DPS_ERROR_INIT;
    DpsRowKind kind = DPS_ROW_STEPS;
    c->rows++;
    DpsStatus st = dps_dataset_file_row (file, k, &row, &why);
    if (st == DPS_OK) {
        c->kinds[kind = row.kind]++;
        st = dps_encode_unit (r->encoder, &row, r->unit, &u, &why);
        if (st == DPS_OK)
            st = count_scores (r, &row, c, &why);
        dps_row_clear (&row);
    }
    if (st == DPS_ERR_DATA)
        note_problem (c, why.msg);
    else if (st != DPS_OK)
        return dps_fail (err, st, "%s", why.msg);
    c->dropped += st == DPS_OK && u.n == 0;
    c->cut += u.n && u.n_long;
    c->tokens += u.n ? u.prefix : 0;
    uint64_t before = c->trained;
    for (size_t side = 0; side < u.n; side++) {
        const DpsEncoded *x = &u.rows[side];
        c->tokens += x->n - u.prefix;
        c->longest = MAX (c->longest, x->n);
        for (size_t i = 0; i < x->n; i++)
            c->trained += x->weights[i] > 0;
    }
    c->whole += st == DPS_OK && kind == DPS_ROW_MESSAGES && u.n == 1 && c->trained - before + 1 >= u.rows[0].n;
    dps_encoded_unit_free (&u);
    return DPS_OK;
}

/* {criterion: {judged, mean, weight}}. */
static json_t *criteria_json (const Count *c)
{
    json_t *all = json_object ();
    for (size_t i = 0; i < c->criteria.n; i++) {
        const char *name = c->criteria.names[i].ptr;
        const json_t *of = json_object_get (c->judged, name);
        const double n = json_number_value (json_object_get (of, "judged"));
        json_object_set_new (all, name,
                             json_pack ("{s:I, s:o, s:f}", "judged", (json_int_t)n, "mean",
                                        n > 0 ? json_real (json_number_value (json_object_get (of, "sum")) / n) : json_null (), "weight",
                                        c->criteria.weights[i]));
    }
    return all;
}

static void print_criteria (const json_t *criteria)
{
    const char *name;
    json_t *of;
    json_object_foreach ((json_t *)criteria, name, of)
        printf ("  %8lld  judged by %s, mean %.4g, weight %g\n", (long long)json_integer_value (json_object_get (of, "judged")), name,
                json_number_value (json_object_get (of, "mean")), json_number_value (json_object_get (of, "weight")));
}

static void print_count (const Rows *r, const Count *c)
{
    json_t *criteria = criteria_json (c);
    json_t *kinds = json_object (), *files = json_array ();
    for (int k = 0; k <= DPS_ROW_STEPS; k++)
        if (c->kinds[k])
            json_object_set_new (kinds, dps_row_kind_name ((DpsRowKind)k), json_integer ((json_int_t)c->kinds[k]));
    for (size_t i = 0; i < r->ds->n_files; i++)
        json_array_append_new (files, json_pack ("{s:s, s:I, s:s}", "path", r->ds->files[i].name, "rows", (json_int_t)r->ds->files[i].n,
                                                 "sha256", dps_rows_digest (r->ds->files[i].rows)->hex));
    if (cli_common.json) {
        json_t *o = json_pack ("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:O, s:O, s:O}", "rows", (json_int_t)c->rows, "eval_rows",
                               (json_int_t)c->held_out, "refused", (json_int_t)c->refused, "dropped", (json_int_t)c->dropped, "cut",
                               (json_int_t)c->cut, "tokens", (json_int_t)c->tokens, "trained_tokens", (json_int_t)c->trained, "longest",
                               (json_int_t)c->longest, "kinds", kinds, "files", files, "problems", c->problems, "criteria", criteria);
        json_dumpf (o, stdout, JSON_INDENT (2));
        putchar ('\n');
        json_decref (o);
    } else {
        const char *kind;
        json_t *n;
        printf ("%llu row%s in %zu file%s, %llu refused; %llu cut and %llu dropped by max_length\n", (unsigned long long)c->rows,
                c->rows == 1 ? "" : "s", r->ds->n_files, r->ds->n_files == 1 ? "" : "s", (unsigned long long)c->refused,
                (unsigned long long)c->cut, (unsigned long long)c->dropped);
        json_object_foreach (kinds, kind, n)
            printf ("  %8lld  %s\n", (long long)json_integer_value (n), kind);
        print_criteria (criteria);
        if (c->held_out)
            printf ("  %8llu  held out\n", (unsigned long long)c->held_out);
        printf ("%llu tokens, %llu trained (%.1f %%); the longest row has %llu\n", (unsigned long long)c->tokens,
                (unsigned long long)c->trained, c->tokens ? 100 * (double)c->trained / (double)c->tokens : 0,
                (unsigned long long)c->longest);
        if (c->whole && !dps_recipe_given (r->recipe, DPS_KEY_assistant_only_loss))
            printf ("%llu conversation%s every turn; assistant_only_loss: true trains the answers only\n", (unsigned long long)c->whole,
                    c->whole == 1 ? " trains" : "s train");
    }
    json_decref (criteria);
    json_decref (kinds);
    json_decref (files);
}

static DpsStatus check_files (const Rows *r, const DpsDataset *ds, Count *c, DpsError *err)
{
    for (size_t i = 0; i < ds->n_files; i++) {
        const DpsDatasetFile *f = &ds->files[i];
        for (uint64_t k = f->first; k < f->first + f->n; k++) {
            DPS_TRY (ds == r->ds ? check_row (r, f, k, c, err) : check_held_out (r, f, k, c, err));
            if (k % 256 == 0)
                cli_progress ("checking", (double)(k - f->first), (double)f->n, f->name);
        }
    }
    return DPS_OK;
}

static DpsStatus check_rows (const Rows *r, DpsError *err)
{
    Count c = {.problems = json_array (), .judged = json_object ()};
    DpsDataset *held_out = NULL;
    DpsStatus st = check_files (r, r->ds, &c, err);
    if (st == DPS_OK && r->recipe->eval_datasets.n)
        st = dps_dataset_from_recipe (r->recipe, 1, &held_out, err);
    if (st == DPS_OK && held_out)
        st = check_files (r, held_out, &c, err);
    dps_dataset_close (held_out);
    cli_progress_end ();
    if (st == DPS_OK)
        st = dps_criteria_settle (&c.criteria, r->recipe->criteria_weights, dps_recipe_where (r->recipe, DPS_KEY_criteria_weights), err);
    if (st == DPS_OK)
        print_count (r, &c);
    if (st == DPS_OK && c.refused)
        st = dps_fail (err, DPS_ERR_DATA, "%llu of %llu rows would be refused%s%s", (unsigned long long)c.refused,
                       (unsigned long long)(c.rows + c.held_out), c.refused ? ", the first: " : "",
                       json_string_value (json_array_get (c.problems, 0)));
    dps_criteria_free (&c.criteria);
    json_decref (c.judged);
    json_decref (c.problems);
    return st;
}

/* ---- mask ---- */

/* A token's text as it can be printed: line ends shown and kept. */
static void print_token (const Rows *r, int32_t id, int trained, int colour)
{
    DpsBuf text = {0};
    if (!r->tok || dps_tokenizer_decode (r->tok, &id, 1, DPS_DETOKENIZE_KEEP_SPECIAL, &text, NULL) != DPS_OK || text.len == 0) {
        dps_buf_free (&text);
        dps_buf_printf (&text, "%s%d ", r->tok ? "#" : "", (int)id);
    }
    fputs (colour ? trained ? "\033[32m" : "\033[2m" : trained ? "[" : "", stdout);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\n')
            fputs (colour ? trained ? "\u21b5\033[0m\n\033[32m" : "\u21b5\033[0m\n\033[2m" : "\u21b5", stdout);
        else if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            putchar ('?');
        else
            putchar (text.data[i]);
    fputs (colour ? "\033[0m" : trained ? "]" : "", stdout);
    dps_buf_free (&text);
}

/* side: which row of its unit this is, or NULL. */
static void print_mask (const Rows *r, const DpsRow *row, const DpsEncoded *x, const char *side)
{
    int colour = cli_colour (stdout);
    uint64_t trained = 0;
    json_t *ids = json_array (), *mask = json_array ();
    for (size_t i = 0; i < x->n; i++) {
        trained += x->weights[i] > 0;
        json_array_append_new (ids, json_integer (x->ids[i]));
        json_array_append_new (mask, json_integer (x->weights[i] > 0));
    }
    if (cli_common.json) {
        json_t *o = json_pack ("{s:s, s:I, s:s, s:O, s:O}", "file", row->file, "line", (json_int_t)row->line, "kind",
                               dps_row_kind_name (row->kind), "ids", ids, "mask", mask);
        if (side)
            json_object_set_new (o, "side", json_string (side));
        json_dumpf (o, stdout, JSON_COMPACT);
        putchar ('\n');
        json_decref (o);
    } else {
        printf ("%s:%llu  %s%s%s, %zu tokens, %llu trained\n", row->file, (unsigned long long)row->line, dps_row_kind_name (row->kind),
                side ? ": " : "", side ? side : "", x->n, (unsigned long long)trained);
        for (size_t i = 0; i < x->n; i++)
            print_token (r, x->ids[i], x->weights[i] > 0, colour);
        fputs ("\n\n", stdout);
    }
    json_decref (ids);
    json_decref (mask);
}

static DpsStatus mask_rows (const Rows *r, DpsError *err)
{
    uint64_t first = (uint64_t)first_row, end = first + (uint64_t)n_rows;
    if (first >= r->ds->n_rows)
        return dps_fail (err, DPS_ERR_USAGE, "--row is %d, but there are %llu rows, counted from 0", first_row,
                         (unsigned long long)r->ds->n_rows);
    char side[40] = "";
    for (uint64_t k = first; k < end && k < r->ds->n_rows; k++) {
        DpsRow row;
        DpsEncodedUnit u;
        DPS_TRY (dps_dataset_row (r->ds, 0, k, &row, err));
        DpsStatus st = dps_encode_unit (r->encoder, &row, r->unit, &u, err);
        for (size_t i = 0; st == DPS_OK && i < u.n; i++) {
            snprintf (side, sizeof side, r->unit == DPS_UNIT_PAIR ? i ? "rejected" : "chosen" : "completions[%zu]", i);
            print_mask (r, &row, &u.rows[i], r->unit == DPS_UNIT_SINGLE || dps_recipe_samples (r->recipe) ? NULL : side);
        }
        dps_encoded_unit_free (&u);
        dps_row_clear (&row);
        DPS_TRY (st);
    }
    return DPS_OK;
}

static int run_data (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    Rows r;
    static const char *const later[] = {"mix", "split", "dedup", "pii", NULL};
    const CliSub *sub;
    if (argc > 1 && g_strv_contains (later, argv[1]))
        return cli_usage (&dps_verb_data, "data %s is not implemented in this version; check, mask, reward and simulate are", argv[1]);
    int code = cli_parse_sub (&dps_verb_data, subs, NULL, entries, &argc, &argv, &sub);
    if (code >= 0)
        return code;
    code = argc == 1 && flags.data ? -1 : cli_one_recipe (&sub->verb, argc, argv);
    if (code >= 0)
        return code;
    if (n_rows < 1 || first_row < 0)
        return cli_usage (&sub->verb, "--%s is %d, expected at least %d", n_rows < 1 ? "rows" : "row", n_rows < 1 ? n_rows : first_row,
                          n_rows < 1);
    DpsStatus st = open_rows (&r, argv[1], &err);
    if (st == DPS_OK)
        st = sub == subs ? check_rows (&r, &err) : mask_rows (&r, &err);
    close_rows (&r);
    return st == DPS_OK ? 0 : cli_fail (&sub->verb, st, &err);
}
