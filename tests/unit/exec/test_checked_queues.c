/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checking layer around queues (dps.stream/1): memory that work in a queue may still be using is not used by others before an event behind that work
 * was waited for; queues, events and buffers in use are not left or freed. The queues are ref's ops, run at once: the rules are the host's.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "check.h"
#include "exec/layer.h"
#include "plugin/validate.h"

enum { N = 16 };

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *registry;
static const DpsBackend *ref;
static char logged[1024];
static int done = 1; /* what events answer */

static void keep_line (void *ctx, int level, const char *line)
{
    (void)ctx;
    if (level == DPS_LOG_ERROR)
        snprintf (logged, sizeof logged, "%s", line);
}

/* A queue is its device, an event is nothing. */
static DpsStatus open_queue (struct DpsDevice *dev, int32_t priority, struct DpsQueue **out, DpsError *e)
{
    (void)priority, (void)e;
    *out = (struct DpsQueue *)(void *)dev;
    return DPS_OK;
}
static void close_queue (struct DpsQueue *q) { (void)q; }
static DpsStatus run (struct DpsQueue *q, const DpsOp *op, struct DpsPlan *plan, DpsError *e)
{
    (void)plan;
    return ref->run ((struct DpsDevice *)(void *)q, op, 0, e);
}
static DpsStatus copy (struct DpsQueue *q, const DpsView *from, const DpsView *to, DpsError *e)
{
    return ref->copy ((struct DpsDevice *)(void *)q, from, to, e);
}
static DpsStatus record (struct DpsQueue *q, struct DpsEvent **out, DpsError *e)
{
    (void)e;
    *out = (struct DpsEvent *)(void *)q;
    return DPS_OK;
}
static DpsStatus wait_for (struct DpsQueue *q, struct DpsEvent *event, DpsError *e)
{
    (void)q, (void)event, (void)e;
    return DPS_OK;
}
static DpsStatus query (struct DpsEvent *event, uint32_t *out, DpsError *e)
{
    (void)event, (void)e;
    *out = (uint32_t)done;
    return DPS_OK;
}
static DpsStatus sync_event (struct DpsEvent *event, int64_t ms, DpsError *e)
{
    (void)event, (void)ms;
    return done ? DPS_OK : dps_fail (e, DPS_ERR_TIMEOUT, "not done");
}
static void event_free (struct DpsEvent *event) { (void)event; }

static const DpsQueues queues = {sizeof queues, open_queue, close_queue, run, copy, record, wait_for, query, sync_event, event_free};
static const DpsPlugin plugin = {.id = "com.acme.stream", .name = "stream"};

typedef struct Kit {
    DpsExecDevice d;
    const DpsQueues *q;
    struct DpsQueue *one, *two;
    struct DpsBuffer *buffer;
    char *host;
    DpsView x, y, z;
} Kit;

static const int64_t n = N;

static Kit open_kit (void)
{
    Kit k = {.d = {.plugin = &plugin, .info = {.size = sizeof k.d.info}}};
    struct CheckedShared *shared = NULL;
    void *host;
    if (!registry)
        CHECK_OK (dps_registry_open (NULL, &registry, &err));
    ref = dps_registry_get (registry, DPS_BACKEND_ID, "dps.ref");
    k.d.backend = ref;
    CHECK_OK (ref->enumerate (0, &k.d.info, &err));
    CHECK_OK (dps__checked_add (&k.d, ref, &shared, &err));
    k.q = dps_checked_queues (&k.d, &queues);
    CHECK_OK (k.q->open (k.d.info.device, 0, &k.one, &err));
    CHECK_OK (k.q->open (k.d.info.device, 0, &k.two, &err));
    CHECK_OK (k.d.backend->alloc (k.d.info.device, 3 * 4 * N, &k.buffer, &host, &err));
    k.host = host;
    memset (k.host, 0, 3 * 4 * N);
    DpsView *views[] = {&k.x, &k.y, &k.z};
    for (uint64_t i = 0; i < 3; i++) {
        *views[i] = dps_view (DPS_DTYPE_F32, 1, &n, k.host + i * 4 * N);
        views[i]->buffer = k.buffer;
        views[i]->offset = i * 4 * N;
    }
    done = 1;
    logged[0] = '\0';
    return k;
}

static void close_kit (Kit *k)
{
    DpsCallLayer *layer = k->d.layer;
    k->q->close (k->one);
    k->q->close (k->two);
    if (k->buffer)
        k->d.backend->free (k->d.info.device, k->buffer);
    layer->close (layer);
}

/* exp of `from` into `to`: in a queue, or in none. */
static DpsStatus op (Kit *k, struct DpsQueue *q, const DpsView *from, const DpsView *to)
{
    const DpsOp o = {.size = sizeof o, .id = dps_intern ("exp"), .n_in = 1, .n_out = 1, .in = &from, .out = &to};
    return q ? k->q->run (q, &o, NULL, &err) : k->d.backend->run (k->d.info.device, &o, 0, &err);
}

