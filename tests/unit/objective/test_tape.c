/* SPDX-License-Identifier: Apache-2.0 */
/* The host tape: every function's values, and its gradient against central differences; errors remembered; allocation failures. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "check.h"
#include "objective/tape.h"

/* Rows of 3, 0, 1, 4, 2 and 2 tokens; units of 2 rows each. */
static const int64_t rows[] = {0, 3, 3, 4, 8, 10, 12}, units[] = {0, 2, 4, 6};
static const DpsTapeShape shape = {12, 6, 3, rows, units};
static const uint64_t sizes[] = {1, 12, 6, 3};

/* Builds the value under test from three variables of axis `axis`. */
typedef DpsVal (*Build) (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x);

static DpsError err = DPS_ERROR_INIT;

/* Whatever y's axis, one scalar that weighs its elements differently. */
static DpsVal weigh (const DpsHostTape *f, struct DpsTape *t, DpsVal y)
{
    uint32_t axis;
    uint64_t n;
    double w[12];
    if (!dps_tape_values (t, y, &axis, &n))
        return -1;
    for (uint64_t i = 0; i < n; i++)
        w[i] = dps_rng_normal (3, 3, i);
    return f->sum (t, f->mul (t, y, f->input (t, axis, w, n)));
}

static double run (Build build, uint32_t axis, double x[3][12], double gradient[3][12])
{
    const DpsHostTape *f = dps_tape_table ();
    struct DpsTape *t;
    DpsVal v[3];
    uint64_t n;
    CHECK_OK (dps_tape_create (&shape, &t, &err));
    for (int k = 0; k < 3; k++)
        v[k] = f->variable (t, axis, x[k], sizes[axis]);
    DpsVal loss = weigh (f, t, build (f, t, v));
    CHECK_OK (dps_tape_status (t, &err));
    double value = f->data (t, loss, &n)[0];
    if (gradient) {
        CHECK_OK (dps_tape_backward (t, loss, 1, &err));
        for (int k = 0; k < 3; k++)
            memcpy (gradient[k], dps_tape_gradient (t, v[k]), sizes[axis] * sizeof (double));
    }
    dps_tape_free (t);
    return value;
}

/* shift and scale keep the numbers inside the function's domain. */
static void check_gradient (const char *what, Build build, uint32_t axis, double scale, double shift)
{
    double x[3][12], g[3][12], worst = 0, norm = 0;
    for (int k = 0; k < 3; k++)
        for (uint64_t i = 0; i < 12; i++)
            x[k][i] = scale * dps_rng_normal (5, (uint64_t)k, i) + shift;
    run (build, axis, x, g);
    for (int k = 0; k < 3; k++)
        for (uint64_t i = 0; i < sizes[axis]; i++) {
            double keep = x[k][i], step = 1e-5;
            x[k][i] = keep + step;
            double up = run (build, axis, x, NULL);
            x[k][i] = keep - step;
            double down = run (build, axis, x, NULL);
            x[k][i] = keep;
            worst = fmax (worst, fabs ((up - down) / (2 * step) - g[k][i]));
            norm = fmax (norm, fabs (g[k][i]));
        }
    if (!(worst <= 1e-6 * norm + 1e-10))
        printf ("\n    %s along axis %u: off by %g of %g\n", what, axis, worst, norm);
    CU_ASSERT (worst <= 1e-6 * norm + 1e-10);
}

#define UNARY(name)                                                                                                                        \
    static DpsVal build_##name (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->name (t, x[0]); }
#define BINARY(name)                                                                                                                       \
    static DpsVal build_##name (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->name (t, x[0], x[1]); }
UNARY (neg)
UNARY (exp)
UNARY (log)
UNARY (square)
UNARY (abs)
UNARY (relu)
UNARY (sigmoid)
UNARY (log_sigmoid)
UNARY (sum)
UNARY (sum_rows)
UNARY (mean_rows)
UNARY (last)
UNARY (sum_units)
BINARY (add)
BINARY (sub)
BINARY (mul)
BINARY (div)
BINARY (min)
BINARY (max)

static DpsVal build_clip (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->clip (t, x[0], -0.5, 0.8); }
static DpsVal build_where (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->where (t, x[0], x[1], x[2]); }
static DpsVal build_pick0 (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->pick (t, x[0], 0); }
static DpsVal build_pick1 (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->pick (t, x[0], 1); }
static DpsVal build_to_tokens (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->spread (t, x[0], DPS_AXIS_TOKEN); }
static DpsVal build_to_rows (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->spread (t, x[0], DPS_AXIS_ROW); }
static DpsVal build_to_units (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->spread (t, x[0], DPS_AXIS_UNIT); }

/* x[0]·c for a detached factor: f->mul alone would give 2x. */
static DpsVal build_detached (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x) { return f->mul (t, f->detach (t, x[1]), x[0]); }

