/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_kit.h: the cuda backend's host code on the doubles: its tables, the double's controls, arrays of f32, one-line ops. */
#ifndef DPS_TESTS_CUDA_KIT_H
#define DPS_TESTS_CUDA_KIT_H

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "check.h"
#include "plugin/registry.h"

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *registry;
static const DpsBackend *be;
static const DpsQueues *queues;
static const DpsMemory *memory;
static const DpsRecorder *recorder;
static const DpsCollective *collective;
static struct DpsDevice *dev;

/* The double's controls (tests/cuda/double/double.h). */
static struct {
    void (*fail_at) (uint64_t);
    void (*lose_at) (uint64_t);
    void (*hold) (int);
    uint64_t (*calls) (void);
    uint64_t (*launches) (void);
    uint64_t (*breaches) (void);
    const char *(*last_breach) (void);
    int64_t (*live) (void);
    uint64_t (*graph_updates) (void);
    uint64_t (*graph_instances) (void);
} twin;

/* By absolute path: the backend's own dlopen of the soname then finds what is loaded. */
static inline int twins_load (void)
{
    void *driver = dlopen (DPS_BUILD "/tests/cuda/libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    struct {
        const char *name;
        void *slot;
    } controls[] = {{"fail_at", &twin.fail_at},
                    {"lose_at", &twin.lose_at},
                    {"hold", &twin.hold},
                    {"calls", &twin.calls},
                    {"launches", &twin.launches},
                    {"breaches", &twin.breaches},
                    {"last_breach", &twin.last_breach},
                    {"live", &twin.live},
                    {"graph_updates", &twin.graph_updates},
                    {"graph_instances", &twin.graph_instances}};
    if (!driver || !dlopen (DPS_BUILD "/tests/cuda/libcublasLt.so.13", RTLD_NOW) ||
        !dlopen (DPS_BUILD "/tests/cuda/libnccl.so.2", RTLD_NOW))
        return 0;
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        char name[64];
        snprintf (name, sizeof name, "double_%s", controls[i].name);
        void *f = dlsym (driver, name);
        memcpy (controls[i].slot, &f, sizeof f);
        if (!f)
            return 0;
    }
    return 1;
}

static inline DpsStatus kit_open (DpsError *e)
{
    static const char *const folder = DPS_BUILD "/tests/cuda/plugins";
    const DpsRegistryOptions options = {.folders = &folder, .n_folders = 1};
    DpsDeviceInfo info = {.size = sizeof info};
    DPS_TRY (dps_registry_open (&options, &registry, e));
    be = dps_registry_get (registry, DPS_BACKEND_ID, "cuda");
    queues = dps_registry_get (registry, DPS_STREAM_ID, "cuda");
    memory = dps_registry_get (registry, DPS_MEMORY_ID, "cuda");
    recorder = dps_registry_get (registry, DPS_SEGMENT_ID, "cuda");
    collective = dps_registry_get (registry, DPS_COLLECTIVE_ID, "cuda");
    if (!be || !queues || !memory || !recorder || !collective) {
        dps_registry_close (registry);
        registry = NULL;
        return dps_fail (e, DPS_ERR_NOT_FOUND, "the cuda backend on the double does not load");
    }
    DpsStatus st = be->enumerate (0, &info, e);
    dev = info.device;
    if (st != DPS_OK) {
        dps_registry_close (registry);
        registry = NULL;
    }
    return st;
}

/* Close, and say what is left or went wrong: 0 when nothing. */
static inline int kit_close (void)
{
    dps_registry_close (registry);
    registry = NULL;
    if (twin.breaches () || twin.live ())
        printf ("\n    %llu breaches (the last: %s), %lld objects left\n", (unsigned long long)twin.breaches (), twin.last_breach (),
                (long long)twin.live ());
    return twin.breaches () || twin.live ();
}

/** A vector of f32 in memory of one kind. */
typedef struct Vec {
    DpsView view;
    int64_t shape[2];
    float *host; /* NULL: the host cannot reach it */
} Vec;

static inline DpsStatus vec_kind (Vec *v, uint32_t kind, int64_t rows, int64_t cols, DpsError *e)
{
    void *host = NULL;
    struct DpsBuffer *buffer = NULL;
    *v = (Vec){.shape = {rows, cols}};
    DPS_TRY (memory->alloc (dev, kind, (uint64_t)(rows * cols) * 4, &buffer, &host, e));
    v->host = host;
    v->view = (DpsView){.size = sizeof v->view, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = v->shape, .buffer = buffer, .host = host};
    return DPS_OK;
}

/* f(i) = a + b·i, in default memory. */
static inline void vec (Vec *v, int64_t rows, int64_t cols, float a, float b)
{
    CHECK_OK (vec_kind (v, 0, rows, cols, &err));
    for (int64_t i = 0; i < rows * cols; i++)
        v->host[i] = a + b * (float)i;
}

static inline void vec_free (Vec *v) { be->free (dev, v->view.buffer); }

/** An op of two inputs and one output at most. */
typedef struct Op {
    DpsOp op;
    const DpsView *in[4], *out[1];
    DpsScalar attrs[2];
} Op;

static inline Op *op_of (Op *o, const char *name, const Vec *a, const Vec *b, const Vec *y, double attr)
{
    *o = (Op){.in = {a ? &a->view : NULL, b ? &b->view : NULL}, .out = {&y->view}, .attrs = {{.f = attr}, {.f = attr}}};
    o->op = (DpsOp){.size = sizeof o->op,
                    .id = dps_intern (name),
                    .n_in = (uint32_t)(a != NULL) + (uint32_t)(b != NULL),
                    .n_out = 1,
                    .n_attrs = 2,
                    .in = o->in,
                    .out = o->out,
                    .attrs = o->attrs};
    return o;
}

#define KIT_MAIN(run)                                                                                                                      \
    int main (void)                                                                                                                        \
    {                                                                                                                                      \
        if (!twins_load ()) {                                                                                                              \
            printf ("skipped: the double of CUDA is not built: tools/deps --test, then tools/build\n");                                    \
            return 77;                                                                                                                     \
        }                                                                                                                                  \
        if (kit_open (&err) != DPS_OK) {                                                                                                   \
            printf ("%s\n", err.msg);                                                                                                      \
            return 1;                                                                                                                      \
        }                                                                                                                                  \
        int code = run ();                                                                                                                 \
        return kit_close () || code;                                                                                                       \
    }

#endif
