/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api.h: what the cuda backend calls of the driver, cuBLASLt and NCCL, opened at run time. The few declarations are our own, so that the host
 * code builds, and runs in tests, where there is no toolkit; tests/cuda/toolkit_check.c compares each with NVIDIA's headers (tools/test --full).
 * It defines CUDA_TOOLKIT_TYPES, after which the names below are those headers' own types.
 *
 * Why the driver and not the runtime library: one dlopen decides whether this machine can run CUDA, and nothing is linked.
 */
#ifndef DPS_BACKENDS_CUDA_API_H
#define DPS_BACKENDS_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef CUDA_TOOLKIT_TYPES
typedef CUresult CuResult;
typedef CUdevice_attribute CuAttribute;
typedef CUmemLocation CuLocation;
typedef CUmem_advise CuAdvice;
typedef CUstreamCaptureMode CuCaptureMode;
typedef CUgraphExecUpdateResultInfo CuGraphUpdate;
typedef cublasStatus_t LtStatus;
typedef cublasComputeType_t LtCompute;
typedef cudaDataType LtType;
typedef cublasLtHandle_t LtHandle;
typedef cublasLtMatmulDesc_t LtDesc;
typedef cublasLtMatrixLayout_t LtLayout;
typedef cublasLtMatmulPreference_t LtPreference;
typedef cublasLtMatmulDescAttributes_t LtDescAttribute;
typedef cublasLtMatmulPreferenceAttributes_t LtPreferenceAttribute;
typedef cublasLtMatmulAlgo_t LtAlgo;
typedef cublasLtMatmulHeuristicResult_t LtHeuristic;
typedef ncclResult_t NcclResult;
typedef ncclDataType_t NcclType;
typedef ncclRedOp_t NcclReduce;
typedef ncclUniqueId NcclId;
typedef ncclConfig_t NcclConfig;
#else
typedef uint32_t CuResult, CuAttribute, CuAdvice, CuCaptureMode;
typedef struct CuLocation {
    uint32_t type;
    int id;
} CuLocation;
typedef struct CuGraphUpdate {
    uint32_t result;
    void *error_node, *error_from_node;
} CuGraphUpdate;
typedef uint32_t LtStatus, LtCompute, LtType, LtDescAttribute, LtPreferenceAttribute;
typedef struct LtContext *LtHandle;
typedef struct LtDescOpaque *LtDesc;
typedef struct LtLayoutOpaque *LtLayout;
typedef struct LtPreferenceOpaque *LtPreference;
typedef struct LtAlgo {
    uint64_t data[8];
} LtAlgo;
typedef struct LtHeuristic {
    LtAlgo algo;
    size_t workspaceSize;
    LtStatus state;
    float wavesCount;
    int reserved[4];
} LtHeuristic;
typedef uint32_t NcclResult, NcclType, NcclReduce;
typedef struct NcclId {
    char internal[128];
} NcclId;
/* As of NCCL 2.14: later ones read `size` bytes of it and take their defaults for the rest. */
typedef struct NcclConfig {
    size_t size;
    unsigned int magic, version;
    int blocking;
} NcclConfig;
#endif

typedef int CuDevice;
typedef unsigned long long CuPointer;
typedef struct CUctx_st *CuContext;
typedef struct CUmod_st *CuModule;
typedef struct CUfunc_st *CuFunction;
typedef struct CUstream_st *CuStream;
typedef struct CUevent_st *CuEvent;
typedef struct CUgraph_st *CuGraph;
typedef struct CUgraphExec_st *CuGraphExec;
typedef struct ncclComm *NcclComm;

