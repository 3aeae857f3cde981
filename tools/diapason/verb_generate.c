/* SPDX-License-Identifier: Apache-2.0 */
/* verb_generate.c: continue prompts: one from the command line, or the rows of a file, several at once and each as often as asked. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "data/dataset.h"
#include "diapason/model_options.h"
#include "diapason/output.h"
#include "infer/generate.h"
#include "token/bpe.h"

static int run_generate (int argc, char **argv);

const DpsVerb dps_verb_generate = {
    .name = "generate",
    .summary = "continue prompts",
    .synopsis =
        "--model M [--adapter A …] (--prompt TEXT | --data F.jsonl) [--num-generations K] [--max-tokens N] [--temperature 0] [--seed "
        "S] [--json]",
    .help =
        "Rows: {\"prompt\":…}, {\"messages\":[…]}, {\"text\":…} or {\"ids\":[…]}; of a row with an answer only the prompt is used. "
        "Messages are\n"
        "rendered by the model's chat template; --prompt and text are continued as they stand, or with --chat are a user's message.\n"
        "--num-generations K gives K answers a prompt, one after the other; the prompt is computed once. Several answers are set apart by "
        "a line\n"
        "\"── row 2\", with K > 1 \"── row 2, answer 0\"; one alone is printed as it is. --json, for programs, writes "
        "{\"ids\":[…],\"text\":…,\"finish_reason\":\"stop|length\"} an answer.\n"
        "A draw is keyed by (seed, row number · K + number of the answer, position), rows and answers counted from 0: what an answer "
        "gets does not\n"
        "depend on the other rows, on the batch, or on when it was drawn.\n\n"
        "Examples:\n"
        "  diapason generate --model model.gguf --adapter run --chat --prompt \"How do I reset my password?\"\n"
        "  diapason generate --model model.gguf --data questions.jsonl --temperature 0.7 --top-p 0.9 --seed 3 --json\n"
        "  diapason generate --model model.gguf --data questions.jsonl --num-generations 8 --temperature 1 --json",
    .run = run_generate,
};

enum { ROWS_AT_ONCE = 64, N_LIMITS = 8 };

static struct {
    char *prompt, *data, *out;
    char **stop;
    int max_tokens, top_k, batch, samples;
    gint64 seed;
    double temperature, top_p, min_p, penalty;
    gboolean chat, ignore_eos;
} o = {.max_tokens = 256, .top_p = 1, .penalty = 1, .batch = 16, .samples = 1};

static const GOptionEntry entries[] = {
    CLI_MODEL_ENTRIES,
    {"prompt", 'p', 0, G_OPTION_ARG_STRING, &o.prompt, "text to continue", "TEXT"},
    {"data", 'd', 0, G_OPTION_ARG_FILENAME, &o.data, "rows to continue", "F.jsonl"},
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &o.out, "write there instead of to standard output", "O.jsonl"},
    {"chat", 0, 0, G_OPTION_ARG_NONE, &o.chat, "--prompt is a user's message for the chat template", NULL},
    {"max-tokens", 'n', 0, G_OPTION_ARG_INT, &o.max_tokens, "tokens of an answer at most (256)", "N"},
    {"num-generations", 0, 0, G_OPTION_ARG_INT, &o.samples, "answers to each prompt (1)", "K"},
    {"temperature", 't', 0, G_OPTION_ARG_DOUBLE, &o.temperature, "0 (default): the likeliest token", "T"},
    {"top-k", 0, 0, G_OPTION_ARG_INT, &o.top_k, "draw among the K likeliest (0: all)", "K"},
    {"top-p", 0, 0, G_OPTION_ARG_DOUBLE, &o.top_p, "draw among the likeliest that reach P (1: all)", "P"},
    {"min-p", 0, 0, G_OPTION_ARG_DOUBLE, &o.min_p, "drop tokens below P times the likeliest (0: none)", "P"},
    {"repetition-penalty", 0, 0, G_OPTION_ARG_DOUBLE, &o.penalty, "divide logits of tokens seen before (1: not)", "X"},
    {"stop", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.stop, "end an answer before this text; may be given several times", "TEXT"},
    {"seed", 's', 0, G_OPTION_ARG_INT64, &o.seed, "of the draws (0)", "S"},
    {"batch", 0, 0, G_OPTION_ARG_INT, &o.batch, "answers decoded together (16)", "N"},
    {"ignore-eos", 0, 0, G_OPTION_ARG_NONE, &o.ignore_eos, "go on past end tokens", NULL},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static int check_options (int argc, char **argv)
{
    const struct {
        const char *name;
        double value, min, max;
    } limits[N_LIMITS] = {{"max-tokens", o.max_tokens, 1, 1 << 24},
                          {"num-generations", o.samples, 1, 4096},
                          {"batch", o.batch, 1, 4096},
                          {"temperature", o.temperature, 0, 1e6},
                          {"top-k", o.top_k, 0, 1 << 30},
                          {"top-p", o.top_p, 1e-9, 1},
                          {"min-p", o.min_p, 0, 1},
                          {"repetition-penalty", o.penalty, 1e-3, 1e3}};
    if (argc > 1)
        return cli_usage (&dps_verb_generate, "unexpected '%s'", argv[1]);
    if (!o.prompt == !o.data)
        return cli_usage (&dps_verb_generate, "%s", o.prompt ? "--prompt and --data exclude each other" : "--prompt or --data is missing");
    for (int i = 0; i < N_LIMITS; i++)
        if (!(limits[i].value >= limits[i].min && limits[i].value <= limits[i].max))
            return cli_usage (&dps_verb_generate, "--%s is %.10g, expected %.10g … %.10g", limits[i].name, limits[i].value, limits[i].min,
                              limits[i].max);
    for (char **stop = o.stop; stop && *stop; stop++)
        if (!**stop)
            return cli_usage (&dps_verb_generate, "--stop is empty, expected the text before which an answer ends");
    if (o.seed < 0)
        return cli_usage (&dps_verb_generate, "--seed is %lld, expected a whole number from 0", (long long)o.seed);
    return -1;
}

/* ---- a single answer on a terminal appears as it is made ---- */

