/* SPDX-License-Identifier: Apache-2.0 */
#include "data/order.h"

#include "base/rng.h"

enum { ROUNDS = 6 };

uint64_t dps_order_permute (uint64_t seed, uint64_t stream, uint64_t epoch, uint64_t n, uint64_t i)
{
    unsigned half = 1;
    while (half < 31 && (1ull << 2 * half) < n)
        half++;
    const uint64_t mask = (1ull << half) - 1, key = dps_rng_u64 (seed, stream, epoch);
    if (n < 2)
        return 0;
    /* The domain is less than four times n, so a walk is short. */
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint64_t next = left ^ (dps_rng_u64 (key, round, right) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}
