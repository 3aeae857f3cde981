/* SPDX-License-Identifier: Apache-2.0 */
/* multimodal.h: what a multimodal checkpoint wraps around its language model, taken off. Internal to the stage. */
#ifndef DPS_GRAPH_MULTIMODAL_H
#define DPS_GRAPH_MULTIMODAL_H

#include "base/json.h"
#include "base/status.h"

/** The text model's name of a tensor: the nesting is spelt in two ways. `name` itself, a part of it, or `buffer`. Pure. */
const char *dps__text_name (const char *name, char *buffer, size_t cap);
/** Whether a text_name is the language model's; 0: a tower of images or sounds, a projector. Pure. */
int dps__text_is_part (const char *text_name);
/** Replace *config by its text_config (and return 1), if it has one; -1: out of memory. */
int dps__text_config (json_t **config);

#endif
