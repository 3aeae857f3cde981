/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "plugin/registry.h"

static DpsError err = DPS_ERROR_INIT;

static void test_rows_are_scored_by_length_and_end (void)
{
    DpsRegistry *reg = NULL;
    void *self = NULL;
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    const DpsReward *reward = dps_registry_get (reg, DPS_REWARD_ID, "com.example.rules");
    CU_ASSERT_PTR_NOT_NULL_FATAL (reward);
    CU_ASSERT_EQUAL_FATAL (reward->describe ()->n_criteria, 2);
    CHECK_STR (reward->describe ()->criteria[0], "length");
    const double target = 100;
    CHECK_OK (reward->open (&target, NULL, &self, &err));
    const DpsRewardRow ideal = {.size = sizeof ideal, .completion = {"An end.", 7}, .n_completion_ids = 100};
    const DpsRewardRow open = {.size = sizeof open, .completion = {"No end.", 6}, .n_completion_ids = 100};
    const DpsRewardRow half = {.size = sizeof half, .completion = {"Cut.", 4}, .n_completion_ids = 50, .truncated = 1};
    const DpsRewardRow endless = {.size = sizeof endless, .n_completion_ids = 1000, .truncated = 1};
    const DpsRewardRow *const rows[] = {&ideal, &half, &endless, &open};
    const double expected[8] = {1, 1, 0.5, 0, 0, 0, 1, 0};
    double value[8];
    uint32_t status[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    CHECK_OK (reward->score (self, rows, 4, 0, value, status, NULL, &err));
    for (int i = 0; i < 8; i++) {
        CHECK_NEAR (value[i], expected[i], 1e-12);
        CU_ASSERT_EQUAL (status[i], DPS_SCORE_OK);
    }
    reward->close (self);
    dps_registry_close (reg);
}

CHECK_MAIN ("rules", T (test_rows_are_scored_by_length_and_end))
