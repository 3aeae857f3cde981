/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ppo.c: RLHF by proximal policy optimisation. `score` turns a rollout into advantages and returns (advantage.c); then, per token,
 *
 *     policy = max (−Ã·ρ, −Ã·clip (ρ, 1−ε, 1+ε))                 ρ = exp (logp − logp_old), Ã: whitened advantage
 *     value  = ½·max ((v − R)², (V + clip (v − V, −ε_v, ε_v) − R)²)     V: the value when the answer was sampled, R: return
 *     loss   = policy + vf_coef·value
 *
 * divided by the tokens of the step. v is a linear head on the policy's own hidden state.
 */
#include <math.h>
#include <string.h>

#include "advantage.h"
#include "base/mem.h"
#include "diapason/sdk.h"

static const DpsParam kl_coef = DPS_SDK_PARAM ("kl_coef", DPS_PARAM_F64, 0.05, 0, 1e6, NULL, "weight of the per-token KL in the reward");
static const DpsParam estimator =
    DPS_SDK_PARAM ("kl_estimator", DPS_PARAM_STR, 0, 0, 0, "k1|k2|k3", "of the per-token KL to the reference");
static const DpsParam cliprange = DPS_SDK_PARAM ("cliprange", DPS_PARAM_F64, 0.2, 0, 1e6, NULL, "how far a probability ratio may leave 1");
static const DpsParam cliprange_value =
    DPS_SDK_PARAM ("cliprange_value", DPS_PARAM_F64, 0.2, 0, 1e9, NULL, "how far a value may leave the one of the rollout");
static const DpsParam vf_coef = DPS_SDK_PARAM ("vf_coef", DPS_PARAM_F64, 0.1, 0, 1e6, NULL, "weight of the value loss");
static const DpsParam gamma_ = DPS_SDK_PARAM ("gamma", DPS_PARAM_F64, 1, 0, 1, NULL, "discount of later rewards");
static const DpsParam lam = DPS_SDK_PARAM ("lam", DPS_PARAM_F64, 0.95, 0, 1, NULL, "λ of generalised advantage estimation");
static const DpsParam whiten = DPS_SDK_PARAM ("whiten_rewards", DPS_PARAM_BOOL, 0, 0, 1, NULL, "scale rewards to variance 1 first");
static const DpsParam penalty =
    DPS_SDK_PARAM ("missing_eos_penalty", DPS_PARAM_F64, 0, 0, 1e9, NULL, "taken from the score of an answer that did not end");
static const DpsParam target = DPS_SDK_PARAM ("kl_target", DPS_PARAM_F64, 0, 0, 1e9, NULL,
                                              "nats per answer that an adaptive kl_coef steers the KL to; 0: kl_coef is fixed");
static const DpsParam horizon =
    DPS_SDK_PARAM ("kl_horizon", DPS_PARAM_F64, 10000, 1, 1e12, NULL, "answers over which an adaptive kl_coef follows: larger is slower");
static const DpsParam *const params[] = {&kl_coef, &estimator, &cliprange, &cliprange_value, &vf_coef, &gamma_,
                                         &lam,     &whiten,    &penalty,   &target,          &horizon};
enum { KL_COEF, ESTIMATOR, CLIP, CLIP_VALUE, VF_COEF, GAMMA, LAM, WHITEN, PENALTY, TARGET, HORIZON, N_PARAMS };

#define SIGNAL(id, what, whose, grad)                                                                                                      \
    static const DpsSignal id = {.size = sizeof id, .name = what, .role = whose, .axis = DPS_AXIS_TOKEN, .differentiable = grad}
SIGNAL (s_logp, "logp", "policy", 1);
SIGNAL (s_value, "value", "policy", 1);
SIGNAL (s_entropy, "entropy", "policy", 0);
SIGNAL (s_old_logp, "logp", "rollout", 0);
SIGNAL (s_old_value, "value", "rollout", 0);
SIGNAL (s_reference, "logp", "reference", 0);
SIGNAL (s_advantage, "advantage", "step", 0);
SIGNAL (s_return, "return", "step", 0);
static const DpsSignal *const signals[] = {&s_logp, &s_value, &s_entropy, &s_old_logp, &s_old_value, &s_reference, &s_advantage, &s_return};
enum { LOGP, VALUE, ENTROPY, OLD_LOGP, OLD_VALUE, REFERENCE, ADVANTAGE, RETURN, N_SIGNALS };

