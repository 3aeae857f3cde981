/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole of the backend once, many times: with the k-th call that takes memory failing, for every k, and with the device lost at the k-th call. Each
 * time the error is a value with a reason, and everything is given back.
 */
#include "cuda/cuda_kit.h"
#include "quant_kit.h"

#include "plugin/host.h"

static Vec codes; /* a weight of INT8, host memory */

typedef struct Scene {
    Vec a, b, y;
    struct DpsQueue *q;
    struct DpsEvent *e;
    struct DpsRecorded *r;
    struct DpsPlan *plan;
} Scene;

static DpsStatus play (Scene *s, DpsError *e)
{
    float back[32];
    int64_t shape[2] = {4, 8};
    uint64_t scratch;
    Op o, p;
    DPS_TRY (vec_kind (&s->a, 0, 4, 8, e));
    DPS_TRY (vec_kind (&s->b, 1, 8, 8, e));
    DPS_TRY (vec_kind (&s->y, 2, 4, 8, e));
    DPS_TRY (be->run (dev, &op_of (&o, "fill", NULL, NULL, &s->a, 1)->op, 0, e));
    DPS_TRY (be->run (dev, &op_of (&o, "fill", NULL, NULL, &s->b, 0.5)->op, 0, e));
    DPS_TRY (be->run (dev, &op_of (&o, "linear", &s->a, &codes, &s->y, 1)->op, 0, e));
    const DpsOp *op = &op_of (&o, "linear", &s->a, &s->b, &s->y, 1)->op;
    DPS_TRY (be->prepare (dev, op, &s->plan, e));
    DPS_TRY (be->run_plan (dev, s->plan, op, e));
    DPS_TRY (queues->open (dev, 0, &s->q, e));
    DPS_TRY (queues->run (s->q, op, NULL, e));
    DPS_TRY (queues->record (s->q, &s->e, e));
    DPS_TRY (queues->sync (s->e, -1, e));
    op = &op_of (&p, "mul", &s->a, &s->y, &s->y, 0)->op;
    DPS_TRY (recorder->build (dev, &op, 1, &s->r, &scratch, e));
    DPS_TRY (recorder->run (s->r, &op, 1, NULL, s->q, e));
    DpsView to = {.size = sizeof to, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = shape, .host = back};
    DPS_TRY (be->copy (dev, &s->y.view, &to, e));
    return back[31] > 0 ? DPS_OK : dps_fail (e, DPS_ERR_INTERNAL, "the copy of the result is not there");
}

static void clean (Scene *s)
{
    be->plan_free (dev, s->plan);
    recorder->free (s->r);
    queues->event_free (s->e);
    queues->close (s->q);
    vec_free (&s->a), vec_free (&s->b), vec_free (&s->y);
}

static DpsStatus once (DpsError *e)
{
    Scene s = {0};
    DPS_TRY (kit_open (e));
    DpsStatus st = play (&s, e);
    clean (&s);
    return st;
}

static void close_registry (void)
{
    if (registry)
        dps_registry_close (registry);
    registry = NULL;
}

/* Until it goes through: how many steps that took. */
static uint64_t sweep (void (*arm) (uint64_t), DpsStatus first, const char *word)
{
    uint64_t k = 1, odd = 0;
    DpsQuantNames names;
    CU_ASSERT_EQUAL_FATAL (dps_quant_names (dps_host ()->intern, &names), 0);
    Quantised *weight = quantised (&names, (DpsQuantForm){DPS_QUANT_INT8, 0, 0}, 8, 8, 3);
    codes.view = weight->view;
    for (;; k++) {
        DpsError e = DPS_ERROR_INIT;
        arm (k);
        DpsStatus st = once (&e);
        close_registry ();
        arm (0);
        CU_ASSERT_EQUAL (twin.live (), 0);
        if (twin.live () || twin.breaches ()) {
            printf ("\n    step %llu: %lld objects left, %llu breaches: %s\n", (unsigned long long)k, (long long)twin.live (),
                    (unsigned long long)twin.breaches (), twin.last_breach ());
            quantised_free (weight);
            return 0;
        }
        if (st == DPS_OK || k == 2000)
            break;
        if (st != first && st != DPS_ERR_NOT_FOUND) { /* while it opens, the registry has no backend */
            printf ("\n    step %llu: %s: %s\n", (unsigned long long)k, dps_status_name (st), e.msg);
            odd++;
        }
        if (st == first && !strstr (e.msg, word))
            printf ("\n    step %llu: \"%s\" does not say \"%s\"\n", (unsigned long long)k, e.msg, word);
    }
    quantised_free (weight);
    CU_ASSERT (k < 2000);
    CU_ASSERT_EQUAL (odd, 0);
    return k;
}

static void test_no_memory (void)
{
    uint64_t steps = sweep (twin.fail_at, DPS_ERR_NOMEM, "cuda:0");
    printf ("(%llu places) ", (unsigned long long)steps - 1);
    CU_ASSERT (steps > 20);
}

static void test_lost_device (void)
{
    uint64_t steps = sweep (twin.lose_at, DPS_ERR_DEVICE, "lost");
    printf ("(%llu calls) ", (unsigned long long)steps - 1);
    CU_ASSERT (steps > 60);
}

/* After a loss every call fails at once with the same reason, and allocates nothing. */
static void test_stays_lost (void)
{
    Vec v = {0};
    struct DpsQueue *q;
    uint64_t available, total;
    CHECK_OK (kit_open (&err));
    CHECK_OK (vec_kind (&v, 0, 1, 4, &err));
    twin.lose_at (1);
    CHECK_FAILS (be->mem_info (dev, &available, &total, &err), DPS_ERR_DEVICE, "start again from the last checkpoint");
    CU_ASSERT_EQUAL (err.vendor_code, 719);
    Vec w;
    CHECK_FAILS (vec_kind (&w, 0, 1, 4, &err), DPS_ERR_DEVICE, "CUDA_ERROR_LAUNCH_FAILED");
    CHECK_FAILS (queues->open (dev, 0, &q, &err), DPS_ERR_DEVICE, "an earlier call failed");
    vec_free (&v);
    close_registry ();
    twin.lose_at (0);
    CU_ASSERT_EQUAL (twin.live (), 0);
}

CHECK_SUITE (run_tests, "cuda failures", T (test_no_memory), T (test_lost_device), T (test_stays_lost))

__attribute__ ((constructor)) static void by_int8 (void) { setenv ("DIAPASON_CUDA_GEMM", "int8", 1); }

int main (void)
{
    if (!twins_load ()) {
        printf ("skipped: the double of CUDA is not built: tools/deps --test, then tools/build\n");
        return 77;
    }
    return run_tests ();
}
