/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c: which devices there are, found when somebody asks for the first one; a context and a queue when one is used first.
 * Names: "opencl:0", "opencl:1" … in the order of platforms and their devices, of those that DIAPASON_OPENCL_PLATFORM and
 * DIAPASON_OPENCL_DEVICE (parts of names; cpu, gpu, accelerator are kinds) leave. With DIAPASON_OPENCL_LANES set a CPU runs what GPUs and CUDA run:
 * groups of 64 items; for tests.
 */
#include "opencl.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static struct DpsDevice devices[OPENCL_MAX_DEVICES];
static int n_devices, looked;
static cl_int no_platforms; /* what the loader said when there was none */
static int n_seen;          /* devices before the choice */

static int contains (const char *text, const char *part)
{
    size_t n = strlen (part);
    for (; *text; text++)
        if (!strncasecmp (text, part, n))
            return 1;
    return n == 0;
}

static size_t config (const char *key, char *buf, size_t cap)
{
    buf[0] = '\0';
    return opencl_host.config_get ? opencl_host.config_get (dps_str (key), buf, cap) : 0;
}

static int wanted (const char *platform, const char *device, cl_device_type type)
{
    char part[128];
    if (config ("opencl.platform", part, sizeof part) && !contains (platform, part))
        return 0;
    if (!config ("opencl.device", part, sizeof part))
        return 1;
    if (!strcasecmp (part, "cpu") || !strcasecmp (part, "gpu") || !strcasecmp (part, "accelerator"))
        return (type & (part[0] == 'c' || part[0] == 'C'   ? CL_DEVICE_TYPE_CPU
                        : part[0] == 'g' || part[0] == 'G' ? CL_DEVICE_TYPE_GPU
                                                           : CL_DEVICE_TYPE_ACCELERATOR)) != 0;
    return contains (device, part);
}

static void device_text (cl_device_id id, cl_device_info what, char *buf, size_t cap)
{
    size_t n = 0;
    if (clGetDeviceInfo (id, what, cap - 1, buf, &n) != CL_SUCCESS)
        n = 0;
    buf[n < cap ? n : cap - 1] = '\0';
}

#define DEVICE_NUMBER(id, what, type, out)                                                                                                 \
    do {                                                                                                                                   \
        type value_ = 0;                                                                                                                   \
        if (clGetDeviceInfo (id, what, sizeof value_, &value_, NULL) == CL_SUCCESS)                                                        \
            (out) = value_;                                                                                                                \
    } while (0)

static void add_device (cl_platform_id platform, const char *platform_name, cl_device_id id)
{
    char lanes[8], name[160], version[64], driver[96], platform_version[128] = "";
    cl_device_type type = 0;
    cl_uint units = 0, native = 0;
    size_t most_group = 1;
    cl_bool there = CL_FALSE, compiler = CL_FALSE, little = CL_TRUE;
    device_text (id, CL_DEVICE_NAME, name, sizeof name);
    device_text (id, CL_DEVICE_VERSION, version, sizeof version);
    device_text (id, CL_DRIVER_VERSION, driver, sizeof driver);
    clGetPlatformInfo (platform, CL_PLATFORM_VERSION, sizeof platform_version - 1, platform_version, NULL);
    DEVICE_NUMBER (id, CL_DEVICE_TYPE, cl_device_type, type);
    DEVICE_NUMBER (id, CL_DEVICE_AVAILABLE, cl_bool, there);
    DEVICE_NUMBER (id, CL_DEVICE_COMPILER_AVAILABLE, cl_bool, compiler);
    DEVICE_NUMBER (id, CL_DEVICE_ENDIAN_LITTLE, cl_bool, little);
    DEVICE_NUMBER (id, CL_DEVICE_MAX_COMPUTE_UNITS, cl_uint, units);
    DEVICE_NUMBER (id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, cl_uint, native);
    DEVICE_NUMBER (id, CL_DEVICE_MAX_WORK_GROUP_SIZE, size_t, most_group);
    n_seen++;
    if (!there || !compiler || !little || !strncmp (version, "OpenCL 1.0", 10) || !strncmp (version, "OpenCL 1.1", 10) ||
        !wanted (platform_name, name, type) || n_devices == OPENCL_MAX_DEVICES)
        return;
    struct DpsDevice *d = &devices[n_devices];
    *d = (struct DpsDevice){.platform = platform, .id = id, .is_cpu = (type & CL_DEVICE_TYPE_CPU) != 0, .width = native >= 16 ? 16 : 8};
    DEVICE_NUMBER (id, CL_DEVICE_GLOBAL_MEM_SIZE, cl_ulong, d->memory_bytes);
    DEVICE_NUMBER (id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, cl_ulong, d->most_bytes);
    d->lanes = d->is_cpu && !config ("opencl.lanes", lanes, sizeof lanes) ? 1 : most_group >= 64 ? 64 : 1;
    d->most_local = most_group > 1024 ? 1024 : (int32_t)most_group;
    opencl_queue_init (&d->own, d);
    pthread_mutex_init (&d->lock, NULL);
    snprintf (d->name, sizeof d->name, "opencl:%d", n_devices);
    snprintf (d->detail, sizeof d->detail, "%s, %s, %s, %u units", platform_name, name, version, units);
    snprintf (d->identity, sizeof d->identity, "%s\n%s\n%s\n%s\n%s", platform_name, platform_version, name, version, driver);
    n_devices++;
}

