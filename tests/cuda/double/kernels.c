/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.c: modules and launches. The image of a module names a family of the dialect ("DPS-DIALECT norm"); its source is compiled for the first
 * OpenCL device there is, as the opencl backend does, with the number of lanes that nvcc gets. Memory is used in place (CL_MEM_USE_HOST_PTR).
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"

#ifndef DOUBLE_DIALECT
#error "DOUBLE_DIALECT is the folder of the dialect"
#endif

struct CUmod_st {
    char family[64];
    char *source;
    cl_program program; /* built when a function is first asked for */
    struct CUfunc_st *functions;
};

struct CUfunc_st {
    char name[64];
    cl_kernel kernel;
    cl_uint n_args;
    unsigned char is_pointer[DOUBLE_MAX_ARGS], bytes[DOUBLE_MAX_ARGS];
    struct CUfunc_st *next;
};

static cl_context context;
static cl_command_queue queue;
static cl_device_id device;
static uint64_t n_launches;

uint64_t double_launches (void) { return n_launches; }

static int open_device (void)
{
    cl_platform_id platform;
    cl_int e = CL_SUCCESS;
    if (context)
        return 1;
    if (clGetPlatformIDs (1, &platform, NULL) != CL_SUCCESS ||
        clGetDeviceIDs (platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL) != CL_SUCCESS)
        return 0;
    context = clCreateContext (NULL, 1, &device, NULL, NULL, &e);
    queue = context ? clCreateCommandQueue (context, device, 0, &e) : NULL;
    return queue != NULL;
}

static char *read_file (const char *path)
{
    FILE *f = fopen (path, "rb");
    char *text = NULL;
    if (f && fseek (f, 0, SEEK_END) == 0) {
        long n = ftell (f);
        text = n >= 0 ? calloc (1, (size_t)n + 1) : NULL;
        rewind (f);
        if (text && fread (text, 1, (size_t)n, f) != (size_t)n) {
            free (text);
            text = NULL;
        }
    }
    if (f)
        fclose (f);
    return text;
}

CuResult double_module_new (const void *image, CuModule *out)
{
    static const char magic[] = "DPS-DIALECT ";
    char path[512];
    struct CUmod_st *m = calloc (1, sizeof *m);
    if (!m || strncmp (image, magic, sizeof magic - 1) != 0) {
        free (m);
        return CU_INVALID_IMAGE;
    }
    snprintf (m->family, sizeof m->family, "%s", (const char *)image + sizeof magic - 1);
    snprintf (path, sizeof path, "%s/%s.cl", DOUBLE_DIALECT, m->family);
    m->source = read_file (path);
    if (!m->source) {
        free (m);
        return CU_INVALID_IMAGE;
    }
    double_object (1);
    *out = m;
    return CU_OK;
}

void double_module_free (CuModule m)
{
    for (struct CUfunc_st *next; m->functions; m->functions = next) {
        next = m->functions->next;
        clReleaseKernel (m->functions->kernel);
        free (m->functions);
    }
    if (m->program)
        clReleaseProgram (m->program);
    free (m->source);
    free (m);
    double_object (-1);
}

