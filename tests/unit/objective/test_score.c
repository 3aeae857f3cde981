/* SPDX-License-Identifier: Apache-2.0 */
/* A whole step scored by an objective: what reaches the plugin, what comes back, and what is refused without a trace. */
#include "base/mem.h"
#include "check.h"
#include "diapason/sdk.h"
#include "objective/objective.h"

static DpsError err = DPS_ERROR_INIT;

static enum { GOOD, FAILS, NOT_FINITE, LONG_METRIC } mode;

static const DpsSignal logp = {.size = sizeof logp, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal old = {.size = sizeof old, .name = "logp", .role = "rollout", .axis = DPS_AXIS_TOKEN};
static const DpsSignal advantage = {.size = sizeof advantage, .name = "advantage", .role = "step", .axis = DPS_AXIS_ROW};
static const DpsSignal *const signals[] = {&logp, &old, &advantage};
static DpsObjectiveInfo info = {
    .size = sizeof info, .name = "toy", .unit = DPS_UNIT_GROUP, .total = DPS_TOTAL_ROWS, .n_signals = 3, .signals = signals};

static const DpsObjectiveInfo *describe (void) { return &info; }

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *e)
{
    (void)num, (void)str, (void)e;
    *out = &mode;
    return DPS_OK;
}

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *b, const DpsVal *s,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *e)
{
    (void)self, (void)b, (void)metrics, (void)e;
    *out_loss = ops->sum_units (t, ops->mul (t, ops->spread (t, s[2], DPS_AXIS_TOKEN), ops->exp (t, ops->sub (t, s[0], s[1]))));
    return DPS_OK;
}

/* Advantage of a row: Σ w·reward over what judged it, plus the sum of its recorded log-probs, times its weights. */
static DpsStatus score (void *self, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *const *out,
                        const DpsMetricSink *metrics, DpsError *e)
{
    static const char long_name[] = "a metric whose name is far longer than the sixty-three bytes that a step keeps of it";
    CU_ASSERT_PTR_EQUAL (self, &mode);
    CU_ASSERT (!step->signals[0] && step->signals[1] && !step->signals[2] && !out[0] && !out[1]);
    for (uint64_t r = 0; r < step->n_rows; r++) {
        for (uint64_t c = 0; c < rewards->n_criteria; c++) {
            double v = rewards->values[r * rewards->n_criteria + c];
            out[2][r] += isnan (v) ? 0 : rewards->weights[c] * v;
        }
        for (int64_t i = step->row_offsets[r]; i < step->row_offsets[r + 1]; i++)
            out[2][r] += step->weights[i] * step->signals[1][i];
        metrics->add (metrics->ctx, mode == LONG_METRIC ? dps_str (long_name) : dps_str ("reward"), out[2][r], 1);
    }
    if (mode == NOT_FINITE)
        out[2][1] = NAN;
    return mode == FAILS ? dps_fail (e, DPS_ERR_SHAPE, "no thank you") : DPS_OK;
}

static DpsObjective toy = {
    .size = sizeof toy, .describe = describe, .create = create, .destroy = dps_sdk_destroy_nothing, .score = score, .loss = loss};

static const double recorded[3] = {-1, -2, -0.5};
static const double *const given[] = {NULL, recorded, NULL};
static const int64_t rows[] = {0, 2, 3}, units[] = {0, 2};
static const DpsObjectiveBatch step = {.size = sizeof step,
                                       .n_tokens = 3,
                                       .n_rows = 2,
                                       .n_units = 1,
                                       .row_offsets = rows,
                                       .unit_offsets = units,
                                       .signals = given,
                                       .total = 2};
static double values[4] = {1, NAN, 0, 3}, weights[2] = {2, 1};
static const DpsRewards rewards = {.size = sizeof rewards, .n_criteria = 2, .values = values, .weights = weights};

static DpsObjectiveInstance *open_toy (int how)
{
    DpsObjectiveInstance *o = NULL;
    mode = GOOD;
    CHECK_OK (dps_objective_open (&toy, NULL, NULL, &o, &err));
    mode = how;
    return o;
}