typedef struct Live {
    const DpsTokenizer *tok;
    DpsIds ids;
    size_t shown;
} Live;

static void show_token (void *ctx, uint64_t completion, int32_t id)
{
    Live *live = ctx;
    DpsBuf text = {0};
    (void)completion;
    if (dps_ids_add (&live->ids, id, NULL) == DPS_OK &&
        dps_tokenizer_decode (live->tok, live->ids.ids, live->ids.n, 0, &text, NULL) == DPS_OK) {
        size_t end = text.len;
        /* An unfinished character decodes to U+FFFD at the end: wait for the rest of it. */
        while (end >= live->shown + 3 && !memcmp (text.data + end - 3, "\xef\xbf\xbd", 3))
            end -= 3;
        if (end > live->shown) {
            fwrite (text.data + live->shown, 1, end - live->shown, stdout);
            fflush (stdout);
            live->shown = end;
        }
    }
    dps_buf_free (&text);
}

/* ---- rows ---- */

/* Progress of many answers, in tokens: as if each became as long as it may, so the time left is at most what is shown. */
typedef struct Bar {
    double most, before, made; /* tokens of all rows at most; of the rows in earlier groups, counted so; made in this run of the program */
    double group;              /* made in this group */
    uint64_t rows;             /* of all groups */
} Bar;

static void count_token (void *ctx, uint64_t completion, int32_t id)
{
    Bar *b = ctx;
    (void)completion, (void)id;
    b->made++;
    b->group++;
    cli_progress_paced ("generating", b->before + b->group, b->most, b->made);
}

/* Where an answer among several came from: text may hold any line, so each begins under the row that it answers, and its number of K. */
static int put_heading (DpsBuf *b, uint64_t i)
{
    const char *dim = !o.out && cli_colour (stdout) ? "\033[2m" : "", *plain = *dim ? "\033[0m" : "";
    const unsigned long long k = (unsigned long long)o.samples, row = i / k;
    int bad = dps_buf_printf (b, "%s%s── row %llu", i ? "\n" : "", dim, row);
    return bad || (k > 1 && dps_buf_printf (b, ", answer %llu", i % k)) || dps_buf_printf (b, "%s\n", plain);
}

/* i: its number among all answers, or -1 where it is the only one. */
static int put_answer (DpsBuf *b, const DpsCompletion *c, int64_t i)
{
    if (!cli_common.json && c->text)
        return (i >= 0 && put_heading (b, (uint64_t)i)) || dps_buf_add (b, c->text, c->len) || dps_buf_str (b, "\n");
    if (!cli_common.json)
        return cli_put_ids (b, c->ids, c->n) || dps_buf_str (b, "\n");
    int bad = dps_buf_str (b, "{\"ids\":") || cli_put_ids (b, c->ids, c->n) || dps_buf_str (b, ",\"text\":");
    bad = bad || (c->text ? cli_put_text (b, c->text, c->len) : dps_buf_str (b, "null"));
    return bad || dps_buf_printf (b, ",\"finish_reason\":\"%s\"}\n", c->stopped ? "stop" : "length");
}

