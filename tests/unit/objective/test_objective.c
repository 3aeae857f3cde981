/* SPDX-License-Identifier: Apache-2.0 */
/* The core's side of an objective, against small ones written here: gradients, sums, and what it refuses. */
#include "base/mem.h"
#include "check.h"
#include "diapason/sdk.h"
#include "objective/objective.h"

static DpsError err = DPS_ERROR_INIT;

/* What the objective of this test does when asked, set by each test. */
static struct {
    double scale;
    enum { GOOD, FAILS, SAYS_NOTHING, SAYS_INTERRUPTED, HAS_NO_END, NO_LOSS, PER_TOKEN, NOT_FINITE, LONG_METRIC, MISUSES_TAPE } mode;
} behaviour;

static const DpsSignal logp = {.size = sizeof logp, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal reference = {.size = sizeof reference, .name = "logp", .role = "reference", .axis = DPS_AXIS_TOKEN};
static const DpsSignal score = {.size = sizeof score, .name = "score", .role = "policy", .axis = DPS_AXIS_ROW, .differentiable = 1};
static const DpsSignal *const signals[] = {&logp, &reference, &score};
static const DpsParam scale_param = {
    .size = sizeof scale_param, .name = "scale", .type = DPS_PARAM_F64, .def = 2, .min = 0, .max = 10, .help = "factor of the loss"};
static const DpsParam *const params[] = {&scale_param};
static DpsObjectiveInfo info = {.size = sizeof info,
                                .name = "toy",
                                .unit = DPS_UNIT_PAIR,
                                .total = DPS_TOTAL_UNITS,
                                .params = params,
                                .n_params = 1,
                                .n_signals = 3,
                                .signals = signals};

static const DpsObjectiveInfo *describe (void) { return &info; }

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *e)
{
    (void)str;
    if (num[0] == 7)
        return dps_fail (e, DPS_ERR_INVALID, "scale: seven is unlucky");
    behaviour.scale = num[0];
    *out = &behaviour;
    return DPS_OK;
}

/* (scale·Σ (logp − reference) of the chosen row − that of the rejected one + score of the chosen)², with two metrics. */
static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *b, const DpsVal *s,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *e)
{
    static const char long_name[] = "a metric whose name is far longer than the sixty-three bytes that a step keeps of it";
    CU_ASSERT_PTR_EQUAL (self, &behaviour);
    DpsVal sums = ops->mul (t, ops->constant (t, behaviour.scale), ops->sum_rows (t, ops->sub (t, s[0], s[1])));
    DpsVal margin = ops->add (t, ops->sub (t, ops->pick (t, sums, 0), ops->pick (t, sums, 1)), ops->pick (t, s[2], 0));
    *out_loss = ops->square (t, margin);
    const double *margins = ops->data (t, margin, NULL);
    for (uint64_t u = 0; margins && u < b->n_units; u++)
        metrics->add (metrics->ctx, dps_str ("margin"), margins[u], 1);
    switch (behaviour.mode) {
    case FAILS: return dps_fail (e, DPS_ERR_SHAPE, "no thank you");
    case SAYS_NOTHING: return 4711;
    case SAYS_INTERRUPTED: return dps_fail (e, DPS_ERR_INTERRUPTED, "stop");
    case HAS_NO_END: memset (e->msg, 'x', sizeof e->msg); return DPS_ERR_SHAPE;
    case NO_LOSS: *out_loss = -1; break;
    case PER_TOKEN: *out_loss = s[0]; break;
    case NOT_FINITE: *out_loss = ops->log (t, ops->neg (t, *out_loss)); break;
    case LONG_METRIC: metrics->add (metrics->ctx, dps_str (long_name), 1, 1); break;
    case MISUSES_TAPE: ops->sum_rows (t, s[2]); break;
    default: break;
    }
    return DPS_OK;
}

static const DpsObjective toy = {
    .size = sizeof toy, .describe = describe, .create = create, .destroy = dps_sdk_destroy_nothing, .loss = loss};

/* Two pairs of rows with 2, 1, 1 and 3 tokens. */
static double lp[7] = {-1, -2, -0.5, -3, -1.5, -0.25, -2}, ref[7] = {-1.5, -1, -1, -2, -1, -1, -1}, scores[4] = {0.5, 1, -1, 2};
static const double *const values[] = {lp, ref, scores};
static const int64_t rows[] = {0, 2, 3, 4, 7}, units[] = {0, 2, 4};
static const DpsObjectiveBatch batch = {.size = sizeof batch,
                                        .n_tokens = 7,
                                        .n_rows = 4,
                                        .n_units = 2,
                                        .row_offsets = rows,
                                        .unit_offsets = units,
                                        .signals = values,
                                        .total = 2};

static DpsObjectiveInstance *open_toy (void)
{
    DpsObjectiveInstance *o = NULL;
    behaviour.mode = GOOD;
    CHECK_OK (dps_objective_open (&toy, NULL, NULL, &o, &err));
    return o;
}

static double step_loss (const DpsObjectiveInstance *o)
{
    DpsStepSums s = {0};
    CHECK_OK (dps_objective_micro_batch (o, &batch, &s, NULL, NULL, &err));
    double l = dps_step_loss (&s);
    dps_step_free (&s);
    return l;
}

