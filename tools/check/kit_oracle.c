/* SPDX-License-Identifier: Apache-2.0 */
/* kit_oracle.c: the same call in f64, and the comparison. */
#include "check/kit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "exec/decomposed.h"
#include "graph/decompose.h"

static int op_code (const char *name)
{
    for (int i = 0; i < DPS_OP_COUNT; i++)
        if (!strcmp (dps_op_name ((DpsOpCode)i), name))
            return i;
    return -1;
}

/* An output of the oracle: f64, with what the call's holds now (parameters and gradients are added to in place). */
static KitArray *twin (Kit *k, const KitArray *a)
{
    int is_float = a->view.dtype == F32 || a->view.dtype == BF16 || a->view.dtype == F64 || a->view.dtype == DPS_DTYPE_F16;
    KitArray *t = kit_array (k, is_float ? F64 : a->view.dtype, a->shape[0], a->view.rank == 1 ? -1 : a->shape[1]);
    for (int64_t i = 0; t && i < a->n; i++)
        kit_put (t, i, kit_get (a, i));
    return t;
}

/* The view that ref gets of an array: the host's image of it. */
static const DpsView *host_view (const KitArray *a, DpsView *v)
{
    if (!a)
        return NULL;
    const KitArray *rows = a->plain ? a->plain : a;
    *v = rows->view;
    v->buffer = NULL;
    v->offset = 0;
    v->host = kit_data (rows);
    return v;
}

static DpsStatus run_decomposed (Kit *k, DpsOpCode code, const DpsOp *op, DpsError *err)
{
    uint64_t bytes = 0;
    DPS_TRY (dps__exec_decomposed (&k->ref, 0, code, op, DPS_RUN_DRY, NULL, &bytes, err));
    if (bytes > k->scratch.bytes || !k->scratch.host) {
        dps_exec_free (&k->ref, &k->scratch);
        k->scratch = (DpsBlock){0};
        DPS_TRY (dps_exec_alloc (&k->ref, bytes ? bytes : 1, &k->scratch, err));
    }
    return dps__exec_decomposed (&k->ref, 0, code, op, 0, &k->scratch, &bytes, err);
}

static int is_strided (const DpsOp *op)
{
    for (uint32_t i = 0; i < op->n_in; i++)
        if (op->in[i] && op->in[i]->stride)
            return 1;
    return 0;
}

static int is_empty (const KitCall *c)
{
    int empty = 0;
    for (int i = 0; i < KIT_MAX_IN; i++)
        empty |= c->in[i] && !c->in[i]->plain && c->in[i]->n == 0;
    for (int i = 0; i < KIT_MAX_OUT; i++)
        empty |= c->out[i] && c->out[i]->n == 0;
    return empty;
}

static DpsStatus run_oracle (Kit *k, const KitCall *c, KitArray *const out[KIT_MAX_OUT], DpsError *err)
{
    DpsView views[KIT_MAX_IN + KIT_MAX_OUT];
    const DpsView *in_views[KIT_MAX_IN], *out_views[KIT_MAX_OUT];
    DpsOp op = {.size = sizeof op, .n_attrs = KIT_ATTRS, .in = in_views, .out = out_views, .attrs = c->attrs};
    int code = op_code (c->name);
    for (uint32_t i = 0; i < KIT_MAX_IN; i++) {
        const KitArray *a = c->in[i];
        for (int o = 0; a && o < KIT_MAX_OUT; o++)
            if (a == c->out[o])
                a = out[o]; /* in place there, in place here */
        if (i == 3 && code == DPS_OP_token_logprobs)
            a = NULL; /* the packed form for another direction: no operand of the maths */
        in_views[i] = host_view (a, &views[i]);
        op.n_in = a ? i + 1 : op.n_in;
    }
    for (uint32_t i = 0; i < KIT_MAX_OUT; i++) {
        out_views[i] = host_view (out[i], &views[KIT_MAX_IN + i]);
        op.n_out = out[i] ? i + 1 : op.n_out;
    }
    if (code < 0)
        return dps_fail (err, DPS_ERR_INTERNAL, "ops.def has no op '%s'", c->name);
    op.id = k->ref.op_ids[code];
    if (dps_op_decomposes ((DpsOpCode)code) && !is_strided (&op) && !is_empty (c))
        return run_decomposed (k, (DpsOpCode)code, &op, err);
    return k->ctx->ref->run (k->ctx->ref_device, &op, 0, err);
}

DpsStatus kit_oracle (Kit *k, const KitCall *c, KitArray *out[KIT_MAX_OUT], DpsError *err)
{
    k->host_only = 1;
    for (int i = 0; i < KIT_MAX_OUT; i++)
        out[i] = c->out[i] ? twin (k, c->out[i]) : NULL;
    k->host_only = 0;
    if (k->failed_alloc)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for the oracle", c->name);
    if (run_oracle (k, c, out, err) != DPS_OK)
        return dps_error_prefix (err, "the oracle");
    return DPS_OK;
}

DpsStatus kit_on_ref (Kit *k, const KitCall *c, DpsError *err)
{
    KitOp o;
    DpsView views[KIT_MAX_IN + KIT_MAX_OUT];
    if (k->failed_alloc)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for the operands", c->name);
    kit_op (c, &o);
    for (uint32_t i = 0; i < o.op.n_in; i++)
        o.in[i] = host_view (c->in[i], &views[i]);
    for (uint32_t i = 0; i < o.op.n_out; i++)
        o.out[i] = host_view (c->out[i], &views[KIT_MAX_IN + i]);
    return k->ctx->ref->run (k->ctx->ref_device, &o.op, 0, err);
}

