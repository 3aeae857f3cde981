/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collective.c: `dps.collective/1` by NCCL: what is done with a communicator (comm.c).
 *
 * Sums are made in rank order, which ncclAllReduce does not promise: each rank receives its share of everybody's data, adds it up with the
 * dialect's dps_sum_ranks, and shares are then exchanged. That moves what a ring moves. Largest and smallest, and sums of integers, are the same
 * in any order: NCCL makes them.
 */
#include "comm.h"

/* One call: what it works on. */
typedef struct Work {
    struct DpsComm *c;
    struct DpsQueue *q;
    const DpsView *in, *out;
    CuPointer from, to;
    uint64_t n_in, n_out; /* elements */
    NcclType type;
    uint64_t item; /* bytes of an element */
    DpsError *err;
} Work;

/* Operands. */

static int nccl_type (uint32_t dtype, NcclType *out)
{
    static const struct {
        uint32_t dtype, type;
    } types[] = {{DPS_DTYPE_F32, NCCL_F32}, {DPS_DTYPE_BF16, NCCL_BF16}, {DPS_DTYPE_F16, NCCL_F16}, {DPS_DTYPE_F64, NCCL_F64},
                 {DPS_DTYPE_I32, NCCL_I32}, {DPS_DTYPE_I64, NCCL_I64},   {DPS_DTYPE_U8, NCCL_U8},   {DPS_DTYPE_I8, NCCL_I8}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == dtype) {
            *out = (NcclType)types[i].type;
            return 1;
        }
    return 0;
}

/* The device's address of a view: its buffer's, or a block of scratch that host memory is copied through. */
static DpsStatus address (Work *w, const DpsView *v, uint32_t slot, int copy_in, CuPointer *out)
{
    struct DpsBuffer *b = v->buffer;
    uint64_t offset = v->offset, bytes = (uint64_t)dps_view_count (v) * w->item;
    DPS_TRY (cuda_locate (w->c->dev, v->host, bytes, &b, &offset, w->err));
    if (b) {
        *out = b->ptr + offset;
        return DPS_OK;
    }
    if (w->q != &w->c->queue || !v->host)
        return dps_fail (w->err, DPS_ERR_INVALID, "%s: host memory in a collective on a queue; buffers of the device are expected",
                         w->c->dev->name);
    DPS_TRY (cuda_scratch (w->q, slot, bytes, &b, w->err));
    *out = b->ptr;
    if (!copy_in)
        return DPS_OK;
    DPS_TRY (cuda_check (w->c->dev, cuda_api.cu.copy_in (b->ptr, v->host, bytes, w->q->stream), "a copy to the device", w->err));
    return cuda_queue_sync (w->q, w->err); /* whatever becomes of the call, the caller's memory is the caller's when it returns */
}

static DpsStatus begin (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, Work *w, DpsError *err)
{
    *w = (Work){.c = c, .q = q ? q : &c->queue, .in = in, .out = out, .err = err, .item = dps_launch_bytes ((in ? in : out)->dtype)};
    if (atomic_load (&c->given->aborted))
        return cuda_comm_cancelled (c, err);
    DPS_TRY (cuda_enter (c->dev, err));
    if (w->q->dev != c->dev)
        return dps_fail (err, DPS_ERR_INVALID, "%s: a communicator of %s in a queue of %s", c->dev->name, c->dev->name, w->q->dev->name);
    if (!nccl_type ((in ? in : out)->dtype, &w->type) || (in && out && in->dtype != out->dtype))
        return dps_fail (err, DPS_ERR_DTYPE, "%s: a collective from dtype %u to %u; one plain dtype is expected", c->dev->name,
                         in ? in->dtype : out->dtype, out ? out->dtype : in->dtype);
    w->n_in = in ? (uint64_t)dps_view_count (in) : 0;
    w->n_out = out ? (uint64_t)dps_view_count (out) : 0;
    int one = in == out || (in && out && in->buffer == out->buffer && in->host == out->host && in->offset == out->offset);
    if (in)
        DPS_TRY (address (w, in, DPS_SCRATCH_OP, 1, &w->from));
    if (out && one)
        w->to = w->from;
    else if (out)
        DPS_TRY (address (w, out, DPS_SCRATCH_OP2, 0, &w->to));
    if (w->q->given != c->given) {
        cuda_given_unref (w->q->given);
        w->q->given = cuda_given_ref (c->given);
    }
    return DPS_OK;
}

