/* SPDX-License-Identifier: Apache-2.0 */
/* verb_check.c: conformance of one plugin. Which cases run is decided here; a plugin's code runs in their children only (check/run.h). */
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "check/budgets.h"
#include "check/certificate.h"
#include "check/report.h"
#include "diapason/cli.h"

static int run_check (int argc, char **argv);

const DpsVerb dps_verb_check = {
    .name = "check",
    .summary = "prove that a plugin keeps the ABI's promises",
    .synopsis = "PLUGIN.so|NAME [--level N] [--perf] [--certificate FILE]",
    .help =
        "Runs the conformance kit on a backend, objective, adapter, format or reward plugin: each case in a process of its own, with a "
        "deadline,\n"
        "so that a crash or a hang is a verdict too. A module is given by its path (its manifest lies beside it) or by its short name.\n"
        "Backends climb a ladder: L0 five synchronous functions and an f32 matmul, L1 prepared plans, L2 streams, L3 bf16, fused and\n"
        "backward ops, L4 segments, L5 quantised weights, collectives, profile. --level N runs what that rung and those below demand, and\n"
        "names the op that is worth writing next. Results are compared with f64 arithmetic within budgets that --budgets prints.\n"
        "Exit codes: 0 all held, 3 something did not, 1 the check itself could not run, 2 usage; --verify: 4 it is for another plugin,\n"
        "ABI, suite or budgets.\n\n"
        "Example: diapason check build/lib/diapason/plugins/dps-backend-cpu.so --level 3 --certificate cpu.json",
    .run = run_check,
};

static struct {
    char *kind, *filter, *junit, *certificate, *verify, *device, *args, *sample, *child, *scratch;
    int level, perf, jobs, quick, budgets, list;
    gint64 seed;
    double timeout;
} options;

