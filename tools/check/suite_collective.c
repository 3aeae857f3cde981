/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_collective.c: `dps.collective/1` between processes of this machine, one a rank. Every call, in host memory, against the same in f64, the same
 * bits on every rank and in whichever order the ranks come; and when a rank dies the others get out, with an error. A rank that answers nobody is ended
 * after a while, naming the call it was in.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "check/check.h"
#include "exec/operands.h"

enum { RANKS = 3, IDENTIFIER = 256, GUARD = 64, BYTE = 0xff, MOST_S = 20, ABORT_MS = 1000, REFUSED = 1001 };
static const int64_t sizes[] = {0, 1, 37, 1031, 70001};
static const uint32_t dtypes[] = {DPS_DTYPE_F32, DPS_DTYPE_BF16, DPS_DTYPE_F16, DPS_DTYPE_F64, DPS_DTYPE_I32};
enum { N_SIZES = sizeof sizes / sizeof *sizes, N_DTYPES = sizeof dtypes / sizeof *dtypes };

/* One rank, in its process. */
typedef struct Member {
    CheckContext *ctx;
    const DpsCollective *table;
    struct DpsComm *comm;
    uint32_t rank;
    const char *volatile doing; /* for who ends it */
    pthread_t watchdog;
    atomic_int over;
    DpsHasher *bits; /* of what every rank must have alike */
    long n_compared;
} Member;

static void pause_ms (long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep (&t, NULL);
}

static char *path_of (const CheckContext *ctx, const char *name, char *out, size_t cap)
{
    snprintf (out, cap, "%s/%s", ctx->scratch, name);
    return out;
}

/* Ends a rank that is too late, and one whose group has come to nothing. What it says is the last line of the case's log. */
static void *watch (void *arg)
{
    const Member *m = arg;
    char over[4200];
    path_of (m->ctx, "over", over, sizeof over);
    for (int ms = 0; ms < MOST_S * 1000 && !atomic_load (&m->over) && access (over, F_OK) != 0; ms += 10)
        pause_ms (10);
    if (atomic_load (&m->over))
        return NULL;
    if (access (over, F_OK) != 0)
        fprintf (stderr, "rank %u is still in %s after %d s\n", m->rank, m->doing, MOST_S);
    kill (getpid (), SIGKILL);
    return NULL;
}

/* Rank 0 makes the identifier, the others read it where it lies. */
static DpsStatus join (Member *m, DpsError *err)
{
    unsigned char id[IDENTIFIER];
    size_t n = 0;
    char path[4200];
    DpsBuf file = {0};
    path_of (m->ctx, "identifier", path, sizeof path);
    m->doing = "unique_id";
    if (m->rank == 0) {
        DPS_TRY (m->table->unique_id (id, sizeof id, &n, err));
        DPS_TRY (dps_file_write (path, id, n, err));
    }
    m->doing = "waiting for rank 0's identifier";
    while (m->rank && !dps_is_file (path))
        pause_ms (2);
    DPS_TRY (dps_file_read (path, sizeof id, &file, err));
    m->doing = "init";
    DpsStatus st = m->table->init (file.data, file.len, m->rank, RANKS, &m->comm, err);
    dps_buf_free (&file);
    if (st == DPS_ERR_UNSUPPORTED && err->msg[0])
        return check_skip (err, "%.500s", err->msg);
    return st != DPS_OK || m->comm ? st : dps_fail (err, DPS_ERR_INVALID, "init gives no communicator and no error");
}

/* Element i of what `rank` brings: sums of these depend on their order. Whole numbers where the dtype is one. */
static double term (const Member *m, uint32_t rank, int64_t i)
{
    static const double scale[] = {1000, 1, -1000};
    uint32_t w[4];
    dps_philox (m->ctx->seed, rank, (uint64_t)i, w);
    return scale[rank % 3] * ((double)(w[0] >> 8) / 8388608 - (rank % 3 == 1 ? 1 : 0));
}

/* As it is in the dtype. */
static double stored (const Member *m, uint32_t dtype, uint32_t rank, int64_t i)
{
    double room = 0, x = term (m, rank, i);
    dps__put_element (dtype, &room, 0, dtype == DPS_DTYPE_I32 ? (double)(int32_t)x : x);
    return dps__element (dtype, &room, 0);
}

/* A vector of host memory with a guard behind it; n elements of this rank from `first` on, or none yet. */
typedef struct Room {
    DpsView view;
    int64_t n;
    size_t bytes;
    unsigned char *data;
} Room;

