/* SPDX-License-Identifier: Apache-2.0 */
/* spawn.c: processes without fork: a program that has started OpenMP must not fork. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "check/run.h"

extern char **environ;

enum { VERDICT_FD = 3, MAX_VERDICT = 1 << 20 };

/* Whether `pair` ("NAME=…") sets what one of `over` does. */
static int is_overridden (const char *pair, const char *const *over)
{
    for (; over && *over; over++) {
        size_t n = strcspn (*over, "=");
        if (!strncmp (pair, *over, n) && pair[n] == '=')
            return 1;
    }
    return 0;
}

/* This process's environment with `over` in it; dps_free the array. NULL: no memory. */
static const char **merged_environment (const char *const *over)
{
    size_t n = 0, k = 0;
    while (environ[n])
        n++;
    for (const char *const *o = over; o && *o; o++)
        n++;
    const char **all = dps_calloc (n + 1, sizeof *all);
    for (char **e = environ; all && *e; e++)
        if (!is_overridden (*e, over))
            all[k++] = *e;
    for (; all && over && *over; over++)
        all[k++] = *over;
    return all;
}

static int prepare (posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, int verdict, const char *folder,
                    const char *out_file, const char *err_file, int join)
{
    sigset_t none, defaults;
    sigemptyset (&none);
    sigfillset (&defaults);
    int write_flags = O_WRONLY | O_CREAT | O_APPEND, bad = 0;
    bad |= posix_spawn_file_actions_addopen (actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    bad |= posix_spawn_file_actions_addopen (actions, STDOUT_FILENO, out_file ? out_file : "/dev/null", write_flags, 0600);
    bad |= posix_spawn_file_actions_addopen (actions, STDERR_FILENO, err_file ? err_file : "/dev/null", write_flags, 0600);
    bad |= posix_spawn_file_actions_adddup2 (actions, verdict, VERDICT_FD);
    if (folder)
        bad |= posix_spawn_file_actions_addchdir_np (actions, folder);
    bad |= posix_spawnattr_setsigmask (attributes, &none);
    bad |= posix_spawnattr_setsigdefault (attributes, &defaults);
    bad |= posix_spawnattr_setpgroup (attributes, 0);
    bad |=
        posix_spawnattr_setflags (attributes, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (join ? 0 : POSIX_SPAWN_SETPGROUP)));
    return bad;
}

DpsStatus check_spawn (CheckProcess *p, const char *const *arguments, const char *const *environment, const char *folder,
                       const char *out_file, const char *err_file, int join, DpsError *err)
{
    int ends[2], pid = 0, code;
    *p = (CheckProcess){.fd = -1};
    if (pipe2 (ends, O_CLOEXEC) != 0)
        return dps_fail (err, DPS_ERR_INTERNAL, "no pipe: %s", strerror (errno));
    const char **all = merged_environment (environment);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init (&actions);
    posix_spawnattr_init (&attributes);
    code = !all || prepare (&actions, &attributes, ends[1], folder, out_file, err_file, join) ? ENOMEM : 0;
    if (!code)
        code = posix_spawn (&pid, arguments[0], &actions, &attributes, (char *const *)(uintptr_t)arguments, (char *const *)(uintptr_t)all);
    posix_spawn_file_actions_destroy (&actions);
    posix_spawnattr_destroy (&attributes);
    dps_free (all);
    close (ends[1]);
    if (code) {
        close (ends[0]);
        return dps_fail (err, DPS_ERR_INTERNAL, "cannot start %s: %s", arguments[0], strerror (code));
    }
    p->pid = pid;
    p->fd = ends[0];
    return DPS_OK;
}

int check_read (CheckProcess *p)
{
    char piece[4096];
    ssize_t n = read (p->fd, piece, sizeof piece);
    if (n < 0)
        return errno != EINTR && errno != EAGAIN;
    if (n > 0 && p->verdict.len < MAX_VERDICT)
        dps_buf_add (&p->verdict, piece, (size_t)n);
    return n == 0;
}

int check_reap (CheckProcess *p)
{
    int status = -1;
    pid_t reaped;
    while ((reaped = waitpid (p->pid, &status, 0)) < 0 && errno == EINTR)
        continue;
    if (p->fd >= 0)
        close (p->fd);
    p->pid = 0;
    p->fd = -1;
    return reaped < 0 ? -1 : status;
}

static int is_among (int pid, const int *ours, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ours[i] == pid)
            return 1;
    return 0;
}

/* Orphans are this process's children (PR_SET_CHILD_SUBREAPER), whatever group they moved to. */
static int kill_orphans (const int *ours, size_t n)
{
    char path[64];
    int killed = 0;
    snprintf (path, sizeof path, "/proc/self/task/%d/children", (int)getpid ());
    FILE *f = fopen (path, "re");
    for (int pid; f && fscanf (f, "%d", &pid) == 1;)
        if (!is_among (pid, ours, n) && waitpid (pid, NULL, WNOHANG) == 0) {
            kill (pid, SIGKILL);
            waitpid (pid, NULL, 0);
            killed++;
        }
    if (f)
        fclose (f);
    return killed;
}

int check_kill_strays (int group, const int *ours, size_t n)
{
    while (waitpid (-group, NULL, WNOHANG) > 0)
        continue; /* ended already */
    int left = kill (-group, SIGKILL) == 0;
    int orphans = kill_orphans (ours, n);
    return orphans > left ? orphans : left;
}

const char *check_status_text (int status, char *out, size_t cap)
{
    if (status == -1)
        snprintf (out, cap, "unseen: its exit status was lost");
    else if (WIFSIGNALED (status))
        snprintf (out, cap, "signal %d (%s)", WTERMSIG (status), strsignal (WTERMSIG (status)));
    else
        snprintf (out, cap, "exit code %d", WEXITSTATUS (status));
    return out;
}

const char *check_printable (char *text)
{
    for (char *at = text; *at;) {
        size_t n = dps_utf8_sequence (at, strlen (at));
        if (!n || !dps_utf8_is_plain (at, n))
            memset (at, (unsigned char)*at < 0x20 ? ' ' : '?', n ? n : 1);
        at += n ? n : 1;
    }
    return text;
}

void check_last_line (const char *path, char *out, size_t cap)
{
    char line[600];
    FILE *f = fopen (path, "r");
    out[0] = '\0';
    while (f && fgets (line, sizeof line, f)) {
        line[strcspn (line, "\n")] = '\0';
        if (line[strspn (line, " \t")])
            snprintf (out, cap, "%s", line + strspn (line, " \t"));
    }
    if (f)
        fclose (f);
    check_printable (out);
}
