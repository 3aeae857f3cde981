/* SPDX-License-Identifier: Apache-2.0 */
/* advantage.c: KL estimators, generalised advantage estimation (arXiv:1506.02438 eq. 16), whitening. */
#include "advantage.h"

#include <math.h>

double ppo_kl (PpoKl estimator, double old_logp, double ref_logp)
{
    double d = ref_logp - old_logp;
    return estimator == PPO_K1 ? -d : estimator == PPO_K2 ? 0.5 * d * d : expm1 (d) - d;
}

double ppo_score_of_row (const PpoSettings *s, const DpsRewards *rewards, uint64_t row)
{
    const double *values = rewards->values + row * rewards->n_criteria;
    double sum = 0;
    int judged = 0;
    for (uint64_t c = 0; c < rewards->n_criteria; c++)
        if (!isnan (values[c])) {
            sum += rewards->weights[c] * values[c];
            judged = 1;
        }
    if (!judged)
        return NAN;
    return rewards->truncated && rewards->truncated[row] ? sum - s->missing_eos_penalty : sum;
}

void ppo_whiten (double *x, const unsigned char *marked, uint64_t n, int keep_mean)
{
    double mean = 0, variance = 0, count = 0;
    for (uint64_t i = 0; i < n; i++)
        if (marked[i]) {
            mean += x[i];
            count++;
        }
    mean = count > 0 ? mean / count : 0;
    for (uint64_t i = 0; i < n; i++)
        if (marked[i])
            variance += (x[i] - mean) * (x[i] - mean);
    variance = count > 1 ? variance / (count - 1) : 0;
    for (uint64_t i = 0; i < n; i++)
        if (marked[i])
            x[i] = (x[i] - mean) / sqrt (variance + 1e-8) + (keep_mean ? mean : 0);
}

void ppo_gae (const PpoSettings *s, const double *reward, const double *value, int64_t n, double *out_advantage, double *out_return)
{
    double next = 0, advantage = 0;
    for (int64_t i = n; i-- > 0; next = value[i]) {
        double delta = reward[i] + s->gamma * next - value[i];
        advantage = delta + s->gamma * s->lam * advantage;
        out_advantage[i] = advantage;
        out_return[i] = advantage + value[i];
    }
}
