/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/crumb.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

typedef struct Crumb {
    char magic[8];
    uint32_t version, pid;
    uint64_t step;
    int64_t began_ns;
    char plugin[64], what[64], detail[256];
    uint32_t stopped;
    char zeros[92];
} Crumb;
_Static_assert(sizeof (Crumb) == 512 && offsetof (Crumb, plugin) == 32 && offsetof (Crumb, stopped) == 416, "the layout of crumb.h");

static Crumb own;           /* without a file, for crash reports */
static Crumb *crumb = &own; /* own, or the mapped file */
static char *path;          /* of the file */

static void put (char *to, size_t cap, const char *text)
{
    size_t n = strnlen (text, cap - 1);
    memcpy (to, text, n);
    to[n] = '\0';
}

void dps_crumb_stopped (void) { crumb->stopped = 1; }
void dps_crumb_step (uint64_t step) { crumb->step = step; }

void dps_crumb_enter (const char *plugin, const char *what)
{
    struct timespec now;
    put (crumb->plugin, sizeof crumb->plugin, plugin);
    put (crumb->what, sizeof crumb->what, what);
    clock_gettime (CLOCK_REALTIME, &now);
    crumb->began_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void dps_crumb_leave (void)
{
    crumb->began_ns = 0;
    crumb->detail[0] = '\0';
}

void dps__crumb_detail (const char *text) { put (crumb->detail, sizeof crumb->detail, text); }
const char *dps__crumb_plugin (void) { return crumb->began_ns ? crumb->plugin : ""; }
const char *dps__crumb_what (void) { return crumb->began_ns ? crumb->what : ""; }

static int is_crumb (const Crumb *c)
{
    return !memcmp (c->magic, "DPSCRUMB", 8) && c->version == 1 && memchr (c->plugin, '\0', sizeof c->plugin) &&
           memchr (c->what, '\0', sizeof c->what) && memchr (c->detail, '\0', sizeof c->detail);
}

/* What the process before was doing when it ended without saying goodbye. */
static void tell (const Crumb *c, const char *folder)
{
    char when[40];
    struct tm utc;
    time_t began = (time_t)(c->began_ns / 1000000000);
    if (c->stopped) {
        dps_log (DPS_LOG_WARNING, "%s: process %u was stopped by a second signal in step %llu, before it saved", folder, c->pid,
                 (unsigned long long)c->step);
        return;
    }
    if (!c->began_ns) {
        dps_log (DPS_LOG_WARNING, "%s: process %u was killed or crashed in step %llu, while no plugin ran", folder, c->pid,
                 (unsigned long long)c->step);
        return;
    }
    if (!gmtime_r (&began, &utc) || !strftime (when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc))
        when[0] = '\0';
    dps_log (DPS_LOG_WARNING, "%s: process %u was killed or crashed in step %llu, while plugin %s ran %s%s%s%s, begun %s", folder, c->pid,
             (unsigned long long)c->step, c->plugin, c->what, c->detail[0] ? " (" : "", c->detail, c->detail[0] ? ")" : "", when);
}

static void read_old (int fd, const char *folder)
{
    Crumb old;
    if (pread (fd, &old, sizeof old, 0) == (ssize_t)sizeof old && is_crumb (&old))
        tell (&old, folder);
}

/* The file's block is there before it is mapped: a full disk is an error here, not a signal later. */
static Crumb *map_new (int fd)
{
    Crumb fresh = {.magic = "DPSCRUM", .version = 1, .pid = (uint32_t)getpid ()};
    fresh.magic[7] = 'B';
    if (pwrite (fd, &fresh, sizeof fresh, 0) != (ssize_t)sizeof fresh || ftruncate (fd, sizeof fresh))
        return NULL;
    void *map = mmap (NULL, sizeof fresh, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return map == MAP_FAILED ? NULL : map;
}

void dps_crumb_open (const char *folder)
{
    dps_crumb_close ();
    path = dps_path_join (folder, DPS_CRUMB_NAME);
    int fd = path ? open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644) : -1;
    if (fd >= 0)
        read_old (fd, folder);
    Crumb *map = fd >= 0 ? map_new (fd) : NULL;
    if (map)
        crumb = map;
    else
        dps_log (DPS_LOG_WARNING, "%s: no breadcrumb is kept there (%s): after a crash nobody will know what ran", folder,
                 strerror (errno));
    if (fd >= 0)
        close (fd);
}

void dps_crumb_close (void)
{
    if (crumb != &own) {
        munmap (crumb, sizeof *crumb);
        unlink (path);
    }
    crumb = &own;
    own.began_ns = 0;
    dps_free (path);
    path = NULL;
}
