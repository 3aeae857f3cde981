/* SPDX-License-Identifier: Apache-2.0 */
/* host.c: the table plugins receive in init, and what the program puts behind it. */
#include "plugin/host.h"

#include <ctype.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rng.h"
#include "plugin/crumb.h"
#include "plugin/trust.h"

enum { MAX_EXTENSIONS = 32, MAX_CONFIG = 32, MAX_CONFIG_KEY = 32, MAX_CONFIG_VALUE = 256 };

static const DpsHostRng host_rng = {.size = sizeof host_rng, .u64 = dps_rng_u64, .uniform = dps_rng_uniform, .normal = dps_rng_normal};
static const DpsHostParallel host_parallel = {.size = sizeof host_parallel, .n_threads = dps_parallel_threads, .run = dps_parallel_run};
static const DpsHostFormats host_formats = {.size = sizeof host_formats, .find = dps__registry_format};

/* Both tables are written at [init], before any plugin or thread reads them. */
static struct {
    const char *id;
    const void *table;
} extensions[MAX_EXTENSIONS] = {
    {"dps.host.rng/1", &host_rng}, {"dps.host.parallel/1", &host_parallel}, {"dps.host.formats/1", &host_formats}};
static struct {
    char key[MAX_CONFIG_KEY];
    char value[MAX_CONFIG_VALUE];
} config[MAX_CONFIG];

static _Atomic int stop_requested;
static _Thread_local char crumb[256];

DpsStatus dps_host_provide (const char *id, const void *table, DpsError *err)
{
    size_t i = 0;
    while (i < MAX_EXTENSIONS && extensions[i].id && strcmp (extensions[i].id, id))
        i++;
    if (i == MAX_EXTENSIONS)
        return dps_fail (err, DPS_ERR_LIMIT, "host: no room for extension '%s', at most %d", id, MAX_EXTENSIONS);
    extensions[i].id = id;
    extensions[i].table = table;
    return DPS_OK;
}

static const void *get_interface (DpsStr id)
{
    for (size_t i = 0; i < MAX_EXTENSIONS && extensions[i].id; i++)
        if (dps_str_is (id, extensions[i].id))
            return extensions[i].table;
    return dps_str_is (id, "dps.host/1") ? dps_host () : NULL;
}

static void log_line (uint32_t level, DpsStr line)
{
    int known = level <= DPS_HOST_LOG_DEBUG ? (int)level : DPS_LOG_DEBUG;
    dps_log (known, "%.*s", line.len < 2000 ? (int)line.len : 2000, line.ptr ? line.ptr : "");
}

static void breadcrumb (DpsStr what)
{
    size_t n = !what.ptr ? 0 : what.len < sizeof crumb - 1 ? what.len : sizeof crumb - 1;
    if (n)
        memcpy (crumb, what.ptr, n);
    crumb[n] = '\0';
    dps__crumb_detail (crumb);
}

void dps_host_request_stop (int stop) { atomic_store (&stop_requested, stop != 0); }
int dps_host_should_stop (void) { return atomic_load (&stop_requested); }
static int32_t should_stop (void) { return dps_host_should_stop (); }

DpsStatus dps_host_config_set (const char *key, const char *value, DpsError *err)
{
    if (!*key || strlen (key) >= MAX_CONFIG_KEY || strlen (value) >= MAX_CONFIG_VALUE)
        return dps_fail (err, DPS_ERR_LIMIT, "host: configuration '%.40s' does not fit: key below %d bytes, value below %d", key,
                         MAX_CONFIG_KEY, MAX_CONFIG_VALUE);
    size_t i = 0;
    while (i < MAX_CONFIG && config[i].key[0] && strcmp (config[i].key, key))
        i++;
    if (i == MAX_CONFIG)
        return dps_fail (err, DPS_ERR_LIMIT, "host: no room for configuration '%s', at most %d values", key, MAX_CONFIG);
    memcpy (config[i].key, key, strlen (key) + 1);
    memcpy (config[i].value, value, strlen (value) + 1);
    return DPS_OK;
}

/* "opencl.device" is DIAPASON_OPENCL_DEVICE: a plugin's own, by its short name. */
static const char *plugin_value (DpsStr key)
{
    char name[64] = "DIAPASON_";
    size_t n = strlen (name);
    if (!memchr (key.ptr, '.', key.len) || key.len >= sizeof name - n)
        return NULL;
    for (size_t i = 0; i < key.len; i++)
        name[n++] = key.ptr[i] == '.' ? '_' : (char)toupper ((unsigned char)key.ptr[i]);
    return getenv (name);
}

/* What the program set; for "isa" else the variable that tests and measurements lower the instruction set with. */
static const char *config_value (DpsStr key)
{
    for (size_t i = 0; i < MAX_CONFIG && config[i].key[0]; i++)
        if (dps_str_is (key, config[i].key))
            return config[i].value;
    return dps_str_is (key, "isa") && dps__environment_counts () ? getenv ("DIAPASON_CPU_ISA") : plugin_value (key);
}

static size_t config_get (DpsStr key, char *buf, size_t cap)
{
    const char *value = config_value (key);
    if (buf && cap)
        snprintf (buf, cap, "%s", value ? value : "");
    return value ? strlen (value) : 0;
}

static DpsStr intern_name (uint32_t number) { return dps_str (dps_intern_name (number)); }

const DpsHost *dps_host (void)
{
    static const DpsHost host = {
        .size = sizeof host,
        .get_interface = get_interface,
        .log = log_line,
        .breadcrumb = breadcrumb,
        .should_stop = should_stop,
        .config_get = config_get,
        .intern = dps__intern,
        .intern_name = intern_name,
        .kv_put = dps__kv_put,
        .kv_get = dps__kv_get,
    };
    return &host;
}

static void put_crash (const char *s)
{
    if (write (STDERR_FILENO, s, strlen (s)) < 0)
        return; /* nobody to tell */
}

/* What runs: only write(2) and the thread's own buffer, since nothing here may allocate or lock. */
static void report_running (void)
{
    put_crash (" while running: ");
    put_crash (dps__crumb_plugin ());
    put_crash (dps__crumb_plugin ()[0] ? " " : "");
    put_crash (dps__crumb_what ());
    put_crash (dps__crumb_plugin ()[0] && crumb[0] ? ": " : "");
    put_crash (crumb[0] || dps__crumb_plugin ()[0] ? crumb : "(nothing was named)");
    put_crash ("\n");
}

static void report_crash (int signal_number)
{
    put_crash ("\ndiapason: crashed (");
    put_crash (signal_number == SIGSEGV   ? "SIGSEGV"
               : signal_number == SIGBUS  ? "SIGBUS"
               : signal_number == SIGILL  ? "SIGILL"
               : signal_number == SIGABRT ? "SIGABRT"
                                          : "SIGFPE");
    put_crash (")");
    report_running ();
    raise (signal_number);
}

/* exit () in a plugin: whatever was asked for is not done, and the exit code may say that it is. */
static void report_exit (void)
{
    if (!dps__crumb_plugin ()[0])
        return;
    put_crash ("\ndiapason: a plugin ended the process");
    report_running ();
}

void dps_crash_report_install (void)
{
    /* SA_RESETHAND: when the handler raises the signal again, it does what it would have done without us. */
    struct sigaction action = {.sa_handler = report_crash, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction (signals[i], &action, NULL);
    atexit (report_exit);
}
