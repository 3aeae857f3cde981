/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/exec.h"

#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "exec/decomposed.h"
#include "exec/layer.h"
#include "exec/operands.h"
#include "exec/place.h"
#include "exec/prepared.h"
#include "exec/stage.h"
#include "exec/unpack.h"
#include "plugin/crumb.h"

void dps_exec_close (DpsExec *ex)
{
    dps_exec_free (ex, &ex->arena);
    dps_exec_free (ex, &ex->scratch);
    dps__prepared_close (ex);
    dps__stage_close (ex);
    dps__layers_close (ex);
    for (size_t i = 0; i < ex->n_cases; i++)
        dps_free (ex->cases[i].reasons);
    dps_free (ex->cases);
    *ex = (DpsExec){0};
}

DpsStatus dps_exec_alloc (DpsExec *ex, uint64_t bytes, DpsBlock *out, DpsError *err)
{
    DpsExecDevice *d = &ex->devices[0];
    *out = (DpsBlock){.owner = ex, .bytes = bytes};
    DpsStatus st = d->backend->alloc (d->info.device, bytes, &out->buffer, &out->host, err);
    if (st != DPS_OK) {
        *out = (DpsBlock){0};
        return st;
    }
    ex->persistent_bytes += bytes;
    return DPS_OK;
}

void dps_exec_free (DpsExec *ex, DpsBlock *block)
{
    if (!block->buffer)
        return;
    ex->devices[0].backend->free (ex->devices[0].info.device, block->buffer);
    ex->persistent_bytes -= block->bytes;
    *block = (DpsBlock){0};
}

static DpsStatus reserve (DpsExec *ex, const char *what, DpsBlock *block, uint64_t bytes, DpsError *err)
{
    if (bytes <= block->bytes)
        return DPS_OK;
    if (ex->sealed)
        return dps_fail (err, DPS_ERR_INTERNAL, "exec: the %s needs %llu bytes, %llu were planned", what, (unsigned long long)bytes,
                         (unsigned long long)block->bytes);
    dps_exec_free (ex, block);
    return dps_exec_alloc (ex, bytes, block, err);
}

DpsStatus dps_exec_reserve (DpsExec *ex, uint64_t bytes, DpsError *err) { return reserve (ex, "arena", &ex->arena, bytes, err); }

DpsStatus dps_exec_reserve_scratch (DpsExec *ex, uint64_t bytes, DpsError *err)
{
    return reserve (ex, "scratch", &ex->scratch, bytes, err);
}

DpsView dps_view (uint32_t dtype, uint32_t rank, const int64_t *shape, const void *host)
{
    return (DpsView){.size = sizeof (DpsView), .dtype = dtype, .rank = rank, .shape = shape, .host = (void *)host};
}

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static DpsStatus run_decomposed (DpsExec *ex, const DpsCase *c, const DpsOp *o, DpsError *err)
{
    uint64_t bytes;
    DPS_TRY (dps__exec_decomposed (ex, c->device, c->op, o, 0, NULL, &bytes, err));
    DPS_TRY (dps_exec_reserve_scratch (ex, bytes, err));
    ex->scratch_peak = bytes > ex->scratch_peak ? bytes : ex->scratch_peak;
    ex->scratch_taken = 1;
    DpsStatus st = dps__exec_decomposed (ex, c->device, c->op, o, 0, &ex->scratch, NULL, err);
    ex->scratch_taken = 0;
    return st;
}

static DpsStatus run_placed (DpsExec *ex, DpsCase *c, const DpsOp *o, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[c->device];
    c->runs++;
    if (ex->dry)
        return dps__exec_moves (ex, c, o, err);
    double start = ex->profile ? now () : 0;
    dps_crumb_enter (d->plugin->id, dps_op_name (c->op));
    DpsStatus st = c->decomposed ? run_decomposed (ex, c, o, err) : dps__exec_call (ex, c->device, o, 0, err);
    dps_crumb_leave ();
    if (ex->profile)
        c->seconds += now () - start;
    if (st == DPS_OK || !err)
        return st;
    dps_error_said (err, st);
    return dps_error_prefix (err, "%s on %s", dps_op_name (c->op), d->info.name);
}

