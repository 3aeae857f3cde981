/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_model.h: the reward `model`: what the reward stage trained, judging answers. It is the host's own because it needs a model.
 *
 *     parameter     default
 *     path                   a model folder with score.weight, or a PEFT adapter of task_type SEQ_CLS
 *     base_path              the model under an adapter (reward_model and reward_funcs of a recipe: its model_name_or_path)
 *     dtype         auto     as of a recipe
 *     max_length    0        tokens of prompt and answer at most, cut at the end as the reward stage cuts; 0: all
 *
 * An answer's score is read where the reward stage reads it: at the last token of prompt and answer, as the template (for a prompt rendered by
 * one: it ends with the template's generation prompt) or the end-of-sequence token ends them. So it has the bits of that stage's evaluation of the
 * same text. Without a tokenizer prompts are numbers and the answer's ids are taken as they are.
 */
#ifndef DPS_TRAIN_REWARD_MODEL_H
#define DPS_TRAIN_REWARD_MODEL_H

#include "objective/rewards.h"

/** Offer the reward `model` to dps_rewards_open. [init] */
DpsStatus dps_reward_model_provide (DpsError *err);

#endif
