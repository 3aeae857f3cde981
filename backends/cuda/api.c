/* SPDX-License-Identifier: Apache-2.0 */
/* api.c: opens the driver, cuBLASLt and NCCL by soname, through the loader's own search, and finds each function once. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "cuda.h"

/* A driver of CUDA 12.2: cuMemAdvise_v2 is of that release, cuGraphExecUpdate_v2 of 12.0. */
#define DRIVER_LEAST_TEXT "12.2"
enum { DRIVER_LEAST = 12020 };

CudaApi cuda_api;

/* Function pointers from dlsym by their bytes: ISO C has no such cast. */
static int find (void *library, const char *symbol, void *slot, char *reason, size_t cap)
{
    void *address = dlsym (library, symbol);
    memcpy (slot, &address, sizeof address);
    if (!address)
        snprintf (reason, cap, "it has no function %s: it is too old or too new", symbol);
    return address != NULL;
}

static void *open_first (const char *const *sonames, char *reason, size_t cap)
{
    void *library = NULL;
    for (; *sonames && !library; sonames++)
        if (!(library = dlopen (*sonames, RTLD_NOW | RTLD_LOCAL)))
            snprintf (reason, cap, "%s", dlerror ());
    return library;
}

static int find_driver (void *library, char *reason, size_t cap)
{
    int all = 1;
#define CUDA_X(member, symbol, args) all = all && find (library, #symbol, &cuda_api.cu.member, reason, cap);
    CUDA_DRIVER (CUDA_X)
#undef CUDA_X
    return all;
}

static int find_lt (void *library, char *reason, size_t cap)
{
    int all = 1;
#define CUDA_X(member, symbol, result, args) all = all && find (library, #symbol, &cuda_api.lt.member, reason, cap);
    CUDA_LT (CUDA_X)
#undef CUDA_X
    return all;
}

static int find_nccl (void *library, char *reason, size_t cap)
{
    int all = 1;
#define CUDA_X(member, symbol, args) all = all && find (library, #symbol, &cuda_api.nccl.member, reason, cap);
    CUDA_NCCL (CUDA_X)
#undef CUDA_X
    return all;
}

static DpsStatus open_driver (DpsError *err)
{
    static const char *const sonames[] = {"libcuda.so.1", NULL};
    char reason[240] = "";
    int version = 0;
    void *library = open_first (sonames, reason, sizeof reason);
    if (!library)
        return dps_fail (err, DPS_ERR_NOT_FOUND,
                         "cuda: this machine has no NVIDIA driver: %s. Hint: nvidia-smi must work; the driver is no "
                         "part of the toolkit that tools/deps --cuda brings",
                         reason);
    if (!find_driver (library, reason, sizeof reason))
        return dps_fail (err, DPS_ERR_VERSION,
                         "cuda: libcuda.so.1 does not fit: %s. Hint: install a driver of CUDA " DRIVER_LEAST_TEXT " or later", reason);
    CuResult r = cuda_api.cu.init (0);
    if (r == CU_OK)
        r = cuda_api.cu.version (&version);
    if (r != CU_OK) {
        const char *text = NULL;
        cuda_api.cu.error_text (r, &text);
        return dps_fail (err, r == CU_NO_DEVICE ? DPS_ERR_NOT_FOUND : DPS_ERR_DEVICE,
                         "cuda: the driver does not start: %s (%u). Hint: "
                         "nvidia-smi must list a GPU",
                         text ? text : "unknown error", (unsigned)r);
    }
    if (version < DRIVER_LEAST)
        return dps_fail (err, DPS_ERR_VERSION,
                         "cuda: the driver speaks CUDA %d.%d, expected " DRIVER_LEAST_TEXT " or later. Hint: update the NVIDIA driver",
                         version / 1000, version % 1000 / 10);
    return DPS_OK;
}

DpsStatus cuda_api_open (DpsError *err)
{
    static const char *const lt[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL}, *const nccl[] = {"libnccl.so.2", NULL};
    DPS_TRY (open_driver (err));
    void *library = open_first (lt, cuda_api.lt_reason, sizeof cuda_api.lt_reason);
    cuda_api.has_lt = library && find_lt (library, cuda_api.lt_reason, sizeof cuda_api.lt_reason);
    library = open_first (nccl, cuda_api.nccl_reason, sizeof cuda_api.nccl_reason);
    cuda_api.has_nccl = library && find_nccl (library, cuda_api.nccl_reason, sizeof cuda_api.nccl_reason);
    return DPS_OK;
}
