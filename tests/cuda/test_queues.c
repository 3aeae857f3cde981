/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams, events, memory kinds and graphs of the cuda backend on the double of a driver, which does work only when somebody waits for it: what was
 * not waited for is seen as poison.
 */
#include "cuda/cuda_kit.h"

static int is_poison (const Vec *v) { return v->host[0] != v->host[0]; }

static void test_run_waits (void)
{
    Vec a, b, y;
    Op o;
    vec (&a, 3, 5, 1, 1);
    vec (&b, 3, 5, 10, 0);
    CHECK_OK (vec_kind (&y, 0, 3, 5, &err));
    CU_ASSERT (is_poison (&y));
    CHECK_OK (be->run (dev, &op_of (&o, "mul", &a, &b, &y, 0)->op, 0, &err));
    for (int i = 0; i < 15; i++)
        CHECK_NEAR ((double)y.host[i], 10.0 * (1 + i), 0);
    vec_free (&a), vec_free (&b), vec_free (&y);
}

static void test_queue_does_not_wait (void)
{
    struct DpsQueue *q;
    struct DpsEvent *e;
    uint32_t done = 1;
    Vec a, b, y;
    Op o;
    vec (&a, 2, 8, 1, 1);
    vec (&b, 2, 8, 2, 0);
    CHECK_OK (vec_kind (&y, 0, 2, 8, &err));
    CHECK_OK (queues->open (dev, 0, &q, &err));
    CHECK_OK (queues->run (q, &op_of (&o, "mul", &a, &b, &y, 0)->op, NULL, &err));
    CU_ASSERT (is_poison (&y));
    CHECK_OK (queues->record (q, &e, &err));
    twin.hold (1);
    CHECK_OK (queues->query (e, &done, &err));
    CU_ASSERT_EQUAL (done, 0);
    CHECK_FAILS (queues->sync (e, 20, &err), DPS_ERR_TIMEOUT, "20 ms");
    CU_ASSERT (is_poison (&y));
    twin.hold (0);
    CHECK_OK (queues->sync (e, 10000, &err));
    CHECK_OK (queues->query (e, &done, &err));
    CU_ASSERT_EQUAL (done, 1);
    CHECK_NEAR ((double)y.host[15], 32, 0);
    queues->event_free (e);
    queues->event_free (NULL);
    queues->close (q);
    queues->close (NULL);
    vec_free (&a), vec_free (&b), vec_free (&y);
}

/* y is made in one queue and read in another, which waits for an event. */
static void test_queues_in_order (void)
{
    struct DpsQueue *first, *second;
    struct DpsEvent *e, *end;
    Vec a, y, z;
    Op o, p;
    vec (&a, 1, 100, 1, 1);
    CHECK_OK (vec_kind (&y, 1, 1, 100, &err));
    CU_ASSERT_PTR_NULL (y.host);
    CHECK_OK (vec_kind (&z, 2, 1, 100, &err));
    CU_ASSERT_PTR_NOT_NULL (z.host);
    CHECK_OK (queues->open (dev, 0, &first, &err));
    CHECK_OK (queues->open (dev, 3, &second, &err));
    CHECK_OK (queues->run (first, &op_of (&o, "mul", &a, &a, &y, 0)->op, NULL, &err));
    CHECK_OK (queues->record (first, &e, &err));
    CHECK_OK (queues->wait (second, e, &err));
    CHECK_OK (queues->run (second, &op_of (&p, "add", &y, &a, &z, 1)->op, NULL, &err));
    CHECK_OK (queues->record (second, &end, &err));
    CHECK_OK (queues->sync (end, -1, &err));
    for (int i = 0; i < 100; i++)
        CHECK_NEAR ((double)z.host[i], (1.0 + i) * (1.0 + i) + 1.0 + i, 0);
    queues->event_free (e), queues->event_free (end);
    queues->close (first), queues->close (second);
    vec_free (&a), vec_free (&y), vec_free (&z);
}

