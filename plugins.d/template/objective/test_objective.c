/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin as the core sees it: loaded from the build's plugin folder, its loss and gradient against the formula. */
#include "check.h"
#include "objective/tape.h"
#include "plugin/registry.h"

static DpsError err = DPS_ERROR_INIT;

/* Two rows of 2 and 3 scored tokens. */
static const double logp[5] = {-0.5, -2.0, -0.1, -3.0, -1.0}, weights[5] = {1, 1, 0.5, 0, 2};
static const int64_t rows[3] = {0, 2, 5}, units[3] = {0, 1, 2};

/* What `loss` reports: the weighted mean over what it adds. */
typedef struct Reported {
    double sum, weight;
} Reported;

static void add_metric (void *ctx, DpsStr name, double value, double weight)
{
    Reported *r = ctx;
    CU_ASSERT (dps_str_is (name, "nll"));
    r->sum += weight * value;
    r->weight += weight;
}

static void run_loss (double margin, double loss[2], double gradient[5])
{
    DpsRegistry *reg = NULL;
    struct DpsTape *tape = NULL;
    void *self = NULL;
    CHECK_OK (dps_tape_provide (&err));
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    const DpsObjective *o = dps_registry_get (reg, DPS_OBJECTIVE_ID, "com.example.margin-sft");
    CU_ASSERT_PTR_NOT_NULL_FATAL (o);
    CU_ASSERT_EQUAL (o->describe ()->n_params, 1);
    CHECK_OK (o->create (&margin, NULL, &self, &err));
    CHECK_OK (dps_tape_create (&(DpsTapeShape){.n_tokens = 5, .n_rows = 2, .n_units = 2, .row_offsets = rows, .unit_offsets = units}, &tape,
                               &err));
    const DpsHostTape *ops = dps_tape_table ();
    DpsVal signal = ops->variable (tape, DPS_AXIS_TOKEN, logp, 5), out = -1;
    const double *const signals[] = {logp};
    const DpsObjectiveBatch batch = {.size = sizeof batch,
                                     .n_tokens = 5,
                                     .n_rows = 2,
                                     .n_units = 2,
                                     .row_offsets = rows,
                                     .unit_offsets = units,
                                     .signals = signals,
                                     .weights = weights,
                                     .total = 5};
    Reported nll = {0};
    const DpsMetricSink sink = {.size = sizeof sink, .ctx = &nll, .add = add_metric};
    CHECK_OK (o->loss (self, ops, tape, &batch, &signal, &sink, &out, &err));
    CHECK_NEAR (nll.sum / nll.weight, (0.5 + 2.0 + 0.05 + 2.0) / 4.5, 1e-12);
    uint32_t axis = 0;
    uint64_t n = 0;
    const double *per_unit = dps_tape_values (tape, out, &axis, &n);
    CU_ASSERT_FATAL (per_unit && axis == DPS_AXIS_UNIT && n == 2);
    memcpy (loss, per_unit, 2 * sizeof *loss);
    CHECK_OK (dps_tape_backward (tape, out, 1.0, &err));
    memcpy (gradient, dps_tape_gradient (tape, signal), 5 * sizeof *gradient);
    dps_tape_free (tape);
    o->destroy (self);
    dps_registry_close (reg);
}

static void test_margin_zero_is_plain_sft (void)
{
    double loss[2], gradient[5];
    run_loss (0, loss, gradient);
    CHECK_NEAR (loss[0], 2.5, 1e-12);
    CHECK_NEAR (loss[1], 0.05 + 2.0, 1e-12);
    for (int t = 0; t < 5; t++)
        CU_ASSERT_EQUAL (gradient[t], -weights[t]); /* exactly zero where the weight is */
}

static void test_tokens_inside_the_margin_are_left_alone (void)
{
    double loss[2], gradient[5];
    run_loss (0.75, loss, gradient);
    CHECK_NEAR (loss[0], 1.25, 1e-12);
    CHECK_NEAR (loss[1], 0.5, 1e-12);
    CU_ASSERT_EQUAL (gradient[0], 0);
    CU_ASSERT_EQUAL (gradient[1], -1);
    CU_ASSERT_EQUAL (gradient[2], 0);
    CU_ASSERT_EQUAL (gradient[4], -2);
}

CHECK_MAIN ("margin-sft", T (test_margin_zero_is_plain_sft), T (test_tokens_inside_the_margin_are_left_alone))
