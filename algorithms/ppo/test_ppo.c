/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ppo on the recorded rollouts of all six parity models: rewards, advantages, returns, losses, metrics; finite differences in log-probs and values;
 * every split of a step; what judges nothing, KL estimators, whitening, the adaptive coefficient by hand.
 */
#include "objective_kit.h"

/* Signals in the order of the plugin's description. */
enum { LOGP, VALUE, ENTROPY, OLD_LOGP, OLD_VALUE, REFERENCE, ADVANTAGE, RETURN, N_SIGNALS };

/** A rollout: N_SIGNALS numbers a token, one reward an answer. */
typedef struct Rollout {
    ParityBatch at;
    double x[N_SIGNALS][MAX_TOKENS], rewards[MAX_ROWS], gradients[N_SIGNALS][MAX_TOKENS];
    uint32_t truncated[MAX_ROWS];
} Rollout;

/** An open plugin. */
typedef struct Open {
    DpsRegistry *reg;
    DpsObjectiveInstance *o;
} Open;

static DpsError err = DPS_ERROR_INIT;

static Open open_ppo (const KitParam *params)
{
    Open open;
    static const char *const names[N_SIGNALS] = {"logp", "value", "entropy", "logp", "value", "logp", "advantage", "return"};
    open.o = kit_open_with ("ppo", params, &open.reg);
    CU_ASSERT_EQUAL_FATAL (open.o->info.n_signals, N_SIGNALS);
    for (int i = 0; i < N_SIGNALS; i++)
        CHECK_STR (open.o->signals[i].name, names[i]);
    return open;
}

static void close_ppo (Open *open)
{
    dps_objective_close (open->o);
    dps_registry_close (open->reg);
}

static void read_tokens (const json_t *batch, const char *key, double *out, uint64_t want)
{
    json_t *row, *value;
    size_t r, i;
    uint64_t n = 0;
    json_array_foreach (json_object_get (batch, key), r, row)
        json_array_foreach (row, i, value)
            out[n++] = json_number_value (value);
    CU_ASSERT_EQUAL_FATAL (n, want);
}

static void read_rollout (Rollout *r, const char *model, StFile *expected)
{
    char path[128];
    json_t *json = NULL;
    int64_t n;
    memset (r, 0, sizeof *r);
    kit_batch (&r->at, model, "completion_mask", expected);
    snprintf (path, sizeof path, "models/%s/batch.json", model);
    CHECK_OK (dps_json_file (parity_path (path), 1 << 24, 0, &json, &err));
    memcpy (r->x[LOGP], r->at.logp, sizeof r->x[LOGP]);
    memcpy (r->x[ENTROPY], r->at.entropy, sizeof r->x[ENTROPY]);
    read_tokens (json, "old_logps", r->x[OLD_LOGP], r->at.n_tokens);
    read_tokens (json, "old_values", r->x[OLD_VALUE], r->at.n_tokens);
    read_tokens (json, "ref_logps", r->x[REFERENCE], r->at.n_tokens);
    const float *values = st_f32 (expected, "ppo.values", &n);
    CU_ASSERT_EQUAL_FATAL ((uint64_t)n, r->at.n_tokens);
    for (int64_t i = 0; i < n; i++)
        r->x[VALUE][i] = (double)values[i];
    for (size_t i = 0; i < r->at.n_rows; i++)
        r->rewards[i] = json_number_value (json_array_get (json_object_get (json_object_get (json, "ppo"), "scores"), i));
    json_decref (json);
}

static DpsObjectiveBatch batch_of (const Rollout *r, const double *const *signals)
{
    return (DpsObjectiveBatch){.size = sizeof (DpsObjectiveBatch),
                               .n_tokens = r->at.n_tokens,
                               .n_rows = r->at.n_rows,
                               .n_units = r->at.n_rows,
                               .row_offsets = r->at.offsets,
                               .unit_offsets = r->at.units,
                               .signals = signals,
                               .weights = r->at.weights,
                               .total = (double)r->at.n_tokens};
}

