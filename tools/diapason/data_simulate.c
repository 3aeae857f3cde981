/* SPDX-License-Identifier: Apache-2.0 */
/* data_simulate.c: `diapason data simulate`: K answers a prompt, judged, written as preference pairs or as groups. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "diapason/data.h"
#include "diapason/output.h"
#include "diapason/run_recipe.h"
#include "token/encode.h"
#include "train/prompts.h"

static int run (int argc, char **argv);

const DpsVerb data_verb_simulate = {
    .name = "data simulate",
    .summary = "sample answers, have rewards judge them, write preferences",
    .synopsis = "[RECIPE] --out O.jsonl [--model M] [--adapter A …] [--data F.jsonl] [--reward R …] [--num-generations K] [--format "
                "pairs|groups]",
    .help =
        "Samples K answers to each prompt, scores them, and writes rows that simpo, dpo and reward (pairs) or grpo (groups) train on.\n"
        "  pairs    the best and the worst answer by the weighted sum of the scores; prompts whose answers all earn the same are left out\n"
        "  groups   all K answers with their scores by criterion, null where a reward did not judge\n"
        "What flags do not say a recipe may: model_name_or_path, adapter_init, datasets, reward_funcs, num_generations, temperature, "
        "top_p, seed …\n"
        "A reward is a name, or {name: …, weight: …, parameters}. What the rows are made of is written beside them, in "
        "O.jsonl.provenance.json.\n"
        "An interrupted run goes on where it was (O.jsonl.partial) and ends with the same bytes; the rows appear whole or not at all.\n\n"
        "Examples:\n"
        "  diapason data simulate --model model.gguf --data prompts.jsonl --reward language --reward '{name: length, min: 20, max: 120}'\n"
        "      --num-generations 4 --seed 1 --out pairs.jsonl\n"
        "  diapason data simulate tools/examples/helpdesk-simulate.yaml --format groups --out groups.jsonl",
    .run = run,
};

enum { PROMPTS_AT_ONCE = 8, RUN_DIGITS = 12 };

static DataFlags flags = DATA_FLAGS_INIT;
static char *out_path, *format = "pairs";
static const GOptionEntry entries[] = {
    {"model", 'm', 0, G_OPTION_ARG_FILENAME, &flags.model, "Hugging Face folder, .gguf file or checkpoint", "M"},
    {"adapter", 'a', 0, G_OPTION_ARG_FILENAME_ARRAY, &flags.adapters, "PEFT folder; again for one on top of it", "A"},
    {"data", 'd', 0, G_OPTION_ARG_FILENAME, &flags.data, "rows with prompts", "F.jsonl"},
    {"reward", 'r', 0, G_OPTION_ARG_STRING_ARRAY, &flags.rewards, "name or {name: …, parameters}; may be given several times", "R"},
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &out_path, "write there", "O.jsonl"},
    {"num-generations", 0, 0, G_OPTION_ARG_INT, &flags.num_generations, "answers to a prompt (8)", "K"},
    {"max-tokens", 'n', 0, G_OPTION_ARG_INT, &flags.max_tokens, "tokens of an answer at most (256)", "N"},
    {"temperature", 't', 0, G_OPTION_ARG_DOUBLE, &flags.temperature, "of the sampling (1)", "T"},
    {"seed", 's', 0, G_OPTION_ARG_INT64, &flags.seed, "of the draws (42)", "S"},
    {"format", 'f', 0, G_OPTION_ARG_STRING, &format, "pairs (default) or groups", "FORMAT"},
    CLI_SET_ENTRY,
    CLI_PROGRAMS_ENTRY,
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

typedef struct Simulation {
    DataJob job;
    DpsSession session;
    DpsEncoder *encoder;
    json_t *provenance;
    char run[RUN_DIGITS + 1]; /* the provenance's digest, in front of every row's source */
    size_t k;
    int pairs;
    DataJournal journal;
} Simulation;

/* A line of the journal: what became of the prompt, [answers judged, Σ score] by criterion, and behind a tab the row. */
static DpsStatus put_line (const Simulation *s, const DataPrompt *p, const DpsCompletion *answers, const double *values, DpsBuf *out,
                           DpsError *err)
{
    const DataAsked asked = {&s->job, s->run, s->k};
    char what = DATA_KEPT;
    json_t *row = s->pairs ? data_pair (&asked, p, answers, values, &what) : data_group (&asked, p, answers, values, &what);
    int bad = dps_buf_add (out, &what, 1) || dps_buf_str (out, "[");
    for (size_t c = 0; c < s->job.n_criteria; c++) {
        double sum = 0;
        int n = 0;
        for (size_t i = 0; i < s->k; i++) {
            double v = values[i * s->job.n_criteria + c];
            sum += isnan (v) ? 0 : v;
            n += !isnan (v);
        }
        bad = bad || dps_buf_printf (out, "%s[%d, ", c ? ", " : "", n) || dps_json_number (out, sum) || dps_buf_str (out, "]");
    }
    bad = bad || dps_buf_str (out, "]\t") || (row && dps_json_write (out, row, 0)) || dps_buf_str (out, "\n");
    json_decref (row);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "simulate: out of memory") : DPS_OK;
}

