/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpo.c: a group of answers to one prompt, each with an advantage A over its group (advantages.c). With the ratio of the policy to the one that
 * sampled, ρ = exp(log p − log p_old) per token, or one for an answer, exp(mean over its tokens), the loss of a token is
 *
 *     ℓ = −min(ρ·A, clip(ρ, 1 − ε, 1 + ε_high)·A) + β·k3      k3 = exp(d) − d − 1,  d = log p_ref − log p;  with the bias correction ρ·k3
 *
 *     grpo      mean over answers of the mean over their tokens        gspo: the same with one ratio for an answer
 *     bnpo      Σℓ / tokens, of each micro-batch; mean over these      the only one that depends on how a step is split
 *     dr_grpo   Σℓ / (answers · max_completion_length)
 *     dapo      Σℓ / tokens of the step
 */
#include "grpo.h"

#include <math.h>

#include "base/mem.h"

static const DpsParam type =
    DPS_SDK_PARAM ("loss_type", DPS_PARAM_STR, 0, 0, 0, "dapo|grpo|bnpo|dr_grpo|gspo", "what the loss is a mean over");
static const DpsParam level = DPS_SDK_PARAM ("importance_sampling_level", DPS_PARAM_STR, 0, 0, 0, "token|sequence",
                                             "a ratio for a token, or one for an answer (GSPO)");
static const DpsParam epsilon = DPS_SDK_PARAM ("epsilon", DPS_PARAM_F64, 0.2, 0, 1, NULL, "the ratio is clipped at 1 - epsilon");
static const DpsParam epsilon_high =
    DPS_SDK_PARAM ("epsilon_high", DPS_PARAM_F64, -1, -1, 1e6, NULL, "the ratio is clipped at 1 + epsilon_high; -1: at 1 + epsilon");
static const DpsParam delta =
    DPS_SDK_PARAM ("delta", DPS_PARAM_F64, 0, 0, 1e6, NULL, "bound of the unclipped ratio, above 1 + epsilon; 0: none");
static const DpsParam beta = DPS_SDK_PARAM ("beta", DPS_PARAM_F64, 0, 0, 1e6, NULL, "weight of the KL divergence to the reference");
static const DpsParam correction =
    DPS_SDK_PARAM ("use_bias_correction_kl", DPS_PARAM_BOOL, 1, 0, 1, NULL, "multiply the KL by the ratio (the paper's: false)");
static const DpsParam scale = DPS_SDK_PARAM ("scale_rewards", DPS_PARAM_STR, 0, 0, 0, "group|batch|none|true|false",
                                             "what advantages are divided by: the deviation of a group, of the step, nothing");
static const DpsParam aggregation = DPS_SDK_PARAM ("multi_objective_aggregation", DPS_PARAM_STR, 0, 0, 0,
                                                   "sum_then_normalize|normalize_then_sum", "how several criteria become one advantage");
static const DpsParam mask_truncated =
    DPS_SDK_PARAM ("mask_truncated_completions", DPS_PARAM_BOOL, 0, 0, 1, NULL, "answers that stopped at the length limit are not trained");
static const DpsParam longest =
    DPS_SDK_PARAM ("max_completion_length", DPS_PARAM_I64, 512, 1, 1 << 24, NULL, "tokens of an answer at most; dr_grpo divides by it");
static const DpsParam vetoes = DPS_SDK_PARAM ("reward_vetoes", DPS_PARAM_STR, 0, 0, 0, NULL,
                                              "\"safety<0.5, format<1\": such an answer is worse than all others of its group");
static const DpsParam dominance = DPS_SDK_PARAM ("reward_dominance", DPS_PARAM_F64, 0.9, 0, 1e6, NULL,
                                                 "alarm when one of several criteria explains more of the advantage's variance");
static const DpsParam *const params[] = {&type,  &level,       &epsilon,        &epsilon_high, &delta,  &beta,     &correction,
                                         &scale, &aggregation, &mask_truncated, &longest,      &vetoes, &dominance};