/* Advantages and returns into the rollout. */
static DpsStatus try_score (const DpsObjectiveInstance *o, Rollout *r, DpsStepSums *sums)
{
    static const double one = 1;
    static const DpsStr name = {"judge", 5};
    const double *signals[N_SIGNALS] = {NULL, NULL, NULL, r->x[OLD_LOGP], r->x[OLD_VALUE], r->x[REFERENCE], NULL, NULL};
    double *out[N_SIGNALS] = {[ADVANTAGE] = r->x[ADVANTAGE], [RETURN] = r->x[RETURN]};
    const DpsRewards rewards = {
        .size = sizeof rewards, .n_criteria = 1, .values = r->rewards, .weights = &one, .names = &name, .truncated = r->truncated};
    DpsObjectiveBatch step = batch_of (r, signals);
    return dps_objective_score (o, &step, &rewards, out, sums, &err);
}

static void score (const DpsObjectiveInstance *o, Rollout *r, KitStep *s)
{
    s->sums = (DpsStepSums){0};
    CHECK_OK (try_score (o, r, &s->sums));
}

/* The step's loss in micro-batches of `size` answers. */
static void run_step (const DpsObjectiveInstance *o, Rollout *r, uint64_t size, KitStep *s)
{
    s->sums = (DpsStepSums){0};
    memset (r->gradients, 0, sizeof r->gradients);
    for (uint64_t first = 0; first < r->at.n_rows; first += size) {
        uint64_t n = first + size < r->at.n_rows ? size : r->at.n_rows - first;
        int64_t start = r->at.offsets[first], offsets[MAX_ROWS + 1], units[MAX_ROWS + 1];
        const double *signals[N_SIGNALS];
        double *grads[N_SIGNALS] = {r->gradients[LOGP] + start, r->gradients[VALUE] + start};
        for (uint64_t k = 0; k <= n; k++) {
            offsets[k] = r->at.offsets[first + k] - start;
            units[k] = (int64_t)k;
        }
        for (int i = 0; i < N_SIGNALS; i++)
            signals[i] = r->x[i] + start;
        DpsObjectiveBatch b = batch_of (r, signals);
        b.n_tokens = (uint64_t)offsets[n];
        b.n_rows = b.n_units = n;
        b.row_offsets = offsets;
        b.unit_offsets = units;
        b.weights = r->at.weights + start;
        CHECK_OK (dps_objective_micro_batch (o, &b, &s->sums, grads, s->losses + first, &err));
    }
}

static void check_tokens (const double *got, const StFile *expected, const char *name)
{
    int64_t n;
    const float *want = st_f32 (expected, name, &n);
    for (int64_t i = 0; i < n; i++)
        CHECK_NEAR (got[i], (double)want[i], 2e-5 + 1e-5 * fabs ((double)want[i]));
}

static void check_metrics (const KitStep *s, const Rollout *r, const StFile *expected)
{
    static const struct {
        const char *ours, *theirs;
        int tokens; /* may be off by so many */
    } names[] = {{"loss/policy_avg", "policy_loss", 0},          {"loss/value_avg", "value_loss", 0},
                 {"policy/approxkl_avg", "approx_kl", 0},        {"policy/clipfrac_avg", "clip_fraction", 1},
                 {"val/clipfrac_avg", "value_clip_fraction", 1}, {"val/ratio", "ratio_mean", 0}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char key[64];
        snprintf (key, sizeof key, "metric.ppo.%s", names[i].theirs);
        double want = st_scalar (expected, key);
        CHECK_NEAR (kit_metric (s, names[i].ours), want, 2e-5 + 1e-5 * fabs (want) + names[i].tokens / (double)r->at.n_tokens);
    }
}

static void check_differences (const DpsObjectiveInstance *o, Rollout *r)
{
    static KitStep s;
    static double at[N_SIGNALS][MAX_TOKENS];
    const double h = 1e-6;
    run_step (o, r, r->at.n_rows, &s);
    dps_step_free (&s.sums);
    memcpy (at, r->gradients, sizeof at);
    for (int k = LOGP; k <= VALUE; k++) {
        double largest = 0;
        for (uint64_t i = 0; i < r->at.n_tokens; i++) {
            double kept = r->x[k][i], loss[2];
            for (int side = 0; side < 2; side++) {
                r->x[k][i] = kept + (side ? h : -h);
                run_step (o, r, r->at.n_rows, &s);
                loss[side] = dps_step_loss (&s.sums);
                dps_step_free (&s.sums);
            }
            r->x[k][i] = kept;
            CHECK_NEAR (at[k][i], (loss[1] - loss[0]) / (2 * h), 1e-7);
            largest = fmax (largest, fabs (at[k][i]));
        }
        CU_ASSERT (largest > 1e-4);
    }
}

