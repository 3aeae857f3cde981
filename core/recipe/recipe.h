/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipe.h: a checked recipe. A YAML file and `--set key=value` overrides become a struct with one typed field per key of keys.def; every
 * value is within its range, every default filled in, every path resolved. What is wrong is USAGE (exit code 2) with file, line and column,
 * what was found and what was expected. It opens no data file and no model.
 */
#ifndef DPS_RECIPE_RECIPE_H
#define DPS_RECIPE_RECIPE_H

#include "base/json.h"
#include "base/sha256.h"
#include "plugin/params.h"

/** A list of words; all zeros is empty. */
typedef struct DpsStrings {
    char **items;
    size_t n;
    int one; /* written as a single word, not as a list */
} DpsStrings;

/** One entry of datasets. Absent strings and maps are NULL. */
typedef struct DpsRecipeDataset {
    char *path;     /* resolved */
    char *as_given; /* what the recipe says */
    char *name;     /* entry of a dataset_info.json that `path` names */
    char *split;    /* "train", "train[:90%]": a file of that name in a folder, a range of its rows */
    char *type;     /* Axolotl's type, or LLaMA-Factory's formatting: alpaca, sharegpt, chat_template, completion */
    char *field;    /* Axolotl's field of plain text */
    char *field_messages;
    json_t *columns; /* {our name: column of the file}, or a list of the columns to keep */
    json_t *tags;    /* LLaMA-Factory's role_tag, content_tag, user_tag … */
    json_t *message_property_mappings;
    json_t *roles;   /* {"user": ["human", …], …} */
    double fraction; /* share of its rows in each epoch; above 1: some come several times */
    char *where;     /* place in the recipe */
} DpsRecipeDataset;

typedef struct DpsRecipeDatasets {
    DpsRecipeDataset *items;
    size_t n, capacity;
} DpsRecipeDatasets;

/** One entry of reward_funcs. Absent strings and maps are NULL. */
typedef struct DpsRecipeReward {
    char *name;     /* of the plugin */
    char *label;    /* what metrics call it */
    double weight;  /* NaN: not given */
    json_t *args;   /* {parameter: value} as given; a list or map stands for its JSON text */
    json_t *paths;  /* {parameter: resolved path} of the parameters called path or …_path */
    json_t *places; /* {parameter: "recipe.yaml:12:3"} */
    char *where;    /* place in the recipe */
} DpsRecipeReward;

typedef struct DpsRecipeRewards {
    DpsRecipeReward *items;
    size_t n, capacity;
} DpsRecipeRewards;

/** A list of numbers; all zeros is empty. */
typedef struct DpsNumbers {
    double *items;
    size_t n, capacity;
} DpsNumbers;

/** DPS_KEY_learning_rate …: the number of every key. */
typedef enum DpsKeyId {
#define BOOL(name, ...) DPS_KEY_##name,
#define INT             BOOL
#define NUM             BOOL
#define TEXT            BOOL
#define CHOICE          BOOL
#define PATH            BOOL
#define OUT             BOOL
#define NAMES           BOOL
#define PATHS           BOOL
#define OBJECT          BOOL
#define DATASETS        BOOL
#define REWARDS         BOOL
#define NUMBERS         BOOL
#define PARAM           BOOL
#define FIXED           BOOL
#define LATER           BOOL
#include "recipe/keys.def"
    DPS_N_KEYS
} DpsKeyId;

/** Strings are never freed by their reader. A CHOICE is the static text of its choice. */
typedef struct DpsRecipe {
#define BOOL(name, ...)     int name;
#define INT(name, ...)      int64_t name;
#define NUM(name, ...)      double name;
#define TEXT(name, ...)     char *name;
#define CHOICE(name, ...)   const char *name;
#define PATH(name, ...)     char *name;
#define OUT(name, ...)      char *name;
#define NAMES(name, ...)    DpsStrings name;
#define PATHS(name, ...)    DpsStrings name;
#define OBJECT(name, ...)   json_t *name;
#define DATASETS(name, ...) DpsRecipeDatasets name;
#define REWARDS(name, ...)  DpsRecipeRewards name;
#define NUMBERS(name, ...)  DpsNumbers name;
#include "recipe/keys.def"
    json_t *params;          /* keys that are parameters of the objective, until they are settled into objective_args */
    char *place[DPS_N_KEYS]; /* "recipe.yaml:12:3" or "--set lr=1" where the key was given, else NULL */
    char *file;              /* the recipe's path */
} DpsRecipe;

