/* SPDX-License-Identifier: Apache-2.0 */
/*
 * product.cl: y (M,N) = alpha·Σ_k a[m,k]·b[n,k] + bias + c, in any orientation: element (m,k) of a is at m·a_m + k·a_k, (n,k) of b at n·b_n + k·b_k.
 * A group of 16 × 16 work-items does a tile of 64 × 64, 16 of the sum at a time in local memory; groups[0] over N, groups[1] over M.
 * Exact: an element's sum is a chain of fma over each 16 of k and the sum of these in order, whatever M and N are: DPS_DETERMINISM_BATCH. One chain
 * over all of k lost a digit of the head's entropy.
 * dps_product_finish is its last step alone, for products made elsewhere: flat over M·N.
 *
 * A product of int8 codes made elsewhere, exact sums of i32, is dps_product_encode (one group a row of a), that product, dps_product_rescale (flat).
 * A row has one scale, its largest magnitude; codes are rounded to nearest, ties to even, as those of bitsandbytes (LLM.int8) and base/quant_encode.c.
 * A row with a NaN or an infinity has scale NaN. LLM.int8's outliers, columns kept out of the codes, are not done.
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

/* To even; |v| < 2²². */
FN float nearest (float v) { return v + 12582912.0f - 12582912.0f; }

KERNEL (dps_product_encode) (IN (a), OUT_OF (i8, codes), OUT_OF (float, scales), i64 K)
{
    LOCAL float tmp[DPS_LANES];
    const i64 first = GROUP (0) * K;
    float largest = 0, poison = 0; /* poison: 0, or NaN */
    for (i64 k = LANE; k < K; k += DPS_LANES) {
        const float v = LOAD (a, first + k);
        largest = FMAX (largest, FABS (v));
        poison += v * 0;
    }
    largest = dps_lanes_max (largest, tmp);
    largest += dps_lanes_sum (poison, tmp);
    for (i64 k = LANE; k < K; k += DPS_LANES)
        AT (codes, first + k) = largest > 0 ? (i8)nearest (LOAD (a, first + k) / largest * 127) : 0;
    if (LANE == 0)
        AT (scales, GROUP (0)) = largest;
}

/* b_scales: of the rows of the weight from `first` on. */
KERNEL (dps_product_rescale)
(IN_OF (i32, sum), IN_OF (float, a_scales), IN_OF (float, b_scales), i64 first, float alpha, IN (bias), IN (c), OUT (y), i64 M, i64 N,
 i64 ldy)
{
    for (i64 i = FIRST; i < LAST (M * N); i += STEP) {
        const i64 m = i / N, n = i % N, at = m * ldy + n;
        const float v = (float)AT (sum, i) * AT (a_scales, m) * (AT (b_scales, first + n) * (1.0f / 16129)); /* 127² */
        STORE (y, at, dps_product_end (alpha * v, bias, bias_off, bias_t, c, c_off, c_t, n, at));
    }
}
