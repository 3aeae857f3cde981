/* SPDX-License-Identifier: Apache-2.0 */
/* data_check.c: every row read as training would read it: counts, lengths, and what would be refused. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "data/criteria.h"
#include "diapason/data.h"
#include "diapason/output.h"

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

/* What is wrong with a row is counted, anything else ends the check. */
static DpsStatus settle_row (Count *c, DpsStatus st, const DpsError *why, DpsError *err)
{
    if (st == DPS_ERR_DATA)
        note_problem (c, why->msg);
    return st == DPS_OK || st == DPS_ERR_DATA ? DPS_OK : dps_fail (err, st, "%s", why->msg);
}

/* What a group's criteria say, and how often. */
static DpsStatus count_scores (const DataRows *r, const DpsRow *row, Count *c, DpsError *err)
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
static DpsStatus check_held_out (const DataRows *r, const DpsDatasetFile *file, uint64_t k, Count *c, DpsError *err)
{
    DpsRow row;
    DpsEncodedUnit u = {0};
    DpsError why = DPS_ERROR_INIT;
    c->held_out++;
    DpsStatus st = dps_dataset_file_row (file, k, &row, &why);
    if (st == DPS_OK) {
        st = dps_encode_unit (r->text.encoder, &row, r->unit, &u, &why);
        dps_encoded_unit_free (&u);
        dps_row_clear (&row);
    }
    return settle_row (c, st, &why, err);
}

static DpsStatus check_row (const DataRows *r, const DpsDatasetFile *file, uint64_t k, Count *c, DpsError *err)
{
    DpsRow row;
    DpsEncodedUnit u = {0};
    DpsError why = DPS_ERROR_INIT;
    DpsRowKind kind = DPS_ROW_STEPS;
    c->rows++;
    DpsStatus st = dps_dataset_file_row (file, k, &row, &why);
    if (st == DPS_OK) {
        c->kinds[kind = row.kind]++;
        st = dps_encode_unit (r->text.encoder, &row, r->unit, &u, &why);
        if (st == DPS_OK)
            st = count_scores (r, &row, c, &why);
        dps_row_clear (&row);
    }
    DPS_TRY (settle_row (c, st, &why, err));
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

static void print_criteria (const Count *c)
{
    json_t *all = criteria_json (c), *of;
    const char *name;
    json_object_foreach (all, name, of)
        printf ("  %8lld  judged by %s, mean %.4g, weight %g\n", (long long)json_integer_value (json_object_get (of, "judged")), name,
                json_number_value (json_object_get (of, "mean")), json_number_value (json_object_get (of, "weight")));
    json_decref (all);
}

static void print_json (const DataRows *r, const Count *c)
{
    json_t *kinds = json_object (), *files = json_array ();
    for (int k = 0; k <= DPS_ROW_STEPS; k++)
        if (c->kinds[k])
            json_object_set_new (kinds, dps_row_kind_name ((DpsRowKind)k), json_integer ((json_int_t)c->kinds[k]));
    for (size_t i = 0; i < r->ds->n_files; i++)
        json_array_append_new (files, json_pack ("{s:s, s:I, s:s}", "path", r->ds->files[i].name, "rows", (json_int_t)r->ds->files[i].n,
                                                 "sha256", dps_rows_digest (r->ds->files[i].rows)->hex));
    json_t *o = json_pack ("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:O, s:o}", "rows", (json_int_t)c->rows, "eval_rows",
                           (json_int_t)c->held_out, "refused", (json_int_t)c->refused, "dropped", (json_int_t)c->dropped, "cut",
                           (json_int_t)c->cut, "tokens", (json_int_t)c->tokens, "trained_tokens", (json_int_t)c->trained, "longest",
                           (json_int_t)c->longest, "kinds", kinds, "files", files, "problems", c->problems, "criteria", criteria_json (c));
    json_dumpf (o, stdout, JSON_INDENT (2));
    putchar ('\n');
    json_decref (o);
}

static void print_text (const DataRows *r, const Count *c)
{
    printf ("%llu row%s in %zu file%s, %llu refused; %llu cut and %llu dropped by max_length\n", (unsigned long long)c->rows,
            c->rows == 1 ? "" : "s", r->ds->n_files, r->ds->n_files == 1 ? "" : "s", (unsigned long long)c->refused,
            (unsigned long long)c->cut, (unsigned long long)c->dropped);
    for (int k = 0; k <= DPS_ROW_STEPS; k++)
        if (c->kinds[k])
            printf ("  %8llu  %s\n", (unsigned long long)c->kinds[k], dps_row_kind_name ((DpsRowKind)k));
    print_criteria (c);
    if (c->held_out)
        printf ("  %8llu  held out\n", (unsigned long long)c->held_out);
    printf ("%llu tokens, %llu trained (%.1f %%); the longest row has %llu\n", (unsigned long long)c->tokens,
            (unsigned long long)c->trained, c->tokens ? 100 * (double)c->trained / (double)c->tokens : 0, (unsigned long long)c->longest);
    if (c->whole && !dps_recipe_given (r->recipe, DPS_KEY_assistant_only_loss))
        printf ("%llu conversation%s every turn; assistant_only_loss: true trains the answers only\n", (unsigned long long)c->whole,
                c->whole == 1 ? " trains" : "s train");
}

static DpsStatus check_files (const DataRows *r, const DpsDataset *ds, Count *c, DpsError *err)
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

DpsStatus data_check (const DataRows *r, DpsError *err)
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
        (cli_common.json ? print_json : print_text) (r, &c);
    if (st == DPS_OK && c.refused)
        st = dps_fail (err, DPS_ERR_DATA, "%llu of %llu rows would be refused, the first: %s", (unsigned long long)c.refused,
                       (unsigned long long)(c.rows + c.held_out), json_string_value (json_array_get (c.problems, 0)));
    dps_criteria_free (&c.criteria);
    json_decref (c.judged);
    json_decref (c.problems);
    return st;
}
