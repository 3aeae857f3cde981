/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain on the recorded log-probs of all six parity models: loss, bits, accuracy, gradient, splits. */
#include "objective_kit.h"

static void test_pretrain_parity (void)
{
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open ("pretrain", &reg);
    CU_ASSERT_EQUAL (dps_objective_signal (o, "entropy", "policy"), -1);
    static ParityBatch b;
    static KitStep s;
    for (int m = 0; m < N_PARITY_MODELS; m++) {
        StFile expected;
        kit_batch (&b, parity_models[m], NULL, &expected);
        kit_step (o, &b, b.n_rows, &s);
        double want = st_scalar (&expected, "loss.pretrain");
        CHECK_NEAR (dps_step_loss (&s.sums), want, 2e-5 + 1e-5 * fabs (want));
        CHECK_NEAR (kit_metric (&s, "bits_per_token"), dps_step_loss (&s.sums) / log (2), 1e-12);
        CHECK_NEAR ((double)b.n_tokens, st_scalar (&expected, "metric.pretrain.tokens"), 0);
        CHECK_NEAR (kit_metric (&s, "mean_token_accuracy"), st_scalar (&expected, "metric.pretrain.token_accuracy"), 2e-5);
        for (uint64_t i = 0; i < b.n_tokens; i++)
            CHECK_NEAR (s.dlogp[i], -1 / (double)b.n_tokens, 1e-18);
        dps_step_free (&s.sums);
        kit_check_splits (o, &b);
        st_close (&expected);
    }
    dps_objective_close (o);
    dps_registry_close (reg);
}

CHECK_MAIN ("algorithms.pretrain", T (test_pretrain_parity))
