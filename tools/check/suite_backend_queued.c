/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_queued.c: ops that are prepared, queued, recorded and timed (stream.h): each gives the bits that run gives.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "check/typical.h"

static const char *const all_ops[] = {
#define OP(name, n_in, n_out, shape, adjoint) #name,
#include "graph/ops.def"
#undef OP
};
enum { N_OPS = sizeof all_ops / sizeof *all_ops, MOST_WAIT_MS = 20000 };

/* The outputs of `c` afresh, with what they held. */
static KitCall fresh (Kit *k, const KitCall *c)
{
    KitCall f = *c;
    for (int i = 0; i < KIT_MAX_OUT; i++) {
        if (!c->out[i])
            continue;
        f.out[i] = kit_copy (k, c->out[i]);
        for (int j = 0; j < KIT_MAX_IN; j++)
            if (c->in[j] == c->out[i])
                f.in[j] = f.out[i];
    }
    return f;
}

static DpsStatus same_outputs (const char *what, const KitCall *got, const KitCall *want, DpsError *err)
{
    for (int i = 0; i < KIT_MAX_OUT; i++)
        if (got->out[i])
            DPS_TRY (kit_same_bits (what, got->out[i], want->out[i], err));
    return DPS_OK;
}

/* A plan made of views that are gone when it runs, run twice, the second time on other buffers. */
static DpsStatus run_prepared (Kit *k, const KitCall *c, struct DpsPlan *plan, DpsError *err)
{
    char text[200], what[260];
    uint64_t bytes = k->backend->plan_info (k->device, plan);
    KitArray *scratch = bytes ? kit_bytes (k, bytes, 64) : NULL;
    KitCall want = fresh (k, c);
    DPS_TRY (kit_run_moved (k, &want, err));
    for (int time = 0; time < 2; time++) {
        KitCall f = fresh (k, c);
        KitOp o;
        kit_op (&f, &o);
        if (scratch)
            o.in[o.op.n_in++] = &scratch->view;
        DPS_TRY (kit_upload (k, &f, err));
        DPS_TRY (k->backend->run_plan (k->device, plan, &o.op, err));
        DPS_TRY (kit_download (k, &f, err));
        snprintf (what, sizeof what, "%s, prepared", kit_call_text (&f, text, sizeof text));
        DPS_TRY (same_outputs (what, &f, &want, err));
    }
    k->n_compared++;
    return DPS_OK;
}

static DpsStatus one_plan (Kit *k, const char *op, uint32_t dtype, const TypicalSize *z, DpsError *err)
{
    KitCall c;
    KitOp o;
    struct DpsPlan *plan = NULL;
    DPS_TRY (typical_call (k, op, dtype, z, &c, err));
    kit_op (&c, &o);
    int takes = kit_run (k, &c, DPS_RUN_DRY, err) == DPS_OK;
    DpsStatus st = k->backend->prepare (k->device, &o.op, &plan, err);
    memset (&o, KIT_BYTE, sizeof o); /* it keeps no pointer into op */
    if ((st == DPS_ERR_UNSUPPORTED || st == DPS_ERR_DTYPE) && err->msg[0]) {
        snprintf (k->refusal, sizeof k->refusal, "%.390s", err->msg);
        return KIT_REFUSED;
    }
    if (st != DPS_OK)
        return dps_error_prefix (err, "prepare %s", op);
    if (!takes || !plan)
        st = dps_fail (err, DPS_ERR_INVALID, "prepare %s: %s", op, plan ? "it takes what run refuses" : "no plan and no error");
    if (st == DPS_OK)
        st = run_prepared (k, &c, plan, err);
    k->backend->plan_free (k->device, plan);
    return st;
}

static DpsStatus plans (Kit *k, DpsError *err)
{
    if (!k->backend->prepare)
        return check_skip (err, "it has no prepare, run_plan, plan_info and plan_free");
    for (int i = 0; i < N_OPS; i++)
        for (int m = 0; m < 4; m++) {
            DPS_TRY (kit_refusable (k, one_plan (k, all_ops[i], kit_mixed (m, 0), m & 2 ? &typical_large : &typical_small, err)));
            kit_clear (k);
        }
    k->backend->plan_free (k->device, NULL);
    return DPS_OK;
}