/* ---- some prompts ---- */

static DpsStatus sample (Simulation *s, const DataPrompt *prompts, size_t n, uint64_t first, DpsCompletion *answers, DpsError *err)
{
    const int32_t *ids[PROMPTS_AT_ONCE];
    size_t lengths[PROMPTS_AT_ONCE];
    DpsGenerateOptions o;
    dps_generate_options (s->job.recipe, s->k, &o);
    o.first = first * s->k;
    for (size_t i = 0; i < n; i++) {
        ids[i] = prompts[i].unit.rows[0].ids;
        lengths[i] = prompts[i].unit.rows[0].n;
    }
    DpsStatus st = dps_generate (&s->session.weights, s->session.tok, ids, lengths, n, &o, answers, err);
    if (st == DPS_ERR_NONFINITE)
        dps_error_prefix (err, "%s", dps_source_path (s->session.source));
    DPS_TRY (st);
    for (size_t i = 0; i < n * s->k && !s->session.tok; i++) { /* rewards read ids as numbers */
        DpsBuf text = {0};
        DPS_TRY (dps_ids_text (NULL, answers[i].ids, answers[i].n, &text, err));
        answers[i].text = text.data;
        answers[i].len = text.len;
    }
    return DPS_OK;
}

static DpsStatus judge (Simulation *s, const DataPrompt *prompts, const DpsCompletion *answers, size_t n, double *values, DpsError *err)
{
    DpsRewardRow *rows = dps_calloc (n, sizeof *rows);
    const DpsRewardRow **at = dps_calloc (n, sizeof *at);
    DpsStatus st = rows && at ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "simulate: out of memory");
    for (size_t i = 0; st == DPS_OK && i < n; i++) {
        const DataPrompt *p = &prompts[i / s->k];
        rows[i] = (DpsRewardRow){.size = sizeof *rows,
                                 .prompt = {p->text.data, p->text.len},
                                 .completion = {answers[i].text, answers[i].len},
                                 .columns = {p->columns.data, p->columns.len},
                                 .completion_ids = answers[i].ids,
                                 .n_completion_ids = answers[i].n,
                                 .truncated = !answers[i].stopped};
        at[i] = &rows[i];
    }
    if (st == DPS_OK)
        st = dps_rewards_score (s->job.rewards, at, n, 1, values, NULL, err);
    dps_free (rows);
    dps_free (at);
    return st;
}

static DpsStatus simulate_some (Simulation *s, uint64_t first, size_t n, DpsError *err)
{
    DataPrompt prompts[PROMPTS_AT_ONCE];
    DpsBuf lines = {0};
    size_t total = n * s->k;
    DpsCompletion *answers = dps_calloc (total, sizeof *answers);
    double *values = dps_calloc (total, s->job.n_criteria * sizeof *values);
    DpsStatus st = answers && values ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "simulate: out of memory");
    memset (prompts, 0, sizeof prompts);
    for (size_t i = 0; i < n && st == DPS_OK; i++)
        st = data_prompt_read (&s->job, s->encoder, s->session.tok, first + i, &prompts[i], err);
    if (st == DPS_OK)
        st = sample (s, prompts, n, first, answers, err);
    if (st == DPS_OK)
        st = judge (s, prompts, answers, total, values, err);
    for (size_t i = 0; i < n && st == DPS_OK; i++)
        st = put_line (s, &prompts[i], answers + i * s->k, values + i * s->k * s->job.n_criteria, &lines, err);
    if (st == DPS_OK)
        st = data_journal_add (&s->journal, &lines, n, err);
    for (size_t i = 0; i < n; i++)
        data_prompt_free (&prompts[i]);
    for (size_t i = 0; answers && i < total; i++)
        dps_completion_free (&answers[i]);
    dps_free (answers);
    dps_free (values);
    dps_buf_free (&lines);
    return st;
}

/* ---- the end ---- */

typedef struct Tally {
    CliOutput out;
    DpsHasher *hasher;
    uint64_t kept, ties, not_judged;
    size_t n_criteria;
    double n[DPS_CRITERIA_MAX], sum[DPS_CRITERIA_MAX];
} Tally;

