/* SPDX-License-Identifier: Apache-2.0 */
/* decomposed.h: one fused op run as the simple ops it is made of, on the device that refused it whole. Internal to the stage. */
#ifndef DPS_EXEC_DECOMPOSED_H
#define DPS_EXEC_DECOMPOSED_H

#include "exec/exec.h"

/**
 * Run `o` in simple ops on device `device`; with DPS_RUN_DRY only answer whether that device takes them all. Intermediates lie in `scratch`
 * (*out_scratch bytes of it, the same for every call with these shapes; may be NULL when dry).
 * Errors: UNSUPPORTED (no decomposition, or an operand that is not contiguous), the device's own. [device-serial]
 */
DpsStatus dps__exec_decomposed (DpsExec *ex, int device, DpsOpCode op, const DpsOp *o, uint32_t flags, const DpsBlock *scratch,
                                uint64_t *out_scratch, DpsError *err);

#endif
