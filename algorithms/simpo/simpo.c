/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simpo.c: preference without a reference model. The reward of an answer is its mean log-probability; for a pair (w chosen, l rejected)
 *
 *     r = β · (Σ_t log p(t)) / (tokens of the answer)
 *     loss = −log σ(r_w − r_l − γ)  −  α · (Σ_t log p(t)) / (tokens), of the chosen answer
 *
 * divided by the pairs of the step. label_smoothing ε: (1 − ε) of the first term, and ε of it with the pair the wrong way round.
 */
#include "base/mem.h"
#include "diapason/sdk_pairs.h"

static const DpsParam beta = DPS_SDK_PARAM ("beta", DPS_PARAM_F64, 2, 1e-9, 1e6, NULL, "scale of the reward (TRL's default: 0.1)");
static const DpsParam gamma_ = DPS_SDK_PARAM ("simpo_gamma", DPS_PARAM_F64, 1, 0, 1e6, NULL, "margin the rewards should have (TRL: 0.5)");
static const DpsParam alpha =
    DPS_SDK_PARAM ("cpo_alpha", DPS_PARAM_F64, 0, 0, 1e6, NULL, "weight of the chosen answer's likelihood (TRL: 1)");
static const DpsParam smoothing = DPS_SDK_PARAM ("label_smoothing", DPS_PARAM_F64, 0, 0, 0.5, NULL, "share of pairs judged the wrong way");
static const DpsParam *const params[] = {&beta, &gamma_, &alpha, &smoothing};
enum { BETA, GAMMA, ALPHA, SMOOTHING, N_PARAMS };

static const DpsSignal logp = {.size = sizeof logp, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal *const signals[] = {&logp};

static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "simpo",
    .summary = "preference pairs by length-normalised log-probability, without a reference",
    .reference = "arXiv:2405.14734 eq. 6; TRL 1.16 CPOTrainer, loss_type simpo",
    .unit = DPS_UNIT_PAIR,
    .total = DPS_TOTAL_UNITS,
    .params = params,
    .n_params = N_PARAMS,
    .n_signals = 1,
    .signals = signals,
};

static const DpsObjectiveInfo *describe (void) { return &info; }

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    *out = dps_copy (num, N_PARAMS, sizeof *num);
    return *out ? DPS_OK : dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
}

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *batch, const DpsVal *signal,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    const double *p = self;
    DpsStatus st = dps_sdk_check_pairs (batch, err);
    if (st != DPS_OK)
        return st;
    DpsVal weights = ops->input (t, DPS_AXIS_TOKEN, batch->weights, batch->n_tokens);
    DpsVal mean = ops->div (t, ops->sum_rows (t, ops->mul (t, weights, signal[0])), ops->sum_rows (t, weights));
    DpsVal reward = ops->mul (t, ops->constant (t, p[BETA]), mean);
    DpsVal margin = ops->sub (t, ops->sub (t, ops->pick (t, reward, 0), ops->pick (t, reward, 1)), ops->constant (t, p[GAMMA]));
    DpsVal right = ops->mul (t, ops->constant (t, 1 - p[SMOOTHING]), ops->log_sigmoid (t, margin));
    DpsVal wrong = ops->mul (t, ops->constant (t, p[SMOOTHING]), ops->log_sigmoid (t, ops->neg (t, margin)));
    DpsVal likely = ops->mul (t, ops->constant (t, p[ALPHA]), ops->pick (t, mean, 0));
    *out_loss = ops->neg (t, ops->add (t, ops->add (t, right, wrong), likely));
    const double *means = ops->data (t, mean, NULL);
    dps_sdk_report_rewards (metrics, batch, ops->data (t, reward, NULL));
    dps_sdk_report_sides (metrics, batch, "logps/chosen", "logps/rejected", means);
    for (uint64_t u = 0; means && p[ALPHA] > 0 && u < batch->n_units; u++)
        metrics->add (metrics->ctx, dps_str ("nll_loss"), -means[batch->unit_offsets[u]], 1);
    return DPS_OK;
}

static const DpsObjective objective = {.size = sizeof objective, .describe = describe, .create = create, .destroy = dps_free, .loss = loss};

DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective);
