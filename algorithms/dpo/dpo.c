/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dpo.c: preference against a reference policy. With the log-ratio of an answer, ρ = Σ_t (log p(t) − log p_ref(t)), and for a pair (w chosen,
 * l rejected) Δ = ρ_w − ρ_l, the loss of a pair is
 *
 *     sigmoid   −(1 − ε)·log σ(βΔ) − ε·log σ(−βΔ)      ε: label_smoothing
 *     hinge     max(0, 1 − βΔ)
 *     ipo       (Δ̄ − 1/(2β))²,  Δ̄ of the log-ratios' means per token
 *
 * divided by the pairs of the step. The reference is the policy before step 1.
 */
#include "base/mem.h"
#include "diapason/sdk_pairs.h"

static const DpsParam beta = DPS_SDK_PARAM ("beta", DPS_PARAM_F64, 0.1, 1e-9, 1e6, NULL, "strength of the pull to the reference");
static const DpsParam type = DPS_SDK_PARAM ("loss_type", DPS_PARAM_STR, 0, 0, 0, "sigmoid|ipo|hinge", "variant of the loss");
static const DpsParam smoothing =
    DPS_SDK_PARAM ("label_smoothing", DPS_PARAM_F64, 0, 0, 0.5, NULL, "share of pairs judged the wrong way (sigmoid)");
static const DpsParam *const params[] = {&beta, &type, &smoothing};
enum { BETA, TYPE, SMOOTHING, N_PARAMS };

static const DpsSignal logp = {.size = sizeof logp, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal reference = {.size = sizeof reference, .name = "logp", .role = "reference", .axis = DPS_AXIS_TOKEN};
static const DpsSignal entropy = {.size = sizeof entropy, .name = "entropy", .role = "policy", .axis = DPS_AXIS_TOKEN};
static const DpsSignal hit = {.size = sizeof hit, .name = "hit", .role = "policy", .axis = DPS_AXIS_TOKEN};
static const DpsSignal *const signals[] = {&logp, &reference, &entropy, &hit};
enum { POLICY, REFERENCE, ENTROPY, HIT, N_SIGNALS };

static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "dpo",
    .summary = "preference pairs against a reference policy: sigmoid, ipo, hinge",
    .reference = "arXiv:2305.18290 eq. 7; IPO arXiv:2310.12036; hinge arXiv:2305.10425; TRL 1.16 DPOTrainer",
    .unit = DPS_UNIT_PAIR,
    .total = DPS_TOTAL_UNITS,
    .params = params,
    .n_params = N_PARAMS,
    .n_signals = N_SIGNALS,
    .signals = signals,
};

static const DpsObjectiveInfo *describe (void) { return &info; }

typedef struct Dpo Dpo;
/** The losses of the pairs from their margins. */
typedef DpsVal (*Variant) (const Dpo *self, const DpsHostTape *ops, struct DpsTape *t, DpsVal margin);

struct Dpo {
    double beta, smoothing;
    int per_token; /* margins are of means, not of sums */
    Variant variant;
};

static DpsVal scaled (const DpsHostTape *ops, struct DpsTape *t, double by, DpsVal x) { return ops->mul (t, ops->constant (t, by), x); }

static DpsVal sigmoid_loss (const Dpo *d, const DpsHostTape *ops, struct DpsTape *t, DpsVal margin)
{
    DpsVal x = scaled (ops, t, d->beta, margin);
    DpsVal right = scaled (ops, t, 1 - d->smoothing, ops->log_sigmoid (t, x));
    return ops->neg (t, ops->add (t, right, scaled (ops, t, d->smoothing, ops->log_sigmoid (t, ops->neg (t, x)))));
}

static DpsVal hinge_loss (const Dpo *d, const DpsHostTape *ops, struct DpsTape *t, DpsVal margin)
{
    return ops->relu (t, ops->sub (t, ops->constant (t, 1), scaled (ops, t, d->beta, margin)));
}

static DpsVal ipo_loss (const Dpo *d, const DpsHostTape *ops, struct DpsTape *t, DpsVal margin)
{
    return ops->square (t, ops->sub (t, margin, ops->constant (t, 1 / (2 * d->beta))));
}

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    Dpo *d = dps_malloc (1, sizeof *d);
    if (!d)
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    int ipo = dps_str_is (str[TYPE], "ipo"), hinge = dps_str_is (str[TYPE], "hinge");
    *d = (Dpo){num[BETA], num[SMOOTHING], ipo, ipo ? ipo_loss : hinge ? hinge_loss : sigmoid_loss};
    *out = d;
    return DPS_OK;
}

static void destroy (void *self) { dps_free (self); }

/* How many of the chosen answers' tokens are the likeliest ones. */
static void report_accuracy (const DpsMetricSink *sink, const DpsObjectiveBatch *b)
{
    for (uint64_t u = 0; u < b->n_units; u++) {
        const int64_t row = b->unit_offsets[u];
        double hits = 0, weight = 0;
        for (int64_t i = b->row_offsets[row]; i < b->row_offsets[row + 1]; i++) {
            hits += b->weights[i] * b->signals[HIT][i];
            weight += b->weights[i];
        }
        if (weight > 0)
            sink->add (sink->ctx, dps_str ("mean_token_accuracy"), hits / weight, weight);
    }
}

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *batch, const DpsVal *signal,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    const Dpo *d = self;
    DpsStatus st = dps_sdk_check_pairs (batch, err);
    if (st != DPS_OK)
        return st;
    DpsVal weights = ops->input (t, DPS_AXIS_TOKEN, batch->weights, batch->n_tokens);
    DpsVal ratio = ops->sum_rows (t, ops->mul (t, weights, ops->sub (t, signal[POLICY], signal[REFERENCE])));
    DpsVal judged = d->per_token ? ops->div (t, ratio, ops->sum_rows (t, weights)) : ratio;
    *out_loss = d->variant (d, ops, t, ops->sub (t, ops->pick (t, judged, 0), ops->pick (t, judged, 1)));
    DpsVal sums = ops->sum_rows (t, ops->mul (t, weights, signal[POLICY]));
    dps_sdk_report_rewards (metrics, batch, ops->data (t, scaled (ops, t, d->beta, ratio), NULL));
    dps_sdk_report_sides (metrics, batch, "logps/chosen", "logps/rejected", ops->data (t, sums, NULL));
    dps_sdk_report_tokens (metrics, batch, "entropy", batch->signals[ENTROPY], 1);
    report_accuracy (metrics, batch);
    return DPS_OK;
}

static const DpsObjective objective = {.size = sizeof objective, .describe = describe, .create = create, .destroy = destroy, .loss = loss};

DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective);
