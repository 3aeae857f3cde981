/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.c: `dps.stream/1` on streams and events of the driver, and copies. An error of work in flight loses the whole context in CUDA: it comes
 * back from the next event, and from every call after it, so nothing computed from poisoned buffers is ever taken for a number.
 */
#include "cuda.h"

struct DpsEvent {
    struct DpsDevice *dev;
    CuEvent event;
    CudaGiven *given; /* of the queue it was recorded in */
};

DpsStatus cuda_queue_init (struct DpsQueue *q, struct DpsDevice *dev, int32_t priority, DpsError *err)
{
    int least = 0, greatest = 0; /* greatest is the smaller number */
    *q = (struct DpsQueue){.dev = dev};
    DPS_TRY (cuda_check (dev, cuda_api.cu.priority_range (&least, &greatest), "stream priorities", err));
    int wanted = priority > least - greatest ? greatest : least - priority;
    wanted = priority < 0 ? least : wanted;
    return cuda_check (dev, cuda_api.cu.stream_create (&q->stream, CU_NON_BLOCKING, wanted), "a stream", err);
}

DpsStatus cuda_queue_sync (struct DpsQueue *q, DpsError *err)
{
    DPS_TRY (cuda_enter (q->dev, err));
    DPS_TRY (cuda_check (q->dev, cuda_api.cu.stream_sync (q->stream), "the work of a queue", err));
    cuda_scratch_trim (q, 0);
    return DPS_OK;
}

void cuda_queue_deinit (struct DpsQueue *q)
{
    if (q->stream) {
        cuda_api.cu.stream_sync (q->stream);
        cuda_api.cu.stream_destroy (q->stream);
    }
    cuda_scratch_trim (q, 1);
    cuda_given_unref (q->given);
    q->given = NULL;
    q->stream = NULL;
}

static DpsStatus open (struct DpsDevice *dev, int32_t priority, struct DpsQueue **out, DpsError *err)
{
    DPS_TRY (cuda_enter (dev, err));
    struct DpsQueue *q = dps_calloc (1, sizeof *q);
    if (!q)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for a queue", dev->name);
    DpsStatus st = cuda_queue_init (q, dev, priority, err);
    if (st == DPS_OK)
        *out = q;
    else
        dps_free (q);
    return st;
}

static void close (struct DpsQueue *q)
{
    if (!q)
        return;
    cuda_api.cu.context_use (q->dev->context);
    cuda_queue_deinit (q);
    dps_free (q);
}

/* Copies. */

DpsStatus cuda_queue_copy (struct DpsQueue *q, const DpsView *from, const DpsView *to, DpsError *err)
{
    struct DpsDevice *dev = q->dev;
    struct DpsBuffer *source = from->buffer, *target = to->buffer;
    uint64_t at = from->offset, into = to->offset;
    DPS_TRY (cuda_enter (dev, err));
    DPS_TRY (dps_queue_check_copy (dev->name, from, to, err));
    uint64_t bytes = (uint64_t)dps_view_count (from) * dps_launch_bytes (from->dtype);
    DPS_TRY (cuda_locate (dev, from->host, bytes, &source, &at, err));
    DPS_TRY (cuda_locate (dev, to->host, bytes, &target, &into, err));
    if (!bytes)
        return DPS_OK;
    if ((!source && !from->host) || (!target && !to->host) || (!source && !target))
        return dps_fail (err, DPS_ERR_INVALID, "%s: a copy with no buffer of the device on either side, or without memory", dev->name);
    if (source && target)
        return cuda_check (dev, cuda_api.cu.copy_inside (target->ptr + into, source->ptr + at, bytes, q->stream), "a copy", err);
    if (target)
        return cuda_check (dev, cuda_api.cu.copy_in (target->ptr + into, from->host, bytes, q->stream), "a copy to the device", err);
    return cuda_check (dev, cuda_api.cu.copy_out (to->host, source->ptr + at, bytes, q->stream), "a copy to the host", err);
}

static DpsStatus run (struct DpsQueue *q, const DpsOp *op, struct DpsPlan *plan, DpsError *err)
{
    (void)plan; /* what a plan remembers is found by shape */
    return cuda_queue_run (q, op, err);
}

/* Events. */

static DpsStatus record (struct DpsQueue *q, struct DpsEvent **out, DpsError *err)
{
    DPS_TRY (cuda_enter (q->dev, err));
    struct DpsEvent *e = dps_calloc (1, sizeof *e);
    if (!e)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for an event", q->dev->name);
    e->dev = q->dev;
    DpsStatus st = cuda_check (q->dev, cuda_api.cu.event_create (&e->event, CU_EVENT_TIMING_OFF), "an event", err);
    if (st == DPS_OK) {
        st = cuda_check (q->dev, cuda_api.cu.event_record (e->event, q->stream), "an event's record", err);
        if (st != DPS_OK)
            cuda_api.cu.event_destroy (e->event);
    }
    if (st == DPS_OK) {
        e->given = cuda_given_ref (q->given);
        *out = e;
    } else
        dps_free (e);
    return st;
}

/* Work that was given up ends without an error of the driver's: its numbers are none. */
static DpsStatus check_given (const struct DpsEvent *e, DpsError *err)
{
    if (e->given && atomic_load (&e->given->aborted))
        return dps_fail (err, DPS_ERR_CANCELLED, "%s: the communicator of work before an event was aborted", e->dev->name);
    return DPS_OK;
}

static DpsStatus wait (struct DpsQueue *q, struct DpsEvent *event, DpsError *err)
{
    DPS_TRY (cuda_enter (q->dev, err));
    return cuda_check (q->dev, cuda_api.cu.stream_wait (q->stream, event->event, 0), "waiting for an event", err);
}

static DpsStatus query (struct DpsEvent *event, uint32_t *out_done, DpsError *err)
{
    DPS_TRY (cuda_enter (event->dev, err));
    CuResult r = cuda_api.cu.event_query (event->event);
    *out_done = r == CU_OK;
    if (r != CU_NOT_READY)
        DPS_TRY (cuda_check (event->dev, r, "the work before an event", err));
    return check_given (event, err);
}

static DpsStatus sync (struct DpsEvent *event, int64_t timeout_ms, DpsError *err)
{
    if (timeout_ms >= 0)
        return dps_queue_poll (&cuda_queues, event, timeout_ms, event->dev->name, err);
    uint32_t done = event->given == NULL;
    while (!done) { /* other ranks may never come */
        DPS_TRY (query (event, &done, err));
        if (!done && cuda_should_stop ())
            return dps_fail (err, DPS_ERR_CANCELLED, "%s: asked to stop while it waited for other ranks", event->dev->name);
        if (!done)
            dps_queue_pause ();
    }
    DPS_TRY (cuda_enter (event->dev, err));
    DPS_TRY (cuda_check (event->dev, cuda_api.cu.event_sync (event->event), "the work before an event", err));
    return check_given (event, err);
}

static void event_free (struct DpsEvent *event)
{
    if (!event)
        return;
    cuda_api.cu.context_use (event->dev->context);
    cuda_api.cu.event_destroy (event->event);
    cuda_given_unref (event->given);
    dps_free (event);
}

const DpsQueues cuda_queues = {
    .size = sizeof (DpsQueues),
    .open = open,
    .close = close,
    .run = run,
    .copy = cuda_queue_copy,
    .record = record,
    .wait = wait,
    .query = query,
    .sync = sync,
    .event_free = event_free,
};
