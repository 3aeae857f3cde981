/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program.c: a program per FAMILY.cl, built at its first launch, and kept on disk as the driver's binary. The file's name is the digest of device,
 * driver, options and source; its first line is the digest of the rest: a damaged file is built again. The folder, ~/.cache/diapason/opencl or
 * opencl/ in DIAPASON_CACHE, must be the user's alone, for what lies there runs.
 */
#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"

/* Generated: source_NAME[] for every .cl, with dialect.h, and the table of them. */
#include "opencl_sources.inc"

enum { CACHE_LIMIT = 64 << 20 };

static void say (uint32_t level, const char *what, const DpsError *why)
{
    char line[1200];
    int n = snprintf (line, sizeof line, "opencl: %s: %s", what, why->msg);
    if (opencl_host.log)
        opencl_host.log (level, (DpsStr){line, n > 0 && (size_t)n < sizeof line ? (size_t)n : sizeof line - 1});
}

/* Of a cache that serves no program. */
static void say_once (struct DpsDevice *d, const char *what, const DpsError *why)
{
    if (!d->cache_failed)
        say (DPS_HOST_LOG_WARNING, what, why);
    d->cache_failed = 1;
}

static const char *source_of (const char *family)
{
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (!strcmp (sources[i].family, family))
            return sources[i].text;
    return NULL;
}

/* The cache's folder, made when it is not there. Errors: POLICY when others may write to it. */
static DpsStatus cache_folder (char *path, size_t cap, DpsError *err)
{
    const char *cache = getenv ("DIAPASON_CACHE"), *home = getenv ("HOME");
    struct stat s;
    int n = cache && *cache ? snprintf (path, cap, "%s/opencl", cache)
            : home && *home ? snprintf (path, cap, "%s/.cache/diapason/opencl", home)
                            : -1;
    if (n < 0 || (size_t)n >= cap)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "no folder for the program cache: neither DIAPASON_CACHE nor HOME names one");
    DPS_TRY (dps_mkdirs (path, err));
    if (lstat (path, &s) || !S_ISDIR (s.st_mode))
        return dps_fail (err, DPS_ERR_IO, "%s is no folder", path);
    if (s.st_uid == geteuid () && s.st_mode & (S_IWGRP | S_IWOTH) && !chmod (path, 0700))
        s.st_mode &= ~(mode_t)(S_IWGRP | S_IWOTH);
    if (s.st_uid != geteuid () || s.st_mode & (S_IWGRP | S_IWOTH))
        return dps_fail (err, DPS_ERR_POLICY, "%s can be written to by others: programs are built anew. Hint: chmod 700 it", path);
    return DPS_OK;
}

static DpsStatus cache_path (const struct DpsDevice *d, const char *source, const char *options, char *path, size_t cap, DpsError *err)
{
    DpsHasher *h = dps_hasher_new ();
    DpsDigest key;
    char folder[512];
    if (!h)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    dps_hasher_add (h, d->identity, strlen (d->identity) + 1);
    dps_hasher_add (h, options, strlen (options) + 1);
    dps_hasher_add (h, source, strlen (source));
    DPS_TRY (dps_hasher_final (h, &key, err));
    DPS_TRY (cache_folder (folder, sizeof folder, err));
    int n = snprintf (path, cap, "%s/%s.bin", folder, key.hex);
    return n > 0 && (size_t)n < cap ? DPS_OK : dps_fail (err, DPS_ERR_LIMIT, "%s is too long", folder);
}

static DpsStatus compile (const struct DpsDevice *d, cl_program program, const char *family, const char *options, DpsError *err)
{
    cl_int e = clBuildProgram (program, 1, &d->id, options, NULL, NULL);
    char log[700] = "";
    if (e == CL_SUCCESS)
        return DPS_OK;
    char *whole = dps_calloc (1, 65536);
    if (whole && clGetProgramBuildInfo (program, d->id, CL_PROGRAM_BUILD_LOG, 65535, whole, NULL) == CL_SUCCESS)
        snprintf (log, sizeof log, "%s", whole);
    dps_free (whole);
    opencl_fail (err, DPS_ERR_DEVICE, e, "building a program");
    return dps_error_prefix (err, "%s.cl on %s: %s", family, d->name, log);
}

