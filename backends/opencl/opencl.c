/* SPDX-License-Identifier: Apache-2.0 */
/* opencl.c: the plugin: its tables, and the calls without a queue. */
#include "opencl.h"

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

static DpsStatus copy (struct DpsDevice *d, const DpsView *from, const DpsView *to, DpsError *err)
{
    DPS_TRY (opencl_queue_copy (&d->own, from, to, 1, err));
    return opencl_settle (d, err);
}

/* Host copies of operands are the caller's, never the device's memory: they hold whatever is still in a queue. */
static DpsStatus run (struct DpsDevice *d, const DpsOp *op, uint32_t flags, DpsError *err)
{
    if (flags & DPS_RUN_DRY)
        return dps_launch_run (&d->own.launch, op, flags, err);
    DPS_TRY (opencl_open (d, err));
    DPS_TRY (dps_launch_run (&d->own.launch, op, flags, err));
    return opencl_settle (d, err);
}

/* OpenCL does not say what others use: free is what this process has not taken. */
static DpsStatus mem_info (struct DpsDevice *d, uint64_t *out_free, uint64_t *out_total, DpsError *err)
{
    (void)err;
    *out_total = d->memory_bytes;
    uint64_t used = atomic_load (&d->used_bytes);
    *out_free = used < d->memory_bytes ? d->memory_bytes - used : 0;
    return DPS_OK;
}

static uint32_t determinism (struct DpsDevice *d)
{
    (void)d;
    return opencl_clblast_used () ? DPS_DETERMINISM_THREADS : DPS_DETERMINISM_BATCH;
}

static const DpsBackend backend = {
    .size = sizeof backend,
    .enumerate = opencl_enumerate,
    .alloc = buffer_alloc,
    .free = opencl_free,
    .copy = copy,
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

static const void *get_interface (DpsStr id)
{
    return dps_str_is (id, DPS_BACKEND_ID) ? (const void *)&backend : dps_str_is (id, DPS_STREAM_ID) ? &opencl_queues : NULL;
}

DPS_PLUGIN (init, NULL, get_interface);
