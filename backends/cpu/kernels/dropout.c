/* SPDX-License-Identifier: Apache-2.0 */
/* dropout.c: ops.h's draws, of the host's own generator (base/rng.h: Philox4x32-10), a register of them at a time: the same bits as one by one. */
#include "ops.h"

/* Counters stand in the low halves of 64 bits; what the high ones hold is never looked at. */
enum { WIDE = LANES / 2, DRAWS = 2 * WIDE /* two registers: the products of one wait for nothing of the other */ };
typedef uint64_t vq __attribute__ ((vector_size (LANES * 4)));

INLINE vq low_product (vq a, vq b)
{
#if defined(__AVX512F__)
    return (vq)_mm512_mul_epu32 ((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (vq)_mm256_mul_epu32 ((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (vq)_mm_mul_epu32 ((__m128i)a, (__m128i)b);
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

/* dps_rng_u64 of DRAWS indices from `index` on. */
INLINE void draw (uint64_t seed, uint64_t stream, uint64_t index, vq out[2])
{
    const vq m0 = (vq){0} + 0xD2511F53u, m1 = (vq){0} + 0xCD9E8D57u;
    uint64_t k0 = (uint32_t)seed, k1 = seed >> 32;
    uint64_t indices[DRAWS];
    vq c0[2], c1[2], c2[2], c3[2];
    for (int l = 0; l < DRAWS; l++)
        indices[l] = index + (uint64_t)l;
    memcpy (c0, indices, sizeof c0);
    for (int u = 0; u < 2; u++) {
        c1[u] = c0[u] >> 32;
        c2[u] = (vq){0} + stream;
        c3[u] = c2[u] >> 32;
    }
    for (int round = 0; round < 10; round++) {
        for (int u = 0; u < 2; u++) {
            vq p0 = low_product (c0[u], m0), p1 = low_product (c2[u], m1);
            c0[u] = (p1 >> 32) ^ c1[u] ^ k0;
            c1[u] = p1;
            c2[u] = (p0 >> 32) ^ c3[u] ^ k1;
            c3[u] = p0;
        }
        k0 = (uint32_t)(k0 + 0x9E3779B9u);
        k1 = (uint32_t)(k1 + 0xBB67AE85u);
    }
    for (int u = 0; u < 2; u++)
        out[u] = c1[u] << 32 | (c0[u] & 0xffffffffu);
}

/* kept: [D], scale or 0. below: how many of the 2^53 draws are dropped. */
static void dropout_row (uint64_t seed, uint64_t site, uint64_t key, uint64_t below, float scale, int64_t D, float *kept)
{
    for (int64_t d = 0; d < D; d += DRAWS) {
        vq u[2];
        draw (seed, site, key + (uint64_t)d, u);
        for (int64_t l = 0; l < DRAWS; l++)
            kept[d + l] = u[l / WIDE][l % WIDE] >> 11 >= below ? scale : 0;
    }
}

DpsStatus ISA_NAME (cpu_dropout) (CpuCall *c)
{
    enum { SPAN = 256 }; /* columns whose draws are kept at a time */
    const DpsView *x = cpu_in (c, 0), *keys = cpu_in (c, 1), *y = cpu_out (c, 0);
    int64_t N = cpu_rows (x), D = cpu_cols (x);
    double p = cpu_f (c, 0);
    uint64_t seed = (uint64_t)cpu_i (c, 1), site = (uint64_t)cpu_i (c, 2);
    if (!(p >= 0 && p < 1))
        return dps_fail (c->err, DPS_ERR_INVALID, "cpu: dropout: p is %g, expected 0 ≤ p < 1", p);
    float scale = (float)(1 / (1 - p));
    uint64_t below = (uint64_t)ceil (p * 0x1p53); /* a draw, u of 2^53, is kept when u ≥ p·2^53 */
    PARALLEL_FOR (row, N, 8 * N * D)
    {
        uint64_t key = (uint64_t)((const int64_t *)keys->host)[row] << 20;
        for (int64_t first = 0; first < D; first += SPAN) {
            float kept[SPAN];
            int64_t end = D - first < SPAN ? D - first : SPAN;
            dropout_row (seed, site, key + (uint64_t)first, below, scale, end, kept);
            for (int64_t d = 0; d < end; d += LANES) {
                int64_t n = end - d < LANES ? end - d : LANES, i = row * D + first + d;
                store_n (y->host, i, IS_BF (y), load_n (x->host, i, IS_BF (x), n) * load_f32 (kept + d), n);
            }
        }
    }
    return DPS_OK;
}
