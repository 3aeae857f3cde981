/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nccl.c: NCCL between the threads of one process. A communicator's init is in progress until all ranks have come; work in a stream blocks until the
 * others get there, and abort lets it go. Reductions of this double go from the last rank to the first, so that whoever needs rank order has to make it.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inside.h"

enum { RANKS_MOST = 8, CLIQUES_MOST = 64, PENDING_MOST = 64 };
enum { INVALID_ARGUMENT = 4, REMOTE_ERROR = 6 };

/* One message of a send, waiting for its recv. */
typedef struct Message {
    const void *data;
    size_t bytes;
    int from, to;
    struct Message *next;
} Message;

typedef struct Clique {
    char id[128];
    int n_ranks, joined, left;
    const void *in[RANKS_MOST]; /* of the collective now under way */
    int arrived, departed;
    Message *messages;
} Clique;

struct ncclComm {
    Clique *clique;
    int rank, aborted;
    struct ncclComm *next; /* of all there ever were: work in a stream may come late */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static Clique cliques[CLIQUES_MOST];
static struct ncclComm *comms;
static int n_ids;

NcclResult ncclGetVersion (int *out);
NcclResult ncclGetVersion (int *out)
{
    *out = 22809;
    return NCCL_OK;
}

NcclResult ncclGetUniqueId (NcclId *id);
NcclResult ncclGetUniqueId (NcclId *id)
{
    memset (id, 0, sizeof *id);
    pthread_mutex_lock (&lock);
    snprintf (id->internal, sizeof id->internal, "double %d of %d", ++n_ids, (int)getpid ());
    pthread_mutex_unlock (&lock);
    return NCCL_OK;
}

NcclResult ncclCommInitRankConfig (NcclComm *out, int n_ranks, NcclId id, int rank, NcclConfig *config);
NcclResult ncclCommInitRankConfig (NcclComm *out, int n_ranks, NcclId id, int rank, NcclConfig *config)
{
    struct ncclComm *c = calloc (1, sizeof *c);
    char here[24];
    int i = 0;
    if (!c || config->size < sizeof *config || config->magic != 0xcafebeef || config->blocking != 0 || n_ranks > RANKS_MOST ||
        rank >= n_ranks) {
        free (c);
        return INVALID_ARGUMENT;
    }
    snprintf (here, sizeof here, " of %d", (int)getpid ());
    if (!strstr (id.internal, here)) { /* of another process */
        free (c);
        return NCCL_INVALID_USAGE;
    }
    pthread_mutex_lock (&lock);
    while (i < CLIQUES_MOST && cliques[i].n_ranks && (cliques[i].left == cliques[i].n_ranks || strcmp (cliques[i].id, id.internal) != 0))
        i++;
    if (i < CLIQUES_MOST && !cliques[i].n_ranks) {
        memcpy (cliques[i].id, id.internal, sizeof cliques[i].id);
        cliques[i].n_ranks = n_ranks;
    }
    if (i < CLIQUES_MOST) {
        *c = (struct ncclComm){&cliques[i], rank, 0, comms};
        comms = c;
        cliques[i].joined++;
        double_object (1);
        *out = c;
    } else
        free (c);
    pthread_mutex_unlock (&lock);
    return i < CLIQUES_MOST ? NCCL_IN_PROGRESS : INVALID_ARGUMENT;
}

NcclResult ncclCommGetAsyncError (NcclComm c, NcclResult *out);
NcclResult ncclCommGetAsyncError (NcclComm c, NcclResult *out)
{
    pthread_mutex_lock (&lock);
    *out = c->clique->joined < c->clique->n_ranks ? NCCL_IN_PROGRESS : NCCL_OK;
    pthread_mutex_unlock (&lock);
    return NCCL_OK;
}

/* Work that is still to come finds the flag; the memory stays for it. */
NcclResult ncclCommAbort (NcclComm c);
NcclResult ncclCommAbort (NcclComm c)
{
    pthread_mutex_lock (&lock);
    if (c->aborted)
        double_breach ("a communicator is aborted twice");
    c->aborted = 1;
    c->clique->left++;
    pthread_cond_broadcast (&moved);
    pthread_mutex_unlock (&lock);
    double_object (-1);
    return NCCL_OK;
}

static size_t item (NcclType t) { return t == NCCL_F64 || t == NCCL_I64 ? 8 : t == NCCL_F32 || t == NCCL_I32 ? 4 : t <= NCCL_U8 ? 1 : 2; }

typedef enum Kind { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, SEND, RECV } Kind;

typedef struct Op {
    Kind kind;
    struct ncclComm *comm;
    const void *in;
    void *out;
    size_t n;
    NcclType type;
    NcclReduce reduce;
    int peer;
} Op;

static double half (uint32_t bits)
{
    int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
    double v = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? ldexp (1024 + fraction, exponent - 25) : ldexp (fraction, -24);
    return bits >> 15 ? -v : v;
}

static double number (const void *p, NcclType t, size_t i)
{
    float f;
    uint32_t bits;
    switch (t) {
    case NCCL_F32: return (double)((const float *)p)[i];
    case NCCL_F64: return ((const double *)p)[i];
    case NCCL_I32: return ((const int32_t *)p)[i];
    case NCCL_I64: return (double)((const int64_t *)p)[i];
    case NCCL_BF16:
        bits = (uint32_t)((const uint16_t *)p)[i] << 16;
        memcpy (&f, &bits, sizeof f);
        return (double)f;
    case NCCL_F16: return half (((const uint16_t *)p)[i]);
    case NCCL_I8: return ((const int8_t *)p)[i];
    default: return ((const uint8_t *)p)[i];
    }
}

static void put (void *p, NcclType t, size_t i, double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy (&bits, &f, sizeof bits);
    switch (t) {
    case NCCL_F32: ((float *)p)[i] = f; break;
    case NCCL_F64: ((double *)p)[i] = v; break;
    case NCCL_I32: ((int32_t *)p)[i] = (int32_t)v; break;
    case NCCL_I64: ((int64_t *)p)[i] = (int64_t)v; break;
    case NCCL_BF16: ((uint16_t *)p)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); break;
    case NCCL_F16: double_breach ("a sum of f16 by NCCL, in no promised order"); break;
    default: ((uint8_t *)p)[i] = (uint8_t)(int)v;
    }
}

