/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plugin/probe_report.h"

extern char **environ;

enum { FIRST_FREE = 10 /* above every descriptor the child is given */ };

typedef struct Child {
    pid_t pid;
    int report; /* read end */
    DpsProbeReport said;
} Child;

static int add_actions (posix_spawn_file_actions_t *a, int module, int report)
{
    int bad = posix_spawn_file_actions_addopen (a, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    bad = bad ? bad : posix_spawn_file_actions_addopen (a, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    bad = bad ? bad : posix_spawn_file_actions_addopen (a, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    bad = bad ? bad : posix_spawn_file_actions_adddup2 (a, module, DPS_PROBE_MODULE_FD);
    bad = bad ? bad : posix_spawn_file_actions_adddup2 (a, report, DPS_PROBE_REPORT_FD);
    return bad ? bad : posix_spawn_file_actions_addclosefrom_np (a, DPS_PROBE_REPORT_FD + 1);
}

static int add_attributes (posix_spawnattr_t *a)
{
    sigset_t none, all;
    sigemptyset (&none);
    sigfillset (&all);
    int bad = posix_spawnattr_setsigmask (a, &none);
    bad = bad ? bad : posix_spawnattr_setsigdefault (a, &all);
    bad = bad ? bad : posix_spawnattr_setpgroup (a, 0);
    return bad ? bad : posix_spawnattr_setflags (a, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int spawn (pid_t *pid, const char *program, const char *path, int module, int report)
{
    char *const argv[] = {(char *)"diapason", (char *)DPS_PROBE_VERB, (char *)path, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int bad = posix_spawn_file_actions_init (&actions);
    if (bad)
        return bad;
    if ((bad = posix_spawnattr_init (&attributes)) == 0) {
        bad = add_actions (&actions, module, report);
        bad = bad ? bad : add_attributes (&attributes);
        bad = bad ? bad : posix_spawn (pid, program, &actions, &attributes, argv, environ);
        posix_spawnattr_destroy (&attributes);
    }
    posix_spawn_file_actions_destroy (&actions);
    return bad;
}

static DpsStatus start (Child *c, const char *program, const DpsSealed *sealed, const char *path, DpsError *err)
{
    int ends[2] = {-1, -1}, module = fcntl (sealed->fd, F_DUPFD_CLOEXEC, FIRST_FREE), report = -1;
    *c = (Child){.report = -1, .said = {.step = "start"}};
    int bad = module < 0 || pipe2 (ends, O_CLOEXEC) ? errno : 0;
    if (!bad)
        bad = (report = fcntl (ends[1], F_DUPFD_CLOEXEC, FIRST_FREE)) < 0 ? errno : spawn (&c->pid, program, path, module, report);
    c->report = ends[0];
    const int ours[] = {module, ends[1], report};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (ours[i] >= 0)
            close (ours[i]);
    if (!bad)
        return DPS_OK;
    if (c->report >= 0)
        close (c->report);
    return dps_fail (err, DPS_ERR_IO, "%s: not known yet, and the child process to try it in could not be started: %s", path,
                     strerror (bad));
}

/* Until it is done or its end of the pipe is closed: 1; 0 when one step took longer than the deadline. */
static int follow (Child *c, int deadline_ms)
{
    char data[256];
    struct pollfd p = {.fd = c->report, .events = POLLIN};
    while (!dps__probe_is_done (&c->said)) {
        int ready = poll (&p, 1, deadline_ms);
        if (ready == 0)
            return 0;
        ssize_t n = ready < 0 && errno != EINTR ? 0 : ready < 0 ? -1 : read (c->report, data, sizeof data);
        if (n == 0)
            return 1;
        dps__probe_take (&c->said, data, n > 0 ? (size_t)n : 0);
    }
    return 1;
}

/* Its exit status, or -1 when it had to be killed: its destructors run at the end. */
static int reap (Child *c, int deadline_ms)
{
    const struct timespec tick = {0, 2000000};
    int status = 0;
    pid_t done = 0;
    for (int waited = 0; waited <= deadline_ms && (done = waitpid (c->pid, &status, WNOHANG)) == 0; waited += 2)
        nanosleep (&tick, NULL);
    kill (-c->pid, SIGKILL); /* and whatever it started */
    if (done == c->pid)
        return status;
    while (waitpid (c->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return -1;
}

static DpsStatus verdict (const Child *c, int in_time, int status, int deadline_ms, DpsError *err)
{
    const int done = dps__probe_is_done (&c->said);
    const char *step = done ? "a destructor" : c->said.step, *name;
    if (!in_time || status == -1)
        return dps_fail (err, DPS_ERR_POLICY, "did not come back within %d ms in %s", deadline_ms, step);
    if (WIFSIGNALED (status)) {
        name = sigabbrev_np (WTERMSIG (status));
        return dps_fail (err, DPS_ERR_POLICY, "crashed (SIG%s) in %s", name ? name : "?", step);
    }
    if (done && WEXITSTATUS (status) == 0)
        return DPS_OK;
    return dps_fail (err, DPS_ERR_POLICY, "ended the process (exit code %d) in %s", WEXITSTATUS (status), step);
}

DpsStatus dps__probe (const char *program, int deadline_ms, const DpsSealed *sealed, const char *path, DpsError *err)
{
    Child c;
    DPS_TRY (start (&c, program, sealed, path, err));
    int in_time = follow (&c, deadline_ms);
    int status = reap (&c, in_time ? deadline_ms : 0);
    close (c.report);
    return verdict (&c, in_time, status, deadline_ms, err);
}
