/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpo on the recorded numbers of all six parity models: every variant's loss and metrics, what accumulation makes of them; gradients by central
 * differences; any split the same bits (bnpo: not by definition); masks and bounds by hand.
 */
#include "grpo_kit.h"

static void read_tokens (const json_t *rows, double *out, uint64_t n_tokens)
{
    json_t *row, *v;
    size_t r, i;
    uint64_t n = 0;
    json_array_foreach (rows, r, row)
        json_array_foreach (row, i, v)
            out[n++] = json_number_value (v);
    CU_ASSERT_EQUAL_FATAL (n, n_tokens);
}

/* A variant of batch.json as parameters of the plugin. */
static DpsObjectiveInstance *open_variant (const json_t *v, DpsRegistry **reg)
{
    const char *mode = json_string_value (json_object_get (v, "advantages")), *type = json_string_value (json_object_get (v, "loss_type"));
    const KitParam params[] = {{"loss_type", 0, type},
                               {"importance_sampling_level", 0, json_string_value (json_object_get (v, "level"))},
                               {"epsilon", json_number_value (json_object_get (v, "epsilon_low")), NULL},
                               {"epsilon_high", json_number_value (json_object_get (v, "epsilon_high")), NULL},
                               {"beta", json_number_value (json_object_get (v, "beta")), NULL},
                               {"use_bias_correction_kl", json_is_true (json_object_get (v, "kl_correction")), NULL},
                               {"scale_rewards", 0, !strncmp (mode, "sum_", 4) ? mode + 4 : "group"},
                               {"multi_objective_aggregation", 0, strncmp (mode, "sum_", 4) ? "normalize_then_sum" : "sum_then_normalize"},
                               {"max_completion_length", 16, NULL},
                               {0}};
    return kit_open_with ("grpo", params, reg);
}

/* Rows [first, first + n) as a step of their own. */
static void take_rows (const ParityBatch *from, uint64_t first, uint64_t n, ParityBatch *to)
{
    const int64_t start = from->offsets[first];
    *to = (ParityBatch){.n_rows = n, .n_tokens = (uint64_t)(from->offsets[first + n] - start)};
    for (uint64_t r = 0; r <= n; r++)
        to->offsets[r] = from->offsets[first + r] - start;
    for (uint64_t i = 0; i < to->n_tokens; i++) {
        to->logp[i] = from->logp[start + (int64_t)i];
        to->entropy[i] = from->entropy[start + (int64_t)i];
        to->rollout[i] = from->rollout[start + (int64_t)i];
        to->reference[i] = from->reference[start + (int64_t)i];
        to->weights[i] = from->weights[start + (int64_t)i];
    }
    for (uint64_t r = 0; r < n; r++) {
        to->advantage[r] = from->advantage[first + r];
        to->share[r] = from->share[first + r];
    }
    group_by (to, 4);
}

/* The loss summed over the micro-batches of batch.json (4 and 8 rows), as gradient accumulation in TRL divides it. */
static double accumulated (const DpsObjectiveInstance *o, const ParityBatch *b, int whole_step)
{
    static ParityBatch part;
    static KitStep s;
    double sum = 0;
    for (uint64_t i = 0; i < 2; i++) {
        take_rows (b, i ? 4 : 0, i ? 8 : 4, &part);
        kit_step (o, &part, kit_units (&part), &s);
        /* dapo's own sum, divided by the tokens of the step instead of the part's */
        sum += dps_step_loss (&s.sums) * (whole_step ? (double)part.n_tokens / (double)b->n_tokens : 0.5);
        dps_step_free (&s.sums);
    }
    return sum;
}

static void near_scalar (const StFile *expected, const char *prefix, const char *name, const char *rest, double got, double slack)
{
    char key[128];
    snprintf (key, sizeof key, "%s.%s%s", prefix, name, rest);
    const double want = st_scalar (expected, key);
    CHECK_NEAR (got, want, 2e-5 + 1e-5 * fabs (want) + slack);
}

static void check_metrics (const StFile *expected, const char *name, const json_t *variant, const KitStep *s, const ParityBatch *b)
{
    /* A clip fraction may be off by one when a ratio lies on a bound. */
    const double one =
        strcmp (json_string_value (json_object_get (variant, "level")), "sequence") ? 1 / (double)b->n_tokens : 1 / (double)b->n_rows;
    static const char *const clips[] = {"clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"};
    char rest[64];
    for (size_t i = 0; i < 3; i++) {
        snprintf (rest, sizeof rest, ".%s", clips[i]);
        near_scalar (expected, "metric", name, rest, kit_metric (s, clips[i]), one);
    }
    near_scalar (expected, "metric", name, ".entropy", kit_metric (s, "entropy"), 1e-4); /* recomputed from recorded f32 logits */
    if (json_number_value (json_object_get (variant, "beta")) > 0)
        near_scalar (expected, "metric", name, ".kl", kit_metric (s, "kl"), 0);
}

