/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adjoint.c: for each differentiable op, the ops that carry the gradient of its output back to its inputs. Names are those in ops.def.
 * Gradients of activations have the dtype of the activation; gradients of parameters are f32, added root by root (ops.h).
 * An op with an accumulating operand c (rms_norm_dx, linear_dx) takes the gradient gathered so far, which saves an add.
 */
#include "graph/rules.h"

static DpsGraph *graph (DpsAdjoint *a) { return a->g; }

static int wants (DpsAdjoint *a, DpsNode node) { return node >= 0 && a->g->tensors[node].requires_grad; }

static DpsNode emit (DpsAdjoint *a, DpsOpCode op, const DpsNode *in, uint32_t n_in, const DpsScalar *attrs, uint32_t n_attrs,
                     uint32_t dtype)
{
    return dps_graph_op (graph (a), op, in, n_in, attrs, n_attrs, dtype, NULL, 1);
}

static void emit_into (DpsAdjoint *a, DpsOpCode op, const DpsNode *in, uint32_t n_in, const DpsScalar *attrs, uint32_t n_attrs, DpsNode out)
{
    dps_graph_op (graph (a), op, in, n_in, attrs, n_attrs, DPS_DTYPE_F32, &out, 1);
}

/* Roots among the rows of `node`: the N tokens, or the S scored rows (S < N always: the first token of a sequence is never scored). */
static DpsNode roots_of (DpsAdjoint *a, DpsNode node)
{
    DpsGraph *g = graph (a);
    DpsNode ids = g->inputs[DPS_INPUT_IDS], scored = g->inputs[DPS_INPUT_SCORED_ROOTS];
    int is_tokens = ids >= 0 && g->tensors[node].shape[0] == g->tensors[ids].shape[0];
    return is_tokens || scored < 0 ? g->inputs[DPS_INPUT_ROOTS] : scored;
}

/* To the gradient of `node`; nothing when it needs none. */
static void contribute (DpsAdjoint *a, DpsNode node, DpsNode gradient)
{
    if (!wants (a, node) || gradient < 0)
        return;
    DpsNode old = a->grad[node];
    uint32_t dtype = a->g->tensors[node].dtype;
    a->grad[node] = old < 0 ? gradient : emit (a, DPS_OP_add, (DpsNode[]){old, gradient}, 2, (DpsScalar[]){{.f = 1}, {.f = 1}}, 2, dtype);
}

static void adjoint_none (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    (void)dy;
    dps_graph_fail (graph (a), DPS_ERR_UNSUPPORTED, "graph: %s has no adjoint, and a parameter that is trained depends on it",
                    dps_op_name (r->op));
}

static void adjoint_copy (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    if (wants (a, r->in[0]))
        contribute (a, r->in[0], emit (a, DPS_OP_copy, &dy, 1, NULL, 0, a->g->tensors[r->in[0]].dtype));
}

static void adjoint_add (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    const int plain = !r->n_attrs || (r->attrs[0].f == 0 && r->attrs[1].f == 0); /* ops.h: 1 and 1 */
    for (int i = 0; i < 2; i++) {
        double factor = plain ? 1 : r->attrs[i].f;
        DpsNode x = r->in[i];
        if (!wants (a, x) || factor == 0)
            continue;
        if (factor == 1)
            contribute (a, x, dy);
        else
            contribute (a, x,
                        emit (a, DPS_OP_add, (DpsNode[]){dy, dy}, 2, (DpsScalar[]){{.f = factor}, {.f = 0}}, 2, a->g->tensors[x].dtype));
    }
}

static void adjoint_mul (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    for (int i = 0; i < 2; i++)
        if (wants (a, r->in[i]))
            contribute (a, r->in[i], emit (a, DPS_OP_mul, (DpsNode[]){dy, r->in[1 - i]}, 2, NULL, 0, a->g->tensors[r->in[i]].dtype));
}

static void adjoint_mul_cols (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    DpsNode x = r->in[0], v = r->in[1];
    if (wants (a, x))
        contribute (a, x, emit (a, DPS_OP_mul_cols, (DpsNode[]){dy, v}, 2, NULL, 0, a->g->tensors[x].dtype));
    if (!wants (a, v))
        return;
    if (a->g->tensors[v].kind != DPS_TENSOR_PARAM) {
        dps_graph_fail (graph (a), DPS_ERR_UNSUPPORTED,
                        "graph: the vector of mul_cols must be a parameter to be trained: scale the rows by "
                        "the detached factor first, then by the parameter");
        return;
    }
    emit_into (a, DPS_OP_mul_cols_dv, (DpsNode[]){x, dy, roots_of (a, x)}, 3, NULL, 0, dps_graph_grad_of (graph (a), v));
}

static void adjoint_add_cols (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    contribute (a, r->in[0], dy);
    if (wants (a, r->in[1]))
        emit_into (a, DPS_OP_bias_db, (DpsNode[]){dy, roots_of (a, dy)}, 2, NULL, 0, dps_graph_grad_of (graph (a), r->in[1]));
}

/* The divisor is detached (adapter.h). */
static void adjoint_div (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    if (wants (a, r->in[0]))
        contribute (a, r->in[0], emit (a, DPS_OP_div, (DpsNode[]){dy, r->in[1]}, 2, NULL, 0, a->g->tensors[r->in[0]].dtype));
}