static void check_splits (const DpsObjectiveInstance *o, Rollout *r)
{
    static KitStep whole, split;
    static double gradients[N_SIGNALS][MAX_TOKENS];
    run_step (o, r, r->at.n_rows, &whole);
    memcpy (gradients, r->gradients, sizeof gradients);
    for (uint64_t size = 1; size < r->at.n_rows; size++) {
        run_step (o, r, size, &split);
        double a = dps_step_loss (&whole.sums), b = dps_step_loss (&split.sums);
        CU_ASSERT_EQUAL (memcmp (&a, &b, sizeof a), 0);
        CU_ASSERT_EQUAL (memcmp (gradients, r->gradients, sizeof gradients), 0);
        CU_ASSERT_EQUAL_FATAL (whole.sums.n_metrics, split.sums.n_metrics);
        for (size_t i = 0; i < whole.sums.n_metrics; i++)
            CU_ASSERT_EQUAL (memcmp (&whole.sums.metrics[i], &split.sums.metrics[i], sizeof whole.sums.metrics[i]), 0);
        dps_step_free (&split.sums);
    }
    dps_step_free (&whole.sums);
}

static void test_parity (void)
{
    static const KitParam undiscounted[] = {{"gamma", 0, NULL}, {0}};
    static Rollout r, again;
    static KitStep s;
    Open ppo = open_ppo (NULL), gone = open_ppo (undiscounted);
    for (int m = 0; m < N_PARITY_MODELS; m++) {
        StFile expected;
        double plain[MAX_TOKENS];
        read_rollout (&r, parity_models[m], &expected);
        again = r;
        score (gone.o, &again, &s); /* without a future the return is the reward */
        check_tokens (again.x[RETURN], &expected, "ppo.rewards");
        dps_step_free (&s.sums);
        score (ppo.o, &r, &s);
        dps_step_free (&s.sums);
        for (uint64_t i = 0; i < r.at.n_tokens; i++)
            plain[i] = r.x[RETURN][i] - r.x[OLD_VALUE][i];
        check_tokens (plain, &expected, "ppo.advantages");
        check_tokens (r.x[ADVANTAGE], &expected, "ppo.advantages_whitened");
        check_tokens (r.x[RETURN], &expected, "ppo.returns");
        run_step (ppo.o, &r, 4, &s);
        CHECK_NEAR (dps_step_loss (&s.sums), st_scalar (&expected, "loss.ppo"), 2e-5 + 1e-5 * fabs (st_scalar (&expected, "loss.ppo")));
        check_metrics (&s, &r, &expected);
        dps_step_free (&s.sums);
        check_splits (ppo.o, &r);
        check_differences (ppo.o, &r);
        again = r;
        score (ppo.o, &again, &s); /* pure */
        dps_step_free (&s.sums);
        CU_ASSERT_EQUAL (memcmp (again.x, r.x, sizeof r.x), 0);
        st_close (&expected);
    }
    close_ppo (&ppo);
    close_ppo (&gone);
}

/* Two answers of two and one token, reference half a nat above on the first token and level elsewhere. */
static void small (Rollout *r)
{
    *r = (Rollout){.at = {.n_rows = 2, .n_tokens = 3, .offsets = {0, 2, 3}, .units = {0, 1, 2}, .weights = {1, 1, 1}},
                   .x = {[OLD_LOGP] = {-1, -2, -0.5}, [OLD_VALUE] = {0.25, -0.5, 1}, [REFERENCE] = {-0.5, -2, -0.5}},
                   .rewards = {2, -1}};
}

static void check_estimator (const char *which, double kl)
{
    const KitParam params[] = {{"kl_estimator", 0, which}, {"kl_coef", 0.5, NULL}, {"gamma", 0, NULL}, {0}};
    static Rollout r;
    static KitStep s;
    Open ppo = open_ppo (params);
    small (&r);
    score (ppo.o, &r, &s);
    CHECK_NEAR (r.x[RETURN][0], -0.5 * kl, 1e-12);
    CHECK_NEAR (r.x[RETURN][1], 2, 1e-12);
    CHECK_NEAR (r.x[RETURN][2], -1, 1e-12);
    CHECK_NEAR (kit_metric (&s, "objective/kl"), kl / 2, 1e-12);
    CHECK_NEAR (kit_metric (&s, "objective/scores"), 0.5, 1e-12);
    CHECK_NEAR (kit_metric (&s, "objective/non_score_reward"), -0.25 * kl, 1e-12);
    CHECK_NEAR (kit_metric (&s, "objective/rlhf_reward"), 0.5 - 0.25 * kl, 1e-12);
    CHECK_NEAR (kit_metric (&s, "objective/entropy"), 1.75, 1e-12);
    CHECK_NEAR (kit_metric (&s, "val/num_eos_tokens"), 2, 1e-12);
    dps_step_free (&s.sums);
    close_ppo (&ppo);
}

