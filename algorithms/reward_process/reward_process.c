/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_process.c: a program judges. It is started once, at the first answer, and reads one JSON object a line:
 *
 *     {"id": 17, "prompt": "…", "completion": "…", "columns": {…}, "n_tokens": 12, "truncated": false}
 *
 * For each it writes one line, in order: a number, null (not judged), or {"score": number or null}, {"error": "why"}; an "id" in it is checked.
 * Several requests are on their way at a time. A line that is none of these costs its row. A child that ends, or does not answer within `timeout`
 * of the answer before, costs the row it was at and is started anew; after MISSES such rows with no answer between them the rest of the call
 * is given up.
 */
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "answer.h"
#include "base/json.h"
#include "base/judge.h"
#include "child.h"
#include "diapason/sdk.h"

enum { WINDOW = 64, MAX_UNSENT = 1 << 20, MAX_LINE = 1 << 20, CHUNK = 65536, MISSES = 3, TICK_MS = 200, GRACE_MS = 2000, WHY = 400 };

static const DpsParam command = DPS_SDK_PARAM ("command", DPS_PARAM_STR, 0, 0, 0, NULL, "program, or a list of program and arguments");
static const DpsParam path = DPS_SDK_PARAM ("path", DPS_PARAM_STR, 0, 0, 0, NULL, "program file, looked for beside the recipe");
static const DpsParam timeout = DPS_SDK_PARAM ("timeout", DPS_PARAM_F64, 10, 0.01, 86400, NULL, "seconds an answer may take");
static const DpsParam start_timeout =
    DPS_SDK_PARAM ("start_timeout", DPS_PARAM_F64, 60, 0.01, 86400, NULL, "seconds the first answer after a start may take");
static const DpsParam *const params[] = {&command, &path, &timeout, &start_timeout};
enum { COMMAND, PATH, TIMEOUT, START_TIMEOUT, N_PARAMS };
static const char *const criteria[] = {"process"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "process",
                                   .summary = "a child process speaking JSON lines",
                                   .params = params,
                                   .n_params = N_PARAMS,
                                   .n_criteria = 1,
                                   .criteria = criteria};

typedef struct Process {
    char **argv;
    size_t argc;
    int64_t timeout_ms, start_ms;
    Child child;
    int fresh;      /* it has not answered yet */
    DpsBuf to, got; /* not written yet; read, and no whole line yet */
    size_t written; /* of `to` */
    uint64_t next_id;
} Process;

/* One call of score. */
typedef struct Call {
    Process *p;
    const DpsRewardRow *const *rows;
    uint64_t n, sent, done; /* rows */
    uint64_t first_id;      /* of rows[0] */
    double *value;
    uint32_t *status;
    uint64_t n_failed;
    int misses;
    int64_t end, row_end; /* milliseconds of dps_judge_now_ms */
    char why[WHY];        /* the last failure */
} Call;

static DpsHost host;

static const DpsRewardInfo *describe (void) { return &info; }

/* Opening. */

static void stop_child (Process *p, int grace_ms, char *why)
{
    child_stop (&p->child, grace_ms, why, why ? WHY : 0);
    p->to.len = p->written = p->got.len = 0;
}

static void close_process (void *self)
{
    Process *p = self;
    if (!p)
        return;
    stop_child (p, GRACE_MS, NULL);
    for (size_t i = 0; i < p->argc; i++)
        dps_free (p->argv[i]);
    dps_free (p->argv);
    dps_buf_free (&p->to);
    dps_buf_free (&p->got);
    dps_free (p);
}

static DpsStatus fill (Process *p, const DpsWords *words, DpsError *err)
{
    if (!(p->argv = dps_calloc (words->n + 1, sizeof *p->argv)))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    for (; p->argc < words->n; p->argc++)
        if (memchr (words->items[p->argc].ptr, 0, words->items[p->argc].len))
            return dps_fail (err, DPS_ERR_INVALID, "command: word %zu holds a NUL byte", p->argc + 1);
        else if (!(p->argv[p->argc] = dps_strdup (words->items[p->argc].ptr)))
            return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    const char *problem = child_problem (p->argv[0]);
    if (!problem)
        return DPS_OK;
    return dps_fail (err, DPS_ERR_INVALID, "'%.200s' is no program that can be run: %s", p->argv[0],
                     p->argc == 1 && strchr (p->argv[0], ' ') ? "no shell splits the command; write a list: [program, argument, …]"
                                                              : problem);
}

/* A recipe is data, and may come from a stranger: whoever starts the run says that it may start programs. */
static DpsStatus may_run (const Process *p, DpsError *err)
{
    char said[16];
    if (!host.config_get || host.config_get (dps_str ("programs"), said, sizeof said) > 0)
        return DPS_OK;
    return dps_fail (
        err, DPS_ERR_INVALID,
        "it runs '%.200s' with your rights, which a recipe alone may not ask for. Hint: read what it runs, then add --allow-programs",
        p->argv[0]);
}

