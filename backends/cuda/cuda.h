/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda.h: what the files of the cuda backend share. One DpsDevice for each GPU, with the primary context of the driver; kernels come from the
 * dialect (backends/dialect), compiled ahead into fat binaries that are part of the plugin; matrix products from cuBLASLt where it is installed.
 *
 * Buffers are managed memory where the GPU pages it on demand: host and device then use one address, and DPS_DEVICE_HOST_MEMORY holds.
 * Operands that are only host memory (token ids, tables of segments) are staged: copied in, and outputs out again.
 * Calls on one device are serial but for those of different queues: what these share is under the device's lock.
 */
#ifndef DPS_BACKENDS_CUDA_H
#define DPS_BACKENDS_CUDA_H

#include <pthread.h>
#include <stdatomic.h>

#include "../dialect/launch.h"
#include "api.h"
#include "base/mem.h"
#include "base/status.h"
#include "diapason/diapason.h"

#ifndef CUDA_LANES
#define CUDA_LANES 128 /* DPS_LANES the kernels are compiled with: CMakeLists.txt says it to both */
#endif

enum { CUDA_MAX_DEVICES = 16, CUDA_MAX_GRID_YZ = 65535 };

/* api.c */

/** The opened libraries. driver is there in a loaded plugin; the others where has_ says so, else why not. */
typedef struct CudaApi {
    CudaDriver cu;
    CudaLt lt;
    CudaNccl nccl;
    int has_lt, has_nccl;
    char lt_reason[240], nccl_reason[240];
} CudaApi;
extern CudaApi cuda_api;
/** Open libcuda and initialise it; then cuBLASLt and NCCL, which may be missing. Errors: NOT_FOUND, VERSION, DEVICE with the next step. [init] */
DpsStatus cuda_api_open (DpsError *err);

/** The host's table, copied in init. */
extern DpsHost cuda_host;
/** The host's should_stop, where it has one. [any] */
int cuda_should_stop (void);
extern DpsQuantNames cuda_quants;
int cuda_devices (void);
/** GPU i of cuda_devices (), opened. Errors: those of the driver. [init] */
DpsStatus cuda_device (int i, struct DpsDevice **out, DpsError *err);

/* memory.c */

enum { CUDA_KIND_DEFAULT, CUDA_KIND_DEVICE, CUDA_KIND_PINNED, CUDA_KINDS, CUDA_KIND_IMPORTED = CUDA_KINDS };

struct DpsBuffer {
    CuPointer ptr; /* as kernels see it */
    void *host;    /* NULL: the host cannot reach it */
    uint64_t bytes;
    uint32_t kind;
};

/** Device memory kept and grown between calls, by slot: DPS_SCRATCH_* of the dialect, then these. */
enum { CUDA_SLOT_STAGE = DPS_SCRATCHES, CUDA_SLOT_GEMM, CUDA_SLOT_RANKS, CUDA_SLOTS };

/* queue.c */

struct DpsQueue {
    struct DpsDevice *dev;
    CuStream stream;
    struct DpsBuffer slots[CUDA_SLOTS];
    struct DpsBuffer *retired; /* what larger blocks replaced: work in the queue may still use it */
    size_t n_retired, cap_retired;
    struct CudaGiven *given; /* of the communicator that last worked here; NULL: none */
    int synchronous;         /* idle whenever a call begins: host copies of operands may be read */
    int capturing;           /* into a graph: no copies to or from host memory, no waiting */
};

/* kernel.c */

typedef struct CudaKernel {
    char name[64];
    CuFunction function;
} CudaKernel;

struct CudaGemm; /* gemm.c */

struct DpsDevice {
    int ordinal;
    CuDevice handle;
    CuContext context;
    char name[16];    /* "cuda:0" */
    char detail[240]; /* "NVIDIA H100, sm_90, 132 SMs, driver 13.0, cuBLASLt 13.1.0" */
    uint64_t memory_bytes;
    int managed;                /* the default kind is managed memory that the host may read between ops */
    CuResult lost;              /* not 0: what the driver said when it lost the device; every later call fails with it */
    struct DpsQueue own;        /* synchronous calls */
    pthread_mutex_t lock;       /* of what follows */
    struct DpsBuffer **buffers; /* by address */
    size_t n_buffers, cap_buffers;
    CuModule *modules;
    size_t n_modules;
    CudaKernel *kernels; /* those asked for so far */
    size_t n_kernels, cap_kernels;
    struct CudaGemm *gemm; /* NULL: no cuBLASLt */
    int int8;              /* linear multiplies an INT8 weight by codes */
};

/* device.c */

/** Make the device's context current. Errors: DEVICE when it is lost. [any] */
DpsStatus cuda_enter (struct DpsDevice *dev, DpsError *err);
/** What the driver answered as an error that names the device and `what` was done; OK stays OK. Remembers a lost device. [any] */
DpsStatus cuda_check (struct DpsDevice *dev, CuResult r, const char *what, DpsError *err);
DpsStatus cuda_device_open (struct DpsDevice *dev, int ordinal, DpsError *err);
/** Frees what the backend itself holds; buffers of the caller stay the caller's. [init] */
void cuda_device_close (struct DpsDevice *dev);

