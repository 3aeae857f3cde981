/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.c: `dps.stream/1` on command queues and events, and copies. An error of work in flight may take the whole context with it (OpenCL 1.2, 5.9):
 * it comes back from the next event, and from every call after it, so nothing computed from poisoned buffers is ever taken for a number.
 */
#include "opencl.h"

struct DpsEvent {
    struct DpsDevice *dev;
    cl_event event;
};

static DpsStatus scratch (void *ctx, uint32_t slot, uint64_t bytes, DpsView *out, DpsError *err)
{
    struct DpsQueue *q = ctx;
    if (!q->scratch[slot] || q->scratch[slot]->bytes < bytes) {
        opencl_free (q->dev, q->scratch[slot]); /* work in the queue keeps the memory until it is done */
        q->scratch[slot] = NULL;
        DPS_TRY (opencl_alloc (q->dev, bytes + bytes / 8, &q->scratch[slot], err));
    }
    *out = (DpsView){.size = sizeof *out, .dtype = DPS_DTYPE_U8, .buffer = q->scratch[slot]};
    return DPS_OK;
}

static DpsStatus check_window (const DpsView *v, uint64_t bytes, DpsError *err)
{
    if (v->buffer && (v->offset > v->buffer->bytes || bytes > v->buffer->bytes - v->offset))
        return dps_fail (err, DPS_ERR_SHAPE, "opencl: bytes %llu to %llu of a buffer of %llu", (unsigned long long)v->offset,
                         (unsigned long long)(v->offset + bytes), (unsigned long long)v->buffer->bytes);
    return DPS_OK;
}

static DpsStatus get_bytes (struct DpsQueue *q, const DpsView *from, void *to, uint64_t bytes, cl_bool wait, DpsError *err)
{
    DPS_TRY (check_window (from, bytes, err));
    cl_int e = bytes ? clEnqueueReadBuffer (q->queue, from->buffer->memory, wait, from->offset, bytes, to, 0, NULL, NULL) : CL_SUCCESS;
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "reading a buffer, or work before it");
}

static DpsStatus put_bytes (struct DpsQueue *q, const void *from, const DpsView *to, uint64_t bytes, cl_bool wait, DpsError *err)
{
    DPS_TRY (check_window (to, bytes, err));
    cl_int e = bytes ? clEnqueueWriteBuffer (q->queue, to->buffer->memory, wait, to->offset, bytes, from, 0, NULL, NULL) : CL_SUCCESS;
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "writing a buffer, or work before it");
}

static DpsStatus read_view (void *ctx, const DpsView *from, void *to, uint64_t bytes, DpsError *err)
{
    return get_bytes (ctx, from, to, bytes, CL_TRUE, err);
}

static DpsStatus write_view (void *ctx, const void *from, const DpsView *to, uint64_t bytes, DpsError *err)
{
    return put_bytes (ctx, from, to, bytes, CL_TRUE, err);
}

void opencl_queue_init (struct DpsQueue *q, struct DpsDevice *d)
{
    *q = (struct DpsQueue){.dev = d};
    q->launch = (DpsLaunch){.who = "opencl",
                            .ctx = q,
                            .lanes = d->lanes,
                            .most_local = d->most_local,
                            .quants = &opencl_quants,
                            .launch = opencl_launch,
                            .scratch = scratch,
                            .read = read_view,
                            .write = write_view,
                            .multiply = opencl_multiply};
}

DpsStatus opencl_queue_open (struct DpsQueue *q, DpsError *err)
{
    cl_int e = CL_SUCCESS;
    q->queue = clCreateCommandQueue (q->dev->context, q->dev->id, 0, &e);
    return q->queue ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "opening a queue");
}

DpsStatus opencl_queue_copy (struct DpsQueue *q, const DpsView *from, const DpsView *to, int wait, DpsError *err)
{
    DPS_TRY (opencl_open (q->dev, err));
    DPS_TRY (dps_queue_check_copy ("opencl", from, to, err));
    uint64_t bytes = (uint64_t)dps_view_count (from) * dps_launch_bytes (from->dtype);
    if (!bytes)
        return DPS_OK;
    if ((!from->buffer && !from->host) || (!to->buffer && !to->host) || (!from->buffer && !to->buffer))
        return dps_fail (err, DPS_ERR_INVALID, "opencl: a copy with no buffer of the device on either side, or without memory");
    if (!to->buffer)
        return get_bytes (q, from, to->host, bytes, wait ? CL_TRUE : CL_FALSE, err);
    if (!from->buffer)
        return put_bytes (q, from->host, to, bytes, wait ? CL_TRUE : CL_FALSE, err);
    DPS_TRY (check_window (from, bytes, err));
    DPS_TRY (check_window (to, bytes, err));
    cl_int e = clEnqueueCopyBuffer (q->queue, from->buffer->memory, to->buffer->memory, from->offset, to->offset, bytes, 0, NULL, NULL);
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "copying a buffer");
}