static void test_kl_estimators (void)
{
    check_estimator ("k1", -0.5);
    check_estimator ("k2", 0.125);
    check_estimator ("k3", exp (0.5) - 1 - 0.5);
}

/* λ = 0.5, γ = 1: δ = (0 + V₁ − V₀, 2 − V₁) = (−0.75, 2.5), A = (0.5, 2.5); the other answer's A = −1 − 1 = −2. */
static void test_gae_by_hand (void)
{
    static const KitParam params[] = {{"kl_coef", 0, NULL}, {"lam", 0.5, NULL}, {0}};
    static Rollout r;
    static KitStep s;
    Open ppo = open_ppo (params);
    small (&r);
    score (ppo.o, &r, &s);
    dps_step_free (&s.sums);
    const double a[3] = {0.5, 2.5, -2}, mean = 1.0 / 3,
                 std = sqrt (((0.5 - mean) * (0.5 - mean) + (2.5 - mean) * (2.5 - mean) + (2 + mean) * (2 + mean)) / 2 + 1e-8);
    for (int i = 0; i < 3; i++) {
        CHECK_NEAR (r.x[RETURN][i], a[i] + r.x[OLD_VALUE][i], 1e-12);
        CHECK_NEAR (r.x[ADVANTAGE][i], (a[i] - mean) / std, 1e-12);
    }
    close_ppo (&ppo);
}

static void test_whitened_rewards_keep_their_mean (void)
{
    static const KitParam params[] = {{"kl_coef", 0, NULL}, {"gamma", 0, NULL}, {"whiten_rewards", 1, NULL}, {0}};
    static Rollout r;
    static KitStep s;
    Open ppo = open_ppo (params);
    small (&r);
    score (ppo.o, &r, &s);
    dps_step_free (&s.sums);
    const double x[3] = {0, 2, -1}, mean = 1.0 / 3,
                 std = sqrt ((mean * mean + (2 - mean) * (2 - mean) + (1 + mean) * (1 + mean)) / 2 + 1e-8);
    for (int i = 0; i < 3; i++)
        CHECK_NEAR (r.x[RETURN][i], (x[i] - mean) / std + mean, 1e-12);
    close_ppo (&ppo);
}

static void test_an_answer_without_its_end_costs_the_penalty (void)
{
    static const KitParam params[] = {{"kl_coef", 0, NULL}, {"gamma", 0, NULL}, {"missing_eos_penalty", 1.5, NULL}, {0}};
    static Rollout r;
    static KitStep s;
    Open ppo = open_ppo (params);
    small (&r);
    r.truncated[1] = 1;
    score (ppo.o, &r, &s);
    CHECK_NEAR (r.x[RETURN][1], 2, 1e-12);
    CHECK_NEAR (r.x[RETURN][2], -2.5, 1e-12);
    CHECK_NEAR (kit_metric (&s, "val/num_eos_tokens"), 1, 1e-12);
    dps_step_free (&s.sums);
    close_ppo (&ppo);
}

/* It moves nothing, and the others are whitened without it. */
static void test_an_answer_that_nothing_judged (void)
{
    static Rollout r;
    static KitStep s;
    Open ppo = open_ppo (NULL);
    small (&r);
    r.rewards[1] = NAN;
    score (ppo.o, &r, &s);
    CU_ASSERT_EQUAL (r.x[ADVANTAGE][2], 0);
    CU_ASSERT_EQUAL (r.x[RETURN][2], r.x[OLD_VALUE][2]);
    CHECK_NEAR (r.x[ADVANTAGE][0] + r.x[ADVANTAGE][1], 0, 1e-9);
    CU_ASSERT (fabs (r.x[ADVANTAGE][0]) > 0.5);
    CHECK_NEAR (kit_metric (&s, "objective/scores"), 2, 1e-12);
    dps_step_free (&s.sums);
    memcpy (r.x[LOGP], r.x[OLD_LOGP], sizeof r.x[LOGP]);
    memcpy (r.x[VALUE], r.x[OLD_VALUE], sizeof r.x[VALUE]);
    run_step (ppo.o, &r, 1, &s);
    CU_ASSERT_EQUAL (r.gradients[LOGP][2], 0);
    CU_ASSERT_EQUAL (r.gradients[VALUE][2], 0);
    CU_ASSERT (r.gradients[LOGP][0] != 0);
    CU_ASSERT_EQUAL (kit_metric (&s, "val/ratio"), 1);
    dps_step_free (&s.sums);
    r.rewards[0] = NAN;
    score (ppo.o, &r, &s);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL (r.x[ADVANTAGE][i], 0);
    dps_step_free (&s.sums);
    close_ppo (&ppo);
}

