/* SPDX-License-Identifier: Apache-2.0 */
/* sample.h: from the logits of one position to the next token. Pure: the same logits, options and draw give the same token. */
#ifndef DPS_INFER_SAMPLE_H
#define DPS_INFER_SAMPLE_H

#include "base/status.h"

typedef struct DpsSampling {
    double temperature;        /* 0: greedy, the first of equal maxima */
    int64_t top_k;             /* 0: all */
    double top_p;              /* 1: all; keeps the fewest most likely tokens whose probability reaches top_p */
    double min_p;              /* 0: all; drops tokens below min_p × the most likely one's probability */
    double repetition_penalty; /* 1: none; divides positive and multiplies negative logits of tokens already seen */
    uint64_t seed;
} DpsSampling;

/** Room that dps_sample needs for a vocabulary of V: allocate once. */
typedef struct DpsCandidate {
    double logit;
    int32_t id;
} DpsCandidate;

/**
 * Choose a token. logits f32 (V), modified by the penalty; seen: the sequence so far; room: [V]; draw uniform in [0, 1).
 * Order of the filters: penalty, temperature, top_k, top_p, min_p (transformers'). Errors: NONFINITE when no logit is finite. [any]
 */
DpsStatus dps_sample (const DpsSampling *s, float *logits, int64_t vocab, const int32_t *seen, size_t n_seen, DpsCandidate *room,
                      double draw, int32_t *out, DpsError *err);

/** The likeliest token, the first of equal ones; -1: no logit is finite, or one is +∞. [any] */
int32_t dps_sample_best (const float *logits, int64_t vocab);

/**
 * dps_sample for one who has the likeliest token and total = Σ exp ((logits - logits[best]) / temperature) already, and penalises nothing. A total
 * that is off by a relative 1e-7 moves no draw but those that near a border. [any]
 */
int32_t dps_sample_known (const DpsSampling *s, const float *logits, int64_t vocab, int32_t best, double total, DpsCandidate *room,
                          double draw);

#endif