static const DpsObjectiveInfo info = {
    .size = sizeof info,
    .name = "ppo",
    .summary = "RLHF: clipped policy and value on rollouts, with a KL to the reference in the reward",
    .reference = "arXiv:1707.06347 eq. 7; arXiv:1909.08593 eq. 2; arXiv:2203.02155; GAE arXiv:1506.02438; parity/README.md",
    .unit = DPS_UNIT_SINGLE,
    .total = DPS_TOTAL_TOKENS,
    .params = params,
    .n_params = N_PARAMS,
    .n_signals = N_SIGNALS,
    .signals = signals,
};

static const DpsObjectiveInfo *describe (void) { return &info; }

/** What changes between steps, as checkpoints keep it: the coefficient, and the KL of the last rollout while no step has followed it. */
typedef struct State {
    double kl_coef, pending_kl, pending_rows;
} State;

typedef struct Ppo {
    PpoSettings settings;
    double clip, clip_value, vf_coef, target, horizon;
    State state;
} Ppo;

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    Ppo *p = dps_malloc (1, sizeof *p);
    if (!p)
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    PpoKl kl = dps_str_is (str[ESTIMATOR], "k2") ? PPO_K2 : dps_str_is (str[ESTIMATOR], "k3") ? PPO_K3 : PPO_K1;
    *p = (Ppo){.settings = {num[GAMMA], num[LAM], num[PENALTY], kl, num[WHITEN] > 0},
               .clip = num[CLIP],
               .clip_value = num[CLIP_VALUE],
               .vf_coef = num[VF_COEF],
               .target = num[TARGET],
               .horizon = num[HORIZON],
               .state = {.kl_coef = num[KL_COEF]}};
    *out = p;
    return DPS_OK;
}

static void destroy (void *self) { dps_free (self); }

/* The rollout. */

static void add (const DpsMetricSink *sink, const char *name, double value) { sink->add (sink->ctx, dps_str (name), value, 1); }

/* Sums over the answers that something judged: KL in nats, their number, and how many came to their end. */
typedef struct Tally {
    double kl, rows, ended;
} Tally;

/* Per-token rewards of one row into `reward`, and what TRL logs of it; 0 and nothing written when nothing judged it. */
static int reward_row (const Ppo *p, const DpsObjectiveBatch *b, const DpsRewards *rewards, uint64_t row, double *reward,
                       const DpsMetricSink *metrics, Tally *tally)
{
    int64_t first = b->row_offsets[row], end = b->row_offsets[row + 1];
    double score = ppo_score_of_row (&p->settings, rewards, row), kl = 0, surprise = 0;
    if (isnan (score) || first == end)
        return 0;
    for (int64_t i = first; i < end; i++) {
        double old = b->signals[OLD_LOGP][i], k = b->signals[REFERENCE] ? ppo_kl (p->settings.estimator, old, b->signals[REFERENCE][i]) : 0;
        kl += k;
        surprise -= old;
        reward[i] = -p->state.kl_coef * k + (i + 1 == end ? score : 0);
    }
    if (b->signals[REFERENCE]) /* without it nothing is known */
        add (metrics, "objective/kl", kl);
    add (metrics, "objective/entropy", surprise);
    add (metrics, "objective/non_score_reward", -p->state.kl_coef * kl);
    add (metrics, "objective/rlhf_reward", score - p->state.kl_coef * kl);
    add (metrics, "objective/scores", score);
    tally->kl += kl;
    tally->rows++;
    tally->ended += !(rewards->truncated && rewards->truncated[row]);
    return 1;
}

/* An answer that nothing judged moves nothing: advantage 0, and the return is what was expected. */
static void pass_over (const DpsObjectiveBatch *b, uint64_t row, double *advantage, double *returns)
{
    for (int64_t i = b->row_offsets[row]; i < b->row_offsets[row + 1]; i++) {
        advantage[i] = 0;
        returns[i] = b->signals[OLD_VALUE][i];
    }
}