static void test_use_before_the_event_is_named (void)
{
    Kit k = open_kit ();
    struct DpsEvent *event;
    uint32_t answer;
    CHECK_OK (op (&k, k.one, &k.x, &k.y));
    CHECK_OK (op (&k, k.one, &k.y, &k.z)); /* its own queue is in order */
    CHECK_FAILS (
        op (&k, NULL, &k.y, &k.z), DPS_ERR_INVALID,
        "exp in[0] f32 (16) on ref: is used while exp in queue 1, which writes it, may not be done; expected an event behind that");
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "To blame: the host"));
    CHECK_FAILS (op (&k, k.two, &k.z, &k.x), DPS_ERR_INVALID, "in queue 1");
    CHECK_OK (k.q->record (k.one, &event, &err));
    done = 0;
    CHECK_OK (k.q->query (event, &answer, &err));
    CHECK_FAILS (k.q->sync (event, 0, &err), DPS_ERR_TIMEOUT, "not done");
    CHECK_FAILS (op (&k, NULL, &k.y, &k.z), DPS_ERR_INVALID, "in queue 1");
    done = 1;
    CHECK_OK (k.q->sync (event, -1, &err));
    CHECK_OK (op (&k, NULL, &k.y, &k.z));
    k.q->event_free (event);
    close_kit (&k);
    CHECK_STR (logged, "");
}

static void test_a_queue_that_waits_may_go_on (void)
{
    Kit k = open_kit ();
    struct DpsEvent *early, *late;
    CHECK_OK (op (&k, k.one, &k.x, &k.y));
    CHECK_OK (k.q->record (k.one, &early, &err));
    CHECK_OK (op (&k, k.one, &k.x, &k.z));
    CHECK_OK (k.q->record (k.one, &late, &err));
    CHECK_OK (k.q->wait (k.two, early, &err));
    const DpsView *from = &k.y;
    float here[N];
    DpsView to = dps_view (DPS_DTYPE_F32, 1, &n, here), other = to;
    CHECK_OK (k.q->copy (k.two, from, &to, &err));
    CHECK_FAILS (k.q->copy (k.two, &k.z, &other, &err), DPS_ERR_INVALID, "which writes it"); /* the event is before that */
    CHECK_OK (k.q->wait (k.two, late, &err));
    float there[N];
    other = dps_view (DPS_DTYPE_F32, 1, &n, there);
    CHECK_OK (k.q->copy (k.two, &k.z, &other, &err));
    /* What is only read may be read by all, and written by nobody. */
    CHECK_OK (op (&k, NULL, &k.x, &(DpsView){.size = sizeof to, .dtype = DPS_DTYPE_F32, .rank = 1, .shape = &n, .host = (float[N]){0}}));
    CHECK_FAILS (op (&k, NULL, &(DpsView){.size = sizeof to, .dtype = DPS_DTYPE_F32, .rank = 1, .shape = &n, .host = (float[N]){0}}, &k.x),
                 DPS_ERR_INVALID, "which reads it");
    k.q->event_free (early);
    k.q->event_free (late);
    close_kit (&k);
    CHECK_STR (logged, "");
}

/* The second queue waits for the first, the third for the second: it need not be told of the first. */
static void test_what_a_queue_waited_for_is_waited_for (void)
{
    Kit k = open_kit ();
    struct DpsQueue *three;
    struct DpsEvent *first, *second;
    CHECK_OK (k.q->open (k.d.info.device, 0, &three, &err));
    CHECK_OK (op (&k, k.one, &k.x, &k.y));
    CHECK_OK (k.q->record (k.one, &first, &err));
    CHECK_OK (k.q->wait (k.two, first, &err));
    CHECK_OK (k.q->record (k.two, &second, &err));
    CHECK_FAILS (op (&k, three, &k.y, &k.z), DPS_ERR_INVALID, "in queue 1");
    CHECK_OK (k.q->wait (three, second, &err));
    CHECK_OK (op (&k, three, &k.y, &k.z));
    CHECK_FAILS (op (&k, NULL, &k.y, &k.y), DPS_ERR_INVALID, "in queue 1");
    CHECK_OK (k.q->sync (second, -1, &err));
    CHECK_FAILS (op (&k, NULL, &k.y, &k.y), DPS_ERR_INVALID, "in queue 3"); /* still reads it */
    CHECK_OK (op (&k, NULL, &k.y, &k.x));                                   /* queue 1 has ended */
    k.q->event_free (first);
    k.q->event_free (second);
    k.q->close (three);
    close_kit (&k);
    CHECK_STR (logged, "");
}

