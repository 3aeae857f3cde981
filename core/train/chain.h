/* SPDX-License-Identifier: Apache-2.0 */
/* chain.h: the stages of a chain, one after the other. */
#ifndef DPS_TRAIN_CHAIN_H
#define DPS_TRAIN_CHAIN_H

#include "recipe/chain.h"
#include "train/train.h"

typedef enum DpsChainEvent {
    DPS_CHAIN_MERGES,  /* the adapter it starts from is being merged */
    DPS_CHAIN_STARTS,  /* training begins */
    DPS_CHAIN_ENDS,    /* it is finished: result */
    DPS_CHAIN_FINISHED /* it was finished before, and is as it was left */
} DpsChainEvent;

typedef struct DpsChainOptions {
    DpsTrainOptions train;          /* resume is not looked at */
    int resume;                     /* go on: finished stages are left alone, an interrupted one resumes */
    void (*merging) (double share); /* may be NULL */
    void (*stage) (void *ctx, const DpsChain *c, size_t i, DpsChainEvent event,
                   const DpsTrainResult *result); /* may be NULL; ctx: train.ctx */
} DpsChainOptions;

/**
 * Train a chain. A stage is finished when chain.lock.yaml has the digest of its sealed result; on resume such a stage must still be what its
 * recipe and inputs would give (dps_train_unchanged), and its bytes what they were. The bytes are those of running the stages by hand.
 * What rows a later stage reads is looked for before the first begins.
 * Errors: as dps_train, with the stage's name in front; LOCK for a finished stage that has changed; USAGE without resume where the chain has
 * begun, unless it overwrites; INTERRUPTED also between stages. [init]
 */
DpsStatus dps_train_chain (const DpsRegistry *reg, const DpsChain *c, const DpsChainOptions *options, DpsError *err);

#endif