/* Wait for the communicator's own queue, as long as nobody aborts or asks to stop, and the others answer. */
static DpsStatus wait_here (Work *w)
{
    struct DpsComm *c = w->c;
    struct DpsEvent *e = NULL;
    uint32_t done = 0;
    int64_t end = dps_queue_now_ms () + c->timeout_ms;
    DPS_TRY (cuda_queues.record (w->q, &e, w->err));
    DpsStatus st = DPS_OK;
    while (st == DPS_OK && !done) {
        st = cuda_queues.query (e, &done, w->err);
        if (st != DPS_OK || done)
            break;
        st = cuda_comm_stop (c, w->err);
        if (st == DPS_OK && dps_queue_now_ms () >= end)
            st = dps_fail (w->err, DPS_ERR_TIMEOUT, "%s: rank %u: another rank did not answer within %lld ms", c->dev->name, c->rank,
                           (long long)c->timeout_ms);
        dps_queue_pause ();
    }
    if (st == DPS_ERR_TIMEOUT || st == DPS_ERR_CANCELLED)
        cuda_comm_abort (c); /* its kernels would wait for ever */
    cuda_queues.event_free (e);
    return st;
}

static DpsStatus finish (Work *w, DpsStatus st)
{
    DPS_TRY (st);
    if (w->q != &w->c->queue)
        return DPS_OK;
    if (w->out && w->out->host && !w->out->buffer)
        DPS_TRY (cuda_check (w->c->dev, cuda_api.cu.copy_out (w->out->host, w->to, w->n_out * w->item, w->q->stream), "a copy to the host",
                             w->err));
    return wait_here (w);
}

/* A call of NCCL's on a communicator that is still there. */
#define CALL(w, r, call)                                                                                                                   \
    do {                                                                                                                                   \
        pthread_mutex_lock (&(w)->c->lock);                                                                                                \
        int gone_ = !(w)->c->comm;                                                                                                         \
        NcclResult (r) = gone_ ? (NcclResult)NCCL_OK : cuda_api.nccl.call;                                                                 \
        pthread_mutex_unlock (&(w)->c->lock);                                                                                              \
        DPS_TRY (gone_ ? cuda_comm_cancelled ((w)->c, (w)->err) : cuda_comm_settle ((w)->c, (r), (w)->err));                               \
    } while (0)

/* Elements [s·piece, …) of n that are rank s's. */
static uint64_t share (uint64_t n, uint64_t piece, uint32_t s)
{
    uint64_t first = piece * s;
    return first >= n ? 0 : n - first < piece ? n - first : piece;
}

/* Nothing went wrong so far: a communicator that does not block may say that a call is in progress, also within a group. */
static int goes_on (NcclResult r) { return r == (NcclResult)NCCL_OK || r == (NcclResult)NCCL_IN_PROGRESS; }

/* Several sends and receives as one: `each` makes those with rank s. */
static DpsStatus grouped (Work *w, NcclResult (*each) (Work *w, uint32_t s, CuPointer into, uint64_t piece, uint64_t n), CuPointer into,
                          uint64_t piece, uint64_t n)
{
    NcclResult r = (NcclResult)NCCL_OK, ended;
    pthread_mutex_lock (&w->c->lock);
    int gone = !w->c->comm;
    if (!gone) {
        cuda_api.nccl.group_start ();
        for (uint32_t s = 0; s < w->c->n_ranks && goes_on (r); s++)
            r = each (w, s, into, piece, n);
        ended = cuda_api.nccl.group_end ();
        r = goes_on (r) ? ended : r;
    }
    pthread_mutex_unlock (&w->c->lock);
    return gone ? cuda_comm_cancelled (w->c, w->err) : cuda_comm_settle (w->c, r, w->err);
}

static const void *at (CuPointer p) { return (const void *)(uintptr_t)p; }
static void *into_at (CuPointer p) { return (void *)(uintptr_t)p; }

/* Rank s gets its piece of mine, I get my piece of its, one after the other in `into`. */
static NcclResult trade (Work *w, uint32_t s, CuPointer into, uint64_t piece, uint64_t n)
{
    uint64_t theirs = share (n, piece, s), mine = share (n, piece, w->c->rank);
    NcclResult r = (NcclResult)NCCL_OK;
    if (theirs)
        r = cuda_api.nccl.send (at (w->from + s * piece * w->item), theirs, w->type, (int)s, w->c->comm, w->q->stream);
    if (mine && goes_on (r))
        r = cuda_api.nccl.recv (into_at (into + s * mine * w->item), mine, w->type, (int)s, w->c->comm, w->q->stream);
    return r;
}