static DpsStatus take_line (void *ctx, char what, DpsStr line, DpsError *err)
{
    Tally *t = ctx;
    const char *tab = memchr (line.ptr, '\t', line.len);
    json_t *sums = NULL;
    if (!tab)
        return dps_fail (err, DPS_ERR_FORMAT, "the journal is damaged: remove it and simulate again");
    DPS_TRY (dps_json_parse (line.ptr, (size_t)(tab - line.ptr), "journal", 1, 0, &sums, err));
    for (size_t c = 0; c < t->n_criteria; c++) {
        const json_t *pair = json_array_get (sums, c);
        t->n[c] += json_number_value (json_array_get (pair, 0));
        t->sum[c] += json_number_value (json_array_get (pair, 1));
    }
    json_decref (sums);
    *(what == DATA_KEPT ? &t->kept : what == DATA_TIE ? &t->ties : &t->not_judged) += 1;
    if (what != DATA_KEPT)
        return DPS_OK;
    size_t len = line.len - (size_t)(tab + 1 - line.ptr);
    if (dps_buf_add (&t->out.buf, tab + 1, len) || dps_buf_str (&t->out.buf, "\n"))
        return dps_fail (err, DPS_ERR_NOMEM, "simulate: out of memory");
    dps_hasher_add (t->hasher, t->out.buf.data, t->out.buf.len);
    return cli_output_flush (&t->out, err);
}

static json_t *result_of (const Simulation *s, const Tally *t, const DpsDigest *digest)
{
    json_t *means = json_object ();
    for (size_t c = 0; c < t->n_criteria; c++)
        json_object_set_new (means, s->job.names[c].ptr, t->n[c] > 0 ? json_real (t->sum[c] / t->n[c]) : json_null ());
    return json_pack ("{s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "out", out_path, "sha256", digest->hex, "prompts",
                      (json_int_t)s->job.ds->n_rows, "rows", (json_int_t)t->kept, "ties", (json_int_t)t->ties, "not_judged",
                      (json_int_t)t->not_judged, "reward_means", means);
}

static char *provenance_path (void) { return g_strconcat (out_path, ".provenance.json", NULL); }

static DpsStatus write_provenance (const Simulation *s, const json_t *result, DpsError *err)
{
    g_autofree char *path = provenance_path ();
    DpsBuf text = {0};
    json_t *all = json_pack ("{s:O, s:O}", "simulation", s->provenance, "output", (json_t *)result);
    int bad = !all || dps_json_write (&text, all, 2) || dps_buf_str (&text, "\n");
    json_decref (all);
    return dps_file_write_buf (path, &text, bad, err);
}

static void print_result (const Simulation *s, const json_t *result, int again)
{
    const char *name;
    json_t *mean;
    DpsRewardCounts lost = dps_rewards_counts (s->job.rewards);
    if (cli_common.json) {
        json_dumpf (result, stdout, JSON_COMPACT | JSON_REAL_PRECISION (12));
        putchar ('\n');
        return;
    }
    printf ("%s%lld %s from %lld prompts in %s; %lld ties and %lld not judged left out\n", again ? "already there: " : "",
            (long long)json_integer_value (json_object_get (result, "rows")), format,
            (long long)json_integer_value (json_object_get (result, "prompts")), out_path,
            (long long)json_integer_value (json_object_get (result, "ties")),
            (long long)json_integer_value (json_object_get (result, "not_judged")));
    json_object_foreach (json_object_get (result, "reward_means"), name, mean)
        printf ("  %-24s mean %.4f\n", name, json_number_value (mean));
    if (lost.failed + lost.timed_out)
        printf ("%llu scores failed and %llu timed out\n", (unsigned long long)lost.failed, (unsigned long long)lost.timed_out);
}

static DpsStatus finish (Simulation *s, DpsError *err)
{
    Tally t = {.n_criteria = s->job.n_criteria, .hasher = dps_hasher_new ()};
    DpsDigest digest = {{0}};
    DpsStatus st = t.hasher ? cli_output_begin (&t.out, out_path, err) : dps_fail (err, DPS_ERR_NOMEM, "simulate: out of memory");
    if (st == DPS_OK)
        st = data_journal_read (&s->journal, take_line, &t, err);
    DpsStatus hashed = dps_hasher_final (t.hasher, &digest, err);
    st = st == DPS_OK ? hashed : st;
    st = cli_output_end (&t.out, st, err);
    if (st != DPS_OK)
        return st;
    json_t *result = result_of (s, &t, &digest);
    st = write_provenance (s, result, err);
    if (st == DPS_OK)
        print_result (s, result, 0);
    json_decref (result);
    return st;
}

