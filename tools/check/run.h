/* SPDX-License-Identifier: Apache-2.0 */
/* run.h: the two ends of a case: the child that loads the plugin and runs one, and the parent that watches many. */
#ifndef DPS_TOOLS_CHECK_RUN_H
#define DPS_TOOLS_CHECK_RUN_H

#include "base/mem.h"
#include "check/check.h"

typedef enum CheckVerdict { CHECK_PASS, CHECK_FAIL, CHECK_SKIP, CHECK_CRASH, CHECK_TIMEOUT, CHECK_VERDICTS } CheckVerdict;
/** "passed", "failed", "skipped", "crashed", "timed out". */
extern const char *const check_verdict_names[CHECK_VERDICTS];

/** What a parent learns of one case. */
typedef struct CheckResult {
    const CheckSuite *suite; /* NULL: the load itself */
    const CheckCase *test;
    CheckVerdict verdict;
    int missing;   /* a skip of what the level demands: counts as a failure */
    char *message; /* dps_free; "" when there is nothing to say */
    json_t *notes; /* new reference, never NULL once run */
    double seconds;
} CheckResult;

typedef struct CheckOptions {
    const char *target; /* PLUGIN.so or NAME */
    const char *device;
    const char *args, *sample; /* of the plugin: see CheckContext */
    uint64_t seed;
    double timeout_s; /* of a case that names none; a given one replaces all */
    int timeout_given;
    int jobs;
} CheckOptions;

/** The name of the case that loads the plugin and says what it is. */
#define CHECK_LOAD "load"

/** Run cases [0, n) of `results` (suite and test set), o->jobs at a time; `progress` is told of each that ended. */
DpsStatus check_run (const CheckOptions *o, CheckResult *results, size_t n, void (*progress) (const CheckResult *r, size_t done, size_t n),
                     DpsError *err);
void check_result_clear (CheckResult *r);

/** The child: run `name` ("load" or "SUITE/CASE") and write the verdict to descriptor 3. Returns the process's exit code. */
int check_child (const CheckOptions *o, const char *name, const char *scratch);

/* spawn.c */

/** One process in a group of its own (unless `join`): its verdict comes through `fd`, its output goes into files. */
typedef struct CheckProcess {
    int pid;        /* 0: none */
    int fd;         /* reading end of descriptor 3; -1: none */
    DpsBuf verdict; /* what came through it */
} CheckProcess;

/** Start arguments[0…] (arguments[0] a path). out_file, err_file: NULL is /dev/null. folder NULL: this one. Errors: INTERNAL. */
DpsStatus check_spawn (CheckProcess *p, const char *const *arguments, const char *const *environment, const char *folder,
                       const char *out_file, const char *err_file, int join, DpsError *err);
/** Read what is there; 1 at the end of the stream. */
int check_read (CheckProcess *p);
/** Wait for its end and return waitpid's status; -1: it is lost, somebody else waited. */
int check_reap (CheckProcess *p);
/** Kill what is left of the group of a process that was reaped, and children of this one that none of `ours` is: how many processes there were. */
int check_kill_strays (int group, const int *ours, size_t n);
/** "exit code 3", "signal 11 (Segmentation fault)" of a waitpid status. Returns out. */
const char *check_status_text (int status, char *out, size_t cap);
/** The last line of a file that says something, cut to fit and printable; "" without one. */
void check_last_line (const char *path, char *out, size_t cap);
/** Replace by '?' what is no UTF-8 and what a terminal would obey. Returns text. */
const char *check_printable (char *text);

#endif
