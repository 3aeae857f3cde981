/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A young backend: ref without its fused ops. The six tiny models train on it in simple ops alone, with ref's log-probs, gradients and updated
 * weights; what it needs of the scratch is what the plan said.
 */
#include "graph/decompose.h"
#include "optim/step.h"
#include "unit/infer/parity.h"

static DpsError err = DPS_ERROR_INIT;
static const char *const models[] = {"gemma3", "gemma2", "llama", "qwen2", "qwen3", "mistral"};
static const DpsBackend *whole; /* ref */
static const DpsExec *exec;
static uint64_t refused;

static DpsStatus young_run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *e)
{
    for (int i = 0; i < DPS_OP_COUNT; i++)
        if (exec->op_ids[i] == op->id && dps_op_decomposes ((DpsOpCode)i)) {
            refused++;
            return dps_fail (e, DPS_ERR_UNSUPPORTED, "young: no %s", dps_op_name ((DpsOpCode)i));
        }
    return whole->run (dev, op, flags, e);
}

static DpsBackend young;

static void open_on (Tiny *t, const char *model, int is_young)
{
    tiny_open (t, model, "config.json", "ref");
    dps_model_train_all (&t->model);
    exec = &t->ex;
    whole = t->ex.devices[0].backend;
    young = *whole;
    young.run = young_run;
    if (is_young)
        t->ex.devices[0].backend = &young;
    tiny_load (t, 1);
}

/* One step of training: mean NLL; gradients and, after AdamW, weights of everything, one after the other. */
static double step (Tiny *t, float **out_grads, float **out_weights, size_t *out_n)
{
    size_t n, total = 0;
    DpsSequence *s = sequences_of (t->batch, "sft_mask", &n);
    DpsOptim optim = {.kind = DPS_OPTIM_ADAMW, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01, .max_grad_norm = 1};
    CHECK_OK (dps_weights_zero_grads (&t->weights, &err));
    double nll = nll_pass (t, s, n, 1, 1, 0), norm;
    sequences_free (s, n);
    for (size_t i = 0; i < t->model.n_weights; i++)
        total += (size_t)dps_weight_elements (&t->model.weights[i]);
    float *grads = *out_grads = malloc (total * sizeof *grads), *weights = *out_weights = malloc (total * sizeof *weights);
    *out_n = total;
    for (size_t i = 0; i < t->model.n_weights; i++) {
        size_t k = (size_t)dps_weight_elements (&t->model.weights[i]);
        memcpy (grads, dps_weights_grad (&t->weights, (int32_t)i), k * sizeof *grads);
        grads += k;
    }
    CHECK_OK (dps_optim_grad_norm (&t->weights, &norm, &err));
    CHECK_OK (dps_optim_step (&optim, &t->weights, 1e-3, norm, &err));
    for (size_t i = 0; i < t->model.n_weights; i++) {
        size_t k = (size_t)dps_weight_elements (&t->model.weights[i]);
        CHECK_OK (dps_weights_get (&t->weights, (int32_t)i, weights, &err));
        weights += k;
    }
    return nll;
}

/* Every decomposable op of the step was placed on the young device, in simple ops, with its refusal kept. */
static void check_cases (const DpsExec *ex)
{
    size_t decomposed = 0;
    for (size_t i = 0; i < ex->n_cases; i++) {
        const DpsCase *c = &ex->cases[i];
        CU_ASSERT_EQUAL (c->device, 0);
        CU_ASSERT_EQUAL (c->decomposed, dps_op_decomposes (c->op));
        CU_ASSERT (!c->decomposed || strstr (c->reasons, "young: no "));
        decomposed += c->decomposed != 0;
    }
    CU_ASSERT (decomposed >= 10); /* attention, rms_norm, rope, gate, token_logprobs with their adjoints, adamw_step */
}

static uint64_t planned_scratch (Tiny *t)
{
    size_t n;
    DpsSequence *s = sequences_of (t->batch, "sft_mask", &n);
    DpsBatch b;
    DpsWeights outline;
    uint64_t peak, scratch, of_optim;
    DpsOptim optim = {.kind = DPS_OPTIM_ADAMW};
    CHECK_OK (dps_batch_build (s, n, t->model.dec.vocab, &b, &err));
    DpsForward counts = {.n_tokens = b.n_tokens, .n_segments = b.n_segments, .n_roots = b.n_roots, .n_scored = b.n_scored, .logprobs = 1};
    CHECK_OK (dps_weights_outline (&outline, &t->ex, &t->model, DPS_DTYPE_F32, 1, &err));
    CHECK_OK (dps_pass_measure (&outline, &counts, &(DpsPassOptions){.training = 1, .checkpoint = 1}, &peak, &scratch, &err));
    CHECK_OK (dps_optim_measure (&optim, &outline, &of_optim, &err));
    dps_weights_free (&outline);
    dps_batch_free (&b);
    sequences_free (s, n);
    return scratch > of_optim ? scratch : of_optim;
}

static void check_equal (const char *what, const float *got, const float *want, size_t n, double limit)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        norm += (double)want[i] * (double)want[i];
    }
    if (!(sqrt (diff / norm) <= limit))
        printf ("\n    %s: off by %g\n", what, sqrt (diff / norm));
    CU_ASSERT (sqrt (diff / norm) <= limit);
}

static void test_a_young_backend_trains (void)
{
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        Tiny a, b;
        float *ga, *gb, *wa, *wb;
        size_t n;
        open_on (&a, models[m], 0);
        double want = step (&a, &ga, &wa, &n);
        CU_ASSERT_EQUAL (a.ex.scratch.bytes, 0);
        tiny_close (&a);
        refused = 0;
        open_on (&b, models[m], 1);
        CHECK_OK (dps_exec_reserve_scratch (&b.ex, planned_scratch (&b), &err));
        uint64_t planned = b.ex.scratch.bytes;
        CU_ASSERT (planned > 0 && refused > 0);
        double got = step (&b, &gb, &wb, &n);
        CHECK_NEAR (got, want, 1e-6);
        check_equal (models[m], gb, ga, n, 2e-6);
        check_equal (models[m], wb, wa, n, 1e-6);
        check_cases (&b.ex);
        CU_ASSERT_EQUAL (b.ex.scratch.bytes, planned);
        CU_ASSERT_EQUAL (b.ex.scratch_peak, planned);
        tiny_close (&b);
        free (ga);
        free (gb);
        free (wa);
        free (wb);
    }
}

CHECK_MAIN ("exec: decompositions", T (test_a_young_backend_trains))