static const void *extension (const Kit *k, const char *id) { return dps_registry_get (k->ctx->registry, id, k->ctx->plugin->id); }

/* y = x·Wᵀ, z = y·Uᵀ: the second waits for the first. */
typedef struct Pair {
    KitCall first, second, want_second;
} Pair;

static DpsStatus make_pair (Kit *k, Pair *p, DpsError *err)
{
    KitArray *x = kit_normals (k, F32, 133, 257, 1), *w = kit_normals (k, F32, 64, 257, 1), *u = kit_normals (k, F32, 31, 64, 1);
    p->first = (KitCall){.name = "linear", .in = {x, w}, .out = {kit_array (k, F32, 133, 64)}};
    p->second = (KitCall){.name = "linear", .in = {p->first.out[0], u}, .out = {kit_array (k, F32, 133, 31)}};
    KitCall first = fresh (k, &p->first);
    p->want_second = (KitCall){.name = "linear", .in = {first.out[0], u}, .out = {kit_array (k, F32, 133, 31)}};
    DPS_TRY (kit_call (k, &first, err));
    DPS_TRY (kit_call (k, &p->want_second, err));
    DPS_TRY (kit_upload (k, &p->first, err));
    return kit_upload (k, &p->second, err);
}

static DpsStatus wait_for (const DpsQueues *q, struct DpsQueue *queue, DpsError *err)
{
    struct DpsEvent *event = NULL;
    uint32_t done = 0;
    DPS_TRY (q->record (queue, &event, err));
    DpsStatus st = q->sync (event, MOST_WAIT_MS, err);
    if (st == DPS_OK)
        st = q->query (event, &done, err);
    if (st == DPS_OK && done != 1)
        st = dps_fail (err, DPS_ERR_INVALID, "dps.stream: query after sync says %u, expected 1", done);
    q->event_free (event);
    return st;
}

/* Work in one queue in its order; in two queues, the second waiting for an event of the first. */
static DpsStatus queued (Kit *k, const DpsQueues *q, struct DpsQueue *a, struct DpsQueue *b, DpsError *err)
{
    Pair p;
    KitOp first, second;
    struct DpsEvent *between = NULL;
    DPS_TRY (make_pair (k, &p, err));
    kit_op (&p.first, &first);
    kit_op (&p.second, &second);
    DPS_TRY (q->run (a, &first.op, NULL, err));
    if (a != b) {
        DPS_TRY (q->record (a, &between, err));
        DPS_TRY (q->wait (b, between, err));
    }
    DPS_TRY (q->run (b, &second.op, NULL, err));
    memset (&first, KIT_BYTE, sizeof first); /* op structs are borrowed until return */
    memset (&second, KIT_BYTE, sizeof second);
    DPS_TRY (wait_for (q, b, err));
    q->event_free (between);
    DPS_TRY (kit_download (k, &p.second, err));
    DPS_TRY (same_outputs (a == b ? "two ops in one queue" : "two ops in two queues", &p.second, &p.want_second, err));
    k->n_compared++;
    return DPS_OK;
}

static DpsStatus streams (Kit *k, DpsError *err)
{
    const DpsQueues *q = extension (k, DPS_STREAM_ID);
    struct DpsQueue *a = NULL, *b = NULL;
    const KitCall unknown = {.name = "com.example.no_such_op"};
    KitOp o;
    DPS_TRY (q->open (k->device, 0, &a, err));
    DpsStatus st = q->open (k->device, 1, &b, err);
    for (int i = 0; i < 8 && st == DPS_OK; i++) {
        st = queued (k, q, a, i % 2 ? b : a, err);
        kit_clear (k);
    }
    kit_op (&unknown, &o);
    if (st == DPS_OK && q->run (a, &o.op, NULL, NULL) != DPS_ERR_UNSUPPORTED)
        st = dps_fail (err, DPS_ERR_INVALID, "dps.stream: an unknown op is accepted, expected UNSUPPORTED at once");
    q->close (a);
    q->close (b);
    q->close (NULL);
    q->event_free (NULL);
    return st;
}

