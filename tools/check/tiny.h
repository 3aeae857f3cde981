/* SPDX-License-Identifier: Apache-2.0 */
/* tiny.h: a small random Llama, rows it can learn, and a recipe, written into a folder: what the training level runs on. */
#ifndef DPS_TOOLS_CHECK_TINY_H
#define DPS_TOOLS_CHECK_TINY_H

#include "base/status.h"

/** folder/model (config.json, model.safetensors) and folder/rows.jsonl. Everything is a function of seed. */
DpsStatus tiny_write (const char *folder, uint64_t seed, DpsError *err);

/** folder/NAME.yaml: LoRA on all linear maps of it, `steps` steps into folder/NAME, a checkpoint every `save`. */
DpsStatus tiny_recipe (const char *folder, const char *name, int steps, int save, DpsError *err);

/** The "loss" of each line of folder/NAME/metrics.jsonl that has one, by step from 1: out[step - 1]; NaN where there is none. */
DpsStatus tiny_losses (const char *folder, const char *name, int steps, double *out, DpsError *err);

#endif
