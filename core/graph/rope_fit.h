/* SPDX-License-Identifier: Apache-2.0 */
/* rope_fit.h: llama 3's rope scaling recovered from what a GGUF keeps of it: one divisor per frequency. Internal to the stage. */
#ifndef DPS_GRAPH_ROPE_FIT_H
#define DPS_GRAPH_ROPE_FIT_H

#include "graph/decoder.h"

/**
 * Fill out->type, factor, low_freq_factor, high_freq_factor and original_max_position so that dps_rope_table divides frequency i of
 * out->theta by divisors[i], i < n = head_dim/2. Meta's own numbers (1, 4, 8192) when they do. Pure. [any]
 * Errors: FORMAT when no such numbers exist: another kind of scaling.
 */
DpsStatus dps__rope_fit (const float *divisors, int64_t n, DpsRope *out, DpsError *err);

#endif
