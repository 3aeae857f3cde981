/* SPDX-License-Identifier: Apache-2.0 */
/* device.c: one GPU: its primary context, its modules, the kernels found in them, and what a driver error means for the calls after it. */
#include <stdio.h>
#include <string.h>

#include "cuda.h"

/* After these the driver answers nothing but the same error to every call on the context. */
static int loses_device (CuResult r)
{
    static const CuResult fatal[] = {CU_DEINITIALIZED, 46,  214, 220, 226, CU_ILLEGAL_ADDRESS, 702, 709, 710, 714, 715, 716, 717, 718,
                                     CU_LAUNCH_FAILED, 721, 999};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        if (fatal[i] == r)
            return 1;
    return 0;
}

DpsStatus cuda_check (struct DpsDevice *dev, CuResult r, const char *what, DpsError *err)
{
    const char *name = NULL, *text = NULL;
    if (r == CU_OK)
        return DPS_OK;
    cuda_api.cu.error_name (r, &name);
    cuda_api.cu.error_text (r, &text);
    if (loses_device (r))
        dev->lost = r;
    const char *hint = dev->lost ? ". Hint: the device is lost to this process; start again from the last checkpoint, and see dmesg for Xid"
                       : r == CU_OUT_OF_MEMORY ? ". Hint: a smaller micro-batch, checkpointing, or diapason plan --fit"
                                               : "";
    DpsStatus code = r == CU_OUT_OF_MEMORY ? DPS_ERR_NOMEM : DPS_ERR_DEVICE;
    dps_fail (err, code, "%s: %s: %s (%s)%s", dev->name, what, text ? text : "unknown error", name ? name : "?", hint);
    if (err)
        err->vendor_code = (int32_t)r;
    return code;
}

DpsStatus cuda_enter (struct DpsDevice *dev, DpsError *err)
{
    if (dev->lost)
        return cuda_check (dev, dev->lost, "an earlier call failed", err);
    return cuda_check (dev, cuda_api.cu.context_use (dev->context), "its context does not become current", err);
}

static DpsStatus attribute (struct DpsDevice *dev, uint32_t which, int *out, DpsError *err)
{
    return cuda_check (dev, cuda_api.cu.device_attribute (out, (CuAttribute)which, dev->handle), "cuDeviceGetAttribute", err);
}

static DpsStatus describe (struct DpsDevice *dev, DpsError *err)
{
    int major, minor, processors, managed, concurrent, version;
    char model[96] = "", blas[64];
    size_t bytes = 0;
    DPS_TRY (attribute (dev, CU_ATTRIBUTE_MAJOR, &major, err));
    DPS_TRY (attribute (dev, CU_ATTRIBUTE_MINOR, &minor, err));
    DPS_TRY (attribute (dev, CU_ATTRIBUTE_MULTIPROCESSORS, &processors, err));
    DPS_TRY (attribute (dev, CU_ATTRIBUTE_MANAGED, &managed, err));
    DPS_TRY (attribute (dev, CU_ATTRIBUTE_CONCURRENT_MANAGED, &concurrent, err));
    DPS_TRY (cuda_check (dev, cuda_api.cu.device_name (model, (int)sizeof model, dev->handle), "cuDeviceGetName", err));
    DPS_TRY (cuda_check (dev, cuda_api.cu.device_memory (&bytes, dev->handle), "cuDeviceTotalMem", err));
    DPS_TRY (cuda_check (dev, cuda_api.cu.version (&version), "cuDriverGetVersion", err));
    model[sizeof model - 1] = '\0';
    dev->memory_bytes = bytes;
    dev->managed = managed && concurrent;
    size_t lt = cuda_api.has_lt ? cuda_api.lt.version () : 0;
    snprintf (blas, sizeof blas,
              dev->int8   ? "cuBLASLt %zu.%zu.%zu in int8"
              : dev->gemm ? "cuBLASLt %zu.%zu.%zu"
                          : "own matrix products",
              lt / 10000, lt / 100 % 100, lt % 100);
    snprintf (dev->detail, sizeof dev->detail, "%s, sm_%d%d, %d SMs, driver %d.%d, %s%s", model, major, minor, processors, version / 1000,
              version % 1000 / 10, blas, dev->managed ? "" : ", no managed memory");
    return DPS_OK;
}

static DpsStatus driver_too_old (struct DpsDevice *dev, const char *what, DpsError *err)
{
    int version = 0;
    cuda_api.cu.version (&version);
    return dps_fail (
        err, DPS_ERR_VERSION,
        "%s: %s: the driver, of CUDA %d.%d, is older than the compiler that made them. Hint: update the NVIDIA driver, or build with "
        "the nvcc of its CUDA",
        dev->name, what, version / 1000, version % 1000 / 10);
}

