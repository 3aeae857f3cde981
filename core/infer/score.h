/* SPDX-License-Identifier: Apache-2.0 */
/* score.h: how likely a model finds given sequences. Goes through pass.h, so its log-probs are those of training and evaluation, bit for bit. */
#ifndef DPS_INFER_SCORE_H
#define DPS_INFER_SCORE_H

#include "infer/pass.h"

/**
 * The natural log-probability of every token of n sequences given those before it. out: Σ n floats in order; the first of each sequence is 0,
 * it is predicted by nothing. Weights of the sequences are not looked at. A sequence's values do not depend on the others.
 * Errors: INVALID (id outside the vocabulary), NONFINITE, NOMEM, the backend's. [device-serial]
 */
DpsStatus dps_score (DpsWeights *w, const DpsSequence *sequences, size_t n, float *out, DpsError *err);

#endif
