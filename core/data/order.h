/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order.h: a permutation of 0 … n−1 as a pure function: nothing is stored, whatever n is, and any place is computed by itself. A Feistel
 * network over the smallest even number of bits that holds n, walked until it lands inside (Black and Rogaway, "Ciphers with arbitrary
 * finite domains", 2002); its round function is Philox.
 */
#ifndef DPS_DATA_ORDER_H
#define DPS_DATA_ORDER_H

#include <stdint.h>

/** The image of i < n under the permutation that (seed, stream, epoch) names. n ≤ 2^62. Pure. [any] */
uint64_t dps_order_permute (uint64_t seed, uint64_t stream, uint64_t epoch, uint64_t n, uint64_t i);

#endif