static DpsStatus open_process (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    DpsWords words = {0};
    if (!str[COMMAND].len == !str[PATH].len)
        return dps_fail (err, DPS_ERR_INVALID, str[PATH].len ? "command and path are both given: keep one" : "command or path is missing");
    Process *p = dps_calloc (1, sizeof *p);
    DpsStatus st = p ? dps_words_parse ("command", str[COMMAND].len ? str[COMMAND] : str[PATH], &words, err)
                     : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK && !words.n)
        st = dps_fail (err, DPS_ERR_INVALID, "command: the list is empty");
    if (st == DPS_OK)
        st = fill (p, &words, err);
    if (st == DPS_OK)
        st = may_run (p, err);
    dps_words_free (&words);
    if (st != DPS_OK) {
        close_process (p);
        return st;
    }
    p->timeout_ms = (int64_t)(num[TIMEOUT] * 1000);
    p->start_ms = (int64_t)(num[START_TIMEOUT] * 1000);
    *out = p;
    return DPS_OK;
}

/* What a call writes down of rows. */

static void settle_row (Call *c, double value, uint32_t status)
{
    c->value[c->done] = status == DPS_SCORE_OK ? value : NAN;
    c->status[c->done] = status;
    c->n_failed += status == DPS_SCORE_FAILED || status == DPS_SCORE_TIMEOUT;
    c->done++;
}

static void start_clock (Call *c) { c->row_end = dps_judge_now_ms () + (c->p->fresh ? c->p->start_ms : c->p->timeout_ms); }

/* The row the child is at is lost, and the child with it. */
static void lose_child (Call *c, uint32_t status, const char *what)
{
    char end[WHY] = "";
    int failed = status == DPS_SCORE_FAILED;
    stop_child (c->p, failed ? GRACE_MS / 10 : 0, end);
    snprintf (c->why, sizeof c->why, failed ? "%.200s (%.100s)" : "%.200s", what, end);
    settle_row (c, 0, status);
    c->sent = c->done;
    c->misses++;
}

/* Requests. */

static int put_text (DpsBuf *b, const char *key, DpsStr s)
{
    return dps_buf_printf (b, ", \"%s\": ", key) || dps_json_quote (b, s.ptr ? s.ptr : "", s.len);
}

static int put_request (DpsBuf *b, uint64_t id, const DpsRewardRow *row)
{
    int bad = dps_buf_printf (b, "{\"id\": %llu", (unsigned long long)id) || put_text (b, "prompt", row->prompt) ||
              put_text (b, "completion", row->completion) || dps_buf_str (b, ", \"columns\": ");
    size_t start = b->len;
    bad = bad || (row->columns.len ? dps_buf_add (b, row->columns.ptr, row->columns.len) : dps_buf_str (b, "{}"));
    for (size_t i = start; !bad && i < b->len; i++) /* JSON may hold line ends between its values: they are white space */
        if (b->data[i] == '\n' || b->data[i] == '\r')
            b->data[i] = ' ';
    return bad || dps_buf_printf (b, ", \"n_tokens\": %llu, \"truncated\": %s}\n", (unsigned long long)row->n_completion_ids,
                                  row->truncated ? "true" : "false");
}

static DpsStatus queue (Call *c, DpsError *err)
{
    Process *p = c->p;
    while (c->sent < c->n && c->sent - c->done < WINDOW && p->to.len - p->written < MAX_UNSENT) {
        if (put_request (&p->to, c->first_id + c->sent, c->rows[c->sent]))
            return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
        c->sent++;
    }
    return DPS_OK;
}

static void send_some (Process *p)
{
    while (p->written < p->to.len) {
        ssize_t n = child_write (&p->child, p->to.data + p->written, p->to.len - p->written);
        if (n <= 0) /* full, or it no longer reads: then its output ends too, and that is noticed */
            break;
        p->written += (size_t)n;
    }
    if (p->written == p->to.len)
        p->to.len = p->written = 0;
}

/* Answers. */

/* One line for row `done`. *lost: it is out of step, and the row stays open: whoever called gives it up with the child. Errors: NOMEM. */
static DpsStatus take_answer (Call *c, const char *line, size_t len, int *lost, DpsError *err)
{
    Answer a;
    DPS_TRY (answer_read (line, len, c->first_id + c->done, &a, err));
    *lost = a.out_of_step;
    if (*lost)
        return DPS_OK;
    if (a.status == DPS_SCORE_FAILED)
        snprintf (c->why, sizeof c->why, "%s", a.why);
    settle_row (c, a.score, a.status);
    return DPS_OK;
}

