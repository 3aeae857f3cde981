/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "graph/rules.h"
#include "plugin/registry.h"

static const char *const op_names[] = {
#define OP(name, n_in, n_out, shape, adjoint) #name,
#include "graph/ops.def"
#undef OP
};

const char *dps_op_name (DpsOpCode op) { return op < DPS_OP_COUNT ? op_names[op] : "?"; }

DpsStatus dps_graph_init (DpsGraph *g, size_t n_params, uint32_t compute, int training, DpsError *err)
{
    *g = (DpsGraph){.layer = -1, .compute = compute, .training = (uint8_t)training, .n_params = n_params, .err = DPS_ERROR_INIT};
    g->residual = compute == DPS_DTYPE_BF16 ? DPS_DTYPE_F32 : compute;
    g->params = dps_malloc (n_params, sizeof *g->params);
    g->grads = dps_malloc (n_params, sizeof *g->grads);
    if (!g->params || !g->grads) {
        dps_graph_free (g);
        return dps_fail (err, DPS_ERR_NOMEM, "graph: out of memory for %zu parameters", n_params);
    }
    for (size_t i = 0; i < n_params; i++)
        g->params[i] = g->grads[i] = -1;
    for (int i = 0; i < DPS_INPUT_COUNT; i++)
        g->inputs[i] = g->seeds[i] = -1;
    return DPS_OK;
}

void dps_graph_free (DpsGraph *g)
{
    dps_free (g->tensors);
    dps_free (g->ops);
    dps_free (g->params);
    dps_free (g->grads);
    *g = (DpsGraph){0};
}

void dps_graph_seed (DpsGraph *g, DpsNode value, DpsInput input) { g->seeds[input] = value; }

DpsStatus dps_graph_status (const DpsGraph *g, DpsError *err)
{
    return g->status == DPS_OK ? DPS_OK : dps_fail (err, g->status, "%s", g->err.msg);
}

DpsNode dps_graph_fail (DpsGraph *g, DpsStatus code, const char *fmt, ...)
{
    if (g->status != DPS_OK)
        return -1;
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (g->err.msg, sizeof g->err.msg, fmt, ap);
    va_end (ap);
    g->err.code = g->status = code;
    return -1;
}

static DpsNode add_tensor (DpsGraph *g, DpsTensorKind kind, int32_t index, uint32_t dtype, uint32_t rank, const int64_t *shape)
{
    if (g->status != DPS_OK)
        return -1;
    if (rank > 4)
        return dps_graph_fail (g, DPS_ERR_SHAPE, "graph: a tensor of rank %u, at most 4 are supported", rank);
    DpsTensor t = {.kind = kind, .dtype = dtype, .rank = rank, .index = index, .def = -1, .last = -1};
    for (uint32_t i = 0; i < rank; i++) { /* before the array grows: shape may be that of a tensor in it */
        if (shape[i] < 0)
            return dps_graph_fail (g, DPS_ERR_SHAPE, "graph: dimension %u is %lld, expected ≥ 0", i, (long long)shape[i]);
        t.shape[i] = shape[i];
    }
    if (DPS_GROW (g->tensors, g->n_tensors, g->tensor_capacity))
        return dps_graph_fail (g, DPS_ERR_NOMEM, "graph: out of memory for tensor %zu", g->n_tensors);
    g->tensors[g->n_tensors] = t;
    return (DpsNode)g->n_tensors++;
}

DpsNode dps_graph_temp (DpsGraph *g, uint32_t dtype, uint32_t rank, const int64_t *shape)
{
    return add_tensor (g, DPS_TENSOR_TEMP, -1, dtype, rank, shape);
}

DpsNode dps_graph_state (DpsGraph *g, int32_t index, uint32_t dtype, uint32_t rank, const int64_t *shape)
{
    return add_tensor (g, DPS_TENSOR_STATE, index, dtype, rank, shape);
}

DpsNode dps_graph_input (DpsGraph *g, DpsInput input, uint32_t dtype, uint32_t rank, const int64_t *shape)
{
    if (g->inputs[input] < 0)
        g->inputs[input] = add_tensor (g, DPS_TENSOR_INPUT, (int32_t)input, dtype, rank, shape);
    return g->inputs[input];
}

