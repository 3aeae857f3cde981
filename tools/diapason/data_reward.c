/* SPDX-License-Identifier: Apache-2.0 */
/* data_reward.c: `diapason data reward`: what rewards say of answers that are there: to try a recipe's rewards before anything is trained. */
#include <math.h>
#include <string.h>

#include "diapason/data.h"
#include "diapason/output.h"
#include "diapason/run_recipe.h"
#include "token/bpe.h"
#include "token/encode.h"
#include "train/prompts.h"

static int run (int argc, char **argv);

const DpsVerb data_verb_reward = {
    .name = "data reward",
    .summary = "what rewards say of answers that are there",
    .synopsis = "[RECIPE] [--data F.jsonl] [--reward R …] [--model M] [--out O.jsonl]",
    .help = "Scores the answers of rows: prompt with completion, chosen and rejected, or conversations (their last reply). One line an "
            "answer,\n"
            "with --json a JSON object; then each criterion's mean, and with pairs how often chosen earns more than rejected.\n"
            "No model is needed but by reward models; --model (or the recipe's) gives the template that prompts are rendered with, and "
            "counts tokens:\n"
            "without one a prompt is its text and an answer has no token count.\n\n"
            "Examples:\n"
            "  diapason data reward --data pairs.jsonl --reward language --reward '{name: length, max: 600, unit: characters}'\n"
            "  diapason data reward recipe.yaml --json --out scores.jsonl",
    .run = run,
};

enum { ANSWERS_AT_ONCE = 64 };

static DataFlags flags = DATA_FLAGS_INIT;
static char *out_path;
static const GOptionEntry entries[] = {
    {"model", 'm', 0, G_OPTION_ARG_FILENAME, &flags.model, "model whose tokenizer and template are used", "M"},
    {"data", 'd', 0, G_OPTION_ARG_FILENAME, &flags.data, "rows with answers", "F.jsonl"},
    {"reward", 'r', 0, G_OPTION_ARG_STRING_ARRAY, &flags.rewards, "name or {name: …, parameters}; may be given several times", "R"},
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &out_path, "write there instead of to standard output", "O.jsonl"},
    CLI_SET_ENTRY,
    CLI_PROGRAMS_ENTRY,
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

/* An answer and where it stands. */
typedef struct Answer {
    DpsBuf prompt, completion, columns, file;
    DpsIds ids;
    uint64_t line;
    const char *side; /* "chosen", "rejected"; NULL */
} Answer;

typedef struct Trial {
    DataJob job;
    DataText text; /* closed without a model */
    CliOutput out;
    Answer answers[ANSWERS_AT_ONCE];
    size_t n; /* answers that wait */
    double sum[DPS_CRITERIA_MAX], n_judged[DPS_CRITERIA_MAX];
    double chosen; /* the total of the chosen answer whose rejected one comes next */
    uint64_t n_answers, pairs, wins, ties;
} Trial;

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "reward: out of memory"); }

static void answer_free (Answer *a)
{
    dps_buf_free (&a->prompt);
    dps_buf_free (&a->completion);
    dps_buf_free (&a->columns);
    dps_buf_free (&a->file);
    dps_free (a->ids.ids);
    *a = (Answer){0};
}

/* A text, the contents of messages one under the other, or ids as numbers. */
static int put_plain (const DpsContent *c, size_t first, size_t end, DpsBuf *out)
{
    int bad = dps_buf_add (out, c->text ? c->text : "", c->text_len);
    for (size_t i = first; c->messages && !bad && i < end; i++)
        bad = (i > first && dps_buf_str (out, "\n")) || dps_message_text (json_array_get (c->messages, i), out);
    for (size_t i = 0; c->ids && !bad && i < c->n_ids; i++)
        bad = dps_buf_printf (out, "%s%d", i ? " " : "", (int)c->ids[i]);
    return bad;
}

/* The prompt as the model's template renders it, or without a model as it stands. */
static DpsStatus put_prompt (const Trial *t, const DpsRow *row, DpsBuf *out, DpsError *err)
{
    const DpsContent *c = data_prompt_of (row);
    DpsEncoded x;
    if (t->text.encoder) {
        DPS_TRY (dps_encode_prompt (t->text.encoder, row, &x, err));
        DpsStatus st = dps_ids_text (t->text.tok, x.ids, x.n, out, err);
        dps_encoded_free (&x);
        return st;
    }
    size_t n = json_array_size (c->messages);
    return put_plain (c, 0, c == row->answers && n ? n - 1 : n, out) ? no_memory (err) : DPS_OK;
}