static void test_gradients_by_differences (void)
{
    DpsObjectiveInstance *o = open_toy ();
    DpsStepSums s = {0};
    double dlogp[7], dscore[4], losses[2], *const grads[] = {dlogp, NULL, dscore};
    CHECK_OK (dps_objective_micro_batch (o, &batch, &s, grads, losses, &err));
    CHECK_NEAR (dps_step_loss (&s), (losses[0] + losses[1]) / 2, 0);
    CU_ASSERT_EQUAL (s.n_units, 2);
    CU_ASSERT_EQUAL (s.n_tokens, 7);
    for (int i = 0; i < 11; i++) {
        double *x = i < 7 ? &lp[i] : &scores[i - 7], keep = *x, got = i < 7 ? dlogp[i] : dscore[i - 7];
        *x = keep + 1e-5;
        double up = step_loss (o);
        *x = keep - 1e-5;
        double down = step_loss (o);
        *x = keep;
        CHECK_NEAR (got, (up - down) / 2e-5, 1e-8);
    }
    CU_ASSERT (dscore[1] == 0 && dscore[3] == 0); /* rejected scores are not read: exactly zero */
    dps_step_free (&s);
    dps_objective_close (o);
}

static void test_one_pair_at_a_time (void)
{
    DpsObjectiveInstance *o = open_toy ();
    DpsStepSums whole = {0}, split = {0};
    double a[7], b[7], *const all[] = {a, NULL, NULL};
    CHECK_OK (dps_objective_micro_batch (o, &batch, &whole, all, NULL, &err));
    static const int64_t first_rows[] = {0, 2, 3}, second_rows[] = {0, 1, 4}, unit[] = {0, 2};
    const double *const first[] = {lp, ref, scores}, *const second[] = {lp + 3, ref + 3, scores + 2};
    DpsObjectiveBatch one = batch, two = batch;
    one.n_tokens = 3, one.n_rows = 2, one.n_units = 1, one.row_offsets = first_rows, one.unit_offsets = unit, one.signals = first;
    two.n_tokens = 4, two.n_rows = 2, two.n_units = 1, two.row_offsets = second_rows, two.unit_offsets = unit, two.signals = second;
    double *const g1[] = {b, NULL, NULL}, *const g2[] = {b + 3, NULL, NULL};
    CHECK_OK (dps_objective_micro_batch (o, &one, &split, g1, NULL, &err));
    CHECK_OK (dps_objective_micro_batch (o, &two, &split, g2, NULL, &err));
    CU_ASSERT_EQUAL (memcmp (a, b, sizeof a), 0);
    CU_ASSERT_EQUAL (whole.loss, split.loss);
    CU_ASSERT_EQUAL_FATAL (split.n_metrics, 1);
    CHECK_STR (split.metrics[0].name, "margin");
    CU_ASSERT_EQUAL (dps_step_metric (&whole, 0), dps_step_metric (&split, 0));
    dps_step_reset (&split);
    CHECK_NEAR (dps_step_loss (&split), 0, 0);
    CU_ASSERT_EQUAL (split.n_metrics, 0);
    dps_step_free (&whole);
    dps_step_free (&split);
    dps_objective_close (o);
}

static void test_refusals_leave_sums_alone (void)
{
    static const struct {
        int mode;
        DpsStatus code;
        const char *text;
    } cases[] = {
        {FAILS, DPS_ERR_SHAPE, "toy: no thank you"},
        {SAYS_NOTHING, DPS_ERR_INTERNAL, "toy: it gave no reason (INTERNAL 4711)"},
        {SAYS_INTERRUPTED, DPS_ERR_INTERNAL, "toy: stop"}, /* the host alone knows that */
        {HAS_NO_END, DPS_ERR_SHAPE, "toy: xxx"},
        {NO_LOSS, DPS_ERR_SHAPE, "toy: its loss is not one value per unit"},
        {PER_TOKEN, DPS_ERR_SHAPE, "toy: its loss is not one value per unit"},
        {NOT_FINITE, DPS_ERR_NONFINITE, "toy: the loss of unit 0 is"},
        {LONG_METRIC, DPS_ERR_LIMIT, "toy: a metric could not be kept"},
        {MISUSES_TAPE, DPS_ERR_SHAPE, "sum_rows of a value per row"},
    };
    DpsObjectiveInstance *o = open_toy ();
    DpsStepSums s = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        behaviour.mode = cases[i].mode;
        CHECK_FAILS (dps_objective_micro_batch (o, &batch, &s, NULL, NULL, &err), cases[i].code, cases[i].text);
    }
    behaviour.mode = GOOD;
    lp[4] = NAN;
    CHECK_FAILS (dps_objective_micro_batch (o, &batch, &s, NULL, NULL, &err), DPS_ERR_NONFINITE,
                 "signal logp (policy) of scored token 4 is");
    lp[4] = -1.5;
    scores[2] = INFINITY;
    CHECK_FAILS (dps_objective_micro_batch (o, &batch, &s, NULL, NULL, &err), DPS_ERR_NONFINITE, "signal score (policy) of row 2 is inf");
    scores[2] = -1;
    DpsObjectiveBatch bad = batch;
    bad.total = 0;
    CHECK_FAILS (dps_objective_micro_batch (o, &bad, &s, NULL, NULL, &err), DPS_ERR_DATA, "the step's total is 0");
    const double *const missing[] = {lp, NULL, scores};
    bad = batch;
    bad.signals = missing;
    CHECK_FAILS (dps_objective_micro_batch (o, &bad, &s, NULL, NULL, &err), DPS_ERR_INVALID, "signal logp (reference) was not given");
    CU_ASSERT (s.loss == 0 && s.n_metrics == 0 && s.n_units == 0 && s.total == 0);
    dps_step_free (&s);
    dps_objective_close (o);
}

