/* SPDX-License-Identifier: Apache-2.0 */
/* report.c: the table, the JSON and the JUnit file of `diapason check`. */
#include "check/report.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "diapason/cli.h"

/* What each rung of the ladder asks for (ABI.md). */
static const char *const level_names[CHECK_LEVELS] = {
    "five synchronous functions, f32 matmul", "prepared plans", "streams",
    "bf16, fused and backward ops",           "segments",       "quantised weights, collectives, profile",
};

int check_is_failure (const CheckResult *r, int level)
{
    if (r->verdict == CHECK_SKIP)
        return r->missing && level >= 0 && r->test->level <= level;
    return r->verdict != CHECK_PASS;
}

size_t check_failures (const CheckReport *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++)
        n += (size_t)check_is_failure (&c->results[i], c->level);
    return n;
}

/*
 * The highest rung that was shown to hold: of it and of each below something passed, and nothing failed or is missing; -1: not even the lowest.
 * *out_missing: the first case in the way of the lowest rung that does not hold, NULL: none.
 */
static int rung_reached (const CheckReport *c, const CheckResult **out_missing)
{
    const CheckResult *in_the_way[CHECK_LEVELS] = {NULL};
    size_t passed[CHECK_LEVELS] = {0};
    int reached = -1, lacking = 0;
    for (size_t i = 0; i < c->n; i++) {
        const CheckResult *r = &c->results[i];
        if (!r->test)
            continue;
        passed[r->test->level] += r->verdict == CHECK_PASS;
        if (check_is_failure (r, CHECK_LEVELS) && !in_the_way[r->test->level])
            in_the_way[r->test->level] = r;
    }
    while (reached + 1 < CHECK_LEVELS && passed[reached + 1] && !in_the_way[reached + 1])
        reached++;
    while (lacking + 1 < CHECK_LEVELS && !in_the_way[lacking])
        lacking++;
    *out_missing = in_the_way[lacking];
    return reached;
}

const char *check_case_name (const CheckResult *r, char *out, size_t cap)
{
    if (r->suite)
        snprintf (out, cap, "%s/%s", r->suite->name, r->test->name);
    else
        snprintf (out, cap, CHECK_LOAD);
    return out;
}

/* "gflops 81.4, share 0.64" */
static void print_notes (const json_t *notes)
{
    const char *key;
    json_t *value;
    int n = 0;
    json_object_foreach ((json_t *)(uintptr_t)notes, key, value) {
        if (json_is_number (value))
            printf ("%s%s %.4g", n++ ? ", " : "", key, json_number_value (value));
        else if (json_is_string (value))
            printf ("%s%s %s", n++ ? ", " : "", key, json_string_value (value));
    }
}

void check_print_case (const CheckResult *r, int level)
{
    char name[160];
    int bad = check_is_failure (r, level), colour = cli_colour (stdout);
    const char *word = bad && r->verdict == CHECK_SKIP ? "missing" : check_verdict_names[r->verdict];
    const char *paint = bad ? "31" : r->verdict == CHECK_SKIP ? "2" : "32";
    check_case_name (r, name, sizeof name);
    printf ("%s%s%s%-9s%s L%d %-44s %6.2f s", colour ? "\033[" : "", colour ? paint : "", colour ? "m" : "", word, colour ? "\033[0m" : "",
            r->test ? r->test->level : 0, name, r->seconds);
    if (r->message && r->message[0])
        printf ("  %s", r->message);
    else if (r->test && r->test->flags & CHECK_PERF) {
        printf ("  ");
        print_notes (r->notes);
    }
    putchar ('\n');
    fflush (stdout);
}

json_t *check_case_json (const CheckResult *r)
{
    char name[160];
    return json_pack ("{s:s, s:i, s:s, s:b, s:s, s:f, s:O}", "case", check_case_name (r, name, sizeof name), "level",
                      r->test ? r->test->level : 0, "verdict", check_verdict_names[r->verdict], "required",
                      !r->test || (r->test->flags & CHECK_REQUIRED) != 0, "message", r->message ? r->message : "", "seconds", r->seconds,
                      "notes", r->notes);
}

/* The op with the largest share of a step among those a case found missing; NULL: none is known to be. */
static const json_t *next_op (const CheckReport *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const json_t *next = json_object_get (c->results[i].notes, "next_op");
        if (next)
            return next;
    }
    return NULL;
}

/* By verdict; counts[CHECK_VERDICTS]: skips that are failures, which no other number has. */
static void count (const CheckReport *c, size_t counts[CHECK_VERDICTS + 1])
{
    for (size_t i = 0; i < c->n; i++) {
        const CheckResult *r = &c->results[i];
        counts[r->verdict == CHECK_SKIP && check_is_failure (r, c->level) ? CHECK_VERDICTS : r->verdict]++;
    }
}

static const char *counted_name (int v) { return v < CHECK_VERDICTS ? check_verdict_names[v] : "missing"; }

