/* SPDX-License-Identifier: Apache-2.0 */
/* reward regex: the three modes, its bounds, what open refuses, hostile bytes, failed allocations. */
#include "reward_kit.h"

static double of (const char *args, const char *completion)
{
    void *self = kit_reward_open (args);
    double value = kit_reward_one (self, &(KitAnswer){.completion = completion});
    kit_reward ()->close (self);
    return value;
}

static void test_modes (void)
{
    CHECK_NEAR (of ("pattern: 'b+'", "abba"), 1, 0);
    CHECK_NEAR (of ("pattern: 'b+'", "aca"), 0, 0);
    CHECK_NEAR (of ("pattern: 'b+', match: -2, no_match: 0.5", "abba"), -2, 0);
    CHECK_NEAR (of ("pattern: 'b+', match: -2, no_match: 0.5", "aca"), 0.5, 0);
    CHECK_NEAR (of ("pattern: 'b+', mode: full", "abba"), 0, 0);
    CHECK_NEAR (of ("pattern: 'b|bb', mode: full", "bb"), 1, 0);
    CHECK_NEAR (of ("pattern: 'É', ignore_case: true", "caf\xc3\xa9"), 1, 0);
    CHECK_NEAR (of ("pattern: 'É'", "caf\xc3\xa9"), 0, 0);
    CHECK_NEAR (of ("pattern: 'score: (\\S+)', mode: capture", "my score: -0.75 of 1"), -0.75, 1e-15);
    CHECK_NEAR (of ("pattern: 'score: (\\S+)', mode: capture, no_match: -1", "my score: high"), -1, 0);
    CHECK_NEAR (of ("pattern: 'score: (\\S+)', mode: capture, no_match: -1", "none"), -1, 0);
    CHECK_NEAR (of ("pattern: 'a(b)?', mode: capture, no_match: -1", "a"), -1, 0);
    CHECK_NEAR (of ("pattern: '(.*)', mode: capture", "1,234.5e1"), 12345, 1e-9);
}

/* Catastrophic backtracking costs the row, within a second or so, and the next row is judged. */
static void test_bounds (void)
{
    void *self = kit_reward_open ("pattern: '(a+)+$'");
    uint32_t status;
    int64_t start = dps_judge_now_ms ();
    kit_reward_status (self, &(KitAnswer){.completion = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_FAILED);
    CU_ASSERT (dps_judge_now_ms () - start < 10000);
    CHECK_NEAR (kit_reward_one (self, &(KitAnswer){.completion = "aaa"}), 1, 0);
    kit_reward ()->close (self);
}

static void test_refusals (void)
{
    kit_reward_refuses ("", "pattern is missing");
    kit_reward_refuses ("pattern: '(a'", "pattern: '(a' is not a regular expression: at character 3");
    kit_reward_refuses ("pattern: 'a\\C'", "is not a regular expression");
    kit_reward_refuses ("pattern: a, mode: capture", "the pattern has no group");
    kit_reward_refuses ("pattern: a, mode: find", "expected one of search|full|capture");
    kit_reward_refuses ("patern: a", "did you mean 'pattern'?");
    kit_reward_refuses ("pattern: 3", "pattern is 3, expected a string");
}

static void test_hostile (void)
{
    kit_reward_hostile ("pattern: '^(.*a)*$', mode: search");
    kit_reward_hostile ("pattern: '(\\d+)', mode: capture");
}
static void test_allocations (void)
{
    kit_reward_allocations ("pattern: 'x(\\d+)', mode: capture, match: 2", &(KitAnswer){.completion = "x42"});
}

CHECK_MAIN ("algorithms.reward_regex", T (test_modes), T (test_bounds), T (test_refusals), T (test_hostile), T (test_allocations))