/* What one thread does with one queue: x comes in from host memory, then y = x·Wᵀ many times, and each y goes out to host memory. */
enum { RUNS = 48 };
typedef struct Lane {
    const DpsQueues *queues;
    struct DpsQueue *queue;
    KitCall call, want;
    KitArray *from, *y[RUNS], *to[RUNS]; /* from, to: host memory */
    pthread_t thread;
    int started;
    DpsStatus st;
    DpsError err;
} Lane;

static DpsStatus make_lane (Kit *k, Lane *l, int64_t rows, DpsError *err)
{
    l->err = (DpsError)DPS_ERROR_INIT;
    DPS_TRY (l->queues->open (k->device, 0, &l->queue, err));
    KitArray *w = kit_normals (k, F32, 64, 257, 1);
    k->host_only = 1;
    l->from = kit_normals (k, F32, rows, 257, 1);
    for (int i = 0; i < RUNS; i++)
        l->to[i] = kit_array (k, F32, rows, 64);
    k->host_only = 0;
    l->want = (KitCall){.name = "linear", .in = {kit_copy (k, l->from), w}, .out = {kit_array (k, F32, rows, 64)}};
    DPS_TRY (kit_call (k, &l->want, err));
    l->call = l->want;
    l->call.in[0] = kit_array (k, F32, rows, 257);
    for (int i = 0; i < RUNS; i++) {
        l->call.out[0] = l->y[i] = kit_array (k, F32, rows, 64);
        DPS_TRY (kit_upload (k, &l->call, err));
    }
    return DPS_OK;
}

static DpsStatus drive (Lane *l)
{
    KitCall c = l->call;
    KitOp o;
    DPS_TRY (l->queues->copy (l->queue, &l->from->view, &c.in[0]->view, &l->err));
    for (int i = 0; i < RUNS; i++) {
        c.out[0] = l->y[i];
        kit_op (&c, &o);
        DPS_TRY (l->queues->run (l->queue, &o.op, NULL, &l->err));
    }
    for (int i = 0; i < RUNS; i++)
        DPS_TRY (l->queues->copy (l->queue, &l->y[i]->view, &l->to[i]->view, &l->err));
    DPS_TRY (wait_for (l->queues, l->queue, &l->err));
    for (int i = 0; i < RUNS; i++)
        DPS_TRY (kit_same_bits ("dps.stream: copied in, multiplied, copied out, two threads at once", l->to[i], l->want.out[0], &l->err));
    return DPS_OK;
}

static void *drive_thread (void *arg)
{
    Lane *l = arg;
    for (int time = 0; time < 40 && l->st == DPS_OK; time++)
        l->st = drive (l);
    return NULL;
}

/* Queues are serial each, not together: two threads drive two of them at once, copies included. */
static DpsStatus queues_at_once (Kit *k, DpsError *err)
{
    enum { LANES = 2 };
    Lane lanes[LANES] = {0};
    DpsStatus st = DPS_OK;
    for (int i = 0; i < LANES; i++) {
        lanes[i].queues = extension (k, DPS_STREAM_ID);
        st = st == DPS_OK ? make_lane (k, &lanes[i], 3 + i, err) : st;
    }
    for (int i = 0; i < LANES && st == DPS_OK; i++)
        lanes[i].started = pthread_create (&lanes[i].thread, NULL, drive_thread, &lanes[i]) == 0;
    for (int i = 0; i < LANES; i++) {
        Lane *l = &lanes[i];
        if (l->started)
            pthread_join (l->thread, NULL);
        else if (st == DPS_OK)
            st = dps_fail (err, DPS_ERR_LIMIT, "no thread");
        if (st == DPS_OK && l->st != DPS_OK)
            *err = l->err;
        st = st == DPS_OK ? l->st : st;
        l->queues->close (l->queue);
        k->n_compared++;
    }
    return st;
}