enum {
    CU_OK = 0,
    CU_INVALID_VALUE = 1,
    CU_OUT_OF_MEMORY = 2,
    CU_DEINITIALIZED = 4,
    CU_NO_DEVICE = 100,
    CU_INVALID_IMAGE = 200,
    CU_NO_BINARY = 209,
    CU_UNSUPPORTED_PTX = 222,
    CU_NOT_FOUND = 500,
    CU_NOT_READY = 600,
    CU_ILLEGAL_ADDRESS = 700,
    CU_LAUNCH_FAILED = 719,
    CU_CAPTURE_UNSUPPORTED = 900,
    CU_GRAPH_UPDATE_FAILURE = 910,
    /* cuDeviceGetAttribute */
    CU_ATTRIBUTE_THREADS = 1,
    CU_ATTRIBUTE_MULTIPROCESSORS = 16,
    CU_ATTRIBUTE_MAJOR = 75,
    CU_ATTRIBUTE_MINOR = 76,
    CU_ATTRIBUTE_MANAGED = 83,
    CU_ATTRIBUTE_CONCURRENT_MANAGED = 89,
    /* flags */
    CU_ATTACH_GLOBAL = 1,
    CU_HOST_PORTABLE = 1,
    CU_REGISTER_PORTABLE = 1,
    CU_REGISTER_READ_ONLY = 8,
    CU_ADVISE_PREFERRED = 3,
    CU_LOCATION_DEVICE = 1,
    CU_NON_BLOCKING = 1,
    CU_EVENT_TIMING_OFF = 2,
    CU_CAPTURE_RELAXED = 2,
    /* cuBLASLt */
    LT_OK = 0,
    LT_ALLOC_FAILED = 3,
    LT_NOT_SUPPORTED = 15,
    LT_COMPUTE_32F = 68,
    LT_COMPUTE_32I = 72,
    LT_F32 = 0,
    LT_F16 = 2,
    LT_I8 = 3,
    LT_I32 = 10,
    LT_BF16 = 14,
    LT_DESC_TRANSA = 3,
    LT_DESC_TRANSB = 4,
    LT_DESC_EPILOGUE = 7,
    LT_DESC_BIAS_POINTER = 8,
    LT_OP_N = 0,
    LT_OP_T = 1,
    LT_EPILOGUE_BIAS = 4,
    LT_PREF_WORKSPACE = 1,
    LT_PREF_REDUCTION = 3,
    LT_PREF_ALIGN_A = 5,
    LT_PREF_ALIGN_B = 6,
    LT_PREF_ALIGN_C = 7,
    LT_PREF_ALIGN_D = 8,
    /* NCCL */
    NCCL_OK = 0,
    NCCL_INVALID_USAGE = 5,
    NCCL_IN_PROGRESS = 7,
    NCCL_CONFIG_VERSION = 21400,
    NCCL_I8 = 0,
    NCCL_U8 = 1,
    NCCL_I32 = 2,
    NCCL_I64 = 4,
    NCCL_F16 = 6,
    NCCL_F32 = 7,
    NCCL_F64 = 8,
    NCCL_BF16 = 9,
    NCCL_SUM = 0,
    NCCL_MAX = 2,
    NCCL_MIN = 3
};

