/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward.c: a reward model by Bradley and Terry. The score s of an answer is a linear head on the final hidden state of its last token; for a
 * pair (w chosen, l rejected)
 *
 *     loss = −log σ(s_w − s_l) + c·(s_w + s_l)²        c: center_rewards_coefficient
 *
 * divided by the pairs of the step.
 */
#include "base/mem.h"
#include "diapason/sdk_pairs.h"

static const DpsParam centre =
    DPS_SDK_PARAM ("center_rewards_coefficient", DPS_PARAM_F64, 0, 0, 1e6, NULL, "pull of a pair's scores to zero");
static const DpsParam *const params[] = {&centre};

static const DpsSignal score = {.size = sizeof score, .name = "score", .role = "policy", .axis = DPS_AXIS_ROW, .differentiable = 1};
static const DpsSignal *const signals[] = {&score};

static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "reward",
    .summary = "a reward model from preference pairs (Bradley-Terry)",
    .reference = "Bradley and Terry 1952; arXiv:2203.02155 eq. 1; centering arXiv:2312.09244; TRL 1.16 RewardTrainer",
    .unit = DPS_UNIT_PAIR,
    .total = DPS_TOTAL_UNITS,
    .params = params,
    .n_params = 1,
    .n_signals = 1,
    .signals = signals,
};

static const DpsObjectiveInfo *describe (void) { return &info; }

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    *out = dps_copy (num, 1, sizeof *num);
    return *out ? DPS_OK : dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
}

/* TRL's names for a reward trainer, beside those that all preference stages have. */
static void report_scores (const DpsMetricSink *sink, const DpsObjectiveBatch *b)
{
    const double *x = b->signals[0];
    for (uint64_t u = 0; u < b->n_units; u++) {
        const double chosen = x[b->unit_offsets[u]], rejected = x[b->unit_offsets[u] + 1];
        sink->add (sink->ctx, dps_str ("accuracy"), chosen > rejected, 1);
        sink->add (sink->ctx, dps_str ("margin"), chosen - rejected, 1);
        sink->add (sink->ctx, dps_str ("mean_reward"), (chosen + rejected) / 2, 1);
    }
}

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *batch, const DpsVal *signal,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    const double *coefficient = self;
    DpsStatus st = dps_sdk_check_pairs (batch, err);
    if (st != DPS_OK)
        return st;
    DpsVal chosen = ops->pick (t, signal[0], 0), rejected = ops->pick (t, signal[0], 1);
    DpsVal centred = ops->mul (t, ops->constant (t, *coefficient), ops->square (t, ops->add (t, chosen, rejected)));
    *out_loss = ops->sub (t, centred, ops->log_sigmoid (t, ops->sub (t, chosen, rejected)));
    dps_sdk_report_rewards (metrics, batch, batch->signals[0]);
    report_scores (metrics, batch);
    return DPS_OK;
}

static const DpsObjective objective = {.size = sizeof objective, .describe = describe, .create = create, .destroy = dps_free, .loss = loss};

DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective);
