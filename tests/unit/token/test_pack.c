/* SPDX-License-Identifier: Apache-2.0 */
/* Best-fit decreasing against a plain quadratic version of it, over many sizes. */
#include "base/mem.h"
#include "base/rng.h"
#include "check.h"
#include "token/pack.h"

enum { MAX_ITEMS = 600 };
static DpsError err = DPS_ERROR_INIT;

static size_t pack_plainly (const uint32_t *lengths, size_t n, uint32_t capacity, uint32_t *bin)
{
    uint32_t room[MAX_ITEMS], stamp[MAX_ITEMS], clock = 0;
    size_t bins = 0;
    char done[MAX_ITEMS] = {0};
    for (size_t k = 0; k < n; k++) {
        size_t longest = n;
        for (size_t i = 0; i < n; i++)
            if (!done[i] && (longest == n ||
                             (lengths[i] < capacity ? lengths[i] : capacity) > (lengths[longest] < capacity ? lengths[longest] : capacity)))
                longest = i;
        uint32_t len = lengths[longest] < capacity ? lengths[longest] : capacity;
        size_t best = bins;
        for (size_t b = 0; b < bins; b++) /* the fullest that fits; among equals the one touched last */
            if (room[b] >= len && (best == bins || room[b] < room[best] || (room[b] == room[best] && stamp[b] > stamp[best])))
                best = b;
        if (best == bins)
            room[bins++] = capacity;
        room[best] -= len;
        stamp[best] = ++clock;
        bin[longest] = (uint32_t)best;
        done[longest] = 1;
    }
    return bins;
}

static void check_case (uint64_t seed, size_t n, uint32_t capacity)
{
    uint32_t lengths[MAX_ITEMS] = {0}, got[MAX_ITEMS], want[MAX_ITEMS];
    size_t bins;
    for (size_t i = 0; i < n; i++)
        lengths[i] = (uint32_t)(dps_rng_uniform (seed, 1, i) * 1.2 * capacity);
    CHECK_OK (dps_pack_bfd (lengths, n, capacity, got, &bins, &err));
    CU_ASSERT_EQUAL (bins, pack_plainly (lengths, n, capacity, want));
    for (size_t i = 0; i < n; i++)
        CU_ASSERT_EQUAL (got[i], want[i]);
}

static void test_against_plain (void)
{
    static const uint32_t capacities[] = {1, 7, 63, 64, 65, 512, 1000, 4096, 5000, 300000};
    for (uint64_t seed = 0; seed < 6; seed++)
        for (size_t c = 0; c < sizeof capacities / sizeof *capacities; c++)
            check_case (seed, seed == 0 ? 1 : (size_t)(37 * seed * (c + 1) % MAX_ITEMS), capacities[c]);
}

static void test_edges (void)
{
    uint32_t bins_of[2], lengths[2] = {5, 5};
    size_t bins;
    CHECK_OK (dps_pack_bfd (lengths, 0, 10, bins_of, &bins, &err));
    CU_ASSERT_EQUAL (bins, 0);
    CHECK_OK (dps_pack_bfd (lengths, 2, 10, bins_of, &bins, &err));
    CU_ASSERT_EQUAL (bins, 1);
    dps_mem_fail_at (1);
    CHECK_FAILS (dps_pack_bfd (lengths, 2, 10, bins_of, &bins, &err), DPS_ERR_NOMEM, "out of memory");
    dps_mem_fail_at (0);
}

CHECK_MAIN ("packing", T (test_against_plain), T (test_edges))