/* Indices that another queued call writes, named by their host address alone: nobody may look at them yet. */
static void test_queue_reads_nothing_early (void)
{
    static const int32_t rows[2] = {2, 0};
    const int64_t two = 2;
    struct DpsQueue *q;
    struct DpsEvent *e;
    Vec table, ids, y;
    Op o;
    vec (&table, 3, 4, 0, 1);
    vec (&y, 2, 4, 0, 0);
    CHECK_OK (vec_kind (&ids, 0, 1, 2, &err)); /* poison: no rows */
    ids.view.dtype = DPS_DTYPE_I32, ids.view.rank = 1, ids.view.shape = &two;
    DpsView from = ids.view;
    from.buffer = NULL, from.host = (void *)rows;
    CHECK_OK (queues->open (dev, 0, &q, &err));
    CHECK_OK (queues->copy (q, &from, &ids.view, &err));
    struct DpsBuffer *b = ids.view.buffer;
    ids.view.buffer = NULL;
    CHECK_OK (queues->run (q, &op_of (&o, "embed", &table, &ids, &y, 1)->op, NULL, &err));
    CHECK_OK (queues->record (q, &e, &err));
    CHECK_OK (queues->sync (e, -1, &err));
    CHECK_NEAR ((double)y.host[0], 8, 0);
    CHECK_NEAR ((double)y.host[7], 3, 0);
    queues->event_free (e);
    queues->close (q);
    ids.view.buffer = b;
    vec_free (&table), vec_free (&ids), vec_free (&y);
}

/* Operands that are host memory only: staged, also outputs, also in place. */
static void test_host_operands (void)
{
    float numbers[7] = {1, 2, 3, 4, 5, 6, 7}, result[7] = {0};
    int64_t shape[2] = {1, 7};
    Vec a = {.view = {.size = sizeof a.view, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = shape, .host = numbers}}, y = a;
    Op o;
    y.view.host = result;
    CHECK_OK (be->run (dev, &op_of (&o, "mul", &a, &a, &y, 0)->op, 0, &err));
    CHECK_NEAR ((double)result[6], 49, 0);
    CHECK_OK (be->run (dev, &op_of (&o, "add", &a, &a, &a, 2)->op, 0, &err));
    CHECK_NEAR ((double)numbers[6], 28, 0);
}

/* A sum over nothing, of operands that no buffer holds. */
static void test_empty_sum (void)
{
    float none[1] = {0}, bias[2] = {3, 4};
    const int64_t x_shape[2] = {1, 0}, w_shape[2] = {2, 0}, bias_shape = 2;
    DpsView x = {.size = sizeof x, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = x_shape, .host = none}, w = x, b = x;
    const DpsView *in[3] = {&x, &w, &b};
    Vec y;
    Op o;
    w.shape = w_shape;
    b.rank = 1, b.shape = &bias_shape, b.host = bias;
    vec (&y, 1, 2, 0, 0);
    op_of (&o, "linear", NULL, NULL, &y, 1);
    o.op.in = in, o.op.n_in = 3;
    CHECK_OK (be->run (dev, &o.op, 0, &err));
    CHECK_NEAR ((double)y.host[0], 3, 0);
    CHECK_NEAR ((double)y.host[1], 4, 0);
    vec_free (&y);
}

