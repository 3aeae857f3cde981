/* SPDX-License-Identifier: Apache-2.0 */
/* suites.c: every suite_NAME.c of this folder; CMake writes the list. */
#include "check/check.h"

#define SUITE(name) extern const CheckSuite check_suite_##name;
#include "suites.inc"
#undef SUITE

const CheckSuite *const check_suites[] = {
#define SUITE(name) &check_suite_##name,
#include "suites.inc"
#undef SUITE
    NULL};
