/* SPDX-License-Identifier: Apache-2.0 */
/* manners.h: what a plugin may do to the process that it is in: each is a fault, and none may end as a pass. */
#ifndef DPS_TESTS_MANNERS_H
#define DPS_TESTS_MANNERS_H

#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "broken.h"

extern char **environ;

static inline void close_files (int first)
{
    for (int fd = first; fd < 64; fd++)
        close (fd);
}

/* A process that stays: in the group and with the pipe of its parent, or out of sight. */
static inline void leave_a_process (int out_of_sight)
{
    if (fork () != 0)
        return;
    if (out_of_sight) {
        setsid ();
        close_files (0);
    }
    for (;;)
        pause ();
}

static inline void take_100_gb (void)
{
    const size_t bytes = (size_t)100 << 30;
    volatile char *p = malloc (bytes); /* allocated by libc */
    for (size_t i = 0; i < bytes; i += 4096)
        p[i] = 1;
}

static inline void misbehave (void)
{
    static int again;
    static char path[] = "PATH=/nowhere", *others[] = {path, NULL};
    if (IS (leaves_files_open))
        (void)!open ("/dev/null", O_RDONLY);
    if (again++)
        return;
    if (IS (leaves_a_process))
        leave_a_process (0);
    if (IS (hides_a_process))
        leave_a_process (1);
    if (IS (closes_files))
        close_files (3);
    if (IS (prints))
        puts ("linear is ready");
    if (IS (garbles_and_dies)) {
        (void)!write (2, "\x1b[2J\xff\xfe\x9b no words\n", 17);
        abort ();
    }
    if (IS (exits_well))
        exit (0);
    if (IS (ends_at_once))
        _exit (0);
    if (IS (takes_signals))
        signal (SIGCHLD, SIG_IGN);
    if (IS (changes_locale) && !setlocale (LC_ALL, "C"))
        abort ();
    if (IS (changes_folder) && chdir ("/") != 0)
        abort ();
    if (IS (replaces_environment))
        environ = others;
    if (IS (rounds_up))
        fesetround (FE_UPWARD);
    if (IS (takes_100_gb))
        take_100_gb ();
}

#endif