static DpsStatus answer (CliSession *s, const DpsEncoded *prompts, size_t n, uint64_t first, Live *live, Bar *bar, CliOutput *out,
                         DpsError *err)
{
    const int several = o.samples > 1 || (bar && bar->rows > 1);
    const int32_t *ids[ROWS_AT_ONCE];
    size_t lengths[ROWS_AT_ONCE], total = n * (size_t)o.samples;
    DpsCompletion *answers = dps_calloc (total, sizeof *answers);
    if (!answers)
        return dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory for %zu answers", total);
    for (size_t i = 0; i < n; i++) {
        ids[i] = prompts[i].ids;
        lengths[i] = prompts[i].n;
    }
    DpsGenerateOptions options = {.sampling = {.temperature = o.temperature,
                                               .top_k = o.top_k,
                                               .top_p = o.top_p,
                                               .min_p = o.min_p,
                                               .repetition_penalty = o.penalty,
                                               .seed = (uint64_t)o.seed},
                                  .max_tokens = o.max_tokens,
                                  .n_samples = o.samples,
                                  .first = first * (uint64_t)o.samples,
                                  .batch = o.batch,
                                  .ignore_end = o.ignore_eos,
                                  .stop = (const char *const *)o.stop,
                                  .n_stop = o.stop ? g_strv_length (o.stop) : 0,
                                  .on_token = live  ? show_token
                                              : bar ? count_token
                                                    : NULL,
                                  .ctx = live ? (void *)live : bar};
    DpsStatus st = dps_generate (&s->session.weights, s->session.tok, ids, lengths, n, &options, answers, err);
    if (st == DPS_ERR_NONFINITE)
        dps_error_prefix (err, "%s", dps_source_path (s->session.source));
    for (size_t i = 0; i < total; i++) {
        if (st == DPS_OK && !live && put_answer (&out->buf, &answers[i], several ? (int64_t)(options.first + i) : -1))
            st = dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory");
        dps_completion_free (&answers[i]);
    }
    dps_free (answers);
    return st == DPS_OK ? cli_output_flush (out, err) : st;
}

static DpsStatus answer_rows (CliSession *s, const DpsDataset *ds, CliOutput *out, DpsError *err)
{
    const double most = (double)o.max_tokens * o.samples;
    Bar bar = {.most = (double)ds->n_rows * most, .rows = ds->n_rows};
    DpsStatus st = DPS_OK;
    for (uint64_t first = 0; first < ds->n_rows && st == DPS_OK; first += ROWS_AT_ONCE) {
        DpsEncoded prompts[ROWS_AT_ONCE];
        size_t n = 0;
        for (; n < ROWS_AT_ONCE && first + n < ds->n_rows && st == DPS_OK; n += st == DPS_OK) {
            DpsRow row;
            st = dps_dataset_row (ds, 0, first + n, &row, err);
            if (st != DPS_OK)
                break;
            st = dps_encode_prompt (s->encoder, &row, &prompts[n], err);
            dps_row_clear (&row);
        }
        if (st == DPS_OK) {
            bar.before = (double)first * most;
            bar.group = 0;
            st = answer (s, prompts, n, first, NULL, &bar, out, err);
        }
        for (size_t i = 0; i < n; i++)
            dps_encoded_free (&prompts[i]);
    }
    cli_progress_end ();
    return st;
}

/* The command line's prompt as a row. */
static DpsStatus answer_prompt (CliSession *s, CliOutput *out, DpsError *err)
{
    json_t *object =
        o.chat ? json_pack ("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", o.prompt) : json_pack ("{s:s}", "text", o.prompt);
    DpsRow row;
    DpsEncoded prompt;
    Live live = {.tok = s->session.tok};
    if (!object)
        return dps_fail (err, DPS_ERR_USAGE, "--prompt is not valid UTF-8");
    DPS_TRY (dps_row_parse (object, NULL, "--prompt", 1, 0, &row, err));
    DpsStatus st = dps_encode_prompt (s->encoder, &row, &prompt, err);
    dps_row_clear (&row);
    DPS_TRY (st);
    int shows = isatty (STDOUT_FILENO) && o.samples == 1 && !cli_common.json && !o.out && !o.stop && s->session.tok;
    st = answer (s, &prompt, 1, 0, shows ? &live : NULL, NULL, out, err);
    if (shows)
        putchar ('\n');
    dps_free (live.ids.ids);
    dps_encoded_free (&prompt);
    return st;
}

static int run_generate (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    CliSession s = {0};
    CliOutput out;
    DpsDataset *ds = NULL;
    int code = cli_parse (&dps_verb_generate, entries, &argc, &argv);
    if (code < 0)
        code = check_options (argc, argv);
    if (code >= 0)
        return code;
    DpsStatus st = cli_output_check (o.out, o.data, &err);
    if (st == DPS_OK)
        st = cli_open_model (&s, &err);
    if (st == DPS_OK && o.data)
        st = dps_dataset_from_file (o.data, &ds, &err);
    if (st == DPS_OK)
        st = cli_output_begin (&out, o.out, &err);
    if (st == DPS_OK)
        st = cli_output_end (&out, ds ? answer_rows (&s, ds, &out, &err) : answer_prompt (&s, &out, &err), &err);
    dps_dataset_close (ds);
    cli_close_model (&s);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_generate, st, &err);
}