static void check_variant (const char *model, const char *name, const json_t *variant, const json_t *batch)
{
    static ParityBatch b;
    static KitStep s;
    static Judged judged;
    StFile expected;
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = open_variant (variant, &reg);
    const int bnpo = !strcmp (name, "bnpo") || !strncmp (name, "bnpo_", 5), dapo = !strncmp (name, "dapo", 4);
    kit_batch (&b, model, "completion_mask", &expected);
    group_by (&b, 4);
    read_tokens (json_object_get (batch, "old_logps"), b.rollout, b.n_tokens);
    read_tokens (json_object_get (batch, "ref_logps"), b.reference, b.n_tokens);
    judged_read (&judged, json_object_get (batch, "rewards"), json_object_get (batch, "reward_weights"));
    DpsStepSums sums = {0};
    CHECK_OK (score (o, &b, &judged, &sums, &err));
    dps_step_free (&sums);
    char key[64];
    int64_t n;
    snprintf (key, sizeof key, "adv.%s", json_string_value (json_object_get (variant, "advantages")));
    const float *want = st_f32 (&expected, key, &n);
    CU_ASSERT_EQUAL_FATAL (n, (int64_t)b.n_rows);
    for (uint64_t r = 0; r < b.n_rows; r++)
        CHECK_NEAR (b.advantage[r], (double)want[r], 2e-5 + 1e-5 * fabs ((double)want[r]));
    kit_step (o, &b, kit_units (&b), &s);
    near_scalar (&expected, "loss", name, "", dps_step_loss (&s.sums), 0);
    check_metrics (&expected, name, variant, &s, &b);
    dps_step_free (&s.sums);
    near_scalar (&expected, "loss", name, "_accumulated", accumulated (o, &b, dapo), 0);
    if (!bnpo)
        kit_check_splits (o, &b);
    kit_check_differences (o, &b);
    st_close (&expected);
    close_objective (o, reg);
}

static void test_grpo_parity (void)
{
    for (int m = 0; m < N_PARITY_MODELS; m++) {
        char path[128];
        const char *name;
        json_t *variant;
        snprintf (path, sizeof path, "models/%s/batch.json", parity_models[m]);
        json_t *batch = read_json (path);
        json_object_foreach (json_object_get (batch, "grpo_variants"), name, variant)
            check_variant (parity_models[m], name, variant, batch);
        json_decref (batch);
    }
}

/* bnpo of a step in two micro-batches, one group and two: the mean of their means, as accumulation has it. */
static void test_bnpo_is_a_mean_of_micro_batches (void)
{
    static const KitParam params[] = {{"loss_type", 0, "bnpo"}, {0}};
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open_with ("grpo", params, &reg);
    static ParityBatch b = {.n_rows = 3,
                            .n_tokens = 4,
                            .n_units = 3,
                            .offsets = {0, 1, 2, 4},
                            .units = {0, 1, 2, 3},
                            .logp = {-1, -1, -1, -1},
                            .rollout = {-1, -1, -1, -1},
                            .entropy = {1, 1, 1, 1},
                            .weights = {1, 1, 1, 1},
                            .advantage = {1, 2, -4},
                            .share = {1, 1, 1}};
    static KitStep s;
    kit_step (o, &b, 3, &s);
    CHECK_NEAR (dps_step_loss (&s.sums), -(1 + 2 - 8) / 4.0, 1e-15);
    dps_step_free (&s.sums);
    kit_step (o, &b, 2, &s);
    CHECK_NEAR (dps_step_loss (&s.sums), (-(1 + 2) / 2.0 + 4) / 2, 1e-15);
    dps_step_free (&s.sums);
    close_objective (o, reg);
}

/* dapo: the answer that was cut off is not trained, and the loss is a mean over the tokens of the others. */
static void test_truncated_answers (void)
{
    static const double values[] = {1, 0, 0, 0, 1, 0, 0, 0};
    static const KitParam params[] = {{"mask_truncated_completions", 1, NULL}, {"scale_rewards", 0, "none"}, {0}};
    static ParityBatch b;
    static Judged j;
    static KitStep s;
    DpsRegistry *reg = NULL;
    DpsStepSums sums = {0};
    DpsObjectiveInstance *o = kit_open_with ("grpo", params, &reg);
    two_groups (&b, &j, values);
    j.truncated[3] = 1;
    CHECK_OK (score (o, &b, &j, &sums, &err));
    dps_step_free (&sums);
    kit_step (o, &b, 2, &s);
    CHECK_NEAR (dps_step_loss (&s.sums), -(0.5 - 0.5 + 2 * 0.5) / 4, 1e-15); /* 1, 1 and 2 tokens at ratio 1 */
    CU_ASSERT (s.dlogp[0] != 0 && s.dlogp[4] == 0 && s.dlogp[5] == 0);
    dps_step_free (&s.sums);
    kit_check_splits (o, &b);
    kit_check_differences (o, &b);
    close_objective (o, reg);
}

