/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.h: the host's side of the ops whose kernels are in this folder: which kernel, which arguments, which geometry. It is written once, over the
 * few things a backend gives (DpsLaunch), and compiled into each backend that runs the kernels. An op is a row of the table of its family
 * (launch_FAMILY.c); dps_launch_run finds it, checks its operands and calls its function.
 */
#ifndef DPS_DIALECT_LAUNCH_H
#define DPS_DIALECT_LAUNCH_H

#include "base/mem.h"
#include "base/opcall.h"
#include "diapason/diapason.h"

enum { DPS_KERNEL_ARGS = 64 };

enum { DPS_ARG_BUFFER, DPS_ARG_I32, DPS_ARG_I64, DPS_ARG_F32 };

typedef struct DpsKernelArg {
    uint32_t kind; /* DPS_ARG_* */
    union {
        struct DpsBuffer *buffer; /* NULL: an absent operand */
        int32_t i32;
        int64_t i64;
        float f32;
    } as;
} DpsKernelArg;

/** One launch. */
typedef struct DpsKernel {
    const char *family, *name; /* "norm", "dps_rms_norm": the file and the function */
    uint32_t n_args;
    int64_t groups[3]; /* work-groups; nothing is launched when one is 0 */
    int32_t local[3];  /* work-items of a group */
    DpsKernelArg args[DPS_KERNEL_ARGS];
} DpsKernel;

/** A matrix product with a weight in any of its forms: y = alpha·a·Wᵀ (+ bias + c), or with INPUT_GRAD alpha·a·W (+ c). */
typedef struct DpsProduct {
    const DpsView *a;        /* (M, K) */
    const DpsView *w;        /* rows, packed for this orientation, or quantised */
    uint32_t orientation;    /* DPS_PACK_* */
    int64_t first, count;    /* FORWARD: the rows of W that are used; 0, 0: all */
    float alpha;             /* 1: nothing is multiplied */
    const DpsView *bias, *c; /* or NULL */
    const DpsView *y;        /* (M, N); c may be y */
    int by_codes;            /* FORWARD: an INT8 weight is multiplied by codes of a, where the backend does that (multiply_codes) */
} DpsProduct;

/** dW (O,K) f32 += alpha·Σ over rows of each root of dyᵀ·x, one partial a root, in order. */
typedef struct DpsOuter {
    const DpsView *dy, *x, *roots, *dw;
    float alpha;
} DpsOuter;

/** y (M,N) = alpha·Σ_k a·b + bias + c, with f32 sums. Matrices are dense rows: a is (M,K), or (K,M) when turned; b is (N,K), or (K,N) when turned. */
typedef struct DpsMatrices {
    const DpsView *a, *b, *bias, *c, *y; /* f32, bf16 or f16; bias (N), c as y: or NULL */
    int a_turned, b_turned;
    int64_t M, N, K, ldy; /* ldy: from row to row of c and y */
    float alpha;
} DpsMatrices;

enum {                     /* blocks of scratch, each kept and grown: a function uses those of its own family */
       DPS_SCRATCH_A,      /* multiply: a in another form */
       DPS_SCRATCH_PANELS, /* multiply: b in another form */
       DPS_SCRATCH_SUM,    /* multiply: an f32 sum for dps_launch_finish */
       DPS_SCRATCH_ROWS,   /* product: rows of a quantised weight as numbers */
       DPS_SCRATCH_OP,     /* the op's own; not across a product's */
       DPS_SCRATCH_OP2,
       DPS_SCRATCH_OP3,
       DPS_SCRATCH_OP4,
       DPS_SCRATCHES
};

