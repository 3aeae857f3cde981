/* SPDX-License-Identifier: Apache-2.0 */
/* simpo on the recorded log-probs of all six parity models: loss, metrics, gradient by finite differences; any split gives the same bits. */
#include "objective_kit.h"

static void test_simpo_parity (void)
{
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open ("simpo", &reg);
    static ParityBatch b;
    static KitStep s;
    for (int m = 0; m < N_PARITY_MODELS; m++) {
        StFile expected;
        kit_batch (&b, parity_models[m], "completion_mask", &expected);
        kit_pairs (&b);
        kit_step (o, &b, b.n_units, &s);
        kit_check_pairs (&s, &expected, "simpo");
        CHECK_NEAR (kit_metric (&s, "logps/chosen"), kit_metric (&s, "rewards/chosen") / 2, 1e-12);
        dps_step_free (&s.sums);
        kit_check_splits (o, &b);
        kit_check_differences (o, &b);
        st_close (&expected);
    }
    dps_objective_close (o);
    dps_registry_close (reg);
}

/* By hand: mean log-probs −1 and −2, β 0.5, γ 0.25, α 0.1, ε 0.2. */
static void test_simpo_terms (void)
{
    static const KitParam params[] = {
        {"beta", 0.5, NULL}, {"simpo_gamma", 0.25, NULL}, {"cpo_alpha", 0.1, NULL}, {"label_smoothing", 0.2, NULL}, {0}};
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open_with ("simpo", params, &reg);
    static ParityBatch b = {.n_rows = 2, .n_tokens = 3, .offsets = {0, 2, 3}, .logp = {-0.5, -1.5, -2}, .weights = {1, 1, 1}};
    static KitStep s;
    kit_pairs (&b);
    kit_step (o, &b, 1, &s);
    double margin = 0.5 * (-1 + 2) - 0.25;
    CHECK_NEAR (s.losses[0], 0.8 * log1p (exp (-margin)) + 0.2 * log1p (exp (margin)) + 0.1, 1e-12);
    CHECK_NEAR (kit_metric (&s, "nll_loss"), 1, 1e-15);
    CHECK_NEAR (kit_metric (&s, "rewards/margins"), 0.5, 1e-15);
    dps_step_free (&s.sums);
    kit_check_differences (o, &b);
    dps_objective_close (o);
    dps_registry_close (reg);
}

/* A unit of one row, and an answer without a scored token, are refused. */
static void test_simpo_refuses (void)
{
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open ("simpo", &reg);
    DpsStepSums sums = {0};
    DpsError err = DPS_ERROR_INIT;
    const double logp[] = {-1, -2}, *signals[] = {logp};
    const int64_t rows[] = {0, 1, 2}, singles[] = {0, 1, 2}, empty[] = {0, 2, 2}, pair[] = {0, 2};
    DpsObjectiveBatch batch = {.size = sizeof batch,
                               .n_tokens = 2,
                               .n_rows = 2,
                               .n_units = 2,
                               .row_offsets = rows,
                               .unit_offsets = singles,
                               .signals = signals,
                               .total = 1};
    CHECK_FAILS (dps_objective_micro_batch (o, &batch, &sums, NULL, NULL, &err), DPS_ERR_SHAPE, "a unit is not a pair of rows");
    batch.n_units = 1;
    batch.unit_offsets = pair;
    batch.row_offsets = empty;
    CHECK_FAILS (dps_objective_micro_batch (o, &batch, &sums, NULL, NULL, &err), DPS_ERR_SHAPE, "an answer has no scored token");
    CU_ASSERT (sums.n_units == 0);
    dps_objective_close (o);
    dps_registry_close (reg);
}

CHECK_MAIN ("algorithms.simpo", T (test_simpo_parity), T (test_simpo_terms), T (test_simpo_refuses))