/* Read what is there. Errors: NOMEM. */
static DpsStatus take_answers (Call *c, DpsError *err)
{
    Process *p = c->p;
    char *end;
    int lost = 0;
    if (dps_buf_reserve (&p->got, CHUNK))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    ssize_t n = child_read (&p->child, p->got.data + p->got.len, CHUNK);
    if (n == 0) {
        lose_child (c, DPS_SCORE_FAILED, "the child ended");
        return DPS_OK;
    }
    if (n > 0)
        p->got.len += (size_t)n;
    while (p->got.len && c->done < c->sent && !lost && (end = memchr (p->got.data, '\n', p->got.len))) {
        size_t len = (size_t)(end - p->got.data);
        DPS_TRY (take_answer (c, p->got.data, len, &lost, err));
        p->got.len -= len + 1;
        memmove (p->got.data, end + 1, p->got.len);
        p->fresh = 0;
        c->misses = lost ? c->misses : 0;
        start_clock (c);
    }
    if (lost)
        lose_child (c, DPS_SCORE_FAILED, "the child's answer has the id of another row");
    else if (p->got.len > MAX_LINE && c->done < c->sent)
        lose_child (c, DPS_SCORE_FAILED, "the child's answer is longer than 1 MiB");
    return DPS_OK;
}

/* A child that speaks without being asked, or ended meanwhile, is replaced. */
static DpsStatus ready_child (Call *c, DpsError *err)
{
    Process *p = c->p;
    char byte;
    if (p->child.pid && (p->got.len || child_read (&p->child, &byte, 1) >= 0))
        stop_child (p, 0, NULL);
    if (p->child.pid)
        return DPS_OK;
    p->fresh = 1;
    return child_start (&p->child, p->argv, err);
}

static void wait_for_child (const Call *c)
{
    const Process *p = c->p;
    struct pollfd fds[2] = {{.fd = p->child.from, .events = POLLIN}, {.fd = p->written < p->to.len ? p->child.to : -1, .events = POLLOUT}};
    int64_t left = (c->row_end < c->end ? c->row_end : c->end) - dps_judge_now_ms ();
    poll (fds, 2, (int)(left < 0 ? 0 : left < TICK_MS ? left : TICK_MS));
}

/* One turn: ask, wait, read. */
static DpsStatus turn (Call *c, DpsError *err)
{
    DpsError why = DPS_ERROR_INIT;
    if (c->sent == c->done) { /* nothing is on its way */
        if (ready_child (c, &why) != DPS_OK) {
            snprintf (c->why, sizeof c->why, "%.300s", why.msg);
            settle_row (c, 0, DPS_SCORE_FAILED);
            c->sent = c->done;
            c->misses++;
            return DPS_OK;
        }
        start_clock (c);
    }
    DPS_TRY (queue (c, err));
    send_some (c->p);
    wait_for_child (c);
    DPS_TRY (take_answers (c, err));
    if (c->done < c->sent && dps_judge_now_ms () >= c->row_end)
        lose_child (c, DPS_SCORE_TIMEOUT, "no answer in time");
    return DPS_OK;
}

static DpsStatus judge_all (Call *c, DpsError *err)
{
    while (c->done < c->n && c->misses < MISSES && dps_judge_now_ms () < c->end) {
        if (host.should_stop && host.should_stop ())
            return dps_fail (err, DPS_ERR_CANCELLED, "interrupted");
        DPS_TRY (turn (c, err));
    }
    return DPS_OK;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    Process *p = self;
    (void)token_values; /* the score of a whole answer says nothing of its tokens */
    Call c = {.p = p, .rows = rows, .n = n_rows, .value = value, .status = status, .first_id = p->next_id};
    c.end = deadline_ms > 0 ? dps_judge_now_ms () + deadline_ms : INT64_MAX;
    p->next_id += n_rows;
    DpsStatus st = judge_all (&c, err);
    if (st != DPS_OK || c.done < n_rows) /* what it was asked last is no longer wanted */
        stop_child (p, 0, NULL);
    DPS_TRY (st);
    uint32_t rest = c.misses >= MISSES ? status[c.done - 1] : DPS_SCORE_TIMEOUT;
    while (c.done < n_rows)
        settle_row (&c, 0, rest);
    if (!c.n_failed)
        return DPS_OK;
    st = c.n_failed < n_rows ? DPS_OK : status[0] == DPS_SCORE_TIMEOUT ? DPS_ERR_TIMEOUT : DPS_ERR_IO;
    return dps_fail (err, st, "%s", *c.why ? c.why : "no answer in time");
}

static const DpsReward reward = {.size = sizeof reward, .describe = describe, .open = open_process, .score = score, .close = close_process};

DPS_PLUGIN_ONE_OF_HOST (DPS_REWARD_ID, reward, host);
