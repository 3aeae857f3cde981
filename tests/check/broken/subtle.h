/* SPDX-License-Identifier: Apache-2.0 */
/* subtle.h: faults of a backend that most shapes and most numbers do not show. */
#ifndef DPS_TESTS_SUBTLE_H
#define DPS_TESTS_SUBTLE_H

#include "diapason/diapason.h"

/** Is op called so? */
typedef int SubtleIs (const DpsOp *op, const char *name);

enum { SUBTLE_ATTRS = 8, SUBTLE_IN = 8 };

/** The call as the fault makes it: `op` points into it. */
typedef struct SubtleCall {
    DpsOp op;
    const DpsView *in[SUBTLE_IN];
    DpsView view, rows[SUBTLE_IN]; /* of a packed weight */
    int64_t shape[4];
    int32_t roots[2];
    DpsScalar attrs[SUBTLE_ATTRS];
} SubtleCall;

/** Before the call, dry or not: attributes and operands that are read wrongly. */
void subtle_before (const DpsOp *op, int dry, SubtleIs *is, SubtleCall *out);
/** After it: what came out, made wrong. */
void subtle_after (const DpsOp *op, SubtleIs *is);
/** What the reference said, as the fault would have it. */
DpsStatus subtle_status (const DpsOp *op, DpsStatus st, SubtleIs *is);

/** dps.pack/1 whose layout is rows. */
extern const DpsPack subtle_pack;
/** dps.segment/1: ops one after the other, on `run`. */
extern DpsRecorder subtle_recorder;
extern DpsStatus (*subtle_run) (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err);

#endif
