/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objectives on pairs through the whole engine against PyTorch: loss, metrics, gradient norm of the six tiny models and every gradient that
 * the parity set has, on every backend, with the prompt shared; and a shared prompt against a repeated one.
 */
#include "parity_run.h"

enum { N_PAIRS = 6 };

static const Loss losses[] = {
    {"simpo", "simpo", "beta: 2\nsimpo_gamma: 1\ncpo_alpha: 0\n", 1},
    {"dpo", "dpo", "beta: 0.1\n", 1},
    {"reward", "reward", "", 1},
    {"reward_centered", "reward", "center_rewards_coefficient: 0.01\n", 1},
};
enum { N_LOSSES = sizeof losses / sizeof *losses };

/* The recorded log-probs of the reference, instead of those of the policy as it starts. */
static void take_reference (Run *r)
{
    json_t *all = json_object_get (r->batch, "ref_logps"), *value;
    for (size_t i = 0; i < N_PAIRS && r->t.reference.n; i++) {
        float logp[128];
        size_t n = 0, k, at;
        for (k = 0; k < 2; k++)
            json_array_foreach (json_array_get (all, 2 * i + k), at, value)
                logp[n++] = (float)json_number_value (value);
        CHECK_OK (dps__reference_set (&r->t.reference, i, logp, n, &err));
    }
}

/* Gradients of all pairs' mean loss. */
static void gradients (Run *r, int shared)
{
    DpsPlace places[N_PAIRS];
    take_reference (r);
    for (size_t i = 0; i < N_PAIRS; i++)
        places[i] = place_of_pair (r->batch, i, shared, dps__trainer_scores (&r->t));
    CHECK_OK (dps__trainer_gradients (&r->t, places, N_PAIRS, &r->loss, &r->norm, &err));
    for (size_t i = 0; i < N_PAIRS; i++)
        dps_place_free (&places[i]);
}

static void check_scalars (const Run *r, const StFile *expected, const char *loss)
{
    static const char *const names[][2] = {{"rewards/accuracies", "accuracy"},
                                           {"rewards/chosen", "chosen_reward"},
                                           {"rewards/rejected", "rejected_reward"},
                                           {"rewards/margins", "margin"}};
    char key[128];
    snprintf (key, sizeof key, "loss.%s", loss);
    double want = st_scalar (expected, key);
    CHECK_NEAR (r->loss, want, 2e-5 + 1e-5 * fabs (want));
    snprintf (key, sizeof key, "grad_norm.%s", loss);
    CHECK_NEAR (r->norm / st_scalar (expected, key), 1, 1e-4);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf (key, sizeof key, "metric.%s.%s", loss, names[i][1]);
        want = st_scalar (expected, key);
        CHECK_NEAR (metric_of (&r->t, names[i][0]), want, 2e-5 + 1e-5 * fabs (want));
    }
}

static void test_models (void)
{
    EACH_DEVICE (device)
        for (size_t m = 0; m < sizeof models / sizeof *models; m++)
            for (size_t l = 0; l < N_LOSSES; l++) {
                char where[128], rest[128];
                Run r;
                StFile expected;
                snprintf (where, sizeof where, "%s on %s:", models[m], device);
                snprintf (rest, sizeof rest, "models/%s/expected.safetensors", models[m]);
                st_open (&expected, parity_path (rest));
                size_t gradients_known = count_gradients (&expected, losses[l].name);
                open_run (&r, &losses[l], models[m], device, (m + l) % 2, NULL);
                gradients (&r, 1);
                check_scalars (&r, &expected, losses[l].name);
                if (gradients_known)
                    CU_ASSERT_EQUAL (check_gradients (&r, &expected, losses[l].name, where), gradients_known);
                close_run (&r);
                st_close (&expected);
            }
}

static void test_adapters (void)
{
    static const char *const kinds[] = {"lora", "rslora", "dora"}, *const bases[] = {"gemma3", "llama"};
    EACH_DEVICE (device)
        for (size_t i = 0; i < 6; i++) {
            char adapter[512], rest[128], where[128];
            const char *base = bases[i % 2], *kind = kinds[i / 2];
            Run r;
            StFile expected;
            snprintf (where, sizeof where, "%s-%s on %s:", base, kind, device);
            snprintf (rest, sizeof rest, "lora/%s-%s", base, kind);
            snprintf (adapter, sizeof adapter, "%s", parity_path (rest));
            snprintf (rest, sizeof rest, "lora/%s-%s/expected.safetensors", base, kind);
            st_open (&expected, parity_path (rest));
            open_run (&r, &losses[0], base, device, i % 2, adapter);
            gradients (&r, 1);
            check_scalars (&r, &expected, "simpo");
            CU_ASSERT_EQUAL (check_gradients (&r, &expected, "simpo", where), count_gradients (&expected, "simpo"));
            close_run (&r);
            st_close (&expected);
        }
}

/* DESIGN section 2: the same bits in the forward pass, 1e-5 in gradients. */
static void test_a_shared_prompt_is_a_repeated_one (void)
{
    EACH_DEVICE (device) {
        Run r;
        open_run (&r, &losses[0], "gemma3", device, 0, NULL);
        DpsWeights *w = &r.t.session.weights;
        gradients (&r, 0);
        double loss = r.loss;
        size_t n = r.t.session.model.n_weights;
        float **kept = dps_calloc (n, sizeof *kept);
        for (size_t i = 0; i < n; i++)
            kept[i] = gradient_of (w, (int32_t)i);
        gradients (&r, 1);
        CU_ASSERT_EQUAL (memcmp (&loss, &r.loss, sizeof loss), 0);
        for (size_t i = 0; i < n; i++) {
            const StTensor want = {.data = kept[i]};
            float *g = gradient_of (w, (int32_t)i);
            check_gradient (r.t.session.model.weights[i].name, g, dps_weight_elements (&r.t.session.model.weights[i]), &want, 1e-5);
            free (g);
            free (kept[i]);
        }
        dps_free (kept);
        close_run (&r);
    }
}

CHECK_SUITE (check_all, "parity: preference pairs", T (test_models), T (test_adapters), T (test_a_shared_prompt_is_a_repeated_one))

int main (void) { return in_folder (check_all); }
