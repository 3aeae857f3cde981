/* SPDX-License-Identifier: Apache-2.0 */
/* chain_internal.h: a chain being read. */
#ifndef DPS_RECIPE_CHAIN_INTERNAL_H
#define DPS_RECIPE_CHAIN_INTERNAL_H

#include "recipe/chain.h"
#include "recipe/internal.h"

/** One entry of `stages`. */
typedef struct DpsChainEntry {
    const DpsYaml *own;
    DpsYamlDoc *file; /* its recipe; NULL: none */
    DpsYamlDoc *tree; /* the composed recipe, without what the stages before give */
    const DpsYaml
        *base; /* the node of model_name_or_path that the chain started from, in the tree of the first stage; NULL: none was given */
    int from;
} DpsChainEntry;

typedef struct DpsChainReader {
    DpsChain *chain;
    const char *path;
    const char *const *overrides;
    size_t n_overrides;
    DpsYamlDoc *doc;
    DpsChainEntry *entries; /* [DPS_CHAIN_MAX] */
    char *output_dir;
    DpsYamlDoc **sets; /* what overrides brought, kept until the end */
    size_t n_sets, sets_capacity;
    DpsError *err;
} DpsChainReader;

/** Shared keys, file, own keys and overrides of stage i, or with i < 0 of the whole chain. *out: dps_yaml_free, also after an error. */
DpsStatus dps__chain_tree (DpsChainReader *in, int i, DpsYamlDoc **out);
/** What the file and overrides say of stage i names no key that a stage cannot have. Errors: USAGE. */
DpsStatus dps__chain_check_keys (const DpsChainReader *in, int i);
/** chain_feed.c: read stage i, those before it being read. */
DpsStatus dps__chain_stage (DpsChainReader *in, int i);

#endif