static void test_bad_descriptions_are_refused (void)
{
    DpsObjectiveInstance *o = NULL;
    static const DpsSignal nameless = {.size = sizeof nameless, .role = "policy", .axis = DPS_AXIS_TOKEN};
    static const DpsSignal *const bad[] = {&nameless};
    const DpsObjectiveInfo keep = info;
    info.unit = 9;
    CHECK_FAILS (dps_objective_open (&toy, NULL, NULL, &o, &err), DPS_ERR_FORMAT, "toy: unit 9");
    info = keep;
    info.signals = bad;
    info.n_signals = 1;
    CHECK_FAILS (dps_objective_open (&toy, NULL, NULL, &o, &err), DPS_ERR_FORMAT, "toy: signal 0 has no name");
    info = keep;
    info.n_signals = 33;
    CHECK_FAILS (dps_objective_open (&toy, NULL, NULL, &o, &err), DPS_ERR_LIMIT, "33 signals, at most 32");
    info = keep;
    info.name = NULL;
    CHECK_FAILS (dps_objective_open (&toy, NULL, NULL, &o, &err), DPS_ERR_FORMAT, "no name");
    info = keep;
}

static int give_scale (void *ctx, const char *name, DpsParamValue *out)
{
    *out = *(const DpsParamValue *)ctx;
    return !strcmp (name, "scale");
}

static void test_parameters_reach_the_plugin (void)
{
    DpsObjectiveInstance *o = open_toy ();
    CHECK_NEAR (behaviour.scale, 2, 0);
    dps_objective_close (o);
    DpsParamValue v = {.type = DPS_PARAM_I64, .num = 3, .where = "recipe.yaml:12"};
    CHECK_OK (dps_objective_open (&toy, give_scale, &v, &o, &err));
    CHECK_NEAR (behaviour.scale, 3, 0);
    dps_objective_close (o);
    v.num = 11;
    CHECK_FAILS (dps_objective_open (&toy, give_scale, &v, &o, &err), DPS_ERR_USAGE,
                 "recipe.yaml:12: scale is 11, expected 0 to 10 (toy: factor of the loss)");
    v.num = 7;
    CHECK_FAILS (dps_objective_open (&toy, give_scale, &v, &o, &err), DPS_ERR_INVALID, "toy: scale: seven is unlucky");
}

static void test_totals (void)
{
    DpsObjectiveInstance *o = open_toy ();
    CHECK_NEAR (dps_objective_total (o, 30, 8, 4), 4, 0);
    o->info.total = DPS_TOTAL_TOKENS;
    CHECK_NEAR (dps_objective_total (o, 30, 8, 4), 30, 0);
    o->info.total = DPS_TOTAL_ROWS;
    CHECK_NEAR (dps_objective_total (o, 30, 8, 4), 8, 0);
    CU_ASSERT_EQUAL (dps_objective_signal (o, "logp", "reference"), 1);
    CU_ASSERT_EQUAL (dps_objective_signal (o, "value", "policy"), -1);
    dps_objective_close (o);
}

static void test_allocation_failures (void)
{
    int64_t live = dps_mem_live ();
    DpsStatus st = DPS_ERR_NOMEM;
    for (uint64_t k = 1; st != DPS_OK && k < 200; k++) {
        DpsObjectiveInstance *o = NULL;
        DpsStepSums s = {0};
        double dlogp[7], *const grads[] = {dlogp, NULL, NULL};
        dps_mem_fail_at (k);
        st = dps_objective_open (&toy, NULL, NULL, &o, &err);
        if (st == DPS_OK)
            st = dps_objective_micro_batch (o, &batch, &s, grads, NULL, &err);
        CU_ASSERT (st == DPS_OK || st == DPS_ERR_NOMEM);
        CU_ASSERT (st == DPS_OK || (s.loss == 0 && s.n_metrics == 0));
        dps_step_free (&s);
        dps_objective_close (o);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    dps_mem_fail_at (0);
    CU_ASSERT_EQUAL (st, DPS_OK);
}

CHECK_MAIN ("objective", T (test_gradients_by_differences), T (test_one_pair_at_a_time), T (test_refusals_leave_sums_alone),
            T (test_bad_descriptions_are_refused), T (test_parameters_reach_the_plugin), T (test_totals), T (test_allocation_failures))
