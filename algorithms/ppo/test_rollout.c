/* SPDX-License-Identifier: Apache-2.0 */
/* Rollouts of two answers, by hand: KL estimators, GAE, whitening, what nothing judged, the adaptive coefficient, what is refused. */
#include "ppo_kit.h"

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
    for (size_t i = 0; i < s.sums.n_metrics; i++) /* the reference is not read: no KL is known */
        CU_ASSERT (strcmp (s.sums.metrics[i].name, "objective/kl"));
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

/* 64 answers on a horizon of 8, no KL where 5 nats are aimed at: less weight, but never a negative one, which would reward the KL. */
static void test_a_short_horizon_keeps_the_sign (void)
{
    static const KitParam params[] = {{"kl_target", 5, NULL}, {"kl_horizon", 8, NULL}, {0}};
    double state[3] = {0.1, 0, 64};
    size_t n = 0;
    Open ppo = open_ppo (params);
    const DpsObjective *table = &ppo.o->table;
    CHECK_OK (table->state_load (ppo.o->self, state, sizeof state, &err));
    CHECK_OK (table->step_end (ppo.o->self, 1, &err));
    CHECK_OK (table->state_save (ppo.o->self, state, sizeof state, &n, &err));
    CHECK_OK (table->state_load (ppo.o->self, state, n, &err));
    CHECK_NEAR (coefficient (ppo.o), 0.1 * 0.8, 1e-15);
    close_ppo (&ppo);
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

CHECK_MAIN ("algorithms.ppo.rollout", T (test_kl_estimators), T (test_gae_by_hand), T (test_whitened_rewards_keep_their_mean),
            T (test_an_answer_without_its_end_costs_the_penalty), T (test_an_answer_that_nothing_judged), T (test_adaptive_coefficient),
            T (test_a_short_horizon_keeps_the_sign), T (test_nonsense_is_refused))
