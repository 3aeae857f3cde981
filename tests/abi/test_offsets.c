/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of the public structs and the numbers of the public constants are those that were reviewed: checked by compiling. */
#if UINTPTR_MAX == UINT64_MAX
#include "abi/offsets.h"
#endif
#include "check.h"
#include "diapason/diapason.h"

static void test_tables_begin_with_their_size (void)
{
    CU_ASSERT_EQUAL (offsetof (DpsBackend, size), 0);
    CU_ASSERT_EQUAL (offsetof (DpsObjective, size), 0);
    CU_ASSERT_EQUAL (offsetof (DpsAdapter, size), 0);
    CU_ASSERT_EQUAL (offsetof (DpsFormat, size), 0);
    CU_ASSERT_EQUAL (offsetof (DpsReward, size), 0);
    CU_ASSERT_EQUAL (offsetof (DpsCollective, size), 0);
    CU_ASSERT_EQUAL (offsetof (DpsPack, size), 0);
    CU_ASSERT_EQUAL (offsetof (DpsHost, size), 0);
}

static void test_copy_takes_what_both_know (void)
{
    struct Old {
        size_t size;
        void *a;
    } old = {sizeof old, &old};
    struct New {
        size_t size;
        void *a, *b;
    } newer = {sizeof newer, &newer, &newer}, grown;
    dps_table_copy (&grown, sizeof grown, &old);
    CU_ASSERT (grown.size == sizeof grown && grown.a == &old && !grown.b);
    dps_table_copy (&old, sizeof old, &newer);
    CU_ASSERT (old.size == sizeof old && old.a == &newer);
}

CHECK_MAIN ("abi.offsets", T (test_tables_begin_with_their_size), T (test_copy_takes_what_both_know))
