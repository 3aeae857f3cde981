/* SPDX-License-Identifier: Apache-2.0 */
/* grpo.h: what grpo.c (the loss) and advantages.c (what answers earned) share. */
#ifndef DPS_GRPO_H
#define DPS_GRPO_H

#include "diapason/sdk.h"

enum { GRPO_VETOES = 16, GRPO_NAME = 64 };

/** An answer below `least` by criterion `name` is worse than every answer of its group that is not. */
typedef struct GrpoVeto {
    char name[GRPO_NAME];
    double least;
} GrpoVeto;

enum { GRPO_SCALE_GROUP, GRPO_SCALE_BATCH, GRPO_SCALE_NONE };

/** How answers' rewards become advantages. */
typedef struct GrpoRewards {
    int normalize_first; /* criterion by criterion, before they are summed */
    int scale;           /* GRPO_SCALE_*, of sums; what is normalised first is scaled over the batch */
    double dominance;    /* alarm above this share of the advantage's variance */
    GrpoVeto vetoes[GRPO_VETOES];
    size_t n_vetoes;
    uint64_t alarms; /* so far: the log says the 1st, 2nd, 4th, 8th … */
} GrpoRewards;

/** "safety<0.5, format<1" → vetoes. Errors: INVALID. */
DpsStatus grpo_read_vetoes (DpsStr text, GrpoRewards *out, DpsError *err);

/**
 * advantage: [n_rows], 0 where nothing judged an answer. Metrics: rewards/NAME/{mean,std,share,correlation}, reward, reward_std,
 * frac_reward_zero_std, rewards/vetoed, reward_dominance. Errors: INVALID (a veto on an unknown criterion), SHAPE (no criteria), NOMEM.
 */
DpsStatus grpo_advantages (GrpoRewards *self, const DpsHost *host, const DpsObjectiveBatch *step, const DpsRewards *rewards,
                           const DpsMetricSink *metrics, double *advantage, DpsError *err);

#endif