static DpsStatus open_room (const Member *m, Room *r, uint32_t dtype, int64_t n, int filled, DpsError *err)
{
    r->n = n;
    r->bytes = (size_t)n * (size_t)dps_dtype_bytes (dtype);
    r->data = dps_malloc (r->bytes + GUARD, 1);
    if (!r->data)
        return dps_fail (err, DPS_ERR_NOMEM, "no memory for %lld elements", (long long)n);
    memset (r->data, BYTE, r->bytes + GUARD);
    for (int64_t i = 0; filled && i < n; i++)
        dps__put_element (dtype, r->data, i, stored (m, dtype, m->rank, i));
    r->view = (DpsView){.size = sizeof r->view, .dtype = dtype, .rank = 1, .shape = &r->n, .host = r->data};
    return DPS_OK;
}

enum { SUM, MAX, MIN, SCATTER, GATHER, EXCHANGE, BROADCAST, AROUND, N_CALLS };
static const char *const names[N_CALLS] = {"all_reduce (sum)", "all_reduce (max)", "all_reduce (min)", "reduce_scatter",
                                           "all_gather",       "all_to_all",       "broadcast",        "send and recv"};

/* Round the ring: even ranks send first, and the last one receives first where their number is odd. */
static DpsStatus send_around (const Member *m, const DpsView *in, const DpsView *out, DpsError *err)
{
    const uint32_t next = (m->rank + 1) % RANKS, last = (m->rank + RANKS - 1) % RANKS;
    int sends_first = m->rank % 2 == 0 && m->rank != RANKS - 1;
    if (sends_first)
        DPS_TRY (m->table->send (m->comm, in, next, NULL, err));
    DPS_TRY (m->table->recv (m->comm, out, last, NULL, err));
    return sends_first ? DPS_OK : m->table->send (m->comm, in, next, NULL, err);
}

static DpsStatus call (const Member *m, int which, const DpsView *in, const DpsView *out, DpsError *err)
{
    const DpsCollective *t = m->table;
    switch (which) {
    case SUM: return t->all_reduce (m->comm, in, out, DPS_REDUCE_SUM, NULL, err);
    case MAX: return t->all_reduce (m->comm, in, out, DPS_REDUCE_MAX, NULL, err);
    case MIN: return t->all_reduce (m->comm, in, out, DPS_REDUCE_MIN, NULL, err);
    case SCATTER: return t->reduce_scatter (m->comm, in, out, DPS_REDUCE_SUM, NULL, err);
    case GATHER: return t->all_gather (m->comm, in, out, NULL, err);
    case EXCHANGE: return t->all_to_all (m->comm, in, out, NULL, err);
    case BROADCAST: return t->broadcast (m->comm, in, 1, NULL, err);
    default: return send_around (m, in, out, err);
    }
}

/* Element i of the result of n elements a rank (or a block), and how far from it one may be. */
static double wanted (const Member *m, int which, uint32_t dtype, int64_t n, int64_t i, double *out_slack)
{
    static const double eps[] = {
        [DPS_DTYPE_F32] = 0x1p-23, [DPS_DTYPE_BF16] = 0x1p-7, [DPS_DTYPE_F16] = 0x1p-10, [DPS_DTYPE_F64] = 0x1p-52};
    int64_t at = which == SCATTER ? m->rank * n + i : i;
    double sum = 0, size = 0, most = stored (m, dtype, 0, at), least = most;
    *out_slack = 0;
    switch (which) {
    case GATHER: return stored (m, dtype, (uint32_t)(i / n), i % n);
    case EXCHANGE: return stored (m, dtype, (uint32_t)(i / n), m->rank * n + i % n);
    case BROADCAST: return stored (m, dtype, 1, i);
    case AROUND: return stored (m, dtype, (m->rank + RANKS - 1) % RANKS, i);
    default: break;
    }
    for (uint32_t r = 0; r < RANKS; r++) {
        double x = stored (m, dtype, r, at);
        sum += x;
        size += x < 0 ? -x : x;
        most = x > most ? x : most;
        least = x < least ? x : least;
    }
    if (which == MAX || which == MIN)
        return which == MAX ? most : least;
    *out_slack = dtype == DPS_DTYPE_I32 ? 0 : RANKS * size * eps[dtype];
    return sum;
}

static DpsStatus compare (Member *m, int which, uint32_t dtype, int64_t n, const Room *got, DpsError *err)
{
    for (int64_t i = 0; i < got->n; i++) {
        double slack, want = wanted (m, which, dtype, n, i, &slack), x = dps__element (dtype, got->data, i);
        if (!(x - want <= slack && want - x <= slack))
            return dps_fail (err, DPS_ERR_INVALID, "%s of %lld %s: rank %u of %d has %.9g at %lld, expected %.9g, within %.3g",
                             names[which], (long long)n, dps_dtype_name (dtype), m->rank, RANKS, x, (long long)i, want, slack);
    }
    for (size_t i = 0; i < GUARD; i++)
        if (got->data[got->bytes + i] != BYTE)
            return dps_fail (err, DPS_ERR_INVALID, "%s of %lld %s: rank %u writes past its end", names[which], (long long)n,
                             dps_dtype_name (dtype), m->rank);
    if (which == SUM || which == MAX || which == MIN || which == GATHER || which == BROADCAST)
        dps_hasher_add (m->bits, got->data, got->bytes);
    m->n_compared++;
    return DPS_OK;
}

