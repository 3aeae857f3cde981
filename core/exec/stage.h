/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.h: memory that not every device reaches. Blocks lie on the first device. Where that has memory of its own, bytes come and go here, inputs
 * are copied there at the start of a run, and an operand that the device of an op does not reach (host memory on such a device; a block on one that
 * is not the first) is copied to it and, when it is an output, back.
 */
#ifndef DPS_EXEC_STAGE_H
#define DPS_EXEC_STAGE_H

#include "exec/exec.h"

/** 1: blocks are host memory too. [any] */
int dps_exec_shares (const DpsExec *ex);

/** A contiguous view of a block from byte `offset`; shape is borrowed. */
DpsView dps_block_view (uint32_t dtype, uint32_t rank, const int64_t *shape, const DpsBlock *block, uint64_t offset);

/** Bytes into and out of a block, done on return. Errors: DEVICE. [device-serial] */
DpsStatus dps_block_put (DpsExec *ex, const DpsBlock *to, uint64_t offset, const void *from, uint64_t bytes, DpsError *err);
DpsStatus dps_block_get (DpsExec *ex, const DpsBlock *from, uint64_t offset, void *to, uint64_t bytes, DpsError *err);
DpsStatus dps_block_zero (DpsExec *ex, const DpsBlock *block, uint64_t offset, uint64_t bytes, DpsError *err);

/** What a temporary holds after a run, brought to where dps_exec_temp points; node < 0: nothing. [device-serial] */
DpsStatus dps_exec_fetch (DpsExec *ex, const DpsGraph *g, DpsNode node, DpsError *err);

/** Memory on a device for what is copied there before a call, good until the next call there. Errors: NOMEM, DEVICE. [device-serial] */
DpsStatus dps__stage_room (DpsExec *ex, int device, uint64_t bytes, DpsBlock **out, DpsError *err);

/** What a call of o there would copy, and other bytes in that memory, noted for dps_exec_staging. The views need no memory. Errors: those of the call. */
DpsStatus dps__stage_measure (DpsExec *ex, int device, const DpsOp *o, DpsError *err);
void dps__stage_note (DpsExec *ex, int device, uint64_t bytes);

/** DpsBackend.run on a device, whatever memory the operands are in. Errors: the backend's, NOMEM. [device-serial] */
DpsStatus dps__exec_call (DpsExec *ex, int device, const DpsOp *o, uint32_t flags, DpsError *err);

/** What a backend says without the name that it may begin with: its device's ("acme:0: …") or its own ("acme: …"). Points into why. [any] */
const char *dps__exec_unnamed (const char *device, const char *why);

/** What dps__exec_call would copy to the device of c and back, added to c: for `explain`. An op in pieces counts as one. */
DpsStatus dps__exec_moves (DpsExec *ex, DpsCase *c, const DpsOp *o, DpsError *err);

/** Copy the bound inputs of g to the first device, when it needs that. */
DpsStatus dps__exec_inputs (DpsExec *ex, const DpsGraph *g, const DpsBindings *b, DpsError *err);

void dps__stage_close (DpsExec *ex);

#endif
