/* SPDX-License-Identifier: Apache-2.0 */
/* gemm64.c: the small product inside attention: tiles of up to 6 rows held in registers, each element summed over j in order. */
#include "attention.h"

#ifdef __AVX512F__
enum { VECTORS = 4 };
#else
enum { VECTORS = 2 };
#endif
enum { ROWS = 6, WIDTH = VECTORS * LANES };

INLINE void tile (int64_t d, const float *a, int64_t am, int64_t ad, const float *b, int64_t ldb, float *c, int64_t ldc, int add,
                  const int rows)
{
    vf sum[ROWS][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < VECTORS; k++)
            sum[i][k] = add ? load_f32 (c + i * ldc + k * LANES) : splat (0);
    for (int64_t j = 0; j < d; j++) {
        vf x[VECTORS];
        for (int k = 0; k < VECTORS; k++)
            x[k] = load_f32 (b + j * ldb + k * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < VECTORS; k++)
                sum[i][k] += splat (a[i * am + j * ad]) * x[k];
    }
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < VECTORS; k++)
            store_f32 (c + i * ldc + k * LANES, sum[i][k]);
}

void ISA_NAME (gemm64) (int64_t m, int64_t n, int64_t d, const float *a, int64_t am, int64_t ad, const float *b, int64_t ldb, float *c,
                        int64_t ldc, int add)
{
    for (int64_t col = 0; col < n; col += WIDTH) {
        int64_t i = 0;
        for (; m - i >= ROWS; i += ROWS)
            tile (d, a + i * am, am, ad, b + col, ldb, c + i * ldc + col, ldc, add, ROWS);
        for (; m - i >= 2; i += 2)
            tile (d, a + i * am, am, ad, b + col, ldb, c + i * ldc + col, ldc, add, 2);
        for (; i < m; i++)
            tile (d, a + i * am, am, ad, b + col, ldb, c + i * ldc + col, ldc, add, 1);
    }
}
