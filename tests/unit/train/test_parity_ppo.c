/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PPO through the whole engine against PyTorch: recorded rollouts are scored, then loss, metrics and gradient norm of the six tiny models and every
 * gradient that the parity set has, that of the value head included, on every backend.
 */
#include "parity_run.h"

enum { MAX_SEQUENCES = 16 };

static const Loss ppo = {"ppo", "ppo", "", 0};

static size_t n_rows (const Run *r) { return json_array_size (json_object_get (r->batch, "sequences")); }

static void record (const DpsTrainer *t, DpsPlace *p, const json_t *batch, const char *key, size_t row, const char *name, const char *role)
{
    float values[128];
    size_t i, n = 0;
    json_t *value;
    json_array_foreach (json_array_get (json_object_get (batch, key), row), i, value)
        values[n++] = (float)json_number_value (value);
    CU_ASSERT_EQUAL_FATAL ((int64_t)n, p->counts.scored);
    CHECK_OK (dps__places_record (t, (uint32_t)dps_objective_signal (t->objective, name, role), p, 1, values, &err));
}

/* The rollout: answers with what was recorded when they were sampled, and what they earned. */
static void make_places (Run *r, DpsPlace *places)
{
    const json_t *scores = json_object_get (json_object_get (r->batch, "ppo"), "scores");
    for (size_t i = 0; i < n_rows (r); i++) {
        DpsPlace *p = &places[i];
        *p = (DpsPlace){0};
        place_add (p, r->batch, i, "completion_mask", 0);
        dps_batch_count (p->sequences, p->n, &p->counts);
        record (&r->t, p, r->batch, "old_logps", i, "logp", "rollout");
        record (&r->t, p, r->batch, "old_values", i, "value", "rollout");
        record (&r->t, p, r->batch, "ref_logps", i, "logp", "reference");
        p->rewards = dps_malloc (1, sizeof *p->rewards);
        *p->rewards = json_number_value (json_array_get (scores, i));
    }
}

static void gradients (Run *r)
{
    static const double one = 1;
    static const DpsStr judge = {"judge", 5};
    const DpsRewards meta = {.size = sizeof meta, .n_criteria = 1, .weights = &one, .names = &judge};
    DpsPlace places[MAX_SEQUENCES];
    CU_ASSERT_FATAL (n_rows (r) <= MAX_SEQUENCES);
    make_places (r, places);
    CHECK_OK (dps__trainer_score (&r->t, places, n_rows (r), &meta, &err));
    CHECK_OK (dps__trainer_gradients (&r->t, places, n_rows (r), &r->loss, &r->norm, &err));
    for (size_t i = 0; i < n_rows (r); i++)
        dps_place_free (&places[i]);
}

static void check_scalars (const Run *r, const StFile *expected)
{
    static const struct {
        const char *ours, *theirs;
        double slack; /* one token on a clip's bound */
    } names[] = {{"loss/policy_avg", "policy_loss", 0},           {"loss/value_avg", "value_loss", 0},
                 {"policy/approxkl_avg", "approx_kl", 0},         {"val/ratio", "ratio_mean", 0},
                 {"policy/clipfrac_avg", "clip_fraction", 0.012}, {"val/clipfrac_avg", "value_clip_fraction", 0.012}};
    double want = st_scalar (expected, "loss.ppo");
    CHECK_NEAR (r->loss, want, 2e-5 + 1e-5 * fabs (want));
    CHECK_NEAR (r->norm / st_scalar (expected, "grad_norm.ppo"), 1, 1e-4);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char key[64];
        snprintf (key, sizeof key, "metric.ppo.%s", names[i].theirs);
        want = st_scalar (expected, key);
        CHECK_NEAR (metric_of (&r->t, names[i].ours), want, 2e-5 + 1e-5 * fabs (want) + names[i].slack);
    }
}

static void test_models (void)
{
    EACH_DEVICE (device)
        for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
            char where[128], rest[128];
            Run r;
            StFile expected;
            snprintf (where, sizeof where, "%s on %s:", models[m], device);
            snprintf (rest, sizeof rest, "models/%s/expected.safetensors", models[m]);
            st_open (&expected, parity_path (rest));
            size_t known = count_gradients (&expected, ppo.name);
            open_run (&r, &ppo, models[m], device, (int)m % 2, NULL);
            gradients (&r);
            check_scalars (&r, &expected);
            if (known)
                CU_ASSERT_EQUAL (check_gradients (&r, &expected, ppo.name, where), known);
            close_run (&r);
            st_close (&expected);
        }
}

/* Before any training a fresh head says 0, and says it again after the run is opened anew. */
static void test_a_fresh_value_head_is_zero (void)
{
    Run r;
    const Loss fresh = ppo;
    open_run (&r, &fresh, "gemma3", "ref", 0, NULL);
    CHECK_OK (dps_session_init_heads (&r.t.session, 1, &err));
    const DpsModel *m = &r.t.session.model;
    CU_ASSERT_FATAL (m->value >= 0 && m->value_bias >= 0);
    const float *w = dps_weights_master (&r.t.session.weights, m->value), *bias = dps_weights_master (&r.t.session.weights, m->value_bias);
    for (int64_t i = 0; i < m->dec.hidden; i++)
        CU_ASSERT_EQUAL (w[i], 0);
    CU_ASSERT_EQUAL (bias[0], 0);
    close_run (&r);
}

CHECK_SUITE (check_all, "parity: ppo", T (test_models), T (test_a_fresh_value_head_is_zero))

int main (void) { return in_folder (check_all); }