DpsNode dps_graph_param (DpsGraph *g, int32_t index, uint32_t dtype, uint32_t rank, const int64_t *shape, int requires_grad)
{
    if (index < 0 || (size_t)index >= g->n_params)
        return dps_graph_fail (g, DPS_ERR_INVALID, "graph: parameter %d of %zu", index, g->n_params);
    if (g->params[index] < 0) {
        DpsNode n = add_tensor (g, DPS_TENSOR_PARAM, index, dtype, rank, shape);
        if (n >= 0)
            g->tensors[n].requires_grad = (uint8_t)(requires_grad && g->training);
        g->params[index] = n;
    }
    return g->params[index];
}

DpsNode dps_graph_grad_of (DpsGraph *g, DpsNode param)
{
    if (param < 0)
        return -1;
    DpsTensor t = g->tensors[param];
    if (g->grads[t.index] < 0)
        g->grads[t.index] = add_tensor (g, DPS_TENSOR_GRAD, t.index, DPS_DTYPE_F32, t.rank, t.shape);
    return g->grads[t.index];
}

/* The record is the last toucher of its operands so far, and the definer of outputs nobody wrote before. */
static void touch (DpsGraph *g, DpsNode node, int32_t op, int writes)
{
    if (node < 0)
        return;
    DpsTensor *t = &g->tensors[node];
    t->last = op;
    if (writes && t->def < 0)
        t->def = op;
}

DpsNode dps_graph_op (DpsGraph *g, DpsOpCode op, const DpsNode *in, uint32_t n_in, const DpsScalar *attrs, uint32_t n_attrs, uint32_t dtype,
                      DpsNode *out, uint32_t n_out)
{
    if (g->status != DPS_OK)
        return -1;
    if (n_in > DPS_OP_MAX_IN || n_out > DPS_OP_MAX_OUT || n_attrs > DPS_OP_MAX_ATTRS)
        return dps_graph_fail (g, DPS_ERR_INTERNAL, "graph: %s has too many operands", dps_op_name (op));
    if (DPS_GROW (g->ops, g->n_ops, g->op_capacity))
        return dps_graph_fail (g, DPS_ERR_NOMEM, "graph: out of memory for op %zu", g->n_ops);
    DpsRecord r = {.op = (uint16_t)op, .n_in = (uint8_t)n_in, .n_out = (uint8_t)n_out, .n_attrs = (uint8_t)n_attrs, .layer = g->layer};
    r.backward = g->n_forward > 0;
    memset (r.in, 0xff, sizeof r.in);
    memset (r.out, 0xff, sizeof r.out);
    int needs_grad = 0;
    for (uint32_t i = 0; i < n_in; i++) {
        if (in[i] >= (DpsNode)g->n_tensors)
            return dps_graph_fail (g, DPS_ERR_INTERNAL, "graph: %s reads tensor %d, which does not exist", dps_op_name (op), in[i]);
        r.in[i] = in[i];
        needs_grad |= in[i] >= 0 && g->tensors[in[i]].requires_grad;
    }
    if (n_attrs)
        memcpy (r.attrs, attrs, n_attrs * sizeof *attrs);
    if (out)
        memcpy (r.out, out, n_out * sizeof *out);
    dps__op_shape (g, &r, dtype, needs_grad);
    if (g->status != DPS_OK)
        return -1;
    int32_t at = (int32_t)g->n_ops;
    for (uint32_t i = 0; i < n_in; i++)
        touch (g, r.in[i], at, 0);
    for (uint32_t i = 0; i < n_out; i++)
        touch (g, r.out[i], at, 1);
    if (out)
        memcpy (out, r.out, n_out * sizeof *out);
    if (needs_grad && !r.backward && r.out[0] >= 0 && dps__op_differentiable (op))
        g->tensors[r.out[0]].requires_grad = 1;
    g->ops[g->n_ops++] = r;
    return r.out[0];
}

int64_t dps_tensor_elements (const DpsTensor *t)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

uint64_t dps_dtype_bytes (uint32_t dtype)
{
    static const uint8_t bytes[] = {
#define DPS_X(name, number, text, size) [number] = size,
        DPS_DTYPES (DPS_X)
#undef DPS_X
    };
    return dtype < sizeof bytes ? bytes[dtype] : 0;
}

const char *dps_dtype_name (uint32_t dtype)
{
    static const char *const names[] = {
#define DPS_X(name, number, text, size) [number] = text,
        DPS_DTYPES (DPS_X)
#undef DPS_X
    };
    if (dtype < sizeof names / sizeof *names && names[dtype])
        return names[dtype];
    const char *interned = dps_intern_name (dtype); /* a block format, or a vendor's */
    return *interned ? interned : "?";
}

uint64_t dps_tensor_bytes (const DpsTensor *t) { return (uint64_t)dps_tensor_elements (t) * dps_dtype_bytes (t->dtype); }