enum { TYPE, LEVEL, EPSILON, HIGH, DELTA, BETA, CORRECTION, SCALE, AGGREGATION, MASK_TRUNCATED, LONGEST, VETOES, DOMINANCE, N_PARAMS };

static const DpsSignal policy = {.size = sizeof policy, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal entropy = {.size = sizeof entropy, .name = "entropy", .role = "policy", .axis = DPS_AXIS_TOKEN};
static const DpsSignal rollout = {.size = sizeof rollout, .name = "logp", .role = "rollout", .axis = DPS_AXIS_TOKEN};
static const DpsSignal reference = {.size = sizeof reference, .name = "logp", .role = "reference", .axis = DPS_AXIS_TOKEN};
static const DpsSignal advantage = {.size = sizeof advantage, .name = "advantage", .role = "step", .axis = DPS_AXIS_ROW};
static const DpsSignal share = {
    .size = sizeof share, .name = "share", .role = "step", .axis = DPS_AXIS_ROW}; /* of an answer's loss; 0: masked */
static const DpsSignal *const signals[] = {&policy, &entropy, &rollout, &reference, &advantage, &share};
enum { POLICY, ENTROPY, ROLLOUT, REFERENCE, ADVANTAGE, SHARE, N_SIGNALS };

static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "grpo",
    .summary = "groups of answers judged by several criteria, with a clipped ratio: grpo, bnpo, dr_grpo, dapo, gspo",
    .reference =
        "arXiv:2402.03300 (GRPO); arXiv:2503.20783 (Dr. GRPO); arXiv:2503.14476 (DAPO); arXiv:2507.18071 (GSPO); TRL 1.16 GRPOTrainer",
    .unit = DPS_UNIT_GROUP,
    .total = DPS_TOTAL_ROWS,
    .params = params,
    .n_params = N_PARAMS,
    .n_signals = N_SIGNALS,
    .signals = signals,
};

static const DpsObjectiveInfo *describe (void) { return &info; }

typedef enum LossType { GRPO, BNPO, DR_GRPO, DAPO } LossType;

typedef struct Grpo {
    LossType type;
    int per_sequence, correction, mask_truncated;
    double low, high, delta, beta, longest;
    GrpoRewards rewards;
} Grpo;

static DpsHost the_host;

static DpsStatus init (const struct DpsHost *host, const char *path, DpsError *err)
{
    (void)path, (void)err;
    dps_table_copy (&the_host, sizeof the_host, host);
    return DPS_OK;
}

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    const DpsStr t = str[TYPE], s = str[SCALE];
    const double upper = num[HIGH] < 0 ? num[EPSILON] : num[HIGH];
    if (num[DELTA] > 0 && num[DELTA] <= 1 + upper)
        return dps_sdk_fail (err, DPS_ERR_INVALID, "delta bounds the ratio above the clip: it must be larger than 1 + epsilon_high");
    Grpo *g = dps_calloc (1, sizeof *g);
    if (!g)
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    *g = (Grpo){
        .type = dps_str_is (t, "dapo")      ? DAPO
                : dps_str_is (t, "bnpo")    ? BNPO
                : dps_str_is (t, "dr_grpo") ? DR_GRPO
                                            : GRPO,
        .per_sequence = dps_str_is (t, "gspo") || dps_str_is (str[LEVEL], "sequence"),
        .correction = num[CORRECTION] != 0,
        .mask_truncated = num[MASK_TRUNCATED] != 0,
        .low = 1 - num[EPSILON],
        .high = 1 + upper,
        .delta = num[DELTA],
        .beta = num[BETA],
        .longest = num[LONGEST],
        .rewards = {.normalize_first = dps_str_is (str[AGGREGATION], "normalize_then_sum"),
                    .scale = dps_str_is (s, "batch")                             ? GRPO_SCALE_BATCH
                             : dps_str_is (s, "none") || dps_str_is (s, "false") ? GRPO_SCALE_NONE
                                                                                 : GRPO_SCALE_GROUP,
                    .dominance = num[DOMINANCE]},
    };
    DpsStatus st = grpo_read_vetoes (str[VETOES], &g->rewards, err);
    if (st != DPS_OK) {
        dps_free (g);
        return st;
    }
    *out = g;
    return DPS_OK;
}

