/* SPDX-License-Identifier: Apache-2.0 */
/* verb_score.c: log-probabilities of rows. Rows are read as they are scored, a budget of tokens at a time. */
#include "data/dataset.h"
#include "diapason/output.h"
#include "diapason/scorer.h"

static int run_score (int argc, char **argv);

const DpsVerb dps_verb_score = {
    .name = "score",
    .summary = "log-probabilities of rows",
    .synopsis = "--model M [--adapter A …] --data F.jsonl [--out O.jsonl]",
    .help = "Rows: {\"ids\":[…]} (or input_ids with labels), {\"text\":…}, {\"prompt\":…,\"completion\":…} or {\"messages\":[…]}.\n"
            "Writes a JSON object a row: ids; logprobs (natural log, one per token, the first null); mask (1: counts: the completion, the\n"
            "assistant's turns, what labels say, else every token but the first); nll, the mean of -logprob over the tokens that count.\n\n"
            "Example: diapason score --model \"$(tools/fetch gemma3-270m)\" --data heldout.jsonl --out scores.jsonl",
    .run = run_score,
};

static char *data, *out;
static const GOptionEntry entries[] = {
    CLI_MODEL_ENTRIES,
    {"data", 'd', 0, G_OPTION_ARG_FILENAME, &data, "rows", "F.jsonl"},
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &out, "write there instead of to standard output", "O.jsonl"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static int put_row (DpsBuf *b, const DpsEncoded *x, const float *logp)
{
    double sum = 0;
    size_t count = 0;
    int bad = dps_buf_str (b, "{\"ids\":") || cli_put_ids (b, x->ids, x->n) || dps_buf_str (b, ",\"logprobs\":[");
    for (size_t i = 0; i < x->n && !bad; i++)
        bad = i ? dps_buf_printf (b, ",%.9g", (double)logp[i]) : dps_buf_str (b, "null");
    bad = bad || dps_buf_str (b, "],\"mask\":[");
    for (size_t i = 0; i < x->n && !bad; i++) {
        int counts = i && x->weights[i] > 0;
        bad = dps_buf_str (b, i ? counts ? ",1" : ",0" : "0");
        sum -= counts ? (double)logp[i] : 0;
        count += (size_t)counts;
    }
    return bad || (count ? dps_buf_printf (b, "],\"nll\":%.9g}\n", sum / (double)count) : dps_buf_str (b, "],\"nll\":null}\n"));
}

static DpsStatus write_row (void *ctx, const DpsEncoded *x, const float *logp, DpsError *err)
{
    CliOutput *o = ctx;
    if (put_row (&o->buf, x, logp))
        return dps_fail (err, DPS_ERR_NOMEM, "score: out of memory");
    return o->buf.len > 1 << 16 ? cli_output_flush (o, err) : DPS_OK;
}

static DpsStatus score_rows (CliSession *s, const DpsDataset *ds, CliOutput *o, DpsError *err)
{
    CliScorer scorer = {.session = s, .scored = write_row, .ctx = o};
    DpsStatus st = DPS_OK;
    for (uint64_t k = 0; k < ds->n_rows && st == DPS_OK; k++) {
        DpsRow row;
        DpsEncoded x;
        st = dps_dataset_row (ds, 0, k, &row, err);
        if (st != DPS_OK)
            break;
        st = dps_encode_row (s->encoder, &row, &x, err);
        dps_row_clear (&row);
        if (st == DPS_OK)
            st = cli_scorer_add (&scorer, &x, err);
        cli_scorer_progress (&scorer, "scoring", k + 1, ds->n_rows);
    }
    if (st == DPS_OK)
        st = cli_scorer_flush (&scorer, err);
    cli_scorer_free (&scorer);
    cli_progress_end ();
    return st;
}

static int run_score (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    CliSession s = {0};
    CliOutput o;
    DpsDataset *ds = NULL;
    int code = cli_parse (&dps_verb_score, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc > 1 || !data)
        return cli_usage (&dps_verb_score, argc > 1 ? "unexpected '%s'" : "--data is missing%s", argc > 1 ? argv[1] : "");
    DpsStatus st = cli_output_check (out, data, &err);
    if (st == DPS_OK)
        st = cli_open_model (&s, &err);
    if (st == DPS_OK)
        st = dps_dataset_from_file (data, &ds, &err);
    if (st == DPS_OK)
        st = cli_output_begin (&o, out, &err);
    if (st == DPS_OK)
        st = cli_output_end (&o, score_rows (&s, ds, &o, &err), &err);
    dps_dataset_close (ds);
    cli_close_model (&s);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_score, st, &err);
}