/** What a backend gives. Everything is in one queue, in order; nothing waits but read. [device-serial] */
typedef struct DpsLaunch {
    const char *who; /* "opencl", for messages */
    void *ctx;
    int32_t lanes;      /* DPS_LANES of the kernels */
    int32_t most_local; /* work-items a group may have */
    const DpsQuantNames *quants;
    DpsStatus (*launch) (void *ctx, const DpsKernel *k, DpsError *err);
    /** `bytes` of device memory, good until the next scratch of the same slot. out: a u8 view without shape. Errors: NOMEM. */
    DpsStatus (*scratch) (void *ctx, uint32_t slot, uint64_t bytes, DpsView *out, DpsError *err);
    /** n bytes of a view to host memory, after what was launched; from host memory, before what will be. Errors: DEVICE. */
    DpsStatus (*read) (void *ctx, const DpsView *from, void *to, uint64_t bytes, DpsError *err);
    DpsStatus (*write) (void *ctx, const void *from, const DpsView *to, uint64_t bytes, DpsError *err);
    /** The backend's way to multiply; it may use the slots named so below. An element's sum must not depend on M, N or other elements. */
    DpsStatus (*multiply) (const struct DpsLaunch *l, const DpsMatrices *m, DpsError *err);
    /**
     * sum (M,N) i32 = Σ_k a·b of i8: a (M,K), b (N,K), N and K multiples of 4. NULL: weights of INT8 are numbers first, as ops.h has them. Errors:
     * UNSUPPORTED: so is this one.
     */
    DpsStatus (*multiply_codes) (const struct DpsLaunch *l, const DpsView *a, const DpsView *b, const DpsView *sum, DpsError *err);
} DpsLaunch;

/** Products, by the backend's multiply (launch_product.c). */
DpsStatus dps_launch_product (const DpsLaunch *l, const DpsProduct *p, DpsError *err);
DpsStatus dps_launch_outer (const DpsLaunch *l, const DpsOuter *o, DpsError *err);
/** DpsLaunch.multiply by product.cl: tiles in local memory, for devices whose groups have many work-items. */
DpsStatus dps_launch_multiply (const DpsLaunch *l, const DpsMatrices *m, DpsError *err);
/** Can the device run those tiles? */
int dps_launch_tiles (const DpsLaunch *l);
/* For a multiply by a library. */
/** v, or its numbers in another dtype in scratch. shape: of one axis, borrowed by out. */
DpsStatus dps_launch_as_dtype (const DpsLaunch *l, const DpsView *v, uint32_t dtype, uint32_t slot, int64_t *shape, DpsView *out,
                               DpsError *err);
/** Is all there is to add to the product in y already? */
int dps_launch_adds_to_y (const DpsMatrices *m);
/** y = sum + bias + c: sum is alpha·Σ_k a·b, (M,N) f32. */
DpsStatus dps_launch_finish (const DpsLaunch *l, const DpsMatrices *m, const DpsView *sum, DpsError *err);

typedef DpsStatus (*DpsLaunchFunction) (const DpsLaunch *l, DpsOpCall *c);

/** One op. in, out: as dps_opcall_check reads them, with a dtype of f32, bf16 or f16 where it says float. */
typedef struct DpsLaunchOp {
    const char *name, *in, *out;
    DpsLaunchFunction check; /* what letters cannot say; NULL: nothing. No side effects, no memory looked at */
    DpsLaunchFunction run;
} DpsLaunchOp;

/** The families, ended by a row without a name. */
extern const DpsLaunchOp dps_launch_elementwise[], dps_launch_norm[], dps_launch_rows[], dps_launch_optim[], dps_launch_linear[];
extern const DpsLaunchOp dps_launch_attention[], dps_launch_positions[], dps_launch_gates[], dps_launch_logprobs[], dps_launch_dora[];

/** Give every op its number. Errors: LIMIT. [init] */
DpsStatus dps_launch_init (uint32_t (*intern) (DpsStr), DpsError *err);
/** DpsBackend.run: check, and launch unless flags say DRY. */
DpsStatus dps_launch_run (const DpsLaunch *l, const DpsOp *op, uint32_t flags, DpsError *err);

/* Writing a launch. */

DpsKernel dps_kernel (const char *family, const char *name);
/** An IN or OUT: buffer, offset, dtype. NULL: absent. */
void dps_arg (DpsKernel *k, const DpsView *v);
/** An IN_OF or OUT_OF: buffer, offset. NULL: absent. */
void dps_arg_of (DpsKernel *k, const DpsView *v);
/** A part of a quantised view as IN_OF of elements of `bytes` bytes; absent when it has none of this role. */
void dps_arg_part (DpsKernel *k, const DpsLaunch *l, const DpsView *v, DpsQuantPart part, uint32_t bytes);
void dps_arg_i32 (DpsKernel *k, int64_t value);
void dps_arg_i64 (DpsKernel *k, int64_t value);
void dps_arg_f32 (DpsKernel *k, double value);
/** One group a row (x groups), `lanes` work-items each. */
DpsStatus dps_launch_rows_of (const DpsLaunch *l, DpsKernel *k, int64_t rows, DpsError *err);
/** Blocks of a flat array of n elements. */
DpsStatus dps_launch_flat (const DpsLaunch *l, DpsKernel *k, int64_t n, DpsError *err);
/** groups[0..2] and local[0..2] as set. */
DpsStatus dps_launch_grid (const DpsLaunch *l, const DpsKernel *k, DpsError *err);

