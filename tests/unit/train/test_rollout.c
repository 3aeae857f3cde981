/* SPDX-License-Identifier: Apache-2.0 */
/* Rollouts without a model: which prompts a step trains, and that a log-prob of other bits is refused in the first pass. */
#include "check.h"
#include "train/trainer.h"

static void test_steps_go_through_a_rollout_pass_by_pass (void)
{
    const DpsRollout once = {.samples = 4, .steps = 1, .passes = 1}, several = {.samples = 4, .steps = 2, .passes = 3};
    for (uint64_t step = 0; step < 10; step++)
        CU_ASSERT_EQUAL (dps__rollout_prompts_of (&once, step), step);
    static const uint64_t expected[] = {0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 4};
    for (uint64_t step = 0; step < sizeof expected / sizeof *expected; step++)
        CU_ASSERT_EQUAL (dps__rollout_prompts_of (&several, step), expected[step]);
}

/* Two places of 3 and 2 answers' tokens. */
static DpsStatus check (DpsTrainer *t, const float *now, DpsError *err)
{
    static float first[] = {-1.5f, -0.0f, -3.25f}, second[] = {-0.125f, -7.0f};
    static float *logp[] = {first, second};
    static DpsPlace places[2];
    places[0].counts.scored = 3;
    places[1].counts.scored = 2;
    t->rollout.places = places;
    t->rollout.n_places = 2;
    t->rollout.logp = logp;
    return dps__rollout_check (t, places, 2, now, err);
}

static void test_first_pass_has_the_bits_that_were_recorded (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRecipe recipe = {0};
    DpsTrainer t = {.recipe = &recipe, .step = 6};
    float same[] = {-1.5f, -0.0f, -3.25f, -0.125f, -7.0f}, other[] = {-1.5f, -0.0f, -3.25f, -0.125f, -7.000001f};
    float zero[] = {-1.5f, 0.0f, -3.25f, -0.125f, -7.0f}; /* equal in value, not in bits */
    CHECK_OK (check (&t, same, &err));
    CHECK_FAILS (check (&t, zero, &err), DPS_ERR_INTERNAL, "step 7: 1 of 5 log-probs are not those the answers were sampled with");
    CHECK_FAILS (check (&t, other, &err), DPS_ERR_INTERNAL, "allow_ratio_drift: true goes on all the same");
    recipe.allow_ratio_drift = 1;
    CHECK_OK (check (&t, other, &err));
    CU_ASSERT (t.rollout.drifted);
}

CHECK_SUITE (check_all, "rollouts", T (test_steps_go_through_a_rollout_pass_by_pass), T (test_first_pass_has_the_bits_that_were_recorded))

int main (void) { return check_all (); }