static DpsStatus score (void *self, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *const *out,
                        const DpsMetricSink *metrics, DpsError *err)
{
    Ppo *p = self;
    Tally tally = {0};
    if (!step->signals[OLD_LOGP] || !step->signals[OLD_VALUE])
        return dps_sdk_fail (
            err, DPS_ERR_UNSUPPORTED,
            "PPO learns from answers that the policy has just sampled: log-probs and values of a rollout; these answers were given");
    double *reward = dps_calloc (step->n_tokens, sizeof *reward);
    unsigned char *judged = dps_calloc (step->n_tokens, 1);
    if (!reward || !judged) {
        dps_free (reward);
        dps_free (judged);
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    }
    for (uint64_t r = 0; r < step->n_rows; r++)
        if (reward_row (p, step, rewards, r, reward, metrics, &tally))
            for (int64_t i = step->row_offsets[r]; i < step->row_offsets[r + 1]; i++)
                judged[i] = 1;
    if (p->settings.whiten_rewards)
        ppo_whiten (reward, judged, step->n_tokens, 1);
    for (uint64_t r = 0; r < step->n_rows; r++) {
        int64_t first = step->row_offsets[r], n = step->row_offsets[r + 1] - first;
        if (n > 0 && judged[first])
            ppo_gae (&p->settings, reward + first, step->signals[OLD_VALUE] + first, n, out[ADVANTAGE] + first, out[RETURN] + first);
        else
            pass_over (step, r, out[ADVANTAGE], out[RETURN]);
    }
    ppo_whiten (out[ADVANTAGE], judged, step->n_tokens, 0);
    add (metrics, "objective/kl_coef", p->state.kl_coef);
    add (metrics, "val/num_eos_tokens", tally.ended);
    p->state.pending_kl = tally.rows > 0 ? tally.kl / tally.rows : 0;
    p->state.pending_rows = tally.rows;
    dps_free (reward);
    dps_free (judged);
    return DPS_OK;
}

/*
 * Ziegler et al. 2019, eq. 3 and 4: after the first step on a rollout, so that a rollout has one coefficient. More answers than the horizon count as
 * the horizon: beyond five times as many the factor would be negative, and the KL be rewarded.
 */
static DpsStatus step_end (void *self, uint64_t step, DpsError *err)
{
    Ppo *p = self;
    (void)step, (void)err;
    if (p->target > 0 && p->state.pending_rows > 0) {
        double error = fmin (fmax (p->state.pending_kl / p->target - 1, -0.2), 0.2);
        p->state.kl_coef *= 1 + error * fmin (p->state.pending_rows / p->horizon, 1);
    }
    p->state.pending_rows = 0;
    return DPS_OK;
}

static DpsStatus state_save (void *self, void *buf, size_t cap, size_t *out_len, DpsError *err)
{
    const Ppo *p = self;
    *out_len = sizeof p->state;
    if (!buf)
        return DPS_OK;
    if (cap < sizeof p->state)
        return dps_sdk_fail (err, DPS_ERR_LIMIT, "the buffer is too small");
    memcpy (buf, &p->state, sizeof p->state);
    return DPS_OK;
}

static DpsStatus state_load (void *self, const void *buf, size_t len, DpsError *err)
{
    Ppo *p = self;
    State s;
    if (len != sizeof s)
        return dps_sdk_fail (err, DPS_ERR_FORMAT, "the state has another length");
    memcpy (&s, buf, sizeof s);
    if (!(s.kl_coef >= 0) || !isfinite (s.kl_coef) || !isfinite (s.pending_kl) || !(s.pending_rows >= 0))
        return dps_sdk_fail (err, DPS_ERR_FORMAT, "the state holds no coefficient");
    p->state = s;
    return DPS_OK;
}

/* Without a KL in the reward no reference is needed. */
static uint32_t reads (void *self, uint32_t signal)
{
    const Ppo *p = self;
    return signal != REFERENCE || p->state.kl_coef > 0 || p->target > 0;
}

/* The update. */

static DpsVal scaled (const DpsHostTape *ops, struct DpsTape *t, double by, DpsVal x) { return ops->mul (t, ops->constant (t, by), x); }

/** Values on the tape, and what of them is reported. */
typedef struct Losses {
    DpsVal policy, value, ratio;
    DpsVal policy_clipped, policy_plain, value_clipped, value_plain;
} Losses;

