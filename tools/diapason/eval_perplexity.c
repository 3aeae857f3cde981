/* SPDX-License-Identifier: Apache-2.0 */
/* eval_perplexity.c: how well rows are predicted, and which of a set of labels a model finds likeliest. */
#include <math.h>
#include <string.h>

#include "diapason/eval.h"

/* ---- perplexity ---- */

typedef struct Sums {
    double nll;
    uint64_t tokens, rows;
} Sums;

static DpsStatus add_row (void *ctx, const DpsEncoded *x, const float *logp, DpsError *err)
{
    Sums *s = ctx;
    (void)err;
    for (size_t i = 1; i < x->n; i++)
        if (x->weights[i] > 0) {
            s->nll -= (double)logp[i];
            s->tokens++;
        }
    s->rows++;
    return DPS_OK;
}

static DpsStatus sum_rows (const EvalOptions *o, const DpsDataset *ds, Sums *sums, DpsError *err)
{
    CliScorer scorer = {.session = o->session, .scored = add_row, .ctx = sums};
    uint64_t n = o->limit && o->limit < ds->n_rows ? o->limit : ds->n_rows;
    DpsStatus st = DPS_OK;
    for (uint64_t k = 0; k < n && st == DPS_OK; k++) {
        DpsRow row;
        DpsEncoded x;
        st = dps_dataset_row (ds, 0, k, &row, err);
        if (st != DPS_OK)
            break;
        st = dps_encode_row (o->session->encoder, &row, &x, err);
        dps_row_clear (&row);
        if (st == DPS_OK)
            st = cli_scorer_add (&scorer, &x, err);
        cli_scorer_progress (&scorer, "evaluating", k + 1, n);
    }
    if (st == DPS_OK)
        st = cli_scorer_flush (&scorer, err);
    cli_scorer_free (&scorer);
    return st;
}

DpsStatus eval_perplexity (const EvalOptions *o, json_t *out, DpsError *err)
{
    DpsDataset *ds;
    Sums s = {0};
    DPS_TRY (dps_dataset_from_file (o->path, &ds, err));
    DpsStatus st = sum_rows (o, ds, &s, err);
    dps_dataset_close (ds);
    DPS_TRY (st);
    if (s.tokens == 0)
        return dps_fail (err, DPS_ERR_DATA, "%s: no token of it counts", o->path);
    json_object_set_new (out, "rows", json_integer ((json_int_t)s.rows));
    json_object_set_new (out, "tokens", json_integer ((json_int_t)s.tokens));
    json_object_set_new (out, "nll", json_real (s.nll / (double)s.tokens));
    json_object_set_new (out, "perplexity", json_real (exp (s.nll / (double)s.tokens)));
    return DPS_OK;
}

/* ---- labels ---- */

typedef struct Labels {
    GPtrArray *names;   /* in the order they appear */
    GHashTable *number; /* name → index + 1 */
} Labels;

static int label_of (Labels *l, const char *name, gboolean add)
{
    gpointer at = g_hash_table_lookup (l->number, name);
    if (!at && add) {
        char *copy = g_strdup (name);
        g_ptr_array_add (l->names, copy);
        at = GUINT_TO_POINTER (l->names->len);
        g_hash_table_insert (l->number, copy, at);
    }
    return (int)GPOINTER_TO_UINT (at) - 1;
}

/* What a row's answer says, as text that begins where the prompt ends; in out, which is freed by whoever gave it. */
static DpsStatus gold_of (const DpsRow *row, DpsBuf *out, DpsError *err)
{
    const DpsContent *c = row->answers;
    if (row->kind != DPS_ROW_COMPLETION)
        return dps_row_fail (row, err, "%s: labels are the completions of rows with prompt and completion", dps_row_kind_name (row->kind));
    if (c->text ? dps_buf_add (out, c->text, c->text_len) : dps_message_text (json_array_get (c->messages, 0), out))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", row->file);
    return out->len ? DPS_OK : dps_row_fail (row, err, "completion: expected text");
}

static DpsStatus collect_labels (const EvalOptions *o, const DpsDataset *ds, Labels *l, DpsError *err)
{
    if (strcmp (o->labels, "auto")) {
        g_auto (GStrv) given = g_strsplit (o->labels, ",", -1);
        for (int i = 0; given[i]; i++)
            label_of (l, given[i], TRUE);
        return DPS_OK;
    }
    for (uint64_t k = 0; k < ds->n_rows; k++) {
        DpsRow row;
        DpsBuf gold = {0};
        DPS_TRY (dps_dataset_row (ds, 0, k, &row, err));
        DpsStatus st = gold_of (&row, &gold, err);
        if (st == DPS_OK)
            label_of (l, gold.data, TRUE);
        dps_buf_free (&gold);
        dps_row_clear (&row);
        DPS_TRY (st);
    }
    return DPS_OK;
}