static const GOptionEntry entries[] = {
    {"level", 0, 0, G_OPTION_ARG_INT, &options.level, "what rung N of the ladder and those below demand: 0 to 5", "N"},
    {"kind", 0, 0, G_OPTION_ARG_STRING, &options.kind, "of a plugin of several kinds: backend, objective, adapter, format or reward",
     "KIND"},
    {"filter", 0, 0, G_OPTION_ARG_STRING, &options.filter, "only cases whose SUITE/CASE matches this pattern (* and ?)", "PATTERN"},
    {"device", 0, 0, G_OPTION_ARG_STRING, &options.device, "of a backend with several: only this one", "NAME"},
    {"args", 0, 0, G_OPTION_ARG_STRING, &options.args, "parameters of an objective, adapter or reward: \"min: 1, max: 3\"", "LIST"},
    {"sample", 0, 0, G_OPTION_ARG_FILENAME, &options.sample, "of a format: a file or folder that it reads, and writes again", "PATH"},
    {"junit", 0, 0, G_OPTION_ARG_FILENAME, &options.junit, "write a JUnit report", "FILE"},
    {"perf", 0, 0, G_OPTION_ARG_NONE, &options.perf, "measure each op against this machine's own peak, instead", NULL},
    {"quick", 0, 0, G_OPTION_ARG_NONE, &options.quick, "leave out the cases that take minutes", NULL},
    {"certificate", 0, 0, G_OPTION_ARG_FILENAME, &options.certificate, "write what was found, with digests, as JSON", "FILE"},
    {"verify", 0, 0, G_OPTION_ARG_FILENAME, &options.verify, "is this certificate whole, good, and for this plugin?", "FILE"},
    {"timeout", 0, 0, G_OPTION_ARG_DOUBLE, &options.timeout,
     "seconds that a case may take (120, some have their own; longer on a busy machine)", "S"},
    {"seed", 0, 0, G_OPTION_ARG_INT64, &options.seed, "of all numbers that are drawn (1)", "N"},
    {"jobs", 0, 0, G_OPTION_ARG_INT, &options.jobs, "cases at a time (1)", "N"},
    {"list", 0, 0, G_OPTION_ARG_NONE, &options.list, "name the cases, those of PLUGIN where it is given, and run none", NULL},
    {"budgets", 0, 0, G_OPTION_ARG_NONE, &options.budgets, "print the numeric budgets as JSON and their digest", NULL},
    {"child", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, &options.child, "", NULL},
    {"scratch", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_FILENAME, &options.scratch, "", NULL},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_json (json_t *value)
{
    char *text = json_dumps (value, JSON_COMPACT | JSON_REAL_PRECISION (9));
    puts (text ? text : "{}");
    fflush (stdout);
    dps_free (text);
    json_decref (value);
}

static void tell (const CheckResult *r, size_t done, size_t n)
{
    if (cli_common.json) {
        print_json (check_case_json (r));
        return;
    }
    char name[160];
    cli_progress_end ();
    if (!cli_common.quiet || check_is_failure (r, options.level))
        check_print_case (r, options.level);
    cli_progress ("check", (double)done, (double)n, check_case_name (r, name, sizeof name));
}

static int is_wanted (const CheckSuite *suite, const CheckCase *c)
{
    char name[160];
    snprintf (name, sizeof name, "%s/%s", suite->name, c->name);
    if (c->flags & CHECK_HIDDEN || (c->flags & CHECK_PERF) != (options.perf ? (uint32_t)CHECK_PERF : 0u))
        return 0;
    if ((options.level >= 0 && c->level > options.level) || (options.quick && c->flags & CHECK_LONG))
        return 0;
    return !options.filter || g_pattern_match_simple (options.filter, name);
}

/* The cases for a plugin with these interfaces, in the order of the suites. */
static GArray *choose (const json_t *interfaces)
{
    GArray *chosen = g_array_new (FALSE, TRUE, sizeof (CheckResult));
    for (size_t s = 0; check_suites[s]; s++) {
        const CheckSuite *suite = check_suites[s];
        g_autofree char *id = options.kind ? g_strdup_printf ("dps.%s/1", options.kind) : NULL;
        int offered = interfaces == NULL;
        for (size_t i = 0; i < json_array_size (interfaces); i++)
            offered |= !strcmp (json_string_value (json_array_get (interfaces, i)), suite->interface_id);
        for (size_t i = 0; offered && i < suite->n_cases && (!id || !strcmp (id, suite->interface_id)); i++)
            if (is_wanted (suite, &suite->cases[i])) {
                CheckResult r = {.suite = suite, .test = &suite->cases[i]};
                g_array_append_val (chosen, r);
            }
    }
    return chosen;
}

static int verify (const char *module_path)
{
    DpsError err = DPS_ERROR_INIT;
    json_t *certificate = NULL;
    DpsStatus st = check_verify_certificate (options.verify, module_path, &certificate, &err);
    if (st != DPS_OK)
        return cli_fail (&dps_verb_check, st, &err);
    const json_t *result = json_object_get (certificate, "result"), *plugin = json_object_get (result, "plugin");
    if (cli_common.json)
        print_json (json_incref ((json_t *)(uintptr_t)result));
    else
        printf ("%s: %s %s holds: %lld cases passed on %s\n", options.verify, json_string_value (json_object_get (plugin, "id")),
                json_string_value (json_object_get (plugin, "version")), (long long)json_integer_value (json_object_get (result, "passed")),
                json_string_value (json_object_get (json_object_get (certificate, "machine"), "cpu")));
    json_decref (certificate);
    return 0;
}

static DpsStatus finish (const CheckReport *report, DpsError *err)
{
    if (cli_common.json)
        print_json (json_pack ("{s:o}", "summary", check_summary_json (report)));
    else if (!cli_common.quiet)
        check_print_summary (report);
    if (options.junit)
        DPS_TRY (check_write_junit (report, options.junit, err));
    return options.certificate ? check_write_certificate (report, options.certificate, err) : DPS_OK;
}

/* Run `cases` (whose first is the load that was done) on the plugin that load found. */
static DpsStatus run_cases (const CheckOptions *o, GArray *cases, double start, DpsError *err)
{
    const CheckResult *load = &g_array_index (cases, CheckResult, 0);
    const json_t *plugin = json_object_get (load->notes, "plugin");
    const char *module = json_string_value (json_object_get (plugin, "module"));
    CheckOptions alone = *o;
    if (module && *module == '/')
        alone.target = module; /* no other plugin is loaded beside it */
    DpsStatus st = check_run (&alone, &g_array_index (cases, CheckResult, 1), cases->len - 1, tell, err);
    cli_progress_end ();
    if (st != DPS_OK)
        return st;
    CheckReport report = {.target = alone.target,
                          .plugin = plugin,
                          .devices = json_object_get (load->notes, "devices"),
                          .results = &g_array_index (cases, CheckResult, 0),
                          .n = cases->len,
                          .level = options.level,
                          .seed = o->seed,
                          .seconds = now () - start};
    st = finish (&report, err);
    if (st == DPS_OK && check_failures (&report))
        return DPS_ERR_POLICY;
    return st;
}

/* Load the plugin in a child, and choose its cases: none where it does not load. *load and *cases are the caller's, also after an error. */
static DpsStatus load_plugin (const CheckOptions *o, CheckResult *load, GArray **cases, DpsError *err)
{
    DpsStatus st = check_run (o, load, 1, NULL, err);
    if (st == DPS_OK && json_object_get (load->notes, "status"))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "%s", load->message);
    *cases = choose (json_object_get (json_object_get (load->notes, "plugin"), "interfaces"));
    if (load->verdict != CHECK_PASS)
        g_array_set_size (*cases, 0); /* nothing can be said of what does not load */
    else if (st == DPS_OK && !(*cases)->len)
        st = dps_fail (err, DPS_ERR_USAGE, "no case to run%s%s. Hint: diapason check --list", options.filter ? " matches " : "",
                       options.filter ? options.filter : "");
    return st;
}

