/* SPDX-License-Identifier: Apache-2.0 */
/* reward process: the protocol with a shell as the child; crashes, silence, nonsense, floods; deadlines; what is left behind; refusals. */
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "reward_kit.h"

static DpsError err = DPS_ERROR_INIT;
enum { N = 8 };

/* A reward whose child is this shell script; `more` are further parameters. */
static void *open_script (const char *script, const char *more)
{
    char args[2000];
    snprintf (args, sizeof args, "command: [sh, -c, '%s']%s", script, more);
    return kit_reward_open (args);
}

/* Judge n rows with the completions "0", "1" …; value and status are filled. */
static DpsStatus judge (void *self, uint64_t n, int64_t deadline_ms, double *value, uint32_t *status)
{
    static DpsRewardRow rows[1000];
    static const DpsRewardRow *at[1000];
    static char text[1000][8];
    for (uint64_t i = 0; i < n; i++) {
        snprintf (text[i], sizeof text[i], "%llu", (unsigned long long)i);
        rows[i] = (DpsRewardRow){
            .size = sizeof *rows, .prompt = dps_str ("p\n\"q\""), .completion = dps_str (text[i]), .columns = dps_str ("{\"a\":\n1}")};
        at[i] = &rows[i];
        value[i] = 99;
        status[i] = 99;
    }
    return kit_reward ()->score (self, at, n, deadline_ms, value, status, NULL, &err);
}

static int count_fds (void)
{
    int n = 0;
    DIR *d = opendir ("/proc/self/fd");
    while (d && readdir (d))
        n++;
    closedir (d);
    return n;
}

/* Answers every line with its number of bytes, through jq where the test needs what is inside. */
static void test_protocol (void)
{
    double value[1000];
    uint32_t status[1000];
    void *self = open_script ("exec jq --unbuffered -c \"(.completion | tonumber) as \\$k | if .prompt != \\\"p\\\\n\\\\\\\"q\\\\\\\"\\\" "
                              "or .columns.a != 1 then {error: \\\"?\\\"} "
                              "elif \\$k % 4 == 0 then \\$k / 2 elif \\$k % 4 == 1 then null elif \\$k % 4 == 2 then {id, score: -1.5} "
                              "else {id, error: \\\"no\\\"} end\"",
                              "");
    CHECK_OK (judge (self, 1000, 0, value, status));
    for (int i = 0; i < 1000; i++) {
        static const uint32_t want[] = {DPS_SCORE_OK, DPS_SCORE_NOT_JUDGED, DPS_SCORE_OK, DPS_SCORE_FAILED};
        CU_ASSERT_EQUAL (status[i], want[i % 4]);
        CU_ASSERT (i % 4 == 0 ? value[i] == i / 2.0 : i % 4 == 2 ? value[i] == -1.5 : isnan (value[i]) != 0);
    }
    CHECK_OK (judge (self, 2, 0, value, status)); /* the same child, the ids go on */
    CU_ASSERT (value[0] == 0 && status[1] == DPS_SCORE_NOT_JUDGED);
    kit_reward ()->close (self);
}

/* Each line is answered with the number of the child that answers: 1, 2 …: restarts can be seen. */
#define COUNTED "f=\"$0\"; echo x >> \"$f\"; me=$(wc -l < \"$f\"); "

static void test_a_crash_costs_its_row (void)
{
    double value[N];
    uint32_t status[N];
    char file[200], script[600];
    snprintf (file, sizeof file, DPS_BUILD "/tests/reward-process-%ld", (long)getpid ());
    unlink (file);
    snprintf (script, sizeof script,
              "command: [sh, -c, '%s while read -r l; do case $l in *completion????2*) exit 3;; esac; echo $me; done', %s]", COUNTED, file);
    void *self = kit_reward_open (script);
    CHECK_OK (judge (self, 5, 0, value, status));
    CU_ASSERT (value[0] == 1 && value[1] == 1 && status[2] == DPS_SCORE_FAILED && isnan (value[2]) && value[3] == 2 && value[4] == 2);
    CHECK_OK (judge (self, 2, 0, value, status));
    CU_ASSERT (value[0] == 2 && value[1] == 2);
    kit_reward ()->close (self);
    unlink (file);
}