static NcclResult spread (Work *w, uint32_t s, CuPointer into, uint64_t piece, uint64_t n)
{
    uint64_t theirs = share (n, piece, s);
    CuPointer p = into + s * piece * w->item;
    return theirs ? cuda_api.nccl.broadcast (at (p), into_at (p), theirs, w->type, (int)s, w->c->comm, w->q->stream) : (NcclResult)NCCL_OK;
}

/* My piece of everybody's n elements, added in rank order, to `to`. */
static DpsStatus sum_share (Work *w, uint64_t piece, uint64_t n, CuPointer to)
{
    uint64_t mine = share (n, piece, w->c->rank);
    struct DpsBuffer *parts = NULL, result = {.ptr = to, .bytes = mine * w->item};
    DPS_TRY (cuda_scratch (w->q, CUDA_SLOT_RANKS, (mine ? mine : 1) * w->c->n_ranks * w->item, &parts, w->err));
    DPS_TRY (grouped (w, trade, parts->ptr, piece, n));
    DpsView from = {.size = sizeof from, .dtype = w->in->dtype, .buffer = parts}, sum = from;
    sum.buffer = &result;
    DpsLaunch l = cuda_launch_table (w->q);
    DpsKernel k = dps_kernel ("collective", "dps_sum_ranks");
    dps_arg (&k, &from);
    dps_arg (&k, &sum);
    dps_arg_i64 (&k, (int64_t)mine);
    dps_arg_i64 (&k, w->c->n_ranks);
    return dps_launch_flat (&l, &k, (int64_t)mine, w->err);
}

/* Floats are added in rank order; there is no kernel for f64. */
static DpsStatus ordered (const Work *w, uint32_t reduce, int *out)
{
    uint32_t dtype = w->in->dtype;
    if (reduce > DPS_REDUCE_MIN)
        return dps_fail (w->err, DPS_ERR_UNSUPPORTED, "%s: there is no reduction %u", w->c->dev->name, reduce);
    *out = reduce == DPS_REDUCE_SUM && (dtype == DPS_DTYPE_F32 || dtype == DPS_DTYPE_BF16 || dtype == DPS_DTYPE_F16);
    if (reduce == DPS_REDUCE_SUM && dtype == DPS_DTYPE_F64)
        return dps_fail (w->err, DPS_ERR_DTYPE, "%s: a sum of f64 over ranks; f32, bf16, f16 or integers are expected", w->c->dev->name);
    return DPS_OK;
}

static DpsStatus counts (const Work *w, uint64_t in, uint64_t out)
{
    if (w->n_in == in && w->n_out == out)
        return DPS_OK;
    return dps_fail (w->err, DPS_ERR_SHAPE, "%s: %llu elements in and %llu out; %llu and %llu are expected of %u ranks", w->c->dev->name,
                     (unsigned long long)w->n_in, (unsigned long long)w->n_out, (unsigned long long)in, (unsigned long long)out,
                     w->c->n_ranks);
}

static NcclReduce nccl_reduce (uint32_t reduce)
{
    return (NcclReduce)(reduce == DPS_REDUCE_SUM ? NCCL_SUM : reduce == DPS_REDUCE_MAX ? NCCL_MAX : NCCL_MIN);
}

/* The calls. */

static DpsStatus all_reduce_work (Work *w, uint32_t reduce)
{
    int in_order;
    uint64_t n = w->n_in, piece = (n + w->c->n_ranks - 1) / w->c->n_ranks;
    DPS_TRY (counts (w, n, n));
    DPS_TRY (ordered (w, reduce, &in_order));
    if (!in_order) {
        CALL (w, r, all_reduce (at (w->from), into_at (w->to), n, w->type, nccl_reduce (reduce), w->c->comm, w->q->stream));
        return DPS_OK;
    }
    DPS_TRY (sum_share (w, piece, n, w->to + w->c->rank * piece * w->item));
    return grouped (w, spread, w->to, piece, n);
}

static DpsStatus all_reduce (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t reduce, struct DpsQueue *q, DpsError *err)
{
    Work w;
    DPS_TRY (begin (c, in, out, q, &w, err));
    return finish (&w, all_reduce_work (&w, reduce));
}

