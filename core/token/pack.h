/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h: short sequences into places of a fixed capacity. */
#ifndef DPS_TOKEN_PACK_H
#define DPS_TOKEN_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/**
 * Best-fit decreasing: the longest first, each into the fullest place it still fits, ties by order. out_bin[i]: the place of item i; places are
 * numbered as they are opened. An item longer than the capacity gets a place of its own. O(n log capacity). Errors: NOMEM. [any]
 */
DpsStatus dps_pack_bfd (const uint32_t *lengths, size_t n, uint32_t capacity, uint32_t *out_bin, size_t *out_n_bins, DpsError *err);

#endif
