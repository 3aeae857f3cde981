/* SPDX-License-Identifier: Apache-2.0 */
/*
 * critic.h: a value model apart from the policy (value_model of a recipe): a trunk of its own with a score head, which says of every state before
 * a token what reward is still to come, and learns beside the policy, from the same tokens, at the same rate, clipped by their common norm.
 *
 * It is a model folder (a reward model's score head is where it starts; a fresh one is zero) or a reward model's adapter on the policy's base. It is
 * trained as the policy is: a folder by an adapter of the recipe's shape where the policy has one, else whole; an adapter as an adapter. What
 * it has learned goes to output_dir/value_model, and can be given as value_model again, or as a reward model.
 */
#ifndef DPS_TRAIN_CRITIC_H
#define DPS_TRAIN_CRITIC_H

#include "ckpt/checkpoint.h"
#include "infer/pass.h"
#include "optim/step.h"
#include "train/session.h"

#define DPS_CKPT_CRITIC   "value_model.safetensors"
#define DPS_CRITIC_FOLDER "value_model"

struct DpsTrainer;

/** All zeros: values, if any, are of a head on the policy's own trunk. */
typedef struct DpsCritic {
    int on;
    const char *adapter; /* value_model itself, when it is an adapter; NULL: a model */
    DpsSession session;
    DpsOptim optim;
    uint64_t arena, scratch;
    DpsPass pass; /* of the micro-batch that is judged */
    int passing;
    void **copies; /* of what a device has to itself, for the checkpoint that is being written */
    size_t n_copies, copy_capacity;
} DpsCritic;

/** Its session, without weights; nothing when the recipe names none. Errors: USAGE, SHAPE; those of a session. [init] */
DpsStatus dps__critic_open (struct DpsTrainer *t, DpsError *err);
/** Its weights. [init] */
DpsStatus dps__critic_load (struct DpsTrainer *t, DpsError *err);
void dps__critic_close (DpsCritic *c);
/** Bytes of weights, gradients and moments, and c->arena and c->scratch for micro-batches of these counts. */
DpsStatus dps__critic_measure (struct DpsTrainer *t, const DpsBatchCounts *counts, size_t n, int checkpointing, uint64_t *out_bytes,
                               DpsError *err);

/** Values of a batch's scored rows, f32 (S), borrowed until end. Adjoints with `training`. Nothing when there is no critic. */
DpsStatus dps__critic_begin (struct DpsTrainer *t, const DpsBatch *b, int training, DpsError *err);
const float *dps__critic_values (const struct DpsTrainer *t);
/** From d loss / d value, f32 (S), to its gradients. */
DpsStatus dps__critic_backward (struct DpsTrainer *t, const float *dvalue, DpsError *err);
void dps__critic_end (struct DpsTrainer *t);

/** The norm of the policy's gradients and its own together. */
DpsStatus dps__critic_norm (struct DpsTrainer *t, double *io_norm, DpsError *err);
/** The update, clipped by that norm. */
DpsStatus dps__critic_step (struct DpsTrainer *t, double lr, double norm, DpsError *err);

/** Values and moments, in a file of their own. Nothing when there is no critic. Errors: NOT_FOUND for a checkpoint without; IO, NOMEM. */
DpsStatus dps__critic_save (struct DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err);
DpsStatus dps__critic_restore (struct DpsTrainer *t, const DpsCheckpoint *from, DpsError *err);
/** output_dir/value_model. */
DpsStatus dps__critic_export (const struct DpsTrainer *t, DpsError *err);

#endif