static DpsStatus one_call (Member *m, int which, uint32_t dtype, int64_t n, DpsError *err)
{
    int64_t n_in = which == SCATTER || which == EXCHANGE ? RANKS * n : n, n_out = which == GATHER || which == EXCHANGE ? RANKS * n : n;
    Room in = {0}, out = {0};
    m->doing = names[which];
    DpsStatus st = open_room (m, &in, dtype, n_in, 1, err);
    if (st == DPS_OK)
        st = open_room (m, &out, dtype, n_out, 0, err);
    if (st == DPS_OK)
        st = call (m, which, &in.view, &out.view, err);
    if ((st == DPS_ERR_UNSUPPORTED || st == DPS_ERR_DTYPE) && err->msg[0])
        st = REFUSED;
    if (st != DPS_OK && st != REFUSED)
        dps_error_prefix (err, "rank %u, %s of %lld %s", m->rank, names[which], (long long)n, dps_dtype_name (dtype));
    if (st == DPS_OK)
        st = compare (m, which, dtype, n, which == BROADCAST ? &in : &out, err);
    dps_free (in.data);
    dps_free (out.data);
    return st == REFUSED ? DPS_OK : st;
}

/* All calls; the ranks come to each in their order, or in the reverse of it. */
static DpsStatus every_call (Member *m, int reverse, DpsDigest *out, DpsError *err)
{
    m->bits = dps_hasher_new ();
    if (!m->bits)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    DpsStatus st = DPS_OK;
    for (int which = 0; which < N_CALLS; which++)
        for (size_t t = 0; t < N_DTYPES; t++)
            for (size_t s = 0; s < N_SIZES && st == DPS_OK; s++) {
                pause_ms (reverse ? RANKS - 1 - m->rank : m->rank);
                st = one_call (m, which, dtypes[t], sizes[s], err);
            }
    DpsStatus hashed = dps_hasher_final (m->bits, out, st == DPS_OK ? err : NULL);
    return st == DPS_OK ? hashed : st;
}

static DpsStatus together (Member *m, DpsError *err)
{
    DpsDigest first, second;
    DPS_TRY (every_call (m, 0, &first, err));
    DPS_TRY (every_call (m, 1, &second, err));
    check_note_text (m->ctx, "bits", first.hex);
    check_note_number (m->ctx, "compared", (double)m->n_compared);
    if (!m->n_compared)
        return check_skip (err, "it refuses every call in host memory");
    return !strcmp (first.hex, second.hex)
               ? DPS_OK
               : dps_fail (err, DPS_ERR_INVALID, "rank %u has other bits when the ranks come in another order; sums are made in rank order",
                           m->rank);
}

static void *abort_later (void *arg)
{
    const Member *m = arg;
    pause_ms (ABORT_MS);
    m->table->abort (m->comm);
    return NULL;
}

/* The last rank dies before it comes; the others wait, and are let go. */
static DpsStatus without_the_last (Member *m, DpsError *err)
{
    Room in = {0}, out = {0};
    pthread_t thread;
    if (m->rank == RANKS - 1)
        kill (getpid (), SIGKILL);
    DpsStatus st = open_room (m, &in, DPS_DTYPE_F32, 37, 1, err);
    if (st == DPS_OK)
        st = open_room (m, &out, DPS_DTYPE_F32, 37, 0, err);
    if (st == DPS_OK && pthread_create (&thread, NULL, abort_later, m))
        st = dps_fail (err, DPS_ERR_LIMIT, "no thread");
    if (st == DPS_OK) {
        DpsError said = DPS_ERROR_INIT;
        m->doing = "all_reduce, whose last rank died, a while after abort";
        DpsStatus came = call (m, SUM, &in.view, &out.view, &said);
        pthread_join (thread, NULL);
        if (came != DPS_ERR_CANCELLED && came != DPS_ERR_TIMEOUT && came != DPS_ERR_DEVICE)
            st = dps_fail (err, DPS_ERR_INVALID, "rank %u: all_reduce without the last rank: %s, expected CANCELLED, TIMEOUT or DEVICE",
                           m->rank, dps_status_name (came));
    }
    dps_free (in.data);
    dps_free (out.data);
    return st;
}