static void adjoint_embed (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    if (wants (a, r->in[0]))
        emit_into (a, DPS_OP_embed_dw, (DpsNode[]){dy, r->in[1], a->g->inputs[DPS_INPUT_ROOTS]}, 3, r->attrs, r->n_attrs,
                   dps_graph_grad_of (graph (a), r->in[0]));
}

static void adjoint_rms_norm (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    DpsNode x = r->in[0], w = r->in[1], rstd = r->out[1];
    if (wants (a, w))
        emit_into (a, DPS_OP_rms_norm_dw, (DpsNode[]){x, rstd, dy, roots_of (a, x)}, 4, r->attrs, r->n_attrs,
                   dps_graph_grad_of (graph (a), w));
    if (wants (a, x))
        a->grad[x] = emit (a, DPS_OP_rms_norm_dx, (DpsNode[]){x, w, rstd, dy, a->grad[x]}, 5, r->attrs, r->n_attrs, a->g->tensors[x].dtype);
}

static void adjoint_linear (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    DpsNode x = r->in[0], w = r->in[1], bias = r->in[2], c = r->in[3];
    if (wants (a, w))
        emit_into (a, DPS_OP_linear_dw, (DpsNode[]){dy, x, roots_of (a, x)}, 3, r->attrs, r->n_attrs, dps_graph_grad_of (graph (a), w));
    if (wants (a, bias))
        emit_into (a, DPS_OP_bias_db, (DpsNode[]){dy, roots_of (a, x)}, 2, NULL, 0, dps_graph_grad_of (graph (a), bias));
    if (wants (a, x))
        a->grad[x] = emit (a, DPS_OP_linear_dx, (DpsNode[]){dy, w, a->grad[x]}, 3, r->attrs, r->n_attrs, a->g->tensors[x].dtype);
    contribute (a, c, dy);
}

static void adjoint_rope (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    DpsScalar attrs[3] = {r->attrs[0], {.i = !r->attrs[1].i}, r->attrs[2]};
    if (wants (a, r->in[0]))
        contribute (a, r->in[0], emit (a, DPS_OP_rope, (DpsNode[]){dy, r->in[1], r->in[2]}, 3, attrs, 3, a->g->tensors[r->in[0]].dtype));
}

static void adjoint_attention (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    DpsNode out[3] = {-1, -1, -1};
    DpsNode in[] = {r->in[0], r->in[1], r->in[2], r->out[0], r->out[1], dy, r->in[3]};
    dps_graph_op (graph (a), DPS_OP_attention_bwd, in, 7, r->attrs, r->n_attrs, a->g->tensors[r->in[0]].dtype, out, 3);
    for (int i = 0; i < 3; i++)
        contribute (a, r->in[i], out[i]);
}

static void gate_adjoint (DpsAdjoint *a, const DpsRecord *r, DpsNode dy, DpsOpCode op)
{
    DpsNode out[2] = {-1, -1};
    dps_graph_op (graph (a), op, (DpsNode[]){r->in[0], r->in[1], dy}, 3, NULL, 0, a->g->tensors[r->in[0]].dtype, out, 2);
    contribute (a, r->in[0], out[0]);
    contribute (a, r->in[1], out[1]);
}

static void adjoint_geglu (DpsAdjoint *a, const DpsRecord *r, DpsNode dy) { gate_adjoint (a, r, dy, DPS_OP_geglu_bwd); }
static void adjoint_swiglu (DpsAdjoint *a, const DpsRecord *r, DpsNode dy) { gate_adjoint (a, r, dy, DPS_OP_swiglu_bwd); }

static void adjoint_gather_rows (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    if (!wants (a, r->in[0]))
        return;
    DpsTensor x = a->g->tensors[r->in[0]];
    DpsNode dx = dps_graph_temp (graph (a), x.dtype, x.rank, x.shape);
    dps_graph_op (graph (a), DPS_OP_scatter_rows, (DpsNode[]){dy, r->in[1]}, 2, NULL, 0, x.dtype, &dx, 1);
    contribute (a, r->in[0], dx);
}

static void adjoint_dropout (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    if (wants (a, r->in[0]))
        contribute (a, r->in[0],
                    emit (a, DPS_OP_dropout, (DpsNode[]){dy, r->in[1]}, 2, r->attrs, r->n_attrs, a->g->tensors[r->in[0]].dtype));
}

static void adjoint_token_logprobs (DpsAdjoint *a, const DpsRecord *r, DpsNode dy)
{
    DpsNode h = r->in[0], w = r->in[1];
    if (wants (a, h))
        contribute (a, h, emit (a, DPS_OP_scale_rows, (DpsNode[]){r->out[3], dy}, 2, NULL, 0, a->g->tensors[h].dtype));
    if (wants (a, w))
        emit_into (a, DPS_OP_token_logprobs_dw, (DpsNode[]){h, w, r->in[2], dy, a->g->inputs[DPS_INPUT_SCORED_ROOTS]}, 5, r->attrs,
                   r->n_attrs, dps_graph_grad_of (graph (a), w));
}

static void (*const adjoints[]) (DpsAdjoint *, const DpsRecord *, DpsNode) = {
#define OP(name, n_in, n_out, shape, adjoint) adjoint_##adjoint,
#include "graph/ops.def"
#undef OP
};

int dps__op_differentiable (DpsOpCode op) { return adjoints[op] != adjoint_none; }

void dps__op_adjoint (DpsAdjoint *a, const DpsRecord *r, DpsNode dy) { adjoints[r->op](a, r, dy); }
