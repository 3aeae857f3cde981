/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights.h: the numbers of a model: frozen weights in the form the arithmetic wants (packed once, no second copy), trained ones with their
 * f32 master, gradient and optimizer moments.
 */
#ifndef DPS_EXEC_WEIGHTS_H
#define DPS_EXEC_WEIGHTS_H

#include "exec/exec.h"
#include "graph/model.h"
#include "graph/source.h"

typedef struct DpsStore {
    DpsBlock rows; /* row-major, rows_dtype; empty when only packed forms are kept */
    uint32_t rows_dtype;
    uint32_t layout[2];
    DpsBlock packed[2];  /* DPS_PACK_FORWARD, DPS_PACK_INPUT_GRAD */
    DpsBlock master;     /* f32, when it trains and rows is bf16; else rows is the master */
    DpsBlock grad, m, v; /* f32, when it trains */
    DpsBlock codes;      /* of a quantised weight, its parts behind them */
    DpsPart parts[DPS_QPARTS];
    const DpsPart *part_list[DPS_QPARTS];
    uint32_t n_parts;
    uint64_t lookups; /* bytes at the end of grad that embed_dw adds to: those of an embedding that is the head too, else 0 */
} DpsStore;

/** Bytes by category, as `diapason plan` prints them. */
typedef struct DpsWeightBytes {
    uint64_t rows, packed_forward, packed_grad, master, gradients, optimizer;
    uint64_t quantised, quantised_numbers; /* bytes, and how many weights they stand for */
} DpsWeightBytes;

typedef struct DpsWeights {
    DpsExec *ex;
    const DpsModel *model;
    uint32_t compute; /* DPS_DTYPE_F32, BF16 or F64 */
    int training;
    int outline;      /* stores say forms only */
    DpsStore *stores; /* [model->n_weights] */
    DpsBlock *states; /* caches, set by infer */
    size_t n_states;
    DpsWeightBytes bytes;
} DpsWeights;

enum { DPS_WEIGHTS_INFERENCE = 0, DPS_WEIGHTS_TRAINING = 1 };

/**
 * The forms every weight would be kept in, without memory: for DpsBindings that only place (dps_exec_measure). Free with dps_weights_free.
 * Errors: NOMEM. [any]
 */
DpsStatus dps_weights_outline (DpsWeights *w, DpsExec *ex, const DpsModel *model, uint32_t compute, int training, DpsError *err);

/** What load would allocate. n_moments: 2 for AdamW, 1 for SGD with momentum, 0. Pure. [any] */
DpsStatus dps_weights_measure (DpsExec *ex, const DpsModel *model, uint32_t compute, int training, int n_moments, DpsWeightBytes *out,
                               DpsError *err);

/**
 * Allocate everything and read the pretrained weights from `src` (NULL: they are left for dps_weights_set). Adapters are left for
 * dps_weights_init or _set.
 * progress may be NULL. Errors: NOT_FOUND (a tensor the model needs), SHAPE (names both shapes), the source's. [init]
 */
DpsStatus dps_weights_load (DpsWeights *w, DpsExec *ex, const DpsModel *model, DpsSource *src, uint32_t compute, int training,
                            int n_moments, DpsError *err);
void dps_weights_free (DpsWeights *w);

/** A fresh adapter (not frozen ones nor heads, which keep what was set): as each DpsAdapterParam says, from `seed`; a draw depends on the weight's name and position only. [init] */
DpsStatus dps_weights_init (DpsWeights *w, uint64_t seed, DpsError *err);

/** One of them. [init] */
DpsStatus dps_weights_init_one (DpsWeights *w, int32_t weight, uint64_t seed, DpsError *err);

/** Copy a weight out of or into its f32 master (trained or adapter weights; also frozen ones kept as rows). n elements. */
DpsStatus dps_weights_get (const DpsWeights *w, int32_t weight, float *out, DpsError *err);
DpsStatus dps_weights_set (DpsWeights *w, int32_t weight, const float *values, DpsError *err);

/**
 * The f32 master and the gradient of a trained weight, in place; n elements each. An embedding that is the head too gathers its two
 * gradients apart, each root by root, so that no cut into micro-batches changes the order of the sums; they are added here. Ask for it
 * after the last micro-batch of a step.
 */
float *dps_weights_master (const DpsWeights *w, int32_t weight);
/** The same where blocks may be no host memory: the block of the f32 master (without a buffer: it has none); the gradient is stores[].grad. */
const DpsBlock *dps_weights_master_block (const DpsWeights *w, int32_t weight);
DpsStatus dps_weights_join_grad (DpsWeights *w, int32_t weight, DpsError *err);
float *dps_weights_grad (const DpsWeights *w, int32_t weight);
int64_t dps_weight_elements (const DpsWeight *w);

/** Before a step: all gradients to zero. After one: packed and bf16 forms of what trained are made again. [device-serial] */
DpsStatus dps_weights_zero_grads (DpsWeights *w, DpsError *err);
DpsStatus dps_weights_refresh (DpsWeights *w, DpsError *err);

/** Rows [row, row + n) of a base weight that is kept as rows or quantised, in f32. Errors: UNSUPPORTED (kept packed only), SHAPE. */
DpsStatus dps_weights_rows (const DpsWeights *w, int32_t weight, int64_t row, int64_t n, float *out, DpsError *err);

/* weights_quant.c. A weight is quantised when its form says so and it does not train. */
int dps__weight_quantised (const DpsWeight *spec, int training);
/** Its bytes, codes and parts. Errors: SHAPE with the weight's name. */
DpsStatus dps__quantised_bytes (const DpsWeight *spec, uint64_t *out, DpsError *err);
/** Lay out its parts, and allocate it unless w->outline. */
DpsStatus dps__quantised_open (DpsWeights *w, int32_t weight, DpsError *err);
/** Its codes from the source: as they are stored there, or made. buffer: `rows` of it in f32. */
DpsStatus dps__quantised_load (DpsWeights *w, int32_t weight, DpsSource *src, float *buffer, int64_t rows, DpsError *err);
/** The view an op gets. */
void dps__quantised_view (const DpsWeights *w, int32_t weight, DpsView *out);

/** DpsBindings.resolve with ctx = DpsWeights. */
DpsStatus dps_weights_resolve (void *ctx, DpsTensorKind kind, int32_t index, DpsOpCode op, int slot, DpsView *out, DpsError *err);

#endif