/** The driver: X (member, symbol, arguments). All return CuResult. */
#define CUDA_DRIVER(X)                                                                                                                     \
    X (init, cuInit, (unsigned int))                                                                                                       \
    X (version, cuDriverGetVersion, (int *))                                                                                               \
    X (error_name, cuGetErrorName, (CuResult, const char **))                                                                              \
    X (error_text, cuGetErrorString, (CuResult, const char **))                                                                            \
    X (device_count, cuDeviceGetCount, (int *))                                                                                            \
    X (device_get, cuDeviceGet, (CuDevice *, int))                                                                                         \
    X (device_name, cuDeviceGetName, (char *, int, CuDevice))                                                                              \
    X (device_attribute, cuDeviceGetAttribute, (int *, CuAttribute, CuDevice))                                                             \
    X (device_memory, cuDeviceTotalMem_v2, (size_t *, CuDevice))                                                                           \
    X (context_retain, cuDevicePrimaryCtxRetain, (CuContext *, CuDevice))                                                                  \
    X (context_release, cuDevicePrimaryCtxRelease_v2, (CuDevice))                                                                          \
    X (context_use, cuCtxSetCurrent, (CuContext))                                                                                          \
    X (priority_range, cuCtxGetStreamPriorityRange, (int *, int *))                                                                        \
    X (module_load, cuModuleLoadData, (CuModule *, const void *))                                                                          \
    X (module_unload, cuModuleUnload, (CuModule))                                                                                          \
    X (module_function, cuModuleGetFunction, (CuFunction *, CuModule, const char *))                                                       \
    X (launch, cuLaunchKernel,                                                                                                             \
       (CuFunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, CuStream, void **,   \
        void **))                                                                                                                          \
    X (mem_info, cuMemGetInfo_v2, (size_t *, size_t *))                                                                                    \
    X (mem_alloc, cuMemAlloc_v2, (CuPointer *, size_t))                                                                                    \
    X (mem_managed, cuMemAllocManaged, (CuPointer *, size_t, unsigned int))                                                                \
    X (mem_free, cuMemFree_v2, (CuPointer))                                                                                                \
    X (mem_advise, cuMemAdvise_v2, (CuPointer, size_t, CuAdvice, CuLocation))                                                              \
    X (host_alloc, cuMemHostAlloc, (void **, size_t, unsigned int))                                                                        \
    X (host_free, cuMemFreeHost, (void *))                                                                                                 \
    X (host_register, cuMemHostRegister_v2, (void *, size_t, unsigned int))                                                                \
    X (host_unregister, cuMemHostUnregister, (void *))                                                                                     \
    X (copy_in, cuMemcpyHtoDAsync_v2, (CuPointer, const void *, size_t, CuStream))                                                         \
    X (copy_out, cuMemcpyDtoHAsync_v2, (void *, CuPointer, size_t, CuStream))                                                              \
    X (copy_inside, cuMemcpyDtoDAsync_v2, (CuPointer, CuPointer, size_t, CuStream))                                                        \
    X (fill_bytes, cuMemsetD8Async, (CuPointer, unsigned char, size_t, CuStream))                                                          \
    X (stream_create, cuStreamCreateWithPriority, (CuStream *, unsigned int, int))                                                         \
    X (stream_destroy, cuStreamDestroy_v2, (CuStream))                                                                                     \
    X (stream_sync, cuStreamSynchronize, (CuStream))                                                                                       \
    X (stream_wait, cuStreamWaitEvent, (CuStream, CuEvent, unsigned int))                                                                  \
    X (capture_begin, cuStreamBeginCapture_v2, (CuStream, CuCaptureMode))                                                                  \
    X (capture_end, cuStreamEndCapture, (CuStream, CuGraph *))                                                                             \
    X (graph_free, cuGraphDestroy, (CuGraph))                                                                                              \
    X (graph_instantiate, cuGraphInstantiateWithFlags, (CuGraphExec *, CuGraph, unsigned long long))                                       \
    X (graph_update, cuGraphExecUpdate_v2, (CuGraphExec, CuGraph, CuGraphUpdate *))                                                        \
    X (graph_launch, cuGraphLaunch, (CuGraphExec, CuStream))                                                                               \
    X (graph_exec_free, cuGraphExecDestroy, (CuGraphExec))                                                                                 \
    X (event_create, cuEventCreate, (CuEvent *, unsigned int))                                                                             \
    X (event_destroy, cuEventDestroy_v2, (CuEvent))                                                                                        \
    X (event_record, cuEventRecord, (CuEvent, CuStream))                                                                                   \
    X (event_query, cuEventQuery, (CuEvent))                                                                                               \
    X (event_sync, cuEventSynchronize, (CuEvent))