/* One ratio for an answer: that of an answer that is not trained is 1, as TRL has it, and no clip stops its gradient. */
static void test_a_masked_answer_is_not_clipped (void)
{
    static const double values[] = {1, 0, 0, 0, 1, 0, 0, 0};
    static const KitParam params[] = {{"loss_type", 0, "gspo"}, {"mask_truncated_completions", 1, NULL}, {0}};
    static ParityBatch b;
    static Judged j;
    static KitStep s;
    DpsRegistry *reg = NULL;
    DpsStepSums sums = {0};
    DpsObjectiveInstance *o = kit_open_with ("grpo", params, &reg);
    two_groups (&b, &j, values);
    for (uint64_t i = 0; i < b.n_tokens; i++) /* the first answer of a group earned more: its ratio is high, the other's low */
        b.rollout[i] += i == 0 || i == 2 || i == 3 ? -1 : 1;
    for (int masked = 0; masked < 2; masked++) {
        j.truncated[3] = (uint32_t)masked;
        CHECK_OK (score (o, &b, &j, &sums, &err));
        dps_step_free (&sums);
        kit_step (o, &b, 2, &s);
        CHECK_NEAR (kit_metric (&s, "clip_ratio/high_mean"), 2 / 4.0, 1e-15);
        CHECK_NEAR (kit_metric (&s, "clip_ratio/low_mean"), (2 - masked) / 4.0, 1e-15);
        dps_step_free (&s.sums);
    }
    close_objective (o, reg);
}

/* delta bounds what the clip leaves alone: a large ratio with a negative advantage. */
static void test_two_sided_clip (void)
{
    static const KitParam params[] = {{"delta", 1.5, NULL}, {"loss_type", 0, "grpo"}, {0}}, bad[] = {{"delta", 1.1, NULL}, {0}},
                          word[] = {{"reward_vetoes", 0, "safe>1"}, {0}};
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open_with ("grpo", params, &reg);
    static ParityBatch b = {.n_rows = 1,
                            .n_tokens = 2,
                            .n_units = 1,
                            .offsets = {0, 2},
                            .units = {0, 1},
                            .logp = {-1, -1},
                            .rollout = {-2, -1.3},
                            .entropy = {1, 1},
                            .weights = {1, 1},
                            .advantage = {-1},
                            .share = {1}};
    static KitStep s;
    kit_step (o, &b, 1, &s);
    CHECK_NEAR (dps_step_loss (&s.sums), (1.5 + exp (0.3)) / 2, 1e-12);
    CU_ASSERT (s.dlogp[0] == 0 && s.dlogp[1] > 0);
    dps_step_free (&s.sums);
    const DpsObjective *table = dps_registry_get (reg, DPS_OBJECTIVE_ID, "grpo");
    DpsObjectiveInstance *none = NULL;
    CHECK_FAILS (dps_objective_open (table, kit_param, (void *)bad, &none, &err), DPS_ERR_INVALID, "larger than 1 + epsilon_high");
    CHECK_FAILS (dps_objective_open (table, kit_param, (void *)word, &none, &err), DPS_ERR_INVALID, "'safe>1' is no veto");
    close_objective (o, reg);
}

/* The reference is read with a KL term only. */
static void test_reads (void)
{
    static const KitParam kl[] = {{"beta", 0.04, NULL}, {0}};
    DpsRegistry *reg = NULL;
    DpsObjectiveInstance *o = kit_open ("grpo", &reg);
    CU_ASSERT (dps_objective_signal (o, "logp", "reference") < 0 && dps_objective_signal (o, "logp", "rollout") >= 0);
    close_objective (o, reg);
    o = kit_open_with ("grpo", kl, &reg);
    CU_ASSERT (dps_objective_signal (o, "logp", "reference") >= 0);
    close_objective (o, reg);
}

CHECK_MAIN ("algorithms.grpo", T (test_grpo_parity), T (test_bnpo_is_a_mean_of_micro_batches), T (test_truncated_answers),
            T (test_a_masked_answer_is_not_clipped), T (test_two_sided_clip), T (test_reads))
