/* SPDX-License-Identifier: Apache-2.0 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/judge.h"

extern char **environ;

enum { LIFE_LINE = 3, FIRST_FREE, POLL_MS = 5 };

/* A pipe whose ends are no standard descriptors, even where ours are closed. */
static int make_pipe (int ends[2])
{
    int low[2];
    if (pipe2 (low, O_CLOEXEC))
        return -1;
    for (int i = 0; i < 2; i++) {
        ends[i] = fcntl (low[i], F_DUPFD_CLOEXEC, FIRST_FREE);
        close (low[i]);
    }
    return ends[0] < 0 || ends[1] < 0 ? -1 : 0;
}

static void close_both (const int ends[2])
{
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close (ends[i]);
}

static int spawn (pid_t *pid, char *const *argv, int in, int out, int line)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int bad = posix_spawn_file_actions_init (&actions);
    if (bad)
        return bad;
    if ((bad = posix_spawnattr_init (&attributes))) {
        posix_spawn_file_actions_destroy (&actions);
        return bad;
    }
    sigemptyset (&none);
    sigfillset (&all);
    bad = posix_spawn_file_actions_adddup2 (&actions, in, STDIN_FILENO);
    bad = bad ? bad : posix_spawn_file_actions_adddup2 (&actions, out, STDOUT_FILENO);
    bad = bad ? bad : posix_spawn_file_actions_adddup2 (&actions, line, LIFE_LINE);
    bad = bad ? bad : posix_spawn_file_actions_addclosefrom_np (&actions, FIRST_FREE);
    bad = bad ? bad : posix_spawnattr_setsigmask (&attributes, &none);
    bad = bad ? bad : posix_spawnattr_setsigdefault (&attributes, &all);
    bad = bad ? bad : posix_spawnattr_setpgroup (&attributes, 0);
    bad = bad ? bad : posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    bad = bad ? bad : posix_spawnp (pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawnattr_destroy (&attributes);
    posix_spawn_file_actions_destroy (&actions);
    return bad;
}

/*
 * A pipe that has lost its writers signals whoever owns its reading end, and the child holds that end open: SIGKILL for the group, sent by the
 * kernel, so that a program which no longer reads its input ends with us too. (PR_SET_PDEATHSIG would follow the thread, and only the child.)
 */
static void tie_life (int line, pid_t group)
{
    fcntl (line, F_SETSIG, SIGKILL);
    fcntl (line, F_SETOWN, -group);
    fcntl (line, F_SETFL, O_ASYNC);
}

DpsStatus child_start (Child *c, char *const *argv, DpsError *err)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, line[2] = {-1, -1};
    *c = (Child){0, -1, -1, -1};
    int bad = make_pipe (in) || make_pipe (out) || make_pipe (line) ? errno : spawn (&c->pid, argv, in[0], out[1], line[0]);
    if (bad) {
        close_both (in);
        close_both (out);
        close_both (line);
        c->pid = 0;
        return dps_fail (err, DPS_ERR_IO, "'%.200s' could not be started: %s", argv[0], strerror (bad));
    }
    tie_life (line[0], c->pid);
    close (in[0]);
    close (out[1]);
    close (line[0]);
    c->line = line[1];
    c->to = in[1];
    c->from = out[0];
    fcntl (c->to, F_SETFL, O_NONBLOCK);
    fcntl (c->from, F_SETFL, O_NONBLOCK);
    return DPS_OK;
}

static void describe_end (int status, char *why, size_t cap)
{
    if (!why)
        return;
    if (WIFSIGNALED (status))
        snprintf (why, cap, "signal %d (%s)", WTERMSIG (status), strsignal (WTERMSIG (status)));
    else
        snprintf (why, cap, "exit code %d", WEXITSTATUS (status));
}

void child_stop (Child *c, int grace_ms, char *why, size_t cap)
{
    int status = 0;
    const struct timespec tick = {0, POLL_MS * 1000000};
    if (!c->pid)
        return;
    close (c->to);
    const int64_t end = dps_judge_now_ms () + grace_ms; /* not so many ticks: on a busy machine each may take long */
    pid_t done = waitpid (c->pid, &status, WNOHANG);
    while (done == 0 && dps_judge_now_ms () < end) {
        nanosleep (&tick, NULL);
        done = waitpid (c->pid, &status, WNOHANG);
    }
    kill (-c->pid, SIGKILL); /* what it started too, also when it has left itself */
    while (done == 0 && (done = waitpid (c->pid, &status, 0)) < 0 && errno == EINTR)
        done = 0;
    close (c->from);
    close (c->line);
    describe_end (status, why, cap);
    *c = (Child){0, -1, -1, -1};
}

ssize_t child_write (const Child *c, const char *data, size_t len)
{
    sigset_t pipe_signal, before, pending;
    const struct timespec now = {0, 0};
    sigemptyset (&pipe_signal);
    sigaddset (&pipe_signal, SIGPIPE);
    sigpending (&pending);
    pthread_sigmask (SIG_BLOCK, &pipe_signal, &before);
    ssize_t n = write (c->to, data, len);
    int failed = n < 0 ? errno : 0;
    if (failed == EPIPE && !sigismember (&pending, SIGPIPE)) /* take back the signal that this write raised */
        while (sigtimedwait (&pipe_signal, NULL, &now) < 0 && errno == EINTR)
            continue;
    pthread_sigmask (SIG_SETMASK, &before, NULL);
    return n >= 0 ? n : failed == EAGAIN || failed == EINTR ? 0 : -1;
}

ssize_t child_read (const Child *c, char *out, size_t cap)
{
    ssize_t n = read (c->from, out, cap);
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? -1 : 0;
}

const char *child_problem (const char *program)
{
    const char *path = getenv ("PATH");
    char file[4096];
    struct stat is;
    if (strchr (program, '/')) {
        if (stat (program, &is))
            return errno == ENOENT || errno == ENOTDIR ? "there is no such file" : "it cannot be reached";
        if (S_ISDIR (is.st_mode))
            return "it is a folder";
        return access (program, X_OK) == 0 ? NULL : "it is not executable. Hint: chmod +x it";
    }
    for (path = path ? path : "/bin:/usr/bin"; *path; path += strspn (path, ":")) {
        size_t len = strcspn (path, ":");
        if ((size_t)snprintf (file, sizeof file, "%.*s/%s", (int)len, path, program) < sizeof file && access (file, X_OK) == 0)
            return NULL;
        path += len;
    }
    return "no folder of PATH has it. Hint: a file of this folder is written ./NAME";
}
