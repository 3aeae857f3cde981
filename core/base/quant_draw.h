/* SPDX-License-Identifier: Apache-2.0 */
/* quant_draw.h: quantised matrices (quant.h) of which nothing matters but their form: what a replay multiplies with, and what backends are proved on. */
#ifndef DPS_BASE_QUANT_DRAW_H
#define DPS_BASE_QUANT_DRAW_H

#include "base/quant.h"

/** What the elements of a part are. [any] */
uint32_t dps_quant_part_dtype (const DpsQuantForm *form, DpsQuantPart part);

/**
 * Some matrix of a form, the same for the same seed: every code occurs, scales have either sign where a block's may and are sometimes 0 or subnormal,
 * most between 2^(exponent - 15) and 16 times as much. codes and parts (by DpsQuantPart) are as large as dps_quant_bytes says.
 * Errors: those of dps_quant_bytes. [any]
 */
DpsStatus dps_quant_draw (const DpsQuantForm *form, int64_t rows, int64_t cols, uint64_t seed, int exponent, void *codes,
                          void *const parts[DPS_QPARTS], DpsError *err);

#endif
