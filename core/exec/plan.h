/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h: lays the temporaries of a graph in one arena by lifetime. Deterministic: the same graph gives the same offsets and peak, so what
 * `diapason plan` prints is what a run uses, to the byte.
 */
#ifndef DPS_EXEC_PLAN_H
#define DPS_EXEC_PLAN_H

#include "graph/graph.h"

enum { DPS_ARENA_ALIGN = 64 };

/** Give every temporary its offset; *out_peak is the arena's size in bytes. Errors: NOMEM. [any] */
DpsStatus dps_plan_layout (DpsGraph *g, uint64_t *out_peak, DpsError *err);

#endif
