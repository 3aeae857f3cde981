/* SPDX-License-Identifier: Apache-2.0 */
/* model_shards.h: the files that hold a model's weights, as one format writes them: which names they have, and what other merges left that has to go. */
#ifndef DPS_TRAIN_MODEL_SHARDS_H
#define DPS_TRAIN_MODEL_SHARDS_H

#include "ckpt/tensors.h"
#include "plugin/registry.h"

/** What is written, all of it borrowed. */
typedef struct DpsModelShards {
    const DpsRegistry *reg;
    const DpsFormat *format;
    const DpsTensorOut *tensors;
    const size_t *end; /* [n] number of the first tensor of the next shard */
    size_t n;
    uint64_t bytes; /* of all tensors */
} DpsModelShards;

/** The format called `name` (NULL: safetensors) where it writes models. Errors: NOT_FOUND; USAGE when it only reads, or is no format of files. [any] */
DpsStatus dps__shards_format (const DpsRegistry *reg, const char *name, const DpsFormat **out, DpsError *err);
/** Would the format write them? Nothing is written. Errors: the plugin's, USAGE when there are more files than are read back. [any] */
DpsStatus dps__shards_check (const DpsModelShards *s, DpsError *err);
/** Write them into folder `dir`, an index too where safetensors are several, and remove those of an earlier model. Errors: the plugin's, IO, NOMEM. [any] */
DpsStatus dps__shards_write (const DpsModelShards *s, const char *dir, DpsError *err);
/** Seal the folder, once model_files.h has written the rest. Errors: IO, NOMEM. [any] */
DpsStatus dps__shards_seal (const DpsModelShards *s, const char *dir, DpsError *err);

#endif
