/* SPDX-License-Identifier: Apache-2.0 */
/*
 * objective.c: supervised fine-tuning with a margin: loss of a row = Σ_t w_t · max(0, -logp_t - margin).
 * margin = 0 is plain SFT; with margin > 0 a token predicted better than exp(-margin) is left alone.
 */
#include "base/mem.h"
#include "base/status.h"
#include "diapason/diapason.h"
#include "diapason/draft/sdk.h"

typedef struct Objective {
    double margin;
} Objective;

static const DpsParam margin = {
    .size = sizeof (DpsParam), .name = "margin", .type = DPS_PARAM_F64, .def = 0, .min = 0, .max = 100, .help = "nats a token may cost"};
static const DpsParam *const params[] = {&margin};

static const DpsSignal logp = {.size = sizeof (DpsSignal), .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal *const signals[] = {&logp};

static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "margin-sft",
    .summary = "supervised fine-tuning with a margin",
    .reference = "your paper, its equation",
    .unit = DPS_UNIT_SINGLE,
    .total = DPS_TOTAL_TOKENS,
    .params = params,
    .n_params = 1,
    .n_signals = 1,
    .signals = signals,
};

static const DpsObjectiveInfo *describe (void) { return &info; }

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    Objective *o = dps_calloc (1, sizeof *o);
    if (!o)
        return dps_fail (err, DPS_ERR_NOMEM, "margin-sft: out of memory");
    o->margin = num[0];
    *out = o;
    return DPS_OK;
}

static void destroy (void *self) { dps_free (self); }

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *tape, const DpsObjectiveBatch *batch, const DpsVal *values,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    const Objective *o = self;
    (void)metrics;
    DpsVal cost = ops->relu (tape, ops->sub (tape, ops->neg (tape, values[0]), ops->constant (tape, o->margin)));
    DpsVal weights = ops->input (tape, DPS_AXIS_TOKEN, batch->weights, batch->n_tokens);
    DpsVal per_row = ops->sum_units (tape, ops->mul (tape, weights, cost));
    if (per_row < 0)
        return dps_fail (err, DPS_ERR_SHAPE, "margin-sft: the tape refused %llu tokens", (unsigned long long)batch->n_tokens);
    *out_loss = per_row;
    return DPS_OK;
}

static const DpsObjective objective = {.size = sizeof objective, .describe = describe, .create = create, .destroy = destroy, .loss = loss};

DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective);
