/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prepared.h: ops by plan. A device that offers plans (backend.h, prepare) is asked for one for each form an op comes in (op, shapes, strides,
 * dtypes, layouts, parts), which then runs every op of that form. Ragged batches bring new forms with each micro-batch; the layers of a model share
 * them. Internal to the stage.
 */
#ifndef DPS_EXEC_PREPARED_H
#define DPS_EXEC_PREPARED_H

#include "exec/exec.h"

enum { DPS_PREPARED_MAX = 4096 /* plans kept at a time; beyond them all are freed and made again as they are needed */ };

/**
 * Run an op whose operands the device reaches: by its plan where there is one, else by DpsBackend.run. A plan that wants scratch gets the exec's on
 * the first device, unless the op is a piece of a decomposed one, which holds it. Errors: the backend's, NOMEM. [device-serial]
 */
DpsStatus dps__prepared_run (DpsExec *ex, int device, const DpsOp *o, DpsError *err);

/** Scratch that the op's plan wants of the exec; 0: none. The views need no memory. Errors: those of prepare. [device-serial] */
DpsStatus dps__prepared_scratch (DpsExec *ex, int device, const DpsOp *o, uint64_t *out_bytes, DpsError *err);

/** Free all plans. */
void dps__prepared_close (DpsExec *ex);

#endif