/* The output of the same simulation, whole: there is nothing to do. */
static int is_there (const Simulation *s, const DpsBuf *what)
{
    g_autofree char *path = provenance_path ();
    DpsBuf theirs = {0};
    json_t *all = NULL;
    DpsDigest digest;
    if (!dps_is_file (path) || dps_json_file (path, 16 << 20, 0, &all, NULL) != DPS_OK)
        return 0;
    const json_t *result = json_object_get (all, "output");
    const char *sha = json_string_value (json_object_get (result, "sha256"));
    int there = sha && !dps_json_write (&theirs, json_object_get (all, "simulation"), 0) && !strcmp (theirs.data, what->data) &&
                dps_sha256_file (out_path, &digest, NULL) == DPS_OK && !strcmp (sha, digest.hex);
    if (there)
        print_result (s, result, 1);
    json_decref (all);
    dps_buf_free (&theirs);
    return there;
}

/* ---- all of it ---- */

static DpsStatus open_policy (Simulation *s, DpsError *err)
{
    const DpsRecipe *r = s->job.recipe;
    if (!r->model_name_or_path)
        return dps_fail (err, DPS_ERR_USAGE, "no model: give --model, or model_name_or_path in a recipe");
    const DpsSessionOptions o = {.model = r->model_name_or_path,
                                 .adapter = r->adapter_init,
                                 .frozen = (const char *const *)r->frozen_adapters.items,
                                 .n_frozen = r->frozen_adapters.n,
                                 .dtype = r->dtype,
                                 .devices = (const char *const *)r->device.items,
                                 .n_devices = r->device.n,
                                 .op_devices = r->op_devices,
                                 .strict_device = r->strict_device,
                                 .recipe = r};
    DPS_TRY (dps_session_open (&s->session, s->job.reg, &o, err));
    DPS_TRY (dps_encoder_new (r, s->session.tok, &s->encoder, err));
    return dps_encoder_set_model (s->encoder, dps_source_config (s->session.source), s->session.model.dec.vocab, err);
}

static DpsStatus run_journal (Simulation *s, const char *what, DpsError *err)
{
    uint64_t n = s->job.ds->n_rows;
    double per_prompt = (double)s->k * (double)s->job.recipe->max_completion_length;
    DPS_TRY (data_journal_open (out_path, what, &s->journal, err));
    if (s->journal.n && !cli_common.quiet)
        fprintf (stderr, "going on after %llu of %llu prompts\n", (unsigned long long)s->journal.n, (unsigned long long)n);
    for (uint64_t first = s->journal.n, made = 0; first < n; first = s->journal.n, made++) {
        cli_progress_paced ("simulating", (double)first, (double)n, (double)made * PROMPTS_AT_ONCE * per_prompt);
        DPS_TRY (simulate_some (s, first, n - first < PROMPTS_AT_ONCE ? (size_t)(n - first) : PROMPTS_AT_ONCE, err));
    }
    cli_progress_end ();
    return finish (s, err);
}

static DpsStatus simulate (Simulation *s, const char *recipe, DpsError *err)
{
    DpsBuf what = {0};
    DpsDigest digest;
    DPS_TRY (data_open (&s->job, recipe, &flags, out_path, err));
    s->k = (size_t)s->job.recipe->num_generations;
    if (s->pairs && s->k < 2)
        return dps_fail (err, DPS_ERR_USAGE, "%s: num_generations is %zu, a pair needs 2 answers",
                         dps_recipe_where (s->job.recipe, DPS_KEY_num_generations), s->k);
    DPS_TRY (open_policy (s, err));
    DPS_TRY (data_provenance (&s->job, &s->session, s->encoder, format, &s->provenance, err));
    DpsStatus st = dps_json_write (&what, s->provenance, 0) ? dps_fail (err, DPS_ERR_NOMEM, "simulate: out of memory")
                                                            : dps_sha256 (what.data, what.len, &digest, err);
    if (st == DPS_OK) {
        memcpy (s->run, digest.hex, RUN_DIGITS);
        st = is_there (s, &what) ? DPS_OK : run_journal (s, what.data, err);
    }
    dps_buf_free (&what);
    return st;
}

static int run (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    Simulation s = {.journal = {.fd = -1}};
    int code = cli_parse (&data_verb_simulate, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc > 2 || !out_path)
        return cli_usage (&data_verb_simulate, "%s%s", argc > 2 ? "unexpected " : "--out is missing: where the rows are written",
                          argc > 2 ? argv[2] : "");
    s.pairs = !strcmp (format, "pairs");
    if (!s.pairs && strcmp (format, "groups") != 0)
        return cli_usage (&data_verb_simulate, "--format is '%s', expected pairs or groups", format);
    DpsStatus st = simulate (&s, argc > 1 ? argv[1] : NULL, &err);
    if (s.journal.path)
        data_journal_close (&s.journal, st == DPS_OK);
    json_decref (s.provenance);
    dps_encoder_free (s.encoder);
    if (s.session.reg)
        dps_session_close (&s.session);
    data_close (&s.job);
    return st == DPS_OK ? 0 : cli_fail (&data_verb_simulate, st, &err);
}
