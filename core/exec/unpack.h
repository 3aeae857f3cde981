/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.h: an op whose weight is packed, on another device than the first, whose own layout that is: the weight comes as the rows that it was made
 * of, unpacked for this call. A copy of the whole weight for each such call: what goes there often is given there by op_devices, and then stays in
 * rows. Internal to the stage.
 */
#ifndef DPS_EXEC_UNPACK_H
#define DPS_EXEC_UNPACK_H

#include "exec/exec.h"

typedef struct DpsUnpacked {
    DpsOp op;
    const DpsView *in[DPS_OP_MAX_IN];
    DpsView rows;
} DpsUnpacked;

/** Which input is packed; -1: none. */
int dps__packed_input (const DpsOp *o);

/**
 * The op with rows for its packed weight, without memory, as for a dry call. Into out, which borrows o's operands; NULL: the first device does not give
 * packed weights back.
 */
const DpsOp *dps__unpacked_outline (const DpsExec *ex, const DpsOp *o, DpsUnpacked *out);

/**
 * The rows themselves, good until the next call. forward: the weight packed for `linear`, or its rows where those are kept too. Errors: the first
 * device's, NOMEM. [device-serial]
 */
DpsStatus dps__unpack (DpsExec *ex, const DpsView *forward, DpsView *out_rows, DpsError *err);

#endif