/**
 * Read a recipe file and apply overrides "key=value" in order (value is YAML; key may be a path: datasets[0].fraction, env.OMP_NUM_THREADS).
 * Overrides may remove a value with null. path NULL: overrides only. Errors: USAGE; IO and NOMEM. Free with dps_recipe_free. [any]
 */
DpsStatus dps_recipe_load (const char *path, const char *const *overrides, size_t n, DpsRecipe **out, DpsError *err);
/** The same from text; `where` names it, `folder` is what its paths are relative to (NULL: the current folder). */
DpsStatus dps_recipe_parse (const char *text, size_t len, const char *where, const char *folder, const char *const *overrides, size_t n,
                            DpsRecipe **out, DpsError *err);
void dps_recipe_free (DpsRecipe *r);

/** "recipe.yaml:12:3" of a key that was given, "KEY (default)" otherwise; for messages. [any] */
const char *dps_recipe_where (const DpsRecipe *r, DpsKeyId key);
/** st as it is; where it is NOT_FOUND, the message begins with the place of the key that names what is not there. r NULL: nothing. [any] */
DpsStatus dps_recipe_named (const DpsRecipe *r, DpsKeyId key, DpsStatus st, DpsError *err);
const char *dps_recipe_key_name (DpsKeyId key);
/** 1 when a recipe may hold this key, under its name or another's. [any] */
int dps_recipe_has_key (const char *name);
/** 1 when the recipe or an override gave the key. [any] */
int dps_recipe_given (const DpsRecipe *r, DpsKeyId key);

/** 1 when the run samples its answers from the policy and has them judged: reward_funcs is given. [any] */
int dps_recipe_samples (const DpsRecipe *r);

/** What an objective says of itself that a recipe's defaults depend on. */
typedef struct DpsRecipeObjective {
    int compares;                         /* its units are several answers to a prompt */
    int score, value, reference, rollout; /* it reads the policy's score or value, log-probs of the reference, anything of a rollout */
} DpsRecipeObjective;
/**
 * Defaults that follow from the objective, and keys that contradict it: learning_rate and lora_dropout. Once it is open; twice is once.
 * Errors: USAGE. [any]
 */
DpsStatus dps_recipe_settle_objective (DpsRecipe *r, const DpsRecipeObjective *o, DpsError *err);

/** A DpsParamLookup over objective_args (where keys that are parameters of the objective are too), ctx being the recipe. */
int dps_recipe_objective_param (void *recipe, const char *name, DpsParamValue *out);
/** Over adapter_args, and the lora_* keys for r, alpha, dropout, use_rslora. */
int dps_recipe_adapter_param (void *recipe, const char *name, DpsParamValue *out);
/**
 * objective_args or adapter_args (key) hold nothing but parameters of the plugin `owner`, each a word, a number or a boolean, and none that
 * has a key of its own in the recipe. Errors: USAGE. [any]
 */
DpsStatus dps_recipe_args_known (const DpsRecipe *r, DpsKeyId key, const char *owner, const DpsParam *const *params, uint32_t n,
                                 DpsError *err);

/** What a DpsParamLookup over one entry of reward_funcs needs; texts: JSON of lists and maps, which must live until the values were used. */
typedef struct DpsRewardArgs {
    const DpsRecipe *recipe;
    size_t i; /* of reward_funcs */
    char **texts;
    size_t n, capacity;
    int nomem; /* a text could not be made, and its parameter was passed over */
} DpsRewardArgs;
int dps_recipe_reward_param (void *args, const char *name, DpsParamValue *out);
void dps_recipe_reward_args_clear (DpsRewardArgs *args);
/** Entry i of reward_funcs holds nothing but parameters of its plugin. Errors: USAGE with file, line and what was meant. [any] */
DpsStatus dps_recipe_reward_known (const DpsRecipe *r, size_t i, const DpsParam *const *params, uint32_t n, DpsError *err);

/**
 * Append the resolved recipe as YAML: every key in the order of keys.def, defaults included, lists and maps as JSON on one line, each line
 * indented by `indent`. It reads back to the same recipe. Errors: NOMEM. [any]
 */
DpsStatus dps_recipe_dump (const DpsRecipe *r, int indent, DpsBuf *out, DpsError *err);

/** SHA-256 of the dump's locked keys: equal for recipes that ask for the same numbers. [any] */
DpsStatus dps_recipe_fingerprint (const DpsRecipe *r, DpsDigest *out, DpsError *err);

/** The known word nearest to `word` if it is near enough to be meant, else NULL. words: NULL-terminated. [any] */
const char *dps_suggest (const char *word, const char *const *words);

#endif