static DpsStatus put_ids (const Trial *t, const DpsContent *c, Answer *a, DpsError *err)
{
    if (c->ids) {
        for (size_t i = 0; i < c->n_ids; i++)
            DPS_TRY (dps_ids_add (&a->ids, c->ids[i], err));
        return DPS_OK;
    }
    return t->text.tok ? dps_tokenizer_encode (t->text.tok, a->completion.data, a->completion.len, DPS_TOKENIZE_LITERAL, &a->ids, err)
                       : DPS_OK;
}

/* ---- some answers ---- */

static int put_result (Trial *t, const Answer *a, const double *values)
{
    if (!cli_common.json && !t->out.to_file) {
        int bad = dps_buf_printf (&t->out.buf, "%s:%llu%s%s", a->file.data, (unsigned long long)a->line, a->side ? " " : "",
                                  a->side ? a->side : "");
        for (size_t c = 0; c < t->job.n_criteria; c++)
            bad = bad || (isnan (values[c]) ? dps_buf_printf (&t->out.buf, "  %s -", t->job.names[c].ptr)
                                            : dps_buf_printf (&t->out.buf, "  %s %.4g", t->job.names[c].ptr, values[c]));
        return bad || dps_buf_str (&t->out.buf, "\n");
    }
    json_t *o = json_pack ("{s:s, s:I, s:o}", "file", a->file.data, "line", (json_int_t)a->line, "scores", data_scores (&t->job, values));
    double total = data_total (&t->job, values);
    json_object_set_new (o, "score", isnan (total) ? json_null () : json_real (total));
    if (a->side)
        json_object_set_new (o, "side", json_string (a->side));
    int bad = !o || dps_json_write (&t->out.buf, o, 0) || dps_buf_str (&t->out.buf, "\n");
    json_decref (o);
    return bad;
}

static void count (Trial *t, const Answer *a, const double *values)
{
    double total = data_total (&t->job, values);
    t->n_answers++;
    for (size_t c = 0; c < t->job.n_criteria; c++)
        if (!isnan (values[c])) {
            t->sum[c] += values[c];
            t->n_judged[c]++;
        }
    if (a->side && *a->side == 'c')
        t->chosen = total;
    else if (a->side && !isnan (total) && !isnan (t->chosen)) {
        t->pairs++;
        t->wins += t->chosen > total;
        t->ties += t->chosen == total;
    }
}

static DpsStatus judge_waiting (Trial *t, DpsError *err)
{
    DpsRewardRow rows[ANSWERS_AT_ONCE];
    const DpsRewardRow *at[ANSWERS_AT_ONCE];
    double *values = dps_calloc (t->n, t->job.n_criteria * sizeof *values);
    DpsStatus st = values ? DPS_OK : no_memory (err);
    for (size_t i = 0; i < t->n; i++) {
        const Answer *a = &t->answers[i];
        rows[i] = (DpsRewardRow){.size = sizeof *rows,
                                 .prompt = {a->prompt.data, a->prompt.len},
                                 .completion = {a->completion.data, a->completion.len},
                                 .columns = {a->columns.data, a->columns.len},
                                 .completion_ids = a->ids.ids,
                                 .n_completion_ids = a->ids.n};
        at[i] = &rows[i];
    }
    if (st == DPS_OK && t->n)
        st = dps_rewards_score (t->job.rewards, at, t->n, 0, values, NULL, err);
    for (size_t i = 0; i < t->n && st == DPS_OK; i++) {
        count (t, &t->answers[i], values + i * t->job.n_criteria);
        st = put_result (t, &t->answers[i], values + i * t->job.n_criteria) ? no_memory (err) : DPS_OK;
    }
    for (size_t i = 0; i < t->n; i++)
        answer_free (&t->answers[i]);
    t->n = 0;
    dps_free (values);
    return st == DPS_OK ? cli_output_flush (&t->out, err) : st;
}

