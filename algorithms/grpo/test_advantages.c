/* SPDX-License-Identifier: Apache-2.0 */
/* What groups earned becomes advantages: the recorded cases in every mode; nothing to learn, vetoes and dominance by hand. */
#include "grpo_kit.h"

static DpsObjectiveInstance *open_mode (const char *mode, DpsRegistry **reg)
{
    const int sum = !strncmp (mode, "sum_", 4);
    const KitParam params[] = {{"scale_rewards", 0, sum ? mode + 4 : "group"},
                               {"multi_objective_aggregation", 0, sum ? "sum_then_normalize" : "normalize_then_sum"},
                               {0}};
    return kit_open_with ("grpo", params, reg);
}

static double metric_in (const DpsStepSums *sums, const char *name)
{
    for (size_t i = 0; i < sums->n_metrics; i++)
        if (!strcmp (sums->metrics[i].name, name))
            return dps_step_metric (sums, i);
    return NAN;
}

/* Shares of several criteria add up to 1 whenever an advantage is not 0. */
static void check_shares (const DpsStepSums *sums, const json_t *weights, const ParityBatch *b)
{
    static const char *const names[] = {"rewards/a/share", "rewards/b/share", "rewards/c/share", "rewards/d/share", "rewards/e/share"};
    double sum = 0, squares = 0;
    for (uint64_t r = 0; r < b->n_rows; r++)
        squares += b->advantage[r] * b->advantage[r];
    for (size_t c = 0; c < json_array_size (weights) && squares > 0; c++)
        sum += metric_in (sums, names[c]);
    if (json_array_size (weights) > 1 && squares > 0)
        CHECK_NEAR (sum, 1, 1e-9);
    else
        CU_ASSERT (isnan (metric_in (sums, names[0])));
}

static void test_advantage_cases (void)
{
    static ParityBatch b;
    static Judged judged;
    json_t *cases = read_json ("advantages/cases.json"), *item, *want, *v;
    size_t i, r, n = 0;
    const char *mode;
    json_array_foreach (cases, i, item)
        json_object_foreach (json_object_get (item, "expected"), mode, want) {
            DpsRegistry *reg = NULL;
            DpsObjectiveInstance *o = open_mode (mode, &reg);
            DpsStepSums sums = {0};
            b = (ParityBatch){.n_rows = json_array_size (json_object_get (item, "rewards"))};
            group_by (&b, (uint64_t)json_integer_value (json_object_get (item, "completions_per_group")));
            for (r = 0; r < b.n_rows; r++) {
                b.offsets[r + 1] = (int64_t)r + 1;
                b.weights[b.n_tokens++] = 1;
            }
            judged_read (&judged, json_object_get (item, "rewards"), json_object_get (item, "weights"));
            CHECK_OK (score (o, &b, &judged, &sums, &err));
            json_array_foreach (json_object_get (want, "advantages"), r, v)
                CHECK_NEAR (b.advantage[r], json_number_value (v), 2e-5 + 1e-5 * fabs (json_number_value (v)));
            CHECK_NEAR (metric_in (&sums, "frac_reward_zero_std"), json_number_value (json_object_get (want, "frac_reward_zero_std")),
                        1e-6);
            check_shares (&sums, json_object_get (item, "weights"), &b);
            dps_step_free (&sums);
            close_objective (o, reg);
            n++;
        }
    CU_ASSERT_EQUAL (n, 64);
    json_decref (cases);
}

/* Equal rewards that are no dyadic numbers: exactly 0, and so is the loss; NaN everywhere: unscorable, 0 too. */
static void test_nothing_to_learn (void)
{
    static const double equal[] = {0.1, 0.2, 0.1, 0.2, 0.3, 0.7, 0.3, 0.7}, none[] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    const double *const values[] = {equal, none};
    static ParityBatch b;
    static Judged j;
    static KitStep s;
    for (size_t i = 0; i < 2; i++) {
        DpsRegistry *reg = NULL;
        DpsObjectiveInstance *o = open_mode (i ? "norm_sum" : "sum_group", &reg);
        DpsStepSums sums = {0};
        two_groups (&b, &j, values[i]);
        CHECK_OK (score (o, &b, &j, &sums, &err));
        for (int r = 0; r < 4; r++)
            CU_ASSERT_EQUAL (b.advantage[r], 0);
        CU_ASSERT_EQUAL (metric_in (&sums, "frac_reward_zero_std"), i ? 0 : 1);
        CU_ASSERT_EQUAL (isnan (metric_in (&sums, "reward")), i);
        dps_step_free (&sums);
        kit_step (o, &b, 2, &s);
        CU_ASSERT_EQUAL (dps_step_loss (&s.sums), 0);
        dps_step_free (&s.sums);
        close_objective (o, reg);
    }
}

