/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/replay.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "exec/replay_memory.h"
#include "plugin/host.h"

typedef struct Replay {
    const DpsReplayOptions *o;
    DpsReplayMemory memory;
    DpsReplay *out;
} Replay;

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void note_failure (Replay *r, const DpsTraceCall *c, int side, const DpsReplayOperands *x, const char *reason)
{
    DpsReplayFailure *f = &r->out->first;
    r->out->ops[c->kind->op].failed++;
    if (r->out->failed++)
        return;
    const DpsOp op = {.n_in = c->kind->n_in, .n_out = c->kind->n_out, .in = x->list, .out = x->list + c->kind->n_in};
    f->call = c->number;
    snprintf (f->op, sizeof f->op, "%s", dps_op_name (c->kind->op));
    snprintf (f->device, sizeof f->device, "%s", r->memory.sides[side].ex.devices[0].info.name);
    snprintf (f->reason, sizeof f->reason, "%s", reason);
    size_t at = 0;
    for (uint32_t i = 0; i < op.n_in + op.n_out && at + 80 < sizeof f->operands; i++)
        if (x->list[i]) {
            char text[80];
            at += (size_t)snprintf (f->operands + at, sizeof f->operands - at, "%s%s", at ? ", " : "",
                                    dps__operand_text (&op, i, text, sizeof text));
        }
}

/* What a call that did not run would have written: some numbers, the same on both sides. */
static void stand_in (Replay *r, const DpsTraceCall *c, DpsReplayOperands *x)
{
    for (int s = 0; s < r->memory.n_sides; s++)
        for (uint32_t i = c->kind->n_in; i < c->kind->n_in + c->kind->n_out; i++) {
            const DpsTraceView *v = &c->kind->views[i];
            const DpsTraceFill f = {.kind = DPS_FILL_NORMAL, .seed = c->number, .rms = 1};
            if (x[s].list[i] && v->dtype >= DPS_DTYPE_F32 && v->dtype <= DPS_DTYPE_F64 && dps_view_contiguous (&x[s].views[i]))
                dps__replay_fill (&r->memory, &f, &x[s].views[i], x[s].bytes[i], NULL);
        }
}

static double tolerance_of (const Replay *r, const DpsTraceCase *c)
{
    double t = 1e-3;
    for (uint32_t i = 0; i < c->n_in + c->n_out; i++)
        if (c->views[i].present && (c->views[i].dtype == DPS_DTYPE_BF16 || c->views[i].dtype == DPS_DTYPE_F16))
            t = 2e-2;
    return r->o->tolerance > 0 ? r->o->tolerance : t;
}

/* Largest difference over the largest number; infinite when one side has a NaN alone. Then side 0 goes on from side 1's numbers. */
static double compare (const DpsReplayOperands *x, const DpsReplayOperands *y, uint32_t i, int64_t *out_at)
{
    const DpsView *a = &x->views[i], *b = &y->views[i];
    double worst = 0, largest = 0;
    *out_at = 0;
    for (int64_t k = 0, n = dps_view_count (a); k < n; k++) {
        double p = dps__element (a->dtype, a->host, k), q = dps__element (b->dtype, b->host, k), d = fabs (p - q);
        if (isnan (p) && isnan (q))
            continue;
        if (p == q)
            d = 0;
        largest = fmax (largest, fabs (q));
        if (!(d <= worst)) {
            worst = isnan (d) ? (double)INFINITY : d;
            *out_at = k;
        }
    }
    memcpy (a->host, b->host, x->bytes[i]);
    return worst > 0 ? worst / fmax (largest, 1e-30) : 0;
}

static void compare_all (Replay *r, const DpsTraceCall *c, DpsReplayOperands *x)
{
    DpsReplayOp *op = &r->out->ops[c->kind->op];
    double limit = tolerance_of (r, c->kind);
    int told = 0;
    for (uint32_t i = c->kind->n_in; i < c->kind->n_in + c->kind->n_out; i++) {
        int64_t at;
        if (!x[0].list[i] || !x[1].list[i] || !dps_view_contiguous (&x[0].views[i]))
            continue;
        double d = compare (&x[0], &x[1], i, &at);
        if (d > op->worst) {
            op->worst = d;
            op->worst_call = c->number;
        }
        if (d <= limit || told)
            continue;
        char reason[200];
        snprintf (reason, sizeof reason, "out[%u] differs from %s by %.3g of its largest number, at element %lld; expected at most %g",
                  (unsigned)(i - c->kind->n_in), r->memory.sides[1].ex.devices[0].info.name, d, (long long)at, limit);
        note_failure (r, c, 0, x, reason);
        told = 1;
    }
}

