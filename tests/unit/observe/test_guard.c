/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/guard.h"

#include "check.h"
#include "observe/pace.h"

static void test_one_nan_costs_one_step (void)
{
    static const double bad[][2] = {{NAN, 1}, {INFINITY, 1}, {-INFINITY, 1}, {1, NAN}, {1, INFINITY}, {NAN, NAN}};
    for (size_t i = 0; i < 6; i++) {
        DpsGuard g = DPS_GUARD_INIT;
        CU_ASSERT_EQUAL (dps_guard_judge (&g, 2, 1), DPS_GUARD_APPLY);
        CU_ASSERT_EQUAL (dps_guard_judge (&g, bad[i][0], bad[i][1]), DPS_GUARD_SKIP);
        for (int k = 0; k < 200; k++)
            CU_ASSERT_EQUAL (dps_guard_judge (&g, 2, 1), DPS_GUARD_APPLY);
        CU_ASSERT_EQUAL (g.skipped, 1);
    }
}

static void test_three_in_a_row_roll_back_and_it_ends (void)
{
    DpsGuard g = DPS_GUARD_INIT, saved = DPS_GUARD_INIT;
    for (uint32_t round = 1; round <= 4; round++) {
        CU_ASSERT_EQUAL (dps_guard_judge (&g, 1, 1), DPS_GUARD_APPLY);
        CU_ASSERT_EQUAL (dps_guard_judge (&g, NAN, 1), DPS_GUARD_SKIP);
        CU_ASSERT_EQUAL (dps_guard_judge (&g, NAN, 1), DPS_GUARD_SKIP);
        CU_ASSERT_EQUAL (dps_guard_judge (&g, NAN, 1), round <= 3 ? DPS_GUARD_ROLLBACK : DPS_GUARD_GIVE_UP);
        g = dps_guard_after_rollback (&g, &saved);
        CU_ASSERT_EQUAL (g.skipped, 3 * round);
        CU_ASSERT_EQUAL (g.rollbacks, round);
    }
    dps_guard_progress (&g);
    CU_ASSERT_EQUAL (g.rollbacks, 0);
    CU_ASSERT_EQUAL (g.total_rollbacks, 4);
}

static void test_two_bad_and_a_good_one_do_not_add_up (void)
{
    DpsGuard g = DPS_GUARD_INIT;
    for (int k = 0; k < 10; k++) {
        CU_ASSERT_EQUAL (dps_guard_judge (&g, NAN, 1), DPS_GUARD_SKIP);
        CU_ASSERT_EQUAL (dps_guard_judge (&g, NAN, 1), DPS_GUARD_SKIP);
        CU_ASSERT_EQUAL (dps_guard_judge (&g, 1, 1), DPS_GUARD_APPLY);
    }
}

static void test_state_survives_a_checkpoint (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsGuard g = DPS_GUARD_INIT, again;
    dps_guard_judge (&g, NAN, 1);
    dps_guard_judge (&g, NAN, 1);
    json_t *j = dps_guard_json (&g);
    CHECK_OK (dps_guard_from_json (j, &again, &err));
    json_decref (j);
    CU_ASSERT_EQUAL (memcmp (&g, &again, sizeof g), 0);
    CU_ASSERT_EQUAL (dps_guard_judge (&again, NAN, 1), DPS_GUARD_ROLLBACK);
}

static void test_bad_states_are_refused (void)
{
    static const char *const cases[][2] = {
        {"{}", "in_a_row"},
        {"[]", "in_a_row"},
        {"{\"in_a_row\": -1}", "in_a_row"},
        {"{\"in_a_row\": 0, \"max_in_a_row\": 0}", "max_in_a_row"},
        {"{\"in_a_row\": 0, \"max_in_a_row\": 3, \"max_rollbacks\": 3000000000}", "max_rollbacks"},
        {"{\"in_a_row\": 0, \"max_in_a_row\": 3, \"max_rollbacks\": 3, \"rollbacks\": 0.5}", "rollbacks"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsGuard g;
        json_t *j = json_loads (cases[i][0], 0, NULL);
        CHECK_FAILS (dps_guard_from_json (j, &g, &err), DPS_ERR_FORMAT, cases[i][1]);
        json_decref (j);
    }
}

static void test_pace (void)
{
    DpsPace p = {0};
    char text[60];
    dps_pace_text (&p, 10, text, sizeof text);
    CHECK_STR (text, "");
    CU_ASSERT (dps_pace_left (&p, 10) < 0);
    dps_pace_add (&p, 2, 600); /* one measured step is the whole estimate, not a twentieth of it */
    CHECK_NEAR (dps_pace_rate (&p), 300, 1e-9);
    CHECK_NEAR (dps_pace_left (&p, 10), 20, 1e-9);
    for (int k = 0; k < 400; k++)
        dps_pace_add (&p, 1, 312);
    CHECK_NEAR (dps_pace_rate (&p), 312, 1e-6);
    dps_pace_text (&p, 130, text, sizeof text);
    CHECK_STR (text, "312 tokens/s, 2:10 left");
    dps_pace_add (&p, NAN, 1);
    dps_pace_add (&p, -1, 1);
    CHECK_NEAR (dps_pace_rate (&p), 312, 1e-6);
}

static void test_durations (void)
{
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0, "0:00"},           {7.4, "0:07"}, {754, "12:34"}, {11100, "3:05:00"},
                 {183900, "2 d 03:05"}, {-1, "?"},     {NAN, "?"},     {1e300, "?"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[40];
        dps_duration_text (cases[i].seconds, text, sizeof text);
        CHECK_STR (text, cases[i].text);
    }
}

CHECK_MAIN ("observe.guard", T (test_one_nan_costs_one_step), T (test_three_in_a_row_roll_back_and_it_ends),
            T (test_two_bad_and_a_good_one_do_not_add_up), T (test_state_survives_a_checkpoint), T (test_bad_states_are_refused),
            T (test_pace), T (test_durations))
