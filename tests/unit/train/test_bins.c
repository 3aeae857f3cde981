/* SPDX-License-Identifier: Apache-2.0 */
/* Whole rows in places: every row is in one place once, no place is fuller than its length, and rows stay within their window of the epoch. */
#include "base/rng.h"
#include "check.h"
#include "train/bins.h"

enum { WINDOW = 8192, ROWS = 2 * WINDOW + 100, LENGTH = 64 };

static void test_every_row_once (void)
{
    DpsError err = DPS_ERROR_INIT;
    static uint32_t tokens[ROWS];
    static char seen[ROWS];
    uint64_t total = 0, outside = 0, too_full = 0;
    DpsBins b;
    for (uint64_t k = 0; k < ROWS; k++)
        total += tokens[k] = (uint32_t)(dps_rng_uniform (1, 1, k) * LENGTH);
    tokens[5] = 3 * LENGTH;
    CHECK_OK (dps_bins_make (7, tokens, ROWS, LENGTH, &b, &err));
    CU_ASSERT (b.epoch == 7 && b.starts[0] == 0 && b.starts[b.n] == ROWS);
    CU_ASSERT (b.n >= total / LENGTH && b.n < total / LENGTH * 11 / 10);
    for (uint64_t p = 0; p < b.n; p++) {
        uint64_t fill = 0;
        for (uint64_t i = b.starts[p]; i < b.starts[p + 1]; i++) {
            outside += b.rows[i] / WINDOW != b.starts[p] / WINDOW;
            seen[b.rows[i]]++;
            fill += tokens[b.rows[i]];
        }
        too_full += fill > LENGTH && b.starts[p + 1] - b.starts[p] > 1;
    }
    CU_ASSERT (outside == 0 && too_full == 0);
    CU_ASSERT_PTR_NULL (memchr (seen, 0, ROWS));
    CU_ASSERT_PTR_NULL (memchr (seen, 2, ROWS));
    dps_bins_free (&b);
}

CHECK_MAIN ("train: bins", T (test_every_row_once))
