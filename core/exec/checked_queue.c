/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checked_queue.c: queues of a checked device. Each op in a queue is a flight until somebody has waited for an event recorded behind it; the
 * ranges it reads and writes belong to its queue until then, and to queues that were told to wait for such an event. Whoever waits for an event
 * has waited for all that its queue had waited for.
 */
#include <string.h>

#include "base/mem.h"
#include "exec/checked.h"

typedef struct Flight {
    uint32_t queue;     /* from 1 */
    uint64_t turn;      /* of all ops in queues, from 1 */
    uint32_t n, writes; /* ranges; a bit for each that is written */
    const char *first[DPS_OPERANDS_MAX], *end[DPS_OPERANDS_MAX];
    char name[32];
} Flight;

typedef struct Queue {
    struct DpsQueue *real;
    Checked *c;
    uint32_t id; /* from 1; a closed queue's is given again */
    Seen seen;   /* its own last turn too */
} Queue;

typedef struct Event {
    struct DpsEvent *real;
    Checked *c;
    Seen seen; /* by its queue when it was recorded */
} Event;

static Queue *of (struct DpsQueue *q) { return (Queue *)(void *)q; }
static Event *event_of (struct DpsEvent *e) { return (Event *)(void *)e; }

/* The lock is the caller's. */
int dps__checked_in_flight (const Checked *c, const Memory *m)
{
    for (size_t f = 0; f < c->shared->n_flights; f++)
        for (uint32_t i = 0; i < c->shared->flights[f].n; i++)
            if (c->shared->flights[f].first[i] < m->host + m->bytes && m->host < c->shared->flights[f].end[i])
                return 1;
    return 0;
}

/* Where an operand lies: its address, or, where the host has none, a stand-in that is one per buffer. */
static int range_of (Checked *c, const DpsView *v, const char **first, const char **end)
{
    uint64_t bytes = 0;
    if (!v || (!v->host && !v->buffer))
        return 0;
    dps__view_bytes (&c->quants, v, &bytes);
    *first = v->host ? v->host : (const char *)(uintptr_t)v->buffer + v->offset;
    *end = *first + (bytes ? bytes : 1);
    return 1;
}

static DpsStatus conflict (Checked *c, const Flight *f, const DpsOp *op, DpsError *err)
{
    for (uint32_t i = 0; i < op->n_in + op->n_out; i++) {
        const char *first, *end;
        char subject[160];
        if (!range_of (c, dps_op_operand (op, i), &first, &end))
            continue;
        for (uint32_t k = 0; k < f->n; k++)
            if (first < f->end[k] && f->first[k] < end && (i >= op->n_in || f->writes >> k & 1))
                return dps__checked_fault (
                    c, DPS_BLAME_HOST, dps__checked_subject (c, op, i, subject, sizeof subject), err,
                    "is used while %s in queue %u, which %s it, may not be done; expected an event behind that, waited for", f->name,
                    (unsigned)f->queue, f->writes >> k & 1 ? "writes" : "reads");
    }
    return DPS_OK;
}

static int sees (const Seen *s, const Flight *f) { return s && s->turns[f->queue - 1] >= f->turn; }

DpsStatus dps__checked_conflict (Checked *c, const Seen *seen, const DpsOp *op, DpsError *err)
{
    DpsStatus st = DPS_OK;
    dps__checked_lock (c);
    for (size_t k = 0; k < c->shared->n_flights && st == DPS_OK; k++)
        if (!sees (seen, &c->shared->flights[k]))
            st = conflict (c, &c->shared->flights[k], op, err);
    return dps__checked_unlock (c, st);
}

/* Somebody waited for all that was seen. */
static void land (Checked *c, const Seen *seen)
{
    size_t kept = 0;
    dps__checked_lock (c);
    for (size_t k = 0; k < c->shared->n_flights; k++)
        if (!sees (seen, &c->shared->flights[k]))
            c->shared->flights[kept++] = c->shared->flights[k];
    c->shared->n_flights = kept;
    dps__checked_unlock (c, DPS_OK);
}

