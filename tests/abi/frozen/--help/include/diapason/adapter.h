/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adapter.h: `dps.adapter/1`: a parameterisation of a linear map (LoRA, DoRA, QLoRA), not an algorithm. It says which parameters a
 * matched weight gets and rewrites y = linear(x) with the host's graph builder; the host differentiates what it wrote.
 * Shapes: W (O,K) = (out_features, in_features); x (N,K), y (N,O); A (r,K), B (O,r). Since: ABI 0.1.
 */
#ifndef DIAPASON_ADAPTER_H
#define DIAPASON_ADAPTER_H

#include "diapason/objective.h"

#define DPS_ADAPTER_ID "dps.adapter/1"

struct DpsBuilder;       /* the host's graph under construction */
typedef int32_t DpsNode; /* a tensor of it; -1: absent */

/**
 * What forward may call, each recording ops of ops.h. Row-independent by construction, so the host can run different adapters on row ranges
 * of one base product. A failed call returns -1 and the builder remembers the error. Thread: [any], one builder at a time.
 */
typedef struct DpsBuilderOps {
    size_t size;
    /** y = base linear map applied to x (or to a rewritten x): the opaque node of the host, bias excluded. */
    DpsNode (*base) (struct DpsBuilder *b, DpsNode x);
    /** alpha·x·pᵀ [+ c]: x (N,k), p (m,k) a parameter of this adapter, c and the result (N,m). c = -1: absent. */
    DpsNode (*linear) (struct DpsBuilder *b, DpsNode x, DpsNode p, DpsNode c, double alpha);
    /** x + y, of one shape. */
    DpsNode (*add) (struct DpsBuilder *b, DpsNode x, DpsNode y);
    /** x[n,d]·v[d]. */
    DpsNode (*mul_cols) (struct DpsBuilder *b, DpsNode x, DpsNode v);
    /** x/y elementwise; no gradient flows to y. */
    DpsNode (*div) (struct DpsBuilder *b, DpsNode x, DpsNode y);
    /** Dropout of probability p in [0, 1) with the host's counter-based generator; the identity outside training. */
    DpsNode (*dropout) (struct DpsBuilder *b, DpsNode x, double p);
    /** ‖W + s·B·A‖ per output row (O,), a (r,K), bb (O,r); no gradient flows through it: DoRA's norm. */
    DpsNode (*weight_norm) (struct DpsBuilder *b, DpsNode a, DpsNode bb, double s);
    /** x - y, of one shape. */
    DpsNode (*sub) (struct DpsBuilder *b, DpsNode x, DpsNode y);
} DpsBuilderOps;

/** One trainable tensor an adapter adds to a matched weight (O,K). */
typedef struct DpsAdapterParam {
    size_t size;
    const char *suffix; /* PEFT's: "lora_A.weight"; static storage */
    uint32_t rank;      /* 1 or 2 */
    uint32_t init;      /* DPS_INIT_* */
    int64_t shape[2];
    double init_scale; /* of DPS_INIT_NORMAL */
} DpsAdapterParam;

/** The matched base weight, read by ranges of rows, in f32. Borrowed for one call. */
typedef struct DpsAdapterRows {
    size_t size;
    void *ctx;
    int64_t out_features, in_features;
    /** Rows [row, row+rows) into dst (rows, K). Errors: SHAPE (range), those of the device. */
    DpsStatus (*read) (void *ctx, int64_t row, int64_t rows, float *dst, DpsError *err);
} DpsAdapterRows;

enum {
    DPS_INIT_ZERO = 0,
    DPS_INIT_KAIMING_UNIFORM = 1, /* U(-1/√K, 1/√K): what PEFT's kaiming_uniform_(a=√5) amounts to */
    DPS_INIT_NORMAL = 2,          /* N(0, init_scale²) */
    DPS_INIT_WEIGHT_NORM = 3,     /* the row norms of W + s·B·A at the start: DoRA's magnitude */
    DPS_INIT_OWN = 4              /* what DpsAdapter.init computes */
};

typedef struct DpsAdapterInfo {
    size_t size;
    const char *name;              /* "lora" */
    const char *summary;           /* one line */
    const char *reference;         /* paper or other source */
    const DpsParam *const *params; /* r, alpha, dropout … */
    uint32_t n_params;
    uint32_t reserved;
} DpsAdapterInfo;

typedef struct DpsAdapter {
    size_t size;
    /** What this adapter is. Static storage. [any] */
    const DpsAdapterInfo *(*describe) (void);
    /**
     * An instance from parameter values in the order of describe (as DpsObjective.create gets them; borrowed). Owns: *out, freed with destroy.
     * Errors: INVALID, NOMEM. [init]
     */
    DpsStatus (*create) (const double *num, const DpsStr *str, void **out, DpsError *err);
    void (*destroy) (void *self); /* NULL is fine. [init] */

    /**
     * The parameters for a weight `name` (O,K): fills *out[0..*n), each struct's size set by the caller; *n ≤ 8: on entry the room, on
     * return how many. Errors: SHAPE, INVALID; out is undefined then. Pure. [any]
     */
    DpsStatus (*attach) (void *self, DpsStr name, int64_t out_features, int64_t in_features, DpsAdapterParam *const *out, uint32_t *n,
                         DpsError *err);

    /**
     * *out_y (N,O) from x (N,K): records ops; params in the order of attach. A builder's error needs no check here: the host looks for it on
     * return. Errors: SHAPE, INVALID. [any]
     */
    DpsStatus (*forward) (void *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x, const DpsNode *params, uint32_t n_params,
                          DpsNode *out_y, DpsError *err);

    /**
     * Rows [row, row+rows) of the adapted weight, f32, in place over those of W (rows, K). params in host f32, in the order of attach.
     * NULL slot: the adapter cannot be merged. Errors: INVALID, NOMEM; w is undefined then. Pure. [any]
     */
    DpsStatus (*merge) (void *self, const float *const *params, int64_t out_features, int64_t in_features, int64_t row, int64_t rows,
                        float *w, DpsError *err);

    /**
     * Whether it can adapt weight `name` of this shape and dtype (DPS_DTYPE_*; 0: not known yet): OK, or UNSUPPORTED with the reason, which
     * the user reads. Asked before attach. NULL slot: any matrix. Pure. [any]
     */
    DpsStatus (*match) (void *self, DpsStr name, const int64_t *shape, uint32_t rank, uint32_t dtype, DpsError *err);

    /**
     * Values of a fresh parameter that attach marked DPS_INIT_OWN: number `param` of attach's list, into out (all its elements, f32). May read W.
     * Same instance, name and W: same bits. NULL slot: attach marks none. Errors: those of w->read, NONFINITE. [any]
     */
    DpsStatus (*init) (void *self, DpsStr name, uint32_t param, const DpsAdapterRows *w, float *out, DpsError *err);
} DpsAdapter;

#endif
