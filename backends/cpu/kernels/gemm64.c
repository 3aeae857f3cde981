/* SPDX-License-Identifier: Apache-2.0 */
/* gemm64.c: the small product inside attention: tiles of up to 6 rows × 64 columns held in registers, each element summed over j in order. */
#include "attention.h"

#define TILE(M)                                                                                                                            \
    static void tile_##M (int64_t d, const float *a, int64_t am, int64_t ad, const float *b, int64_t ldb, float *c, int64_t ldc, int add)  \
    {                                                                                                                                      \
        vf sum[M][4];                                                                                                                      \
        for (int i = 0; i < M; i++)                                                                                                        \
            for (int k = 0; k < 4; k++)                                                                                                    \
                sum[i][k] = add ? load_f32 (c + i * ldc + k * LANES) : splat (0);                                                          \
        for (int64_t j = 0; j < d; j++) {                                                                                                  \
            const float *row = b + j * ldb;                                                                                                \
            vf b0 = load_f32 (row), b1 = load_f32 (row + 16), b2 = load_f32 (row + 32), b3 = load_f32 (row + 48);                          \
            for (int i = 0; i < M; i++) {                                                                                                  \
                vf x = splat (a[i * am + j * ad]);                                                                                         \
                sum[i][0] += x * b0;                                                                                                       \
                sum[i][1] += x * b1;                                                                                                       \
                sum[i][2] += x * b2;                                                                                                       \
                sum[i][3] += x * b3;                                                                                                       \
            }                                                                                                                              \
        }                                                                                                                                  \
        for (int i = 0; i < M; i++)                                                                                                        \
            for (int k = 0; k < 4; k++)                                                                                                    \
                store_f32 (c + i * ldc + k * LANES, sum[i][k]);                                                                            \
    }
TILE (1)
TILE (2)
TILE (3)
TILE (4)
TILE (5)
TILE (6)

void ISA_NAME (gemm64) (int64_t m, int64_t n, int64_t d, const float *a, int64_t am, int64_t ad, const float *b, int64_t ldb, float *c,
                        int64_t ldc, int add)
{
    static void (*const tiles[]) (int64_t, const float *, int64_t, int64_t, const float *, int64_t, float *, int64_t,
                                  int) = {NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
    for (int64_t col = 0; col < n; col += 64)
        for (int64_t i = 0; i < m; i += 6) {
            int64_t rows = m - i < 6 ? m - i : 6;
            tiles[rows](d, a + i * am, am, ad, b + col, ldb, c + i * ldc + col, ldc, add);
        }
}
