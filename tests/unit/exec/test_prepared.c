/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend that prepares: ref behind plans, some of which want scratch. A tiny model trains on it with ref's bits, every op by plan, each form
 * prepared once; the scratch is what was measured; every plan is freed. The checking layer sees all calls.
 */
#include "base/opcall.h"
#include "exec/layer.h"
#include "exec/prepared.h"
#include "plugin/validate.h"
#include "unit/infer/parity.h"

struct DpsPlan {
    uint32_t id, n_in, n_out;
    int64_t elements[DPS_OP_MAX_IN + DPS_OP_MAX_OUT];
    uint64_t scratch;
};

static DpsError err = DPS_ERROR_INIT;
static const DpsBackend *ref;
static DpsBackend planner;
static uint64_t prepared, runs, plan_runs, live, wants; /* wants: bytes of scratch that a plan of linear asks for */
static uint32_t linear;

static int64_t elements (const DpsOp *op, uint32_t i)
{
    const DpsView *v = dps_op_operand (op, i);
    return v ? dps_view_count (v) : -1;
}

static DpsStatus prepare (struct DpsDevice *dev, const DpsOp *op, struct DpsPlan **out, DpsError *e)
{
    DPS_TRY (ref->run (dev, op, DPS_RUN_DRY, e));
    struct DpsPlan *p = calloc (1, sizeof *p);
    *p = (struct DpsPlan){.id = op->id, .n_in = op->n_in, .n_out = op->n_out, .scratch = op->id == linear ? wants : 0};
    for (uint32_t i = 0; i < op->n_in + op->n_out; i++)
        p->elements[i] = elements (op, i);
    prepared++;
    live++;
    *out = p;
    return DPS_OK;
}

static uint64_t plan_info (struct DpsDevice *dev, const struct DpsPlan *plan)
{
    (void)dev;
    return plan->scratch;
}

static DpsStatus run_plan (struct DpsDevice *dev, struct DpsPlan *plan, const DpsOp *op, DpsError *e)
{
    DpsOp bare = *op;
    CU_ASSERT_EQUAL (op->id, plan->id);
    if (plan->scratch) {
        const DpsView *s = op->in[--bare.n_in];
        CU_ASSERT (s->dtype == DPS_DTYPE_U8 && s->shape[0] == (int64_t)plan->scratch && (uintptr_t)s->host % 64 == 0);
        memset (s->host, 0xff, plan->scratch);
    }
    CU_ASSERT (bare.n_in == plan->n_in && bare.n_out == plan->n_out);
    for (uint32_t i = 0; i < bare.n_in + bare.n_out; i++)
        CU_ASSERT_EQUAL (elements (&bare, i), plan->elements[i]);
    plan_runs++;
    return ref->run (dev, &bare, 0, e);
}

static void plan_free (struct DpsDevice *dev, struct DpsPlan *plan)
{
    (void)dev;
    live -= plan != NULL;
    free (plan);
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *e)
{
    runs += !(flags & DPS_RUN_DRY);
    return ref->run (dev, op, flags, e);
}

static void open_on (Tiny *t, int plans, uint64_t scratch)
{
    struct CheckedShared *shared = NULL;
    tiny_open (t, "gemma3", "config.json", "ref");
    dps_model_train_all (&t->model);
    ref = t->ex.devices[0].backend;
    planner = *ref;
    planner.run = run;
    planner.prepare = prepare;
    planner.plan_info = plan_info;
    planner.run_plan = run_plan;
    planner.plan_free = plan_free;
    linear = t->ex.op_ids[DPS_OP_linear];
    prepared = runs = plan_runs = live = 0;
    wants = scratch;
    if (plans) {
        t->ex.devices[0].backend = &planner;
        CHECK_OK (dps__checked_add (&t->ex.devices[0], ref, &shared, &err));
    }
    tiny_load (t, 1);
}

/* NLL of one pass, forward and backward; every gradient, one after the other. */
static double pass (Tiny *t, float **out_grads, size_t *out_n)
{
    size_t n, total = 0;
    DpsSequence *s = sequences_of (t->batch, "sft_mask", &n);
    CHECK_OK (dps_weights_zero_grads (&t->weights, &err));
    double nll = nll_pass (t, s, n, 1, 1, 0);
    sequences_free (s, n);
    for (size_t i = 0; i < t->model.n_weights; i++)
        total += (size_t)dps_weight_elements (&t->model.weights[i]);
    float *to = *out_grads = malloc (total * sizeof *to);
    *out_n = total;
    for (size_t i = 0; i < t->model.n_weights; i++) {
        size_t k = (size_t)dps_weight_elements (&t->model.weights[i]);
        memcpy (to, dps_weights_grad (&t->weights, (int32_t)i), k * sizeof *to);
        to += k;
    }
    return nll;
}