static void test_silence_costs_its_row (void)
{
    double value[N];
    uint32_t status[N];
    void *self = open_script ("while read -r l; do case $l in *completion????1*) sleep 100;; esac; echo 7; done", ", timeout: 0.3");
    int64_t start = dps_judge_now_ms ();
    CHECK_OK (judge (self, 3, 0, value, status));
    CU_ASSERT (value[0] == 7 && status[1] == DPS_SCORE_TIMEOUT && value[2] == 7);
    CU_ASSERT (dps_judge_now_ms () - start < 20000);
    kit_reward ()->close (self);
    /* Never an answer: three rows cost their time, the rest is given up. */
    self = open_script ("sleep 100", ", start_timeout: 0.2");
    start = dps_judge_now_ms ();
    CHECK_FAILS (judge (self, N, 0, value, status), DPS_ERR_TIMEOUT, "no answer in time");
    for (int i = 0; i < N; i++)
        CU_ASSERT_EQUAL (status[i], DPS_SCORE_TIMEOUT);
    CU_ASSERT (dps_judge_now_ms () - start < 10000);
    kit_reward ()->close (self);
    /* The call's own deadline. */
    self = open_script ("while read -r l; do case $l in *completion????2*) sleep 100;; esac; echo 7; done", "");
    CHECK_OK (judge (self, 4, 400, value, status));
    CU_ASSERT (value[0] == 7 && value[1] == 7 && status[2] == DPS_SCORE_TIMEOUT && status[3] == DPS_SCORE_TIMEOUT);
    kit_reward ()->close (self);
}

