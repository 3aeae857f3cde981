/* SPDX-License-Identifier: Apache-2.0 */
/* shard_index.h: model.safetensors.index.json: which shard of a folder holds which tensor. Internal to the stage. */
#ifndef DPS_GRAPH_SHARD_INDEX_H
#define DPS_GRAPH_SHARD_INDEX_H

#include "base/json.h"
#include "base/status.h"

#define DPS_SHARD_INDEX "model.safetensors.index.json"

typedef struct DpsShardIndex {
    json_t *root;
    json_t *map;        /* tensor → shard, borrowed from root; every value a plain file name of the folder */
    const char **names; /* [n_names] each shard once, borrowed from map */
    size_t n_names;
} DpsShardIndex;

/**
 * Read folder's index; every shard it names is a file of the folder. Close it whatever the result. [any]
 * Errors: FORMAT (also a shard that is not there), LIMIT, IO, NOMEM; they name the index and the next step.
 */
DpsStatus dps__shard_index_open (const char *folder, DpsShardIndex *out, DpsError *err);
void dps__shard_index_close (DpsShardIndex *index);

/** Warn when the shards hold another number of bytes than the index says. */
void dps__shard_index_compare (const DpsShardIndex *index, const char *folder, uint64_t bytes);

#endif
