/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opencl.h: what the files of the OpenCL backend share. The kernels and the host's side of their ops are backends/dialect; here are devices,
 * buffers, the in-order queue, programs with their cache on disk, and matrix products.
 *
 * Device memory is never the host's, also where the device is the CPU: one path for every device. run returns when the work is queued; what the
 * host can see of it, it sees through copy, which waits.
 */
#ifndef DPS_OPENCL_H
#define DPS_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

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

struct DpsDevice {
    cl_platform_id platform;
    cl_device_id id;
    char name[24], detail[256], identity[640];     /* "opencl:0"; for people; platform, device and driver, for the program cache */
    uint64_t memory_bytes, used_bytes, most_bytes; /* of the device; allocated; of one buffer */
    int is_cpu;
    int width;          /* floats of a vector the device likes, for products on a CPU: 8 or 16 */
    cl_context context; /* NULL: not opened yet */
    cl_command_queue queue;
    OpenclProgram programs[OPENCL_MAX_PROGRAMS];
    int n_programs;
    OpenclKernel kernels[OPENCL_MAX_KERNELS];
    int n_kernels;
    struct DpsBuffer *scratch[DPS_SCRATCHES];
    DpsLaunch launch;
};

extern DpsHost opencl_host;
extern DpsQuantNames opencl_quants;

/** An OpenCL error by name and number, after what was tried. */
DpsStatus opencl_fail (DpsError *err, DpsStatus code, cl_int number, const char *what);

/* device.c */
DpsStatus opencl_enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err);
/** Context and queue, at the first use. Errors: DEVICE. */
DpsStatus opencl_open (struct DpsDevice *d, DpsError *err);
DpsStatus opencl_alloc (struct DpsDevice *d, uint64_t bytes, struct DpsBuffer **out, DpsError *err);
void opencl_free (struct DpsDevice *d, struct DpsBuffer *b);

/* program.c */
/** DpsLaunch.launch, ctx: the device. */
DpsStatus opencl_launch (void *ctx, const DpsKernel *k, DpsError *err);

/* product.c: DpsLaunch.product and .outer, ctx: the device. */
DpsStatus opencl_product (void *ctx, const DpsProduct *p, DpsError *err);
DpsStatus opencl_outer (void *ctx, const DpsView *dy, const DpsView *x, const DpsView *roots, float alpha, const DpsView *dw,
                        DpsError *err);

#endif
