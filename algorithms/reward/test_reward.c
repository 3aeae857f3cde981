/* SPDX-License-Identifier: Apache-2.0 */
/* reward on the recorded scores of all six parity models, without and with centering: loss, metrics, finite differences. */
#include "objective_kit.h"

static void check (const char *name, const KitParam *params)
{
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open_with ("reward", params, &reg);
    static ParityBatch b;
    static KitStep s;
    for (int m = 0; m < N_PARITY_MODELS; m++) {
        StFile expected;
        int64_t n;
        kit_batch (&b, parity_models[m], "completion_mask", &expected);
        kit_pairs (&b);
        const float *scores = st_f32 (&expected, "score", &n);
        CU_ASSERT_FATAL (n == (int64_t)b.n_rows);
        for (uint64_t r = 0; r < b.n_rows; r++)
            b.score[r] = (double)scores[r];
        kit_step (o, &b, b.n_units, &s);
        kit_check_pairs (&s, &expected, name);
        CHECK_NEAR (kit_metric (&s, "accuracy"), kit_metric (&s, "rewards/accuracies"), 1e-12);
        CHECK_NEAR (kit_metric (&s, "margin"), kit_metric (&s, "rewards/margins"), 1e-12);
        CHECK_NEAR (kit_metric (&s, "mean_reward"), (kit_metric (&s, "rewards/chosen") + kit_metric (&s, "rewards/rejected")) / 2, 1e-12);
        dps_step_free (&s.sums);
        kit_check_splits (o, &b);
        kit_check_differences (o, &b);
        st_close (&expected);
    }
    dps_objective_close (o);
    dps_registry_close (reg);
}

static void test_reward_parity (void)
{
    static const KitParam centred[] = {{"center_rewards_coefficient", 0.01, NULL}, {0}};
    check ("reward", NULL);
    check ("reward_centered", centred);
}

CHECK_MAIN ("algorithms.reward", T (test_reward_parity))
