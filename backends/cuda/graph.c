/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graph.c: `dps.segment/1` as CUDA graphs. Ops are captured from a stream of the recording's own and launched as one. A run with other buffers or
 * attribute values captures again and puts the new arguments into the graph there is (cuGraphExecUpdate); with the same ones it is launched as
 * it stands. Ops that read numbers back, or whose operands are host memory only, are not taken over.
 */
#include <string.h>

#include "cuda.h"

struct DpsRecorded {
    struct DpsQueue queue; /* captures; its scratch belongs to the graph */
    CuGraphExec exec;
    CuEvent last; /* after the latest launch */
    uint64_t n_ops;
    uint64_t shapes, values; /* what was captured: all but buffers and attributes; these */
};

static uint64_t mix (uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

static uint64_t mix_view (uint64_t h, const DpsView *v)
{
    h = mix (h, v ? (uint64_t)v->dtype << 32 | v->layout << 4 | v->rank : 0);
    for (uint32_t i = 0; v && i < v->rank; i++)
        h = mix (mix (h, (uint64_t)v->shape[i]), v->stride ? (uint64_t)v->stride[i] : 1);
    return mix (h, v ? v->n_parts : 0);
}

static uint64_t shapes_of (const DpsOp *const *ops, uint64_t n)
{
    uint64_t h = n;
    for (uint64_t k = 0; k < n; k++) {
        const DpsOp *o = ops[k];
        h = mix (h, (uint64_t)o->id << 32 | o->n_attrs << 16 | o->n_in << 8 | o->n_out);
        for (uint32_t i = 0; i < o->n_in + o->n_out; i++)
            h = mix_view (h, dps_op_operand (o, i));
    }
    return h;
}

/* Where it lies on the device; buffers' records may be used again for other memory, addresses say it. */
static uint64_t place (const struct DpsBuffer *b, uint64_t offset, const void *host)
{
    return b ? b->ptr + offset : (uint64_t)(uintptr_t)host;
}

static uint64_t values_of (const DpsOp *const *ops, uint64_t n)
{
    uint64_t h = n;
    for (uint64_t k = 0; k < n; k++) {
        const DpsOp *o = ops[k];
        for (uint32_t i = 0; i < o->n_attrs; i++)
            h = mix (h, (uint64_t)o->attrs[i].i);
        for (uint32_t i = 0; i < o->n_in + o->n_out; i++) {
            const DpsView *v = dps_op_operand (o, i);
            h = mix (h, v ? place (v->buffer, v->offset, v->host) : 0);
            for (uint32_t p = 0; v && p < v->n_parts; p++)
                h = mix (h, place (v->parts[p]->buffer, v->parts[p]->offset, v->parts[p]->host));
        }
    }
    return h;
}

static DpsStatus memory_on_device (struct DpsDevice *dev, const void *host, struct DpsBuffer *b, uint64_t at, DpsError *err)
{
    DPS_TRY (cuda_locate (dev, host, 0, &b, &at, err));
    return b ? DPS_OK : dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: an operand is host memory, which a graph does not copy", dev->name);
}

static DpsStatus on_device (struct DpsDevice *dev, const DpsView *v, DpsError *err)
{
    if (v && dps_view_count (v))
        DPS_TRY (memory_on_device (dev, v->host, v->buffer, v->offset, err));
    for (uint32_t i = 0; v && i < v->n_parts; i++)
        DPS_TRY (memory_on_device (dev, v->parts[i]->host, v->parts[i]->buffer, v->parts[i]->offset, err));
    return DPS_OK;
}

/* Ops that reduce over roots look at the roots' numbers to choose what they launch, which would be frozen into the graph; sumsq waits for its own. */
static int looks_at_numbers (const DpsOp *op)
{
    DpsStr name = cuda_host.intern_name (op->id);
    return name.len > 3 && (!memcmp (name.ptr + name.len - 3, "_dw", 3) || dps_str_is (name, "bias_db") ||
                            dps_str_is (name, "mul_cols_dv") || dps_str_is (name, "sumsq"));
}

static DpsStatus takes (struct DpsDevice *dev, const DpsOp *op, DpsError *err)
{
    DPS_TRY (cuda_accepts (dev, op, err));
    if (looks_at_numbers (op))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: %.*s looks at numbers that are on the device", dev->name,
                         (int)cuda_host.intern_name (op->id).len, cuda_host.intern_name (op->id).ptr);
    for (uint32_t i = 0; i < op->n_in + op->n_out; i++)
        DPS_TRY (on_device (dev, dps_op_operand (op, i), err));
    return DPS_OK;
}

static DpsStatus query (struct DpsDevice *dev, const DpsOp *const *ops, uint64_t n, uint64_t *out_n, DpsError *err)
{
    uint64_t taken = 0;
    DpsError why = DPS_ERROR_INIT;
    if (!n)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: a graph of no ops", dev->name);
    while (taken < n && takes (dev, ops[taken], &why) == DPS_OK)
        taken++;
    if (!taken)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s", why.msg);
    *out_n = taken;
    return DPS_OK;
}

