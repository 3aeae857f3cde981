/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_reward.c: a reward as a judge of texts that nobody chose: a value or a reason for each row and criterion, the same whoever stands beside it, within
 * its deadline, whatever bytes the answer is made of.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/judge.h"
#include "base/mem.h"
#include "base/rng.h"
#include "check/alloc_hook.h"
#include "check/pages.h"
#include "check/plugin.h"

enum { MAX_ROWS = 32, MAX_CRITERIA = DPS_CRITERIA_MAX, MAX_IDS = 16, LONG = 1 << 20, SLACK_MS = 2500, CLOCK_AHEAD_S = 400 * 86400 };

static const char columns[] =
    "{\"answer\": \"42\", \"lang\": \"en\", \"reference\": \"forty-two\", \"n\": 3, \"list\": [\"a\", \"b\"], \"none\": null}";
static const char *const answers[] = {"The answer is 42.",
                                      "42",
                                      "I do not know what the answer to that is, and that is all there is to say.",
                                      "R\xc3\xa9ponse : quarante-deux, c'est tout ce que je sais.",
                                      "{\"answer\": 42, \"why\": [1, 2.5e3, null]}",
                                      "```json\n{\"a\": true}\n```",
                                      "aaaa bbbb cccc dddd",
                                      ""};
enum { N_ANSWERS = sizeof answers / sizeof *answers };

static const DpsReward *table_of (const CheckContext *ctx) { return ctx->table; }

/** Rows as the host gives them, and what came back. */
typedef struct Judged {
    DpsRewardRow row[MAX_ROWS];
    const DpsRewardRow *rows[MAX_ROWS];
    uint64_t n;
    double value[MAX_ROWS * MAX_CRITERIA];
    uint32_t status[MAX_ROWS * MAX_CRITERIA];
} Judged;

static const int32_t ids[MAX_IDS] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

static void add_row (Judged *j, DpsStr completion)
{
    DpsRewardRow *r = &j->row[j->n];
    *r = (DpsRewardRow){.size = sizeof *r,
                        .prompt = dps_str ("What is the answer to it all?"),
                        .completion = completion,
                        .columns = dps_str (columns),
                        .completion_ids = ids,
                        .n_completion_ids = 1 + completion.len % MAX_IDS,
                        .truncated = j->n % 5 == 4};
    j->rows[j->n++] = r;
}

static void add_answers (Judged *j)
{
    for (size_t i = 0; i < N_ANSWERS; i++)
        add_row (j, dps_str (answers[i]));
}

static DpsStatus open_variant (const CheckContext *ctx, size_t variant, void **out, char *name, size_t cap, DpsError *err)
{
    const DpsRewardInfo *info = table_of (ctx)->describe ();
    double num[DPS_PARAMS_MAX];
    DpsStr str[DPS_PARAMS_MAX];
    CheckArgs args;
    *out = NULL;
    snprintf (name, cap, "%s", "as given");
    DpsStatus st = check_args_open (ctx, &args, err);
    if (st == DPS_OK && variant && !check_args_variant (info->params, info->n_params, variant - 1, &args))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "no such variant");
    if (st == DPS_OK && variant)
        snprintf (name, cap, "%s: %g%.*s", args.name, args.value.num, (int)args.value.str.len,
                  args.value.str.len ? args.value.str.ptr : "");
    if (st == DPS_OK)
        st = dps_params_resolve (info->name, info->params, info->n_params, check_args_lookup, &args, num, str, err);
    if (st == DPS_OK)
        st = table_of (ctx)->open (num, str, out, err);
    check_args_close (&args);
    return st;
}

static DpsStatus open_reward (const CheckContext *ctx, void **out, DpsError *err)
{
    char name[96];
    DpsStatus st = open_variant (ctx, 0, out, name, sizeof name, err);
    return (st == DPS_ERR_INVALID || st == DPS_ERR_USAGE) && !ctx->args
               ? check_skip (err, "%.900s. Hint: --args gives parameters", err->msg)
               : st;
}