static DpsStatus in_a_process (CheckContext *ctx, DpsError *err, DpsStatus (*body) (Member *m, DpsError *err))
{
    const char *rank = getenv ("DIAPASON_CHECK_RANK");
    Member m = {.ctx = ctx, .table = ctx->table, .rank = rank ? (uint32_t)(rank[0] - '0') : 0, .doing = "nothing yet"};
    if (pthread_create (&m.watchdog, NULL, watch, &m))
        return dps_fail (err, DPS_ERR_LIMIT, "no thread");
    DpsStatus st = join (&m, err);
    if (st == DPS_OK)
        st = body (&m, err);
    m.doing = "destroy";
    m.table->destroy (m.comm);
    atomic_store (&m.over, 1);
    pthread_join (m.watchdog, NULL);
    return st;
}

static DpsStatus rank_of_all (CheckContext *ctx, DpsError *err) { return in_a_process (ctx, err, together); }
static DpsStatus rank_of_fewer (CheckContext *ctx, DpsError *err) { return in_a_process (ctx, err, without_the_last); }

/* The other end: the case, which starts them. */

typedef struct Child {
    CheckContext *ctx;
    const char *name;
    char rank[40];
    int dies;
    pthread_t thread;
    int started;
    json_t *notes;
    DpsStatus st;
    DpsError err;
    atomic_int *first; /* 1 + the rank that came to nothing first; 0: none has */
} Child;

static void *start (void *arg)
{
    Child *c = arg;
    char over[4200];
    const char *const environment[] = {c->rank, NULL};
    c->st = check_again (c->ctx, c->name, environment, &c->notes, &c->err);
    int none = 0, me = 1 + (c->rank[strlen (c->rank) - 1] - '0');
    if (c->st != DPS_OK && !c->dies && atomic_compare_exchange_strong (c->first, &none, me))
        dps_file_write (path_of (c->ctx, "over", over, sizeof over), "", 0, NULL); /* nobody waits for it */
    return NULL;
}

static DpsStatus on_ranks (CheckContext *ctx, const char *name, int last_dies, Child *children, DpsError *err)
{
    atomic_int first = 0;
    for (int i = 0; i < RANKS; i++) {
        children[i] = (Child){.ctx = ctx, .name = name, .dies = last_dies && i == RANKS - 1, .err = DPS_ERROR_INIT, .first = &first};
        snprintf (children[i].rank, sizeof children[i].rank, "DIAPASON_CHECK_RANK=%d", i);
        children[i].started = pthread_create (&children[i].thread, NULL, start, &children[i]) == 0;
    }
    int missing = 0;
    for (int i = 0; i < RANKS; i++)
        if (children[i].started)
            pthread_join (children[i].thread, NULL);
        else
            missing = 1;
    if (missing)
        return dps_fail (err, DPS_ERR_LIMIT, "no thread");
    int came_to_nothing = atomic_load (&first);
    if (!came_to_nothing)
        return DPS_OK;
    *err = children[came_to_nothing - 1].err;
    return children[came_to_nothing - 1].st;
}

static DpsStatus ranks (CheckContext *ctx, DpsError *err)
{
    Child children[RANKS];
    DpsStatus st = on_ranks (ctx, "rank_of_all", 0, children, err);
    const char *bits = json_string_value (json_object_get (children[0].notes, "bits"));
    for (int i = 1; i < RANKS && st == DPS_OK; i++) {
        const char *others = json_string_value (json_object_get (children[i].notes, "bits"));
        if (!bits || !others || strcmp (bits, others))
            st = dps_fail (err, DPS_ERR_INVALID, "ranks 0 and %d have other bits of what all have alike; sums are made in rank order", i);
    }
    check_note_number (ctx, "compared", RANKS * json_number_value (json_object_get (children[0].notes, "compared")));
    for (int i = 0; i < RANKS; i++)
        json_decref (children[i].notes);
    return st;
}

static DpsStatus a_rank_dies (CheckContext *ctx, DpsError *err)
{
    Child children[RANKS];
    DpsStatus st = on_ranks (ctx, "rank_of_fewer", 1, children, err);
    for (int i = 0; i < RANKS; i++)
        json_decref (children[i].notes);
    return st;
}

static const CheckCase cases[] = {
    {.name = "ranks", .level = 5, .run = ranks, .timeout_s = 90},
    {.name = "a_rank_dies", .level = 5, .run = a_rank_dies, .timeout_s = 90},
    {.name = "rank_of_all", .flags = CHECK_HIDDEN, .run = rank_of_all},
    {.name = "rank_of_fewer", .flags = CHECK_HIDDEN, .run = rank_of_fewer},
};
const CheckSuite check_suite_collective = {"collective", DPS_COLLECTIVE_ID, "communication between processes", cases,
                                           sizeof cases / sizeof *cases};
