/* SPDX-License-Identifier: Apache-2.0 */
/* place.h: which device an op goes to, whole or in pieces, and why the others refused it. Internal to the stage. */
#ifndef DPS_EXEC_PLACE_H
#define DPS_EXEC_PLACE_H

#include "exec/exec.h"

/**
 * The case of a call: devices are asked in the order of the list, the one that op_devices names first, and a new case is kept. head: it goes where
 * DpsExec.head says. *out is good until the next case. Errors: UNSUPPORTED (no device takes it, or a strict run would fall back) with the reasons of
 * this call, NOMEM. [device-serial]
 */
DpsStatus dps__place (DpsExec *ex, DpsOpCode op, int head, const DpsOp *o, DpsCase **out, DpsError *err);

/** A packed weight is in the first device's own layout: the number of that layout means something else to another. [any] */
int dps__is_foreign (int device, const DpsOp *o);

#endif
