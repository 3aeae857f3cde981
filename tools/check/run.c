/* SPDX-License-Identifier: Apache-2.0 */
/* run.c: the parent: one process per case, each with a deadline. A case that leaves a process behind, or writes to standard output, does not pass. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "check/run.h"

enum { MAX_JOBS = 64 };
static const double grace_s = 2; /* for a pipe to close after its process has ended */

const char *const check_verdict_names[CHECK_VERDICTS] = {"passed", "failed", "skipped", "crashed", "timed out"};

typedef struct Slot {
    CheckProcess process;
    CheckResult *result; /* NULL: free */
    const char *target;
    double start, limit; /* seconds; limit as long as the case may take */
    char scratch[64], out[80], log[80];
    double gone_at; /* when its process had ended; 0: it has not */
    int ended;      /* its pipe is closed */
} Slot;

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void check_result_clear (CheckResult *r)
{
    dps_free (r->message);
    json_decref (r->notes);
    r->message = NULL;
    r->notes = NULL;
}

/*
 * Seconds a case may take. What is not asked for is meant for an idle machine: where more wants to run than there are CPUs, it is as many times
 * longer, eight at most, since a case that hangs must end too.
 */
static double limit_of (const CheckOptions *o, const CheckResult *r)
{
    double load = 0, cpus = (double)sysconf (_SC_NPROCESSORS_ONLN),
           idle = r->test && r->test->timeout_s > 0 ? r->test->timeout_s : o->timeout_s;
    if (o->timeout_given)
        return o->timeout_s;
    if (getloadavg (&load, 1) != 1 || cpus < 1 || load < cpus)
        return idle;
    return idle * (load < 8 * cpus ? load / cpus : 8);
}

static DpsStatus start (const CheckOptions *o, Slot *s, CheckResult *r, const char *program, DpsError *err)
{
    char name[160], seed[32];
    const char *arguments[24];
    int n = 0;
    *s = (Slot){.result = r, .target = o->target, .start = now (), .limit = limit_of (o, r)};
    snprintf (s->scratch, sizeof s->scratch, "/tmp/diapason-check-XXXXXX");
    if (!mkdtemp (s->scratch))
        return dps_fail (err, DPS_ERR_IO, "%s: %s", s->scratch, strerror (errno));
    snprintf (s->out, sizeof s->out, "%s.out", s->scratch);
    snprintf (s->log, sizeof s->log, "%s.log", s->scratch);
    snprintf (name, sizeof name, r->suite ? "%s/%s" : "%s%s", r->suite ? r->suite->name : CHECK_LOAD, r->suite ? r->test->name : "");
    snprintf (seed, sizeof seed, "--seed=%llu", (unsigned long long)o->seed);
    const char *const given[] = {program, "check", "--child", name, "--scratch", s->scratch, seed};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        arguments[n++] = given[i];
    const char *const optional[] = {"--device", o->device, "--args", o->args, "--sample", o->sample};
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i += 2)
        if (optional[i + 1]) {
            arguments[n++] = optional[i];
            arguments[n++] = optional[i + 1];
        }
    arguments[n++] = "--";
    arguments[n++] = o->target;
    arguments[n] = NULL;
    return check_spawn (&s->process, arguments, NULL, NULL, s->out, s->log, 0, err);
}

static void set_message (CheckResult *r, const char *text)
{
    dps_free (r->message);
    r->message = dps_strdup (text);
}

/* The line a child wrote: {"verdict": "passed", "message": …, "notes": {…}}. 0 when it is none. */
static int take_verdict (CheckResult *r, const CheckProcess *p)
{
    json_t *line = NULL;
    if (!p->verdict.len || dps_json_parse (p->verdict.data, p->verdict.len, "verdict", 1, 0, &line, NULL) != DPS_OK)
        return 0;
    const char *verdict = json_string_value (json_object_get (line, "verdict"));
    const char *message = json_string_value (json_object_get (line, "message"));
    int found = 0;
    for (int v = CHECK_PASS; v <= CHECK_SKIP; v++)
        if (verdict && !strcmp (verdict, check_verdict_names[v])) {
            r->verdict = (CheckVerdict)v;
            found = 1;
        }
    if (found) {
        set_message (r, message ? message : "");
        r->notes = json_incref (json_object_get (line, "notes"));
    }
    json_decref (line);
    return found;
}

/* What the child itself cannot see: of a case that did not fail by its own account. */
static void look_behind (const Slot *s, int n_left)
{
    char text[160] = "";
    struct stat out;
    CheckResult *r = s->result;
    if (n_left)
        snprintf (text, sizeof text, "it left %d process%s behind", n_left, n_left == 1 ? "" : "es");
    else if (stat (s->out, &out) == 0 && out.st_size > 0)
        snprintf (text, sizeof text, "%lld bytes were written to standard output, which is the host's", (long long)out.st_size);
    if (!text[0] || (r->verdict != CHECK_PASS && r->verdict != CHECK_SKIP))
        return;
    r->verdict = CHECK_FAIL;
    set_message (r, text);
}