static int is_short (const KitArray *a) { return a && (a->view.dtype == BF16 || a->view.dtype == F16); }

/* A dtype of 16 bits takes part: the budgets are those of bf16. */
static int has_short (const KitCall *c)
{
    int found = 0;
    for (int i = 0; i < KIT_MAX_IN; i++)
        found |= is_short (c->in[i]);
    for (int i = 0; i < KIT_MAX_OUT; i++)
        found |= is_short (c->out[i]);
    return found;
}

DpsStatus kit_close_to (Kit *k, const KitCall *c, int output, const KitArray *got, const KitArray *want, DpsError *err)
{
    char text[200];
    const CheckBudget *b = check_budget (c->name, !strcmp (c->name, "token_logprobs") && output == 3 ? "dir" : NULL, has_short (c));
    kit_call_text (c, text, sizeof text);
    if (!b)
        return dps_fail (err, DPS_ERR_INTERNAL, "budgets.def has no line for %s", c->name);
    if (got->n != want->n)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s: %lld numbers, expected %lld", text, (long long)got->n, (long long)want->n);
    double most = 0, worst = 0, ulp = got->view.dtype == BF16 ? 0x1p-8 : got->view.dtype == F16 ? 0x1p-11 : 0x1p-23;
    int64_t at = -1;
    for (int64_t i = 0; i < want->n; i++)
        most = isfinite (kit_get (want, i)) && fabs (kit_get (want, i)) > most ? fabs (kit_get (want, i)) : most;
    double absolute = (b->absolute + b->growth * sqrt (c->length > 0 ? (double)c->length : 1)) * most +
                      b->floor * (c->scale > 0 ? c->scale : 1) +
                      (got->view.dtype == F16 ? 0x1p-25 : 0); /* half a step between f16's smallest numbers */
    for (int64_t i = 0; i < want->n; i++) {
        double g = kit_get (got, i), w = kit_get (want, i), room = (b->relative + ulp) * fabs (w) + absolute, off = fabs (g - w);
        double over = g != g && w != w ? 0 : g == w ? 0 : !(off <= 1e300) ? INFINITY : off / (room > 0 ? room : 1e-300);
        if (over > worst) {
            worst = over;
            at = i;
        }
    }
    if (worst > k->worst) {
        k->worst = worst;
        snprintf (k->worst_at, sizeof k->worst_at, "%s", c->name);
    }
    if (worst > 1)
        return dps_fail (err, DPS_ERR_INVALID, "%s: element %lld of output %d is %.9g, expected %.9g: off by %.3g times the budget", text,
                         (long long)at, output, kit_get (got, at), kit_get (want, at), worst);
    return DPS_OK;
}

DpsStatus kit_same_bits (const char *what, const KitArray *got, const KitArray *want, DpsError *err)
{
    if (!got || !want)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", what);
    if (got->n != want->n || got->item != want->item)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s: arrays of different size are compared", what);
    for (int64_t i = 0; i < got->n; i++)
        if (memcmp (kit_data (got) + (size_t)i * got->item, kit_data (want) + (size_t)i * want->item, got->item) != 0)
            return dps_fail (err, DPS_ERR_INVALID, "%s: element %lld of %lld is %.9g, expected the same bits as %.9g", what, (long long)i,
                             (long long)got->n, kit_get (got, i), kit_get (want, i));
    return DPS_OK;
}

DpsStatus kit_open (Kit *k, CheckContext *ctx, DpsError *err)
{
    static const char *const oracle[] = {"ref"};
    *k = (Kit){.ctx = ctx, .backend = ctx->table, .seed = ctx->seed, .ops = json_object ()};
    k->pack = dps_registry_get (ctx->registry, DPS_PACK_ID, ctx->plugin->id);
    for (uint32_t i = 0; i < DPS_DEVICES_MAX && !k->device; i++) {
        k->info = (DpsDeviceInfo){.size = sizeof k->info};
        DpsStatus st = k->backend->enumerate (i, &k->info, err);
        if (st == DPS_ERR_NOT_FOUND && i == 0)
            return check_skip (err, "it has no device here");
        DPS_TRY (st);
        if (!ctx->device || (k->info.name && !strcmp (k->info.name, ctx->device)))
            k->device = k->info.device;
    }
    if (!k->device)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "it has no device '%s'", ctx->device ? ctx->device : "");
    return dps_exec_open (&k->ref, ctx->registry, oracle, 1, err);
}

DpsStatus kit_close (Kit *k, DpsStatus st, DpsError *err)
{
    kit_clear (k);
    dps_exec_free (&k->ref, &k->scratch);
    dps_exec_close (&k->ref);
    if (k->n_compared || k->n_refused) {
        check_note_number (k->ctx, "compared", (double)k->n_compared);
        check_note_number (k->ctx, "refused", (double)k->n_refused);
    }
    if (k->n_compared) {
        check_note_number (k->ctx, "worst", k->worst);
        check_note_text (k->ctx, "worst_at", k->worst_at);
    }
    json_object_set_new (k->ctx->notes, "ops", k->ops);
    if (k->n_refused)
        check_note_text (k->ctx, "refusal", k->refusal);
    if (st == KIT_REFUSED || (st == DPS_OK && k->n_refused && !k->n_compared))
        return check_skip (err, "refused: %s", k->refusal);
    return st;
}