/* From the cache: NOT_FOUND when there is none, anything else when it is damaged. */
static DpsStatus load (const struct DpsDevice *d, const char *path, const char *family, const char *options, cl_program *out, DpsError *err)
{
    DpsBuf file = {0};
    DpsDigest digest;
    cl_int e = CL_SUCCESS, state = CL_SUCCESS;
    enum { HEAD = sizeof digest.hex };
    DpsStatus st = dps_file_read (path, CACHE_LIMIT, &file, err);
    if (st == DPS_OK && file.len <= HEAD)
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: %zu bytes", path, file.len);
    if (st == DPS_OK)
        st = dps_sha256 (file.data + HEAD, file.len - HEAD, &digest, err);
    if (st == DPS_OK && (memcmp (file.data, digest.hex, HEAD - 1) || file.data[HEAD - 1] != '\n'))
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: its digest does not fit", path);
    if (st == DPS_OK) {
        const unsigned char *binary = (const unsigned char *)file.data + HEAD;
        size_t len = file.len - HEAD;
        *out = clCreateProgramWithBinary (d->context, 1, &d->id, &len, &binary, &state, &e);
        st = *out && state == CL_SUCCESS ? compile (d, *out, family, options, err)
                                         : opencl_fail (err, DPS_ERR_DEVICE, *out ? state : e, path);
        if (st != DPS_OK && *out) {
            clReleaseProgram (*out);
            *out = NULL;
        }
    }
    dps_buf_free (&file);
    return st;
}

static DpsStatus save (cl_program program, const char *path, DpsError *err)
{
    size_t len = 0;
    DpsBuf file = {0};
    DpsDigest digest;
    cl_int e = clGetProgramInfo (program, CL_PROGRAM_BINARY_SIZES, sizeof len, &len, NULL);
    if (e != CL_SUCCESS || len == 0 || len > CACHE_LIMIT - sizeof digest.hex)
        return opencl_fail (err, DPS_ERR_DEVICE, e, "asking for a program's binary");
    unsigned char *binary = dps_malloc (len, 1);
    if (!binary)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    e = clGetProgramInfo (program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL);
    DpsStatus st =
        e == CL_SUCCESS ? dps_sha256 (binary, len, &digest, err) : opencl_fail (err, DPS_ERR_DEVICE, e, "asking for a program's binary");
    if (st == DPS_OK && (dps_buf_printf (&file, "%s\n", digest.hex) || dps_buf_add (&file, binary, len)))
        st = dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK)
        st = dps_file_write (path, file.data, file.len, err);
    dps_buf_free (&file);
    dps_free (binary);
    return st;
}

static DpsStatus build (struct DpsDevice *d, const char *family, cl_program *out, DpsError *err)
{
    const char *source = source_of (family);
    char options[128], path[640];
    DpsError why = DPS_ERROR_INIT;
    cl_int e;
    if (!source)
        return dps_fail (err, DPS_ERR_INTERNAL, "opencl: there is no %s.cl", family);
    snprintf (options, sizeof options, "-cl-std=CL1.2 -DDPS_LANES=%d -DDPS_WIDTH=%d", d->lanes, d->width);
    int cached = cache_path (d, source, options, path, sizeof path, &why) == DPS_OK;
    if (!cached)
        say_once (d, "no program cache", &why);
    DpsStatus st = cached ? load (d, path, family, options, out, &why) : DPS_ERR_NOT_FOUND;
    if (st == DPS_OK)
        return DPS_OK;
    if (st != DPS_ERR_NOT_FOUND)
        say (DPS_HOST_LOG_WARNING, "a cached program is built again", &why);
    *out = clCreateProgramWithSource (d->context, 1, &source, NULL, &e);
    if (!*out)
        return opencl_fail (err, DPS_ERR_DEVICE, e, "a program");
    st = compile (d, *out, family, options, err);
    if (st != DPS_OK) {
        clReleaseProgram (*out);
        return st;
    }
    if (cached && save (*out, path, &why) != DPS_OK)
        say_once (d, "the program cache cannot be written", &why);
    return DPS_OK;
}