/** cuBLASLt: X (member, symbol, result, arguments). */
#define CUDA_LT(X)                                                                                                                         \
    X (version, cublasLtGetVersion, size_t, (void))                                                                                        \
    X (status_text, cublasLtGetStatusString, const char *, (LtStatus))                                                                     \
    X (create, cublasLtCreate, LtStatus, (LtHandle *))                                                                                     \
    X (destroy, cublasLtDestroy, LtStatus, (LtHandle))                                                                                     \
    X (desc_create, cublasLtMatmulDescCreate, LtStatus, (LtDesc *, LtCompute, LtType))                                                     \
    X (desc_destroy, cublasLtMatmulDescDestroy, LtStatus, (LtDesc))                                                                        \
    X (desc_set, cublasLtMatmulDescSetAttribute, LtStatus, (LtDesc, LtDescAttribute, const void *, size_t))                                \
    X (layout_create, cublasLtMatrixLayoutCreate, LtStatus, (LtLayout *, LtType, uint64_t, uint64_t, int64_t))                             \
    X (layout_destroy, cublasLtMatrixLayoutDestroy, LtStatus, (LtLayout))                                                                  \
    X (pref_create, cublasLtMatmulPreferenceCreate, LtStatus, (LtPreference *))                                                            \
    X (pref_destroy, cublasLtMatmulPreferenceDestroy, LtStatus, (LtPreference))                                                            \
    X (pref_set, cublasLtMatmulPreferenceSetAttribute, LtStatus, (LtPreference, LtPreferenceAttribute, const void *, size_t))              \
    X (heuristic, cublasLtMatmulAlgoGetHeuristic, LtStatus,                                                                                \
       (LtHandle, LtDesc, LtLayout, LtLayout, LtLayout, LtLayout, LtPreference, int, LtHeuristic *, int *))                                \
    X (algo_check, cublasLtMatmulAlgoCheck, LtStatus,                                                                                      \
       (LtHandle, LtDesc, LtLayout, LtLayout, LtLayout, LtLayout, const LtAlgo *, LtHeuristic *))                                          \
    X (matmul, cublasLtMatmul, LtStatus,                                                                                                   \
       (LtHandle, LtDesc, const void *, const void *, LtLayout, const void *, LtLayout, const void *, const void *, LtLayout, void *,      \
        LtLayout, const LtAlgo *, void *, size_t, CuStream))

/** NCCL: X (member, symbol, arguments). All return NcclResult. */
#define CUDA_NCCL(X)                                                                                                                       \
    X (version, ncclGetVersion, (int *))                                                                                                   \
    X (unique_id, ncclGetUniqueId, (NcclId *))                                                                                             \
    X (init, ncclCommInitRankConfig, (NcclComm *, int, NcclId, int, NcclConfig *))                                                         \
    X (abort, ncclCommAbort, (NcclComm))                                                                                                   \
    X (async_error, ncclCommGetAsyncError, (NcclComm, NcclResult *))                                                                       \
    X (all_reduce, ncclAllReduce, (const void *, void *, size_t, NcclType, NcclReduce, NcclComm, CuStream))                                \
    X (reduce_scatter, ncclReduceScatter, (const void *, void *, size_t, NcclType, NcclReduce, NcclComm, CuStream))                        \
    X (all_gather, ncclAllGather, (const void *, void *, size_t, NcclType, NcclComm, CuStream))                                            \
    X (broadcast, ncclBroadcast, (const void *, void *, size_t, NcclType, int, NcclComm, CuStream))                                        \
    X (send, ncclSend, (const void *, size_t, NcclType, int, NcclComm, CuStream))                                                          \
    X (recv, ncclRecv, (void *, size_t, NcclType, int, NcclComm, CuStream))                                                                \
    X (group_start, ncclGroupStart, (void))                                                                                                \
    X (group_end, ncclGroupEnd, (void))

#define CUDA_X(member, symbol, args) CuResult (*member) args;
typedef struct CudaDriver {
    CUDA_DRIVER (CUDA_X)
} CudaDriver;
#undef CUDA_X
#define CUDA_X(member, symbol, result, args) result (*member) args;
typedef struct CudaLt {
    CUDA_LT (CUDA_X)
} CudaLt;
#undef CUDA_X
#define CUDA_X(member, symbol, args) NcclResult (*member) args;
typedef struct CudaNccl {
    CUDA_NCCL (CUDA_X)
} CudaNccl;
#undef CUDA_X

#endif
