/* SPDX-License-Identifier: Apache-2.0 */
/* build.h: one function per op an architecture records; arguments in the order of ops.h. -1 is an absent operand. */
#ifndef DPS_GRAPH_BUILD_H
#define DPS_GRAPH_BUILD_H

#include "graph/graph.h"

static inline DpsNode dps_build_embed (DpsGraph *g, DpsNode table, DpsNode ids, double scale)
{
    return dps_graph_op (g, DPS_OP_embed, (DpsNode[]){table, ids}, 2, (DpsScalar[]){{.f = scale}}, 1, g->residual, NULL, 1);
}

/** width: the group that is normalised; 0 the whole row. */
static inline DpsNode dps_build_rms_norm (DpsGraph *g, DpsNode x, DpsNode w, double eps, double offset, int64_t width, uint32_t dtype)
{
    return dps_graph_op (g, DPS_OP_rms_norm, (DpsNode[]){x, w}, 2, (DpsScalar[]){{.f = eps}, {.f = offset}, {.i = width}}, 3, dtype, NULL,
                         2);
}

static inline DpsNode dps_build_linear (DpsGraph *g, DpsNode x, DpsNode w, DpsNode bias, DpsNode c, double alpha, uint32_t dtype)
{
    return dps_graph_op (g, DPS_OP_linear, (DpsNode[]){x, w, bias, c}, 4, (DpsScalar[]){{.f = alpha}}, 1, dtype, NULL, 1);
}

static inline DpsNode dps_build_rope (DpsGraph *g, DpsNode x, DpsNode segments, DpsNode inv_freq, int64_t head_dim, double scale)
{
    return dps_graph_op (g, DPS_OP_rope, (DpsNode[]){x, segments, inv_freq}, 3, (DpsScalar[]){{.i = head_dim}, {.i = 0}, {.f = scale}}, 3,
                         g->compute, NULL, 1);
}

typedef struct DpsAttention {
    int64_t n_heads, n_kv_heads, head_dim;
    double scale;
    int64_t window; /* 0: all of the past */
    double softcap; /* 0: none */
} DpsAttention;

static inline DpsNode dps_build_attention (DpsGraph *g, DpsNode q, DpsNode k, DpsNode v, DpsNode segments, const DpsAttention *a)
{
    DpsScalar attrs[] = {{.i = a->n_heads}, {.i = a->n_kv_heads}, {.i = a->head_dim}, {.f = a->scale}, {.i = a->window}, {.f = a->softcap}};
    return dps_graph_op (g, DPS_OP_attention, (DpsNode[]){q, k, v, segments}, 4, attrs, 6, g->compute, NULL, 2);
}

/** op: DPS_OP_geglu or DPS_OP_swiglu. */
static inline DpsNode dps_build_gate (DpsGraph *g, DpsOpCode op, DpsNode gate, DpsNode up)
{
    return dps_graph_op (g, op, (DpsNode[]){gate, up}, 2, NULL, 0, g->compute, NULL, 1);
}

static inline DpsNode dps_build_add (DpsGraph *g, DpsNode a, DpsNode b, uint32_t dtype)
{
    return dps_graph_op (g, DPS_OP_add, (DpsNode[]){a, b}, 2, (DpsScalar[]){{.f = 1}, {.f = 1}}, 2, dtype, NULL, 1);
}

static inline DpsNode dps_build_gather_rows (DpsGraph *g, DpsNode x, DpsNode rows, uint32_t dtype)
{
    return dps_graph_op (g, DPS_OP_gather_rows, (DpsNode[]){x, rows}, 2, NULL, 0, dtype, NULL, 1);
}

#endif
