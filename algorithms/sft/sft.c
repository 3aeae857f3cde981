/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sft.c: supervised fine-tuning. For a row with scored tokens t of weight w_t (the mask decides which tokens are scored):
 *
 *     loss = −Σ_t w_t·log p(t)        divided by the scored tokens of the whole step
 *
 * so the step's loss is one mean over its tokens, not a mean of the means of rows.
 */
#include "diapason/sdk.h"

static const DpsSignal logp = {.size = sizeof logp, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal entropy = {.size = sizeof entropy, .name = "entropy", .role = "policy", .axis = DPS_AXIS_TOKEN};
static const DpsSignal hit = {.size = sizeof hit, .name = "hit", .role = "policy", .axis = DPS_AXIS_TOKEN};
static const DpsSignal *const signals[] = {&logp, &entropy, &hit};
enum { LOGP, ENTROPY, HIT, N_SIGNALS };

static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "sft",
    .summary = "supervised fine-tuning: cross-entropy of the trained tokens",
    .reference = "TRL 1.16 SFTTrainer, loss_type nll",
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
    DpsVal weights = ops->input (tape, DPS_AXIS_TOKEN, batch->weights, batch->n_tokens);
    *out_loss = ops->sum_units (tape, ops->neg (tape, ops->mul (tape, weights, signal[LOGP])));
    dps_sdk_report_tokens (metrics, batch, "entropy", batch->signals[ENTROPY], 1);
    dps_sdk_report_tokens (metrics, batch, "mean_token_accuracy", batch->signals[HIT], 1);
    return DPS_OK;
}

static const DpsObjective objective = {
    .size = sizeof objective, .describe = describe, .create = dps_sdk_create_nothing, .destroy = dps_sdk_destroy_nothing, .loss = loss};

DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective);
