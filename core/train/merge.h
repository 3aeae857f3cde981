/* SPDX-License-Identifier: Apache-2.0 */
/* merge.h: a base and its adapter as one model in a Hugging Face folder. */
#ifndef DPS_TRAIN_MERGE_H
#define DPS_TRAIN_MERGE_H

#include "train/session.h"

/** How a model is written. */
typedef struct DpsMergeOptions {
    const char *format;              /* name or id of a format plugin that writes files of tensors; NULL: safetensors */
    uint32_t dtype;                  /* DPS_DTYPE_F32 or BF16 */
    uint64_t shard_bytes;            /* tensors of one file, at most; 0: DPS_MERGE_SHARD_BYTES. A larger tensor has its own */
    void (*progress) (double share); /* 0 to 1; NULL: nobody looks */
} DpsMergeOptions;

/**
 * Write the model that `o` names, with the adapter's update added to the weights it is on, into folder `dir` (made when absent): model.safetensors,
 * or several shards and their index; config.json and the tokenizer's files. Another format's files end in the first of its endings and need no index:
 * they are read back in the order of their names. Weights pass through memory block by block. Errors: those of dps_session_begin and of the plugin,
 * which is asked before anything in `dir` is touched; IO, NOMEM; files appear whole or not at all. [init]
 */
DpsStatus dps_merge (const DpsRegistry *reg, const DpsSessionOptions *o, const DpsMergeOptions *how, const char *dir, DpsError *err);

/**
 * That a person's merge of `o` may go into `dir` in this format: over an earlier one, or one that was killed; never over a model of another make, nor
 * beside an adapter. Errors: NOT_FOUND, USAGE, NOMEM. [any]
 */
DpsStatus dps_merge_check (const DpsRegistry *reg, const DpsSessionOptions *o, const char *format, const char *dir, DpsError *err);

/** The dtype to write in: `name` as dps_session_dtype reads it; NULL: float32 where the model is stored in it, else bfloat16. [init] */
DpsStatus dps_merge_dtype (const DpsRegistry *reg, const char *model, const char *name, uint32_t *out, DpsError *err);

/** Bytes of a shard when nobody says. */
#define DPS_MERGE_SHARD_BYTES 5000000000u

#endif
