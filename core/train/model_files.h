/* SPDX-License-Identifier: Apache-2.0 */
/* model_files.h: what stands beside the weights of a model folder: configuration and tokenizer. */
#ifndef DPS_TRAIN_MODEL_FILES_H
#define DPS_TRAIN_MODEL_FILES_H

#include "ckpt/checkpoint.h"
#include "graph/source.h"

/**
 * Of a folder its config.json, generation_config.json, tokenizer files and chat templates (several: in one file, dps_tokenizer_gather_chats); of a GGUF
 * a config.json that says where its tokenizer is. What another model left in `dir` under these names goes.
 * dtype: what config.json says the weights are stored in, or NULL: as it was. Errors: IO, FORMAT, NOMEM. [any]
 */
DpsStatus dps_model_files_write (const DpsSource *source, const char *dtype, const char *dir, DpsError *err);
/** Seal (base/seal.h) the folder: these files of weights, the index of shards, and what the call above wrote. Errors: IO, NOMEM. [any] */
DpsStatus dps_model_files_seal (const char *dir, char *const *weights, size_t n, DpsError *err);
/** What dps_model_files_write writes, into a checkpoint. */
DpsStatus dps_model_files_add (const DpsSource *source, DpsCheckpointWriter *into, DpsError *err);

#endif