static void test_import (void)
{
    enum { N = 64 };
    float *mine = aligned_alloc (4096, 4096);
    struct DpsBuffer *b;
    Vec a, y;
    Op o;
    CU_ASSERT_PTR_NOT_NULL_FATAL (mine);
    for (int i = 0; i < N; i++)
        mine[i] = (float)i;
    CHECK_OK (memory->import (dev, mine, 4096, 0, &b, &err));
    a = (Vec){.shape = {1, N}};
    a.view = (DpsView){.size = sizeof a.view, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = a.shape, .buffer = b};
    CHECK_OK (vec_kind (&y, 0, 1, N, &err));
    CHECK_OK (be->run (dev, &op_of (&o, "mul", &a, &a, &y, 0)->op, 0, &err));
    CHECK_NEAR ((double)y.host[N - 1], 63.0 * 63.0, 0);
    be->free (dev, b);
    vec_free (&y);
    CHECK_FAILS (memory->import (dev, (char *)mine + 4, 64, 0, &b, &err), DPS_ERR_INVALID, "a multiple of 8 bytes");
    free (mine);
    CHECK_FAILS (memory->import (dev, NULL, 10, 0, &b, &err), DPS_ERR_INVALID, "nothing to import");
}

static void test_memory (void)
{
    DpsMemoryKind kind = {.size = sizeof kind};
    uint64_t available, total;
    Vec v;
    CHECK_OK (memory->kind (dev, 0, &kind, &err));
    CHECK_STR (kind.name, "managed");
    CHECK_OK (memory->kind (dev, 2, &kind, &err));
    CU_ASSERT (kind.flags & DPS_MEMORY_PINNED);
    CHECK_FAILS (memory->kind (dev, 3, &kind, &err), DPS_ERR_NOT_FOUND, "3 kinds");
    CHECK_FAILS (vec_kind (&v, 9, 1, 1, &err), DPS_ERR_INVALID, "no memory kind 9");
    CHECK_FAILS (vec_kind (&v, 0, (int64_t)1 << 40, 4, &err), DPS_ERR_NOMEM, "out of memory");
    CHECK_OK (be->mem_info (dev, &available, &total, &err));
    CU_ASSERT (available > 0 && available <= total);
    memory->trim (dev);
}

static void test_bounds (void)
{
    Vec a, y;
    Op o;
    vec (&a, 1, 8, 1, 1);
    vec (&y, 1, 8, 0, 0);
    a.view.offset = 4; /* its last element lies past the end */
    CHECK_FAILS (be->run (dev, &op_of (&o, "mul", &a, &a, &y, 0)->op, 0, &err), DPS_ERR_INVALID, "at byte 4 of a buffer of 32");
    CHECK_FAILS (be->copy (dev, &a.view, &y.view, &err), DPS_ERR_INVALID, "at byte 4");
    a.view.offset = 0;
    a.shape[1] = 7;
    CHECK_FAILS (be->copy (dev, &a.view, &y.view, &err), DPS_ERR_SHAPE, "one shape");
    vec_free (&a), vec_free (&y);
}

