/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c: one op on one queue. Its operands become buffers of the device (what is only host memory is staged), then the dialect's own host side
 * (dialect/launch.h) picks kernels and geometry, through the few functions below; products go to cuBLASLt where that has them (product.c).
 */
#include <string.h>

#include "cuda.h"

enum { MAX_OPERANDS = 12, MAX_PARTS = 24 };

/* Host memory that the op sees through the staging block. Operands at one address share a place: outputs in place stay so. */
typedef struct Staged {
    void *host;
    uint64_t bytes, at;
    int is_output;
} Staged;

typedef struct Operands {
    DpsView views[MAX_OPERANDS];
    const DpsView *in[MAX_OPERANDS], *out[MAX_OPERANDS];
    DpsPart parts[MAX_PARTS];
    const DpsPart *part_list[MAX_PARTS];
    Staged staged[MAX_OPERANDS + MAX_PARTS];
    uint32_t n_views, n_parts, n_staged;
    uint64_t stage_bytes;
    struct DpsBuffer **patch[MAX_OPERANDS + MAX_PARTS]; /* of staged operands: filled in when the block is there */
    uint64_t *patch_offset[MAX_OPERANDS + MAX_PARTS];
    uint32_t patch_from[MAX_OPERANDS + MAX_PARTS], n_patches;
} Operands;

static uint64_t view_bytes (const DpsView *v)
{
    uint64_t n = (uint64_t)dps_view_count (v) * dps_launch_bytes (v->dtype);
    DpsQuantised q;
    uint64_t parts[DPS_QPARTS], codes = 0;
    if (n || dps_quant_from_view (&cuda_quants, v, 0, &q, NULL) != DPS_OK)
        return n;
    return dps_quant_bytes (&q.form, q.rows, q.cols, &codes, parts, NULL) == DPS_OK ? codes : 0;
}

static void stage (Operands *o, void *host, uint64_t bytes, int is_output, struct DpsBuffer **buffer, uint64_t *offset)
{
    uint32_t i = 0;
    while (i < o->n_staged && o->staged[i].host != host)
        i++;
    if (i == o->n_staged)
        o->staged[o->n_staged++] = (Staged){.host = host};
    o->staged[i].bytes = bytes > o->staged[i].bytes ? bytes : o->staged[i].bytes;
    o->staged[i].is_output |= is_output;
    o->patch[o->n_patches] = buffer;
    o->patch_offset[o->n_patches] = offset;
    o->patch_from[o->n_patches++] = i;
}

/* A buffer that holds it, or a place in the staging block. */
static DpsStatus settle (struct DpsQueue *q, Operands *o, void *host, uint64_t bytes, int is_output, struct DpsBuffer **buffer,
                         uint64_t *offset, DpsError *err)
{
    DPS_TRY (cuda_locate (q->dev, host, bytes, buffer, offset, err));
    if (*buffer || !bytes)
        return DPS_OK;
    if (!host)
        return dps_fail (err, DPS_ERR_INVALID, "%s: an operand has neither a buffer nor host memory", q->dev->name);
    if (q->capturing)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: an operand is host memory, which a graph does not copy", q->dev->name);
    stage (o, host, bytes, is_output, buffer, offset);
    return DPS_OK;
}

static DpsStatus add_parts (struct DpsQueue *q, Operands *o, DpsView *v, DpsError *err)
{
    const DpsPart *const *from = v->parts;
    if (v->n_parts > MAX_PARTS - o->n_parts)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: the operands have more than %d parts", q->dev->name, MAX_PARTS);
    v->parts = &o->part_list[o->n_parts];
    for (uint32_t i = 0; i < v->n_parts; i++, o->n_parts++) {
        DpsPart *p = &o->parts[o->n_parts];
        *p = *from[i];
        o->part_list[o->n_parts] = p;
        DPS_TRY (settle (q, o, p->host, p->bytes, 0, &p->buffer, &p->offset, err));
    }
    return DPS_OK;
}

static DpsStatus add_views (struct DpsQueue *q, Operands *o, const DpsView *const *from, uint32_t n, const DpsView **to, int is_output,
                            DpsError *err)
{
    for (uint32_t i = 0; i < n; i++) {
        to[i] = NULL;
        if (!from[i])
            continue;
        if (o->n_views == MAX_OPERANDS)
            return dps_fail (err, DPS_ERR_LIMIT, "%s: an op of more than %d operands", q->dev->name, MAX_OPERANDS);
        DpsView *v = &o->views[o->n_views++];
        *v = *from[i];
        to[i] = v;
        DPS_TRY (settle (q, o, v->host, view_bytes (v), is_output, &v->buffer, &v->offset, err));
        DPS_TRY (add_parts (q, o, v, err));
        if (!q->synchronous && v->buffer)
            v->host = NULL; /* what the host would read there may not be computed yet */
    }
    return DPS_OK;
}

static DpsStatus stage_in (struct DpsQueue *q, Operands *o, struct DpsBuffer **block, DpsError *err)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < o->n_staged; i++) {
        o->staged[i].at = bytes;
        bytes += (o->staged[i].bytes + 255) / 256 * 256;
    }
    if (!bytes)
        return DPS_OK;
    DPS_TRY (cuda_scratch (q, CUDA_SLOT_STAGE, bytes, block, err));
    for (uint32_t i = 0; i < o->n_staged; i++)
        DPS_TRY (cuda_check (q->dev,
                             cuda_api.cu.copy_in ((*block)->ptr + o->staged[i].at, o->staged[i].host, o->staged[i].bytes, q->stream),
                             "an operand's copy to the device", err));
    for (uint32_t i = 0; i < o->n_patches; i++) {
        *o->patch[i] = *block;
        *o->patch_offset[i] = o->staged[o->patch_from[i]].at;
    }
    return DPS_OK;
}

