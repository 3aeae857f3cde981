/* SPDX-License-Identifier: Apache-2.0 */
/* answers.h: the policy's answers to prompts and what the rewards say of them: for rollouts and for evaluations. */
#ifndef DPS_TRAIN_ANSWERS_H
#define DPS_TRAIN_ANSWERS_H

#include "infer/generate.h"
#include "train/prompts.h"

struct DpsTrainer;

/** n prompts with K answers each, prompt-major: answer k of prompt i is number i·K + k. All zeros is empty. */
typedef struct DpsAnswers {
    DpsPrompts prompts;
    size_t per_prompt, n;
    DpsCompletion *completions; /* [n] */
    uint32_t *truncated;        /* [n] 1: stopped by max_completion_length */
    double *rewards;            /* (n, n_criteria), NaN: not judged */
} DpsAnswers;

/** How the run samples K answers, or (greedy) takes the likeliest tokens, without log-probs. */
void dps__answers_options (const struct DpsTrainer *t, size_t per_prompt, int greedy, DpsGenerateOptions *out);
/** Held-out prompts: how many answers each gets, and whether (*out_greedy) of the likeliest tokens: num_generations_eval. */
size_t dps__answers_held_out (const struct DpsTrainer *t, int *out_greedy);

/**
 * Sample K answers to each of a->prompts from the weights as they are, and have them judged. first: number of the first answer in the run, which
 * draws are keyed by. greedy: the likeliest tokens instead, without log-probs. Errors: INTERRUPTED, NONFINITE, NOMEM, those of the rewards.
 */
DpsStatus dps__answers_make (struct DpsTrainer *t, DpsAnswers *a, size_t per_prompt, uint64_t first, int greedy, DpsError *err);
void dps__answers_free (DpsAnswers *a);

/** Σ weight·reward over the criteria that judged it; NaN when none did. */
double dps__answer_total (const struct DpsTrainer *t, const DpsAnswers *a, size_t i);

#endif
