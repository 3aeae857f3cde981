/* SPDX-License-Identifier: Apache-2.0 */
/* merge.h: a base and its adapter as one model in a Hugging Face folder. */
#ifndef DPS_TRAIN_MERGE_H
#define DPS_TRAIN_MERGE_H

#include "train/session.h"

/**
 * Write the model that `o` names, with the adapter's update added to the weights it is on, into folder `dir` (made when absent): model.safetensors,
 * or where that would be more than `shard_bytes` of tensors, shards of at most that (a larger tensor has its own) and their index; config.json and the tokenizer's files. dtype: DPS_DTYPE_F32 or BF16. Weights pass through memory block by
 * block. progress may be NULL. Errors: those of dps_session_begin, IO, NOMEM; files appear whole or not at all. [init]
 */
DpsStatus dps_merge (const DpsRegistry *reg, const DpsSessionOptions *o, uint32_t dtype, uint64_t shard_bytes, const char *dir,
                     void (*progress) (double share), DpsError *err);

/**
 * That a person's merge of `o` may go into `dir`: over an earlier one, or one that was killed; never over a model of another make, nor beside an adapter.
 * Errors: USAGE, NOMEM. [any]
 */
DpsStatus dps_merge_check (const DpsSessionOptions *o, const char *dir, DpsError *err);

/** The dtype to write in: `name` as dps_session_dtype reads it; NULL: float32 where the model is stored in it, else bfloat16. [init] */
DpsStatus dps_merge_dtype (const DpsRegistry *reg, const char *model, const char *name, uint32_t *out, DpsError *err);

/** Bytes of a shard when nobody says. */
#define DPS_MERGE_SHARD_BYTES 5000000000u

#endif