/* A recorded pair of ops, run as one, has the bits of the same ops one after the other. */
static DpsStatus segments (Kit *k, DpsError *err)
{
    const DpsRecorder *r = extension (k, DPS_SEGMENT_ID);
    Pair p;
    KitOp first, second;
    struct DpsRecorded *recorded = NULL;
    uint64_t n = 0, bytes = 0;
    DPS_TRY (make_pair (k, &p, err));
    kit_op (&p.first, &first);
    kit_op (&p.second, &second);
    const DpsOp *const ops[] = {&first.op, &second.op};
    DpsStatus st = r->query (k->device, ops, 2, &n, err);
    if (st == DPS_ERR_UNSUPPORTED && err->msg[0])
        return check_skip (err, "it takes over no pair of f32 products: %s", err->msg);
    DPS_TRY (st);
    if (n < 1 || n > 2)
        return dps_fail (err, DPS_ERR_INVALID, "dps.segment: query takes over %llu ops of 2", (unsigned long long)n);
    DPS_TRY (r->build (k->device, ops, n, &recorded, &bytes, err));
    KitArray *scratch = bytes ? kit_bytes (k, bytes, 64) : NULL;
    for (int time = 0; time < 2 && st == DPS_OK; time++) {
        if (time) { /* buffers may differ from those it was built with */
            p.first.out[0] = p.second.in[0] = kit_array (k, F32, 133, 64);
            p.second.out[0] = kit_array (k, F32, 133, 31);
            DPS_TRY (kit_upload (k, &p.first, err));
            DPS_TRY (kit_upload (k, &p.second, err));
            kit_op (&p.first, &first);
            kit_op (&p.second, &second);
        }
        st = r->run (recorded, ops, n, scratch ? &scratch->view : NULL, NULL, err);
        if (st == DPS_OK && n == 1)
            st = k->backend->run (k->device, &second.op, 0, err);
        if (st == DPS_OK)
            st = kit_download (k, &p.second, err);
        if (st == DPS_OK)
            st = same_outputs ("two ops recorded as one", &p.second, &p.want_second, err);
    }
    r->free (recorded);
    r->free (NULL);
    k->n_compared++;
    return st;
}

/* Between start and stop every piece of work has a record that names its op. */
static DpsStatus profile (Kit *k, DpsError *err)
{
    const DpsProfile *t = extension (k, DPS_PROFILE_ID);
    KitCall c;
    uint64_t n = 0, named = 0;
    DpsStatus st;
    DPS_TRY (typical_call (k, "linear", F32, &typical_large, &c, err));
    DPS_TRY (kit_call (k, &c, err));
    st = t->start (k->device, err);
    if (st == DPS_ERR_UNSUPPORTED && err->msg[0])
        return check_skip (err, "it cannot profile here: %s", err->msg);
    DPS_TRY (st);
    DPS_TRY (kit_run (k, &c, 0, err));
    DPS_TRY (t->stop (k->device, err));
    for (DpsProfileRecord one = {.size = sizeof one}; (st = t->record (k->device, n, &one, err)) == DPS_OK && n < 10000; n++)
        named += one.op == dps_intern ("linear") && one.duration_ns > 0;
    k->n_compared++;
    if (st != DPS_ERR_NOT_FOUND || !named)
        return dps_fail (
            err, DPS_ERR_INVALID,
            "dps.profile: one linear left %llu records, %llu of linear with a duration, then %s; expected one or more, then NOT_FOUND",
            (unsigned long long)n, (unsigned long long)named, dps_status_name (st));
    return DPS_OK;
}

KIT_CASE (plans)
KIT_CASE (streams)
KIT_CASE (queues_at_once)
KIT_CASE (segments)
KIT_CASE (profile)

static const CheckCase cases[] = {
    KIT_LINE (plans, 1, CHECK_REQUIRED),
    KIT_LINE (streams, 2, CHECK_REQUIRED, .needs = DPS_STREAM_ID),
    KIT_LINE (queues_at_once, 2, 0, .needs = DPS_STREAM_ID),
    KIT_LINE (segments, 4, CHECK_REQUIRED, .needs = DPS_SEGMENT_ID),
    KIT_LINE (profile, 5, CHECK_REQUIRED, .needs = DPS_PROFILE_ID),
};
const CheckSuite check_suite_backend_queued = {"backend.queued", DPS_BACKEND_ID, "ops prepared, queued, recorded, timed", cases,
                                               sizeof cases / sizeof *cases};
