/* SPDX-License-Identifier: Apache-2.0 */
/* nibbles.c: codes of 4 bits as their levels (DpsNibbles of base/quant.h): a register of codes is one shuffle of the sixteen. */
#include "ops.h"

typedef uint64_t vq __attribute__ ((vector_size (LANES * 4)));

/* Lane l's code is in this word of eight codes, so far up: little-endian bytes, high halves first. */
#define WORD(l, x)  ((uint32_t)((l) / 8 + (x)))
#define SHIFT(l, x) ((uint32_t)(((l) ^ 1) % 8 * 4 + (x)))

void ISA_NAME (cpu_nibbles_run) (const unsigned char *codes, const float level[16], int64_t n, float *out)
{
    int64_t i = 0;
#if CPU_LANES > 4
    const vu shift = EACH_LANE (SHIFT, 0);
    const vf low = load_f32 (level), high = load_f32 (level + 16 - LANES);
    for (; i + LANES <= n; i += LANES) {
        uint64_t bytes = 0;
        memcpy (&bytes, codes + i / 2, LANES / 2);
        vu word = __builtin_shuffle ((vu)(bytes - (vq){0}), (vu)EACH_LANE (WORD, 0));
        store_f32 (out + i, __builtin_shuffle (low, high, (vi)(word >> shift & 15)));
    }
#endif
    for (; i < n; i++)
        out[i] = level[i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4];
}
