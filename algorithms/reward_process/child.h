/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h: a program that runs beside us, its standard input and output in our hands. It is started without a shell, in a process group of
 * its own, with no descriptor of ours but these two, standard error and a pipe (3) by which its group ends with us, however we end: SIGKILL too.
 */
#ifndef DPS_REWARD_PROCESS_CHILD_H
#define DPS_REWARD_PROCESS_CHILD_H

#include <sys/types.h>

#include "base/status.h"

/** Not running: pid 0. */
typedef struct Child {
    pid_t pid;
    int to, from; /* its standard input and output, not blocking */
    int line;     /* kept open, never written: its other end kills the group when this one closes */
} Child;

/** argv[0] is looked for in PATH unless it holds a '/'. Errors: IO with the reason. */
DpsStatus child_start (Child *c, char *const *argv, DpsError *err);

/**
 * End it: its input is closed, it has grace_ms to leave by itself, then its whole group is killed. why (may be NULL) receives how it ended:
 * "exit code 3", "signal 9 (Killed)". Nothing when it is not running.
 */
void child_stop (Child *c, int grace_ms, char *why, size_t cap);

/** Bytes written (0: its input is full), or -1 when it no longer reads. Never raises SIGPIPE. */
ssize_t child_write (const Child *c, const char *data, size_t len);
/** Bytes read, 0 when it closed its output, or -1: nothing is there now. */
ssize_t child_read (const Child *c, char *out, size_t cap);

/** NULL when a program of that name could be started, as far as can be seen; else what is wrong: "there is no such file". */
const char *child_problem (const char *program);

#endif