static DpsStatus add_flight (Queue *q, const DpsOp *op, const char *name, DpsError *err)
{
    Checked *c = q->c;
    if (DPS_GROW (c->shared->flights, c->shared->n_flights, c->shared->flight_capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "validate: out of memory");
    Flight *f = &c->shared->flights[c->shared->n_flights++];
    *f = (Flight){.queue = q->id, .turn = ++c->shared->turns};
    q->seen.turns[q->id - 1] = f->turn;
    memcpy (f->name, name, strnlen (name, sizeof f->name - 1));
    for (uint32_t i = 0; i < op->n_in + op->n_out && i < DPS_OPERANDS_MAX; i++)
        if (range_of (c, dps_op_operand (op, i), &f->first[f->n], &f->end[f->n]))
            f->writes |= (uint32_t)(i >= op->n_in) << f->n++;
    return DPS_OK;
}

static DpsStatus take_off (Queue *q, const DpsOp *op, const char *name, DpsError *err)
{
    dps__checked_lock (q->c);
    return dps__checked_unlock (q->c, add_flight (q, op, name, err));
}

static DpsStatus before (Queue *q, const DpsOp *op, DpsError *err)
{
    char subject[160];
    q->c->calls++;
    for (uint32_t i = 0; i < op->n_in + op->n_out; i++)
        if (dps_op_operand (op, i))
            DPS_TRY (dps__checked_view (q->c, dps_op_operand (op, i), dps__checked_subject (q->c, op, i, subject, sizeof subject), err));
    return dps__checked_conflict (q->c, &q->seen, op, err);
}

/* A number that no open queue has, or 0. */
static uint32_t take_number (Checked *c)
{
    uint32_t id = 0;
    dps__checked_lock (c);
    for (uint32_t i = 0; !id && i < DPS_CHECKED_QUEUES; i++)
        id = c->shared->queue_taken[i] ? 0 : i + 1;
    if (id)
        c->shared->queue_taken[id - 1] = 1;
    dps__checked_unlock (c, DPS_OK);
    return id;
}

static void give_number (Checked *c, uint32_t id)
{
    dps__checked_lock (c);
    c->shared->queue_taken[id - 1] = 0;
    dps__checked_unlock (c, DPS_OK);
}

static DpsStatus open_queue (struct DpsDevice *dev, int32_t priority, struct DpsQueue **out, DpsError *err)
{
    Checked *c = (Checked *)(void *)dev;
    uint32_t id = take_number (c);
    if (!id)
        return dps_fail (err, DPS_ERR_LIMIT, "validate: more than %d queues at a time", DPS_CHECKED_QUEUES);
    Queue *q = dps_calloc (1, sizeof *q);
    DpsStatus st = q ? c->real_queues.open (c->layer.below.info.device, priority, &q->real, err)
                     : dps_fail (err, DPS_ERR_NOMEM, "validate: out of memory");
    if (st != DPS_OK) {
        give_number (c, id);
        dps_free (q);
        return st;
    }
    q->c = c;
    q->id = id;
    c->queues_open++;
    *out = (struct DpsQueue *)(void *)q;
    return DPS_OK;
}

static void close_queue (struct DpsQueue *queue)
{
    Queue *q = of (queue);
    if (!q)
        return;
    q->c->real_queues.close (q->real);
    land (q->c, &q->seen);
    give_number (q->c, q->id);
    q->c->queues_open--;
    dps_free (q);
}

static DpsStatus queue_run (struct DpsQueue *queue, const DpsOp *op, struct DpsPlan *plan, DpsError *err)
{
    Queue *q = of (queue);
    DpsOpCode code = dps__op_code (q->c->op_ids, op->id);
    DPS_TRY (before (q, op, err));
    DPS_TRY (q->c->real_queues.run (q->real, op, plan, err));
    return take_off (q, op, code < DPS_OP_COUNT ? dps_op_name (code) : "an op", err);
}

static DpsStatus queue_copy (struct DpsQueue *queue, const DpsView *from, const DpsView *to, DpsError *err)
{
    Queue *q = of (queue);
    const DpsOp op = {.size = sizeof op, .n_in = 1, .n_out = 1, .in = &from, .out = &to};
    DPS_TRY (before (q, &op, err));
    DPS_TRY (q->c->real_queues.copy (q->real, from, to, err));
    return take_off (q, &op, "a copy", err);
}

static DpsStatus queue_record (struct DpsQueue *queue, struct DpsEvent **out, DpsError *err)
{
    Queue *q = of (queue);
    Event *e = dps_calloc (1, sizeof *e);
    DpsStatus st = e ? q->c->real_queues.record (q->real, &e->real, err) : dps_fail (err, DPS_ERR_NOMEM, "validate: out of memory");
    if (st != DPS_OK) {
        dps_free (e);
        return st;
    }
    e->c = q->c;
    e->seen = q->seen;
    q->c->events_open++;
    *out = (struct DpsEvent *)(void *)e;
    return DPS_OK;
}

static DpsStatus queue_wait (struct DpsQueue *queue, struct DpsEvent *event, DpsError *err)
{
    Queue *q = of (queue);
    Event *e = event_of (event);
    DPS_TRY (q->c->real_queues.wait (q->real, e->real, err));
    for (int i = 0; i < DPS_CHECKED_QUEUES; i++)
        if (q->seen.turns[i] < e->seen.turns[i])
            q->seen.turns[i] = e->seen.turns[i];
    return DPS_OK;
}

static DpsStatus event_query (struct DpsEvent *event, uint32_t *out_done, DpsError *err)
{
    Event *e = event_of (event);
    DPS_TRY (e->c->real_queues.query (e->real, out_done, err));
    if (*out_done)
        land (e->c, &e->seen);
    return DPS_OK;
}

static DpsStatus event_sync (struct DpsEvent *event, int64_t timeout_ms, DpsError *err)
{
    Event *e = event_of (event);
    DPS_TRY (e->c->real_queues.sync (e->real, timeout_ms, err));
    land (e->c, &e->seen);
    return DPS_OK;
}

static void event_free (struct DpsEvent *event)
{
    Event *e = event_of (event);
    if (!e)
        return;
    e->c->real_queues.event_free (e->real);
    e->c->events_open--;
    dps_free (e);
}

const DpsQueues *dps_checked_queues (DpsExecDevice *d, const DpsQueues *real)
{
    Checked *c = (Checked *)(void *)d->info.device;
    c->real_queues = *real;
    c->queues = (DpsQueues){.size = sizeof c->queues,
                            .open = open_queue,
                            .close = close_queue,
                            .run = queue_run,
                            .copy = queue_copy,
                            .record = queue_record,
                            .wait = queue_wait,
                            .query = event_query,
                            .sync = event_sync,
                            .event_free = event_free};
    return &c->queues;
}