/* Element `at` of all ranks' `in`, reduced: a sum of floats is rounded to f32 at each step, the largest and the smallest are copied. */
static void reduce (const Clique *q, const Op *o, size_t at, void *to, size_t i)
{
    int best = q->n_ranks - 1, floats = o->type == NCCL_F32 || o->type == NCCL_BF16;
    double v = number (q->in[best], o->type, at), sum = v;
    for (int r = best; r-- > 0;) {
        double w = number (q->in[r], o->type, at);
        sum = floats ? (double)(float)(sum + w) : sum + w;
        if (o->reduce == NCCL_MAX ? w >= v : w <= v) {
            best = r;
            v = w;
        }
    }
    if (o->reduce == NCCL_SUM)
        put (to, o->type, i, sum);
    else
        memcpy ((unsigned char *)to + i * item (o->type), (const unsigned char *)q->in[best] + at * item (o->type), item (o->type));
}

/* All ranks' `in` are there: what this rank gets of them, into fresh memory, since in and out may be one. */
static void *compute (const Clique *q, const Op *o, size_t *bytes)
{
    size_t size = item (o->type), n = o->kind == ALL_GATHER ? o->n * (size_t)q->n_ranks : o->n, first = o->n * (size_t)o->comm->rank;
    unsigned char *to = malloc (n * size + 1);
    *bytes = n * size;
    for (size_t i = 0; to && i < n; i++) {
        if (o->kind == BROADCAST)
            memcpy (to + i * size, (const unsigned char *)q->in[o->peer] + i * size, size);
        else if (o->kind == ALL_GATHER)
            memcpy (to + i * size, (const unsigned char *)q->in[i / o->n] + i % o->n * size, size);
        else
            reduce (q, o, o->kind == REDUCE_SCATTER ? first + i : i, to, i);
    }
    return to;
}

/* Wait until everybody is there (or this rank has given up). */
static int meet (struct ncclComm *c, int *count, int target)
{
    (*count)++;
    pthread_cond_broadcast (&moved);
    while (*count < target && !c->aborted)
        pthread_cond_wait (&moved, &lock);
    return !c->aborted;
}