static int build (CuModule m)
{
    char options[640];
    const char *text[2] = {"#include \"dialect.h\"\n", m->source};
    static char log[8192];
    cl_int e;
    if (m->program)
        return 1;
    if (!open_device ())
        return 0;
    snprintf (options, sizeof options, "-cl-std=CL1.2 -cl-kernel-arg-info -DDPS_LANES=%d -I%s", DOUBLE_LANES, DOUBLE_DIALECT);
    m->program = clCreateProgramWithSource (context, 2, text, NULL, &e);
    if (m->program && clBuildProgram (m->program, 1, &device, options, NULL, NULL) == CL_SUCCESS)
        return 1;
    if (m->program)
        clGetProgramBuildInfo (m->program, device, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
    double_breach ("%s.cl does not build: %s", m->family, log);
    return 0;
}

/* "i64" → 8; 0: a type no kernel of the dialect passes. */
static unsigned char value_bytes (const char *type)
{
    static const char *const eight[] = {"i64", "u64", "long", "ulong"}, *const four[] = {"i32", "u32", "int", "uint", "float"};
    for (size_t i = 0; i < sizeof eight / sizeof *eight; i++)
        if (!strcmp (type, eight[i]))
            return 8;
    for (size_t i = 0; i < sizeof four / sizeof *four; i++)
        if (!strcmp (type, four[i]))
            return 4;
    return 0;
}

static int describe_args (struct CUfunc_st *f)
{
    if (clGetKernelInfo (f->kernel, CL_KERNEL_NUM_ARGS, sizeof f->n_args, &f->n_args, NULL) != CL_SUCCESS || f->n_args > DOUBLE_MAX_ARGS)
        return 0;
    for (cl_uint i = 0; i < f->n_args; i++) {
        cl_kernel_arg_address_qualifier where = 0;
        char type[64] = "";
        clGetKernelArgInfo (f->kernel, i, CL_KERNEL_ARG_ADDRESS_QUALIFIER, sizeof where, &where, NULL);
        clGetKernelArgInfo (f->kernel, i, CL_KERNEL_ARG_TYPE_NAME, sizeof type - 1, type, NULL);
        f->is_pointer[i] = where == CL_KERNEL_ARG_ADDRESS_GLOBAL || where == CL_KERNEL_ARG_ADDRESS_CONSTANT;
        f->bytes[i] = f->is_pointer[i] ? 8 : value_bytes (type);
        if (!f->bytes[i]) {
            double_breach ("%s: argument %u has type '%s'", f->name, i, type);
            return 0;
        }
    }
    return 1;
}

CuResult double_module_function (CuModule m, const char *name, CuFunction *out)
{
    cl_int e;
    for (struct CUfunc_st *f = m->functions; f; f = f->next)
        if (!strcmp (f->name, name)) {
            *out = f;
            return CU_OK;
        }
    if (!build (m))
        return CU_INVALID_IMAGE;
    struct CUfunc_st *f = calloc (1, sizeof *f);
    if (!f)
        return CU_OUT_OF_MEMORY;
    snprintf (f->name, sizeof f->name, "%s", name);
    f->kernel = clCreateKernel (m->program, name, &e);
    if (!f->kernel || !describe_args (f)) {
        free (f);
        return e == CL_INVALID_KERNEL_NAME ? CU_NOT_FOUND : CU_INVALID_IMAGE;
    }
    f->next = m->functions;
    *out = m->functions = f;
    return CU_OK;
}

CuResult double_launch_prepare (Launch *l, CuFunction f, const unsigned int grid[3], const unsigned int block[3], void **args)
{
    uint64_t threads = 1;
    memset (l, 0, sizeof *l);
    l->function = f;
    for (int axis = 0; axis < 3; axis++) {
        l->grid[axis] = grid[axis];
        l->block[axis] = block[axis];
        threads *= block[axis];
        if (!grid[axis] || !block[axis] || grid[axis] > (axis ? 65535u : INT32_MAX) || block[axis] > (axis == 2 ? 64u : 1024u))
            return CU_INVALID_VALUE;
    }
    if (threads > 1024)
        return CU_INVALID_VALUE;
    for (cl_uint i = 0; i < f->n_args; i++)
        memcpy (&l->values[i], args[i], f->bytes[i]);
    return CU_OK;
}

void double_launch_run (void *launch)
{
    const Launch *l = launch;
    const struct CUfunc_st *f = l->function;
    cl_mem memory[DOUBLE_MAX_ARGS] = {NULL};
    cl_int e = CL_SUCCESS;
    n_launches++;
    for (cl_uint i = 0; i < f->n_args && e == CL_SUCCESS; i++) {
        void *p = (void *)(uintptr_t)l->values[i];
        if (!f->is_pointer[i])
            e = clSetKernelArg (f->kernel, i, f->bytes[i], &l->values[i]);
        else if (!p)
            e = clSetKernelArg (f->kernel, i, sizeof (cl_mem), NULL);
        else {
            const Block *b = double_block_of (p, f->name);
            uint64_t bytes = b ? b->bytes - (uint64_t)((unsigned char *)p - b->data) : 0;
            if (!b)
                e = CL_INVALID_VALUE;
            else
                memory[i] = clCreateBuffer (context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, bytes ? bytes : 1, p, &e);
            if (memory[i])
                e = clSetKernelArg (f->kernel, i, sizeof (cl_mem), &memory[i]);
        }
    }
    size_t local[3], global[3];
    for (int axis = 0; axis < 3; axis++) {
        local[axis] = l->block[axis];
        global[axis] = local[axis] * l->grid[axis];
    }
    if (e == CL_SUCCESS)
        e = clEnqueueNDRangeKernel (queue, f->kernel, 3, NULL, global, local, 0, NULL, NULL);
    if (e == CL_SUCCESS)
        e = clFinish (queue);
    if (e != CL_SUCCESS)
        double_breach ("%s did not run: OpenCL error %d", f->name, e);
    for (cl_uint i = 0; i < f->n_args; i++)
        if (memory[i])
            clReleaseMemObject (memory[i]);
}
