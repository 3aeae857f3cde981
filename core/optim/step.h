/* SPDX-License-Identifier: Apache-2.0 */
/* step.h: one optimizer step over everything that trains: gradient norm, clipping, AdamW or SGD, fresh packed forms. */
#ifndef DPS_OPTIM_STEP_H
#define DPS_OPTIM_STEP_H

#include "exec/weights.h"

typedef enum DpsOptimKind { DPS_OPTIM_ADAMW, DPS_OPTIM_SGD } DpsOptimKind;

typedef struct DpsOptim {
    DpsOptimKind kind;
    double beta1, beta2, epsilon; /* AdamW */
    double momentum;              /* SGD; 0: none */
    double weight_decay;          /* of matrices and adapters; norms and biases are not decayed */
    double max_grad_norm;         /* 0: no clipping */
    uint64_t t;                   /* updates made so far */
} DpsOptim;

/** Moments a kind keeps per weight: 2, 1 or 0. */
int dps_optim_moments (const DpsOptim *o);

/** ‖g‖₂ over all gradients, summed tensor by tensor in the model's order in f64. */
DpsStatus dps_optim_grad_norm (DpsWeights *w, double *out, DpsError *err);

/** Update from the gradients with learning rate lr; the norm (before clipping) comes from dps_optim_grad_norm. [device-serial] */
DpsStatus dps_optim_step (DpsOptim *o, DpsWeights *w, double lr, double grad_norm, DpsError *err);

/** The scratch that updates need where the device runs them as simple ops. w may be an outline. [device-serial] */
DpsStatus dps_optim_measure (const DpsOptim *o, DpsWeights *w, uint64_t *out_scratch, DpsError *err);

#endif
