/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rectangles of weights in panels of every kind, element by element, and codes of 4 bits. In registers of 16 lanes, which not every machine has: the compiler takes them
 * apart. The others are the same source, and packed weights go through those of the machine in every test of a product.
 */
#define CPU_ISA   test
#define CPU_LANES 16
#include "backends/cpu/kernels/nibbles.c"
#include "backends/cpu/kernels/repack.c"

#include <stdlib.h>

#include "check.h"

enum { MOST = 70 };

static float as_f32 (const void *p, int64_t i, int bf16)
{
    uint32_t u = bf16 ? (uint32_t)((const uint16_t *)p)[i] << 16 : ((const uint32_t *)p)[i];
    float f;
    memcpy (&f, &u, sizeof f);
    return f;
}

/* Nearest even by the numbers' own order, not by the bits' arithmetic. */
static uint16_t rounded (float f)
{
    uint32_t u;
    memcpy (&u, &f, sizeof u);
    uint16_t down = (uint16_t)(u >> 16);
    if (f != f)
        return down | 64;
    uint32_t rest = u & 0xffff;
    return (uint16_t)(down + (rest > 0x8000 || (rest == 0x8000 && (down & 1))));
}

/* Offsets of a panel B (K,N): columns in strips of 16, `step` apart; with 2 two rows in turn. In other orders, with 0. */
static int64_t lay (int64_t K, int64_t N, int step, int64_t *k_offset, int64_t *n_offset)
{
    int64_t strips = (N + CPU_RUN - 1) / CPU_RUN, pairs = (K + 1) / 2;
    for (int64_t k = 0; k < K; k++)
        k_offset[k] = step == 2 ? k / 2 * 2 * CPU_RUN + k % 2 : step ? k * CPU_RUN : (K - 1 - k) * CPU_RUN;
    for (int64_t n = 0; n < N; n++)
        n_offset[n] = n / CPU_RUN * (step == 2 ? 2 * pairs : K) * CPU_RUN + (step ? n % CPU_RUN * step : CPU_RUN - 1 - n % CPU_RUN);
    return strips * 2 * pairs * CPU_RUN;
}

static void fill_weight (void *w, int64_t n, int bf16)
{
    static const uint32_t odd[] = {0x7fc00001, 0xff800000, 0x7f800000, 0x80000000, 1, 0x7f7fffff, 0x3f808000, 0x3f818000, 0x7f800001};
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = rand () % 9 ? (uint32_t)rand () * 3u ^ (uint32_t)rand () << 13 : odd[rand () % 9];
        if (bf16)
            ((uint16_t *)w)[i] = (uint16_t)(u >> 16);
        else
            ((uint32_t *)w)[i] = u;
    }
}

static int is_there (const CpuRectangle *r, int64_t i, int64_t k)
{
    float v = as_f32 (r->from, i * r->ld + k, r->from_bf16);
    int64_t at = r->row_offset[i] + r->column_offset[k];
    if (r->to_bf16)
        return ((const uint16_t *)r->panel)[at] == rounded (v);
    return !memcmp ((const float *)r->panel + at, &v, sizeof v);
}

static void check_rectangle (int64_t rows, int64_t columns, int step, int across, int from_bf16, int to_bf16)
{
    static uint32_t weight[MOST * (MOST + 3)], panel[2 * (MOST + 16) * (MOST + 16)];
    int64_t k_offset[MOST], n_offset[MOST], K = across ? columns : rows, N = across ? rows : columns;
    int64_t elements = lay (K, N, step, k_offset, n_offset), touched = 0;
    CpuRectangle r = {weight,    columns + 3, rows,   columns, across ? n_offset : k_offset, across ? k_offset : n_offset, panel,
                      from_bf16, to_bf16,     across, step};
    fill_weight (weight, rows * r.ld, from_bf16);
    memset (panel, 0xa5, sizeof panel);
    ISA_NAME (cpu_repack_run) (&r);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++)
            if (!is_there (&r, i, k)) {
                printf ("%lld x %lld, step %d, across %d: (%lld,%lld)\n", (long long)rows, (long long)columns, step, across, (long long)i,
                        (long long)k);
                CU_FAIL_FATAL ("an element is not where it belongs");
            }
    for (int64_t i = 0; i < 2 * elements; i++) /* padding is not written to */
        touched += to_bf16 ? i < elements && ((uint16_t *)panel)[i] != 0xa5a5 : i < elements && panel[i] != 0xa5a5a5a5;
    CU_ASSERT_TRUE (touched <= rows * columns);
}

static void test_every_element_is_where_it_belongs (void)
{
    static const int64_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 47, 48, 70};
    srand (7);
    for (int s = 0; s < 3; s++)
        for (int kind = 0; kind < 8; kind++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
                    if (s < 2 || kind & 4) /* pairs are of bf16 */
                        check_rectangle (sizes[i], sizes[k], s, kind & 1, (kind & 2) / 2, (kind & 4) / 4);
}

static void test_nibbles_are_levels (void)
{
    unsigned char codes[MOST];
    float level[16], got[2 * MOST + 1];
    for (int i = 0; i < MOST; i++)
        codes[i] = (unsigned char)(rand () >> 7);
    for (int i = 0; i < 16; i++)
        level[i] = (float)i + 100;
    for (int first = 0; first < 3; first++)
        for (int n = 0; n <= 2 * (MOST - first); n++) {
            got[n] = -1;
            ISA_NAME (cpu_nibbles_run) (codes + first, level, n, got);
            for (int i = 0; i < n; i++)
                CU_ASSERT_EQUAL (got[i], 100 + (codes[first + i / 2] >> (i % 2 ? 0 : 4) & 15));
            CU_ASSERT_EQUAL (got[n], -1);
        }
}

CHECK_MAIN ("repack", T (test_every_element_is_where_it_belongs), T (test_nibbles_are_levels))
