/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pretrain.c: (continued) pretraining: the mean over all tokens of −log p, as in sft.c, where every token but a document's first is scored.
 * What differs is what is watched: text is judged by its information content, in bits, and no entropy of the distribution is asked for,
 * so the head computes less on a stage that scores every token.
 */
#include "diapason/sdk.h"

static const DpsSignal logp = {.size = sizeof logp, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal hit = {.size = sizeof hit, .name = "hit", .role = "policy", .axis = DPS_AXIS_TOKEN};
static const DpsSignal *const signals[] = {&logp, &hit};
enum { LOGP, HIT, N_SIGNALS };

static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "pretrain",
    .summary = "(continued) pretraining: cross-entropy of every token, reported in bits",
    .reference = "Shannon 1951, Prediction and entropy of printed English; loss as TRL 1.16 SFTTrainer on plain text",
    .unit = DPS_UNIT_SINGLE,
    .total = DPS_TOTAL_TOKENS,
    .n_signals = N_SIGNALS,
    .signals = signals,
};

static const DpsObjectiveInfo *describe (void) { return &info; }

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *tape, const DpsObjectiveBatch *batch, const DpsVal *signal,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    (void)self, (void)err;
    const double bits_per_nat = 1.4426950408889634; /* 1/ln 2 */
    DpsVal weights = ops->input (tape, DPS_AXIS_TOKEN, batch->weights, batch->n_tokens);
    *out_loss = ops->sum_units (tape, ops->neg (tape, ops->mul (tape, weights, signal[LOGP])));
    dps_sdk_report_tokens (metrics, batch, "bits_per_token", batch->signals[LOGP], -bits_per_nat);
    dps_sdk_report_tokens (metrics, batch, "mean_token_accuracy", batch->signals[HIT], 1);
    return DPS_OK;
}

static const DpsObjective objective = {
    .size = sizeof objective, .describe = describe, .create = dps_sdk_create_nothing, .destroy = dps_sdk_destroy_nothing, .loss = loss};

DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective);
