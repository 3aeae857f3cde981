/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collective.c: `dps.collective/1` between processes of one machine, in a piece of shared memory that rank 0 makes; with the faults a collective can
 * have. Every call is one exchange: all ranks lay down what they bring, then each makes its own of all of it, in rank order.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/status.h"
#include "broken.h"
#include "diapason/diapason.h"
#include "diapason/draft/collective.h"

enum { MOST_RANKS = 4, SLOT = 1 << 16, PATIENCE_MS = 60000 };

/* Two slots a rank, taken in turns: nobody is more than one exchange ahead. */
typedef struct Shared {
    atomic_uint joined, arrived;
    atomic_uint sent[MOST_RANKS][MOST_RANKS], taken[MOST_RANKS][MOST_RANKS];
    uint32_t order[2][MOST_RANKS]; /* who came when */
    unsigned char slot[2][MOST_RANKS][SLOT], box[MOST_RANKS][MOST_RANKS][SLOT];
} Shared;

struct DpsComm {
    Shared *shared;
    uint32_t rank, n_ranks;
    unsigned round;
    atomic_int aborted;
};

static int memory = -1; /* rank 0's, until all have joined */

static DpsStatus unique_id (void *buf, size_t cap, size_t *out_len, DpsError *err)
{
    memory = memfd_create ("ranks", MFD_CLOEXEC);
    if (memory < 0 || ftruncate (memory, sizeof (Shared)))
        return dps_fail (err, DPS_ERR_NOMEM, "no shared memory");
    *out_len = (size_t)snprintf (buf, cap, "/proc/%d/fd/%d", (int)getpid (), memory);
    return DPS_OK;
}

/* Wait until *value ≥ least. */
static DpsStatus await (struct DpsComm *c, const atomic_uint *value, unsigned least, DpsError *err)
{
    const struct timespec pause = {0, 50000};
    for (int i = 0; atomic_load (value) < least; i++) {
        if (atomic_load (&c->aborted) && !IS (ignores_abort))
            return dps_fail (err, DPS_ERR_CANCELLED, "rank %u: the communicator was aborted", c->rank);
        if (i / 20 >= PATIENCE_MS)
            return dps_fail (err, DPS_ERR_TIMEOUT, "rank %u: another rank does not answer", c->rank);
        nanosleep (&pause, NULL);
    }
    return DPS_OK;
}

static void destroy (struct DpsComm *c)
{
    if (!c)
        return;
    munmap (c->shared, sizeof *c->shared);
    dps_free (c);
}

