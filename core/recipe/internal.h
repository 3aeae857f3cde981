/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h: the table behind keys.def and what the files of this stage share. */
#ifndef DPS_RECIPE_INTERNAL_H
#define DPS_RECIPE_INTERNAL_H

#include "recipe/recipe.h"
#include "recipe/yaml.h"

typedef enum DpsKeyType {
    DPS_KEY_BOOL,
    DPS_KEY_INT,
    DPS_KEY_NUM,
    DPS_KEY_TEXT,
    DPS_KEY_CHOICE,
    DPS_KEY_PATH,
    DPS_KEY_OUT,
    DPS_KEY_NAMES,
    DPS_KEY_PATHS,
    DPS_KEY_OBJECT,
    DPS_KEY_DATASETS,
    DPS_KEY_REWARDS,
    DPS_KEY_NUMBERS,
    DPS_KEY_PARAM,
    DPS_KEY_FIXED,
    DPS_KEY_LATER
} DpsKeyType;

/** A line of keys.def. Fields that a type does not have are zero. */
typedef struct DpsKey {
    DpsKeyType type;
    const char *name, *aliases; /* aliases separated by '|' */
    int locked;
    size_t offset; /* in DpsRecipe */
    double def, none, min, max;
    const char *text, *choices, *synonyms, *later;
    const char *help;
} DpsKey;

extern const DpsKey dps__keys[DPS_N_KEYS];

/** The number of a key by name or alias, or -1. */
int dps__key_find (const char *name);
/** 1 when `word` is one of the words of list "a|b|c". */
int dps__word_in (const char *list, const char *word, size_t len);
/** "; did you mean 'learning_rate'?", or where a plugin's parameters go, into buf, which is returned. */
const char *dps__key_hint (const char *name, char *buf, size_t cap);

/** Apply one override to the tree of a recipe; its path begins after `skip` bytes. The new nodes belong to *out_doc, which must live as long. */
DpsStatus dps__override (DpsYamlDoc *doc, const char *text, size_t skip, DpsYamlDoc **out_doc, DpsError *err);
/** The item of a recipe's map that has this key, under any of its names; or NULL. */
DpsYaml *dps__recipe_item (const DpsYaml *root, const char *name);
/** Put a value that has its key into a recipe's map, in place of what stood there under any name of the key. Errors: NOMEM. */
DpsStatus dps__recipe_put (DpsYamlDoc *doc, DpsYaml *root, DpsYaml *value, DpsError *err);

/**
 * Read a lock. otherwise: what may be done without it, for hints. *out: NULL, or dps_yaml_free, whatever the result. Errors: NOT_FOUND, NOMEM; LOCK
 * when it cannot be read or is no YAML: a lock that cannot be read locks. [any]
 */
DpsStatus dps__lock_read (const char *path, const char *otherwise, DpsYamlDoc **out, DpsError *err);
#define DPS__LOCK_RESUME "train without --resume into another output_dir" /* the locks that --resume is held to */
/** The same of what was found wrong in it: USAGE becomes LOCK. */
DpsStatus dps__lock_damaged (DpsStatus st, const char *otherwise, DpsError *err);

/** A recipe file's text. Errors: USAGE where no recipe can be read; NOMEM. */
DpsStatus dps__recipe_text (const char *path, DpsBuf *out, DpsError *err);
/** The folder of a file, "." for one without. NULL when out of memory; dps_free. */
char *dps__folder_of (const char *path);
/**
 * The recipe that a tree makes. folder: what paths are relative to; "" : each to the folder of the file that its node names. Errors: USAGE,
 * NOMEM; *out is NULL then. */
DpsStatus dps__recipe_from_tree (const DpsYaml *root, const char *where, const char *folder, DpsRecipe **out, DpsError *err);

/** What reading needs besides the node. */
typedef struct DpsRecipeReader {
    DpsRecipe *recipe;
    const char *folder; /* of the recipe file, or NULL */
    DpsError *err;
} DpsRecipeReader;

/** Text of a node that must be a word. *out: dps_free. NULL for null. */
DpsStatus dps__read_text (const DpsRecipeReader *in, const DpsYaml *n, const char *key, char **out);
/** A path that will be read, resolved: "~/" expanded, beside the recipe if it lies there, else as it is. */
DpsStatus dps__read_path (const DpsRecipeReader *in, const DpsYaml *n, const char *key, char **out);
/** Any key's node into its field. */
DpsStatus dps__read_key (const DpsRecipeReader *in, const DpsYaml *n, DpsKeyId id);
DpsStatus dps__read_datasets (const DpsRecipeReader *in, const DpsYaml *n, const char *key, DpsRecipeDatasets *out);
void dps__datasets_free (DpsRecipeDatasets *d);
/** Append one data set as JSON on a line. 0 or -1. */
int dps__dataset_dump (const DpsRecipeDataset *d, DpsBuf *out);
DpsStatus dps__read_rewards (const DpsRecipeReader *in, const DpsYaml *n, const char *key, DpsRecipeRewards *out);
void dps__rewards_free (DpsRecipeRewards *r);
/** Append one reward as JSON on a line. 0 or -1. */
int dps__reward_dump (const DpsRecipeReward *r, DpsBuf *out);
/** Append a key's value in its canonical spelling. 0 or -1. */
int dps__value_dump (const DpsRecipe *r, const DpsKey *key, DpsBuf *out);
/** A word, number or boolean of a recipe as a plugin's parameter. */
void dps__param_scalar (const json_t *v, const char *where, DpsParamValue *out);
/** Refuse a parameter, saying which there are. place: where it stands, up to its name; words: NULL-terminated. Errors: USAGE, NOMEM. */
DpsStatus dps__no_such_param (const char *place, const char *name, const char *owner, const char *const *words, DpsError *err);
/** 0 for keys that hold nothing or whose value another key took over. */
int dps__key_is_dumped (DpsKeyId id);
/** What no single key can tell: keys that need or exclude each other, and values that follow from others. */
DpsStatus dps__recipe_settle (const DpsRecipeReader *in);
/**
 * 1 for keys that mean nothing in this recipe, and whose being given would mean something: an adapter's without one, those of sampling without
 * rewards, those of given answers with them.
 */
int dps__key_is_idle (const DpsRecipe *r, DpsKeyId id);
/** 1 for keys that mean nothing where answers are sampled. */
int dps__key_is_for_given_answers (DpsKeyId id);
/** The part of it about answers that are sampled. */
DpsStatus dps__settle_rollout (const DpsRecipeReader *in);

#endif