/* Results start as what no reward says, so that what was not written shows. */
static DpsStatus judge (const CheckContext *ctx, void *self, Judged *j, int64_t deadline_ms, DpsError *err)
{
    for (size_t i = 0; i < MAX_ROWS * MAX_CRITERIA; i++) {
        j->value[i] = -12345.5;
        j->status[i] = 4711;
    }
    return table_of (ctx)->score (self, j->rows, j->n, deadline_ms, j->value, j->status, NULL, err);
}

/* Each (row, criterion) has a status, and a finite value where that is OK and nowhere else; nothing is written behind the last. */
static DpsStatus consistent (const CheckContext *ctx, const Judged *j, const char *what, DpsError *err)
{
    const DpsRewardInfo *info = table_of (ctx)->describe ();
    for (uint64_t i = 0; i < j->n * info->n_criteria; i++) {
        uint64_t row = i / info->n_criteria;
        const char *criterion = info->criteria[i % info->n_criteria];
        if (j->status[i] > DPS_SCORE_TIMEOUT)
            return dps_fail (err, DPS_ERR_INVALID, "%s: row %llu has no status for %s", what, (unsigned long long)row, criterion);
        if (isinf (j->value[i]) || (j->status[i] == DPS_SCORE_OK) == (isnan (j->value[i]) != 0))
            return dps_fail (err, DPS_ERR_INVALID,
                             "%s: row %llu has the status %u and the value %g for %s: a value is NaN where the status is not OK, and "
                             "finite where it is",
                             what, (unsigned long long)row, j->status[i], j->value[i], criterion);
    }
    if (j->status[j->n * info->n_criteria] != 4711 || j->value[j->n * info->n_criteria] != -12345.5)
        return dps_fail (err, DPS_ERR_INVALID, "%s: something was written behind the last row", what);
    return DPS_OK;
}

static DpsStatus describe (CheckContext *ctx, DpsError *err)
{
    const DpsRewardInfo *info = table_of (ctx)->describe ();
    if (!info || info != table_of (ctx)->describe () || !check_is_text (info->name) || !check_is_text (info->summary))
        return dps_fail (err, DPS_ERR_INVALID, "describe: name or summary is missing, or the pointer changes: it is static storage");
    DPS_TRY (check_own_name (ctx, info->name, err));
    if (info->n_criteria < 1 || info->n_criteria > MAX_CRITERIA)
        return dps_fail (err, DPS_ERR_INVALID, "%u criteria, expected 1 to %d", info->n_criteria, MAX_CRITERIA);
    for (uint32_t i = 0; i < info->n_criteria; i++) {
        if (!check_is_text (info->criteria[i]) || strlen (info->criteria[i]) > DPS_CRITERION_NAME_MAX)
            return dps_fail (err, DPS_ERR_INVALID, "criterion %u has no name of 1 to %d bytes", i, DPS_CRITERION_NAME_MAX);
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp (info->criteria[k], info->criteria[i]))
                return dps_fail (err, DPS_ERR_INVALID, "two criteria are called %s", info->criteria[i]);
    }
    table_of (ctx)->close (NULL);
    return check_params (info->params, info->n_params, err);
}

static DpsStatus parameters (CheckContext *ctx, DpsError *err)
{
    static Judged j;
    for (size_t v = 0;; v++) {
        char name[96];
        void *self;
        DpsError said = DPS_ERROR_INIT;
        DpsStatus st = v ? open_variant (ctx, v, &self, name, sizeof name, &said) : open_reward (ctx, &self, &said);
        if (st == DPS_ERR_NOT_FOUND && v)
            return DPS_OK;
        if (st == CHECK_SKIPPED)
            return check_skip (err, "%s", said.msg);
        DPS_TRY (check_told (v ? name : "open", st, &said, err));
        if (st != DPS_OK && v == 0)
            return dps_fail (err, st, "%s", said.msg);
        if (st != DPS_OK)
            continue;
        j.n = 0;
        add_answers (&j);
        st = judge (ctx, self, &j, 0, &said);
        table_of (ctx)->close (self);
        DPS_TRY (check_told (v ? name : "score", st, &said, err));
        DPS_TRY (st == DPS_OK ? consistent (ctx, &j, v ? name : "as given", err) : DPS_OK);
    }
}