static DpsStatus reduce_scatter_work (Work *w, uint32_t reduce)
{
    int in_order;
    DPS_TRY (counts (w, w->n_out * w->c->n_ranks, w->n_out));
    DPS_TRY (ordered (w, reduce, &in_order));
    if (in_order)
        return sum_share (w, w->n_out, w->n_in, w->to);
    CALL (w, r, reduce_scatter (at (w->from), into_at (w->to), w->n_out, w->type, nccl_reduce (reduce), w->c->comm, w->q->stream));
    return DPS_OK;
}

static DpsStatus reduce_scatter (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t reduce, struct DpsQueue *q,
                                 DpsError *err)
{
    Work w;
    DPS_TRY (begin (c, in, out, q, &w, err));
    return finish (&w, reduce_scatter_work (&w, reduce));
}

static DpsStatus all_gather_work (Work *w)
{
    DPS_TRY (counts (w, w->n_in, w->n_in * w->c->n_ranks));
    CALL (w, r, all_gather (at (w->from), into_at (w->to), w->n_in, w->type, w->c->comm, w->q->stream));
    return DPS_OK;
}

static DpsStatus all_gather (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err)
{
    Work w;
    DPS_TRY (begin (c, in, out, q, &w, err));
    return finish (&w, all_gather_work (&w));
}

/* Through scratch, so that in and out may be one. */
static DpsStatus all_to_all_work (Work *w)
{
    uint64_t piece = w->n_in / w->c->n_ranks;
    struct DpsBuffer *landed;
    DPS_TRY (counts (w, piece * w->c->n_ranks, w->n_in));
    DPS_TRY (cuda_scratch (w->q, CUDA_SLOT_RANKS, w->n_in * w->item, &landed, w->err));
    DPS_TRY (grouped (w, trade, landed->ptr, piece, w->n_in));
    if (!w->n_in)
        return DPS_OK;
    return cuda_check (w->c->dev, cuda_api.cu.copy_inside (w->to, landed->ptr, w->n_in * w->item, w->q->stream), "a copy", w->err);
}

static DpsStatus all_to_all (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err)
{
    Work w;
    DPS_TRY (begin (c, in, out, q, &w, err));
    return finish (&w, all_to_all_work (&w));
}

static DpsStatus peer (const Work *w, uint32_t rank)
{
    return rank < w->c->n_ranks
               ? DPS_OK
               : dps_fail (w->err, DPS_ERR_INVALID, "%s: rank %u of a communicator of %u", w->c->dev->name, rank, w->c->n_ranks);
}

static DpsStatus broadcast_work (Work *w, uint32_t root)
{
    DPS_TRY (peer (w, root));
    CALL (w, r, broadcast (at (w->from), into_at (w->to), w->n_in, w->type, (int)root, w->c->comm, w->q->stream));
    return DPS_OK;
}

static DpsStatus broadcast (struct DpsComm *c, const DpsView *buf, uint32_t root, struct DpsQueue *q, DpsError *err)
{
    Work w;
    DPS_TRY (begin (c, buf, buf, q, &w, err));
    return finish (&w, broadcast_work (&w, root));
}

static DpsStatus send_work (Work *w, uint32_t to)
{
    DPS_TRY (peer (w, to));
    CALL (w, r, send (at (w->from), w->n_in, w->type, (int)to, w->c->comm, w->q->stream));
    return DPS_OK;
}

static DpsStatus send (struct DpsComm *c, const DpsView *buf, uint32_t to, struct DpsQueue *q, DpsError *err)
{
    Work w;
    DPS_TRY (begin (c, buf, NULL, q, &w, err));
    return finish (&w, send_work (&w, to));
}

static DpsStatus recv_work (Work *w, uint32_t from)
{
    DPS_TRY (peer (w, from));
    CALL (w, r, recv (into_at (w->to), w->n_out, w->type, (int)from, w->c->comm, w->q->stream));
    return DPS_OK;
}

static DpsStatus recv (struct DpsComm *c, const DpsView *buf, uint32_t from, struct DpsQueue *q, DpsError *err)
{
    Work w;
    DPS_TRY (begin (c, NULL, buf, q, &w, err));
    return finish (&w, recv_work (&w, from));
}

const DpsCollective cuda_collective = {
    .size = sizeof (DpsCollective),
    .unique_id = cuda_comm_unique_id,
    .init = cuda_comm_init,
    .all_reduce = all_reduce,
    .reduce_scatter = reduce_scatter,
    .all_gather = all_gather,
    .all_to_all = all_to_all,
    .broadcast = broadcast,
    .send = send,
    .recv = recv,
    .abort = cuda_comm_abort,
    .destroy = cuda_comm_destroy,
};