static Losses make_losses (const Ppo *p, const DpsHostTape *ops, struct DpsTape *t, const DpsVal *s)
{
    Losses l;
    l.ratio = ops->exp (t, ops->sub (t, s[LOGP], s[OLD_LOGP]));
    DpsVal against = ops->neg (t, s[ADVANTAGE]);
    l.policy_plain = ops->mul (t, against, l.ratio);
    l.policy_clipped = ops->mul (t, against, ops->clip (t, l.ratio, 1 - p->clip, 1 + p->clip));
    l.policy = ops->max (t, l.policy_plain, l.policy_clipped);
    DpsVal moved = ops->clip (t, ops->sub (t, s[VALUE], s[OLD_VALUE]), -p->clip_value, p->clip_value);
    l.value_plain = ops->square (t, ops->sub (t, s[VALUE], s[RETURN]));
    l.value_clipped = ops->square (t, ops->sub (t, ops->add (t, s[OLD_VALUE], moved), s[RETURN]));
    l.value = scaled (ops, t, 0.5, ops->max (t, l.value_plain, l.value_clipped));
    return l;
}

/* Mean over the row's tokens of how often a exceeds b. */
static void report_clips (const DpsMetricSink *sink, const DpsObjectiveBatch *b, const char *name, const double *clipped,
                          const double *plain)
{
    for (uint64_t r = 0; clipped && plain && r < b->n_rows; r++) {
        double share = 0, weight = 0;
        for (int64_t i = b->row_offsets[r]; i < b->row_offsets[r + 1]; i++) {
            share += b->weights[i] * (clipped[i] > plain[i]);
            weight += b->weights[i];
        }
        if (weight > 0)
            sink->add (sink->ctx, dps_str (name), share / weight, weight);
    }
}

/* approxkl = ½·mean (logp − logp_old)²; val/ratio_var: of the ratios within an answer. */
static void report_ratios (const DpsMetricSink *sink, const DpsObjectiveBatch *b, const double *ratio)
{
    for (uint64_t r = 0; ratio && r < b->n_rows; r++) {
        double square = 0, sum = 0, spread = 0, weight = 0;
        for (int64_t i = b->row_offsets[r]; i < b->row_offsets[r + 1]; i++) {
            double d = b->signals[LOGP][i] - b->signals[OLD_LOGP][i];
            square += b->weights[i] * d * d;
            sum += b->weights[i] * ratio[i];
            weight += b->weights[i];
        }
        if (!(weight > 0))
            continue;
        for (int64_t i = b->row_offsets[r]; i < b->row_offsets[r + 1]; i++)
            spread += b->weights[i] * (ratio[i] - sum / weight) * (ratio[i] - sum / weight);
        sink->add (sink->ctx, dps_str ("policy/approxkl_avg"), 0.5 * square / weight, weight);
        sink->add (sink->ctx, dps_str ("val/ratio"), sum / weight, weight);
        sink->add (sink->ctx, dps_str ("val/ratio_var"), spread / weight, weight);
    }
}

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *batch, const DpsVal *signal,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    const Ppo *p = self;
    (void)err;
    Losses l = make_losses (p, ops, t, signal);
    DpsVal weights = ops->input (t, DPS_AXIS_TOKEN, batch->weights, batch->n_tokens);
    *out_loss = ops->sum_units (t, ops->mul (t, weights, ops->add (t, l.policy, scaled (ops, t, p->vf_coef, l.value))));
    dps_sdk_report_tokens (metrics, batch, "loss/policy_avg", ops->data (t, l.policy, NULL), 1);
    dps_sdk_report_tokens (metrics, batch, "loss/value_avg", ops->data (t, l.value, NULL), 1);
    dps_sdk_report_tokens (metrics, batch, "policy/entropy_avg", batch->signals[ENTROPY], 1);
    report_clips (metrics, batch, "policy/clipfrac_avg", ops->data (t, l.policy_clipped, NULL), ops->data (t, l.policy_plain, NULL));
    report_clips (metrics, batch, "val/clipfrac_avg", ops->data (t, l.value_clipped, NULL), ops->data (t, l.value_plain, NULL));
    report_ratios (metrics, batch, ops->data (t, l.ratio, NULL));
    return DPS_OK;
}

static const DpsObjective objective = {.size = sizeof objective,
                                       .describe = describe,
                                       .create = create,
                                       .destroy = destroy,
                                       .score = score,
                                       .loss = loss,
                                       .step_end = step_end,
                                       .state_save = state_save,
                                       .state_load = state_load,
                                       .reads = reads};

DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective);
