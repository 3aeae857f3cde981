/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pass.h: one batch through the model: record, lay out, run forward, read signals, and (training) run backward from d loss / d logp.
 * Scoring, evaluation and training all go through here, so their log-probs are the same bits.
 */
#ifndef DPS_INFER_PASS_H
#define DPS_INFER_PASS_H

#include "exec/weights.h"
#include "infer/batch.h"

typedef struct DpsPassOptions {
    int training;       /* record adjoints; dropout is active */
    int checkpoint;     /* recompute layers in the backward pass */
    int keep_layers;    /* keep every layer's output (parity tests) */
    int hidden_only;    /* stop at the hidden states of the scored rows */
    int scores;         /* the score head on the scored rows instead of log-probs */
    int values;         /* the value head on the scored rows beside log-probs */
    int logits;         /* logits of the scored rows instead of log-probs */
    double temperature; /* 0: 1 */
    uint64_t dropout_seed;
} DpsPassOptions;

typedef struct DpsPass {
    DpsWeights *weights;
    const DpsBatch *batch;
    DpsGraph graph;
    DpsForwardOut out;
    uint64_t peak; /* bytes of the arena this batch needs */
    float *ropes[DPS_MAX_ROPES];
    DpsBindings bindings;
} DpsPass;

/** Record and lay out; nothing of the size of the data is allocated. batch and weights are borrowed until close. [device-serial] */
DpsStatus dps_pass_open (DpsPass *p, DpsWeights *weights, const DpsBatch *batch, const DpsPassOptions *options, DpsError *err);
DpsStatus dps_pass_forward (DpsPass *p, DpsError *err);
/** dlogp: f32 (S). Gradients are added to those of the weights. */
DpsStatus dps_pass_backward (DpsPass *p, const float *dlogp, DpsError *err);
/** The same from d loss / d score, f32 (S), of a pass with scores. */
DpsStatus dps_pass_backward_scores (DpsPass *p, const float *dscore, DpsError *err);
/** From both d loss / d logp and d loss / d value, f32 (S), of a pass with values. */
DpsStatus dps_pass_backward_values (DpsPass *p, const float *dlogp, const float *dvalue, DpsError *err);
void dps_pass_close (DpsPass *p);

/** After forward, valid until backward or the next pass: f32 (S) each. */
const float *dps_pass_logp (const DpsPass *p);
const float *dps_pass_entropy (const DpsPass *p);
const float *dps_pass_hit (const DpsPass *p);
const float *dps_pass_score (const DpsPass *p);
const float *dps_pass_value (const DpsPass *p);

/**
 * Only the arena's size for a batch of these counts, and the scratch of decomposed ops: what `plan` and the start of a run ask. Both depend on
 * the counts alone. weights may be an outline.
 */
DpsStatus dps_pass_measure (DpsWeights *weights, const DpsForward *counts, const DpsPassOptions *options, uint64_t *out_peak,
                            uint64_t *out_scratch, DpsError *err);

#endif
