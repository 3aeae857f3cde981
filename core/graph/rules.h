/* SPDX-License-Identifier: Apache-2.0 */
/* rules.h: what graph.c and backward.c ask about one op: its output shapes and its adjoint. Internal to the stage. */
#ifndef DPS_GRAPH_RULES_H
#define DPS_GRAPH_RULES_H

#include "graph/graph.h"

/** Make (or, for `given` ops, check) the record's outputs; optional outputs only when an adjoint will read them. */
void dps__op_shape (DpsGraph *g, DpsRecord *r, uint32_t dtype, int needs_grad);

int dps__op_differentiable (DpsOpCode op);

/** The driver's side of an adjoint: the gradient node of each forward tensor so far. */
typedef struct DpsAdjoint {
    DpsGraph *g;
    DpsNode *grad; /* [n] gradient of forward tensor i, -1: none yet */
    size_t n;
} DpsAdjoint;

/** Emit the adjoint of one forward record, given the gradient of its first output. */
void dps__op_adjoint (DpsAdjoint *a, const DpsRecord *r, DpsNode dy);

#endif