static void destroy (void *self) { dps_free (self); }

/* The reference costs a forward pass over every answer. */
static uint32_t reads (void *self, uint32_t signal)
{
    const Grpo *g = self;
    return signal != REFERENCE || g->beta != 0;
}

/* dapo is a mean over the tokens that are trained: where answers are masked, those of the others weigh more than the step's tokens say. */
static void share_out (const Grpo *g, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *out)
{
    double tokens = 0, trained = 0;
    for (uint64_t r = 0; r < step->n_rows; r++) {
        const double n = (double)(step->row_offsets[r + 1] - step->row_offsets[r]);
        out[r] = g->mask_truncated && rewards->truncated && rewards->truncated[r] ? 0 : 1;
        tokens += n;
        trained += out[r] * n;
    }
    for (uint64_t r = 0; r < step->n_rows && g->type == DAPO && trained > 0; r++)
        out[r] *= tokens / trained;
}

static DpsStatus score (void *self, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *const *out,
                        const DpsMetricSink *metrics, DpsError *err)
{
    Grpo *g = self;
    DpsStatus st = grpo_advantages (&g->rewards, &the_host, step, rewards, metrics, out[ADVANTAGE], err);
    if (st == DPS_OK)
        share_out (g, step, rewards, out[SHARE]);
    if (st == DPS_ERR_INVALID && err)
        err->vendor_code = 1 + VETOES; /* the only parameter that speaks of what the step brings */
    return st;
}

/* Values on the tape that the loss and its metrics are made of. */
typedef struct Terms {
    DpsVal mask;      /* per token: its weight, 0 in masked answers */
    DpsVal count;     /* per row: of its tokens, masked or not; at least 1 */
    DpsVal ratio;     /* per token */
    DpsVal advantage; /* per token */
    DpsVal kl;        /* per token; -1 without beta */
    DpsVal loss;      /* per token */
} Terms;

static DpsVal kl_of (const Grpo *g, const DpsHostTape *ops, struct DpsTape *t, const DpsVal *signal, DpsVal ratio)
{
    const DpsVal d = ops->sub (t, signal[REFERENCE], signal[POLICY]);
    const DpsVal k3 = ops->sub (t, ops->sub (t, ops->exp (t, d), d), ops->constant (t, 1));
    return g->correction ? ops->mul (t, ratio, k3) : k3;
}

static Terms terms_of (const Grpo *g, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *batch, const DpsVal *signal)
{
    const DpsVal one = ops->constant (t, 1), weights = ops->input (t, DPS_AXIS_TOKEN, batch->weights, batch->n_tokens);
    const DpsVal trained = ops->where (t, signal[SHARE], one, ops->constant (t, 0));
    Terms x = {.mask = ops->mul (t, weights, ops->spread (t, trained, DPS_AXIS_TOKEN)),
               .count = ops->max (t, ops->sum_rows (t, weights), one),
               .advantage = ops->spread (t, signal[ADVANTAGE], DPS_AXIS_TOKEN),
               .kl = -1};
    DpsVal log_ratio = ops->sub (t, signal[POLICY], signal[ROLLOUT]);
    if (g->per_sequence)
        log_ratio = ops->spread (t, ops->div (t, ops->sum_rows (t, ops->mul (t, x.mask, log_ratio)), x.count), DPS_AXIS_TOKEN);
    const DpsVal ratio = ops->exp (t, log_ratio);
    x.ratio = g->delta > 0 ? ops->min (t, ratio, ops->constant (t, g->delta)) : ratio;
    const DpsVal clipped = ops->clip (t, ratio, g->low, g->high);
    x.loss = ops->neg (t, ops->min (t, ops->mul (t, x.ratio, x.advantage), ops->mul (t, clipped, x.advantage)));
    if (g->beta != 0) {
        x.kl = kl_of (g, ops, t, signal, ratio);
        x.loss = ops->add (t, x.loss, ops->mul (t, ops->constant (t, g->beta), x.kl));
    }
    return x;
}

