/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collective.cl: the sum of one array of each rank, x (ranks, n), in rank order and f32, stored once: y (n). Launched flat over n. Exact: the same
 * bits on every rank and every run.
 */
KERNEL (dps_sum_ranks) (IN (x), OUT (y), i64 n, i64 ranks)
{
    for (i64 i = FIRST; i < LAST (n); i += STEP) {
        float sum = LOAD (x, i);
        for (i64 r = 1; r < ranks; r++)
            sum += LOAD (x, r * n + i);
        STORE (y, i, sum);
    }
}