/* Cases that look at one open reward. */
typedef struct Look {
    DpsStatus (*look) (const CheckContext *ctx, void *self, Judged *j, DpsError *err);
} Look;

static DpsStatus on_open (CheckContext *ctx, DpsError *err)
{
    static Judged j;
    void *self;
    const Look *how = ctx->test->data;
    memset (&j, 0, sizeof j);
    DPS_TRY (open_reward (ctx, &self, err));
    DpsStatus st = how->look (ctx, self, &j, err);
    table_of (ctx)->close (self);
    return st;
}

static DpsStatus every_row_look (const CheckContext *ctx, void *self, Judged *j, DpsError *err)
{
    add_answers (j);
    DPS_TRY (judge (ctx, self, j, 0, err));
    DPS_TRY (consistent (ctx, j, "eight answers", err));
    j->n = 0;
    DPS_TRY (judge (ctx, self, j, 0, err));
    return consistent (ctx, j, "no rows at all", err);
}

/* The same rows again, next year, in another order, each alone, and among many: the same values, to the bit. */
static DpsStatus same_values_look (const CheckContext *ctx, void *self, Judged *j, DpsError *err)
{
    static Judged again;
    const uint32_t n = table_of (ctx)->describe ()->n_criteria;
    add_answers (j);
    DPS_TRY (judge (ctx, self, j, 0, err));
    again = *j;
    DPS_TRY (judge (ctx, self, &again, 0, err));
    if (memcmp (again.status, j->status, j->n * n * sizeof *j->status) || memcmp (again.value, j->value, j->n * n * sizeof *j->value))
        return dps_fail (err, DPS_ERR_INVALID, "the same answers are judged otherwise the second time");
    (void)alloc_hook ((const void *)table_of (ctx)->describe);
    alloc_hook_shift_clock (CLOCK_AHEAD_S);
    DpsStatus later = judge (ctx, self, &again, 0, err);
    alloc_hook_shift_clock (0);
    DPS_TRY (later);
    if (memcmp (again.value, j->value, j->n * n * sizeof *j->value))
        return dps_fail (err, DPS_ERR_INVALID, "the same answers are judged otherwise next year: the clock is no part of an answer");
    const uint64_t turn = j->n / 2 + 1;
    for (uint64_t i = 0; i < j->n; i++)
        again.rows[(i + turn) % j->n] = &j->row[i];
    DPS_TRY (judge (ctx, self, &again, 0, err));
    for (uint64_t i = 0; i < j->n; i++)
        if (memcmp (again.value + (i + turn) % j->n * n, j->value + i * n, n * sizeof *j->value))
            return dps_fail (err, DPS_ERR_INVALID, "row %llu is judged otherwise (%g, not %g) where the rows stand in another order",
                             (unsigned long long)i, again.value[(i + turn) % j->n * n], j->value[i * n]);
    for (uint64_t i = 0; i < j->n; i++) {
        DpsError said = DPS_ERROR_INIT;
        again.n = 1;
        again.rows[0] = &j->row[i];
        DpsStatus st = judge (ctx, self, &again, 0, &said);
        if (st == DPS_OK && memcmp (again.value, j->value + i * n, n * sizeof *j->value))
            return dps_fail (err, DPS_ERR_INVALID, "row %llu is %g alone and %g among others", (unsigned long long)i, again.value[0],
                             j->value[i * n]);
    }
    for (again.n = 0; again.n < MAX_ROWS - 1;)
        add_row (&again, dps_str (answers[again.n % N_ANSWERS]));
    DPS_TRY (judge (ctx, self, &again, 0, err));
    for (uint64_t i = 0; i < again.n; i++)
        if (again.row[i].truncated == j->row[i % j->n].truncated &&
            memcmp (again.value + i * n, j->value + i % j->n * n, n * sizeof *j->value))
            return dps_fail (err, DPS_ERR_INVALID, "an answer is %g among %llu others, and %g among %llu", again.value[i * n],
                             (unsigned long long)again.n, j->value[i % j->n * n], (unsigned long long)j->n);
    return DPS_OK;
}