static DpsStatus stage_out (struct DpsQueue *q, const Operands *o, const struct DpsBuffer *block, DpsError *err)
{
    for (uint32_t i = 0; i < o->n_staged; i++)
        if (o->staged[i].is_output)
            DPS_TRY (cuda_check (q->dev,
                                 cuda_api.cu.copy_out (o->staged[i].host, block->ptr + o->staged[i].at, o->staged[i].bytes, q->stream),
                                 "an output's copy to the host", err));
    return DPS_OK;
}

/* What the dialect's host side calls; ctx is the queue. */

DpsStatus cuda_launch (void *ctx, const DpsKernel *k, DpsError *err)
{
    struct DpsQueue *q = ctx;
    CuFunction function;
    CuPointer pointers[DPS_KERNEL_ARGS];
    void *args[DPS_KERNEL_ARGS];
    if (!k->groups[0] || !k->groups[1] || !k->groups[2])
        return DPS_OK;
    if (k->groups[0] > INT32_MAX || k->groups[1] > CUDA_MAX_GRID_YZ || k->groups[2] > CUDA_MAX_GRID_YZ)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: %s on a grid of %lld x %lld x %lld groups; the most is %d x %d x %d", q->dev->name,
                         k->name, (long long)k->groups[0], (long long)k->groups[1], (long long)k->groups[2], INT32_MAX, CUDA_MAX_GRID_YZ,
                         CUDA_MAX_GRID_YZ);
    DPS_TRY (cuda_kernel (q->dev, k->family, k->name, &function, err));
    for (uint32_t i = 0; i < k->n_args; i++) {
        const DpsKernelArg *a = &k->args[i];
        pointers[i] = a->kind == DPS_ARG_BUFFER && a->as.buffer ? a->as.buffer->ptr : 0;
        args[i] = a->kind == DPS_ARG_BUFFER ? (void *)&pointers[i] : (void *)&a->as;
    }
    return cuda_check (q->dev,
                       cuda_api.cu.launch (function, (unsigned)k->groups[0], (unsigned)k->groups[1], (unsigned)k->groups[2],
                                           (unsigned)k->local[0], (unsigned)k->local[1], (unsigned)k->local[2], 0, q->stream, args, NULL),
                       k->name, err);
}

static DpsStatus scratch (void *ctx, uint32_t slot, uint64_t bytes, DpsView *out, DpsError *err)
{
    struct DpsBuffer *b;
    DPS_TRY (cuda_scratch (ctx, slot, bytes, &b, err));
    *out = (DpsView){.size = sizeof *out, .dtype = DPS_DTYPE_U8, .buffer = b};
    return DPS_OK;
}

static DpsStatus no_waiting (const struct DpsQueue *q, DpsError *err)
{
    return q->capturing
               ? dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: the op asks the device for numbers, which a graph cannot wait for", q->dev->name)
               : DPS_OK;
}

static DpsStatus read_view (void *ctx, const DpsView *from, void *to, uint64_t bytes, DpsError *err)
{
    struct DpsQueue *q = ctx;
    DPS_TRY (no_waiting (q, err));
    DPS_TRY (cuda_check (q->dev, cuda_api.cu.copy_out (to, from->buffer->ptr + from->offset, bytes, q->stream), "a read", err));
    return cuda_check (q->dev, cuda_api.cu.stream_sync (q->stream), "a read", err);
}

/* `from` may be gone when this returns. */
static DpsStatus write_view (void *ctx, const void *from, const DpsView *to, uint64_t bytes, DpsError *err)
{
    struct DpsQueue *q = ctx;
    DPS_TRY (no_waiting (q, err));
    DPS_TRY (cuda_check (q->dev, cuda_api.cu.copy_in (to->buffer->ptr + to->offset, from, bytes, q->stream), "a write", err));
    return cuda_check (q->dev, cuda_api.cu.stream_sync (q->stream), "a write", err);
}

DpsLaunch cuda_launch_table (struct DpsQueue *q)
{
    return (DpsLaunch){.who = "cuda",
                       .ctx = q,
                       .lanes = CUDA_LANES,
                       .most_local = 1024,
                       .quants = &cuda_quants,
                       .launch = cuda_launch,
                       .scratch = scratch,
                       .read = read_view,
                       .write = write_view,
                       .multiply = cuda_multiply,
                       .multiply_codes = q->dev->int8 ? cuda_multiply_codes : NULL};
}

DpsStatus cuda_accepts (struct DpsDevice *dev, const DpsOp *op, DpsError *err)
{
    DpsLaunch l = cuda_launch_table (&dev->own);
    return dps_launch_run (&l, op, DPS_RUN_DRY, err);
}

DpsStatus cuda_queue_run (struct DpsQueue *q, const DpsOp *op, DpsError *err)
{
    Operands o = {0};
    DpsOp settled = *op;
    struct DpsBuffer *block = NULL;
    DpsLaunch l = cuda_launch_table (q);
    DPS_TRY (cuda_enter (q->dev, err));
    DPS_TRY (dps_launch_run (&l, op, DPS_RUN_DRY, err));
    DPS_TRY (add_views (q, &o, op->in, op->n_in, o.in, 0, err));
    DPS_TRY (add_views (q, &o, op->out, op->n_out, o.out, 1, err));
    DPS_TRY (stage_in (q, &o, &block, err));
    settled.in = o.in;
    settled.out = o.out;
    DPS_TRY (dps_launch_run (&l, &settled, 0, err));
    return stage_out (q, &o, block, err);
}