static double coefficient (const DpsObjectiveInstance *o)
{
    static Rollout r;
    static KitStep s;
    small (&r);
    score (o, &r, &s);
    double now = kit_metric (&s, "objective/kl_coef");
    dps_step_free (&s.sums);
    return now;
}

/* Ziegler et al.: error clip (KL/target − 1, ±0.2), times the answers over the horizon. Here KL is −0.25 a rollout (k1), or 0.0625 with k2. */
static void test_adaptive_coefficient (void)
{
    static const KitParam params[] = {
        {"kl_estimator", 0, "k2"}, {"kl_coef", 0.1, NULL}, {"kl_target", 0.05, NULL}, {"kl_horizon", 100, NULL}, {0}};
    char state[64];
    size_t n = 0, same = 0;
    Open ppo = open_ppo (params), other = open_ppo (params);
    const DpsObjective *table = &ppo.o->table;
    CHECK_NEAR (coefficient (ppo.o), 0.1, 1e-15);
    CHECK_NEAR (coefficient (ppo.o), 0.1, 1e-15); /* scoring again is no step */
    CHECK_OK (table->state_save (ppo.o->self, NULL, 0, &n, &err));
    CU_ASSERT_FATAL (n <= sizeof state);
    CHECK_OK (table->state_save (ppo.o->self, state, sizeof state, &n, &err));
    CHECK_OK (table->step_end (ppo.o->self, 1, &err));
    CHECK_OK (table->step_end (ppo.o->self, 2, &err)); /* a second step on the same rollout changes nothing */
    CHECK_NEAR (coefficient (ppo.o), 0.1 * (1 + 0.2 * 2 / 100), 1e-15);
    CHECK_OK (table->state_load (other.o->self, state, n, &err)); /* as before step 1 */
    CHECK_OK (table->step_end (other.o->self, 1, &err));
    CHECK_NEAR (coefficient (other.o), 0.1 * (1 + 0.2 * 2 / 100), 1e-15);
    CHECK_FAILS (table->state_save (ppo.o->self, state, 3, &same, &err), DPS_ERR_LIMIT, "small");
    CHECK_FAILS (table->state_load (ppo.o->self, state, n - 1, &err), DPS_ERR_FORMAT, "length");
    memset (state, 0xff, sizeof state); /* NaN */
    CHECK_FAILS (table->state_load (ppo.o->self, state, n, &err), DPS_ERR_FORMAT, "coefficient");
    close_ppo (&ppo);
    close_ppo (&other);
}

static void test_nonsense_is_refused (void)
{
    static Rollout r;
    DpsStepSums sums = {0};
    Open ppo = open_ppo (NULL);
    small (&r);
    r.rewards[0] = INFINITY;
    CHECK_FAILS (try_score (ppo.o, &r, &sums), DPS_ERR_NONFINITE, "row 0");
    small (&r);
    r.x[OLD_VALUE][1] = NAN;
    CHECK_FAILS (try_score (ppo.o, &r, &sums), DPS_ERR_NONFINITE, "value");
    CU_ASSERT_EQUAL (sums.n_metrics, 0);
    dps_step_free (&sums);
    close_ppo (&ppo);
}

CHECK_MAIN ("algorithms.ppo", T (test_parity), T (test_kl_estimators), T (test_gae_by_hand), T (test_whitened_rewards_keep_their_mean),
            T (test_an_answer_without_its_end_costs_the_penalty), T (test_an_answer_that_nothing_judged), T (test_adaptive_coefficient),
            T (test_nonsense_is_refused))