static DpsStatus find_program (struct DpsDevice *d, const char *family, cl_program *out, DpsError *err)
{
    int i = 0;
    while (i < d->n_programs && strcmp (d->programs[i].family, family))
        i++;
    if (i == d->n_programs) {
        if (i == OPENCL_MAX_PROGRAMS)
            return dps_fail (err, DPS_ERR_LIMIT, "opencl: more than %d programs", OPENCL_MAX_PROGRAMS);
        DPS_TRY (build (d, family, &d->programs[i].program, err));
        d->programs[i].family = family;
        d->n_programs++;
    }
    *out = d->programs[i].program;
    return DPS_OK;
}

static DpsStatus find_kernel (struct DpsDevice *d, const char *family, const char *name, cl_kernel *out, DpsError *err)
{
    cl_program program = NULL;
    cl_int e;
    int i = 0;
    while (i < d->n_kernels && d->kernels[i].name != name && strcmp (d->kernels[i].name, name))
        i++;
    if (i == d->n_kernels) {
        if (i == OPENCL_MAX_KERNELS)
            return dps_fail (err, DPS_ERR_LIMIT, "opencl: more than %d kernels", OPENCL_MAX_KERNELS);
        DPS_TRY (find_program (d, family, &program, err));
        d->kernels[i].kernel = clCreateKernel (program, name, &e);
        if (!d->kernels[i].kernel)
            return opencl_fail (err, DPS_ERR_DEVICE, e, name);
        d->kernels[i].name = name;
        d->n_kernels++;
    }
    *out = d->kernels[i].kernel;
    return DPS_OK;
}

static cl_int set_args (cl_kernel kernel, const DpsKernel *k)
{
    cl_int e = CL_SUCCESS;
    for (uint32_t i = 0; i < k->n_args && e == CL_SUCCESS; i++) {
        const DpsKernelArg *a = &k->args[i];
        switch (a->kind) {
        case DPS_ARG_BUFFER: e = clSetKernelArg (kernel, i, sizeof (cl_mem), a->as.buffer ? &a->as.buffer->memory : NULL); break;
        case DPS_ARG_I32: e = clSetKernelArg (kernel, i, 4, &a->as.i32); break;
        case DPS_ARG_I64: e = clSetKernelArg (kernel, i, 8, &a->as.i64); break;
        default: e = clSetKernelArg (kernel, i, 4, &a->as.f32); break;
        }
    }
    return e;
}

DpsStatus opencl_launch (void *ctx, const DpsKernel *k, DpsError *err)
{
    struct DpsQueue *q = ctx;
    cl_kernel kernel = NULL;
    cl_int e = CL_SUCCESS;
    size_t global[3], local[3];
    for (int axis = 0; axis < 3; axis++) {
        local[axis] = (size_t)k->local[axis];
        global[axis] = (size_t)k->groups[axis] * local[axis];
    }
    pthread_mutex_lock (&q->dev->lock);
    DpsStatus st = find_kernel (q->dev, k->family, k->name, &kernel, err);
    if (st == DPS_OK)
        e = set_args (kernel, k);
    if (st == DPS_OK && e == CL_SUCCESS)
        e = clEnqueueNDRangeKernel (q->queue, kernel, 3, NULL, global, local, 0, NULL, NULL);
    pthread_mutex_unlock (&q->dev->lock);
    return st != DPS_OK || e == CL_SUCCESS ? st : opencl_fail (err, DPS_ERR_DEVICE, e, k->name);
}
