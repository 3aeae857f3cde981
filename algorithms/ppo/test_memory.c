/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin's own allocations, each made to fail in turn: it is compiled into this program, because a loaded module has a heap count of its own. */
#include "check.h"

#include "advantage.c"
#include "ppo.c"

static void test_every_allocation_may_fail (void)
{
    DpsError err = DPS_ERROR_INIT;
    double num[N_PARAMS], old[2] = {-1, -2}, value[2] = {0, 0}, advantage[2], returns[2], earned = 1, weight = 1;
    DpsStr str[N_PARAMS] = {{0}}, name = {"judge", 5};
    const int64_t offsets[2] = {0, 2}, units[2] = {0, 1};
    const double *in[N_SIGNALS] = {NULL, NULL, NULL, old, value, old, NULL, NULL};
    double *out[N_SIGNALS] = {[ADVANTAGE] = advantage, [RETURN] = returns};
    const DpsMetricSink silent = {.size = sizeof silent, .add = NULL};
    const DpsRewards rewards = {.size = sizeof rewards, .n_criteria = 1, .values = &earned, .weights = &weight, .names = &name};
    const DpsObjectiveBatch step = {
        .size = sizeof step, .n_tokens = 2, .n_rows = 1, .n_units = 1, .row_offsets = offsets, .unit_offsets = units, .signals = in};
    void *self = NULL;
    for (int i = 0; i < N_PARAMS; i++)
        num[i] = params[i]->def;
    str[ESTIMATOR] = dps_str ("k1");
    dps_mem_fail_at (1);
    CHECK_FAILS (objective.create (num, str, &self, &err), DPS_ERR_NOMEM, "memory");
    dps_mem_fail_at (0);
    CHECK_OK (objective.create (num, str, &self, &err));
    int64_t live = dps_mem_live ();
    for (uint64_t k = 1; k <= 2; k++) {
        advantage[0] = returns[0] = 7;
        dps_mem_fail_at (k);
        CHECK_FAILS (objective.score (self, &step, &rewards, out, &silent, &err), DPS_ERR_NOMEM, "memory");
        dps_mem_fail_at (0);
        CU_ASSERT_EQUAL (advantage[0], 7);
        CU_ASSERT_EQUAL (returns[0], 7);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    objective.destroy (self);
}

CHECK_MAIN ("algorithms.ppo.memory", T (test_every_allocation_may_fail))
