/* SPDX-License-Identifier: Apache-2.0 */
/* driver.c: the functions of libcuda that the backend calls, but for memory's: counting, failing on demand, checking their arguments, then kernels.c, work.c. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "work.h"

enum { DEVICES_MOST = 4, STREAMS_MOST = 256, LOST = CU_LAUNCH_FAILED, COMPILER_VERSION = 13000 /* that made the modules */ };

struct CUctx_st {
    int device, retained;
};

static pthread_mutex_t lock;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct CUctx_st contexts[DEVICES_MOST];
static _Thread_local CuContext current;
static CuStream streams[STREAMS_MOST];
static uint64_t n_calls, n_breaches, lose_at, fail_at;
static int64_t live;
static int lost, no_managed, initialised;
static char last_breach[600], all_breaches[4096];

static void start (void)
{
    pthread_mutexattr_t a;
    pthread_mutexattr_init (&a);
    pthread_mutexattr_settype (&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init (&lock, &a);
    const char *lose = getenv ("DOUBLE_CUDA_LOSE_AT"), *fail = getenv ("DOUBLE_CUDA_FAIL_AT");
    lose_at = lose ? strtoull (lose, NULL, 10) : 0;
    fail_at = fail ? strtoull (fail, NULL, 10) : 0;
    no_managed = getenv ("DOUBLE_CUDA_NO_MANAGED") != NULL;
}

void double_lock (void)
{
    pthread_once (&once, start);
    pthread_mutex_lock (&lock);
}
void double_unlock (void) { pthread_mutex_unlock (&lock); }
void double_wait_for_others (void) { pthread_cond_wait (&moved, &lock); }
void double_wake_others (void) { pthread_cond_broadcast (&moved); }

EXPORT void double_breach (const char *format, ...)
{
    va_list list;
    double_lock ();
    va_start (list, format);
    vsnprintf (last_breach, sizeof last_breach, format, list);
    va_end (list);
    n_breaches++;
    size_t n = strlen (all_breaches);
    snprintf (all_breaches + n, sizeof all_breaches - n, "%s\n", last_breach);
    double_unlock ();
}

EXPORT void double_object (int delta)
{
    double_lock ();
    live += delta;
    double_unlock ();
}

EXPORT uint64_t double_breaches (void)
{
    double_lock ();
    double_check_guards ();
    double_unlock ();
    return n_breaches;
}
EXPORT const char *double_last_breach (void) { return last_breach; }
EXPORT int64_t double_live (void) { return live; }
EXPORT uint64_t double_calls (void) { return n_calls; }
int double_has_managed (void) { return !no_managed; }

EXPORT void double_fail_at (uint64_t k)
{
    double_lock ();
    fail_at = k;
    double_unlock ();
}

EXPORT void double_lose_at (uint64_t k)
{
    double_lock ();
    lose_at = k;
    lost = 0;
    double_unlock ();
}

EXPORT uint32_t double_call (int takes)
{
    uint32_t r = CU_OK;
    double_lock ();
    n_calls++;
    if (lose_at && --lose_at == 0) {
        lost = 1;
        for (int i = 0; i < STREAMS_MOST; i++)
            if (streams[i])
                double_stream_drop (streams[i]);
        double_forget_blocks ();
    }
    if (takes && fail_at && --fail_at == 0)
        r = CU_OUT_OF_MEMORY;
    r = lost ? LOST : r;
    double_unlock ();
    return r;
}

int double_has_context (void) { return current != NULL; }

static int device_number (void)
{
    const char *n = getenv ("DOUBLE_CUDA_DEVICES");
    int count = n ? (int)strtol (n, NULL, 10) : 1;
    return count < DEVICES_MOST ? count : DEVICES_MOST;
}

API cuInit (unsigned int flags);
API cuInit (unsigned int flags)
{
    (void)flags;
    ENTER (0, 0);
    initialised = 1;
    LEAVE (device_number () > 0 ? CU_OK : CU_NO_DEVICE);
}

static int driver_version (void)
{
    const char *v = getenv ("DOUBLE_CUDA_VERSION");
    return v ? (int)strtol (v, NULL, 10) : COMPILER_VERSION;
}

API cuDriverGetVersion (int *v);
API cuDriverGetVersion (int *v)
{
    *v = driver_version ();
    return CU_OK;
}

API cuGetErrorName (CuResult r, const char **out);
API cuGetErrorName (CuResult r, const char **out)
{
    *out = r == CU_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : r == LOST ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_OTHER";
    return CU_OK;
}

API cuGetErrorString (CuResult r, const char **out);
API cuGetErrorString (CuResult r, const char **out)
{
    *out = r == CU_OUT_OF_MEMORY ? "out of memory" : r == LOST ? "unspecified launch failure" : "another error of the double";
    return CU_OK;
}

API cuDeviceGetCount (int *out);
API cuDeviceGetCount (int *out)
{
    ENTER (0, 0);
    *out = device_number ();
    LEAVE (initialised ? CU_OK : 3);
}

API cuDeviceGet (CuDevice *out, int i);
API cuDeviceGet (CuDevice *out, int i)
{
    ENTER (0, 0);
    *out = i;
    LEAVE (i >= 0 && i < device_number () ? CU_OK : 101);
}

API cuDeviceGetName (char *out, int cap, CuDevice d);
API cuDeviceGetName (char *out, int cap, CuDevice d)
{
    ENTER (0, 0);
    snprintf (out, (size_t)cap, "double %d of a GPU", d);
    LEAVE (CU_OK);
}

API cuDeviceGetAttribute (int *out, CuAttribute which, CuDevice d);
API cuDeviceGetAttribute (int *out, CuAttribute which, CuDevice d)
{
    (void)d;
    ENTER (0, 0);
    switch (which) {
    case CU_ATTRIBUTE_MAJOR: *out = 9; break;
    case CU_ATTRIBUTE_MINOR: *out = 0; break;
    case CU_ATTRIBUTE_MULTIPROCESSORS: *out = 2; break;
    case CU_ATTRIBUTE_MANAGED:
    case CU_ATTRIBUTE_CONCURRENT_MANAGED: *out = double_has_managed (); break;
    default: *out = 0; break;
    }
    LEAVE (CU_OK);
}

API cuDeviceTotalMem_v2 (size_t *out, CuDevice d);
API cuDeviceTotalMem_v2 (size_t *out, CuDevice d)
{
    (void)d;
    ENTER (0, 0);
    *out = (size_t)1 << 34;
    LEAVE (CU_OK);
}

API cuDevicePrimaryCtxRetain (CuContext *out, CuDevice d);
API cuDevicePrimaryCtxRetain (CuContext *out, CuDevice d)
{
    ENTER (1, 0);
    contexts[d] = (struct CUctx_st){d, contexts[d].retained + 1};
    live++;
    *out = &contexts[d];
    LEAVE (CU_OK);
}

API cuDevicePrimaryCtxRelease_v2 (CuDevice d);
API cuDevicePrimaryCtxRelease_v2 (CuDevice d)
{
    double_call (0);
    double_lock ();
    if (contexts[d].retained-- < 1)
        double_breach ("a context is released more often than retained");
    live--;
    LEAVE (lost ? LOST : CU_OK);
}

API cuCtxSetCurrent (CuContext c);
API cuCtxSetCurrent (CuContext c)
{
    ENTER (0, 0);
    current = c;
    if (c && c->retained < 1)
        double_breach ("a released context is made current");
    LEAVE (CU_OK);
}

API cuCtxGetStreamPriorityRange (int *least, int *greatest);
API cuCtxGetStreamPriorityRange (int *least, int *greatest)
{
    ENTER (0, 1);
    *least = 0;
    *greatest = -5;
    LEAVE (CU_OK);
}

API cuModuleLoadData (CuModule *out, const void *image);
API cuModuleLoadData (CuModule *out, const void *image)
{
    ENTER (1, 1);
    LEAVE (driver_version () < COMPILER_VERSION ? CU_UNSUPPORTED_PTX : double_module_new (image, out));
}

API cuModuleUnload (CuModule m);
API cuModuleUnload (CuModule m)
{
    double_call (0);
    double_lock ();
    double_module_free (m);
    LEAVE (lost ? LOST : CU_OK);
}

API cuModuleGetFunction (CuFunction *out, CuModule m, const char *name);
API cuModuleGetFunction (CuFunction *out, CuModule m, const char *name)
{
    ENTER (0, 1);
    LEAVE (double_module_function (m, name, out));
}

API cuLaunchKernel (CuFunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
                    unsigned int shared, CuStream s, void **args, void **extra);
API cuLaunchKernel (CuFunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
                    unsigned int shared, CuStream s, void **args, void **extra)
{
    Launch l;
    ENTER (0, 1);
    CuResult r = shared || extra ? CU_INVALID_VALUE
                                 : double_launch_prepare (&l, f, (unsigned int[]){gx, gy, gz}, (unsigned int[]){bx, by, bz}, args);
    LEAVE (r == CU_OK ? double_stream_add (s, double_launch_run, &l, sizeof l, 0) : r);
}

API cuStreamCreateWithPriority (CuStream *out, unsigned int flags, int priority);
API cuStreamCreateWithPriority (CuStream *out, unsigned int flags, int priority)
{
    int i = 0;
    ENTER (1, 1);
    while (i < STREAMS_MOST && streams[i])
        i++;
    CuResult r =
        i == STREAMS_MOST || flags != CU_NON_BLOCKING || priority > 0 || priority < -5 ? CU_INVALID_VALUE : double_stream_new (out);
    if (r == CU_OK)
        streams[i] = *out;
    LEAVE (r);
}

API cuStreamDestroy_v2 (CuStream s);
API cuStreamDestroy_v2 (CuStream s)
{
    double_call (0);
    double_lock ();
    for (int i = 0; i < STREAMS_MOST; i++)
        if (streams[i] == s)
            streams[i] = NULL;
    double_stream_free (s);
    LEAVE (lost ? LOST : CU_OK);
}

#define SIMPLE(name, params, takes, expression)                                                                                            \
    API name params;                                                                                                                       \
    API name params                                                                                                                        \
    {                                                                                                                                      \
        ENTER (takes, 1);                                                                                                                  \
        LEAVE (expression);                                                                                                                \
    }
SIMPLE (cuStreamSynchronize, (CuStream s), 0, double_stream_sync (s))
SIMPLE (cuStreamWaitEvent, (CuStream s, CuEvent e, unsigned int flags), 0, ((void)flags, double_event_wait (s, e)))
SIMPLE (cuStreamBeginCapture_v2, (CuStream s, CuCaptureMode mode), 1, ((void)mode, double_capture_begin (s)))
SIMPLE (cuGraphInstantiateWithFlags, (CuGraphExec * x, CuGraph g, unsigned long long flags), 1,
        ((void)flags, double_graph_instantiate (x, g)))
SIMPLE (cuGraphExecUpdate_v2, (CuGraphExec x, CuGraph g, CuGraphUpdate *u), 0, ((void)u, double_graph_update (x, g)))
SIMPLE (cuGraphLaunch, (CuGraphExec x, CuStream s), 0, double_graph_launch (x, s))
SIMPLE (cuEventCreate, (CuEvent * out, unsigned int flags), 1, ((void)flags, double_event_new (out)))
SIMPLE (cuEventRecord, (CuEvent e, CuStream s), 0, double_event_record (e, s))
SIMPLE (cuEventQuery, (CuEvent e), 0, double_event_query (e))
SIMPLE (cuEventSynchronize, (CuEvent e), 0, double_event_sync (e))

/* What gives back works on a lost device too, so that a test can tell a leak from what the loss took. */
#define GIVES_BACK(name, params, expression)                                                                                               \
    API name params;                                                                                                                       \
    API name params                                                                                                                        \
    {                                                                                                                                      \
        double_call (0);                                                                                                                   \
        double_lock ();                                                                                                                    \
        expression;                                                                                                                        \
        LEAVE (lost ? LOST : CU_OK);                                                                                                       \
    }
GIVES_BACK (cuEventDestroy_v2, (CuEvent e), double_event_free (e))
GIVES_BACK (cuGraphDestroy, (CuGraph g), double_graph_free (g))
GIVES_BACK (cuGraphExecDestroy, (CuGraphExec x), double_graph_exec_free (x))

API cuStreamEndCapture (CuStream s, CuGraph *out);
API cuStreamEndCapture (CuStream s, CuGraph *out)
{
    double_call (0);
    double_lock ();
    CuResult r = double_capture_end (s, out);
    LEAVE (r);
}

__attribute__ ((destructor)) static void report (void)
{
    const char *path = getenv ("DOUBLE_CUDA_REPORT");
    FILE *f = path && initialised ? fopen (path, "w") : NULL;
    if (!f)
        return;
    double_check_guards ();
    fprintf (f, "breaches %llu, live %lld, launches %llu\n%s", (unsigned long long)n_breaches, (long long)live,
             (unsigned long long)double_launches (), all_breaches);
    fclose (f);
}