DpsStatus dps_exec_op (DpsExec *ex, DpsOpCode op, DpsOp call, DpsError *err)
{
    DpsCase *c;
    call.size = sizeof call;
    call.id = ex->op_ids[op];
    DPS_TRY (dps__place (ex, op, op == DPS_OP_row_logprobs, &call, &c, err));
    if (dps__is_foreign (c->device, &call))
        return dps_fail (err, DPS_ERR_INTERNAL, "exec: a packed weight of no graph cannot go to another device");
    return run_placed (ex, c, &call, err);
}

static DpsStatus op_scratch (DpsExec *ex, DpsOpCode op, int head, const DpsOp *o, uint64_t *out_bytes, DpsError *err)
{
    DpsCase *c;
    DpsUnpacked plain;
    *out_bytes = 0;
    DPS_TRY (dps__place (ex, op, head, o, &c, err));
    if (dps__is_foreign (c->device, o)) {
        o = dps__unpacked_outline (ex, o, &plain);
        dps__stage_note (ex, 0, (uint64_t)dps_view_count (&plain.rows) * dps_dtype_bytes (plain.rows.dtype));
    }
    DPS_TRY (dps__stage_measure (ex, c->device, o, err));
    return c->decomposed ? dps__exec_decomposed (ex, c->device, op, o, 0, NULL, out_bytes, err)
                         : dps__prepared_scratch (ex, c->device, o, out_bytes, err);
}

DpsStatus dps_exec_op_scratch (DpsExec *ex, DpsOpCode op, DpsOp call, uint64_t *out_bytes, DpsError *err)
{
    call.size = sizeof call;
    call.id = ex->op_ids[op];
    return op_scratch (ex, op, op == DPS_OP_row_logprobs, &call, out_bytes, err);
}

/* Running a graph. */

void *dps_exec_temp (const DpsExec *ex, const DpsGraph *g, DpsNode node)
{
    char *base = ex->arena.host ? ex->arena.host : ex->mirror;
    return node < 0 || !base ? NULL : base + g->tensors[node].offset;
}

static DpsStatus operand (DpsExec *ex, const DpsGraph *g, const DpsBindings *b, DpsOpCode op, int slot, DpsNode node, DpsView *v,
                          DpsError *err)
{
    const DpsTensor *t = &g->tensors[node];
    *v = dps_view (t->dtype, t->rank, t->shape, NULL);
    switch (t->kind) {
    case DPS_TENSOR_TEMP: *v = dps_block_view (t->dtype, t->rank, t->shape, &ex->arena, t->offset); return DPS_OK;
    case DPS_TENSOR_INPUT:
        v->host = (void *)b->inputs[t->index];
        if (!v->host && dps_tensor_elements (t) && !b->outline)
            return dps_fail (err, DPS_ERR_INTERNAL, "%s: input %d is not bound", dps_op_name (op), t->index);
        if (ex->dry && !dps_exec_shares (ex)) /* only its place counts */
            v->buffer = ex->arena.buffer;
        else if (ex->inputs.buffer && !b->outline) { /* the device's copy; the host's, with the same bytes, stays beside it */
            v->buffer = ex->inputs.buffer;
            v->offset = ex->input_at[t->index];
        }
        return DPS_OK;
    default: return b->resolve (b->ctx, t->kind, t->index, op, slot, v, err);
    }
}

typedef struct Operands {
    DpsView views[DPS_OPERANDS_MAX];
    const DpsView *in[DPS_OP_MAX_IN], *out[DPS_OP_MAX_OUT];
} Operands;

