/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h: `dps.backend/1` and its extension `dps.pack/1`: where the arithmetic runs. Five functions make a backend; what it adds later
 * is in stream.h and memory.h. Since: ABI 0.1.
 */
#ifndef DIAPASON_BACKEND_H
#define DIAPASON_BACKEND_H

#include "diapason/ops.h"

#define DPS_BACKEND_ID "dps.backend/1"
#define DPS_PACK_ID    "dps.pack/1"

struct DpsDevice; /* the backend's own */
struct DpsPlan;   /* a prepared op, the backend's own */

enum { DPS_DEVICES_MAX = 64 }; /* of one backend */
enum {
    DPS_DEVICE_HOST_MEMORY = 1 /* buffers are plain host memory: DpsView.host is set and may be read by the host between ops */
};

typedef struct DpsDeviceInfo {
    size_t size;
    struct DpsDevice *device;
    const char *name;   /* "cpu", "opencl:0": what recipes and `explain` say; static for the process */
    const char *detail; /* "oneDNN 2.6.3, AVX512_BF16, 2 threads" */
    uint32_t flags;     /* DPS_DEVICE_* */
    uint32_t reserved;
    uint64_t memory_bytes; /* 0: the host's */
} DpsDeviceInfo;

/** Flags of run. */
enum {
    DPS_RUN_DRY = 1 /* do nothing but answer whether this op, with these shapes, dtypes and layouts, would run: no side effect */
};

/** Determinism classes: what run guarantees about bits. Higher includes lower. */
enum {
    DPS_DETERMINISM_NONE = 0,
    DPS_DETERMINISM_RUN = 1,     /* same call, same bits */
    DPS_DETERMINISM_THREADS = 2, /* … for any thread count */
    DPS_DETERMINISM_BATCH = 3    /* … and a row's bits do not depend on the other rows */
};

typedef struct DpsBackend {
    size_t size;

    /**
     * Device i of at most DPS_DEVICES_MAX, or NOT_FOUND past the last. `out->size` set by the caller. Asked more than once, with the same answers. Owns:
     * out->device and the strings stay the backend's, good for the life of the process. Errors: DEVICE (the driver's own words). Thread: [init].
     */
    DpsStatus (*enumerate) (uint32_t i, DpsDeviceInfo *out, DpsError *err);

    /**
     * bytes (0 too) of device memory, aligned to 64, contents undefined. *out_host: its host address, or NULL where the host cannot reach it.
     * Owns: *out, freed with free (NULL is fine). Errors: NOMEM, DEVICE. Thread: both [device-serial].
     */
    DpsStatus (*alloc) (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err);
    void (*free) (struct DpsDevice *dev, struct DpsBuffer *buffer);

    /**
     * Copy between two windows of one shape and dtype, any of DPS_DTYPES (the host's own copies are u8), row-major without strides, at any
     * byte offset; a size may be 0. At most one side is host memory (buffer NULL, host set), or both with DPS_DEVICE_HOST_MEMORY. Done on return.
     * Errors: SHAPE, DTYPE, DEVICE. Thread: [device-serial].
     */
    DpsStatus (*copy) (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err);

    /**
     * Run one op of ops.h, or with DPS_RUN_DRY answer whether it would: UNSUPPORTED or DTYPE with a reason in err->msg that a user
     * will read in `explain`. A dry call's views may have neither buffer nor host yet. Sizes may be 0; trailing operands and attributes may be left
     * out: look at n_in, n_out and n_attrs. Done on return. Borrows everything until return. Thread: [device-serial].
     * Errors: UNSUPPORTED, DTYPE, SHAPE, NOMEM, DEVICE.
     */
    DpsStatus (*run) (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err);

    /* Optional: NULL slots have the default given. */

    /**
     * Prepare an op once for many runs with the same shapes, strides, dtypes and layouts. What a dry run refuses is refused, with its reason. Buffers
     * and attribute values come with run_plan: the views here may be those of a dry call. Keeps no pointer into op. The four slots come
     * together; default: run is called each time. Owns: *out, freed with plan_free. Errors: those of run. Thread: all four [device-serial].
     */
    DpsStatus (*prepare) (struct DpsDevice *dev, const DpsOp *op, struct DpsPlan **out, DpsError *err);
    /** Scratch bytes a plan needs; 0: none. Else its run_plan has one input more, the last: a u8 view of that many bytes, aligned to 64. */
    uint64_t (*plan_info) (struct DpsDevice *dev, const struct DpsPlan *plan);
    /** The prepared op on these buffers and attribute values. Errors: those of run. */
    DpsStatus (*run_plan) (struct DpsDevice *dev, struct DpsPlan *plan, const DpsOp *op, DpsError *err);
    void (*plan_free) (struct DpsDevice *dev, struct DpsPlan *plan); /* NULL is fine */

    /** Bytes free now and in all. Default: unknown. Errors: DEVICE. [device-serial] */
    DpsStatus (*mem_info) (struct DpsDevice *dev, uint64_t *out_free, uint64_t *out_total, DpsError *err);

    /** DPS_DETERMINISM_*. Default NONE. Tested by `diapason check`. Pure. [any] */
    uint32_t (*determinism) (struct DpsDevice *dev);
} DpsBackend;

/** Orientations of a packed weight: for linear (y = x·Wᵀ) and token_logprobs, or for linear_dx (dx = dy·W). */
enum { DPS_PACK_FORWARD = 0, DPS_PACK_INPUT_GRAD = 1 };

/**
 * `dps.pack/1`: weights repacked once into the backend's layout, one copy for every number of rows.
 * linear, linear_dx and token_logprobs accept W as a view whose layout is the returned one; a backend makes no hidden copies.
 */
typedef struct DpsPack {
    size_t size;

    /**
     * Bytes of the packed form of W (O,K) in `compute_dtype` (f32 or bf16), and its layout number (≥ DPS_LAYOUT_PACKED).
     * Errors: UNSUPPORTED, SHAPE, DTYPE, INVALID (orientation): the host then uses the weight as it is. Pure. Thread: [any].
     */
    DpsStatus (*query) (struct DpsDevice *dev, int64_t out_features, int64_t in_features, uint32_t compute_dtype, uint32_t orientation,
                        uint64_t *out_bytes, uint32_t *out_layout, DpsError *err);

    /**
     * Fill `to` (dtype = compute dtype, layout from query, shape (O,K)) with rows [row, row + rows(from)) of the weight; `from` is
     * row-major f32 or bf16, in host memory. Rows come in any pieces that are multiples of 64 rows except the last.
     * Errors: SHAPE, DTYPE, UNSUPPORTED (no layout of query), NOMEM, DEVICE. Thread: [device-serial].
     */
    DpsStatus (*pack) (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to, DpsError *err);

    /**
     * The reverse for a few rows: rows ids[0..n) of a packed FORWARD weight into row-major y (n,K): an embedding table needs no second copy, and an
     * op that this device refuses gets its weight on another. NULL slot: the host keeps a row-major copy of embeddings, and such an op runs nowhere.
     * Errors: INVALID (no such row), and those of pack. Thread: [device-serial].
     */
    DpsStatus (*unpack_rows) (struct DpsDevice *dev, const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y, DpsError *err);
} DpsPack;

#endif
