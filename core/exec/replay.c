/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/replay.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "exec/stage.h"
#include "exec/trace_read.h"
#include "plugin/host.h"

enum { MAX_SIDES = 2, PACK_ROWS = 1024 /* a multiple of 64 (backend.h, pack) */ };

/** A packed weight, or its rows where the backend packs none: of its own memory, since its size is the backend's. */
typedef struct Packed {
    uint64_t buffer; /* of the record */
    uint32_t dtype, orientation, layout;
    int64_t shape[2];
    DpsBlock block;
} Packed;

typedef struct Buffer {
    uint64_t id, bytes;
    DpsBlock block[MAX_SIDES];
} Buffer;

typedef struct Side {
    DpsExec ex;
    Packed *packed;
    size_t n_packed, capacity;
} Side;

typedef struct Replay {
    const DpsReplayOptions *o;
    DpsTrace trace;
    Side sides[MAX_SIDES];
    int n_sides;
    Buffer *buffers;
    size_t n_buffers, capacity;
    uint64_t bytes, limit;
    DpsReplay *out;
} Replay;

/** One call as a side sees it. */
typedef struct Operands {
    DpsView views[DPS_OPERANDS_MAX];
    const DpsView *list[DPS_OPERANDS_MAX];
    uint64_t bytes[DPS_OPERANDS_MAX];
    void *own[DPS_OPERANDS_MAX]; /* memory of the host, for this call */
} Operands;

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static DpsStatus refuse (const Replay *r, DpsStatus st, DpsError *err, const char *what, uint64_t number)
{
    return dps_fail (err, st, "%s:%ld: %s %llu", r->trace.where, r->trace.line, what, (unsigned long long)number);
}

/* Buffers. */

static Buffer *find_buffer (const Replay *r, uint64_t id)
{
    for (size_t i = r->n_buffers; i-- > 0;)
        if (r->buffers[i].id == id)
            return &r->buffers[i];
    return NULL;
}

static DpsStatus count_memory (Replay *r, uint64_t bytes, DpsError *err)
{
    if (bytes > r->limit - r->bytes)
        return dps_fail (err, DPS_ERR_LIMIT,
                         "%s:%ld: %llu bytes more than the %llu that are live, at most %llu. Hint: --memory allows more", r->trace.where,
                         r->trace.line, (unsigned long long)bytes, (unsigned long long)r->bytes, (unsigned long long)r->limit);
    r->bytes += bytes;
    return DPS_OK;
}

/* On a device with memory of its own the record's buffers are the host's: exec stages what an op needs. */
static DpsStatus alloc_on (Side *s, uint64_t bytes, DpsBlock *out, DpsError *err)
{
    if (dps_exec_shares (&s->ex))
        return dps_exec_alloc (&s->ex, bytes, out, err);
    *out = (DpsBlock){.host = dps_aligned_alloc (64, bytes ? bytes : 1, 1), .bytes = bytes};
    return out->host ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: no memory for %llu bytes", (unsigned long long)bytes);
}

static void free_on (Side *s, DpsBlock *block)
{
    if (block->buffer)
        dps_exec_free (&s->ex, block);
    else
        dps_free (block->host);
    *block = (DpsBlock){0};
}