static DpsStatus load_modules (struct DpsDevice *dev, DpsError *err)
{
    size_t n = 0;
    while (cuda_blobs[n].image)
        n++;
    dev->modules = dps_calloc (n + 1, sizeof *dev->modules);
    if (!dev->modules)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for its modules", dev->name);
    for (; dev->n_modules < n; dev->n_modules++) {
        char what[80];
        CuResult r = cuda_api.cu.module_load (&dev->modules[dev->n_modules], cuda_blobs[dev->n_modules].image);
        snprintf (what, sizeof what, "the kernels of '%.40s' do not load", cuda_blobs[dev->n_modules].family);
        if (r == CU_NO_BINARY)
            return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: %s: the plugin has code for sm_80, sm_90 and later, this GPU is older",
                             dev->name, what);
        if (r == CU_INVALID_IMAGE || r == CU_UNSUPPORTED_PTX)
            return driver_too_old (dev, what, err);
        DPS_TRY (cuda_check (dev, r, what, err));
    }
    return DPS_OK;
}

static DpsStatus open_parts (struct DpsDevice *dev, DpsError *err)
{
    DPS_TRY (cuda_check (dev, cuda_api.cu.device_get (&dev->handle, dev->ordinal), "cuDeviceGet", err));
    DPS_TRY (cuda_check (dev, cuda_api.cu.context_retain (&dev->context, dev->handle), "no context", err));
    DPS_TRY (cuda_enter (dev, err));
    DPS_TRY (cuda_queue_init (&dev->own, dev, 0, err));
    dev->own.synchronous = 1;
    DPS_TRY (load_modules (dev, err));
    DPS_TRY (cuda_gemm_open (dev, err));
    return describe (dev, err);
}

DpsStatus cuda_device_open (struct DpsDevice *dev, int ordinal, DpsError *err)
{
    *dev = (struct DpsDevice){.ordinal = ordinal};
    snprintf (dev->name, sizeof dev->name, "cuda:%d", ordinal);
    if (pthread_mutex_init (&dev->lock, NULL))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no lock", dev->name);
    DpsStatus st = open_parts (dev, err);
    if (st != DPS_OK)
        cuda_device_close (dev);
    return st;
}

void cuda_device_close (struct DpsDevice *dev)
{
    if (dev->context) {
        cuda_api.cu.context_use (dev->context);
        cuda_gemm_close (dev);
        cuda_queue_deinit (&dev->own);
        for (size_t i = 0; i < dev->n_modules; i++)
            cuda_api.cu.module_unload (dev->modules[i]);
        cuda_api.cu.context_release (dev->handle);
    }
    dps_free (dev->modules);
    dps_free (dev->kernels);
    dps_free (dev->buffers);
    pthread_mutex_destroy (&dev->lock);
    *dev = (struct DpsDevice){0};
}

static DpsStatus find_kernel (struct DpsDevice *dev, const char *family, const char *name, CuFunction *out, DpsError *err)
{
    for (size_t i = 0; i < dev->n_kernels; i++)
        if (!strcmp (dev->kernels[i].name, name)) {
            *out = dev->kernels[i].function;
            return DPS_OK;
        }
    if (DPS_GROW (dev->kernels, dev->n_kernels, dev->cap_kernels))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for a kernel's name", dev->name);
    CudaKernel *k = &dev->kernels[dev->n_kernels];
    if ((size_t)snprintf (k->name, sizeof k->name, "%s", name) >= sizeof k->name)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: a kernel's name has at most %zu bytes: %s", dev->name, sizeof k->name - 1, name);
    size_t i = 0;
    while (i < dev->n_modules && strcmp (cuda_blobs[i].family, family))
        i++;
    CuResult r = i < dev->n_modules ? cuda_api.cu.module_function (&k->function, dev->modules[i], name) : CU_NOT_FOUND;
    if (r == CU_NOT_FOUND)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: the family '%s' has no kernel '%s'", dev->name, family, name);
    DPS_TRY (cuda_check (dev, r, name, err));
    *out = k->function;
    dev->n_kernels++;
    return DPS_OK;
}

DpsStatus cuda_kernel (struct DpsDevice *dev, const char *family, const char *name, CuFunction *out, DpsError *err)
{
    pthread_mutex_lock (&dev->lock);
    DpsStatus st = find_kernel (dev, family, name, out, err);
    pthread_mutex_unlock (&dev->lock);
    return st;
}
