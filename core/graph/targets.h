/* SPDX-License-Identifier: Apache-2.0 */
/*
 * targets.h: which modules an adapter rewrites, with PEFT's rules: short names, path suffixes, a regular expression, "all-linear"; and
 * the values that rank_pattern and alpha_pattern give single modules. Paths are Hugging Face module paths without ".weight"
 * ("model.layers.3.self_attn.q_proj"). Regular expressions come from strangers: PCRE2 runs them within fixed limits.
 */
#ifndef DPS_GRAPH_TARGETS_H
#define DPS_GRAPH_TARGETS_H

#include "base/json.h"

/** What Hugging Face calls a layer's linear maps, in all six families: for errors. */
#define DPS_LINEAR_NAMES "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"

/** Names to match: a module is named by its whole path or by the end of it after a dot. Borrowed. */
typedef struct DpsNames {
    const char *const *names;
    size_t n;
} DpsNames;

/** What to match. All zeros but one of modules, pattern and all_linear is enough. Strings are borrowed until dps_targets_new returns. */
typedef struct DpsTargetSpec {
    DpsNames modules;            /* "q_proj", "mlp.down_proj", "model.layers.3.self_attn.q_proj" */
    const char *pattern;         /* a regular expression that must match the whole path */
    int all_linear;              /* every linear map but the output head */
    DpsNames exclude;            /* never these */
    const char *exclude_pattern; /* nor whole paths that match this */
    DpsNames modules_to_save;    /* trained whole, so never adapted either */
    const int64_t *layers;       /* layers_to_transform: only these layer numbers; modules by name only */
    size_t n_layers;
    DpsNames layers_pattern; /* names before the layer number ("layers"); none: the first number in the path counts */
    const char *where;       /* names the source in errors: "recipe.yaml:12", "adapter_config.json"; NULL: "target_modules" */
} DpsTargetSpec;

typedef struct DpsTargets DpsTargets;

/** Check and compile. Errors: USAGE (nothing to match, bad regular expression: its place and reason), LIMIT, NOMEM. [any] */
DpsStatus dps_targets_new (const DpsTargetSpec *spec, DpsTargets **out, DpsError *err);
void dps_targets_free (DpsTargets *t);

/**
 * The same from one string as people type it in a recipe: "all" or "all-linear", names separated by commas, else a regular expression.
 * `rest` gives everything but modules, pattern and all_linear. [any]
 */
DpsStatus dps_targets_from_text (const char *text, const DpsTargetSpec *rest, DpsTargets **out, DpsError *err);

/**
 * 1 when the linear map (or embedding) at `module_path` is adapted, else 0. Ask about linear maps only: "all-linear" knows no types, it
 * refuses just the output head (lm_head, score, classifier) and embed_tokens. Remembers what matched, for dps_targets_check.
 * Thread: [any], one at a time per object.
 */
int dps_targets_match (const DpsTargets *t, const char *module_path);

/**
 * 1 when the module is trained whole (modules_to_save: PEFT's rule, a component of the path ends with the name). Remembers what matched,
 * for dps_targets_saved. Thread: [any], one at a time per object.
 */
int dps_targets_saves (const DpsTargets *t, const char *module_path);
/** 1 when some module that dps_targets_saves was asked about is trained whole by name i of modules_to_save. [any] */
int dps_targets_saved (const DpsTargets *t, size_t i);

/**
 * To be called once every module was asked about. Errors: USAGE when nothing matched or a listed name matched nothing (each is named),
 * LIMIT when a regular expression ran past its step limit. [any]
 */
DpsStatus dps_targets_check (const DpsTargets *t, DpsError *err);

/** rank_pattern, alpha_pattern: module paths to numbers; the first entry whose regular expression matches the end of a path wins. */
typedef struct DpsPatternMap DpsPatternMap;

/**
 * From a JSON object of regular expressions to numbers in [min, max]; NULL or an empty object gives an empty map.
 * Errors: USAGE, naming the entry; LIMIT; NOMEM. [any]
 */
DpsStatus dps_pattern_map_new (const json_t *object, const char *where, double min, double max, DpsPatternMap **out, DpsError *err);
void dps_pattern_map_free (DpsPatternMap *m);
/** The value for a module, or `fallback`; NaN when an expression ran past its limits. A NULL map is an empty one. [any] */
double dps_pattern_map_get (const DpsPatternMap *m, const char *module_path, double fallback);
/** Once every module was asked about: each entry of `object`, which m was made from, gave some module its value. Errors: USAGE. [any] */
DpsStatus dps_pattern_map_check (const DpsPatternMap *m, const json_t *object, const char *where, DpsError *err);

#endif