/* A row's share of the step's loss, as the host will divide it: by the rows of the step. */
static DpsVal rows_of (const Grpo *g, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *batch, const Terms *x,
                       DpsVal shares)
{
    const DpsVal sums = ops->mul (t, ops->sum_rows (t, ops->mul (t, x->mask, x->loss)), shares);
    double tokens = 0;
    const double *mask = ops->data (t, x->mask, NULL);
    switch (g->type) {
    case GRPO: return ops->div (t, sums, x->count);
    case DR_GRPO: return ops->mul (t, sums, ops->constant (t, 1 / g->longest));
    case DAPO: return ops->mul (t, sums, ops->constant (t, batch->total / (double)batch->step_tokens));
    case BNPO: break;
    }
    for (uint64_t i = 0; mask && i < batch->n_tokens; i++)
        tokens += mask[i];
    return ops->mul (t, sums, ops->constant (t, batch->total / (fmax (tokens, 1) * (double)batch->micro_batches)));
}

/* TRL's clip_ratio/…: the share of ratios beyond a bound on the side where that stops the gradient. */
static void report_clips (const Grpo *g, const DpsObjectiveBatch *b, const double *ratio, const double *a, const double *mask,
                          const DpsMetricSink *sink)
{
    for (uint64_t u = 0; u < b->n_units; u++) {
        double least = INFINITY, most = -INFINITY;
        for (int64_t r = b->unit_offsets[u]; r < b->unit_offsets[u + 1]; r++) {
            const int64_t first = b->row_offsets[r], end = b->row_offsets[r + 1], last = g->per_sequence && end > first ? first + 1 : end;
            double low = 0, high = 0, weight = 0;
            for (int64_t i = first; i < last; i++) {
                const double w = g->per_sequence ? 1 : mask[i];
                low += w * (ratio[i] < g->low && a[i] < 0);
                high += w * (ratio[i] > g->high && a[i] > 0);
                weight += w;
            }
            if (!(weight > 0))
                continue;
            sink->add (sink->ctx, dps_str ("clip_ratio/low_mean"), low / weight, weight);
            sink->add (sink->ctx, dps_str ("clip_ratio/high_mean"), high / weight, weight);
            sink->add (sink->ctx, dps_str ("clip_ratio/region_mean"), (low + high) / weight, weight);
            least = fmin (least, low / weight);
            most = fmax (most, high / weight);
        }
        if (!isfinite (least))
            continue;
        sink->add (sink->ctx, dps_str ("clip_ratio/low_min"), least, 1);
        sink->add (sink->ctx, dps_str ("clip_ratio/high_max"), most, 1);
    }
}

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *batch, const DpsVal *signal,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    const Grpo *g = self;
    (void)err;
    const Terms x = terms_of (g, ops, t, batch, signal);
    *out_loss = ops->sum_units (t, rows_of (g, ops, t, batch, &x, signal[SHARE]));
    const double *mask = ops->data (t, x.mask, NULL), *ratio = ops->data (t, x.ratio, NULL), *a = ops->data (t, x.advantage, NULL);
    if (!mask || !ratio || !a)
        return DPS_OK; /* the tape knows why */
    DpsObjectiveBatch trained = *batch;
    trained.weights = mask;
    if (g->beta != 0)
        dps_sdk_report_tokens (metrics, &trained, "kl", ops->data (t, x.kl, NULL), 1);
    dps_sdk_report_tokens (metrics, &trained, "entropy", ops->data (t, signal[ENTROPY], NULL), 1);
    report_clips (g, batch, ratio, a, mask, metrics);
    return DPS_OK;
}

static const DpsObjective objective = {
    .size = sizeof objective, .describe = describe, .create = create, .destroy = destroy, .score = score, .loss = loss, .reads = reads};

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_OBJECTIVE_ID) ? &objective : NULL; }

DPS_PLUGIN (init, NULL, get_interface);