static void free_cases (GArray *cases)
{
    for (guint i = 0; i < cases->len; i++)
        check_result_clear (&g_array_index (cases, CheckResult, i));
    g_array_free (cases, TRUE);
}

static int check_plugin (const CheckOptions *o)
{
    DpsError err = DPS_ERROR_INIT;
    double start = now ();
    CheckResult load = {0};
    GArray *cases;
    DpsStatus st = load_plugin (o, &load, &cases, &err);
    if (load.notes && !json_object_get (load.notes, "status"))
        tell (&load, 0, 1);
    g_array_prepend_val (cases, load);
    if (st == DPS_OK)
        st = run_cases (o, cases, start, &err);
    free_cases (cases);
    if (st == DPS_ERR_POLICY)
        return dps_status_exit_code (st); /* said above, case by case */
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_check, st, &err);
}

/* o NULL: of every plugin. */
static int list_cases (const CheckOptions *o)
{
    DpsError err = DPS_ERROR_INIT;
    CheckResult load = {0};
    GArray *cases;
    DpsStatus st = DPS_OK;
    if (o)
        st = load_plugin (o, &load, &cases, &err);
    else
        cases = choose (NULL);
    if (st == DPS_OK && load.verdict != CHECK_PASS)
        st = dps_fail (&err, DPS_ERR_POLICY, "%s does not load: %s", o->target, load.message);
    for (guint i = 0; st == DPS_OK && i < cases->len; i++) {
        const CheckResult *r = &g_array_index (cases, CheckResult, i);
        printf ("L%d %s/%s\n", r->test->level, r->suite->name, r->test->name);
    }
    check_result_clear (&load);
    free_cases (cases);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_check, st, &err);
}

static int run_check (int argc, char **argv)
{
    options.level = -1;
    options.seed = 1;
    int code = cli_parse (&dps_verb_check, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (options.level < -1 || options.level >= CHECK_LEVELS)
        return cli_usage (&dps_verb_check, "--level is %d, expected 0 to %d", options.level, CHECK_LEVELS - 1);
    if (options.timeout < 0 || options.jobs < 0)
        return cli_usage (&dps_verb_check, "--timeout and --jobs are positive");
    if (options.budgets)
        return check_print_budgets ();
    if (options.list && argc < 2)
        return list_cases (NULL);
    if (argc > 2 || (argc < 2 && !options.verify))
        return cli_usage (&dps_verb_check, "%s", argc < 2 ? "PLUGIN.so or NAME is missing" : "one plugin at a time");
    if (options.verify)
        return verify (argc == 2 ? argv[1] : NULL);
    g_autofree char *sample = options.sample ? g_canonicalize_filename (options.sample, NULL) : NULL;
    CheckOptions o = {.target = argv[1],
                      .device = options.device,
                      .args = options.args,
                      .sample = sample,
                      .seed = (uint64_t)options.seed,
                      .timeout_s = options.timeout > 0 ? options.timeout : 120,
                      .timeout_given = options.timeout > 0,
                      .jobs = options.jobs};
    if (options.child)
        return check_child (&o, options.child, options.scratch ? options.scratch : "/tmp");
    return options.list ? list_cases (&o) : check_plugin (&o);
}
