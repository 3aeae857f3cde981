/* SPDX-License-Identifier: Apache-2.0 */
/* settle_rollout.c: recipes whose answers are sampled from the policy: keys that need each other, and what follows from them. */
#include <string.h>

#include "recipe/internal.h"

int dps_recipe_samples (const DpsRecipe *r) { return r->reward_funcs.n > 0; }

static const DpsKeyId given_answers[] = {DPS_KEY_max_length, DPS_KEY_packing, DPS_KEY_packing_strategy, DPS_KEY_completion_only_loss,
                                         DPS_KEY_assistant_only_loss};

int dps__key_is_for_given_answers (DpsKeyId id)
{
    size_t n = sizeof given_answers / sizeof *given_answers, i = 0;
    while (i < n && given_answers[i] != id)
        i++;
    return i < n;
}

static DpsStatus fail_key (const DpsRecipeReader *in, DpsKeyId key, const char *why)
{
    return dps_fail (in->err, DPS_ERR_USAGE, "%s: %s: %s", dps_recipe_where (in->recipe, key), dps_recipe_key_name (key), why);
}

static DpsStatus refuse (const DpsRecipeReader *in, const DpsKeyId *keys, size_t n, const char *why)
{
    for (size_t i = 0; i < n; i++)
        if (in->recipe->place[keys[i]])
            return fail_key (in, keys[i], why);
    return DPS_OK;
}

static DpsStatus settle_generation (const DpsRecipeReader *in)
{
    DpsRecipe *r = in->recipe;
    if (r->generation_batch_size && r->steps_per_generation)
        return fail_key (in, DPS_KEY_generation_batch_size, "steps_per_generation is given too: remove one");
    if (r->num_mini_batches && (r->generation_batch_size || r->steps_per_generation))
        return fail_key (in, DPS_KEY_num_mini_batches, "generation_batch_size or steps_per_generation is given too: remove one");
    if (r->num_mini_batches)
        r->steps_per_generation = r->num_mini_batches * r->gradient_accumulation_steps;
    if (r->generation_batch_size % r->per_device_train_batch_size)
        return dps_fail (in->err, DPS_ERR_USAGE,
                         "%s: generation_batch_size is %lld, expected a multiple of per_device_train_batch_size %lld",
                         dps_recipe_where (r, DPS_KEY_generation_batch_size), (long long)r->generation_batch_size,
                         (long long)r->per_device_train_batch_size);
    if (r->generation_batch_size)
        r->steps_per_generation = r->generation_batch_size / r->per_device_train_batch_size;
    if (r->steps_per_generation == 0)
        r->steps_per_generation = r->gradient_accumulation_steps;
    if (r->steps_per_generation % r->gradient_accumulation_steps)
        return dps_fail (
            in->err, DPS_ERR_USAGE,
            "%s: %lld micro-batches are sampled at once, expected a multiple of gradient_accumulation_steps %lld, so that steps "
            "begin and end with what was sampled",
            dps_recipe_where (r, r->generation_batch_size ? DPS_KEY_generation_batch_size : DPS_KEY_steps_per_generation),
            (long long)r->steps_per_generation, (long long)r->gradient_accumulation_steps);
    return DPS_OK;
}

DpsStatus dps__settle_rollout (const DpsRecipeReader *in)
{
    static const DpsKeyId sampling[] = {DPS_KEY_num_generations,
                                        DPS_KEY_num_generations_eval,
                                        DPS_KEY_temperature,
                                        DPS_KEY_top_p,
                                        DPS_KEY_top_k,
                                        DPS_KEY_min_p,
                                        DPS_KEY_repetition_penalty,
                                        DPS_KEY_steps_per_generation,
                                        DPS_KEY_generation_batch_size,
                                        DPS_KEY_num_mini_batches,
                                        DPS_KEY_rollout_batch_size,
                                        DPS_KEY_num_iterations,
                                        DPS_KEY_stop_strings,
                                        DPS_KEY_allow_ratio_drift,
                                        DPS_KEY_log_completions};
    const DpsRecipe *r = in->recipe;
    if (!dps_recipe_samples (r) && r->place[DPS_KEY_num_iterations] && r->num_iterations > 1)
        return fail_key (in, DPS_KEY_num_iterations,
                         "passes over what was sampled, to sample less often, and these rows bring their answers: num_train_epochs counts "
                         "passes over them, and each step compares the policy with the one just before it");
    if (!dps_recipe_samples (r) && r->reward_weights.n)
        return fail_key (in, DPS_KEY_reward_weights, "is given, but no reward_funcs");
    if (!dps_recipe_samples (r))
        return refuse (in, sampling, sizeof sampling / sizeof *sampling,
                       "belongs to runs that sample their answers: give reward_funcs, or remove it");
    DPS_TRY (refuse (in, given_answers, sizeof given_answers / sizeof *given_answers,
                     "answers are sampled, so rows are prompts; their lengths are max_prompt_length and max_completion_length: remove it"));
    for (size_t i = 0; i < r->stop_strings.n; i++)
        if (!*r->stop_strings.items[i])
            return fail_key (in, DPS_KEY_stop_strings, "an empty text would end every answer at once");
    return settle_generation (in);
}