static DpsStatus operands (DpsExec *ex, const DpsGraph *g, const DpsRecord *r, const DpsBindings *b, Operands *to, DpsOp *o, DpsError *err)
{
    int n = 0;
    for (int i = 0; i < r->n_in; i++) {
        to->in[i] = NULL;
        if (r->in[i] < 0)
            continue;
        DPS_TRY (operand (ex, g, b, (DpsOpCode)r->op, i, r->in[i], &to->views[n], err));
        to->in[i] = to->views[n].dtype ? &to->views[n] : NULL;
        n++;
    }
    for (int i = 0; i < r->n_out; i++) {
        to->out[i] = NULL;
        if (r->out[i] < 0)
            continue;
        DPS_TRY (operand (ex, g, b, (DpsOpCode)r->op, -1 - i, r->out[i], &to->views[n], err));
        to->out[i] = &to->views[n++];
    }
    *o = (DpsOp){.size = sizeof *o,
                 .id = ex->op_ids[r->op],
                 .n_in = r->n_in,
                 .n_out = r->n_out,
                 .n_attrs = r->n_attrs,
                 .in = to->in,
                 .out = to->out,
                 .attrs = r->attrs};
    return DPS_OK;
}

/* The rows of r's packed weight: those that it keeps for `linear`, or the packed ones given back. */
static DpsStatus unpack (DpsExec *ex, const DpsGraph *g, const DpsRecord *r, const DpsBindings *b, const DpsOp *o, DpsView *out_rows,
                         DpsError *err)
{
    DpsView forward;
    DPS_TRY (operand (ex, g, b, DPS_OP_linear, 1, r->in[dps__packed_input (o)], &forward, err));
    return dps__unpack (ex, &forward, out_rows, err);
}

static DpsStatus run_record (DpsExec *ex, const DpsGraph *g, const DpsRecord *r, const DpsBindings *b, DpsError *err)
{
    Operands at;
    DpsOp o;
    DpsCase *c;
    DpsUnpacked plain;
    const DpsOp *there = &o;
    DPS_TRY (operands (ex, g, r, b, &at, &o, err));
    DPS_TRY (dps__place (ex, (DpsOpCode)r->op, r->head, &o, &c, err));
    if (dps__is_foreign (c->device, &o)) {
        there = dps__unpacked_outline (ex, &o, &plain);
        DPS_TRY (ex->dry ? DPS_OK : unpack (ex, g, r, b, &o, &plain.rows, err));
    }
    return run_placed (ex, c, there, err);
}

DpsStatus dps_exec_measure (DpsExec *ex, const DpsGraph *g, const DpsBindings *b, uint64_t *out_scratch, DpsError *err)
{
    *out_scratch = 0;
    for (size_t i = 0; i < g->n_ops; i++) {
        const DpsRecord *r = &g->ops[i];
        Operands at;
        DpsOp o;
        uint64_t bytes;
        DPS_TRY (operands (ex, g, r, b, &at, &o, err));
        DPS_TRY (op_scratch (ex, (DpsOpCode)r->op, r->head, &o, &bytes, err));
        *out_scratch = bytes > *out_scratch ? bytes : *out_scratch;
    }
    return DPS_OK;
}

DpsStatus dps_exec_run (DpsExec *ex, const DpsGraph *g, uint64_t peak, size_t first, size_t end, const DpsBindings *b, DpsError *err)
{
    if (peak > ex->arena.bytes) {
        if (ex->arena.bytes && !ex->sealed)
            dps_log (DPS_LOG_WARNING, "the arena grows from %llu to %llu bytes: the plan was too small",
                     (unsigned long long)ex->arena.bytes, (unsigned long long)peak);
        if (first > 0)
            return dps_fail (err, DPS_ERR_INTERNAL, "exec: the arena is too small in the middle of a step");
        DPS_TRY (dps_exec_reserve (ex, peak, err));
    }
    if (peak > ex->arena_peak)
        ex->arena_peak = peak;
    DPS_TRY (dps__exec_inputs (ex, g, b, err));
    for (size_t i = first; i < end; i++)
        DPS_TRY (run_record (ex, g, &g->ops[i], b, err));
    return DPS_OK;
}
