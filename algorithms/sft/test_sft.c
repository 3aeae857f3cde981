/* SPDX-License-Identifier: Apache-2.0 */
/* sft on the recorded log-probs of all six parity models: loss, accuracy, gradient; any split of the step gives the same bits. */
#include "objective_kit.h"

static void test_sft_parity (void)
{
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open ("sft", &reg);
    static ParityBatch b;
    static KitStep s;
    for (int m = 0; m < N_PARITY_MODELS; m++) {
        StFile expected;
        kit_batch (&b, parity_models[m], "sft_mask", &expected);
        kit_step (o, &b, b.n_rows, &s);
        double want = st_scalar (&expected, "loss.sft"), entropy = 0;
        CHECK_NEAR (dps_step_loss (&s.sums), want, 2e-5 + 1e-5 * fabs (want));
        CHECK_NEAR ((double)b.n_tokens, st_scalar (&expected, "metric.sft.tokens"), 0);
        CHECK_NEAR (kit_metric (&s, "mean_token_accuracy"), st_scalar (&expected, "metric.sft.token_accuracy"), 2e-5);
        for (uint64_t i = 0; i < b.n_tokens; i++) {
            CHECK_NEAR (s.dlogp[i], -1 / (double)b.n_tokens, 1e-18);
            entropy += b.entropy[i] / (double)b.n_tokens;
        }
        CHECK_NEAR (kit_metric (&s, "entropy"), entropy, 1e-12);
        dps_step_free (&s.sums);
        kit_check_splits (o, &b);
        st_close (&expected);
    }
    dps_objective_close (o);
    dps_registry_close (reg);
}

/* A token of weight 0 counts in no sum and gets exactly no gradient. */
static void test_sft_weights (void)
{
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open ("sft", &reg);
    static ParityBatch b = {.n_rows = 2,
                            .n_tokens = 3,
                            .offsets = {0, 2, 3},
                            .units = {0, 1, 2},
                            .logp = {-1, -2, -4},
                            .entropy = {1, 2, 3},
                            .hit = {1, 0, 1},
                            .weights = {1, 0, 0.5}};
    static KitStep s;
    kit_step (o, &b, 2, &s);
    CHECK_NEAR (s.losses[0], 1, 0);
    CHECK_NEAR (s.losses[1], 2, 0);
    CHECK_NEAR (dps_step_loss (&s.sums), 1, 0);
    CHECK_NEAR (s.dlogp[0], -1.0 / 3, 1e-17);
    CU_ASSERT (s.dlogp[1] == 0);
    CHECK_NEAR (s.dlogp[2], -0.5 / 3, 1e-17);
    CHECK_NEAR (kit_metric (&s, "entropy"), (1 + 0.5 * 3) / 1.5, 1e-15);
    dps_step_free (&s.sums);
    dps_objective_close (o);
    dps_registry_close (reg);
}

CHECK_MAIN ("algorithms.sft", T (test_sft_parity), T (test_sft_weights))