static void test_nonsense (void)
{
    static const struct {
        const char *script, *why;
    } cases[] = {
        {"exit 3", "the child ended (exit code 3)"},
        {"kill -9 $$", "the child ended (signal 9"},
        {"exec cat", "the child's answer is no score: expected a number"},
        {"while read -r l; do echo good; done", "the child's answer is no score: the child's answer:1:"},
        {"while read -r l; do echo \"[1]\"; done", "expected a number, null, or an object"},
        {"while read -r l; do echo \"{}\"; done", "expected a number, null, or an object"},
        {"while read -r l; do echo 1e999; done", "the child's answer is no score"},
        {"while read -r l; do echo; done", "the child's answer is no score"},
        {"while read -r l; do echo \"{\\\"id\\\": 4711, \\\"score\\\": 1}\"; done", "has the id of another row"},
        {"while read -r l; do echo \"{\\\"id\\\": \\\"0\\\", \\\"score\\\": 1}\"; done", "has the id of another row"},
        {"yes | tr -d \"\\n\"", "longer than 1 MiB"},
        {"exec <&-; exec >&-; sleep 100", "the child ended"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double value[N];
        uint32_t status[N];
        void *self = open_script (cases[i].script, ", timeout: 5, start_timeout: 5");
        CHECK_FAILS (judge (self, N, 0, value, status), DPS_ERR_IO, cases[i].why);
        for (int k = 0; k < N; k++)
            CU_ASSERT (status[k] == DPS_SCORE_FAILED && isnan (value[k]));
        kit_reward ()->close (self);
    }
}

/* It speaks unasked after an answer: before the next call it is replaced, and the answers stay in step. */
static void test_unasked_words (void)
{
    double value[N];
    uint32_t status[N];
    void *self = open_script ("n=0; while read -r l; do n=$((n+1)); echo $n; [ $n = 2 ] && echo 77; done", "");
    CHECK_OK (judge (self, 2, 0, value, status));
    CU_ASSERT (value[0] == 1 && value[1] == 2);
    usleep (100000);
    CHECK_OK (judge (self, 1, 0, value, status));
    CU_ASSERT_EQUAL (value[0], 1);
    kit_reward ()->close (self);
}

/* A megabyte each way more than the pipes hold, a child that reads nothing before it has everything. */
static void test_long_answers (void)
{
    enum { LONG = 1 << 20 };
    char *text = malloc (LONG);
    CU_ASSERT_PTR_NOT_NULL_FATAL (text);
    memset (text, 'a', LONG);
    void *self = open_script ("exec jq --unbuffered -c \".completion | length\"", ", timeout: 100");
    const DpsRewardRow row = {.size = sizeof row, .completion = {text, LONG}}, *rows[] = {&row, &row, &row};
    double value[3];
    uint32_t status[3];
    CHECK_OK (kit_reward ()->score (self, rows, 3, 0, value, status, NULL, &err));
    CU_ASSERT (value[0] == LONG && value[2] == LONG);
    kit_reward ()->close (self);
    free (text);
}

/* Nothing is left: no descriptor, no child, no grandchild, no pending signal; and it never sees descriptors of ours. */
static void test_nothing_is_left (void)
{
    double value[N];
    uint32_t status[N];
    char file[200], script[700];
    sigset_t pending;
    int before = count_fds ();
    snprintf (file, sizeof file, DPS_BUILD "/tests/reward-process-grandchild-%ld", (long)getpid ());
    snprintf (script, sizeof script,
              "sleep 1000 & echo $! > %s; while read -r l; do n=0; for f in /proc/$$/fd/*; do n=$((n+1)); done; echo $n; done", file);
    void *self = open_script (script, "");
    CHECK_OK (judge (self, 2, 0, value, status));
    CU_ASSERT (value[0] >= 4 && value[0] <= 5); /* 0, 1, 2, its life line, and the folder the shell reads to count them */
    kit_reward ()->close (self);
    FILE *f = fopen (file, "r");
    long grandchild = 0;
    CU_ASSERT_FATAL (f && fscanf (f, "%ld", &grandchild) == 1 && grandchild > 1);
    fclose (f);
    unlink (file);
    int alive = 1;
    for (int i = 0; i < 200 && alive; i++) { /* the killed one may still wait to be reaped by init */
        char path[64], state = 'Z';
        snprintf (path, sizeof path, "/proc/%ld/stat", grandchild);
        FILE *s = fopen (path, "r");
        if (s && fscanf (s, "%*d %*s %c", &state) != 1)
            state = 'Z';
        if (s)
            fclose (s);
        alive = state != 'Z';
        usleep (10000);
    }
    CU_ASSERT_EQUAL (alive, 0);
    CU_ASSERT_EQUAL (count_fds (), before);
    sigpending (&pending);
    CU_ASSERT_EQUAL (sigismember (&pending, SIGPIPE), 0);
}

static void test_refusals (void)
{
    kit_reward_refuses ("", "command or path is missing");
    kit_reward_refuses ("command: sh, path: sh", "command and path are both given");
    kit_reward_refuses ("command: no-such-program-anywhere", "'no-such-program-anywhere' is no program that can be run: no folder of PATH");
    kit_reward_refuses ("command: 'sh -c true; rm -rf x'", "no shell splits the command; write a list");
    kit_reward_refuses ("command: []", "the list is empty");
    kit_reward_refuses ("command: [sh, [a]]", "entry 2 of the list is not a word");
    kit_reward_refuses ("command: [sh, \"a\\0b\"]", "");
    kit_reward_refuses ("path: /etc/passwd", "'/etc/passwd' is no program that can be run: it is not executable. Hint: chmod +x it");
    kit_reward_refuses ("path: /etc/no-such-file", "'/etc/no-such-file' is no program that can be run: there is no such file");
    kit_reward_refuses ("path: /etc", "'/etc' is no program that can be run: it is a folder");
    kit_reward_refuses ("command: sh, timeout: 0", "timeout is 0");
}

static void test_hostile (void) { kit_reward_hostile ("command: [jq, --unbuffered, -c, '1']"); }
static void test_allocations (void)
{
    kit_reward_allocations ("command: [sh, -c, 'while read -r l; do echo 0.5; done']", &(KitAnswer){.completion = "x"});
}

CHECK_MAIN ("algorithms.reward_process", T (test_protocol), T (test_a_crash_costs_its_row), T (test_silence_costs_its_row),
            T (test_nonsense), T (test_unasked_words), T (test_long_answers), T (test_nothing_is_left), T (test_refusals), T (test_hostile),
            T (test_allocations))
