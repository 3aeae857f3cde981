/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sample.c: the plugin the loader's tests compile in many broken ways (-D…). Without any macro it is a good objective that leaves in
 * the host's kv store what it was told.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "diapason/diapason.h"

#ifndef MAGIC
#define MAGIC DPS_PLUGIN_MAGIC
#endif
#ifndef MAJOR
#define MAJOR DPS_ABI_MAJOR
#endif
#ifndef MINOR
#define MINOR DPS_ABI_MINOR
#endif
#ifndef ENTRY_SIZE
#define ENTRY_SIZE sizeof (DpsPluginEntry)
#endif
#ifndef TABLE_SIZE
#define TABLE_SIZE sizeof (Table)
#endif
#ifndef KIND_ID
#define KIND_ID DPS_OBJECTIVE_ID
#endif

static const DpsObjectiveInfo info = {.size = sizeof info, .name = "sample", .summary = "a sample", .unit = DPS_UNIT_SINGLE};
static const DpsObjectiveInfo *describe (void)
{
#ifdef DESCRIBE_CRASHES
    *(volatile int *)16 = 1;
#endif
    return &info;
}
static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)num, (void)str, (void)err;
    *out = NULL;
    return DPS_OK;
}
static void destroy (void *self) { (void)self; }
static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *tape, const DpsObjectiveBatch *batch, const DpsVal *signals,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    (void)self, (void)ops, (void)tape, (void)batch, (void)signals, (void)metrics, (void)err;
    *out_loss = 0;
#if defined(LOSS_SLOW)
    usleep (100000);
    return DPS_OK;
#elif defined(LOSS_OVERRUN)
    memset (err->msg, 'x', sizeof err->msg + 8);
    return DPS_ERR_SHAPE;
#elif defined(LOSS_CODE)
    return LOSS_CODE;
#else
    return DPS_OK;
#endif
}
static DpsStatus step_end (void *self, uint64_t step, DpsError *err)
{
    (void)self, (void)err;
    return step == 7 ? DPS_OK : DPS_ERR_INVALID;
}

typedef struct Table {
    DpsObjective objective;
#ifdef LARGER
    void *of_the_future[LARGER];
#endif
} Table;

static const Table table = {.objective =
                                {
                                    .size = TABLE_SIZE,
                                    .describe = describe,
                                    .create = create,
                                    .destroy = destroy,
#ifndef NO_LOSS
                                    .loss = loss,
#endif
                                    .step_end = step_end,
                                }
#ifdef LARGER
                            ,
                            .of_the_future = {(void *)1}
#endif
};

static DpsHost host;

static DpsStatus init (const struct DpsHost *theirs, const char *path, DpsError *err)
{
    dps_table_copy (&host, sizeof host, theirs);
#ifdef INIT_FAILS
    static const char why[] = "no such\ndevice \xff today";
    err->code = DPS_ERR_DEVICE;
    memcpy (err->msg, why, sizeof why);
    return DPS_ERR_DEVICE;
#elif defined(INIT_ABSENT)
    static const char why[] = "no such card in this machine";
    memcpy (err->msg, why, sizeof why);
    return DPS_ERR_NOT_FOUND;
#elif defined(INIT_NO_NUL)
    memset (err->msg, 'x', sizeof err->msg);
    return 4711; /* a code no host knows */
#elif defined(INIT_CRASHES)
    if (!getenv ("ACME_MENDED"))
        *(volatile int *)16 = 1;
    return DPS_OK;
#elif defined(INIT_HANGS)
    while (pause ())
        ;
#elif defined(INIT_LEAVES)
    _exit (0);
#elif defined(INIT_EXITS)
    exit (0);
#elif defined(INIT_SILENT)
    (void)path, (void)err;
    return DPS_ERR_NOMEM;
#else
    return host.kv_put ((DpsStr){"sample.path", 11}, path, strlen (path), err);
#endif
}

static void deinit (void) { host.kv_put ((DpsStr){"sample.path", 11}, "gone", 4, NULL); }

static const void *get_interface (DpsStr id) { return dps_str_is (id, KIND_ID) ? &table : NULL; }

#ifdef UNDEFINED
extern int dps_function_nobody_has (void);
int dps_keep_it (void);
int dps_keep_it (void) { return dps_function_nobody_has (); }
#endif

#ifdef CONSTRUCTOR_FILE
#include <fcntl.h>
/* Proof that code ran: what a refused plugin must never do. */
__attribute__ ((constructor)) static void leave_a_trace (void) { creat (CONSTRUCTOR_FILE, 0600); }
#endif

#ifdef COUNT_FILE
#include <fcntl.h>
/* One byte for each process that the code was loaded into. */
__attribute__ ((constructor)) static void count (void)
{
    int fd = open (COUNT_FILE, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || write (fd, ".", 1) != 1)
        return;
    close (fd);
}
#endif

#ifdef CONSTRUCTOR_CRASHES
__attribute__ ((constructor)) static void crash (void) { *(volatile int *)16 = 1; }
#endif

#ifdef DESTRUCTOR_CRASHES
__attribute__ ((destructor)) static void crash_at_last (void) { *(volatile int *)16 = 1; }
#endif

#ifdef EXTRA_SYMBOL
__attribute__ ((visibility ("default"))) int dps_helper (void);
int dps_helper (void) { return 1; }
#endif

#ifndef NO_SYMBOL
extern const DpsPluginEntry dps_plugin_entry;
__attribute__ ((visibility ("default"))) const DpsPluginEntry dps_plugin_entry = {
    .magic = MAGIC,
    .size = ENTRY_SIZE,
    .abi_major = MAJOR,
    .abi_minor = MINOR,
    .sdk_version = DPS_SDK_VERSION,
#ifndef NO_INIT
    .init = init,
#endif
    .deinit = deinit,
    .get_interface = get_interface,
};
#endif

#ifdef FUNCTION_SYMBOL
__attribute__ ((visibility ("default"))) int dps_plugin_entry (void);
int dps_plugin_entry (void) { return init != NULL && deinit != NULL && get_interface != NULL; }
#endif