/* Scalars broadcast in every operand: (s - x)·(x + s) with s = sum of x. */
static DpsVal build_broadcast (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x)
{
    DpsVal s = f->sum (t, x[0]);
    return f->mul (t, f->sub (t, s, x[0]), f->add (t, x[0], s));
}

/* A loss of the GRPO shape: every axis, a shared sub-expression, clip and min. */
static DpsVal build_composite (const DpsHostTape *f, struct DpsTape *t, const DpsVal *x)
{
    DpsVal ratio = f->exp (t, f->sub (t, x[0], x[1])), a = f->spread (t, f->mean_rows (t, x[2]), DPS_AXIS_TOKEN);
    DpsVal l = f->min (t, f->mul (t, ratio, a), f->mul (t, f->clip (t, ratio, 0.8, 1.2), a));
    return f->sum_units (t, f->div (t, f->sum_rows (t, l), f->add (t, f->count_rows (t), f->constant (t, 1))));
}

static void test_elementwise_gradients (void)
{
    for (uint32_t axis = 0; axis < 4; axis++) {
#define GRADIENT(name, scale, shift) check_gradient (#name, build_##name, axis, scale, shift)
        GRADIENT (neg, 1, 0);
        GRADIENT (exp, 1, 0);
        GRADIENT (log, 0.1, 2);
        GRADIENT (square, 1, 0);
        GRADIENT (abs, 1, 0);
        GRADIENT (relu, 1, 0);
        GRADIENT (sigmoid, 3, 0);
        GRADIENT (log_sigmoid, 3, 0);
        GRADIENT (add, 1, 0);
        GRADIENT (sub, 1, 0);
        GRADIENT (mul, 1, 0);
        GRADIENT (div, 0.2, 2);
        GRADIENT (min, 1, 0);
        GRADIENT (max, 1, 0);
        GRADIENT (clip, 1, 0);
        GRADIENT (where, 1, 0);
        GRADIENT (sum, 1, 0);
        GRADIENT (broadcast, 1, 0);
    }
}

static void test_axis_gradients (void)
{
    check_gradient ("sum_rows", build_sum_rows, DPS_AXIS_TOKEN, 1, 0);
    check_gradient ("mean_rows", build_mean_rows, DPS_AXIS_TOKEN, 1, 0);
    check_gradient ("last", build_last, DPS_AXIS_TOKEN, 1, 0);
    check_gradient ("sum_units of tokens", build_sum_units, DPS_AXIS_TOKEN, 1, 0);
    check_gradient ("sum_units of rows", build_sum_units, DPS_AXIS_ROW, 1, 0);
    check_gradient ("pick 0", build_pick0, DPS_AXIS_ROW, 1, 0);
    check_gradient ("pick 1", build_pick1, DPS_AXIS_ROW, 1, 0);
    check_gradient ("row to token", build_to_tokens, DPS_AXIS_ROW, 1, 0);
    check_gradient ("unit to token", build_to_tokens, DPS_AXIS_UNIT, 1, 0);
    check_gradient ("unit to row", build_to_rows, DPS_AXIS_UNIT, 1, 0);
    check_gradient ("scalar to unit", build_to_units, DPS_AXIS_SCALAR, 1, 0);
    check_gradient ("composite", build_composite, DPS_AXIS_TOKEN, 0.3, 0.1);
}

static void test_axis_values (void)
{
    const DpsHostTape *f = dps_tape_table ();
    struct DpsTape *t;
    double token[12], row[6] = {1, 2, 3, 4, 5, 6};
    uint64_t n;
    for (int i = 0; i < 12; i++)
        token[i] = i + 1;
    CHECK_OK (dps_tape_create (&shape, &t, &err));
    DpsVal x = f->input (t, DPS_AXIS_TOKEN, token, 12), r = f->input (t, DPS_AXIS_ROW, row, 6);
    static const double want_sum[] = {6, 0, 4, 26, 19, 23}, want_mean[] = {2, 0, 4, 6.5, 9.5, 11.5}, want_count[] = {3, 0, 1, 4, 2, 2};
    static const double want_last[] = {3, 0, 4, 8, 10, 12}, want_units[] = {6, 30, 42}, want_pairs[] = {3, 7, 11},
                        want_second[] = {2, 4, 6};
    static const double want_spread[] = {1, 1, 1, 3, 4, 4, 4, 4, 5, 5, 6, 6};
    const struct {
        DpsVal got;
        const double *want;
        uint64_t n;
    } checks[] = {{f->sum_rows (t, x), want_sum, 6},    {f->mean_rows (t, x), want_mean, 6},
                  {f->count_rows (t), want_count, 6},   {f->last (t, x), want_last, 6},
                  {f->sum_units (t, x), want_units, 3}, {f->sum_units (t, r), want_pairs, 3},
                  {f->pick (t, r, 1), want_second, 3},  {f->spread (t, r, DPS_AXIS_TOKEN), want_spread, 12}};
    for (size_t c = 0; c < sizeof checks / sizeof *checks; c++) {
        const double *got = f->data (t, checks[c].got, &n);
        CU_ASSERT_EQUAL_FATAL (n, checks[c].n);
        for (uint64_t i = 0; i < n; i++)
            CHECK_NEAR (got[i], checks[c].want[i], 0);
    }
    dps_tape_free (t);
}

