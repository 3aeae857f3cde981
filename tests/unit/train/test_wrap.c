/* SPDX-License-Identifier: Apache-2.0 */
/* Rows laid end to end and cut: every token is in one place once, in order, whatever the rows' lengths and the cut. */
#include "base/rng.h"
#include "check.h"
#include "train/wrap.h"

static void test_every_token_once (void)
{
    DpsError err = DPS_ERROR_INIT;
    for (uint64_t seed = 0; seed < 40; seed++) {
        uint32_t tokens[50];
        const uint64_t n = 1 + seed % 50, length = 1 + seed * 7 % 23;
        uint64_t total = 0, at_row = 0, at_token = 0;
        DpsWrap w;
        for (uint64_t k = 0; k < n; k++)
            total += tokens[k] = (uint32_t)(dps_rng_uniform (seed, 1, k) * 12); /* rows without a token too */
        tokens[n - 1] += total == 0;
        total += total == 0;
        CHECK_OK (dps_wrap_make (3, tokens, n, length, &w, &err));
        CU_ASSERT_EQUAL (w.n, (total + length - 1) / length);
        for (uint64_t p = 0; p < w.n; p++) {
            uint64_t row, skip, size = dps_wrap_place (&w, p, &row, &skip);
            while (at_token == tokens[at_row]) { /* the next token there is */
                at_row++;
                at_token = 0;
            }
            CU_ASSERT (row == at_row && skip == at_token && size == (p + 1 < w.n ? length : total - p * length));
            for (uint64_t i = 0; i < size; i++, at_token++)
                while (at_token == tokens[at_row]) {
                    at_row++;
                    at_token = 0;
                }
        }
        CU_ASSERT_EQUAL (w.ends[n - 1], total);
        dps_wrap_free (&w);
    }
}

static void test_no_tokens (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsWrap w;
    CHECK_FAILS (dps_wrap_make (0, (uint32_t[]){0, 0}, 2, 8, &w, &err), DPS_ERR_DATA, "the rows have no token");
}

static void test_parts_are_joined (void)
{
    DpsError err = DPS_ERROR_INIT;
    const int32_t ids[] = {1, 2, 3, 4};
    const float weights[] = {0, 0, 1, 0.5f};
    const DpsSequence weighed = {.ids = ids, .weights = weights, .n = 4}, plain = {.ids = ids, .n = 4};
    DpsPlace p = {.sequences = dps_calloc (1, sizeof *p.sequences), .n = 1};
    CHECK_OK (dps_wrap_append (&p, &weighed, 1, 5, &err));
    CHECK_OK (dps_wrap_append (&p, &plain, 0, 5, &err));
    CU_ASSERT_EQUAL_FATAL (p.sequences->n, 5);
    static const int32_t want[] = {2, 3, 4, 1, 2};
    static const float want_weights[] = {0, 1, 0.5f, 0, 1};
    for (int i = 0; i < 5; i++)
        CU_ASSERT (p.sequences->ids[i] == want[i] && p.sequences->weights[i] == want_weights[i]);
    dps_place_free (&p);
}

CHECK_MAIN ("train.wrap", T (test_every_token_once), T (test_no_tokens), T (test_parts_are_joined))