/* Whether the cases that ran are rungs of a ladder. */
static int has_ladder (const CheckReport *c) { return c->devices != NULL; }

void check_print_summary (const CheckReport *c)
{
    size_t counts[CHECK_VERDICTS + 1] = {0};
    const CheckResult *missing;
    char name[160];
    count (c, counts);
    int reached = rung_reached (c, &missing);
    printf ("\n");
    for (int v = 0, n = 0; v <= CHECK_VERDICTS; v++)
        if (counts[v])
            printf ("%s%zu %s", n++ ? ", " : "", counts[v], counted_name (v));
    printf (" in %.0f s: %s\n", c->seconds, check_failures (c) ? "FAILED" : "ok");
    if (!has_ladder (c))
        return;
    if (reached >= 0)
        printf ("level L%d of what was run holds: %s\n", reached, level_names[reached]);
    else if (!missing || missing->test->level > 0)
        printf ("no level is shown to hold: no case of L0 was run\n");
    if (missing)
        printf ("L%d (%s) still lacks %s: %s\n", missing->test->level, level_names[missing->test->level],
                check_case_name (missing, name, sizeof name), missing->message && missing->message[0] ? missing->message : "see above");
    const json_t *next = next_op (c);
    if (next)
        printf ("the next op worth writing: %s, %.1f %% of %s\n", json_string_value (json_object_get (next, "op")),
                100 * json_number_value (json_object_get (next, "share")), json_string_value (json_object_get (next, "of")));
}

json_t *check_summary_json (const CheckReport *c)
{
    size_t counts[CHECK_VERDICTS + 1] = {0};
    const CheckResult *missing;
    char name[160];
    count (c, counts);
    int reached = rung_reached (c, &missing);
    json_t *all = json_pack ("{s:O?, s:O?, s:s, s:s, s:I, s:f, s:b}", "plugin", c->plugin, "devices", c->devices, "suite_version",
                             CHECK_SUITE_VERSION, "budgets_sha256", CHECK_BUDGETS_DIGEST, "seed", (json_int_t)c->seed, "seconds",
                             c->seconds, "ok", check_failures (c) == 0);
    for (int v = 0; v <= CHECK_VERDICTS; v++)
        json_object_set_new (all, counted_name (v), json_integer ((json_int_t)counts[v]));
    if (has_ladder (c)) {
        json_object_set_new (all, "level_reached", json_integer (reached));
        json_object_set_new (all, "level_lacks", missing ? json_string (check_case_name (missing, name, sizeof name)) : json_null ());
        json_object_set (all, "next_op", next_op (c) ? (json_t *)(uintptr_t)next_op (c) : json_null ());
    }
    return all;
}

static void put_xml (DpsBuf *b, const char *text)
{
    for (const char *c = text; *c; c++)
        switch (*c) {
        case '<': dps_buf_str (b, "&lt;"); break;
        case '>': dps_buf_str (b, "&gt;"); break;
        case '&': dps_buf_str (b, "&amp;"); break;
        case '"': dps_buf_str (b, "&quot;"); break;
        default: dps_buf_add (b, (unsigned char)*c < 0x20 ? " " : c, 1);
        }
}

static void put_junit_case (DpsBuf *b, const CheckResult *r, int level)
{
    dps_buf_printf (b, "  <testcase classname=\"%s\" name=\"%s\" time=\"%.3f\"", r->suite ? r->suite->name : "plugin",
                    r->test ? r->test->name : CHECK_LOAD, r->seconds);
    if (r->verdict == CHECK_PASS) {
        dps_buf_str (b, "/>\n");
        return;
    }
    const char *tag = !check_is_failure (r, level)                               ? "skipped"
                      : r->verdict == CHECK_CRASH || r->verdict == CHECK_TIMEOUT ? "error"
                                                                                 : "failure";
    dps_buf_printf (b, "><%s message=\"", tag);
    put_xml (b, r->message ? r->message : "");
    dps_buf_str (b, "\"/></testcase>\n");
}

DpsStatus check_write_junit (const CheckReport *c, const char *path, DpsError *err)
{
    DpsBuf b = {0};
    size_t skipped = 0, errors = 0, failed = check_failures (c);
    for (size_t i = 0; i < c->n; i++) {
        int bad = check_is_failure (&c->results[i], c->level);
        skipped += (size_t)(!bad && c->results[i].verdict == CHECK_SKIP);
        errors += (size_t)(c->results[i].verdict == CHECK_CRASH || c->results[i].verdict == CHECK_TIMEOUT);
    }
    dps_buf_str (&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"diapason check ");
    put_xml (&b, c->target);
    dps_buf_printf (&b, "\" tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" skipped=\"%zu\" time=\"%.3f\">\n", c->n, failed - errors, errors,
                    skipped, c->seconds);
    for (size_t i = 0; i < c->n; i++)
        put_junit_case (&b, &c->results[i], c->level);
    const int bad = dps_buf_str (&b, "</testsuite>\n");
    return dps_file_write_buf (path, &b, bad, err);
}
