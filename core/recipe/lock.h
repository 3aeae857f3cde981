/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h: recipe.lock.yaml: the resolved recipe and the identity of everything it read, so that `--resume` can tell whether it would still
 * compute the same numbers.
 *
 *     # written by diapason; --resume refuses a difference
 *     lock_version: 1
 *     fingerprint: "…"
 *     recipe:
 *       learning_rate: 2e-05
 *       …                             every key, defaults included
 *     inputs:
 *       "base.sha256": "…"            what the caller adds, in its order
 */
#ifndef DPS_RECIPE_LOCK_H
#define DPS_RECIPE_LOCK_H

#include "recipe/recipe.h"

/** Something the run depends on. Borrowed. */
typedef struct DpsLockEntry {
    const char *key;   /* "datasets[0].sha256", "isa", "plugin dps.sft" */
    const char *value; /* a digest, a name */
    const char *note;  /* what it is, for messages: "rows.jsonl"; NULL: nothing to add */
} DpsLockEntry;

/** Append entries, one a line: `  "key": "value" # note`. 0, or -1: out of memory. [any] */
int dps__lock_put_entries (DpsBuf *out, const DpsLockEntry *entries, size_t n);
/** Append the lock's text. Errors: NOMEM. [any] */
DpsStatus dps_lock_dump (const DpsRecipe *r, const DpsLockEntry *entries, size_t n, DpsBuf *out, DpsError *err);

/**
 * Compare with a lock written earlier. Errors: LOCK (exit code 4) naming the first key that differs, with both values: a locked key of the
 * recipe, or an entry that changed, appeared or vanished. LOCK as well when the file is absent or cannot be read or understood. NOMEM. [any]
 */
DpsStatus dps_lock_compare (const DpsRecipe *r, const DpsLockEntry *entries, size_t n, const char *path, DpsError *err);

#endif
