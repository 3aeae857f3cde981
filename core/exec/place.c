/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/place.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "exec/decomposed.h"
#include "exec/operands.h"
#include "exec/stage.h"
#include "exec/unpack.h"
#include "graph/decompose.h"
#include "plugin/crumb.h"

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

int dps__is_foreign (int device, const DpsOp *o) { return device > 0 && dps__packed_input (o) >= 0; }

/* Whether one device takes the op, whole or in pieces; else its reason is kept. */
static DpsStatus try_device (DpsExec *ex, DpsCase *c, int device, const DpsOp *o, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[device];
    DpsError why = DPS_ERROR_INIT;
    DpsUnpacked plain;
    if (dps__is_foreign (device, o) && !(o = dps__unpacked_outline (ex, o, &plain)))
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
static int first_choice (const DpsExec *ex, const DpsCase *c)
{
    int asked = c->head && ex->head ? ex->head : ex->prefer[c->op];
    return asked ? asked - 1 : 0;
}

static DpsStatus place_case (DpsExec *ex, DpsCase *c, const DpsOp *o, DpsError *err)
{
    const DpsCase alone = {.op = c->op};
    int first = first_choice (ex, c), usual = first_choice (ex, &alone);
    if (first != usual)
        DPS_TRY (
            add_reason (c, ex->devices[usual].info.name, "its log-probs must have the bits of token_logprobs, which is not there", err));
    DPS_TRY (try_device (ex, c, first, o, err));
    for (int i = 0; i < ex->n_devices && c->device < 0; i++)
        if (i != first)
            DPS_TRY (try_device (ex, c, i, o, err));
    return DPS_OK;
}

/* first: the device that was asked first; why: the refusals of this call. */
static DpsStatus check_placed (const DpsExec *ex, const DpsCase *c, int first, const char *why, DpsError *err)
{
    if (c->device >= 0 && (!ex->strict || c->device == first))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s (%s) %s: %s", dps_op_name (c->op), c->operands,
                     c->device < 0 ? "runs on no device" : "would fall back, which strict_device refuses", why);
}

/*
 * Devices are asked about each call: a dry run answers for its shapes and attributes, not for the next call's. So a call's place depends on nothing that
 * came before.
 */
DpsStatus dps__place (DpsExec *ex, DpsOpCode op, int head, const DpsOp *o, DpsCase **out, DpsError *err)
{
    DpsCase met = {.op = op, .n_in = o->n_in, .n_out = o->n_out, .device = -1, .head = head};
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
        if (met.device >= 0 && met.device != first_choice (ex, &met))
            dps_log (DPS_LOG_DEBUG, "%s (%s) falls back to %s: %s", dps_op_name (op), met.operands, ex->devices[met.device].info.name,
                     met.reasons);
    }
    if (st == DPS_OK) {
        *out = &ex->cases[at - 1];
        st = check_placed (ex, *out, first_choice (ex, &met), met.reasons, err);
    }
    dps_free (why);
    return st;
}

DpsStatus dps_exec_place (DpsExec *ex, DpsOpCode op, DpsOp call, int *out_device, DpsError *err)
{
    DpsCase met = {.op = op, .device = -1};
    call.size = sizeof call;
    call.id = ex->op_ids[op];
    DpsStatus st = place_case (ex, &met, &call, err);
    dps_free (met.reasons);
    *out_device = met.device;
    return st;
}
