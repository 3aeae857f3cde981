/* SPDX-License-Identifier: Apache-2.0 */
/* dpo on the recorded log-probs of all six parity models, with their recorded reference; the variants by hand; finite differences. */
#include "objective_kit.h"

/* ref_logps of batch.json: per completion token. */
static void take_reference (ParityBatch *b, const char *model)
{
    char path[128];
    json_t *json = NULL, *row, *value;
    DpsError err = DPS_ERROR_INIT;
    size_t r, i;
    uint64_t n = 0;
    snprintf (path, sizeof path, "models/%s/batch.json", model);
    CHECK_OK (dps_json_file (parity_path (path), 1 << 24, 0, &json, &err));
    json_array_foreach (json_object_get (json, "ref_logps"), r, row)
        json_array_foreach (row, i, value)
            b->reference[n++] = json_number_value (value);
    CU_ASSERT_EQUAL_FATAL (n, b->n_tokens);
    json_decref (json);
}

static void test_dpo_parity (void)
{
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open ("dpo", &reg);
    static ParityBatch b;
    static KitStep s;
    for (int m = 0; m < N_PARITY_MODELS; m++) {
        StFile expected;
        kit_batch (&b, parity_models[m], "completion_mask", &expected);
        kit_pairs (&b);
        take_reference (&b, parity_models[m]);
        kit_step (o, &b, b.n_units, &s);
        kit_check_pairs (&s, &expected, "dpo");
        double entropy = 0, hits = 0, chosen = 0;
        for (uint64_t r = 0; r < b.n_rows; r++)
            for (int64_t i = b.offsets[r]; i < b.offsets[r + 1]; i++) {
                entropy += b.entropy[i];
                hits += r % 2 ? 0 : b.hit[i];
                chosen += r % 2 ? 0 : 1;
            }
        CHECK_NEAR (kit_metric (&s, "entropy"), entropy / (double)b.n_tokens, 1e-12);
        CHECK_NEAR (kit_metric (&s, "mean_token_accuracy"), hits / chosen, 1e-12);
        dps_step_free (&s.sums);
        kit_check_splits (o, &b);
        kit_check_differences (o, &b);
        st_close (&expected);
    }
    dps_objective_close (o);
    dps_registry_close (reg);
}

/* Log-ratios 0.5 + 0.25 of two tokens and −1 of one: Δ = 1.75, per token 1.375. */
static void check_variant (const KitParam *params, double want)
{
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open_with ("dpo", params, &reg);
    static ParityBatch b = {
        .n_rows = 2, .n_tokens = 3, .offsets = {0, 2, 3}, .logp = {-0.5, -1.5, -2}, .reference = {-1, -1.75, -1}, .weights = {1, 1, 1}};
    static KitStep s;
    kit_pairs (&b);
    kit_step (o, &b, 1, &s);
    CHECK_NEAR (s.losses[0], want, 1e-12);
    CHECK_NEAR (kit_metric (&s, "logps/chosen"), -2, 1e-15);
    CHECK_NEAR (kit_metric (&s, "rewards/margins"), 0.5 * 1.75, 1e-15);
    dps_step_free (&s.sums);
    kit_check_differences (o, &b);
    dps_objective_close (o);
    dps_registry_close (reg);
}

static void test_dpo_variants (void)
{
    static const KitParam sigmoid[] = {{"beta", 0.5, NULL}, {"label_smoothing", 0.25, NULL}, {0}};
    static const KitParam ipo[] = {{"beta", 0.5, NULL}, {"loss_type", 0, "ipo"}, {0}};
    static const KitParam hinge[] = {{"beta", 0.5, NULL}, {"loss_type", 0, "hinge"}, {0}};
    check_variant (sigmoid, 0.75 * log1p (exp (-0.875)) + 0.25 * log1p (exp (0.875)));
    check_variant (ipo, 0.375 * 0.375);
    check_variant (hinge, 0.125);
}

CHECK_MAIN ("algorithms.dpo", T (test_dpo_parity), T (test_dpo_variants))
