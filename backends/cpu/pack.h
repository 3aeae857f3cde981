/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h: where things are in a packed weight. */
#ifndef DPS_CPU_PACK_H
#define DPS_CPU_PACK_H

#include "tiles.h"

/*
 * A weight (O,I) as products want it, in panels that are each B (K, n) in the layout of product.h:
 *   FORWARD     y = x·Wᵀ: panels of rows, B (I, n)
 *   INPUT_GRAD  dx = dy·W: panels of columns, B (O, n)
 * A vocabulary's weight (more than CPU_WHOLE_ROWS rows) is walked CPU_HEAD_ROWS rows at a time: its FORWARD panels are that many rows, and its
 * INPUT_GRAD form is a block for each so many rows, with all columns.
 */
enum { CPU_PANEL = 256, CPU_HEAD_ROWS = 1024, CPU_WHOLE_ROWS = 16384 };

/** Rows of an INPUT_GRAD block; rows of a FORWARD panel; columns of an INPUT_GRAD panel. */
int64_t cpu_block_rows (int64_t O);
int64_t cpu_forward_panel (int64_t O);
int64_t cpu_grad_panel (int64_t O, int64_t I);

/** How B (K,N) panels follow each other: from `base` bytes on, `panel_bytes` apart. */
typedef struct CpuPanels {
    uint64_t base, panel_bytes;
} CpuPanels;

int cpu_is_packed (const DpsView *w);
/** The packed form of a weight: itself, or made in scratch that the next call overwrites. */
DpsStatus cpu_packed (const DpsView *w, uint32_t orientation, uint32_t dtype, const void **out, DpsError *err);
/** FORWARD panels of rows from `first`, where a panel begins. */
DpsStatus cpu_forward_panels (int64_t O, int64_t I, uint32_t dtype, int64_t first, CpuPanels *out, DpsError *err);
/** INPUT_GRAD panels of the block of rows that begins at `first`. */
DpsStatus cpu_grad_panels (int64_t O, int64_t I, uint32_t dtype, int64_t first, CpuPanels *out, DpsError *err);

#endif