static void finish (Slot *slots, int jobs, Slot *s, int timed_out)
{
    CheckResult *r = s->result;
    char how[96], last[400], text[600];
    int group = s->process.pid, running[MAX_JOBS];
    size_t n = 0;
    for (int i = 0; i < jobs; i++)
        if (slots[i].result && &slots[i] != s)
            running[n++] = slots[i].process.pid;
    if (timed_out)
        kill (-group, SIGKILL);
    int status = check_reap (&s->process), n_left = check_kill_strays (group, running, n);
    r->seconds = now () - s->start;
    check_last_line (s->log, last, sizeof last);
    if (timed_out) {
        r->verdict = CHECK_TIMEOUT;
        snprintf (text, sizeof text, "no verdict after %.0f s%s%s. Hint: a slow or busy machine wants a larger --timeout", s->limit,
                  last[0] ? "; its last line: " : "", last);
        set_message (r, text);
    } else if (!take_verdict (r, &s->process) || status != 0) {
        snprintf (text, sizeof text, "%s%sthe process ended %s: %s%s%s", r->test ? "" : s->target, r->test ? "" : ": ",
                  r->message ? "badly after its verdict" : "without a verdict", check_status_text (status, how, sizeof how),
                  last[0] ? "; its last line: " : "", last);
        r->verdict = CHECK_CRASH;
        set_message (r, text);
    }
    look_behind (s, n_left);
    if (!r->notes)
        r->notes = json_object ();
    r->missing = r->verdict == CHECK_SKIP && r->test && (r->test->flags & CHECK_REQUIRED);
    dps_buf_free (&s->process.verdict);
    dps_remove_tree (s->scratch, NULL);
    unlink (s->out);
    unlink (s->log);
    s->result = NULL;
}

/* Wait for something to happen to the running ones, at most until the next deadline. */
static void wait_for (Slot *slots, int jobs)
{
    struct pollfd polls[MAX_JOBS];
    Slot *of[MAX_JOBS];
    nfds_t n = 0;
    double soonest = 3600;
    int exiting = 0; /* one has closed its pipe and is about to end */
    for (int i = 0; i < jobs; i++)
        if (slots[i].result) {
            double left = slots[i].start + slots[i].limit - now ();
            soonest = left < soonest ? left : soonest;
            exiting |= slots[i].gone_at > 0 || slots[i].process.verdict.len > 0;
            of[n] = &slots[i];
            polls[n++] = (struct pollfd){.fd = slots[i].ended ? -1 : slots[i].process.fd, .events = POLLIN};
            exiting |= slots[i].ended;
        }
    poll (polls, n, soonest <= 0 ? 0 : soonest > 0.01 && exiting ? 10 : (int)(1000 * soonest) + 1);
    for (nfds_t i = 0; i < n; i++)
        if (polls[i].revents)
            of[i]->ended = check_read (&of[i]->process);
}

/*
 * A closed pipe comes shortly before a process's end, unless what runs at exit hangs, which the deadline is for. A descendant that inherited the
 * pipe could keep it open: it gets a moment.
 */
static int is_over (Slot *s, int *out_timed_out)
{
    siginfo_t info = {0};
    int gone = waitid (P_PID, (id_t)s->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
    if (gone && s->gone_at <= 0)
        s->gone_at = now ();
    *out_timed_out = !gone && now () > s->start + s->limit;
    return (gone && (s->ended || now () > s->gone_at + grace_s)) || *out_timed_out;
}

DpsStatus check_run (const CheckOptions *o, CheckResult *results, size_t n, void (*progress) (const CheckResult *r, size_t done, size_t n),
                     DpsError *err)
{
    char program[4096];
    Slot slots[MAX_JOBS] = {0};
    int jobs = o->jobs < 1 ? 1 : o->jobs > MAX_JOBS ? MAX_JOBS : o->jobs;
    size_t next = 0, done = 0;
    DpsStatus st = DPS_OK;
    ssize_t length = readlink ("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return dps_fail (err, DPS_ERR_IO, "/proc/self/exe: cannot read");
    program[length] = '\0';
    prctl (PR_SET_CHILD_SUBREAPER, 1);
    while (done < n && st == DPS_OK) {
        for (int i = 0; i < jobs && next < n && st == DPS_OK; i++)
            if (!slots[i].result)
                st = start (o, &slots[i], &results[next++], program, err);
        if (st == DPS_OK)
            wait_for (slots, jobs);
        for (int i = 0, late; i < jobs && st == DPS_OK; i++)
            if (slots[i].result && is_over (&slots[i], &late)) {
                const CheckResult *r = slots[i].result;
                finish (slots, jobs, &slots[i], late);
                if (progress)
                    progress (r, ++done, n);
                else
                    done++;
            }
    }
    for (int i = 0; i < jobs; i++)
        if (slots[i].result && slots[i].process.pid) { /* left by an error above */
            kill (-slots[i].process.pid, SIGKILL);
            finish (slots, jobs, &slots[i], 1);
        }
    return st;
}
