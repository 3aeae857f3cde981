/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dps.collective/1 of the cuda backend, three ranks in three threads on three devices of the double, whose own sums go from the last rank to the
 * first: sums in rank order are the backend's work.
 */
#include <pthread.h>

#include "cuda/cuda_kit.h"

#include "plugin/host.h"

enum { RANKS = 3, N = 37 };

typedef struct Rank {
    uint32_t rank;
    struct DpsDevice *dev;
    const unsigned char *id;
    size_t id_len;
    int (*body) (struct Rank *r);
    struct DpsComm *comm;
    DpsError err;
    int wrong;
} Rank;

#define MUST(call)                                                                                                                         \
    do {                                                                                                                                   \
        if ((call) != DPS_OK) {                                                                                                            \
            printf ("\n    rank %u, line %d: %s\n", r->rank, __LINE__, r->err.msg);                                                        \
            return 1;                                                                                                                      \
        }                                                                                                                                  \
    } while (0)
#define HOLDS(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            printf ("\n    rank %u, line %d: not true: %s\n", r->rank, __LINE__, #condition);                                              \
            return 1;                                                                                                                      \
        }                                                                                                                                  \
    } while (0)

static DpsView host_view (const int64_t *shape, uint32_t dtype, void *data)
{
    return (DpsView){.size = sizeof (DpsView), .dtype = dtype, .rank = 1, .shape = shape, .host = data};
}

static void *thread (void *arg)
{
    Rank *r = arg;
    r->wrong = collective->init (r->id, r->id_len, r->rank, RANKS, &r->comm, &r->err) != DPS_OK;
    if (r->wrong)
        printf ("\n    rank %u: %s\n", r->rank, r->err.msg);
    else
        r->wrong = r->body (r);
    collective->destroy (r->comm);
    return NULL;
}

static void on_ranks (int (*body) (Rank *r))
{
    unsigned char id[256];
    size_t id_len = 0;
    Rank ranks[RANKS];
    pthread_t threads[RANKS];
    CHECK_OK (collective->unique_id (id, sizeof id, &id_len, &err));
    for (uint32_t i = 0; i < RANKS; i++) {
        DpsDeviceInfo info = {.size = sizeof info};
        CHECK_OK (be->enumerate (i, &info, &err));
        ranks[i] = (Rank){.rank = i, .dev = info.device, .id = id, .id_len = id_len, .body = body, .err = DPS_ERROR_INIT};
        CU_ASSERT_EQUAL_FATAL (pthread_create (&threads[i], NULL, thread, &ranks[i]), 0);
    }
    for (int i = 0; i < RANKS; i++) {
        pthread_join (threads[i], NULL);
        CU_ASSERT_EQUAL (ranks[i].wrong, 0);
    }
}

/* Terms whose sum depends on the order. */
static float term (uint32_t rank, int64_t i)
{
    const float terms[RANKS] = {1e8f, 1.5f + (float)i, -1e8f};
    return terms[rank];
}
static float in_order (int64_t i) { return term (0, i) + term (1, i) + term (2, i); }

static int reduces_host_memory (Rank *r)
{
    float x[N], y[N];
    int32_t whole[4] = {(int32_t)r->rank, 10, -5, 1 << 20}, most[4];
    const int64_t n = N, four = 4;
    for (int i = 0; i < N; i++)
        x[i] = term (r->rank, i);
    DpsView in = host_view (&n, DPS_DTYPE_F32, x), out = host_view (&n, DPS_DTYPE_F32, y);
    double *wide = calloc (N, sizeof *wide);
    DpsView refused = host_view (&n, DPS_DTYPE_F64, wide);
    HOLDS (collective->all_reduce (r->comm, &refused, &refused, DPS_REDUCE_SUM, NULL, &r->err) == DPS_ERR_DTYPE);
    free (wide); /* of a call that ended nothing is read later */
    MUST (collective->all_reduce (r->comm, &in, &out, DPS_REDUCE_SUM, NULL, &r->err));
    for (int i = 0; i < N; i++)
        HOLDS (y[i] == in_order (i));
    MUST (collective->all_reduce (r->comm, &in, &in, DPS_REDUCE_SUM, NULL, &r->err)); /* in place */
    HOLDS (!memcmp (x, y, sizeof x));
    DpsView ints = host_view (&four, DPS_DTYPE_I32, whole), largest = host_view (&four, DPS_DTYPE_I32, most);
    MUST (collective->all_reduce (r->comm, &ints, &largest, DPS_REDUCE_MAX, NULL, &r->err));
    HOLDS (most[0] == RANKS - 1 && most[2] == -5);
    MUST (collective->all_reduce (r->comm, &ints, &ints, DPS_REDUCE_SUM, NULL, &r->err));
    HOLDS (whole[0] == 3 && whole[3] == 3 << 20);
    HOLDS (collective->all_reduce (r->comm, &ints, &ints, 7, NULL, &r->err) == DPS_ERR_UNSUPPORTED);
    return 0;
}