static DpsStatus init (const void *id, size_t id_len, uint32_t rank, uint32_t n_ranks, struct DpsComm **out, DpsError *err)
{
    char path[64];
    snprintf (path, sizeof path, "%.*s", (int)id_len, (const char *)id);
    int fd = n_ranks <= MOST_RANKS ? open (path, O_RDWR | O_CLOEXEC) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap (NULL, sizeof (Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close (fd);
    struct DpsComm *c = at == MAP_FAILED ? NULL : dps_calloc (1, sizeof *c);
    if (!c)
        return dps_fail (err, DPS_ERR_DEVICE, "%s: no such group", path);
    *c = (struct DpsComm){.shared = at, .rank = rank, .n_ranks = n_ranks};
    atomic_fetch_add (&c->shared->joined, 1);
    DpsStatus st = await (c, &c->shared->joined, IS (never_joins) ? n_ranks + 1 : n_ranks, err);
    if (memory >= 0)
        close (memory);
    memory = -1;
    if (st == DPS_OK)
        *out = c;
    else
        destroy (c);
    return st;
}

static uint32_t item_of (uint32_t dtype) { return dtype == DPS_DTYPE_F32 || dtype == DPS_DTYPE_I32 ? 4 : dtype == DPS_DTYPE_F64 ? 8 : 0; }

static DpsStatus size_of (const DpsView *v, uint64_t *out, DpsError *err)
{
    *out = item_of (v->dtype);
    if (!*out)
        return dps_fail (err, DPS_ERR_DTYPE, "dtype %u; f32, f64 and i32 are sent", v->dtype);
    for (uint32_t i = 0; i < v->rank; i++)
        *out *= (uint64_t)v->shape[i];
    return *out <= SLOT ? DPS_OK : dps_fail (err, DPS_ERR_UNSUPPORTED, "%llu bytes; a slot has %d", (unsigned long long)*out, SLOT);
}

/* What all ranks bring, in *out_slots; `in` NULL: this one brings nothing. */
static DpsStatus exchange (struct DpsComm *c, const void *in, uint64_t bytes, unsigned char (**out_slots)[SLOT], DpsError *err)
{
    Shared *s = c->shared;
    unsigned turn = c->round++, missing = IS (goes_on_alone) ? c->n_ranks : 0;
    if (in && bytes)
        memcpy (s->slot[turn % 2][c->rank], in, bytes);
    s->order[turn % 2][atomic_fetch_add (&s->arrived, 1) % c->n_ranks] = c->rank;
    *out_slots = s->slot[turn % 2];
    return await (c, &s->arrived, (turn + 1) * c->n_ranks - missing, err);
}

static double get (uint32_t dtype, const void *x, uint64_t i)
{
    return dtype == DPS_DTYPE_F32   ? (double)((const float *)x)[i]
           : dtype == DPS_DTYPE_F64 ? ((const double *)x)[i]
                                    : ((const int32_t *)x)[i];
}

static void put (uint32_t dtype, void *x, uint64_t i, double v)
{
    if (dtype == DPS_DTYPE_F32)
        ((float *)x)[i] = (float)v;
    else if (dtype == DPS_DTYPE_F64)
        ((double *)x)[i] = v;
    else
        ((int32_t *)x)[i] = (int32_t)v;
}

/* Element i of all, each step rounded as the dtype is. */
static void reduce_one (const struct DpsComm *c, unsigned char (*slots)[SLOT], uint32_t dtype, uint32_t how, uint64_t i, void *out,
                        uint64_t to)
{
    const uint32_t *order = c->shared->order[(c->round - 1) % 2];
    uint32_t n = IS (forgets_last_rank) ? c->n_ranks - 1 : c->n_ranks;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t r = IS (sums_by_arrival) ? order[k] : IS (sums_from_itself) ? (c->rank + k) % n : k;
        double x = get (dtype, slots[r], i), sum = k ? get (dtype, out, to) : x;
        if (k)
            sum = how == DPS_REDUCE_SUM ? sum + x : (how == DPS_REDUCE_MAX || IS (least_is_most)) == (x > sum) ? x : sum;
        put (dtype, out, to, sum);
    }
}

static DpsStatus reduce (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t how, uint64_t first, DpsError *err)
{
    uint64_t bytes, item = item_of (in->dtype), n_out = 0;
    unsigned char (*slots)[SLOT];
    DPS_TRY (size_of (in, &bytes, err));
    DPS_TRY (size_of (out, &n_out, err));
    DPS_TRY (exchange (c, in->host, bytes, &slots, err));
    n_out /= item;
    for (uint64_t i = 0; i < n_out; i++)
        reduce_one (c, slots, in->dtype, how, first + i, out->host, i);
    return DPS_OK;
}

static DpsStatus all_reduce (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t how, struct DpsQueue *q, DpsError *err)
{
    (void)q;
    return reduce (c, in, out, how, 0, err);
}

static DpsStatus reduce_scatter (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t how, struct DpsQueue *q, DpsError *err)
{
    (void)q;
    uint64_t piece;
    DPS_TRY (size_of (out, &piece, err));
    return reduce (c, in, out, how, c->rank * (piece / item_of (out->dtype)), err);
}

static DpsStatus all_gather (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err)
{
    (void)q;
    uint64_t bytes;
    unsigned char (*slots)[SLOT];
    DPS_TRY (size_of (in, &bytes, err));
    DPS_TRY (exchange (c, in->host, bytes, &slots, err));
    for (uint32_t r = 0; r < c->n_ranks && bytes; r++)
        memcpy ((char *)out->host + r * bytes, slots[IS (gathers_backwards) ? c->n_ranks - 1 - r : r], bytes);
    if (IS (writes_past_end) && bytes)
        ((char *)out->host)[c->n_ranks * bytes] = 0;
    return DPS_OK;
}

static DpsStatus all_to_all (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err)
{
    (void)q;
    uint64_t bytes;
    unsigned char (*slots)[SLOT];
    DPS_TRY (size_of (in, &bytes, err));
    DPS_TRY (exchange (c, in->host, bytes, &slots, err));
    bytes /= c->n_ranks;
    for (uint32_t r = 0; r < c->n_ranks && bytes; r++)
        memcpy ((char *)out->host + r * bytes, slots[r] + c->rank * bytes, bytes);
    return DPS_OK;
}

static DpsStatus broadcast (struct DpsComm *c, const DpsView *buf, uint32_t root, struct DpsQueue *q, DpsError *err)
{
    (void)q;
    uint64_t bytes;
    unsigned char (*slots)[SLOT];
    DPS_TRY (size_of (buf, &bytes, err));
    DPS_TRY (exchange (c, buf->host, bytes, &slots, err));
    if (bytes)
        memcpy (buf->host, slots[IS (broadcasts_rank_0) ? 0 : root], bytes);
    return DPS_OK;
}

static DpsStatus send (struct DpsComm *c, const DpsView *buf, uint32_t to, struct DpsQueue *q, DpsError *err)
{
    (void)q;
    uint64_t bytes;
    Shared *s = c->shared;
    DPS_TRY (size_of (buf, &bytes, err));
    DPS_TRY (await (c, &s->taken[c->rank][to], atomic_load (&s->sent[c->rank][to]), err));
    if (bytes)
        memcpy (s->box[c->rank][to], buf->host, bytes);
    atomic_fetch_add (&s->sent[c->rank][to], 1);
    return DPS_OK;
}

static DpsStatus recv (struct DpsComm *c, const DpsView *buf, uint32_t from, struct DpsQueue *q, DpsError *err)
{
    (void)q;
    uint64_t bytes;
    Shared *s = c->shared;
    DPS_TRY (size_of (buf, &bytes, err));
    DPS_TRY (await (c, &s->sent[from][c->rank], atomic_load (&s->taken[from][c->rank]) + 1, err));
    if (bytes)
        memcpy (buf->host, s->box[from][c->rank], bytes);
    atomic_fetch_add (&s->taken[from][c->rank], 1);
    return DPS_OK;
}

static void abort_calls (struct DpsComm *c) { atomic_store (&c->aborted, 1); }

static const DpsCollective table = {
    .size = sizeof table,
    .unique_id = unique_id,
    .init = init,
    .all_reduce = all_reduce,
    .reduce_scatter = reduce_scatter,
    .all_gather = all_gather,
    .all_to_all = all_to_all,
    .broadcast = broadcast,
    .send = send,
    .recv = recv,
    .abort = abort_calls,
    .destroy = destroy,
};

static DpsStatus start (const DpsHost *host, const char *path, DpsError *err)
{
    (void)host, (void)path, (void)err;
    return DPS_OK;
}

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_COLLECTIVE_ID) ? &table : NULL; }

DPS_PLUGIN (start, NULL, get_interface);