static DpsStatus add_answer (Trial *t, const DpsRow *row, const DpsContent *c, const char *side, DpsError *err)
{
    Answer *a = &t->answers[t->n++];
    size_t n = json_array_size (c->messages);
    *a = (Answer){.line = row->line, .side = side};
    if (dps_buf_str (&a->file, row->file) || put_plain (c, n ? n - 1 : 0, n, &a->completion))
        return no_memory (err);
    DPS_TRY (put_prompt (t, row, &a->prompt, err));
    DPS_TRY (put_ids (t, c, a, err));
    DPS_TRY (dps_prompt_columns (row->object, &a->columns, err));
    return t->n == ANSWERS_AT_ONCE ? judge_waiting (t, err) : DPS_OK;
}

static DpsStatus add_row (Trial *t, const DpsRow *row, DpsError *err)
{
    static const char *const sides[] = {"chosen", "rejected"};
    if (row->kind == DPS_ROW_PAIR) {
        for (size_t i = 0; i < 2; i++)
            DPS_TRY (add_answer (t, row, &row->answers[i], sides[i], err));
        return DPS_OK;
    }
    if (row->kind == DPS_ROW_COMPLETION || row->kind == DPS_ROW_COMPLETION_IDS || row->kind == DPS_ROW_MESSAGES)
        return add_answer (t, row, &row->answers[0], NULL, err);
    return dps_row_fail (row, err, "%s: expected a prompt with its completion, a preference pair or a conversation",
                         dps_row_kind_name (row->kind));
}

/* ---- all of it ---- */

static DpsStatus judge_rows (Trial *t, DpsError *err)
{
    for (uint64_t k = 0; k < t->job.ds->n_rows; k++) {
        DpsRow row;
        DPS_TRY (dps_dataset_row (t->job.ds, 0, k, &row, err));
        DpsStatus st = add_row (t, &row, err);
        dps_row_clear (&row);
        DPS_TRY (st);
        cli_progress ("judging", (double)k, (double)t->job.ds->n_rows, "");
    }
    cli_progress_end ();
    return judge_waiting (t, err);
}

/* On standard error where the scores went to standard output as JSON. */
static void print_summary (const Trial *t)
{
    FILE *to = cli_common.json && !t->out.to_file ? stderr : stdout;
    DpsRewardCounts n = dps_rewards_counts (t->job.rewards);
    fprintf (to, "%llu answers: %llu scores, %llu not judged, %llu failed, %llu timed out\n", (unsigned long long)t->n_answers,
             (unsigned long long)n.judged, (unsigned long long)n.not_judged, (unsigned long long)n.failed, (unsigned long long)n.timed_out);
    for (size_t c = 0; c < t->job.n_criteria; c++)
        if (t->n_judged[c] > 0)
            fprintf (to, "  %-24s weight %g  mean %.4f\n", t->job.names[c].ptr, t->job.weights[c], t->sum[c] / t->n_judged[c]);
        else
            fprintf (to, "  %-24s weight %g  judged nothing\n", t->job.names[c].ptr, t->job.weights[c]);
    if (t->pairs)
        fprintf (to, "chosen earns more in %.1f %% of %llu pairs, as much in %.1f %%\n", 100 * (double)t->wins / (double)t->pairs,
                 (unsigned long long)t->pairs, 100 * (double)t->ties / (double)t->pairs);
}

static int run (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    static Trial t;
    int code = cli_parse (&data_verb_reward, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc > 2)
        return cli_usage (&data_verb_reward, "unexpected %s", argv[2]);
    DpsStatus st = data_open (&t.job, argc > 1 ? argv[1] : NULL, &flags, out_path, &err);
    if (st == DPS_OK && t.job.recipe->model_name_or_path)
        st = data_text_open (&t.text, t.job.reg, t.job.recipe, &err);
    if (st == DPS_OK)
        st = cli_output_begin (&t.out, out_path, &err);
    if (st == DPS_OK)
        st = cli_output_end (&t.out, judge_rows (&t, &err), &err);
    if (st == DPS_OK && !cli_common.quiet)
        print_summary (&t);
    if (st == DPS_OK) /* what it wrote stays */
        st = dps_rewards_judged_any (t.job.rewards, &err);
    for (size_t i = 0; i < t.n; i++)
        answer_free (&t.answers[i]);
    data_text_close (&t.text);
    data_close (&t.job);
    return st == DPS_OK ? 0 : cli_fail (&data_verb_reward, st, &err);
}
