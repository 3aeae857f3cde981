/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h: how a backend's work is queued, fused and timed: its extensions `dps.stream/1`, `dps.segment/1` and `dps.profile/1`. Each is
 * optional; without it the host calls DpsBackend.run op by op and waits for each. Since: ABI 0.1.
 */
#ifndef DIAPASON_STREAM_H
#define DIAPASON_STREAM_H

#include "diapason/backend.h"

#define DPS_STREAM_ID  "dps.stream/1"
#define DPS_SEGMENT_ID "dps.segment/1"
#define DPS_PROFILE_ID "dps.profile/1"

struct DpsQueue;    /* a stream: work that runs in the order it was given */
struct DpsEvent;    /* a point in a queue */
struct DpsRecorded; /* an array of ops the backend took over as one */

/**
 * `dps.stream/1`. Functions return when the work is accepted, not when it is done. Views and op structs are borrowed until return; the
 * buffers they name must live until an event recorded after the work is done.
 * An error of work in flight sits on the next event of its queue; the buffers it would have written are poisoned: reading them gives the
 * same error again, until something has written them whole.
 */
typedef struct DpsQueues {
    size_t size;

    /** A queue of `dev`; priority: 0 normal, higher is sooner. Owns: *out, closed with close. Errors: NOMEM, DEVICE. [device-serial] */
    DpsStatus (*open) (struct DpsDevice *dev, int32_t priority, struct DpsQueue **out, DpsError *err);
    /** Wait for what is in the queue, then free it. NULL is fine. [device-serial] */
    void (*close) (struct DpsQueue *q);

    /** As DpsBackend.run, or run_plan when plan is not NULL, in the queue. Errors: those of run known at once. [stream-serial] */
    DpsStatus (*run) (struct DpsQueue *q, const DpsOp *op, struct DpsPlan *plan, DpsError *err);
    /** As DpsBackend.copy, in the queue; host memory must stay as it is until the copy is done. Errors: SHAPE, DTYPE, DEVICE. [stream-serial] */
    DpsStatus (*copy) (struct DpsQueue *q, const DpsView *from, const DpsView *to, DpsError *err);

    /** Mark the queue's end so far. Owns: *out, freed with event_free. Errors: NOMEM, DEVICE. [stream-serial] */
    DpsStatus (*record) (struct DpsQueue *q, struct DpsEvent **out, DpsError *err);
    /** Work given to q after this waits for `event`, of any queue of the process's devices. Errors: UNSUPPORTED, DEVICE. [stream-serial] */
    DpsStatus (*wait) (struct DpsQueue *q, struct DpsEvent *event, DpsError *err);
    /** *out_done: 1 when everything before the event has ended. Errors: what happened to that work. Does not block. [any] */
    DpsStatus (*query) (struct DpsEvent *event, uint32_t *out_done, DpsError *err);
    /** Block until the event, at most timeout_ms (< 0: for ever). Errors: TIMEOUT; what happened to the work. [any] */
    DpsStatus (*sync) (struct DpsEvent *event, int64_t timeout_ms, DpsError *err);
    void (*event_free) (struct DpsEvent *event); /* NULL is fine; the work goes on. [any] */
} DpsQueues;

/**
 * `dps.segment/1`: a recorded array of ops handed over whole: a CUDA graph, a oneDNN graph partition, a compiled kernel. Results are those of
 * the same ops one after the other, bit for bit when the backend declares DPS_DETERMINISM_RUN or more.
 */
typedef struct DpsRecorder {
    size_t size;

    /**
     * How many of ops[0..n), from the first, it would take over as one: *out_n ≥ 1, or UNSUPPORTED with the reason a user reads in `explain`.
     * Writes nothing else. Pure. [any]
     */
    DpsStatus (*query) (struct DpsDevice *dev, const DpsOp *const *ops, uint64_t n, uint64_t *out_n, DpsError *err);

    /**
     * Take over ops[0..n). *out_scratch_bytes: what each run needs beyond the ops' own buffers, from the caller's arena.
     * Owns: *out, freed with free; keeps no pointer into ops. Errors: those of query, NOMEM, DEVICE. [device-serial]
     */
    DpsStatus (*build) (struct DpsDevice *dev, const DpsOp *const *ops, uint64_t n, struct DpsRecorded **out, uint64_t *out_scratch_bytes,
                        DpsError *err);

    /**
     * Run it on the same ops with the same shapes, dtypes, layouts and attribute count; buffers and attribute values may differ from those
     * it was built with. q NULL: done on return. scratch: NULL when build asked for none. Errors: SHAPE, DEVICE. [stream-serial]
     */
    DpsStatus (*run) (struct DpsRecorded *r, const DpsOp *const *ops, uint64_t n, const DpsView *scratch, struct DpsQueue *q,
                      DpsError *err);
    void (*free) (struct DpsRecorded *r); /* NULL is fine. [device-serial] */
} DpsRecorder;

/** One piece of work as the device timed it. `size` set by the caller. Strings are static for the process. */
typedef struct DpsProfileRecord {
    size_t size;
    DpsStr name;       /* the device's own: a kernel, a primitive */
    uint32_t op;       /* interned op it belongs to, 0 when none */
    uint32_t queue;    /* number of the queue, 0 for synchronous calls */
    uint64_t start_ns; /* since start */
    uint64_t duration_ns;
    uint64_t flops, bytes; /* done and moved, 0 when unknown */
} DpsProfileRecord;

/** `dps.profile/1`: times taken by the device itself. Off unless started: start may slow the device down. */
typedef struct DpsProfile {
    size_t size;
    /** Forget earlier records and begin. Errors: UNSUPPORTED (reason: missing rights, tool attached), DEVICE. [device-serial] */
    DpsStatus (*start) (struct DpsDevice *dev, DpsError *err);
    /** End, after waiting for all queues. Errors: DEVICE. [device-serial] */
    DpsStatus (*stop) (struct DpsDevice *dev, DpsError *err);
    /** Record i after stop, by start; NOT_FOUND past the last. [device-serial] */
    DpsStatus (*record) (struct DpsDevice *dev, uint64_t i, DpsProfileRecord *out, DpsError *err);
} DpsProfile;

#endif
