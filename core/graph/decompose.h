/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decompose.h: what each fused op is, said in simple ones (linear, add, exp, row_max …). The fallback of a backend that lacks the fused kernel,
 * and the oracle of a conformance test for one that has it. Slow and wasteful on purpose: every intermediate is a whole matrix.
 */
#ifndef DPS_GRAPH_DECOMPOSE_H
#define DPS_GRAPH_DECOMPOSE_H

#include "graph/graph.h"

/** Whether op has a decomposition. */
int dps_op_decomposes (DpsOpCode op);

/**
 * Record simple ops that write r->out from r->in as the fused op would. g is a graph of its own, in which the operands are contiguous tensors
 * of kind DPS_TENSOR_STATE (absent ones -1): they are read and written under other shapes of the same size. Intermediates are g->compute.
 * Errors: UNSUPPORTED, SHAPE, in the graph's status. [any]
 */
DpsStatus dps_graph_decompose (DpsGraph *g, const DpsRecord *r, DpsError *err);

#endif
