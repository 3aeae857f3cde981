/* SPDX-License-Identifier: Apache-2.0 */
/* tile.c: from a matrix product's f32 sums to its output: y = alpha·sum (+ bias) (+ c), rounded once. */
#include "ops.h"

INLINE void finish_row (const CpuTile *t, int64_t row, int c_bf, int y_bf)
{
    const float *sum = t->sum + row * t->cols;
    for (int64_t i = 0; i < t->cols; i += LANES) {
        int64_t n = t->cols - i;
        vf v = load_n (sum, i, 0, n) * splat (t->alpha);
        if (t->bias)
            v += load_n (t->bias, i, t->bias_bf16, n);
        if (t->c)
            v += load_n (t->c, row * t->ld + i, c_bf, n);
        if (n >= LANES)
            store (t->y, row * t->ld + i, y_bf, v);
        else
            store_n (t->y, row * t->ld + i, y_bf, v, n);
    }
}

void ISA_NAME (cpu_tile_finish) (const CpuTile *t)
{
    for (int64_t row = 0; row < t->rows; row++)
        if (t->c_bf16)
            t->y_bf16 ? finish_row (t, row, 1, 1) : finish_row (t, row, 1, 0);
        else
            t->y_bf16 ? finish_row (t, row, 0, 1) : finish_row (t, row, 0, 0);
}