/* Answers of any bytes, which end at a forbidden page and cannot be written: nothing is NUL-terminated, and nothing is the reward's. */
static DpsStatus any_bytes_look (const CheckContext *ctx, void *self, Judged *j, DpsError *err)
{
    static const DpsStr small[] = {{"", 0},
                                   {"\0\0\0", 3},
                                   {"a\0b", 3},
                                   {"\xff\xfe\x80", 3},
                                   {"\xed\xa0\x80", 3},
                                   {"\xf0\x9f\x98", 3},
                                   {"\xe2\x80\xa8", 3},
                                   {"{\"a\": \"\\ud800\"}", 15},
                                   {"[[[[[[[[", 8},
                                   {"-", 1}};
    static const char fill[] = {'a', '[', '(', '"', '\\', ' ', '\n', '\0', '0', (char)0xc3, (char)0xff};
    static const char *const bad_columns[] = {
        "", "{", "[1]", "{\"answer\": ", "{\"answer\": {\"answer\": [[]]}}", "null", "{\"answer\": \"\\u0000\"}"};
    DpsError said = DPS_ERROR_INIT;
    char *text = dps_malloc (LONG, 1);
    if (!text)
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    DpsStatus st = DPS_OK;
    for (size_t i = 0; st == DPS_OK && i < sizeof small / sizeof *small + sizeof fill + sizeof bad_columns / sizeof *bad_columns; i++) {
        size_t f = i - sizeof small / sizeof *small, c = f - sizeof fill;
        DpsStr s = i < sizeof small / sizeof *small ? small[i] : (DpsStr){text, f < sizeof fill ? (size_t)LONG : 7};
        memset (text, f < sizeof fill ? fill[f] : 'x', LONG);
        const char *at = check_pages (s.ptr, s.len, CHECK_GUARD_BEHIND, 1);
        j->n = 0;
        add_row (j, (DpsStr){at, s.len});
        if (c < sizeof bad_columns / sizeof *bad_columns)
            j->row[0].columns = dps_str (bad_columns[c]);
        int64_t start = dps_judge_now_ms ();
        DpsStatus got = judge (ctx, self, j, 0, &said);
        st = got == DPS_OK ? consistent (ctx, j, "an answer of any bytes", err) : check_told ("an answer of any bytes", got, &said, err);
        if (st == DPS_OK && dps_judge_now_ms () - start > 30000)
            st = dps_fail (err, DPS_ERR_INVALID, "one answer of %zu bytes took %lld s", s.len,
                           (long long)(dps_judge_now_ms () - start) / 1000);
    }
    dps_free (text);
    return st;
}

/* Sixteen long answers in 50 ms: what is not judged by then is TIMEOUT, and the call comes back. */
static DpsStatus deadline_look (const CheckContext *ctx, void *self, Judged *j, DpsError *err)
{
    enum { DEADLINE_MS = 50 };
    DpsError said = DPS_ERROR_INIT;
    char *text = dps_malloc (LONG, 1);
    if (!text)
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    for (size_t i = 0; i < LONG; i++)
        text[i] = "42 a.[{\"]}) the \n"[dps_rng_below (ctx->seed, 3, i, 16)];
    for (int i = 0; i < 16; i++)
        add_row (j, (DpsStr){text, LONG});
    int64_t start = dps_judge_now_ms ();
    DpsStatus st = judge (ctx, self, j, DEADLINE_MS, &said);
    int64_t took = dps_judge_now_ms () - start;
    dps_free (text);
    if (took > DEADLINE_MS + SLACK_MS)
        return dps_fail (err, DPS_ERR_INVALID, "score had %d ms and took %lld: an answer that takes too long costs its row, not the run",
                         DEADLINE_MS, (long long)took);
    if (st == DPS_OK)
        return consistent (ctx, j, "a deadline", err);
    DPS_TRY (check_told ("score within a deadline", st, &said, err));
    return st == DPS_ERR_TIMEOUT
               ? DPS_OK
               : dps_fail (err, DPS_ERR_INVALID, "score within a deadline: %s %s, expected OK or TIMEOUT", dps_status_name (st), said.msg);
}

