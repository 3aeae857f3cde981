/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng.h: counter-based random numbers. A draw is a pure function of (seed, stream, index): nothing to save, nothing shared,
 * the same for any thread count or batch. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011
 * (Philox4x32-10).
 */
#ifndef DPS_BASE_RNG_H
#define DPS_BASE_RNG_H

#include <stdint.h>

/** Four uniform 32-bit words for counter (stream, index) under key seed. [any] */
static inline void dps_philox (uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/** One uniform 64-bit word. [any] */
uint64_t dps_rng_u64 (uint64_t seed, uint64_t stream, uint64_t index);
/** Uniform in [0, 1), 53 bits. [any] */
double dps_rng_uniform (uint64_t seed, uint64_t stream, uint64_t index);
/** Standard normal (Box-Muller on one counter). [any] */
double dps_rng_normal (uint64_t seed, uint64_t stream, uint64_t index);
/** Uniform integer in [0, n), n ≥ 1, without modulo bias beyond 2^-64·n. [any] */
uint64_t dps_rng_below (uint64_t seed, uint64_t stream, uint64_t index, uint64_t n);
/** A stream number for a name ("data.shuffle", "lora.init" …), so that users of one seed never share draws. [any] */
uint64_t dps_rng_stream (const char *name);

#endif
