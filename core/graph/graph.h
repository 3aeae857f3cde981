/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graph.h: one step as a list of op records over tensors. Architectures and adapters record forward ops; dps_graph_backward appends their
 * adjoints, which are op records too. A graph holds shapes, never data: exec/ lays its tensors in memory and runs it.
 *
 * Shape letters: N tokens of all segments, D width, S scored positions, V vocabulary, O/K output/input width of a linear map.
 * Errors are sticky: after the first one every call returns -1, and dps_graph_status tells it.
 */
#ifndef DPS_GRAPH_GRAPH_H
#define DPS_GRAPH_GRAPH_H

#include "base/status.h"
#include "diapason/adapter.h"
#include "diapason/ops.h"

/** Op codes, in the order of ops.def: internal numbers, never stored or sent. */
typedef enum DpsOpCode {
#define OP(name, n_in, n_out, shape, adjoint) DPS_OP_##name,
#include "graph/ops.def"
#undef OP
    DPS_OP_COUNT
} DpsOpCode;

typedef enum DpsTensorKind {
    DPS_TENSOR_TEMP,  /* laid in the arena for as long as it is needed */
    DPS_TENSOR_PARAM, /* a model parameter; index = its number */
    DPS_TENSOR_GRAD,  /* the f32 gradient of parameter index, accumulated over the step */
    DPS_TENSOR_INPUT, /* bound by the caller of run; index = DpsInput */
    DPS_TENSOR_STATE  /* kept between runs (a cache); index = the caller's number */
} DpsTensorKind;

/** What the caller binds at run time. Row tables are i32 unless said. */
typedef enum DpsInput {
    DPS_INPUT_IDS,          /* (N) */
    DPS_INPUT_SEGMENTS,     /* u8 (n, sizeof (DpsSegment)) */
    DPS_INPUT_ROOTS,        /* (R+1) offsets of the roots among the N tokens */
    DPS_INPUT_SCORED,       /* (S) rows whose hidden state is scored */
    DPS_INPUT_TARGETS,      /* (S) */
    DPS_INPUT_SCORED_ROOTS, /* (R+1) offsets of the roots among the S rows */
    DPS_INPUT_KEYS,         /* i64 (N) dropout keys */
    DPS_INPUT_DLOGP,        /* f32 (S) d loss / d logp */
    DPS_INPUT_DSCORE,       /* f32 (S,1) d loss / d score */
    DPS_INPUT_DVALUE,       /* f32 (S,1) d loss / d value */
    DPS_INPUT_CACHE_ROWS,   /* (N) row of the cache each token's key and value go to */
    DPS_INPUT_ROPE0,        /* f32 (h/2) inverse frequencies, one input per rope table */
    DPS_INPUT_ROPE1,
    DPS_INPUT_COUNT
} DpsInput;

typedef struct DpsTensor {
    DpsTensorKind kind;
    uint32_t dtype;
    uint32_t rank;
    int32_t index;
    int64_t shape[4];
    uint8_t requires_grad;
    uint8_t keep;    /* the host reads it after the run: lives to the end */
    int32_t def;     /* op that first writes it, -1: none */
    int32_t last;    /* op that last touches it */
    uint64_t offset; /* bytes in the arena, set by exec's plan */
} DpsTensor;

enum { DPS_OP_MAX_IN = 8, DPS_OP_MAX_OUT = 4, DPS_OP_MAX_ATTRS = 8 };

typedef struct DpsRecord {
    uint16_t op; /* DpsOpCode */
    uint8_t n_in, n_out, n_attrs;
    uint8_t backward;
    uint8_t head;  /* products of the output head, of which log-probs are taken afterwards */
    int16_t layer; /* the layer it belongs to, -1 outside */
    DpsNode in[DPS_OP_MAX_IN];
    DpsNode out[DPS_OP_MAX_OUT];
    DpsScalar attrs[DPS_OP_MAX_ATTRS];
} DpsRecord;

typedef struct DpsGraph {
    DpsTensor *tensors;
    size_t n_tensors, tensor_capacity;
    DpsRecord *ops;
    size_t n_ops, op_capacity;
    size_t n_forward;  /* ops before the first backward one; n_ops before dps_graph_backward */
    int16_t layer;     /* given to the next records */
    uint8_t training;  /* save what adjoints need; dropout is active */
    uint32_t compute;  /* dtype of activations: f32, bf16 or f64 */
    uint32_t residual; /* dtype of the residual stream and of what is added to it */
    DpsNode inputs[DPS_INPUT_COUNT];
    DpsNode seeds[DPS_INPUT_COUNT]; /* the forward value whose gradient that input is, or -1 */
    DpsNode *params, *grads;        /* node of parameter i, or -1; both [n_params] */
    size_t n_params;
    DpsStatus status;
    DpsError err;
} DpsGraph;

/** An empty graph for a model of n_params parameters. Owns its arrays: dps_graph_free. [any] */
DpsStatus dps_graph_init (DpsGraph *g, size_t n_params, uint32_t compute, int training, DpsError *err);
void dps_graph_free (DpsGraph *g);
DpsStatus dps_graph_status (const DpsGraph *g, DpsError *err);
DpsNode dps_graph_fail (DpsGraph *g, DpsStatus code, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));

/** New tensors. shape has `rank` entries. */
DpsNode dps_graph_temp (DpsGraph *g, uint32_t dtype, uint32_t rank, const int64_t *shape);
DpsNode dps_graph_input (DpsGraph *g, DpsInput input, uint32_t dtype, uint32_t rank, const int64_t *shape);
DpsNode dps_graph_param (DpsGraph *g, int32_t index, uint32_t dtype, uint32_t rank, const int64_t *shape, int requires_grad);
DpsNode dps_graph_state (DpsGraph *g, int32_t index, uint32_t dtype, uint32_t rank, const int64_t *shape);
/** The accumulated f32 gradient of a parameter node. */
DpsNode dps_graph_grad_of (DpsGraph *g, DpsNode param);

/**
 * Record one op; absent inputs are -1. Outputs are made by the op's shape rule in `dtype` (out[] receives them; n_out wanted), or, for
 * ops whose rule is `given`, taken from out[]. Returns out[0].
 */
DpsNode dps_graph_op (DpsGraph *g, DpsOpCode op, const DpsNode *in, uint32_t n_in, const DpsScalar *attrs, uint32_t n_attrs, uint32_t dtype,
                      DpsNode *out, uint32_t n_out);

/** The gradient of `value` will come from `input`: where backward starts. */
void dps_graph_seed (DpsGraph *g, DpsNode value, DpsInput input);

/** Append the adjoints of everything the seeded values depend on. checkpoint: recompute each layer in its backward pass. */
DpsStatus dps_graph_backward (DpsGraph *g, int checkpoint, DpsError *err);

int64_t dps_tensor_elements (const DpsTensor *t);
uint64_t dps_tensor_bytes (const DpsTensor *t);
uint64_t dps_dtype_bytes (uint32_t dtype);
const char *dps_dtype_name (uint32_t dtype);
const char *dps_op_name (DpsOpCode op);

#endif