static DpsStatus run_sides (Replay *r, const DpsTraceCall *c, DpsReplayOperands *x, DpsError *err)
{
    DpsReplayOp *op = &r->out->ops[c->kind->op];
    int ok = 1;
    for (int s = r->memory.n_sides - 1; s >= 0; s--) {
        DpsError why = DPS_ERROR_INIT;
        double start = now ();
        const DpsOp call = {.in = x[s].list,
                            .n_in = c->kind->n_in,
                            .out = x[s].list + c->kind->n_in,
                            .n_out = c->kind->n_out,
                            .attrs = c->attrs,
                            .n_attrs = c->n_attrs};
        DpsStatus st = dps_exec_op (&r->memory.sides[s].ex, c->kind->op, call, &why);
        *(s ? &op->against_seconds : &op->seconds) += now () - start;
        if (st == DPS_ERR_NOMEM)
            return dps_fail (err, st, "%s", why.msg);
        if (st != DPS_OK && ok)
            note_failure (r, c, s, &x[s], why.msg);
        ok &= st == DPS_OK;
    }
    if (!ok)
        stand_in (r, c, x);
    else if (r->memory.n_sides > 1)
        compare_all (r, c, x);
    return DPS_OK;
}

static DpsStatus run_call (Replay *r, const DpsTraceCall *c, DpsError *err)
{
    DpsReplayOperands *x = dps_calloc (DPS_REPLAY_SIDES, sizeof *x);
    DpsStatus st = x ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    for (int s = 0; s < r->memory.n_sides && st == DPS_OK; s++)
        st = dps__replay_place (&r->memory, s, c, &x[s], err);
    if (st == DPS_OK) {
        char crumb[48];
        snprintf (crumb, sizeof crumb, "replay of call %llu", (unsigned long long)c->number);
        dps_host ()->breadcrumb (dps_str (crumb));
        r->out->calls++;
        r->out->last_call = c->number;
        r->out->ops[c->kind->op].calls++;
        st = run_sides (r, c, x, err);
    }
    for (int s = 0; s < r->memory.n_sides && x; s++)
        dps__replay_release (&x[s]);
    dps_free (x);
    return st;
}

static DpsStatus act (Replay *r, const DpsTraceEvent *e, DpsError *err)
{
    DpsReplay *out = r->out;
    switch (e->kind) {
    case DPS_TRACE_ALLOC: return dps__replay_alloc (&r->memory, e->number, e->bytes, err);
    case DPS_TRACE_FREE: return dps__replay_drop (&r->memory, e->number, err);
    case DPS_TRACE_CALL: return run_call (r, &e->call, err);
    case DPS_TRACE_DEVICE:
        if (!out->recorded_on[0])
            snprintf (out->recorded_on, sizeof out->recorded_on, "%s", e->name);
        return DPS_OK;
    case DPS_TRACE_FAILED:
        if (!out->recorded_failure[0]) {
            snprintf (out->recorded_failure, sizeof out->recorded_failure, "%s: %s", e->name, e->text);
            out->recorded_failed_call = e->number;
        }
        return DPS_OK;
    default: snprintf (out->end, sizeof out->end, "%.7s", e->kind == DPS_TRACE_END ? e->name : "cut"); return DPS_OK;
    }
}

static DpsStatus play (Replay *r, const char *data, size_t len, DpsError *err)
{
    DpsTraceEvent *e = dps_calloc (1, sizeof *e);
    DpsStatus st = e ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    while (st == DPS_OK && !r->out->end[0]) {
        st = dps__trace_next (&r->memory.trace, e, err);
        if (st == DPS_OK)
            st = act (r, e, err);
        if (r->o->progress && len)
            r->o->progress (r->o->ctx, (double)(r->memory.trace.at - data) / (double)len);
    }
    dps_free (e);
    return st;
}

DpsStatus dps_replay (const DpsRegistry *reg, const char *data, size_t len, const DpsReplayOptions *o, DpsReplay *out, DpsError *err)
{
    const char *names[DPS_REPLAY_SIDES] = {o->backend, o->against};
    long pages = sysconf (_SC_PHYS_PAGES), page = sysconf (_SC_PAGESIZE);
    uint64_t half = pages > 0 && page > 0 ? (uint64_t)pages / 2 * (uint64_t)page : (uint64_t)1 << 30;
    Replay r = {.o = o, .memory.limit = o->memory ? o->memory : half, .out = out};
    *out = (DpsReplay){0};
    DpsStatus st = dps__trace_open (&r.memory.trace, data, len, o->path, err);
    snprintf (out->ids, sizeof out->ids, "%s", r.memory.trace.ids);
    for (int s = 0; s < DPS_REPLAY_SIDES && st == DPS_OK && names[s]; s++) {
        r.memory.n_sides++;
        st = dps_exec_open (&r.memory.sides[s].ex, reg, &names[s], 1, err);
    }
    if (st == DPS_OK)
        st = play (&r, data, len, err);
    dps__replay_close (&r.memory);
    return st;
}
