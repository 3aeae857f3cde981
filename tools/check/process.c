/* SPDX-License-Identifier: Apache-2.0 */
#include "check/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static const int watched[CHECK_SIGNALS] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGCHLD, SIGSEGV, SIGBUS, SIGABRT};

/* A handler that passes a signal on may be put before the host's, as LLVM does under PoCL; but what the host waits for or writes to must work. */
static int is_taken (int signal_number, const struct sigaction *before, const struct sigaction *now)
{
    int strict = signal_number == SIGCHLD || signal_number == SIGPIPE;
    return before->sa_handler != now->sa_handler && (strict || now->sa_handler == SIG_IGN);
}

void check_process_limit (void)
{
    const struct rlimit no_core = {0, 0}, file = {256 << 20, 256 << 20};
    long pages = sysconf (_SC_PHYS_PAGES), page = sysconf (_SC_PAGESIZE);
    int fd = open ("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t unused = write (fd, "1000", 4);
        (void)unused;
        close (fd);
    }
    setrlimit (RLIMIT_CORE, &no_core);
    setrlimit (RLIMIT_FSIZE, &file);
#ifndef __SANITIZE_ADDRESS__ /* whose shadow is larger than any machine */
    const rlim_t half = (rlim_t)(pages / 2) * (rlim_t)page;
    if (pages > 1 && page > 0)
        setrlimit (RLIMIT_DATA, &(struct rlimit){half, half});
#endif
    (void)pages, (void)page;
}

static uint64_t hash_of (const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

/* PoCL adds variables of its own. */
static int has_lost_one (const CheckMark *one, const CheckMark *other)
{
    for (size_t i = 0; i < one->n_variables; i++) {
        size_t k = 0;
        while (k < other->n_variables && other->variables[k] != one->variables[i])
            k++;
        if (k == other->n_variables)
            return 1;
    }
    return 0;
}

/* The host keeps its copy of every module open, whichever plugin is checked: a memory file of the module's name. */
static int is_module (DIR *folder, const char *descriptor)
{
    static const char head[] = "/memfd:", tail[] = ".so (deleted)";
    const size_t n_head = sizeof head - 1, n_tail = sizeof tail - 1;
    char target[512];
    ssize_t n = readlinkat (dirfd (folder), descriptor, target, sizeof target);
    return n >= (ssize_t)(n_head + n_tail) && !memcmp (target, head, n_head) && !memcmp (target + n - n_tail, tail, n_tail);
}

int check_open_files (void)
{
    int n = -1; /* the folder's own */
    DIR *folder = opendir ("/proc/self/fd");
    for (const struct dirent *e; folder && (e = readdir (folder));)
        n += e->d_name[0] != '.' && !is_module (folder, e->d_name);
    if (folder)
        closedir (folder);
    return n;
}

static int keeps_small_numbers (void)
{
    volatile float small = 1e-40f, half = 0.5f, product = small * half;
    return product > 0;
}

void check_mark (CheckMark *m)
{
    const char *name = setlocale (LC_ALL, NULL);
    mode_t mask = umask (0);
    umask (mask);
    memset (m, 0, sizeof *m);
    for (char **e = environ; e && *e && m->n_variables < CHECK_VARIABLES; e++)
        m->variables[m->n_variables++] = hash_of (*e);
    if (!getcwd (m->folder, sizeof m->folder))
        m->folder[0] = '\0';
    snprintf (m->locale, sizeof m->locale, "%s", name ? name : "");
    for (int i = 0; i < CHECK_SIGNALS; i++)
        sigaction (watched[i], NULL, &m->actions[i]);
    sigprocmask (SIG_SETMASK, NULL, &m->blocked);
    m->mask = (uint32_t)mask;
    m->rounding = fegetround ();
    m->keeps_small = keeps_small_numbers ();
    m->files = check_open_files ();
}

static DpsStatus changed (DpsError *err, const char *what)
{
    return dps_fail (err, DPS_ERR_INVALID, "the plugin changed the process's %s, which is the host's", what);
}

DpsStatus check_unchanged (const CheckMark *m, DpsError *err)
{
    char what[64];
    CheckMark now;
    check_mark (&now);
    for (int i = 0; i < CHECK_SIGNALS; i++)
        if (is_taken (watched[i], &m->actions[i], &now.actions[i]) ||
            sigismember (&now.blocked, watched[i]) != sigismember (&m->blocked, watched[i])) {
            snprintf (what, sizeof what, "way with signal %d (%s)", watched[i], strsignal (watched[i]));
            return changed (err, what);
        }
    if (has_lost_one (m, &now))
        return changed (err, "environment");
    if (strcmp (now.folder, m->folder) != 0)
        return changed (err, "working folder");
    if (strcmp (now.locale, m->locale) != 0)
        return changed (err, "locale");
    if (now.mask != m->mask)
        return changed (err, "file mode mask");
    if (now.rounding != m->rounding)
        return changed (err, "rounding of floating numbers");
    if (now.keeps_small != m->keeps_small)
        return changed (err, "arithmetic: numbers below 2^-126 are flushed to 0 (-ffast-math links that in)");
    if (now.files > m->files + CHECK_FILES_MAY || now.files < m->files)
        return dps_fail (err, DPS_ERR_INVALID, "the plugin %s: %d are open, %d were before it was loaded",
                         now.files < m->files ? "closed files of the host's" : "leaves files open", now.files, m->files);
    return DPS_OK;
}
