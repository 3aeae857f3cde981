/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewards.h: what answers earn. The rewards of a recipe (reward_funcs, reward_weights, reward_model) are opened together and judge answers by
 * all their criteria; each is a plugin of `dps.reward/1`, or one the host provides because it needs a model.
 *
 * A reward that fails or does not answer in time costs the rows concerned: their value is NaN, they are counted, and the log says so at the
 * first, second, fourth, eighth … time. It never ends the run.
 */
#ifndef DPS_OBJECTIVE_REWARDS_H
#define DPS_OBJECTIVE_REWARDS_H

#include "diapason/reward.h"
#include "plugin/registry.h"
#include "recipe/recipe.h"

enum { DPS_CRITERIA_MAX = 64, DPS_CRITERION_NAME_MAX = 47 };

typedef struct DpsRewardSet DpsRewardSet;

/** How many (row, criterion) went which way. */
typedef struct DpsRewardCounts {
    uint64_t judged, not_judged, failed, timed_out;
} DpsRewardCounts;

/**
 * A reward that lives in the host: `open` has the registry besides what a plugin's open is given. table.open is not called.
 * Static storage; the same name again replaces it. Errors: LIMIT. [init]
 */
typedef struct DpsHostReward {
    DpsReward table;
    DpsStatus (*open) (const DpsRegistry *reg, const double *num, const DpsStr *str, void **out, DpsError *err);
    /**
     * The bytes it will need for prompts with answers of at most `tokens` tokens together; with `reserve` all of them are allocated now.
     * Allocated already or not, they count; tokens 0: the weights alone. NULL slot: none worth counting. Errors: NOMEM, IO, those of a model's weights.
     */
    DpsStatus (*plan) (void *self, uint64_t tokens, int reserve, uint64_t *out_bytes, DpsError *err);
} DpsHostReward;
DpsStatus dps_rewards_provide (const DpsHostReward *reward, DpsError *err);

/**
 * Open the rewards of a recipe. Both are borrowed until close. *out is NULL when the recipe has none.
 * Errors: USAGE with the recipe's file and line: an unknown reward or parameter (with what was probably meant), a value out of its range, two
 * weights for one reward, a number of weights that is not the number of rewards or criteria; the plugin's own, with the place. [init]
 */
DpsStatus dps_rewards_open (const DpsRegistry *reg, const DpsRecipe *recipe, DpsRewardSet **out, DpsError *err);
void dps_rewards_close (DpsRewardSet *set);

/**
 * The criteria of all rewards, in the recipe's order: the label or name of a reward with one criterion, else the criterion's own name, behind
 * the label when one is given ("panel.tone"); "_2" … keeps them apart. At most DPS_CRITERION_NAME_MAX bytes. Valid until close. [any]
 */
void dps_rewards_criteria (const DpsRewardSet *set, const DpsStr **out_names, const double **out_weights, size_t *out_n);

/**
 * Judge n answers. values (n_rows, n_criteria): NaN where a criterion did not judge, failed or timed out. whole: an answer on which one failed or
 * timed out is NaN by all, since what the others say of it is less than they say of its neighbours, and learning would blame it for the failure.
 * out_counts: this call's, may be NULL. Errors: NOMEM, CANCELLED only: all else costs rows. Thread: one call at a time per set.
 */
DpsStatus dps_rewards_score (DpsRewardSet *set, const DpsRewardRow *const *rows, size_t n_rows, int whole, double *values,
                             DpsRewardCounts *out_counts, DpsError *err);

/**
 * What the host's own rewards need in memory (a model's weights and activations) for prompts with answers of at most `tokens` tokens; with
 * `reserve` it is allocated now, and judging such answers allocates no more. Errors: those of the rewards, with their names. [init]
 */
DpsStatus dps_rewards_plan (DpsRewardSet *set, uint64_t tokens, int reserve, uint64_t *out_bytes, DpsError *err);

/** For who only wants to hear what rewards say. Errors: IO: a reward failed or timed out on all it was asked, with its last reason. [any] */
DpsStatus dps_rewards_judged_any (const DpsRewardSet *set, DpsError *err);

/** Since open. [any] */
DpsRewardCounts dps_rewards_counts (const DpsRewardSet *set);

#endif