typedef struct Guess {
    double best;
    int number, at;
} Guess;

static DpsStatus take_label (void *ctx, const DpsEncoded *x, const float *logp, DpsError *err)
{
    Guess *g = ctx;
    double sum = 0;
    (void)err;
    for (size_t i = 1; i < x->n; i++)
        sum += x->weights[i] > 0 ? (double)logp[i] : 0;
    if (g->at == 0 || sum > g->best) {
        g->best = sum;
        g->number = g->at;
    }
    g->at++;
    return DPS_OK;
}

/* The same row with another answer. */
static DpsStatus encode_label (const EvalOptions *o, const DpsRow *row, const char *label, DpsEncoded *out, DpsError *err)
{
    json_t *copy = dps_json_copy (row->object, 1), *text = json_string (label);
    DpsRow other;
    json_t *answer = json_object_get (copy, "completion") ? json_object_get (copy, "completion") : json_object_get (copy, "output");
    if (json_is_array (answer))
        json_object_set (json_array_get (answer, 0), "content", text);
    else
        json_object_set (copy, json_object_get (copy, "completion") ? "completion" : "output", text);
    json_decref (text);
    DPS_TRY (dps_row_parse (copy, NULL, row->file, row->line, row->number, &other, err));
    DpsStatus st = dps_encode_row (o->session->encoder, &other, out, err);
    dps_row_clear (&other);
    return st;
}

static DpsStatus guess_row (const EvalOptions *o, const DpsRow *row, const Labels *l, int *out, DpsError *err)
{
    Guess g = {0};
    CliScorer scorer = {.session = o->session, .scored = take_label, .ctx = &g};
    DpsStatus st = DPS_OK;
    for (guint i = 0; i < l->names->len && st == DPS_OK; i++) {
        DpsEncoded x;
        st = encode_label (o, row, g_ptr_array_index (l->names, i), &x, err);
        if (st == DPS_OK)
            st = cli_scorer_add (&scorer, &x, err);
    }
    if (st == DPS_OK)
        st = cli_scorer_flush (&scorer, err);
    cli_scorer_free (&scorer);
    *out = g.number;
    return st;
}

static DpsStatus guess_rows (const EvalOptions *o, const DpsDataset *ds, Labels *l, json_t *out, DpsError *err)
{
    uint64_t n = o->limit && o->limit < ds->n_rows ? o->limit : ds->n_rows, right = 0;
    for (uint64_t k = 0; k < n; k++) {
        DpsRow row;
        DpsBuf gold = {0};
        int guess = -1;
        DPS_TRY (dps_dataset_row (ds, 0, k, &row, err));
        DpsStatus st = gold_of (&row, &gold, err);
        int want = st == DPS_OK ? label_of (l, gold.data, FALSE) : -1;
        if (st == DPS_OK && want < 0)
            st = dps_row_fail (&row, err, "its completion '%.60s' is none of the %u labels", gold.data, l->names->len);
        if (st == DPS_OK)
            st = guess_row (o, &row, l, &guess, err);
        dps_buf_free (&gold);
        dps_row_clear (&row);
        DPS_TRY (st);
        right += guess == want;
        cli_progress_paced ("evaluating", (double)(k + 1), (double)n, 0);
    }
    json_object_set_new (out, "rows", json_integer ((json_int_t)n));
    json_object_set_new (out, "labels", json_integer (l->names->len));
    json_object_set_new (out, "label_accuracy", json_real (n ? (double)right / (double)n : 0));
    return DPS_OK;
}

DpsStatus eval_labels (const EvalOptions *o, json_t *out, DpsError *err)
{
    DpsDataset *ds;
    DPS_TRY (dps_dataset_from_file (o->path, &ds, err));
    Labels l = {g_ptr_array_new_with_free_func (g_free), g_hash_table_new (g_str_hash, g_str_equal)};
    DpsStatus st = collect_labels (o, ds, &l, err);
    if (st == DPS_OK)
        st = guess_rows (o, ds, &l, out, err);
    g_hash_table_destroy (l.number);
    g_ptr_array_free (l.names, TRUE);
    dps_dataset_close (ds);
    return st;
}
