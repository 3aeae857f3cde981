/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.c: reads /proc/cpuinfo once. The kernel's list is used rather than CPUID because it already leaves out what the operating
 * system, the hypervisor or a boot option has switched off.
 */
#include "plugin/cpu.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static char info[16384]; /* the first processor's lines fit */
static char flags[8192]; /* " a b c " */
static char model[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The value of the first "key : value" line whose key is `key`. */
static void copy_value (const char *key, char *to, size_t cap)
{
    size_t key_len = strlen (key);
    for (const char *line = info; line; line = strchr (line, '\n')) {
        line += *line == '\n';
        const char *colon = line + key_len;
        if (strncmp (line, key, key_len))
            continue;
        colon += strspn (colon, " \t");
        if (*colon != ':')
            continue;
        colon += 1 + strspn (colon + 1, " \t");
        size_t n = strcspn (colon, "\n");
        n = n < cap - 1 ? n : cap - 1;
        memcpy (to, colon, n);
        to[n] = '\0';
        return;
    }
}

static void read_once (void)
{
    int fd = open ("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    ssize_t n = 1;
    while (fd >= 0 && used < sizeof info - 1 && n > 0) {
        n = read (fd, info + used, sizeof info - 1 - used);
        used += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        close (fd);
    copy_value ("flags", flags, sizeof flags);
    if (!flags[0])
        copy_value ("Features", flags, sizeof flags); /* 64-bit Arm */
    copy_value ("model name", model, sizeof model);
    struct utsname name;
    if (!model[0] && uname (&name) == 0)
        memcpy (model, name.machine, strnlen (name.machine, sizeof model - 1));
}

int dps_cpu_has (const char *name, size_t len)
{
    pthread_once (&once, read_once);
    for (const char *at = flags; *at;) {
        size_t n = strcspn (at, " ");
        if (n && n == len && !memcmp (at, name, n))
            return 1;
        at += n + (at[n] == ' ');
    }
    return 0;
}

const char *dps_cpu_model (void)
{
    pthread_once (&once, read_once);
    return model;
}

unsigned dps_cpu_count (void)
{
    cpu_set_t set;
    return sched_getaffinity (0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT (&set) : 1;
}