static int moves_on_a_queue (Rank *r)
{
    struct DpsQueue *q;
    struct DpsEvent *e;
    struct DpsBuffer *b[2];
    void *host[2];
    const int64_t piece = 5, all = 5 * RANKS;
    float *from, *to;
    MUST (queues->open (r->dev, 0, &q, &r->err));
    for (int i = 0; i < 2; i++)
        MUST (be->alloc (r->dev, all * 4, &b[i], &host[i], &r->err));
    from = host[0], to = host[1];
    DpsView one = {.size = sizeof one, .dtype = DPS_DTYPE_F32, .rank = 1, .shape = &piece, .buffer = b[0]}, many = one, small = one;
    many.shape = &all;
    many.buffer = b[1];
    small.offset = 4 * 5;
    for (int i = 0; i < all; i++)
        from[i] = (float)(100 * (int)r->rank + i);
    MUST (collective->all_gather (r->comm, &one, &many, q, &r->err));
    MUST (queues->record (q, &e, &r->err));
    MUST (queues->sync (e, -1, &r->err));
    for (int i = 0; i < all; i++)
        HOLDS (to[i] == (float)(100 * (i / 5) + i % 5));
    queues->event_free (e);

    DpsView whole = many;
    whole.buffer = b[0];
    MUST (collective->all_to_all (r->comm, &whole, &whole, q, &r->err));
    MUST (collective->reduce_scatter (r->comm, &many, &small, DPS_REDUCE_SUM, q, &r->err));
    DpsView last = one;
    MUST (collective->broadcast (r->comm, &last, 2, q, &r->err));
    MUST (queues->record (q, &e, &r->err));
    MUST (queues->sync (e, -1, &r->err));
    for (int i = 0; i < 5; i++) {
        HOLDS (from[i] == (float)(0 + 5 * 2 + i));                   /* block 0 of rank 2's exchange: from rank 0 */
        HOLDS (from[5 + i] == 3 * (float)(100 * (int)r->rank + i));  /* what all ranks had gathered alike */
        HOLDS (from[10 + i] == (float)(200 + 5 * (int)r->rank + i)); /* from rank 2 */
    }
    queues->event_free (e);
    queues->close (q);
    be->free (r->dev, b[0]), be->free (r->dev, b[1]);
    return 0;
}

static int sends_around (Rank *r)
{
    const int64_t one = 1;
    int32_t mine = 7 * (int32_t)r->rank, theirs = -1;
    DpsView out = host_view (&one, DPS_DTYPE_I32, &mine), in = host_view (&one, DPS_DTYPE_I32, &theirs);
    MUST (collective->send (r->comm, &out, (r->rank + 1) % RANKS, NULL, &r->err));
    MUST (collective->recv (r->comm, &in, (r->rank + RANKS - 1) % RANKS, NULL, &r->err));
    HOLDS (theirs == 7 * (int32_t)((r->rank + RANKS - 1) % RANKS));
    HOLDS (collective->send (r->comm, &out, RANKS, NULL, &r->err) == DPS_ERR_INVALID);
    return 0;
}

static void *abort_soon (void *comm)
{
    usleep (50000);
    collective->abort (comm);
    return NULL;
}

static void *stop_soon (void *unused)
{
    (void)unused;
    usleep (50000);
    dps_host_request_stop (1);
    return NULL;
}

/* Ranks 0 and 1 wait for rank 2, which never comes: a call that waits, until `soon` (arg) has run. */
static int called_until (Rank *r, void *(*soon) (void *), void *arg)
{
    pthread_t other;
    float x[N] = {0};
    const int64_t n = N;
    DpsView in = host_view (&n, DPS_DTYPE_F32, x);
    HOLDS (pthread_create (&other, NULL, soon, arg) == 0);
    DpsStatus st = collective->all_reduce (r->comm, &in, &in, DPS_REDUCE_SUM, NULL, &r->err);
    pthread_join (other, NULL);
    HOLDS (st == DPS_ERR_CANCELLED);
    return 0;
}