/* Values of tokens stay within each answer's tokens, finite or NaN. */
static DpsStatus tokens_look (const CheckContext *ctx, void *self, Judged *j, DpsError *err)
{
    double *token_values[MAX_ROWS];
    if (table_of (ctx)->describe ()->n_criteria != 1)
        return check_skip (err, "values of tokens are asked of rewards with one criterion");
    add_answers (j);
    for (uint64_t i = 0; i < j->n; i++)
        if (!(token_values[i] = check_pages (NULL, j->row[i].n_completion_ids * sizeof (double), CHECK_GUARD_BEHIND, 0)))
            return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    DPS_TRY (table_of (ctx)->score (self, j->rows, j->n, 0, j->value, j->status, token_values, err));
    for (uint64_t i = 0; i < j->n; i++)
        for (uint64_t k = 0; k < j->row[i].n_completion_ids; k++)
            if (isinf (token_values[i][k]))
                return dps_fail (err, DPS_ERR_INVALID, "token %llu of row %llu is %g", (unsigned long long)k, (unsigned long long)i,
                                 token_values[i][k]);
    return DPS_OK;
}

static DpsStatus inputs_look (const CheckContext *ctx, void *self, Judged *j, DpsError *err)
{
    static Judged given;
    static char texts[N_ANSWERS][128], kept[N_ANSWERS][128];
    for (size_t i = 0; i < N_ANSWERS; i++) {
        snprintf (texts[i], sizeof *texts, "%s", answers[i]);
        add_row (j, (DpsStr){texts[i], strlen (texts[i])});
    }
    memcpy (kept, texts, sizeof kept);
    given = *j;
    DPS_TRY (judge (ctx, self, j, 0, err));
    if (memcmp (kept, texts, sizeof kept) || memcmp (given.row, j->row, sizeof given.row) ||
        memcmp (given.rows, j->rows, sizeof given.rows))
        return dps_fail (err, DPS_ERR_INVALID, "score wrote to the rows it was given: they are borrowed and constant");
    return DPS_OK;
}

/* Two instances in two threads. */
typedef struct Thread {
    const CheckContext *ctx;
    void *self;
    Judged j, expected;
    uint64_t n, differ;
} Thread;

static void *judge_often (void *arg)
{
    Thread *t = arg;
    DpsError err = DPS_ERROR_INIT;
    size_t n = t->j.n * table_of (t->ctx)->describe ()->n_criteria;
    for (int64_t start = dps_judge_now_ms (); dps_judge_now_ms () - start < 250; t->n++)
        t->differ += judge (t->ctx, t->self, &t->j, 0, &err) != DPS_OK || memcmp (t->j.value, t->expected.value, n * sizeof *t->j.value);
    return NULL;
}

static DpsStatus two_at_once (CheckContext *ctx, DpsError *err)
{
    static Thread t[2];
    static char texts[2][1 << 15];
    pthread_t other;
    DpsStatus st = DPS_OK;
    for (int i = 0; st == DPS_OK && i < 2; i++) {
        t[i] = (Thread){.ctx = ctx};
        if ((st = open_reward (ctx, &t[i].self, err)) != DPS_OK)
            break;
        add_answers (&t[i].j);
        memset (texts[i], i ? 'z' : '.', sizeof texts[i]);
        add_row (&t[i].j, (DpsStr){texts[i], sizeof texts[i]});
        for (uint64_t k = 0; i && k < t[i].j.n; k++)
            t[i].j.rows[k] = &t[i].j.row[t[i].j.n - 1 - k];
        st = judge (ctx, t[i].self, &t[i].j, 0, err);
        t[i].expected = t[i].j;
    }
    if (st == DPS_OK && pthread_create (&other, NULL, judge_often, &t[1]))
        st = dps_fail (err, DPS_ERR_NOMEM, "check: no thread");
    if (st == DPS_OK) {
        judge_often (&t[0]);
        pthread_join (other, NULL);
        if (t[0].differ + t[1].differ)
            st = dps_fail (err, DPS_ERR_INVALID,
                           "two instances at once judge otherwise than alone (%llu of %llu times): they share memory that is written",
                           (unsigned long long)(t[0].differ + t[1].differ), (unsigned long long)(t[0].n + t[1].n));
    }
    table_of (ctx)->close (t[0].self);
    table_of (ctx)->close (t[1].self);
    return st;
}

