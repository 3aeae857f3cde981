/* SPDX-License-Identifier: Apache-2.0 */
/* advantage.h: from what a rollout earned to an advantage and a return per token. Plain arrays; one number per scored token unless said. */
#ifndef DPS_PPO_ADVANTAGE_H
#define DPS_PPO_ADVANTAGE_H

#include "diapason/objective.h"

typedef enum PpoKl { PPO_K1, PPO_K2, PPO_K3 } PpoKl;

/** How a rollout is turned into advantages. */
typedef struct PpoSettings {
    double gamma, lam;
    double missing_eos_penalty; /* taken from the score of an answer that stopped at the length limit */
    PpoKl estimator;
    int whiten_rewards;
} PpoSettings;

/** An estimate of KL (π_old ‖ π_ref) from one sampled token, nats. [any] */
double ppo_kl (PpoKl estimator, double old_logp, double ref_logp);

/** Σ_c w_c·R_c over the criteria that judged the row, less the penalty; NaN when none did. [any] */
double ppo_score_of_row (const PpoSettings *s, const DpsRewards *rewards, uint64_t row);

/**
 * (x − mean)/√(var + 1e-8) over the marked tokens, var with M−1; fewer than two are left at their mean's distance, 0. keep_mean: the mean is
 * added again. Unmarked ones are untouched. [any]
 */
void ppo_whiten (double *x, const unsigned char *marked, uint64_t n, int keep_mean);

/** Generalised advantages of one row of n tokens, and its returns A + V; the value after the last token is 0. [any] */
void ppo_gae (const PpoSettings *s, const double *reward, const double *value, int64_t n, double *out_advantage, double *out_return);

#endif