static void test_advantages (void)
{
    DpsObjectiveInstance *o = open_toy (GOOD);
    DpsStepSums s = {0};
    double got[2], *const out[] = {NULL, NULL, got};
    CHECK_OK (dps_objective_score (o, &step, &rewards, out, &s, &err));
    CHECK_NEAR (got[0], 2 - 3, 0);
    CHECK_NEAR (got[1], 3 - 0.5, 0);
    CU_ASSERT_FATAL (s.n_metrics == 1);
    CHECK_NEAR (dps_step_metric (&s, 0), 0.75, 0);
    CU_ASSERT_EQUAL (s.n_units, 0);
    /* They are signals of the loss like any other. */
    const double policy[3] = {-1, -2, -0.5}, *const all[] = {policy, recorded, got};
    DpsObjectiveBatch b = step;
    double dlogp[3], *const grads[] = {dlogp, NULL, NULL};
    b.signals = all;
    CHECK_OK (dps_objective_micro_batch (o, &b, &s, grads, NULL, &err));
    CHECK_NEAR (dps_step_loss (&s), (2 * got[0] + got[1]) / 2, 1e-15);
    CHECK_NEAR (dlogp[0], got[0] / 2, 1e-15);
    dps_step_free (&s);
    dps_objective_close (o);
}

static void test_refusals_leave_no_trace (void)
{
    static const struct {
        int mode;
        DpsStatus status;
        const char *says;
    } cases[] = {{FAILS, DPS_ERR_SHAPE, "toy: no thank you"},
                 {NOT_FINITE, DPS_ERR_NONFINITE, "signal advantage (step) of row 1 is nan"},
                 {LONG_METRIC, DPS_ERR_LIMIT, "a metric could not be kept"}};
    double got[2] = {7, 7}, *const out[] = {NULL, NULL, got};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsObjectiveInstance *o = open_toy ((int)cases[i].mode);
        DpsStepSums s = {0};
        CHECK_FAILS (dps_objective_score (o, &step, &rewards, out, &s, &err), cases[i].status, cases[i].says);
        CU_ASSERT (got[0] == 7 && got[1] == 7 && s.n_metrics == 0);
        dps_step_free (&s);
        dps_objective_close (o);
    }
    DpsObjectiveInstance *o = open_toy (GOOD);
    DpsStepSums s = {0};
    values[3] = INFINITY;
    CHECK_FAILS (dps_objective_score (o, &step, &rewards, out, &s, &err), DPS_ERR_NONFINITE, "criterion 1 of row 1 is infinite");
    values[3] = 3;
    o->table.score = NULL;
    CHECK_FAILS (dps_objective_score (o, &step, &rewards, out, &s, &err), DPS_ERR_UNSUPPORTED, "makes nothing of rewards");
    dps_objective_close (o);
}

/* A signal of role step needs a score; only the policy is differentiable. */
static void test_descriptions (void)
{
    DpsObjectiveInstance *o = NULL;
    toy.score = NULL;
    CHECK_FAILS (dps_objective_open (&toy, NULL, NULL, &o, &err), DPS_ERR_FORMAT, "there is no score to compute it");
    toy.score = score;
    static const DpsSignal wrong = {.size = sizeof wrong, .name = "logp", .role = "rollout", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
    static const DpsSignal *const bad[] = {&wrong, &old, &advantage};
    info.signals = bad;
    CHECK_FAILS (dps_objective_open (&toy, NULL, NULL, &o, &err), DPS_ERR_FORMAT, "only the policy is trained");
    info.signals = signals;
}

static void test_allocation_failures (void)
{
    int64_t live = dps_mem_live ();
    DpsStatus st = DPS_ERR_NOMEM;
    for (uint64_t k = 1; st != DPS_OK && k < 200; k++) {
        DpsObjectiveInstance *o = open_toy (GOOD);
        DpsStepSums s = {0};
        double got[2] = {7, 7}, *const out[] = {NULL, NULL, got};
        dps_mem_fail_at (k);
        st = dps_objective_score (o, &step, &rewards, out, &s, &err);
        dps_mem_fail_at (0);
        CU_ASSERT (st == DPS_OK || (st == DPS_ERR_NOMEM && got[0] == 7 && s.n_metrics == 0));
        dps_step_free (&s);
        dps_objective_close (o);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    CU_ASSERT_EQUAL (st, DPS_OK);
}

CHECK_MAIN ("score", T (test_advantages), T (test_refusals_leave_no_trace), T (test_descriptions), T (test_allocation_failures))
