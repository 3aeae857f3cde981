/* SPDX-License-Identifier: Apache-2.0 */
/* judge.h: what the objective makes of a micro-batch's forward pass. */
#ifndef DPS_TRAIN_JUDGE_H
#define DPS_TRAIN_JUDGE_H

#include "train/trainer.h"

/** What judging a batch needs, and where its sums go. */
typedef struct DpsJudgment {
    DpsTrainer *t;
    DpsPlace *places; /* of the micro-batch */
    size_t n_places;
    const DpsReference *reference;
    const DpsBatchCounts *step; /* counts of the whole step */
    uint64_t micro_batches;     /* it is split into */
    int training;
    DpsStepSums *sums;
} DpsJudgment;

/** A DpsVisitPass; ctx: const DpsJudgment *. Signals of the pass through the objective; with training, back to the weights' gradients. */
DpsStatus dps__judge_pass (void *ctx, DpsPass *p, const DpsBatch *b, DpsError *err);

/** What the loss of so many rows is divided by. */
double dps__judge_total (const DpsTrainer *t, const DpsBatchCounts *c);

#endif
