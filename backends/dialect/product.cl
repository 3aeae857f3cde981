/* SPDX-License-Identifier: Apache-2.0 */
/*
 * product.cl: y (M,N) = alpha·Σ_k a[m,k]·b[n,k] + bias + c, in any orientation: element (m,k) of a is at m·a_m + k·a_k, (n,k) of b at n·b_n + k·b_k.
 * A group of 16 × 16 work-items does a tile of 64 × 64, 16 of the sum at a time in local memory; groups[0] over N, groups[1] over M.
 * Exact: an element's sum is a chain of fma over each 16 of k and the sum of these in order, whatever M and N are: DPS_DETERMINISM_BATCH. One chain
 * over all of k lost a digit of the head's entropy.
 * dps_product_finish is its last step alone, for products made elsewhere: flat over M·N.
 */
#define TILE  64
#define DEPTH 16
#define EACH  4 /* TILE / 16 */

FN float dps_product_end (float sum, IN (bias), IN (c), i64 n, i64 at)
{
    if (bias_t != DT_NONE)
        sum += LOAD (bias, n);
    if (c_t != DT_NONE)
        sum += LOAD (c, at);
    return sum;
}

KERNEL (dps_product)
(IN (a), i64 a_m, i64 a_k, IN (b), i64 b_n, i64 b_k, i64 M, i64 N, i64 K, float alpha, IN (bias), IN (c), OUT (y), i64 ldy)
{
    LOCAL float of_a[DEPTH][TILE];
    LOCAL float of_b[DEPTH][TILE];
    i64 m_first = GROUP (1) * TILE, n_first = GROUP (0) * TILE;
    i32 x = LOCAL_ID (0), z = LOCAL_ID (1), lane = z * 16 + x;
    float sum[EACH][EACH], part[EACH][EACH];
    for (i32 i = 0; i < EACH; i++)
        for (i32 j = 0; j < EACH; j++)
            sum[i][j] = 0;
    for (i64 k_first = 0; k_first < K; k_first += DEPTH) {
        for (i32 e = lane; e < DEPTH * TILE; e += 256) {
            i32 k = e % DEPTH, r = e / DEPTH;
            i64 at = k_first + k, m = m_first + r, n = n_first + r;
            of_a[k][r] = m < M && at < K ? LOAD (a, m * a_m + at * a_k) : 0;
            of_b[k][r] = n < N && at < K ? LOAD (b, n * b_n + at * b_k) : 0;
        }
        BARRIER ();
        for (i32 i = 0; i < EACH; i++)
            for (i32 j = 0; j < EACH; j++)
                part[i][j] = 0;
        for (i32 k = 0; k < DEPTH; k++)
            for (i32 i = 0; i < EACH; i++)
                for (i32 j = 0; j < EACH; j++)
                    part[i][j] = FMA (of_a[k][z + 16 * i], of_b[k][x + 16 * j], part[i][j]);
        for (i32 i = 0; i < EACH; i++)
            for (i32 j = 0; j < EACH; j++)
                sum[i][j] += part[i][j];
        BARRIER ();
    }
    for (i32 i = 0; i < EACH; i++)
        for (i32 j = 0; j < EACH; j++) {
            i64 m = m_first + z + 16 * i, n = n_first + x + 16 * j;
            if (m < M && n < N)
                STORE (y, m * ldy + n, dps_product_end (alpha * sum[i][j], bias, bias_off, bias_t, c, c_off, c_t, n, m * ldy + n));
        }
}

KERNEL (dps_product_finish) (IN (sum), IN (bias), IN (c), OUT (y), i64 M, i64 N, i64 ldy)
{
    for (i64 i = FIRST; i < LAST (M * N); i += STEP) {
        i64 n = i % N, at = i / N * ldy + n;
        STORE (y, at, dps_product_end (LOAD (sum, i), bias, bias_off, bias_t, c, c_off, c_t, n, at));
    }
}
