/* SPDX-License-Identifier: Apache-2.0 */
/* decompose_kit.h: the vocabulary decompositions are written in: every value is a matrix (rows, columns). Internal to the stage. */
#ifndef DPS_GRAPH_DECOMPOSE_KIT_H
#define DPS_GRAPH_DECOMPOSE_KIT_H

#include "graph/graph.h"

static inline int64_t kit_rows (const DpsGraph *g, DpsNode x) { return x < 0 ? 0 : g->tensors[x].shape[0]; }
static inline int64_t kit_cols (const DpsGraph *g, DpsNode x) { return x < 0 ? 0 : g->tensors[x].rank > 1 ? g->tensors[x].shape[1] : 1; }

static inline DpsNode kit_op (DpsGraph *g, DpsOpCode op, DpsNode a, DpsNode b, DpsScalar s0, DpsScalar s1)
{
    return dps_graph_op (g, op, (DpsNode[]){a, b}, b < 0 ? 1 : 2, (DpsScalar[]){s0, s1}, 2, g->compute, NULL, 1);
}

/** An operand read or written as (rows, cols). */
static inline DpsNode kit_as (DpsGraph *g, DpsNode operand, int64_t rows, int64_t cols)
{
    if (operand < 0 || g->status != DPS_OK)
        return -1;
    DpsTensor t = g->tensors[operand];
    if (dps_tensor_elements (&t) != rows * cols)
        return dps_graph_fail (g, DPS_ERR_SHAPE, "decomposition: %lld numbers, expected %lld × %lld", (long long)dps_tensor_elements (&t),
                               (long long)rows, (long long)cols);
    return dps_graph_state (g, t.index, t.dtype, 2, (int64_t[]){rows, cols});
}

static inline DpsNode kit_fill (DpsGraph *g, int64_t rows, int64_t cols, double value)
{
    DpsNode y = dps_graph_temp (g, g->compute, 2, (int64_t[]){rows, cols});
    dps_graph_op (g, DPS_OP_fill, NULL, 0, (DpsScalar[]){{.f = value}}, 1, g->compute, &y, 1);
    return y;
}

/** first, first + step, … : n of them. */
static inline DpsNode kit_range (DpsGraph *g, int64_t first, int64_t step, int64_t n)
{
    DpsNode y = dps_graph_temp (g, DPS_DTYPE_I32, 1, &n);
    dps_graph_op (g, DPS_OP_range, NULL, 0, (DpsScalar[]){{.i = first}, {.i = step}}, 2, DPS_DTYPE_I32, &y, 1);
    return y;
}

/** n rows of x from `first`, every step-th. */
static inline DpsNode kit_gather (DpsGraph *g, DpsNode x, int64_t first, int64_t step, int64_t n)
{
    return kit_op (g, DPS_OP_gather_rows, x, kit_range (g, first, step, n), (DpsScalar){.i = 0}, (DpsScalar){.i = 0});
}

/** The rows of x into rows first, first + step … of the operand y; nothing when y is absent. */
static inline void kit_put (DpsGraph *g, DpsNode x, DpsNode y, int64_t first, int64_t step)
{
    if (y >= 0)
        dps_graph_op (g, DPS_OP_put_rows, (DpsNode[]){x, kit_range (g, first, step, kit_rows (g, x))}, 2, NULL, 0, g->compute, &y, 1);
}

static inline void kit_store (DpsGraph *g, DpsNode x, DpsNode y) { kit_put (g, x, kit_as (g, y, kit_rows (g, x), kit_cols (g, x)), 0, 1); }

/** p·a + q·b */
static inline DpsNode kit_add (DpsGraph *g, DpsNode a, DpsNode b, double p, double q)
{
    return kit_op (g, DPS_OP_add, a, b, (DpsScalar){.f = p}, (DpsScalar){.f = q});
}

static inline DpsNode kit_scale (DpsGraph *g, DpsNode a, double p) { return p == 1 ? a : kit_add (g, a, a, p, 0); }

/** p·a + constant */
static inline DpsNode kit_affine (DpsGraph *g, DpsNode a, double p, double constant)
{
    return kit_add (g, a, kit_fill (g, kit_rows (g, a), kit_cols (g, a), constant), p, 1);
}

