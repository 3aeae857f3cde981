/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"

#include <math.h>

uint64_t dps_rng_u64 (uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t w[4];
    dps_philox (seed, stream, index, w);
    return (uint64_t)w[1] << 32 | w[0];
}

double dps_rng_uniform (uint64_t seed, uint64_t stream, uint64_t index)
{
    return (double)(dps_rng_u64 (seed, stream, index) >> 11) * 0x1p-53;
}

double dps_rng_normal (uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t w[4];
    dps_philox (seed, stream, index, w);
    double u = ((double)(((uint64_t)w[1] << 32 | w[0]) >> 11) + 0.5) * 0x1p-53;
    double v = (double)(((uint64_t)w[3] << 32 | w[2]) >> 11) * 0x1p-53;
    return sqrt (-2.0 * log (u)) * cos (6.283185307179586 * v);
}

uint64_t dps_rng_below (uint64_t seed, uint64_t stream, uint64_t index, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)dps_rng_u64 (seed, stream, index) * n) >> 64);
}

/* FNV-1a, 64 bits. */
uint64_t dps_rng_stream (const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}