/* A number that is given again says nothing of the queue that had it. */
static void test_queues_may_come_and_go (void)
{
    Kit k = open_kit ();
    struct DpsQueue *more[16];
    struct DpsEvent *event;
    CHECK_OK (op (&k, k.one, &k.x, &k.y));
    CHECK_OK (k.q->record (k.one, &event, &err));
    CHECK_OK (k.q->wait (k.two, event, &err));
    for (int i = 0; i < 40; i++) {
        k.q->close (k.one);
        CHECK_OK (k.q->open (k.d.info.device, 0, &k.one, &err));
    }
    CHECK_OK (op (&k, k.one, &k.x, &k.y));
    CHECK_OK (k.q->sync (event, -1, &err));
    CHECK_FAILS (op (&k, k.two, &k.y, &k.z), DPS_ERR_INVALID, "in queue 1");
    for (int i = 0; i < 14; i++)
        CHECK_OK (k.q->open (k.d.info.device, 0, &more[i], &err));
    CHECK_FAILS (k.q->open (k.d.info.device, 0, &more[14], &err), DPS_ERR_LIMIT, "more than 16 queues at a time");
    for (int i = 0; i < 14; i++)
        k.q->close (more[i]);
    k.q->event_free (event);
    close_kit (&k);
    CHECK_STR (logged, "");
}

static void test_what_is_left_or_freed_in_use_is_named (void)
{
    Kit k = open_kit ();
    struct DpsEvent *event;
    uint64_t before = dps_validate_faults ();
    CHECK_OK (op (&k, k.one, &k.x, &k.y));
    k.d.backend->free (k.d.info.device, k.buffer);
    k.buffer = NULL;
    CU_ASSERT_PTR_NOT_NULL (strstr (logged, "buffer 1 is freed while work on it is in a queue"));
    CHECK_FAILS (op (&k, k.one, &k.x, &k.y), DPS_ERR_INVALID, "lies in buffer 1, which was freed");
    CHECK_OK (k.q->record (k.one, &event, &err));
    close_kit (&k);
    CU_ASSERT_PTR_NOT_NULL (strstr (logged, "0 queues and 1 events were never freed"));
    CU_ASSERT_EQUAL (dps_validate_faults (), before + 3);
    dps_free (event); /* the layer's own, which it lost */
}

typedef struct Turns {
    Kit *k;
    struct DpsQueue *q;
    const DpsView *from, *to;
    DpsError err;
    int failed;
} Turns;

/* Ops, a wait, and again. */
static void *take_turns (void *arg)
{
    Turns *t = arg;
    for (int i = 0; i < 2000; i++) {
        const DpsOp o = {.size = sizeof o, .id = dps_intern ("exp"), .n_in = 1, .n_out = 1, .in = &t->from, .out = &t->to};
        struct DpsEvent *event = NULL;
        t->failed += t->k->q->run (t->q, &o, NULL, &t->err) != DPS_OK;
        if (i % 8)
            continue;
        t->failed += t->k->q->record (t->q, &event, &t->err) != DPS_OK || t->k->q->sync (event, -1, &t->err) != DPS_OK;
        t->k->q->event_free (event);
    }
    return NULL;
}

/* A queue is [stream-serial]: each may be called from a thread of its own, beside calls on the device. */
static void test_queues_have_threads_of_their_own (void)
{
    Kit k = open_kit ();
    Turns turns[2] = {{&k, k.one, &k.x, &k.y, DPS_ERROR_INIT, 0}, {&k, k.two, &k.x, &k.z, DPS_ERROR_INIT, 0}};
    struct DpsBuffer *more[8];
    pthread_t threads[2];
    void *host;
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL (pthread_create (&threads[i], NULL, take_turns, &turns[i]), 0);
    for (int i = 0; i < 200; i++) {
        for (int b = 0; b < 8; b++)
            CHECK_OK (k.d.backend->alloc (k.d.info.device, 64, &more[b], &host, &err));
        for (int b = 0; b < 8; b++)
            k.d.backend->free (k.d.info.device, more[b]);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join (threads[i], NULL);
        CHECK_STR (turns[i].err.msg, "");
        CU_ASSERT_EQUAL (turns[i].failed, 0);
    }
    close_kit (&k);
    CHECK_STR (logged, "");
}

CHECK_SUITE (run_all, "exec.checked_queues", T (test_use_before_the_event_is_named), T (test_a_queue_that_waits_may_go_on),
             T (test_what_a_queue_waited_for_is_waited_for), T (test_queues_may_come_and_go),
             T (test_what_is_left_or_freed_in_use_is_named), T (test_queues_have_threads_of_their_own))

int main (void)
{
    dps_log_install (keep_line, NULL, DPS_LOG_ERROR);
    int code = run_all ();
    dps_registry_close (registry);
    return code;
}