static DpsStatus life (const CheckContext *ctx, Judged *j, DpsError *err)
{
    void *self;
    DPS_TRY (open_reward (ctx, &self, err));
    j->n = 0;
    add_answers (j);
    DpsStatus st = judge (ctx, self, j, 0, err);
    table_of (ctx)->close (self);
    return st;
}

static DpsStatus leaks (CheckContext *ctx, DpsError *err)
{
    static Judged j;
    DPS_TRY (check_heap_watch ((const void *)table_of (ctx)->describe, err));
    DPS_TRY (life (ctx, &j, err));
    int64_t before = alloc_hook_live ();
    for (int i = 0; i < 20; i++)
        DPS_TRY (life (ctx, &j, err));
    int64_t more = alloc_hook_live () - before;
    return more ? dps_fail (err, DPS_ERR_INVALID, "20 rewards left %lld blocks behind", (long long)more) : DPS_OK;
}

/* NOMEM, or the right values with what could not be judged marked so; never another value. */
static DpsStatus allocations (CheckContext *ctx, DpsError *err)
{
    static Judged right, j;
    const uint32_t n = table_of (ctx)->describe ()->n_criteria;
    DPS_TRY (check_heap_watch ((const void *)table_of (ctx)->describe, err));
    DPS_TRY (life (ctx, &right, err));
    for (uint64_t k = 1; k < 3000; k++) {
        DpsError said = DPS_ERROR_INIT;
        int64_t before = alloc_hook_live ();
        alloc_hook_fail_at (k);
        DpsStatus st = life (ctx, &j, &said);
        uint64_t made = alloc_hook_count ();
        alloc_hook_fail_at (0);
        DPS_TRY (check_told ("a reward without memory", st, &said, err));
        if (st != DPS_OK && st != DPS_ERR_NOMEM)
            return dps_fail (err, DPS_ERR_INVALID, "allocation %llu failed: %s %.300s, expected NOMEM", (unsigned long long)k,
                             dps_status_name (st), said.msg);
        for (uint64_t i = 0; st == DPS_OK && i < j.n * n; i++)
            if (j.status[i] == DPS_SCORE_OK && memcmp (&j.value[i], &right.value[i], sizeof *j.value))
                return dps_fail (err, DPS_ERR_INVALID, "allocation %llu failed, and a row is judged %g instead of %g",
                                 (unsigned long long)k, j.value[i], right.value[i]);
        if (alloc_hook_live () != before)
            return dps_fail (err, DPS_ERR_INVALID, "allocation %llu failed, and %lld blocks were left behind", (unsigned long long)k,
                             (long long)(alloc_hook_live () - before));
        if (made < k)
            return DPS_OK;
    }
    return dps_fail (err, DPS_ERR_INVALID, "more than 3000 allocations for eight answers");
}

static DpsStatus older_host (CheckContext *ctx, DpsError *err) { return check_older_hosts ((const void *)table_of (ctx)->describe, err); }

#define LOOK(name_)                                                                                                                        \
    {                                                                                                                                      \
        .name = #name_, .run = on_open, .data = &(const Look) { name_##_look }                                                             \
    }

static const CheckCase cases[] = {
    CHECK_CASE (describe, 0, 0),
    CHECK_CASE (parameters, 0, 0),
    LOOK (every_row),
    LOOK (same_values),
    {.name = "any_bytes", .run = on_open, .data = &(const Look){any_bytes_look}, .timeout_s = 120},
    LOOK (deadline),
    LOOK (tokens),
    LOOK (inputs),
    CHECK_CASE (two_at_once, 0, 0),
    CHECK_CASE (leaks, 0, 0),
    CHECK_CASE (allocations, 0, 0),
    CHECK_CASE (older_host, 0, 0),
};

const CheckSuite check_suite_reward = {.name = "reward",
                                       .interface_id = DPS_REWARD_ID,
                                       .summary = "a reward as a judge of any bytes: values, statuses, deadlines, memory",
                                       .cases = cases,
                                       .n_cases = sizeof cases / sizeof *cases};