/** Bytes of an element; 0 for a dtype without a fixed size. */
uint32_t dps_launch_bytes (uint32_t dtype);
int dps_launch_quantised (const DpsLaunch *l, const DpsView *v);
/** A contiguous view of scratch: shape is borrowed. */
DpsStatus dps_launch_temp (const DpsLaunch *l, uint32_t slot, uint32_t dtype, uint32_t rank, const int64_t *shape, DpsView *out,
                           DpsError *err);
/** Rows [row, row + n) of a row-major view of rank 2; shape[2] is filled in and borrowed by the result. */
DpsView dps_launch_rows_view (const DpsView *v, int64_t row, int64_t n, int64_t shape[2]);
/**
 * Where the host has a copy of an index table (DpsView.host), its values are checked; elsewhere kernels skip what is out of range.
 * Errors: INVALID with the place.
 */
DpsStatus dps_launch_indices (const DpsOpCall *c, const DpsView *v, const char *what, int64_t limit);
DpsStatus dps_launch_roots (const DpsOpCall *c, const DpsView *roots, int64_t rows);

/**
 * dequantise.cl: rows [row, row + n) of a quantised (O,K) weight as numbers into y (n,K), f32, rounded to bf16 on the way when `rounded`
 * (ops.h, "Quantised weights").
 */
DpsStatus dps_launch_dequantise (const DpsLaunch *l, const DpsView *w, int64_t row, int64_t n, int rounded, const DpsView *y,
                                 DpsError *err);
/** The parts of a quantised operand: there, and of the sizes they must have where the host can tell. Errors: INVALID, SHAPE, DTYPE. */
DpsStatus dps_launch_parts (const DpsLaunch *l, const DpsOpCall *c, const DpsView *w);
/** y[i] = scale·row ids[i] of a table in any form but a packed one. */
DpsStatus dps_launch_take_rows (const DpsLaunch *l, const DpsView *table, const DpsView *ids, double scale, const DpsView *y,
                                DpsError *err);
/** As that, of a quantised table: for dps_launch_take_rows. */
DpsStatus dps_launch_dequantise_ids (const DpsLaunch *l, const DpsView *table, const DpsView *ids, double scale, const DpsView *y,
                                     DpsError *err);

/**
 * The segment table as kernels take it, whole i32s; scratch OP4 holds it where it begins at no multiple of 4. Where the host has a copy its rows are
 * checked; n_kv −1: keys are not looked at. Errors: SHAPE, INVALID.
 */
DpsStatus dps_launch_segments (const DpsLaunch *l, const DpsOpCall *c, const DpsView *table, int64_t n_q, int64_t n_kv, DpsView *out_words);
void dps_arg_segments (DpsKernel *k, const DpsView *words);
DpsStatus dps_launch_window (const DpsOpCall *c, int64_t window);

/* Queues (`dps.stream/1`): what those of all who run the dialect have in common. */

/** One shape, one dtype of fixed size, no gaps between elements. Errors: SHAPE, DTYPE, UNSUPPORTED, naming `who`. [any] */
DpsStatus dps_queue_check_copy (const char *who, const DpsView *from, const DpsView *to, DpsError *err);

/** DpsQueues.sync for a limit of timeout_ms ≥ 0, by DpsQueues.query. Errors: TIMEOUT; those of query. [any] */
DpsStatus dps_queue_poll (const DpsQueues *queues, struct DpsEvent *event, int64_t timeout_ms, const char *who, DpsError *err);

/* For those who poll: the monotonic clock, and a twentieth of a millisecond of sleep. */
int64_t dps_queue_now_ms (void);
void dps_queue_pause (void);

#endif