static void look (void)
{
    cl_platform_id platforms[16];
    cl_uint n_platforms = 0;
    looked = 1;
    no_platforms = clGetPlatformIDs (16, platforms, &n_platforms);
    for (cl_uint p = 0; no_platforms == CL_SUCCESS && p < n_platforms && p < 16; p++) {
        cl_device_id ids[16];
        cl_uint n = 0;
        char name[128] = "";
        clGetPlatformInfo (platforms[p], CL_PLATFORM_NAME, sizeof name - 1, name, NULL);
        if (clGetDeviceIDs (platforms[p], CL_DEVICE_TYPE_ALL, 16, ids, &n) == CL_SUCCESS)
            for (cl_uint i = 0; i < n && i < 16; i++)
                add_device (platforms[p], name, ids[i]);
    }
}

DpsStatus opencl_enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    DPS_TRY (opencl_clblast_open (err));
    if (!looked)
        look ();
    if (n_devices == 0 && n_seen == 0)
        return dps_fail (
            err, DPS_ERR_DEVICE,
            "opencl: the loader finds no device (%s, %d). Hint: install a driver; tools/deps brings PoCL, which runs on the CPU",
            no_platforms == CL_SUCCESS ? "no platform has one" : "no platform", (int)no_platforms);
    if (n_devices == 0)
        return dps_fail (err, DPS_ERR_DEVICE,
                         "opencl: none of %d devices fits. Hint: OpenCL 1.2 with a compiler is needed; DIAPASON_OPENCL_PLATFORM and "
                         "DIAPASON_OPENCL_DEVICE choose by parts of names",
                         n_seen);
    if (i >= (uint32_t)n_devices)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "opencl has %d devices", n_devices);
    struct DpsDevice *d = &devices[i];
    const DpsDeviceInfo info = {.size = sizeof info, .device = d, .name = d->name, .detail = d->detail, .memory_bytes = d->memory_bytes};
    dps_table_copy (out, out->size < sizeof info ? out->size : sizeof info, &info);
    return DPS_OK;
}

DpsStatus opencl_open (struct DpsDevice *d, DpsError *err)
{
    cl_int e = CL_SUCCESS, lost = atomic_load (&d->lost);
    if (lost)
        return opencl_fail (err, DPS_ERR_DEVICE, lost, "work before this failed, and the context with it");
    if (d->own.queue)
        return DPS_OK;
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)d->platform, 0};
    if (!d->context)
        d->context = clCreateContext (properties, 1, &d->id, NULL, NULL, &e);
    if (!d->context)
        return opencl_fail (err, DPS_ERR_DEVICE, e, "opening the device");
    return opencl_queue_open (&d->own, err);
}

DpsStatus opencl_settle (struct DpsDevice *d, DpsError *err)
{
    cl_int e = d->n_queues ? clFinish (d->own.queue) : CL_SUCCESS;
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "the work of a call");
}

DpsStatus opencl_alloc (struct DpsDevice *d, uint64_t bytes, struct DpsBuffer **out, DpsError *err)
{
    cl_int e = CL_SUCCESS;
    DPS_TRY (opencl_open (d, err));
    if (d->most_bytes && bytes > d->most_bytes)
        return dps_fail (err, DPS_ERR_NOMEM, "opencl: a buffer of %llu bytes; %s allows %llu in one", (unsigned long long)bytes, d->name,
                         (unsigned long long)d->most_bytes);
    struct DpsBuffer *b = dps_calloc (1, sizeof *b);
    if (!b)
        return dps_fail (err, DPS_ERR_NOMEM, "opencl: out of memory");
    b->bytes = bytes ? bytes : 1;
    b->memory = clCreateBuffer (d->context, CL_MEM_READ_WRITE, (b->bytes + 63) / 64 * 64, NULL, &e);
    if (!b->memory) {
        dps_free (b);
        return opencl_fail (err, DPS_ERR_NOMEM, e, "a buffer");
    }
    atomic_fetch_add (&d->used_bytes, b->bytes);
    *out = b;
    return DPS_OK;
}

void opencl_free (struct DpsDevice *d, struct DpsBuffer *b)
{
    if (!b)
        return;
    clReleaseMemObject (b->memory);
    atomic_fetch_sub (&d->used_bytes, b->bytes);
    dps_free (b);
}
