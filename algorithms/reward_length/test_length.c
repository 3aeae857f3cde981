/* SPDX-License-Identifier: Apache-2.0 */
/* reward length: the band and its edges, the three units, what open refuses, hostile bytes, failed allocations. */
#include "reward_kit.h"

static double of (const char *args, const char *completion, uint64_t n_tokens)
{
    void *self = kit_reward_open (args);
    double value = kit_reward_one (self, &(KitAnswer){.completion = completion, .n_tokens = n_tokens});
    kit_reward ()->close (self);
    return value;
}

static void test_band (void)
{
    static const struct {
        uint64_t n;
        double want;
    } cases[] = {{0, 0}, {5, 0}, {6, 0.2}, {9, 0.8}, {10, 1}, {15, 1}, {20, 1}, {21, 0.8}, {25, 0}, {1000000, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_NEAR (of ("min: 10, max: 20, soft: 5", "x", cases[i].n), cases[i].want, 1e-12);
    CHECK_NEAR (of ("max: 20", "x", 21), 0, 0);
    CHECK_NEAR (of ("max: 20", "x", 20), 1, 0);
    CHECK_NEAR (of ("min: 20", "x", 1000000), 1, 0);
}

static void test_units (void)
{
    CHECK_NEAR (of ("min: 5, max: 5, unit: characters", "h\xc3\xa9llo", 99), 1, 0);
    CHECK_NEAR (of ("min: 3, max: 3, unit: characters",
                    "\xff\xfe"
                    "a",
                    99),
                1, 0);
    CHECK_NEAR (of ("min: 3, max: 3, unit: words", " un  deux\n\ttrois ", 99), 1, 0);
    CHECK_NEAR (of ("max: 1, unit: words", "   ", 99), 1, 0);
}

static void test_refusals (void)
{
    kit_reward_refuses ("min: 9, max: 3", "min is 9 and max 3");
    kit_reward_refuses ("soft: 3", "neither min nor max is given");
    kit_reward_refuses ("min: -1", "min is -1, expected 0 to");
    kit_reward_refuses ("max: 5, unit: lines", "expected one of tokens|characters|words");
    kit_reward_refuses ("mxa: 5", "'mxa' is not a parameter of reward length; did you mean 'max'?");
}

static void test_hostile (void) { kit_reward_hostile ("max: 100, unit: words"); }
static void test_allocations (void) { kit_reward_allocations ("max: 1, soft: 30", &(KitAnswer){.completion = "abc", .n_tokens = 3}); }

CHECK_MAIN ("algorithms.reward_length", T (test_band), T (test_units), T (test_refusals), T (test_hostile), T (test_allocations))
