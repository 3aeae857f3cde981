/* SPDX-License-Identifier: Apache-2.0 */
/* typical.h: a valid call of every op of ops.def at a size of the caller's choice: what bits, leaks, coverage and speed are tried on. */
#ifndef DPS_TOOLS_CHECK_TYPICAL_H
#define DPS_TOOLS_CHECK_TYPICAL_H

#include "check/kit.h"

/** Rows, width, output width, vocabulary (≥ rows), query heads, key heads, head width. */
typedef struct TypicalSize {
    int64_t N, D, O, V, H, G, h;
} TypicalSize;

extern const TypicalSize typical_small; /* a few rows */
extern const TypicalSize typical_large; /* enough to be shared among threads, no size a multiple of anything */
extern const TypicalSize typical_step;  /* shapes of a step of Gemma 3 270M */

/** The call of `op` (by its name) with activations and weights of `dtype`. Errors: INTERNAL (no such line), NOMEM. */
DpsStatus typical_call (Kit *k, const char *op, uint32_t dtype, const TypicalSize *z, KitCall *out, DpsError *err);

/** Multiplications and additions of a call, 0 for ops that are bound by memory; the bytes it must at least move. */
double typical_flops (const char *op, const TypicalSize *z);
double typical_bytes (const KitCall *c);

#endif
