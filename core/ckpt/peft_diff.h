/* SPDX-License-Identifier: Apache-2.0 */
/* peft_diff.h: two adapters, module by module. */
#ifndef DPS_CKPT_PEFT_DIFF_H
#define DPS_CKPT_PEFT_DIFF_H

#include "ckpt/peft.h"

/**
 * What two adapters do to one module. Norms are Frobenius norms in f64: of the update s·B·A of a linear map (its products are never formed), or of a
 * whole tensor of modules_to_save. An adapter that has no such module counts as zero there.
 */
typedef struct DpsPeftDelta {
    const char *module; /* borrowed from a or b */
    double a, b, difference;
    double magnitude; /* norm of the difference of DoRA's magnitudes; NAN where not both have them */
    uint8_t in_a, in_b;
} DpsPeftDelta;

/** *out: dps_free, before a and b are closed. Errors: SHAPE (same module, other size), the format's, NOMEM. [any] */
DpsStatus dps_peft_diff (const DpsPeftAdapter *a, const DpsPeftAdapter *b, DpsPeftDelta **out, size_t *n, DpsError *err);

#endif
