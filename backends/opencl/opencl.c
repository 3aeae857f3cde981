/* SPDX-License-Identifier: Apache-2.0 */
/* opencl.c: the plugin: its table, memory and copies. */
#include "opencl.h"

#include <string.h>

DpsHost opencl_host;
DpsQuantNames opencl_quants;

DpsStatus opencl_fail (DpsError *err, DpsStatus code, cl_int number, const char *what)
{
    static const struct {
        cl_int number;
        const char *name;
    } names[] = {
        {CL_DEVICE_NOT_FOUND, "CL_DEVICE_NOT_FOUND"},
        {CL_DEVICE_NOT_AVAILABLE, "CL_DEVICE_NOT_AVAILABLE"},
        {CL_COMPILER_NOT_AVAILABLE, "CL_COMPILER_NOT_AVAILABLE"},
        {CL_MEM_OBJECT_ALLOCATION_FAILURE, "CL_MEM_OBJECT_ALLOCATION_FAILURE"},
        {CL_OUT_OF_RESOURCES, "CL_OUT_OF_RESOURCES"},
        {CL_OUT_OF_HOST_MEMORY, "CL_OUT_OF_HOST_MEMORY"},
        {CL_BUILD_PROGRAM_FAILURE, "CL_BUILD_PROGRAM_FAILURE"},
        {CL_INVALID_VALUE, "CL_INVALID_VALUE"},
        {CL_INVALID_BINARY, "CL_INVALID_BINARY"},
        {CL_INVALID_KERNEL_NAME, "CL_INVALID_KERNEL_NAME"},
        {CL_INVALID_ARG_SIZE, "CL_INVALID_ARG_SIZE"},
        {CL_INVALID_KERNEL_ARGS, "CL_INVALID_KERNEL_ARGS"},
        {CL_INVALID_WORK_GROUP_SIZE, "CL_INVALID_WORK_GROUP_SIZE"},
        {CL_INVALID_BUFFER_SIZE, "CL_INVALID_BUFFER_SIZE"},
        {-1001, "CL_PLATFORM_NOT_FOUND_KHR"},
    };
    const char *name = "error";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        name = names[i].number == number ? names[i].name : name;
    dps_fail (err, code, "opencl: %s: %s (%d)", what, name, (int)number);
    if (err)
        err->vendor_code = number;
    return code;
}

static DpsStatus buffer_alloc (struct DpsDevice *d, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    DPS_TRY (opencl_alloc (d, bytes, out, err));
    if (out_host)
        *out_host = NULL;
    return DPS_OK;
}

static uint64_t bytes_of (const DpsView *v) { return (uint64_t)dps_view_count (v) * dps_launch_bytes (v->dtype); }

static DpsStatus check_copy (const DpsView *from, const DpsView *to, DpsError *err)
{
    int same = from->rank == to->rank;
    for (uint32_t i = 0; same && i < from->rank; i++)
        same = from->shape[i] == to->shape[i];
    if (!same)
        return dps_fail (err, DPS_ERR_SHAPE, "opencl: copy between views of different shapes");
    if (from->dtype != to->dtype || !dps_launch_bytes (from->dtype))
        return dps_fail (err, DPS_ERR_DTYPE, "opencl: copy from dtype number %u to %u; one dtype is expected", from->dtype, to->dtype);
    if (from->stride || to->stride)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "opencl: copy of a strided view; contiguous rows are expected");
    if (bytes_of (from) && !from->buffer && !to->buffer)
        return dps_fail (err, DPS_ERR_INVALID, "opencl: copy without device memory");
    if (bytes_of (from) && ((!from->buffer && !from->host) || (!to->buffer && !to->host)))
        return dps_fail (err, DPS_ERR_INVALID, "opencl: copy of a view without memory");
    return DPS_OK;
}

static DpsStatus check_window (const DpsView *v, uint64_t bytes, DpsError *err)
{
    if (v->buffer && (v->offset > v->buffer->bytes || bytes > v->buffer->bytes - v->offset))
        return dps_fail (err, DPS_ERR_SHAPE, "opencl: bytes %llu to %llu of a buffer of %llu", (unsigned long long)v->offset,
                         (unsigned long long)(v->offset + bytes), (unsigned long long)v->buffer->bytes);
    return DPS_OK;
}