static DpsStatus capture (struct DpsRecorded *r, const DpsOp *const *ops, uint64_t n, CuGraph *out, DpsError *err)
{
    struct DpsDevice *dev = r->queue.dev;
    CuGraph graph = NULL;
    DPS_TRY (cuda_check (dev, cuda_api.cu.capture_begin (r->queue.stream, (CuCaptureMode)CU_CAPTURE_RELAXED), "a capture", err));
    DpsStatus st = DPS_OK;
    for (uint64_t k = 0; k < n && st == DPS_OK; k++)
        st = cuda_queue_run (&r->queue, ops[k], err);
    CuResult ended = cuda_api.cu.capture_end (r->queue.stream, &graph);
    if (st == DPS_OK)
        st = cuda_check (dev, ended, "the end of a capture", err);
    if (st == DPS_OK)
        *out = graph;
    else if (graph)
        cuda_api.cu.graph_free (graph);
    return st;
}

/* The graph's arguments become those of `graph`; where the driver cannot change it in place it is made anew. */
static DpsStatus install (struct DpsRecorded *r, CuGraph graph, DpsError *err)
{
    struct DpsDevice *dev = r->queue.dev;
    CuGraphUpdate result;
    CuGraphExec fresh = NULL;
    memset (&result, 0, sizeof result);
    if (r->exec && cuda_api.cu.graph_update (r->exec, graph, &result) == CU_OK)
        return DPS_OK;
    DPS_TRY (cuda_check (dev, cuda_api.cu.graph_instantiate (&fresh, graph, 0), "a graph", err));
    if (r->exec) {
        DpsStatus st = cuda_check (dev, cuda_api.cu.event_sync (r->last), "a graph's latest run", err);
        cuda_api.cu.graph_exec_free (r->exec);
        r->exec = fresh;
        return st;
    }
    r->exec = fresh;
    return DPS_OK;
}

static DpsStatus refresh (struct DpsRecorded *r, const DpsOp *const *ops, uint64_t n, DpsError *err)
{
    uint64_t values = values_of (ops, n);
    CuGraph graph = NULL;
    if (r->exec && values == r->values)
        return DPS_OK;
    r->values = 0;
    DPS_TRY (capture (r, ops, n, &graph, err));
    DpsStatus st = install (r, graph, err);
    cuda_api.cu.graph_free (graph);
    if (st == DPS_OK)
        r->values = values;
    return st;
}

static void recorded_free (struct DpsRecorded *r)
{
    if (!r)
        return;
    if (r->queue.dev) {
        cuda_api.cu.context_use (r->queue.dev->context);
        if (r->last) {
            cuda_api.cu.event_sync (r->last);
            cuda_api.cu.event_destroy (r->last);
        }
        if (r->exec)
            cuda_api.cu.graph_exec_free (r->exec);
        cuda_queue_deinit (&r->queue);
    }
    dps_free (r);
}

static DpsStatus open_parts (struct DpsRecorded *r, struct DpsDevice *dev, const DpsOp *const *ops, DpsError *err)
{
    DPS_TRY (cuda_queue_init (&r->queue, dev, 0, err));
    r->queue.capturing = 1;
    DPS_TRY (cuda_check (dev, cuda_api.cu.event_create (&r->last, CU_EVENT_TIMING_OFF), "an event", err));
    return refresh (r, ops, r->n_ops, err);
}

static DpsStatus build (struct DpsDevice *dev, const DpsOp *const *ops, uint64_t n, struct DpsRecorded **out, uint64_t *out_scratch_bytes,
                        DpsError *err)
{
    uint64_t taken = 0;
    DPS_TRY (cuda_enter (dev, err));
    DPS_TRY (query (dev, ops, n, &taken, err));
    if (taken < n)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: only the first %llu of these %llu ops make a graph", dev->name,
                         (unsigned long long)taken, (unsigned long long)n);
    struct DpsRecorded *r = dps_calloc (1, sizeof *r);
    if (!r)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for a graph", dev->name);
    r->n_ops = n;
    r->shapes = shapes_of (ops, n);
    DpsStatus st = open_parts (r, dev, ops, err);
    if (st != DPS_OK) {
        recorded_free (r);
        return st;
    }
    *out = r;
    *out_scratch_bytes = 0; /* what kernels need between them belongs to the graph: its addresses are in it */
    return DPS_OK;
}

static DpsStatus run (struct DpsRecorded *r, const DpsOp *const *ops, uint64_t n, const DpsView *scratch, struct DpsQueue *q, DpsError *err)
{
    (void)scratch;
    struct DpsDevice *dev = r->queue.dev;
    struct DpsQueue *in = q ? q : &dev->own;
    DPS_TRY (cuda_enter (dev, err));
    if (in->dev != dev)
        return dps_fail (err, DPS_ERR_INVALID, "%s: a graph in a queue of %s", dev->name, in->dev->name);
    if (n != r->n_ops || shapes_of (ops, n) != r->shapes)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: the graph was built of %llu ops with other shapes, dtypes or layouts", dev->name,
                         (unsigned long long)r->n_ops);
    DPS_TRY (refresh (r, ops, n, err));
    DPS_TRY (cuda_check (dev, cuda_api.cu.graph_launch (r->exec, in->stream), "a graph's launch", err));
    DPS_TRY (cuda_check (dev, cuda_api.cu.event_record (r->last, in->stream), "an event's record", err));
    return q ? DPS_OK : cuda_queue_sync (in, err);
}

const DpsRecorder cuda_recorder = {.size = sizeof (DpsRecorder), .query = query, .build = build, .run = run, .free = recorded_free};