/* OpenCL 1.2 has no priorities. */
static DpsStatus open (struct DpsDevice *d, int32_t priority, struct DpsQueue **out, DpsError *err)
{
    (void)priority;
    DPS_TRY (opencl_open (d, err));
    struct DpsQueue *q = dps_malloc (1, sizeof *q);
    if (!q)
        return dps_fail (err, DPS_ERR_NOMEM, "opencl: no memory for a queue");
    opencl_queue_init (q, d);
    DpsStatus st = opencl_queue_open (q, err);
    if (st != DPS_OK) {
        dps_free (q);
        return st;
    }
    d->n_queues++;
    clFinish (d->own.queue); /* from here on no call without a queue leaves work behind */
    *out = q;
    return DPS_OK;
}

static void close (struct DpsQueue *q)
{
    if (!q)
        return;
    clFinish (q->queue);
    clReleaseCommandQueue (q->queue);
    for (int i = 0; i < DPS_SCRATCHES; i++)
        opencl_free (q->dev, q->scratch[i]);
    q->dev->n_queues--;
    dps_free (q);
}

/* There are no plans: prepare is not offered. */
static DpsStatus run (struct DpsQueue *q, const DpsOp *op, struct DpsPlan *plan, DpsError *err)
{
    (void)plan;
    DPS_TRY (opencl_open (q->dev, err));
    return dps_launch_run (&q->launch, op, 0, err);
}

static DpsStatus copy (struct DpsQueue *q, const DpsView *from, const DpsView *to, DpsError *err)
{
    return opencl_queue_copy (q, from, to, 0, err);
}

/* Events. */

static DpsStatus record (struct DpsQueue *q, struct DpsEvent **out, DpsError *err)
{
    DPS_TRY (opencl_open (q->dev, err));
    struct DpsEvent *event = dps_calloc (1, sizeof *event);
    if (!event)
        return dps_fail (err, DPS_ERR_NOMEM, "opencl: no memory for an event");
    event->dev = q->dev;
    cl_int e = clEnqueueMarkerWithWaitList (q->queue, 0, NULL, &event->event);
    if (e != CL_SUCCESS) {
        dps_free (event);
        return opencl_fail (err, DPS_ERR_DEVICE, e, "an event");
    }
    clFlush (q->queue); /* what another queue waits for must be on its way */
    *out = event;
    return DPS_OK;
}

static DpsStatus wait (struct DpsQueue *q, struct DpsEvent *event, DpsError *err)
{
    DPS_TRY (opencl_open (q->dev, err));
    if (event->dev != q->dev)
        return dps_fail (err, DPS_ERR_UNSUPPORTED,
                         "opencl: a queue of %s cannot wait for an event of %s: each device has a context of its own", q->dev->name,
                         event->dev->name);
    cl_int e = clEnqueueBarrierWithWaitList (q->queue, 1, &event->event, NULL);
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "waiting for an event");
}

static DpsStatus query (struct DpsEvent *event, uint32_t *out_done, DpsError *err)
{
    cl_int state = CL_QUEUED;
    cl_int e = clGetEventInfo (event->event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    if (e != CL_SUCCESS)
        return opencl_fail (err, DPS_ERR_DEVICE, e, "asking for an event");
    if (state < 0) {
        atomic_store (&event->dev->lost, state);
        return opencl_fail (err, DPS_ERR_DEVICE, state, "the work before an event");
    }
    *out_done = state == CL_COMPLETE;
    return DPS_OK;
}

static DpsStatus sync (struct DpsEvent *event, int64_t timeout_ms, DpsError *err)
{
    uint32_t done = 0;
    if (timeout_ms >= 0)
        return dps_queue_poll (&opencl_queues, event, timeout_ms, "opencl", err);
    cl_int e = clWaitForEvents (1, &event->event);
    DPS_TRY (query (event, &done, err)); /* says what happened to the work */
    return e == CL_SUCCESS ? DPS_OK : opencl_fail (err, DPS_ERR_DEVICE, e, "waiting for the work before an event");
}

static void event_free (struct DpsEvent *event)
{
    if (!event)
        return;
    clReleaseEvent (event->event);
    dps_free (event);
}

const DpsQueues opencl_queues = {
    .size = sizeof (DpsQueues),
    .open = open,
    .close = close,
    .run = run,
    .copy = copy,
    .record = record,
    .wait = wait,
    .query = query,
    .sync = sync,
    .event_free = event_free,
};
