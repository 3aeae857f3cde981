/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opencl.h: what the files of the OpenCL backend share. The kernels and the host's side of their ops are backends/dialect; here are devices,
 * buffers, in-order queues, programs with their cache on disk, and matrix products.
 *
 * Device memory is never the host's, also where the device is the CPU: one path for every device. DpsBackend.run returns when the work is in the
 * device's own queue; what the host can see of it, it sees through copy, which waits. Where somebody has opened another queue, run waits too.
 * Calls on one device are serial but for those of different queues: what these share is under the device's lock.
 */
#ifndef DPS_OPENCL_H
#define DPS_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "../dialect/launch.h"

enum { OPENCL_MAX_DEVICES = 16, OPENCL_MAX_KERNELS = 128, OPENCL_MAX_PROGRAMS = 32 };

struct DpsBuffer {
    cl_mem memory;
    uint64_t bytes;
};

typedef struct OpenclProgram {
    const char *family;
    cl_program program;
} OpenclProgram;

typedef struct OpenclKernel {
    const char *name;
    cl_kernel kernel;
} OpenclKernel;

struct DpsQueue {
    struct DpsDevice *dev;
    cl_command_queue queue; /* NULL: not opened yet */
    struct DpsBuffer *scratch[DPS_SCRATCHES];
    DpsLaunch launch;
};

struct DpsDevice {
    cl_platform_id platform;
    cl_device_id id;
    char name[24], detail[256], identity[640]; /* "opencl:0"; for people; platform, device and driver, for the program cache */
    uint64_t memory_bytes, most_bytes;         /* of the device; of one buffer */
    _Atomic uint64_t used_bytes;               /* allocated */
    int is_cpu;
    int width;                 /* floats of a vector the device likes, for products on a CPU: 8 or 16 */
    int32_t lanes, most_local; /* as in DpsLaunch */
    cl_context context;        /* NULL: not opened yet */
    atomic_int lost;           /* not 0: the error of work in flight; every later call fails with it */
    struct DpsQueue own;       /* of calls without a queue */
    int n_queues;              /* others that are open */
    pthread_mutex_t lock;      /* of what follows: a kernel holds its arguments from one call to the next */
    OpenclProgram programs[OPENCL_MAX_PROGRAMS];
    int n_programs, cache_failed; /* of the programs' cache a fault was said: not for each of them */
    OpenclKernel kernels[OPENCL_MAX_KERNELS];
    int n_kernels;
};

extern DpsHost opencl_host;
extern DpsQuantNames opencl_quants;

/** An OpenCL error by name and number, after what was tried. */
DpsStatus opencl_fail (DpsError *err, DpsStatus code, cl_int number, const char *what);

/* device.c */
DpsStatus opencl_enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err);
/** Context and own queue, at the first use. Errors: DEVICE, also when the context was lost. */
DpsStatus opencl_open (struct DpsDevice *d, DpsError *err);
/** End a call without a queue: where other queues are open, its work has ended. Errors: DEVICE. */
DpsStatus opencl_settle (struct DpsDevice *d, DpsError *err);
DpsStatus opencl_alloc (struct DpsDevice *d, uint64_t bytes, struct DpsBuffer **out, DpsError *err);
void opencl_free (struct DpsDevice *d, struct DpsBuffer *b);

/* queue.c */
/** Closed yet, with what its launches need. */
void opencl_queue_init (struct DpsQueue *q, struct DpsDevice *d);
/** A command queue of the device's context. Errors: DEVICE. */
DpsStatus opencl_queue_open (struct DpsQueue *q, DpsError *err);
/** As DpsBackend.copy, in the queue; copies from and to host memory have ended on return when `wait`. Errors: SHAPE, DTYPE, INVALID, DEVICE. */
DpsStatus opencl_queue_copy (struct DpsQueue *q, const DpsView *from, const DpsView *to, int wait, DpsError *err);
extern const DpsQueues opencl_queues;

/* program.c */
/** DpsLaunch.launch, ctx: the queue. [stream-serial] */
DpsStatus opencl_launch (void *ctx, const DpsKernel *k, DpsError *err);

/* clblast.c */
/** CLBlast, where DIAPASON_OPENCL_GEMM asks for it. Errors: INVALID, DEVICE (it is not there). [init] */
DpsStatus opencl_clblast_open (DpsError *err);
int opencl_clblast_used (void);
/** DpsLaunch.multiply for K > 0; its ctx is the queue. */
DpsStatus opencl_clblast_multiply (const DpsLaunch *l, const DpsMatrices *p, DpsError *err);

/* product.c: DpsLaunch.multiply; its ctx is the queue. */
DpsStatus opencl_multiply (const DpsLaunch *l, const DpsMatrices *p, DpsError *err);

#endif
