/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/exec.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "exec/decomposed.h"
#include "exec/layer.h"
#include "exec/operands.h"
#include "exec/prepared.h"
#include "exec/stage.h"
#include "exec/unpack.h"
#include "graph/decompose.h"
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

/* Placement. */

static DpsOperandKind operand_kind (const DpsView *v) { return v ? (DpsOperandKind){v->dtype, v->layout, v->rank} : (DpsOperandKind){0}; }

/* Whether o, which goes where `met` says, is of case c. */
static int is_case (const DpsCase *c, const DpsCase *met, const DpsOp *o)
{
    if (c->n_in != o->n_in || c->n_out != o->n_out || c->device != met->device || c->decomposed != met->decomposed)
        return 0;
    for (uint32_t i = 0; i < o->n_in + o->n_out; i++) {
        const DpsOperandKind a = c->kinds[i], b = operand_kind (dps_op_operand (o, i));
        if (a.dtype != b.dtype || a.layout != b.layout || a.rank != b.rank)
            return 0;
    }
    return 1;
}

static void describe_operands (DpsCase *c, const DpsOp *o)
{
    size_t n = 0;
    for (uint32_t i = 0; i < o->n_in + o->n_out && n < sizeof c->operands - 24; i++) {
        const DpsView *v = dps_op_operand (o, i);
        const char *gap = i == o->n_in ? " → " : i ? ", " : "";
        n += (size_t)snprintf (c->operands + n, sizeof c->operands - n, "%s%s%s", gap, v ? dps_dtype_name (v->dtype) : "-",
                               v && v->layout >= DPS_LAYOUT_PACKED ? " packed" : "");
    }
}

const char *dps__exec_unnamed (const char *device, const char *why)
{
    const size_t lengths[] = {strlen (device), strcspn (device, ":")};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        if (!strncmp (why, device, lengths[i]) && !strncmp (why + lengths[i], ": ", 2))
            return why + lengths[i] + 2;
    return why;
}

static DpsStatus add_reason (DpsCase *c, const char *device, const char *why, DpsError *err)
{
    char *longer = dps_strf ("%s%s%s: %s", c->reasons ? c->reasons : "", c->reasons ? "\n" : "", device, dps__exec_unnamed (device, why));
    if (!longer)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    dps_free (c->reasons);
    c->reasons = longer;
    return DPS_OK;
}

/* What the device refused whole it may take in pieces. */
static DpsStatus place_decomposed (DpsExec *ex, DpsCase *c, int device, const DpsOp *o, DpsError *err)
{
    DpsError why = DPS_ERROR_INIT;
    if (!dps_op_decomposes (c->op))
        return DPS_OK;
    uint64_t bytes;
    c->decomposed = dps__exec_decomposed (ex, device, c->op, o, DPS_RUN_DRY, NULL, &bytes, &why) == DPS_OK;
    if (c->decomposed && ex->sealed && bytes > ex->scratch.bytes) { /* other shapes than those that were planned went elsewhere */
        c->decomposed = 0;
        dps_fail (&why, DPS_ERR_NOMEM, "as simple ops: %llu bytes of scratch, %llu were planned", (unsigned long long)bytes,
                  (unsigned long long)ex->scratch.bytes);
    }
    if (!c->decomposed)
        return add_reason (c, ex->devices[device].info.name, why.msg, err);
    c->device = device;
    return DPS_OK;
}

/* A packed weight is in the first device's own layout: the number of that layout means something else to another. */
static int is_foreign (int device, const DpsOp *o) { return device > 0 && dps__packed_input (o) >= 0; }

/* Whether one device takes the op, whole or in pieces; else its reason is kept. */
static DpsStatus try_device (DpsExec *ex, DpsCase *c, int device, const DpsOp *o, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[device];
    DpsError why = DPS_ERROR_INIT;
    DpsUnpacked plain;
    if (is_foreign (device, o) && !(o = dps__unpacked_outline (ex, o, &plain)))
        return add_reason (c, d->info.name, "a weight is packed for another device. Hint: op_devices in the recipe gives the op to one",
                           err);
    dps_crumb_enter (d->plugin->id, dps_op_name (c->op));
    DpsStatus st = d->backend->run (d->info.device, o, DPS_RUN_DRY, &why);
    dps_crumb_leave ();
    if (st == DPS_OK) {
        c->device = device;
        return DPS_OK;
    }
    DPS_TRY (add_reason (c, d->info.name, dps_error_said (&why, st), err));
    return place_decomposed (ex, c, device, o, err);
}