static DpsStatus read_bytes (void *ctx, const DpsView *from, void *to, uint64_t bytes, DpsError *err)
{
    struct DpsDevice *d = ctx;
    DPS_TRY (check_window (from, bytes, err));
    cl_int e = bytes ? clEnqueueReadBuffer (d->queue, from->buffer->memory, CL_TRUE, from->offset, bytes, to, 0, NULL, NULL) : CL_SUCCESS;
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "reading a buffer, or work before it");
}

static DpsStatus write_bytes (void *ctx, const void *from, const DpsView *to, uint64_t bytes, DpsError *err)
{
    struct DpsDevice *d = ctx;
    DPS_TRY (check_window (to, bytes, err));
    cl_int e = bytes ? clEnqueueWriteBuffer (d->queue, to->buffer->memory, CL_TRUE, to->offset, bytes, from, 0, NULL, NULL) : CL_SUCCESS;
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "writing a buffer, or work before it");
}

static DpsStatus copy_views (struct DpsDevice *d, const DpsView *from, const DpsView *to, DpsError *err)
{
    DPS_TRY (check_copy (from, to, err));
    DPS_TRY (opencl_open (d, err));
    uint64_t bytes = bytes_of (from);
    if (!bytes)
        return DPS_OK;
    if (!to->buffer)
        return read_bytes (d, from, to->host, bytes, err);
    if (!from->buffer)
        return write_bytes (d, from->host, to, bytes, err);
    DPS_TRY (check_window (from, bytes, err));
    DPS_TRY (check_window (to, bytes, err));
    cl_int e = clEnqueueCopyBuffer (d->queue, from->buffer->memory, to->buffer->memory, from->offset, to->offset, bytes, 0, NULL, NULL);
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "copying a buffer");
}

static DpsStatus scratch (void *ctx, uint32_t slot, uint64_t bytes, DpsView *out, DpsError *err)
{
    struct DpsDevice *d = ctx;
    if (!d->scratch[slot] || d->scratch[slot]->bytes < bytes) {
        opencl_free (d, d->scratch[slot]); /* work in the queue keeps the memory until it is done */
        d->scratch[slot] = NULL;
        DPS_TRY (opencl_alloc (d, bytes + bytes / 8, &d->scratch[slot], err));
    }
    *out = (DpsView){.size = sizeof *out, .dtype = DPS_DTYPE_U8, .buffer = d->scratch[slot]};
    return DPS_OK;
}

static DpsStatus run (struct DpsDevice *d, const DpsOp *op, uint32_t flags, DpsError *err)
{
    if (!(flags & DPS_RUN_DRY))
        DPS_TRY (opencl_open (d, err));
    d->launch.who = "opencl";
    d->launch.ctx = d;
    d->launch.quants = &opencl_quants;
    d->launch.launch = opencl_launch;
    d->launch.scratch = scratch;
    d->launch.read = read_bytes;
    d->launch.write = write_bytes;
    d->launch.product = opencl_product;
    d->launch.outer = opencl_outer;
    return dps_launch_run (&d->launch, op, flags, err);
}

/* OpenCL does not say what others use: free is what this process has not taken. */
static DpsStatus mem_info (struct DpsDevice *d, uint64_t *out_free, uint64_t *out_total, DpsError *err)
{
    (void)err;
    *out_total = d->memory_bytes;
    *out_free = d->used_bytes < d->memory_bytes ? d->memory_bytes - d->used_bytes : 0;
    return DPS_OK;
}

static uint32_t determinism (struct DpsDevice *d)
{
    (void)d;
    return DPS_DETERMINISM_BATCH;
}

static const DpsBackend backend = {
    .size = sizeof backend,
    .enumerate = opencl_enumerate,
    .alloc = buffer_alloc,
    .free = opencl_free,
    .copy = copy_views,
    .run = run,
    .mem_info = mem_info,
    .determinism = determinism,
};

/* No platform is touched here: listing plugins must not start a driver. */
static DpsStatus init (const DpsHost *from, const char *path, DpsError *err)
{
    (void)path;
    dps_table_copy (&opencl_host, sizeof opencl_host, from);
    if (dps_quant_names (opencl_host.intern, &opencl_quants))
        return dps_fail (err, DPS_ERR_LIMIT, "opencl: no room for the quantised dtypes");
    return dps_launch_init (opencl_host.intern, err);
}

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_BACKEND_ID) ? &backend : NULL; }

DPS_PLUGIN (init, NULL, get_interface);