static uint64_t measured (Tiny *t)
{
    size_t n;
    DpsSequence *s = sequences_of (t->batch, "sft_mask", &n);
    DpsBatch b;
    DpsWeights outline;
    uint64_t peak, scratch;
    CHECK_OK (dps_batch_build (s, n, t->model.dec.vocab, &b, &err));
    DpsForward counts = {.n_tokens = b.n_tokens, .n_segments = b.n_segments, .n_roots = b.n_roots, .n_scored = b.n_scored, .logprobs = 1};
    CHECK_OK (dps_weights_outline (&outline, &t->ex, &t->model, DPS_DTYPE_F32, 1, &err));
    CHECK_OK (dps_pass_measure (&outline, &counts, &(DpsPassOptions){.training = 1, .checkpoint = 1}, &peak, &scratch, &err));
    dps_weights_free (&outline);
    dps_batch_free (&b);
    sequences_free (s, n);
    return scratch;
}

static void test_a_pass_by_plan_has_the_bits_of_run (void)
{
    static const uint64_t scratches[] = {0, 1000};
    Tiny a, b;
    float *want, *got;
    size_t n;
    open_on (&a, 0, 0);
    double nll = pass (&a, &want, &n);
    tiny_close (&a);
    for (size_t k = 0; k < 2; k++) {
        uint64_t faults = dps_validate_faults ();
        open_on (&b, 1, scratches[k]);
        CU_ASSERT_EQUAL (measured (&b), scratches[k]);
        CHECK_OK (dps_exec_reserve_scratch (&b.ex, scratches[k], &err));
        for (int time = 0; time < 2; time++) {
            uint64_t before = prepared;
            CU_ASSERT_EQUAL (pass (&b, &got, &n), nll);
            CU_ASSERT (!memcmp (got, want, n * sizeof *got));
            CU_ASSERT_EQUAL (prepared, before); /* measuring saw every form */
            free (got);
        }
        CU_ASSERT (runs == 0 && prepared > 0 && plan_runs > 4 * prepared);
        CU_ASSERT_EQUAL (b.ex.scratch_peak, scratches[k]);
        CU_ASSERT_EQUAL (dps_validate_faults (), faults);
        tiny_close (&b);
        CU_ASSERT_EQUAL (live, 0);
    }
    free (want);
}

/* y = x for a vector of n numbers. */
static DpsStatus copy_of (Tiny *t, const int64_t *n)
{
    static float x[DPS_PREPARED_MAX + 2], y[DPS_PREPARED_MAX + 2];
    const DpsView from = dps_view (DPS_DTYPE_F32, 1, n, x), to = dps_view (DPS_DTYPE_F32, 1, n, y);
    return dps_exec_op (&t->ex, DPS_OP_copy, (DpsOp){DPS_IN (&from), DPS_OUT (&to)}, &err);
}

static void test_more_forms_than_plans_are_kept (void)
{
    Tiny t;
    open_on (&t, 1, 0);
    for (int64_t n = 1; n <= DPS_PREPARED_MAX + 1; n++) {
        CHECK_OK (copy_of (&t, &n));
        CU_ASSERT_FATAL (live <= DPS_PREPARED_MAX);
    }
    uint64_t before = prepared;
    CHECK_OK (copy_of (&t, &(int64_t){DPS_PREPARED_MAX + 1}));
    CU_ASSERT_EQUAL (prepared, before);
    tiny_close (&t);
    CU_ASSERT_EQUAL (live, 0);
}

static void test_a_plan_without_room_for_its_scratch_is_run (void)
{
    Tiny t;
    float *grads;
    size_t n;
    open_on (&t, 1, 1000);
    CHECK_OK (dps_exec_reserve (&t.ex, 1 << 24, &err));
    t.ex.sealed = 1;
    pass (&t, &grads, &n);
    CU_ASSERT (runs > 0 && plan_runs > 0);
    CU_ASSERT_EQUAL (t.ex.scratch.bytes, 0);
    free (grads);
    tiny_close (&t);
}

static void test_no_memory_for_a_plan (void)
{
    Tiny t;
    open_on (&t, 1, 0);
    DpsStatus st = DPS_ERR_NOMEM;
    for (uint64_t k = 1; st != DPS_OK; k++) {
        dps_mem_fail_at (k);
        st = copy_of (&t, &(int64_t){3});
        dps_mem_fail_at (0);
        CU_ASSERT_FATAL (st == DPS_OK || st == DPS_ERR_NOMEM);
    }
    tiny_close (&t);
    CU_ASSERT_EQUAL (live, 0);
}

CHECK_MAIN ("exec: ops by plan", T (test_a_pass_by_plan_has_the_bits_of_run), T (test_more_forms_than_plans_are_kept),
            T (test_a_plan_without_room_for_its_scratch_is_run), T (test_no_memory_for_a_plan))