/* A case not met before: kept even where no device takes it, so that explain tells why. Takes `met` and its reasons when that works. */
static DpsStatus add_case (DpsExec *ex, DpsCase *met, const DpsOp *o, DpsError *err)
{
    if (DPS_GROW (ex->cases, ex->n_cases, ex->case_capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    met->before = ex->newest_case[met->op];
    for (uint32_t i = 0; i < o->n_in + o->n_out; i++)
        met->kinds[i] = operand_kind (dps_op_operand (o, i));
    describe_operands (met, o);
    ex->cases[ex->n_cases] = *met;
    ex->newest_case[met->op] = ++ex->n_cases;
    return DPS_OK;
}

/* The device an op goes to when that takes it. */
static int first_choice (const DpsExec *ex, DpsOpCode op) { return ex->prefer[op] ? ex->prefer[op] - 1 : 0; }

static DpsStatus place_case (DpsExec *ex, DpsCase *c, const DpsOp *o, DpsError *err)
{
    int first = first_choice (ex, c->op);
    DPS_TRY (try_device (ex, c, first, o, err));
    for (int i = 0; i < ex->n_devices && c->device < 0; i++)
        if (i != first)
            DPS_TRY (try_device (ex, c, i, o, err));
    return DPS_OK;
}

/* why: the refusals of this call. */
static DpsStatus check_placed (const DpsExec *ex, const DpsCase *c, const char *why, DpsError *err)
{
    if (c->device >= 0 && (!ex->strict || c->device == first_choice (ex, c->op)))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s (%s) %s: %s", dps_op_name (c->op), c->operands,
                     c->device < 0 ? "runs on no device" : "would fall back, which --strict-device refuses", why);
}

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/*
 * Devices are asked about each call: a dry run answers for its shapes and attributes, not for the next call's. So a call's place depends on nothing that
 * came before.
 */
static DpsStatus find_case (DpsExec *ex, DpsOpCode op, const DpsOp *o, DpsCase **out, DpsError *err)
{
    DpsCase met = {.op = op, .n_in = o->n_in, .n_out = o->n_out, .device = -1};
    if (o->n_in > DPS_OP_MAX_IN || o->n_out > DPS_OP_MAX_OUT)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s: %u inputs and %u outputs are too many", dps_op_name (op), o->n_in, o->n_out);
    DpsStatus st = place_case (ex, &met, o, err);
    char *why = met.reasons;
    size_t at = ex->newest_case[op];
    while (st == DPS_OK && at && !is_case (&ex->cases[at - 1], &met, o))
        at = ex->cases[at - 1].before;
    if (st == DPS_OK && !at && (st = add_case (ex, &met, o, err)) == DPS_OK) {
        why = NULL; /* the case's */
        at = ex->n_cases;
        if (met.device >= 0 && met.device != first_choice (ex, op))
            dps_log (DPS_LOG_DEBUG, "%s (%s) falls back to %s: %s", dps_op_name (op), met.operands, ex->devices[met.device].info.name,
                     met.reasons);
    }
    if (st == DPS_OK) {
        *out = &ex->cases[at - 1];
        st = check_placed (ex, *out, met.reasons, err);
    }
    dps_free (why);
    return st;
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

/* forward: of a packed weight, as dps__unpack wants it; ops outside a graph have none. */
static DpsStatus run_op (DpsExec *ex, DpsOpCode op, const DpsOp *o, const DpsView *forward, DpsError *err)
{
    DpsCase *c;
    DpsUnpacked plain;
    DPS_TRY (find_case (ex, op, o, &c, err));
    DpsExecDevice *d = &ex->devices[c->device];
    c->runs++;
    if (is_foreign (c->device, o)) {
        o = dps__unpacked_outline (ex, o, &plain);
        DPS_TRY (ex->dry ? DPS_OK : dps__unpack (ex, forward, &plain.rows, err));
    }
    if (ex->dry)
        return dps__exec_moves (ex, c, o, err);
    double start = ex->profile ? now () : 0;
    dps_crumb_enter (d->plugin->id, dps_op_name (op));
    DpsStatus st = c->decomposed ? run_decomposed (ex, c, o, err) : dps__exec_call (ex, c->device, o, 0, err);
    dps_crumb_leave ();
    if (ex->profile)
        c->seconds += now () - start;
    if (st == DPS_OK || !err)
        return st;
    dps_error_said (err, st);
    return dps_error_prefix (err, "%s on %s", dps_op_name (op), d->info.name);
}

DpsStatus dps_exec_op (DpsExec *ex, DpsOpCode op, DpsOp call, DpsError *err)
{
    call.size = sizeof call;
    call.id = ex->op_ids[op];
    return run_op (ex, op, &call, NULL, err);
}

static DpsStatus op_scratch (DpsExec *ex, DpsOpCode op, const DpsOp *o, uint64_t *out_bytes, DpsError *err)
{
    DpsCase *c;
    DpsUnpacked plain;
    *out_bytes = 0;
    DPS_TRY (find_case (ex, op, o, &c, err));
    if (is_foreign (c->device, o))
        o = dps__unpacked_outline (ex, o, &plain);
    return c->decomposed ? dps__exec_decomposed (ex, c->device, op, o, 0, NULL, out_bytes, err)
                         : dps__prepared_scratch (ex, c->device, o, out_bytes, err);
}

DpsStatus dps_exec_op_scratch (DpsExec *ex, DpsOpCode op, DpsOp call, uint64_t *out_bytes, DpsError *err)
{
    call.size = sizeof call;
    call.id = ex->op_ids[op];
    return op_scratch (ex, op, &call, out_bytes, err);
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

static DpsStatus run_record (DpsExec *ex, const DpsGraph *g, const DpsRecord *r, const DpsBindings *b, DpsError *err)
{
    Operands at;
    DpsOp o;
    DpsView forward;
    DPS_TRY (operands (ex, g, r, b, &at, &o, err));
    int packed = dps__packed_input (&o);
    if (packed >= 0)
        DPS_TRY (operand (ex, g, b, DPS_OP_linear, 1, r->in[packed], &forward, err));
    return run_op (ex, (DpsOpCode)r->op, &o, packed >= 0 ? &forward : NULL, err);
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
        DPS_TRY (op_scratch (ex, (DpsOpCode)r->op, &o, &bytes, err));
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