static void collective (const Op *o)
{
    Clique *q = o->comm->clique;
    size_t bytes = 0;
    while (q->arrived / q->n_ranks > q->departed / q->n_ranks && !o->comm->aborted) /* the one before is not over */
        pthread_cond_wait (&moved, &lock);
    int round = q->departed / q->n_ranks;
    q->in[o->comm->rank] = o->in;
    if (!meet (o->comm, &q->arrived, (round + 1) * q->n_ranks))
        return;
    void *result = compute (q, o, &bytes);
    if (meet (o->comm, &q->departed, (round + 1) * q->n_ranks) && result && o->out)
        memcpy (o->out, result, bytes);
    free (result);
}

static void point (const Op *o)
{
    Clique *q = o->comm->clique;
    if (o->kind == SEND) {
        Message *m = calloc (1, sizeof *m), **end = &q->messages;
        void *copy = malloc (o->n * item (o->type) + 1);
        if (!m || !copy) {
            free (m);
            free (copy);
            return;
        }
        memcpy (copy, o->in, o->n * item (o->type));
        *m = (Message){copy, o->n * item (o->type), o->comm->rank, o->peer, NULL};
        while (*end)
            end = &(*end)->next;
        *end = m;
        pthread_cond_broadcast (&moved);
        return;
    }
    for (Message **at = &q->messages; !o->comm->aborted;) {
        Message *m = *at;
        if (m && m->from == o->peer && m->to == o->comm->rank) {
            if (m->bytes != o->n * item (o->type))
                double_breach ("a recv of %zu bytes meets a send of %zu", o->n * item (o->type), m->bytes);
            else
                memcpy (o->out, m->data, m->bytes);
            *at = m->next;
            free ((void *)m->data);
            free (m);
            return;
        }
        if (m) {
            at = &m->next;
            continue;
        }
        pthread_cond_wait (&moved, &lock);
        at = &q->messages;
    }
}

static void op_run (void *arg)
{
    const Op *o = arg;
    pthread_mutex_lock (&lock);
    if (!o->comm->aborted) {
        if (o->kind >= SEND)
            point (o);
        else
            collective (o);
    }
    pthread_mutex_unlock (&lock);
}

static NcclResult queue (Op o, CuStream s)
{
    size_t size = item (o.type) * o.n, ranks = (size_t)o.comm->clique->n_ranks;
    if (double_call (0) != CU_OK)
        return 1;
    if (o.comm->aborted)
        return INVALID_ARGUMENT;
    if (o.in && o.n && !double_holds (o.in, o.kind == REDUCE_SCATTER ? size * ranks : size, "NCCL"))
        return INVALID_ARGUMENT;
    if (o.out && o.n && !double_holds (o.out, o.kind == ALL_GATHER ? size * ranks : size, "NCCL"))
        return INVALID_ARGUMENT;
    return double_enqueue (s, op_run, &o, sizeof o, 1) ? NCCL_IN_PROGRESS : 1; /* of a communicator that does not block */
}

#define CALL(name, params, ...)                                                                                                            \
    NcclResult name params;                                                                                                                \
    NcclResult name params { return queue ((Op){__VA_ARGS__}, s); }
CALL (ncclAllReduce, (const void *in, void *out, size_t n, NcclType t, NcclReduce r, NcclComm c, CuStream s), ALL_REDUCE, c, in, out, n, t,
      r, 0)
CALL (ncclReduceScatter, (const void *in, void *out, size_t n, NcclType t, NcclReduce r, NcclComm c, CuStream s), REDUCE_SCATTER, c, in,
      out, n, t, r, 0)
CALL (ncclAllGather, (const void *in, void *out, size_t n, NcclType t, NcclComm c, CuStream s), ALL_GATHER, c, in, out, n, t, 0, 0)
CALL (ncclBroadcast, (const void *in, void *out, size_t n, NcclType t, int root, NcclComm c, CuStream s), BROADCAST, c, in, out, n, t, 0,
      root)
CALL (ncclSend, (const void *in, size_t n, NcclType t, int to, NcclComm c, CuStream s), SEND, c, in, NULL, n, t, 0, to)
CALL (ncclRecv, (void *out, size_t n, NcclType t, int from, NcclComm c, CuStream s), RECV, c, NULL, out, n, t, 0, from)

/* Sends do not wait here, so a group is what it holds. */
NcclResult ncclGroupStart (void);
NcclResult ncclGroupStart (void) { return NCCL_OK; }
NcclResult ncclGroupEnd (void);
NcclResult ncclGroupEnd (void) { return NCCL_IN_PROGRESS; }