static void test_detach_stops_the_gradient (void)
{
    double x[3][12], g[3][12];
    for (int k = 0; k < 3; k++)
        for (uint64_t i = 0; i < 12; i++)
            x[k][i] = dps_rng_normal (5, (uint64_t)k, i);
    run (build_detached, DPS_AXIS_TOKEN, x, g);
    for (uint64_t i = 0; i < 12; i++) {
        CHECK_NEAR (g[0][i], x[1][i] * dps_rng_normal (3, 3, i), 1e-15);
        CHECK_NEAR (g[1][i], 0, 0);
    }
}

static void test_extremes_are_finite (void)
{
    const DpsHostTape *f = dps_tape_table ();
    static const int64_t one[] = {0, 4}, unit[] = {0, 1};
    const DpsTapeShape small = {4, 1, 1, one, unit};
    static const double far[] = {-800, 800, 0, -0.0};
    struct DpsTape *t;
    uint64_t n;
    CHECK_OK (dps_tape_create (&small, &t, &err));
    DpsVal x = f->variable (t, DPS_AXIS_TOKEN, far, 4), l = f->log_sigmoid (t, x), s = f->sigmoid (t, x);
    /* log of what may be 0 or less, hidden by where: the hidden branch must not poison the gradient. */
    DpsVal safe = f->where (t, x, f->log (t, x), f->constant (t, 0));
    DpsVal loss = f->sum_units (t, f->add (t, f->add (t, l, s), safe));
    CHECK_NEAR (f->data (t, l, &n)[0], -800, 0);
    CHECK_NEAR (f->data (t, l, &n)[1], 0, 1e-300);
    CHECK_NEAR (f->data (t, s, &n)[0], 0, 1e-300);
    CHECK_OK (dps_tape_backward (t, loss, 1, &err));
    for (int i = 0; i < 4; i++)
        CU_ASSERT (isfinite (dps_tape_gradient (t, x)[i]));
    CHECK_NEAR (dps_tape_gradient (t, x)[0], 1, 1e-15);
    dps_tape_free (t);
}

static void test_ties_go_to_the_first (void)
{
    const DpsHostTape *f = dps_tape_table ();
    static const int64_t one[] = {0, 1}, unit[] = {0, 1};
    const DpsTapeShape small = {1, 1, 1, one, unit};
    const double value = 1;
    struct DpsTape *t;
    CHECK_OK (dps_tape_create (&small, &t, &err));
    DpsVal a = f->variable (t, DPS_AXIS_UNIT, &value, 1), b = f->variable (t, DPS_AXIS_UNIT, &value, 1), c = f->clip (t, a, 1, 2);
    DpsVal loss = f->add (t, f->add (t, f->min (t, a, b), f->max (t, a, b)), c);
    CHECK_OK (dps_tape_backward (t, loss, 10, &err));
    CHECK_NEAR (dps_tape_gradient (t, a)[0], 30, 0); /* min, max and the clip's bound */
    CHECK_NEAR (dps_tape_gradient (t, b)[0], 0, 0);
    dps_tape_free (t);
}

static void test_nan_is_not_hidden (void)
{
    const DpsHostTape *f = dps_tape_table ();
    struct DpsTape *t;
    CHECK_OK (dps_tape_create (&shape, &t, &err));
    const double nothing[3] = {NAN, NAN, NAN}, numbers[3] = {-1, 0, 1};
    DpsVal x = f->variable (t, DPS_AXIS_UNIT, nothing, 3), y = f->input (t, DPS_AXIS_UNIT, numbers, 3);
    const DpsVal all[] = {f->relu (t, x),   f->min (t, x, y),      f->min (t, y, x), f->max (t, x, y),
                          f->max (t, y, x), f->clip (t, x, -1, 1), f->abs (t, x)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int k = 0; k < 3; k++)
            CU_ASSERT (isnan (f->data (t, all[i], NULL)[k]));
    dps_tape_free (t);
}