/* Two ops as one graph: the same bits as one by one; other buffers change the graph in place; the same ones leave it alone. */
static void test_graph (void)
{
    Vec a, b, t, y, want;
    Op o, p;
    struct DpsRecorded *r;
    uint64_t n = 0, scratch = 0;
    vec (&a, 4, 33, 0.5f, 0.25f);
    vec (&b, 4, 33, -3, 0.125f);
    vec (&t, 4, 33, 0, 0);
    vec (&y, 4, 33, 0, 0);
    vec (&want, 4, 33, 0, 0);
    const DpsOp *ops[2] = {&op_of (&o, "mul", &a, &b, &t, 0)->op, &op_of (&p, "add", &t, &a, &y, 1)->op};
    CHECK_OK (recorder->query (dev, ops, 2, &n, &err));
    CU_ASSERT_EQUAL (n, 2);
    uint64_t instances = twin.graph_instances (), updates = twin.graph_updates ();
    CHECK_OK (recorder->build (dev, ops, 2, &r, &scratch, &err));
    CHECK_OK (recorder->run (r, ops, 2, NULL, NULL, &err));
    memcpy (want.host, y.host, 4 * 33 * sizeof (float));
    CHECK_NEAR ((double)want.host[0], 0.5 * -3 + 0.5, 0);
    CU_ASSERT_EQUAL (twin.graph_instances (), instances + 1);
    CU_ASSERT_EQUAL (twin.graph_updates (), updates);
    op_of (&p, "add", &t, &b, &y, 1); /* another buffer */
    CHECK_OK (recorder->run (r, ops, 2, NULL, NULL, &err));
    CHECK_NEAR ((double)y.host[0], 0.5 * -3 - 3, 0);
    op_of (&p, "add", &t, &b, &y, 2); /* another value */
    CHECK_OK (recorder->run (r, ops, 2, NULL, NULL, &err));
    CHECK_NEAR ((double)y.host[0], 2 * (0.5 * -3) - 6, 0);
    CU_ASSERT_EQUAL (twin.graph_instances (), instances + 1);
    CU_ASSERT_EQUAL (twin.graph_updates (), updates + 2);
    CHECK_OK (be->run (dev, &o.op, 0, &err));
    CHECK_OK (be->run (dev, &op_of (&p, "add", &t, &a, &y, 1)->op, 0, &err));
    CU_ASSERT_EQUAL (memcmp (want.host, y.host, 4 * 33 * sizeof (float)), 0);
    CHECK_FAILS (recorder->run (r, ops, 1, NULL, NULL, &err), DPS_ERR_SHAPE, "built of 2 ops");
    recorder->free (r);
    recorder->free (NULL);
    vec_free (&a), vec_free (&b), vec_free (&t), vec_free (&y), vec_free (&want);
}

/* A product in a graph: its workspace belongs to the graph and outlives the queue's growth. Host memory is refused. */
static void test_graph_product (void)
{
    float outside[64] = {0};
    const int64_t one = 1;
    Vec x, w, y, host = {.shape = {1, 64}};
    Op o;
    struct DpsRecorded *r;
    uint64_t n, scratch;
    vec (&x, 5, 16, 0.5f, 0.125f);
    vec (&w, 7, 16, -1, 0.0625f);
    vec (&y, 5, 7, 0, 0);
    const DpsOp *ops[1] = {&op_of (&o, "linear", &x, &w, &y, 1)->op};
    CHECK_OK (recorder->build (dev, ops, 1, &r, &scratch, &err));
    CHECK_OK (recorder->run (r, ops, 1, NULL, NULL, &err));
    double sum = 0;
    for (int k = 0; k < 16; k++)
        sum += (double)(x.host[4 * 16 + k] * w.host[6 * 16 + k]);
    CHECK_NEAR ((double)y.host[4 * 7 + 6], sum, 1e-4);
    recorder->free (r);
    host.view = (DpsView){.size = sizeof host.view, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = host.shape, .host = outside};
    /* What waits for numbers is refused when it is asked about, not later. */
    ops[0] = &op_of (&o, "sumsq", &x, NULL, &y, 0)->op;
    y.view.rank = 1, y.view.shape = &one;
    CHECK_FAILS (recorder->query (dev, ops, 1, &n, &err), DPS_ERR_UNSUPPORTED, "sumsq looks at numbers");
    y.view.rank = 2, y.view.shape = y.shape;
    ops[0] = &op_of (&o, "mul", &host, &host, &host, 0)->op;
    CHECK_FAILS (recorder->query (dev, ops, 1, &n, &err), DPS_ERR_UNSUPPORTED, "host memory");
    CHECK_FAILS (recorder->query (dev, ops, 0, &n, &err), DPS_ERR_UNSUPPORTED, "no ops");
    vec_free (&x), vec_free (&w), vec_free (&y);
}

CHECK_SUITE (run_tests, "cuda queues", T (test_run_waits), T (test_queue_does_not_wait), T (test_queues_in_order),
             T (test_queue_reads_nothing_early), T (test_host_operands), T (test_empty_sum), T (test_import), T (test_memory),
             T (test_bounds), T (test_graph), T (test_graph_product))

KIT_MAIN (run_tests)