/* The same on a queue: the event before which the work was says so. */
static int queued_until (Rank *r, void *(*soon) (void *), void *arg)
{
    struct DpsQueue *q;
    struct DpsEvent *e;
    struct DpsBuffer *b;
    pthread_t other;
    const int64_t n = 4;
    MUST (queues->open (r->dev, 0, &q, &r->err));
    MUST (be->alloc (r->dev, 16, &b, NULL, &r->err));
    DpsView v = {.size = sizeof v, .dtype = DPS_DTYPE_F32, .rank = 1, .shape = &n, .buffer = b};
    MUST (collective->all_reduce (r->comm, &v, &v, DPS_REDUCE_MAX, q, &r->err));
    MUST (queues->record (q, &e, &r->err));
    HOLDS (pthread_create (&other, NULL, soon, arg) == 0);
    HOLDS (queues->sync (e, -1, &r->err) == DPS_ERR_CANCELLED);
    pthread_join (other, NULL);
    collective->abort (r->comm);
    queues->event_free (e);
    queues->close (q);
    be->free (r->dev, b);
    return 0;
}

static int aborts (Rank *r)
{
    float x[N] = {0};
    const int64_t n = N;
    DpsView in = host_view (&n, DPS_DTYPE_F32, x);
    if (r->rank == 2)
        return 0;
    HOLDS (called_until (r, abort_soon, r->comm) == 0);
    HOLDS (strstr (r->err.msg, "aborted"));
    HOLDS (collective->all_reduce (r->comm, &in, &in, DPS_REDUCE_SUM, NULL, &r->err) == DPS_ERR_CANCELLED);
    collective->abort (r->comm);
    return 0;
}

static int aborts_on_a_queue (Rank *r) { return r->rank == 2 ? 0 : queued_until (r, abort_soon, r->comm); }

static pthread_barrier_t two;

/* Until the user asks to stop: rank 0 in a call, rank 1 at an event. */
static int stops (Rank *r)
{
    if (r->rank == 2)
        return 0;
    pthread_barrier_wait (&two); /* both have joined */
    HOLDS ((r->rank == 0 ? called_until : queued_until) (r, stop_soon, NULL) == 0);
    HOLDS (strstr (r->err.msg, "asked to stop"));
    return 0;
}

static void test_stop (void)
{
    CU_ASSERT_EQUAL_FATAL (pthread_barrier_init (&two, NULL, 2), 0);
    on_ranks (stops);
    pthread_barrier_destroy (&two);
    dps_host_request_stop (0);
}

static void test_reduce (void) { on_ranks (reduces_host_memory); }
static void test_queue (void) { on_ranks (moves_on_a_queue); }
static void test_send (void) { on_ranks (sends_around); }
static void test_abort (void) { on_ranks (aborts); }
static void test_abort_queue (void) { on_ranks (aborts_on_a_queue); }

static void test_arguments (void)
{
    unsigned char id[256];
    size_t id_len;
    struct DpsComm *c;
    CHECK_FAILS (collective->unique_id (id, 8, &id_len, &err), DPS_ERR_LIMIT, "128 bytes");
    CHECK_OK (collective->unique_id (id, sizeof id, &id_len, &err));
    CHECK_FAILS (collective->init (id, id_len, 3, 3, &c, &err), DPS_ERR_INVALID, "rank 3 of 3");
    CHECK_FAILS (collective->init (id, 5, 0, 1, &c, &err), DPS_ERR_INVALID, "5 bytes");
    collective->destroy (NULL);
}

/* A rank that nobody joins gives up when its time is over (DIAPASON_CUDA_COLLECTIVE_TIMEOUT_MS). */
static void test_timeout (void)
{
    unsigned char id[256];
    size_t id_len;
    struct DpsComm *c;
    CHECK_OK (collective->unique_id (id, sizeof id, &id_len, &err));
    CHECK_OK (dps_host_config_set ("cuda.collective_timeout_ms", "40", &err));
    CHECK_FAILS (collective->init (id, id_len, 0, 2, &c, &err), DPS_ERR_TIMEOUT, "within 40 ms");
    CHECK_OK (dps_host_config_set ("cuda.collective_timeout_ms", "10s", &err));
    CHECK_FAILS (collective->init (id, id_len, 0, 2, &c, &err), DPS_ERR_INVALID, "is '10s', expected milliseconds");
    CHECK_OK (dps_host_config_set ("cuda.collective_timeout_ms", "20000", &err));
}

CHECK_SUITE (run_tests, "cuda collectives", T (test_arguments), T (test_reduce), T (test_queue), T (test_send), T (test_abort),
             T (test_abort_queue), T (test_stop), T (test_timeout))

__attribute__ ((constructor)) static void three_devices (void) { setenv ("DOUBLE_CUDA_DEVICES", "3", 1); }

KIT_MAIN (run_tests)
