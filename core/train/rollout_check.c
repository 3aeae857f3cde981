/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rollout_check.c: in the first pass over what was sampled, before any update, the policy is still the one that answered: its log-probs are those
 * that were recorded, bit for bit, and every importance ratio is exactly 1. Where that is not so, sampling and training disagree about the model,
 * and what is learned is not what the objective says.
 */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "train/trainer.h"

int dps__rollout_compared (const DpsTrainer *t)
{
    for (uint32_t i = 0; i < t->objective->info.n_signals; i++)
        if (!strcmp (t->objective->signals[i].role, "rollout") && dps_objective_reads (t->objective, i))
            return 1;
    return 0;
}

/* 1 when the bits are the same. */
static int same_bits (float a, float b) { return !memcmp (&a, &b, sizeof a); }

DpsStatus dps__rollout_check (DpsTrainer *t, const DpsPlace *places, size_t n, const float *logp, DpsError *err)
{
    const DpsRollout *o = &t->rollout;
    const size_t first = (size_t)(places - o->places);
    size_t differ = 0, total = 0;
    double most = 0;
    for (size_t i = 0; i < n; i++)
        for (int64_t k = 0; k < places[i].counts.scored; k++, total++) {
            float was = o->logp[first + i][k], is = logp[total];
            differ += !same_bits (was, is);
            most = fmax (most, fabs ((double)is - (double)was));
        }
    if (differ == 0)
        return DPS_OK;
    if (t->recipe->allow_ratio_drift) {
        if (!t->rollout.drifted)
            dps_log (DPS_LOG_WARNING, "step %llu: %zu of %zu log-probs are not those the answers were sampled with, by %.3g at most",
                     (unsigned long long)t->step + 1, differ, total, most);
        t->rollout.drifted = 1;
        return DPS_OK;
    }
    return dps_fail (
        err, DPS_ERR_INTERNAL,
        "step %llu: %zu of %zu log-probs are not those the answers were sampled with, by %.3g at most: the ratio of policy and "
        "rollout is not 1 before the first update. Hint: another dtype, or a device that takes these ops in every shape; "
        "allow_ratio_drift: true goes on all the same",
        (unsigned long long)t->step + 1, differ, total, most);
}