/* The second answer is the better one and breaks a rule: it falls below the first. What was not judged by the rule is not vetoed. */
static void test_vetoes (void)
{
    static const double values[] = {1, 0, 0, 5, NAN, 3, 1, 1};
    static const KitParam params[] = {{"reward_vetoes", 0, "safe < 0.5, tone<-9"}, {"scale_rewards", 0, "none"}, {0}};
    static ParityBatch b;
    static Judged j;
    DpsRegistry *reg = NULL;
    DpsStepSums sums = {0};
    DpsObjectiveInstance *o = kit_open_with ("grpo", params, &reg);
    two_groups (&b, &j, values);
    CHECK_OK (score (o, &b, &j, &sums, &err));
    CHECK_NEAR (b.advantage[0], 0.5, 1e-15); /* totals 1 and, vetoed, 1 − 1 */
    CHECK_NEAR (b.advantage[1], -0.5, 1e-15);
    CHECK_NEAR (b.advantage[2], 0.5, 1e-15);
    CHECK_NEAR (metric_in (&sums, "rewards/vetoed"), 0.25, 1e-15);
    CHECK_NEAR (metric_in (&sums, "reward"), (1 + 5 + 3 + 2) / 4.0, 1e-15); /* as earned */
    dps_step_free (&sums);
    j.names[0] = dps_str ("polite");
    CHECK_FAILS (score (o, &b, &j, &sums, &err), DPS_ERR_INVALID, "no criterion of this run is called 'safe'");
    CU_ASSERT_EQUAL_FATAL (err.vendor_code > 0 && err.vendor_code <= (int32_t)o->info.n_params, 1);
    CU_ASSERT_STRING_EQUAL (o->info.params[err.vendor_code - 1]->name, "reward_vetoes");
    j.rewards.n_criteria = 0;
    CHECK_FAILS (score (o, &b, &j, &sums, &err), DPS_ERR_SHAPE, "nothing judges the answers");
    close_objective (o, reg);
}

/* The metrics of two groups of two answers with these values; sums is freed by the caller. */
static void judge_two_groups (const double *values, DpsStepSums *sums)
{
    static ParityBatch b;
    static Judged j;
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = open_mode ("sum_none", &reg);
    two_groups (&b, &j, values);
    CHECK_OK (score (o, &b, &j, sums, &err));
    close_objective (o, reg);
}

/* One criterion explains all, the other is noise against it: correlation −1 where they are opposed. */
static void test_dominance (void)
{
    static const double values[] = {0, 0.25, 4, 0, 0, 0.25, 4, 0};
    DpsStepSums sums = {0};
    judge_two_groups (values, &sums);
    const double share = 2 / (2 - 0.125); /* Σ a·A / Σ A² with a = ±2, A = ±(2 − 0.125) */
    CHECK_NEAR (metric_in (&sums, "rewards/safe/share"), share, 1e-12);
    CHECK_NEAR (metric_in (&sums, "rewards/tone/share"), 1 - share, 1e-12);
    CHECK_NEAR (metric_in (&sums, "rewards/safe/correlation"), -1, 1e-12);
    CHECK_NEAR (metric_in (&sums, "reward_dominance"), share, 1e-12);
    dps_step_free (&sums);
}

/* Of two criteria one judged nothing in this step: the other explains all, which is no cause for alarm. */
static void test_alone (void)
{
    static const double values[] = {0, NAN, 4, NAN, 0, NAN, 4, NAN};
    DpsStepSums sums = {0};
    judge_two_groups (values, &sums);
    CHECK_NEAR (metric_in (&sums, "rewards/safe/share"), 1, 1e-12);
    CU_ASSERT (isnan (metric_in (&sums, "reward_dominance")));
    dps_step_free (&sums);
}

CHECK_MAIN ("algorithms.grpo.advantages", T (test_advantage_cases), T (test_nothing_to_learn), T (test_vetoes), T (test_dominance),
            T (test_alone))
