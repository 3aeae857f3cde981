/* SPDX-License-Identifier: Apache-2.0 */
/*
 * objective.c: supervised fine-tuning with a margin. The loss of a row, w being the weights of its trained tokens:
 *
 *     loss = Σ_t w_t · max (0, −log p(t) − margin)
 *
 * divided by the tokens of the step. margin 0 is plain fine-tuning; above it a token predicted better than exp (−margin) is left alone.
 */
#include "base/mem.h"
#include "diapason/sdk.h"

/* What a recipe can set, by these names: type, default, least, most. Values arrive in `create`, checked, in this order. */
static const DpsParam margin = DPS_SDK_PARAM ("margin", DPS_PARAM_F64, 0, 0, 100, NULL, "nats a token may cost");
static const DpsParam *const params[] = {&margin};
enum { MARGIN, N_PARAMS };

/* What is read of a model: here the log-prob of each trained token, under the policy, and gradients flow into it. */
static const DpsSignal logp = {.size = sizeof logp, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal *const signals[] = {&logp};

/* unit: what a row of data is (single, pair, group). total: what a step's losses are divided by (its tokens, its units). */
static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "margin-sft",
    .summary = "supervised fine-tuning with a margin",
    .reference = "your paper, its equation",
    .unit = DPS_UNIT_SINGLE,
    .total = DPS_TOTAL_TOKENS,
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

/* The equation, forward only: the host differentiates what is written on its tape. One number a unit, not yet divided. */
static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *batch, const DpsVal *signal,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    (void)err;
    const double *p = self;
    DpsVal weights = ops->input (t, DPS_AXIS_TOKEN, batch->weights, batch->n_tokens);
    DpsVal cost = ops->relu (t, ops->sub (t, ops->neg (t, signal[0]), ops->constant (t, p[MARGIN])));
    *out_loss = ops->sum_units (t, ops->mul (t, weights, cost));
    dps_sdk_report_tokens (metrics, batch, "nll", batch->signals[0], -1); /* a column of metrics.jsonl */
    return DPS_OK;
}

static const DpsObjective objective = {.size = sizeof objective, .describe = describe, .create = create, .destroy = dps_free, .loss = loss};

DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective);