static inline DpsNode kit_mul (DpsGraph *g, DpsNode a, DpsNode b)
{
    return kit_op (g, DPS_OP_mul, a, b, (DpsScalar){.i = 0}, (DpsScalar){.i = 0});
}
static inline DpsNode kit_div (DpsGraph *g, DpsNode a, DpsNode b)
{
    return kit_op (g, DPS_OP_div, a, b, (DpsScalar){.i = 0}, (DpsScalar){.i = 0});
}
/** exp, log, sqrt. */
static inline DpsNode kit_map (DpsGraph *g, DpsOpCode op, DpsNode a)
{
    return kit_op (g, op, a, -1, (DpsScalar){.i = 0}, (DpsScalar){.i = 0});
}
static inline DpsNode kit_softcap (DpsGraph *g, DpsNode a, double cap)
{
    return cap > 0 ? kit_op (g, DPS_OP_softcap, a, -1, (DpsScalar){.f = cap}, (DpsScalar){.i = 0}) : a;
}
/** 1 − (capped/cap)²: what softcap multiplies gradients by; ones without a cap. */
static inline DpsNode kit_softcap_slope (DpsGraph *g, DpsNode capped, double cap)
{
    return cap > 0 ? kit_affine (g, kit_mul (g, capped, capped), -1 / (cap * cap), 1)
                   : kit_fill (g, kit_rows (g, capped), kit_cols (g, capped), 1);
}

/** alpha·x·Wᵀ and alpha·dy·W. */
static inline DpsNode kit_linear (DpsGraph *g, DpsNode x, DpsNode w, double alpha)
{
    return kit_op (g, DPS_OP_linear, x, w, (DpsScalar){.f = alpha}, (DpsScalar){.i = 0});
}
static inline DpsNode kit_linear_dx (DpsGraph *g, DpsNode dy, DpsNode w, double alpha)
{
    return kit_op (g, DPS_OP_linear_dx, dy, w, (DpsScalar){.f = alpha}, (DpsScalar){.i = 0});
}
/** dw += alpha·dyᵀ·x, root by root. */
static inline void kit_linear_dw (DpsGraph *g, DpsNode dy, DpsNode x, DpsNode roots, double alpha, DpsNode dw)
{
    dps_graph_op (g, DPS_OP_linear_dw, (DpsNode[]){dy, x, roots}, 3, (DpsScalar[]){{.f = alpha}}, 1, g->compute, &dw, 1);
}

/** (N,D) → (N,1), and (N,1) → (N,cols). */
static inline DpsNode kit_row_sum (DpsGraph *g, DpsNode x) { return kit_linear (g, x, kit_fill (g, 1, kit_cols (g, x), 1), 1); }
static inline DpsNode kit_spread (DpsGraph *g, DpsNode x, int64_t cols) { return kit_linear (g, x, kit_fill (g, cols, 1, 1), 1); }

/** The largest of each row, (N,1); its column in *out_at (may be NULL). */
static inline DpsNode kit_row_max (DpsGraph *g, DpsNode x, DpsNode *out_at)
{
    DpsNode out[2] = {-1, -1};
    dps_graph_op (g, DPS_OP_row_max, &x, 1, NULL, 0, g->compute, out, 2);
    if (out_at)
        *out_at = out[1];
    return out[0];
}

/** 1 in column ids[n] of row n, 0 elsewhere. */
static inline DpsNode kit_one_hot (DpsGraph *g, DpsNode ids, int64_t cols)
{
    DpsNode y = dps_graph_temp (g, g->compute, 2, (int64_t[]){kit_rows (g, ids), cols});
    dps_graph_op (g, DPS_OP_one_hot, &ids, 1, NULL, 0, g->compute, &y, 1);
    return y;
}

/* decompose_attention.c, decompose_logprobs.c: the large ones. */
void dps__decompose_attention (DpsGraph *g, const DpsRecord *r);
void dps__decompose_attention_bwd (DpsGraph *g, const DpsRecord *r);
void dps__decompose_token_logprobs (DpsGraph *g, const DpsRecord *r);
void dps__decompose_row_logprobs (DpsGraph *g, const DpsRecord *r);
void dps__decompose_token_logprobs_dw (DpsGraph *g, const DpsRecord *r);

#endif