static void test_errors_are_remembered (void)
{
    const DpsHostTape *f = dps_tape_table ();
    double x[12] = {0};
    struct DpsTape *t;
#define WRONG(expression, code, text)                                                                                                      \
    CHECK_OK (dps_tape_create (&shape, &t, &err));                                                                                         \
    CU_ASSERT_EQUAL ((expression), -1);                                                                                                    \
    CU_ASSERT_EQUAL (f->constant (t, 1), -1);                                                                                              \
    CHECK_FAILS (dps_tape_status (t, &err), code, text);                                                                                   \
    CHECK_FAILS (dps_tape_backward (t, 0, 1, &err), code, text);                                                                           \
    dps_tape_free (t)
    WRONG (f->input (t, DPS_AXIS_TOKEN, x, 11), DPS_ERR_SHAPE, "input of 11 numbers per token, expected 12");
    WRONG (f->input (t, 9, x, 1), DPS_ERR_INVALID, "along axis 9");
    WRONG (f->neg (t, 7), DPS_ERR_INVALID, "neg was given value 7, there are 0");
    WRONG (f->neg (t, -1), DPS_ERR_INVALID, "neg was given value -1");
    WRONG (f->add (t, f->input (t, DPS_AXIS_TOKEN, x, 12), f->input (t, DPS_AXIS_ROW, x, 6)), DPS_ERR_SHAPE,
           "add of a value per token and a value per row: spread one of them first");
    WRONG (f->sum_rows (t, f->input (t, DPS_AXIS_ROW, x, 6)), DPS_ERR_SHAPE, "sum_rows of a value per row, expected per token");
    WRONG (f->sum_units (t, f->constant (t, 1)), DPS_ERR_SHAPE, "sum_units of a value per scalar");
    WRONG (f->spread (t, f->input (t, DPS_AXIS_TOKEN, x, 12), DPS_AXIS_ROW), DPS_ERR_SHAPE, "spread from per token to per row");
    WRONG (f->spread (t, f->constant (t, 1), 4), DPS_ERR_SHAPE, "unknown axis");
    WRONG (f->pick (t, f->input (t, DPS_AXIS_ROW, x, 6), 2), DPS_ERR_SHAPE, "pick of row 2, unit 0 has 2 rows");
    CHECK_OK (dps_tape_create (&shape, &t, &err));
    DpsVal token = f->variable (t, DPS_AXIS_TOKEN, x, 12);
    CHECK_FAILS (dps_tape_backward (t, token, 1, &err), DPS_ERR_SHAPE, "the loss is a value per token, expected per unit");
    dps_tape_free (t);
}

static void test_bad_offsets_are_refused (void)
{
    struct DpsTape *t;
    static const int64_t short_rows[] = {0, 3, 3, 4, 8, 10, 11}, back[] = {0, 3, 2, 4, 8, 10, 12}, late[] = {1, 3, 3, 4, 8, 10, 12};
    CHECK_FAILS (dps_tape_create (&(DpsTapeShape){12, 6, 3, short_rows, units}, &t, &err), DPS_ERR_SHAPE, "row_offsets ends at 11");
    CHECK_FAILS (dps_tape_create (&(DpsTapeShape){12, 6, 3, back, units}, &t, &err), DPS_ERR_SHAPE, "row_offsets[2] is 2");
    CHECK_FAILS (dps_tape_create (&(DpsTapeShape){12, 6, 3, late, units}, &t, &err), DPS_ERR_SHAPE, "row_offsets[0] is 1");
    CHECK_FAILS (dps_tape_create (&(DpsTapeShape){12, 5, 3, rows, units}, &t, &err), DPS_ERR_SHAPE, "row_offsets ends at 10");
    CHECK_FAILS (dps_tape_create (&(DpsTapeShape){12, 6, 2, rows, units}, &t, &err), DPS_ERR_SHAPE, "unit_offsets ends at 4");
}

static void test_allocation_failures (void)
{
    const DpsHostTape *f = dps_tape_table ();
    double x[12] = {0};
    int64_t live = dps_mem_live ();
    DpsStatus st = DPS_ERR_NOMEM;
    for (uint64_t k = 1; st != DPS_OK && k < 100; k++) {
        struct DpsTape *t = NULL;
        dps_mem_fail_at (k);
        st = dps_tape_create (&shape, &t, &err);
        if (st == DPS_OK) {
            DpsVal v[3];
            for (int i = 0; i < 3; i++)
                v[i] = f->variable (t, DPS_AXIS_TOKEN, x, 12);
            st = dps_tape_backward (t, build_composite (f, t, v), 1, &err);
        }
        CU_ASSERT (st == DPS_OK || st == DPS_ERR_NOMEM);
        dps_tape_free (t);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    dps_mem_fail_at (0);
    CU_ASSERT_EQUAL (st, DPS_OK);
}

CHECK_MAIN ("objective.tape", T (test_elementwise_gradients), T (test_axis_gradients), T (test_axis_values),
            T (test_detach_stops_the_gradient), T (test_extremes_are_finite), T (test_ties_go_to_the_first), T (test_nan_is_not_hidden),
            T (test_errors_are_remembered), T (test_bad_offsets_are_refused), T (test_allocation_failures))
