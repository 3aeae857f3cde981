/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repack.c: a rectangle of a weight into a packed panel. Where columns of B lie side by side, they are written a register at a time: as they
 * lie in a row of the weight, or, where B's columns are its rows, through a transposed square of registers. What is left over goes one by one.
 */
#include "ops.h"

static inline void one (const CpuRectangle *r, int64_t i, int64_t k)
{
    int64_t at = r->row_offset[i] + r->column_offset[k];
    vf v = load_n (r->from, i * r->ld + k, r->from_bf16, 1);
    store_n (r->panel, at, r->to_bf16, v, 1);
}

/* LANES columns of B in row k, or with step 2 in rows k and k + 1, which alternate. */
INLINE void put (const CpuRectangle *r, int64_t at, vf even, vf odd, const int step)
{
    if (step == 1) {
        store (r->panel, at, r->to_bf16, even);
        return;
    }
    vu both = bf16_bits (even) | bf16_bits (odd) << 16;
    memcpy ((uint16_t *)r->panel + at, &both, sizeof both);
}

/* B's columns are the weight's. */
INLINE void along_rows (const CpuRectangle *r, const int step)
{
    int64_t rows = r->rows / step * step, columns = r->columns / LANES * LANES;
    for (int64_t i = 0; i < rows; i += step)
        for (int64_t k = 0; k < columns; k += LANES)
            put (r, r->row_offset[i] + r->column_offset[k], load (r->from, i * r->ld + k, r->from_bf16),
                 load (r->from, (i + step - 1) * r->ld + k, r->from_bf16), step);
    for (int64_t i = 0; i < r->rows; i++)
        for (int64_t k = i < rows ? columns : 0; k < r->columns; k++)
            one (r, i, k);
}

/* B's columns are the weight's rows. */
INLINE void across_rows (const CpuRectangle *r, const int step)
{
    int64_t rows = r->rows / LANES * LANES, columns = r->columns / LANES * LANES;
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t k = 0; k < columns; k += LANES) {
            vf m[LANES];
#pragma GCC unroll 16
            for (int l = 0; l < LANES; l++)
                m[l] = load (r->from, (i + l) * r->ld + k, r->from_bf16);
            transpose_square (m);
#pragma GCC unroll 16
            for (int l = 0; l < LANES; l += step)
                put (r, r->row_offset[i] + r->column_offset[k + l], m[l], m[l + step - 1], step);
        }
    for (int64_t i = 0; i < r->rows; i++)
        for (int64_t k = i < rows ? columns : 0; k < r->columns; k++)
            one (r, i, k);
}

void ISA_NAME (cpu_repack_run) (const CpuRectangle *r)
{
    if (r->step == 1 && r->across)
        across_rows (r, 1);
    else if (r->step == 1)
        along_rows (r, 1);
    else if (r->step == 2 && r->to_bf16 && r->across)
        across_rows (r, 2);
    else if (r->step == 2 && r->to_bf16)
        along_rows (r, 2);
    else
        for (int64_t i = 0; i < r->rows; i++)
            for (int64_t k = 0; k < r->columns; k++)
                one (r, i, k);
}
