/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ppo on the recorded rollouts of all six parity models: rewards, advantages, returns, losses, metrics; finite differences in log-probs and values;
 * every split of a step.
 */
#include "ppo_kit.h"

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

CHECK_MAIN ("algorithms.ppo", T (test_parity))
