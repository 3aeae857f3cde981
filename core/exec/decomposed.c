/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The op's operands become the states of a small graph (state i: input i, then the outputs), the decomposition is recorded in it and laid out like
 * any graph; its temporaries are the scratch.
 */
#include "exec/decomposed.h"

#include <string.h>

#include "exec/operands.h"
#include "exec/plan.h"
#include "exec/stage.h"
#include "graph/decompose.h"

typedef struct Parts {
    DpsGraph g;
    const DpsOp *o;
    uint64_t scratch;
} Parts;

static DpsNode add_operand (DpsGraph *g, const DpsOp *o, uint32_t i)
{
    const DpsView *v = dps_op_operand (o, i);
    if (!v)
        return -1;
    if (v->stride)
        return dps_graph_fail (g, DPS_ERR_UNSUPPORTED, "operand %u is not contiguous", i);
    return dps_graph_state (g, (int32_t)i, v->dtype, v->rank, v->shape);
}

static DpsStatus record (Parts *p, DpsOpCode op, DpsError *err)
{
    const DpsOp *o = p->o;
    DpsRecord r = {.op = (uint16_t)op, .n_in = (uint8_t)o->n_in, .n_out = (uint8_t)o->n_out, .n_attrs = (uint8_t)o->n_attrs};
    uint32_t compute = DPS_DTYPE_F32;
    for (uint32_t i = 0; i < o->n_in + o->n_out; i++)
        if (dps_op_operand (o, i) && dps_op_operand (o, i)->dtype == DPS_DTYPE_F64)
            compute = DPS_DTYPE_F64;
    DPS_TRY (dps_graph_init (&p->g, 1, compute, 0, err));
    if (o->n_in > DPS_OP_MAX_IN || o->n_out > DPS_OP_MAX_OUT || o->n_attrs > DPS_OP_MAX_ATTRS)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s has too many operands", dps_op_name (op));
    memset (r.in, 0xff, sizeof r.in);
    memset (r.out, 0xff, sizeof r.out);
    for (uint32_t i = 0; i < o->n_in; i++)
        r.in[i] = add_operand (&p->g, o, i);
    for (uint32_t i = 0; i < o->n_out; i++)
        r.out[i] = add_operand (&p->g, o, o->n_in + i);
    if (o->n_attrs)
        memcpy (r.attrs, o->attrs, o->n_attrs * sizeof *o->attrs);
    DPS_TRY (dps_graph_status (&p->g, err));
    DPS_TRY (dps_graph_decompose (&p->g, &r, err));
    return dps_plan_layout (&p->g, &p->scratch, err);
}

static DpsView view_of (const Parts *p, DpsNode node, const DpsBlock *scratch)
{
    const DpsTensor *t = &p->g.tensors[node];
    DpsView v = dps_view (t->dtype, t->rank, t->shape, NULL);
    if (t->kind == DPS_TENSOR_STATE) {
        const DpsView *from = dps_op_operand (p->o, (uint32_t)t->index);
        v.buffer = from->buffer;
        v.offset = from->offset;
        v.host = from->host;
        v.layout = from->layout;
        v.n_parts = from->n_parts;
        v.parts = from->parts;
    } else if (scratch) {
        v = dps_block_view (t->dtype, t->rank, t->shape, scratch, t->offset);
    }
    return v;
}

static DpsStatus run_record (DpsExec *ex, int device, const Parts *p, const DpsRecord *r, uint32_t flags, const DpsBlock *scratch,
                             DpsError *err)
{
    DpsView views[DPS_OPERANDS_MAX];
    const DpsView *in[DPS_OP_MAX_IN], *out[DPS_OP_MAX_OUT];
    int n = 0;
    for (int i = 0; i < r->n_in + r->n_out; i++) {
        int is_out = i >= r->n_in;
        DpsNode node = is_out ? r->out[i - r->n_in] : r->in[i];
        const DpsView **slot = is_out ? &out[i - r->n_in] : &in[i];
        *slot = NULL;
        if (node < 0)
            continue;
        views[n] = view_of (p, node, scratch);
        *slot = &views[n++];
    }
    DpsOp o = {.size = sizeof o,
               .id = ex->op_ids[r->op],
               .n_in = r->n_in,
               .n_out = r->n_out,
               .n_attrs = r->n_attrs,
               .in = in,
               .out = out,
               .attrs = r->attrs};
    DpsStatus st = dps__exec_call (ex, device, &o, flags, err);
    if (st == DPS_OK || !err)
        return st;
    const char *why = dps__exec_unnamed (ex->devices[device].info.name, err->msg);
    memmove (err->msg, why, strlen (why) + 1);
    dps_error_prefix (err, "as simple ops: %s", dps_op_name ((DpsOpCode)r->op));
    return st;
}

DpsStatus dps__exec_decomposed (DpsExec *ex, int device, DpsOpCode op, const DpsOp *o, uint32_t flags, const DpsBlock *scratch,
                                uint64_t *out_scratch, DpsError *err)
{
    Parts p = {.o = o};
    if (!dps_op_decomposes (op))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s has no decomposition", dps_op_name (op));
    DpsStatus st = record (&p, op, err);
    for (size_t i = 0; st == DPS_OK && i < p.g.n_ops && (flags & DPS_RUN_DRY || scratch); i++)
        st = run_record (ex, device, &p, &p.g.ops[i], flags, scratch, err);
    if (out_scratch)
        *out_scratch = p.scratch;
    dps_graph_free (&p.g);
    return st;
}
