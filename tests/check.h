/* SPDX-License-Identifier: Apache-2.0 */
/* check.h: what every CUnit program of the project shares: a main, and checks that print what they saw. */
#ifndef DPS_TESTS_CHECK_H
#define DPS_TESTS_CHECK_H

#include <CUnit/Basic.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

/** The call must return DPS_OK; its error is printed otherwise. `err` must be in scope. */
#define CHECK_OK(call)                                                                                                                     \
    do {                                                                                                                                   \
        DpsStatus check_st_ = (call);                                                                                                      \
        if (check_st_ != DPS_OK)                                                                                                           \
            printf ("\n    %s:%d: %s: %s\n", __FILE__, __LINE__, dps_status_name (check_st_), err.msg);                                    \
        CU_ASSERT_EQUAL_FATAL (check_st_, DPS_OK);                                                                                         \
    } while (0)

/** The call must fail with `code`, and its message must contain `text`. */
#define CHECK_FAILS(call, expected, text)                                                                                                  \
    do {                                                                                                                                   \
        DpsStatus check_st_ = (call);                                                                                                      \
        if (check_st_ != (expected) || !strstr (err.msg, (text)))                                                                          \
            printf ("\n    %s:%d: got %s \"%s\", expected %s with \"%s\"\n", __FILE__, __LINE__, dps_status_name (check_st_), err.msg,     \
                    dps_status_name (expected), (text));                                                                                   \
        CU_ASSERT_EQUAL (check_st_, (expected));                                                                                           \
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, (text)));                                                                                 \
    } while (0)

#define CHECK_STR(got, want)                                                                                                               \
    do {                                                                                                                                   \
        const char *check_got_ = (got), *check_want_ = (want);                                                                             \
        if (!check_got_ || strcmp (check_got_, check_want_))                                                                               \
            printf ("\n    %s:%d: got \"%s\", expected \"%s\"\n", __FILE__, __LINE__, check_got_ ? check_got_ : "(null)", check_want_);    \
        CU_ASSERT_PTR_NOT_NULL_FATAL (check_got_);                                                                                         \
        CU_ASSERT_STRING_EQUAL (check_got_, check_want_);                                                                                  \
    } while (0)

#define CHECK_NEAR(got, want, tolerance)                                                                                                   \
    do {                                                                                                                                   \
        double check_got_ = (got), check_want_ = (want);                                                                                   \
        if (!(fabs (check_got_ - check_want_) <= (tolerance)))                                                                             \
            printf ("\n    %s:%d: got %.9g, expected %.9g ± %g\n", __FILE__, __LINE__, check_got_, check_want_, (double)(tolerance));      \
        CU_ASSERT (fabs (check_got_ - check_want_) <= (tolerance));                                                                        \
    } while (0)

/** A function that runs the tests and returns main's exit status: CHECK_SUITE (run, "suite", T (test_a), T (test_b)) */
#define T(f)                                                                                                                               \
    {                                                                                                                                      \
#f, f                                                                                                                              \
    }
#define CHECK_SUITE(function, suite_name, ...)                                                                                             \
    static int function (void)                                                                                                             \
    {                                                                                                                                      \
        static CU_TestInfo tests[] = {__VA_ARGS__, CU_TEST_INFO_NULL};                                                                     \
        static CU_SuiteInfo suites[] = {{suite_name, NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};                                  \
        if (CU_initialize_registry () != CUE_SUCCESS || CU_register_suites (suites) != CUE_SUCCESS)                                        \
            return 2;                                                                                                                      \
        CU_basic_set_mode (CU_BRM_VERBOSE);                                                                                                \
        CU_basic_run_tests ();                                                                                                             \
        unsigned failed = CU_get_number_of_failures ();                                                                                    \
        CU_cleanup_registry ();                                                                                                            \
        return failed ? 1 : 0;                                                                                                             \
    }

/** main of a CUnit program: CHECK_MAIN ("suite", T (test_a), T (test_b)) */
#define CHECK_MAIN(suite_name, ...)                                                                                                        \
    CHECK_SUITE (check_run, suite_name, __VA_ARGS__)                                                                                       \
    int main (void) { return check_run (); }

#endif