/** The blobs: one fat binary for each family of the dialect. fatbin.c, made by CMake; NULL-terminated. */
typedef struct CudaBlob {
    const char *family; /* "norm" */
    const void *image;
} CudaBlob;
extern const CudaBlob cuda_blobs[];

/** A kernel of a family by its name in the dialect. Errors: UNSUPPORTED (no blob has it), DEVICE. [any] */
DpsStatus cuda_kernel (struct DpsDevice *dev, const char *family, const char *name, CuFunction *out, DpsError *err);

/* memory.c */

DpsStatus cuda_alloc (struct DpsDevice *dev, uint32_t kind, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err);
void cuda_free (struct DpsDevice *dev, struct DpsBuffer *b);
/**
 * The buffer that holds `bytes` bytes at offset of *buffer, or at host; *buffer stays NULL when it is host memory only. Errors: INVALID past the
 * end. [any]
 */
DpsStatus cuda_locate (struct DpsDevice *dev, const void *host, uint64_t bytes, struct DpsBuffer **buffer, uint64_t *offset, DpsError *err);
/** Slot `slot` of a queue, of at least `bytes`, aligned to 256; good until it is asked for again. Errors: NOMEM, DEVICE. [stream-serial] */
DpsStatus cuda_scratch (struct DpsQueue *q, uint32_t slot, uint64_t bytes, struct DpsBuffer **out, DpsError *err);
/** Free what growth replaced, and with `all` the slots too; only when the queue is idle. */
void cuda_scratch_trim (struct DpsQueue *q, int all);
extern const DpsMemory cuda_memory;
DpsStatus cuda_mem_info (struct DpsDevice *dev, uint64_t *out_free, uint64_t *out_total, DpsError *err);

/* queue.c */
DpsStatus cuda_queue_init (struct DpsQueue *q, struct DpsDevice *dev, int32_t priority, DpsError *err);
void cuda_queue_deinit (struct DpsQueue *q);
/** Wait for all work of the queue. Errors: what happened to it. */
DpsStatus cuda_queue_sync (struct DpsQueue *q, DpsError *err);
DpsStatus cuda_queue_copy (struct DpsQueue *q, const DpsView *from, const DpsView *to, DpsError *err);
extern const DpsQueues cuda_queues;

/* run.c */

/** Queue one op. Errors: those of DpsBackend.run known at once. [stream-serial] */
DpsStatus cuda_queue_run (struct DpsQueue *q, const DpsOp *op, DpsError *err);
/** The dry answer. Pure. */
DpsStatus cuda_accepts (struct DpsDevice *dev, const DpsOp *op, DpsError *err);
/** DpsLaunch.launch on a queue, and the whole table. */
DpsStatus cuda_launch (void *queue, const DpsKernel *k, DpsError *err);
DpsLaunch cuda_launch_table (struct DpsQueue *q);

/* product.c: DpsLaunch.multiply by cuBLASLt, else by the dialect; its ctx is the queue. */
DpsStatus cuda_multiply (const DpsLaunch *l, const DpsMatrices *p, DpsError *err);
/** DpsLaunch.multiply_codes by cuBLASLt. */
DpsStatus cuda_multiply_codes (const DpsLaunch *l, const DpsView *a, const DpsView *b, const DpsView *sum, DpsError *err);

/* graph.c */
extern const DpsRecorder cuda_recorder;

/* comm.c */

/** Whether a communicator was given up, shared by it, the queues it worked in and their events. */
typedef struct CudaGiven {
    atomic_int refs, aborted;
} CudaGiven;
CudaGiven *cuda_given_ref (CudaGiven *g); /* NULL is fine in both */
void cuda_given_unref (CudaGiven *g);

/* collective.c */
extern const DpsCollective cuda_collective;

/* gemm.c */

/** D (M,N) = alpha·A (M,K)·op(B) + beta·D, row-major. B is (N,K) when b_transposed, else (K,N). */
typedef struct CudaProduct {
    int64_t M, N, K, lda, ldb, ldd;
    CuPointer a, b, d;
    uint32_t ab_dtype, d_dtype; /* DPS_DTYPE_: f32, bf16; i8 with d i32 */
    int a_transposed, b_transposed;
    float alpha, beta; /* of an i32 product: 1 and 0 */
} CudaProduct;
/**
 * By DIAPASON_CUDA_GEMM: cublaslt (default), dialect, or int8, which is cublaslt and dev->int8. dev->gemm stays NULL where cuBLASLt is missing or not
 * wanted. Errors: INVALID, NOT_FOUND (int8 without cuBLASLt), NOMEM, DEVICE.
 */
DpsStatus cuda_gemm_open (struct DpsDevice *dev, DpsError *err);
void cuda_gemm_close (struct DpsDevice *dev);
/** Errors: UNSUPPORTED when cuBLASLt has no algorithm for it: the caller uses the dialect's. [stream-serial] */
DpsStatus cuda_gemm_run (struct DpsQueue *q, const CudaProduct *p, DpsError *err);

#endif
