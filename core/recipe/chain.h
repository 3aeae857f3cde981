/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain.h: several recipes one after the other, each stage starting from what an earlier one left. A YAML file with `stages`:
 *
 *     output_dir: run                  # stage `it` writes run/it; run/chain.lock.yaml says which stages are finished
 *     model_name_or_path: base.gguf    # keys up here hold for every stage
 *     lora_r: 16
 *     stages:
 *       - stage: it                    # keys here for this one; they win
 *         datasets: rows.jsonl
 *       - name: pref                   # names the stage and its folder; otherwise what `stage` says
 *         recipe: simpo.yaml           # a recipe of its own, under the keys written here; its model and output_dir are not used
 *         from: it                     # the stage before, when absent; null: start from model_name_or_path
 *         merge: true                  # it's adapter becomes part of the model first (float32, bfloat16: kept in that); a new one is trained
 *         freeze: true                 # or: it's adapter stays, frozen, under a new one; with neither, training goes on with the adapter itself
 *         adapter_init: ${rm}          # the folder that stage `rm` writes, in any word of any value
 *
 * `--set key=value` holds for every stage, `--set NAME.key=value` for one. A plain recipe reads as a chain of one stage without a name.
 */
#ifndef DPS_RECIPE_CHAIN_H
#define DPS_RECIPE_CHAIN_H

#include "recipe/recipe.h"

#define DPS_CHAIN_LOCK "chain.lock.yaml"
enum { DPS_CHAIN_MAX = 64 };

typedef struct DpsChainStage {
    char *name;          /* NULL: a plain recipe */
    DpsRecipe *recipe;   /* model, adapter and output_dir as the chain gives them */
    DpsRecipe *stand_in; /* the same from the model that the chain starts from: for plans, before the stages before are finished */
    int from;            /* number of the stage it starts from; -1: none */
    char *merged;   /* the folder that from's adapter is merged into, FROM/merged[-DTYPE], which is the recipe's model; NULL: not merged */
    uint64_t named; /* bit k: a value has ${NAME} of stage k */
    const char *dtype; /* merge in this; NULL: as `diapason merge` does. Static storage */
} DpsChainStage;

typedef struct DpsChain {
    DpsChainStage *stages;
    size_t n;
    char *file;
    char *lock;    /* path of chain.lock.yaml; NULL: a plain recipe */
    int overwrite; /* overwrite_output_dir */
} DpsChain;

/** As dps_recipe_load, of a chain or a plain recipe. Errors also: USAGE for what the stages say of each other. Free with dps_chain_free. [any] */
DpsStatus dps_chain_load (const char *path, const char *const *overrides, size_t n, DpsChain **out, DpsError *err);
/** The same from text; `where` names it and says what its paths lie beside. Recipes that it names are read. */
DpsStatus dps_chain_parse (const char *text, size_t len, const char *where, const char *const *overrides, size_t n, DpsChain **out,
                           DpsError *err);
void dps_chain_free (DpsChain *c);

/** The recipe to plan stage i with: its own where everything that it starts from is there, else the stand-in. [any] */
DpsRecipe *dps_chain_plan (const DpsChain *c, size_t i);

/**
 * Where dps_chain_plan gives the stand-in: the stages whose adapters will lie frozen under that of stage i, as recipes of fresh ones, the one
 * nearest to the base first, into out[DPS_CHAIN_MAX]. Returns how many. [any]
 */
size_t dps_chain_under (const DpsChain *c, size_t i, const DpsRecipe **out);

/** A stage that is not finished and whose folder stage i names by ${…}: i cannot be planned before. -1: none. [any] */
int dps_chain_waits (const DpsChain *c, size_t i);

/** What a finished stage left: digests of the digests.json beside its result and beside the model merged for it; hex "" where there is none. */
typedef struct DpsChainDone {
    DpsDigest result, merged;
} DpsChainDone;

/** done[c->n] of an earlier run; *found 0 when there is no lock. Errors: LOCK (not understood, or of other stages), IO, NOMEM. [any] */
DpsStatus dps_chain_lock_read (const DpsChain *c, DpsChainDone *done, int *found, DpsError *err);
/** Write it, atomically. Errors: IO, NOMEM. [any] */
DpsStatus dps_chain_lock_write (const DpsChain *c, const DpsChainDone *done, DpsError *err);

#endif
