/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dps.stream/1 of the opencl backend under the checking layer: work that one queue has not ended is not used by another or by none before an event
 * behind it was waited for, and after that the numbers are there, copies in the queue included.
 */
#include <math.h>

#include "exec/layer.h"
#include "parity_kit.h"

enum { N = 1000 };

static DpsError err = DPS_ERROR_INIT;
static const int64_t n = N;

typedef struct Kit {
    DpsRegistry *registry;
    DpsExecDevice d;
    const DpsQueues *q;
    struct DpsQueue *one, *two;
    struct DpsBuffer *buffer;
    DpsView x, y, z; /* of the buffer */
    float numbers[N];
} Kit;

/* 0: there is no device. */
static int open_kit (Kit *k)
{
    struct CheckedShared *shared = NULL;
    static const DpsPlugin plugin = {.id = "dps.opencl", .name = "opencl"};
    *k = (Kit){.d = {.plugin = &plugin, .info = {.size = sizeof k->d.info}}};
    CHECK_OK (dps_registry_open (NULL, &k->registry, &err));
    if (!parity_has_device (k->registry, "opencl")) {
        printf ("\n    skipped: no opencl device\n");
        dps_registry_close (k->registry);
        return 0;
    }
    k->d.backend = dps_registry_get (k->registry, DPS_BACKEND_ID, "opencl");
    const DpsQueues *real = dps_registry_get (k->registry, DPS_STREAM_ID, "opencl");
    CU_ASSERT_PTR_NOT_NULL_FATAL (real);
    CHECK_OK (k->d.backend->enumerate (0, &k->d.info, &err));
    CHECK_OK (dps__checked_add (&k->d, dps_registry_get (k->registry, DPS_BACKEND_ID, "dps.ref"), &shared, &err));
    k->q = dps_checked_queues (&k->d, real);
    CHECK_OK (k->q->open (k->d.info.device, 0, &k->one, &err));
    CHECK_OK (k->q->open (k->d.info.device, 1, &k->two, &err));
    CHECK_OK (k->d.backend->alloc (k->d.info.device, 3 * 4 * N, &k->buffer, NULL, &err));
    DpsView *views[] = {&k->x, &k->y, &k->z};
    for (uint64_t i = 0; i < 3; i++)
        *views[i] =
            (DpsView){.size = sizeof (DpsView), .dtype = DPS_DTYPE_F32, .rank = 1, .shape = &n, .buffer = k->buffer, .offset = i * 4 * N};
    for (int i = 0; i < N; i++)
        k->numbers[i] = (float)i / N;
    return 1;
}

static void close_kit (Kit *k)
{
    DpsCallLayer *layer = k->d.layer;
    k->q->close (k->one);
    k->q->close (k->two);
    k->d.backend->free (k->d.info.device, k->buffer);
    layer->close (layer);
    dps_registry_close (k->registry);
}

/* exp of `from` into `to` in a queue. */
static DpsStatus op (Kit *k, struct DpsQueue *q, const DpsView *from, const DpsView *to)
{
    const DpsOp o = {.size = sizeof o, .id = dps_intern ("exp"), .n_in = 1, .n_out = 1, .in = &from, .out = &to};
    return k->q->run (q, &o, NULL, &err);
}

static void test_use_before_the_event_is_named (void)
{
    Kit k;
    struct DpsEvent *made, *end;
    uint32_t done = 0;
    if (!open_kit (&k))
        return;
    const DpsView in = dps_view (DPS_DTYPE_F32, 1, &n, k.numbers);
    float out[N];
    const DpsView there = dps_view (DPS_DTYPE_F32, 1, &n, out);
    CHECK_OK (k.q->copy (k.one, &in, &k.x, &err));
    CHECK_OK (op (&k, k.one, &k.x, &k.y));
    CHECK_FAILS (op (&k, k.two, &k.y, &k.z), DPS_ERR_INVALID, "while exp in queue 1, which writes it, may not be done");
    CHECK_FAILS (k.d.backend->copy (k.d.info.device, &k.y, &there, &err), DPS_ERR_INVALID, "expected an event behind that");
    CHECK_OK (k.q->record (k.one, &made, &err));
    CHECK_OK (k.q->wait (k.two, made, &err));
    CHECK_OK (op (&k, k.two, &k.y, &k.z));
    CHECK_OK (k.q->copy (k.two, &k.z, &there, &err));
    CHECK_OK (k.q->record (k.two, &end, &err));
    CHECK_OK (k.q->sync (end, 60000, &err));
    CHECK_OK (k.q->query (end, &done, &err));
    CU_ASSERT_EQUAL (done, 1);
    for (int i = 0; i < N; i++)
        CHECK_NEAR ((double)out[i], exp (exp ((double)k.numbers[i])), 1e-5 * (double)out[i]);
    CHECK_OK (k.q->sync (made, -1, &err));
    k.q->event_free (made), k.q->event_free (end);
    close_kit (&k);
}

/* A call without a queue has ended when it returns, also for a queue that waits for nothing. */
static void test_calls_without_a_queue_have_ended (void)
{
    Kit k;
    struct DpsEvent *end;
    if (!open_kit (&k))
        return;
    const DpsView in = dps_view (DPS_DTYPE_F32, 1, &n, k.numbers), *x = &k.x, *y = &k.y;
    float out[N];
    const DpsView there = dps_view (DPS_DTYPE_F32, 1, &n, out);
    const DpsOp o = {.size = sizeof o, .id = dps_intern ("exp"), .n_in = 1, .n_out = 1, .in = &x, .out = &y};
    CHECK_OK (k.d.backend->copy (k.d.info.device, &in, &k.x, &err));
    CHECK_OK (k.d.backend->run (k.d.info.device, &o, 0, &err));
    CHECK_OK (k.q->copy (k.two, &k.y, &there, &err));
    CHECK_OK (k.q->record (k.two, &end, &err));
    CHECK_OK (k.q->sync (end, 60000, &err));
    CHECK_NEAR ((double)out[N - 1], exp ((double)k.numbers[N - 1]), 1e-5);
    k.q->event_free (end);
    close_kit (&k);
}

CHECK_MAIN ("exec.opencl_queues", T (test_use_before_the_event_is_named), T (test_calls_without_a_queue_have_ended))