static DpsStatus add_buffer (Replay *r, uint64_t id, uint64_t bytes, DpsError *err)
{
    if (find_buffer (r, id))
        return refuse (r, DPS_ERR_FORMAT, err, "an alloc of a buffer that is live:", id);
    if (DPS_GROW (r->buffers, r->n_buffers, r->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    DPS_TRY (count_memory (r, bytes, err));
    Buffer *b = &r->buffers[r->n_buffers++];
    *b = (Buffer){.id = id, .bytes = bytes};
    for (int s = 0; s < r->n_sides; s++) {
        DPS_TRY (alloc_on (&r->sides[s], bytes, &b->block[s], err));
        memset (b->block[s].host, 0, bytes); /* what nothing filled is the same on both sides */
    }
    return DPS_OK;
}

static void free_packed (Replay *r, Side *s, uint64_t buffer)
{
    for (size_t i = s->n_packed; i-- > 0;)
        if (s->packed[i].buffer == buffer) {
            r->bytes -= s->packed[i].block.bytes;
            free_on (s, &s->packed[i].block);
            s->packed[i] = s->packed[--s->n_packed];
        }
}

static DpsStatus drop_buffer (Replay *r, uint64_t id, DpsError *err)
{
    Buffer *b = find_buffer (r, id);
    if (!b)
        return refuse (r, DPS_ERR_FORMAT, err, "a free of a buffer that is not live:", id);
    for (int s = 0; s < r->n_sides; s++) {
        free_on (&r->sides[s], &b->block[s]);
        free_packed (r, &r->sides[s], id);
    }
    r->bytes -= b->bytes;
    *b = r->buffers[--r->n_buffers];
    return DPS_OK;
}

/* Contents. */

static void put_number (uint32_t dtype, void *to, int64_t i, double x)
{
    float f = (float)x;
    uint32_t bits;
    memcpy (&bits, &f, sizeof bits);
    switch (dtype) {
    case DPS_DTYPE_F32: ((float *)to)[i] = f; break;
    case DPS_DTYPE_F64: ((double *)to)[i] = x; break;
    case DPS_DTYPE_BF16: ((uint16_t *)to)[i] = f != f ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); break;
    default: { /* f16: to the nearest below, which is as good a number */
        int e = (int)(bits >> 23 & 255) - 112;
        int sign = (int)(bits >> 16 & 0x8000);
        int h = f != f ? 0x7e00 : e <= 0 ? sign : e >= 31 ? sign | 0x7bff : sign | e << 10 | (int)(bits >> 13 & 0x3ff);
        ((uint16_t *)to)[i] = (uint16_t)h;
    }
    }
}

static double number (const DpsTraceFill *f, uint64_t i)
{
    double x = f->kind == DPS_FILL_ZERO ? 0 : f->rms * dps__trace_draw (f->seed, i);
    return f->kind == DPS_FILL_POSITIVE ? fabs (x) : f->kind == DPS_FILL_NAN && i == 0 ? (double)NAN : x;
}

static DpsStatus fill (const Replay *r, const DpsTraceFill *f, const DpsView *v, uint64_t bytes, DpsError *err)
{
    int64_t n = dps__view_count (v);
    const DpsTraceData *d = f->kind == DPS_FILL_DATA ? &r->trace.data[f->seed] : NULL;
    if (d && d->n != bytes)
        return refuse (r, DPS_ERR_FORMAT, err, "data of another size than its operand's bytes,", bytes);
    if (d)
        memcpy (v->host, d->bytes, bytes);
    for (int64_t i = 0; !d && i < n; i++)
        if (f->kind == DPS_FILL_TOKENS)
            ((int32_t *)v->host)[i] = (int32_t)dps_rng_below (f->seed, 0, (uint64_t)i, (uint64_t)f->limit);
        else
            put_number (v->dtype, v->host, i, number (f, (uint64_t)i));
    return DPS_OK;
}

/* Packed weights. */

static DpsStatus pack_rows (Side *s, Packed *p, const DpsTraceFill *f, DpsError *err)
{
    const DpsExecDevice *d = &s->ex.devices[0];
    float *rows = dps_malloc ((size_t)PACK_ROWS, (size_t)p->shape[1] * sizeof *rows);
    DpsStatus st = rows ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    for (int64_t row = 0; st == DPS_OK && row < p->shape[0]; row += PACK_ROWS) {
        int64_t n = p->shape[0] - row < PACK_ROWS ? p->shape[0] - row : PACK_ROWS, piece[2] = {n, p->shape[1]};
        for (int64_t i = 0; i < n * p->shape[1]; i++)
            rows[i] = (float)number (f, (uint64_t)(row * p->shape[1] + i));
        DpsView from = dps_view (DPS_DTYPE_F32, 2, piece, rows), to = dps_view (p->dtype, 2, p->shape, p->block.host);
        to.buffer = p->block.buffer;
        to.layout = p->layout;
        if (p->layout)
            st = d->pack->pack (d->info.device, &from, row, p->orientation, &to, err);
        else
            for (int64_t i = 0; i < n * p->shape[1]; i++)
                put_number (p->dtype, p->block.host, row * p->shape[1] + i, (double)rows[i]);
    }
    dps_free (rows);
    return st;
}

static DpsStatus make_packed (Replay *r, Side *s, const DpsTraceView *v, uint64_t buffer, const DpsTraceFill *f, Packed **out,
                              DpsError *err)
{
    const DpsExecDevice *d = &s->ex.devices[0];
    uint64_t bytes = 0;
    if (DPS_GROW (s->packed, s->n_packed, s->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    Packed *p = &s->packed[s->n_packed];
    *p = (Packed){.buffer = buffer, .dtype = v->dtype, .orientation = (uint32_t)v->pack, .shape = {v->shape[0], v->shape[1]}};
    if (!d->pack ||
        d->pack->query (d->info.device, p->shape[0], p->shape[1], p->dtype, p->orientation, &bytes, &p->layout, NULL) != DPS_OK) {
        p->layout = 0;
        bytes = (uint64_t)(p->shape[0] * p->shape[1]) * dps_dtype_bytes (p->dtype);
    }
    DPS_TRY (p->layout ? dps_exec_alloc (&s->ex, bytes, &p->block, err) : alloc_on (s, bytes, &p->block, err));
    s->n_packed++;
    DPS_TRY (count_memory (r, bytes, err));
    *out = p;
    return pack_rows (s, p, f, err);
}

/* Packed again in place when the call says so: another operand of the call may be the same. */
static DpsStatus packed_of (Replay *r, Side *s, const DpsTraceCall *c, uint32_t i, Packed **out, DpsError *err)
{
    const DpsTraceView *v = &c->kind->views[i];
    const DpsTraceFill given = c->fill[i], usual = {.kind = DPS_FILL_NORMAL, .seed = 1, .rms = 0.05};
    for (size_t k = 0; k < s->n_packed; k++) {
        Packed *p = &s->packed[k];
        if (p->buffer != c->at[i].buffer || p->dtype != v->dtype || p->orientation != (uint32_t)v->pack || p->shape[0] != v->shape[0] ||
            p->shape[1] != v->shape[1])
            continue;
        *out = p;
        return given.kind == DPS_FILL_NONE ? DPS_OK : pack_rows (s, p, &given, err);
    }
    return make_packed (r, s, v, c->at[i].buffer, given.kind == DPS_FILL_NONE ? &usual : &given, out, err);
}

/* Calls. */

static DpsStatus place_operand (Replay *r, int side, const DpsTraceCall *c, uint32_t i, Operands *to, DpsError *err)
{
    const DpsTraceView *v = &c->kind->views[i];
    DpsView *view = &to->views[i];
    *view = dps_view (v->dtype, v->rank, v->shape, NULL);
    view->stride = v->has_stride ? v->stride : NULL;
    to->list[i] = view;
    dps__view_bytes (&r->trace.quants, view, &to->bytes[i]);
    if (v->pack >= 0) {
        Packed *p = NULL;
        DPS_TRY (packed_of (r, &r->sides[side], c, i, &p, err));
        view->buffer = p->block.buffer;
        view->host = p->block.host;
        view->layout = p->layout;
        if (!p->layout && c->kind->op == DPS_OP_token_logprobs && i == 3) /* no second pack: the op has the rows in in[1] */
            to->list[i] = NULL;
        return DPS_OK;
    }
    const Buffer *b = c->at[i].buffer ? find_buffer (r, c->at[i].buffer) : NULL;
    if (c->at[i].buffer && (!b || c->at[i].offset > b->bytes || to->bytes[i] > b->bytes - c->at[i].offset))
        return refuse (r, DPS_ERR_FORMAT, err, "an operand lies outside every live buffer: operand", i);
    if (b) {
        view->buffer = b->block[side].buffer;
        view->offset = view->buffer ? c->at[i].offset : 0;
        view->host = (char *)b->block[side].host + c->at[i].offset;
        if (c->at[i].offset % dps_dtype_bytes (v->dtype))
            return refuse (r, DPS_ERR_FORMAT, err, "an operand begins within an element: operand", i);
        return DPS_OK;
    }
    if (to->bytes[i] > r->limit)
        return refuse (r, DPS_ERR_LIMIT, err, "an operand of more bytes than --memory allows:", to->bytes[i]);
    view->host = to->own[i] = dps_calloc (to->bytes[i] ? to->bytes[i] : 1, 1);
    return view->host ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory for %llu bytes", (unsigned long long)to->bytes[i]);
}

static DpsStatus place (Replay *r, int side, const DpsTraceCall *c, Operands *to, DpsError *err)
{
    uint32_t n = c->kind->n_in + c->kind->n_out;
    memset (to, 0, sizeof *to);
    for (uint32_t i = 0; i < n; i++)
        if (c->kind->views[i].present)
            DPS_TRY (place_operand (r, side, c, i, to, err));
    for (uint32_t i = 0; i < n; i++)
        if (c->fill[i].kind != DPS_FILL_NONE && to->list[i] && c->kind->views[i].pack < 0 && dps__view_contiguous (&to->views[i]))
            DPS_TRY (fill (r, &c->fill[i], &to->views[i], to->bytes[i], err));
    return DPS_OK;
}

static int is_quantised (const DpsTraceCase *c)
{
    for (uint32_t i = 0; i < c->n_in + c->n_out; i++)
        if (c->views[i].present && c->views[i].quantised)
            return 1;
    return 0;
}

static void note_failure (Replay *r, const DpsTraceCall *c, int side, const Operands *x, const char *reason)
{
    DpsReplayFailure *f = &r->out->first;
    r->out->ops[c->kind->op].failed++;
    if (r->out->failed++)
        return;
    const DpsOp op = {.n_in = c->kind->n_in, .n_out = c->kind->n_out, .in = x->list, .out = x->list + c->kind->n_in};
    f->call = c->number;
    snprintf (f->op, sizeof f->op, "%s", dps_op_name (c->kind->op));
    snprintf (f->device, sizeof f->device, "%s", r->sides[side].ex.devices[0].info.name);
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
static void stand_in (Replay *r, const DpsTraceCall *c, Operands *x)
{
    for (int s = 0; s < r->n_sides; s++)
        for (uint32_t i = c->kind->n_in; i < c->kind->n_in + c->kind->n_out; i++) {
            const DpsTraceView *v = &c->kind->views[i];
            const DpsTraceFill f = {.kind = DPS_FILL_NORMAL, .seed = c->number, .rms = 1};
            if (x[s].list[i] && v->dtype >= DPS_DTYPE_F32 && v->dtype <= DPS_DTYPE_F64 && dps__view_contiguous (&x[s].views[i]))
                fill (r, &f, &x[s].views[i], x[s].bytes[i], NULL);
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
static double compare (const Operands *x, const Operands *y, uint32_t i, int64_t *out_at)
{
    const DpsView *a = &x->views[i], *b = &y->views[i];
    double worst = 0, largest = 0;
    *out_at = 0;
    for (int64_t k = 0, n = dps__view_count (a); k < n; k++) {
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

static void compare_all (Replay *r, const DpsTraceCall *c, Operands *x)
{
    DpsReplayOp *op = &r->out->ops[c->kind->op];
    double limit = tolerance_of (r, c->kind);
    int told = 0;
    for (uint32_t i = c->kind->n_in; i < c->kind->n_in + c->kind->n_out; i++) {
        int64_t at;
        if (!x[0].list[i] || !x[1].list[i] || !dps__view_contiguous (&x[0].views[i]))
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
                  (unsigned)(i - c->kind->n_in), r->sides[1].ex.devices[0].info.name, d, (long long)at, limit);
        note_failure (r, c, 0, x, reason);
        told = 1;
    }
}

static DpsStatus run_sides (Replay *r, const DpsTraceCall *c, Operands *x, DpsError *err)
{
    DpsReplayOp *op = &r->out->ops[c->kind->op];
    int ok = 1;
    if (is_quantised (c->kind)) {
        op->skipped++;
        stand_in (r, c, x);
        return DPS_OK;
    }
    for (int s = r->n_sides - 1; s >= 0; s--) {
        DpsError why = DPS_ERROR_INIT;
        double start = now ();
        DpsStatus st = dps_exec_op (&r->sides[s].ex, c->kind->op, x[s].list, c->kind->n_in, x[s].list + c->kind->n_in, c->kind->n_out,
                                    c->attrs, c->n_attrs, &why);
        *(s ? &op->against_seconds : &op->seconds) += now () - start;
        if (st == DPS_ERR_NOMEM)
            return dps_fail (err, st, "%s", why.msg);
        if (st != DPS_OK && ok)
            note_failure (r, c, s, &x[s], why.msg);
        ok &= st == DPS_OK;
    }
    if (!ok)
        stand_in (r, c, x);
    else if (r->n_sides > 1)
        compare_all (r, c, x);
    return DPS_OK;
}

static DpsStatus run_call (Replay *r, const DpsTraceCall *c, DpsError *err)
{
    Operands *x = dps_calloc (MAX_SIDES, sizeof *x);
    DpsStatus st = x ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    for (int s = 0; s < r->n_sides && st == DPS_OK; s++)
        st = place (r, s, c, &x[s], err);
    if (st == DPS_OK) {
        char crumb[48];
        snprintf (crumb, sizeof crumb, "replay of call %llu", (unsigned long long)c->number);
        dps_host ()->breadcrumb (dps_str (crumb));
        r->out->calls++;
        r->out->last_call = c->number;
        r->out->ops[c->kind->op].calls++;
        st = run_sides (r, c, x, err);
    }
    for (int s = 0; s < r->n_sides && x; s++)
        for (uint32_t i = 0; i < DPS_OPERANDS_MAX; i++)
            dps_free (x[s].own[i]);
    dps_free (x);
    return st;
}

static DpsStatus act (Replay *r, const DpsTraceEvent *e, DpsError *err)
{
    DpsReplay *out = r->out;
    switch (e->kind) {
    case DPS_TRACE_ALLOC: return add_buffer (r, e->number, e->bytes, err);
    case DPS_TRACE_FREE: return drop_buffer (r, e->number, err);
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
        st = dps__trace_next (&r->trace, e, err);
        if (st == DPS_OK)
            st = act (r, e, err);
        if (r->o->progress && len)
            r->o->progress (r->o->ctx, (double)(r->trace.at - data) / (double)len);
    }
    dps_free (e);
    return st;
}

static void close_all (Replay *r)
{
    for (int s = 0; s < r->n_sides; s++) {
        Side *side = &r->sides[s];
        for (size_t i = 0; i < r->n_buffers; i++)
            free_on (side, &r->buffers[i].block[s]);
        for (size_t i = 0; i < side->n_packed; i++)
            free_on (side, &side->packed[i].block);
        dps_free (side->packed);
        dps_exec_close (&side->ex);
    }
    dps_free (r->buffers);
    dps__trace_close (&r->trace);
}

DpsStatus dps_replay (const DpsRegistry *reg, const char *data, size_t len, const DpsReplayOptions *o, DpsReplay *out, DpsError *err)
{
    const char *names[MAX_SIDES] = {o->backend, o->against};
    long pages = sysconf (_SC_PHYS_PAGES), page = sysconf (_SC_PAGESIZE);
    uint64_t half = pages > 0 && page > 0 ? (uint64_t)pages / 2 * (uint64_t)page : (uint64_t)1 << 30;
    Replay r = {.o = o, .limit = o->memory ? o->memory : half, .out = out};
    *out = (DpsReplay){0};
    DpsStatus st = dps__trace_open (&r.trace, data, len, o->path, err);
    snprintf (out->ids, sizeof out->ids, "%s", r.trace.ids);
    for (int s = 0; s < MAX_SIDES && st == DPS_OK && names[s]; s++) {
        r.n_sides++;
        st = dps_exec_open (&r.sides[s].ex, reg, &names[s], 1, err);
    }
    if (st == DPS_OK)
        st = play (&r, data, len, err);
    close_all (&r);
    return st;
}
