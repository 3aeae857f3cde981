/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peft_config.h: adapter_config.json as PEFT writes and reads it: LoRA, rsLoRA, DoRA. The file comes from strangers: nothing in it is
 * opened, fetched or executed; a setting that would change the arithmetic and is not implemented is refused by name.
 */
#ifndef DPS_CKPT_PEFT_CONFIG_H
#define DPS_CKPT_PEFT_CONFIG_H

#include "base/json.h"
#include "graph/targets.h"

/** The PEFT whose format this is; what "peft_version" says in files we write. */
#define DPS_PEFT_VERSION "0.21.2"
enum { DPS_PEFT_MAX_RANK = 65536 };

/** peft_type of what another adapter plugin trained: PEFT refuses it, where it would take LORA for its own arithmetic. */
#define DPS_PEFT_OTHER       "DIAPASON"
#define DPS_PEFT_ADAPTER_KEY "diapason_adapter" /* its name */
#define DPS_PEFT_ARGS_KEY    "diapason_args"    /* its parameters */

/** Strings are borrowed: from the caller when writing, from `json` after reading. */
typedef struct DpsPeftConfig {
    int64_t r;           /* 1 … DPS_PEFT_MAX_RANK */
    double lora_alpha;   /* > 0 */
    double lora_dropout; /* 0 ≤ p < 1 */
    int use_rslora;      /* scale alpha/√r instead of alpha/r */
    int use_dora;
    const char *plugin;                         /* the adapter plugin, where it is neither lora nor dora; else NULL */
    const json_t *plugin_args;                  /* its parameters, an object; r, lora_alpha and lora_dropout are those among them, or 0 */
    int ensure_weight_tying;                    /* a saved embed_tokens is the head's too; written only when set */
    int classifies;                             /* task_type SEQ_CLS: a score head is among modules_to_save */
    const char *base_model;                     /* base_model_name_or_path: shown, never opened */
    const char *revision;                       /* NULL: null */
    DpsTargetSpec targets;                      /* target_modules, exclude_modules, modules_to_save, layers_to_transform, layers_pattern */
    const json_t *rank_pattern, *alpha_pattern; /* objects, or NULL */

    /* Set by reading; zero when the caller fills the struct to write it. */
    json_t *json;
    DpsPatternMap *ranks, *alphas;
    const char **names; /* what the lists of targets point into */
    int64_t *layers;
} DpsPeftConfig;

/**
 * Read adapter_config.json; `where` names it in errors. Free *out with dps_peft_config_free.
 * Errors: FORMAT (wrong type or value: key, found, expected), UNSUPPORTED (key and value), LIMIT, NOMEM; *out untouched then. [any]
 */
DpsStatus dps_peft_config_parse (const char *data, size_t len, const char *where, DpsPeftConfig *out, DpsError *err);
DpsStatus dps_peft_config_read (const char *path, DpsPeftConfig *out, DpsError *err);
void dps_peft_config_free (DpsPeftConfig *c);

/** The rank and scale of one module after rank_pattern, alpha_pattern and use_rslora. Errors: LIMIT (a pattern ran too long). [any] */
DpsStatus dps_peft_config_module (const DpsPeftConfig *c, const char *module, int64_t *out_r, double *out_scale, DpsError *err);

/** The file's content: every key PEFT needs, sorted. A new reference, or NULL when out of memory. [any] */
json_t *dps_peft_config_json (const DpsPeftConfig *c);

/**
 * Names for target_modules that select exactly `adapted` among the linear maps of a model: their last components when no map in `others`
 * ends so, else whole paths. *out: pointers into `adapted`'s strings, each once, sorted; free the array with dps_free.
 */
DpsStatus dps_peft_target_names (const DpsNames *adapted, const DpsNames *others, const char ***out, size_t *n, DpsError *err);

#endif
