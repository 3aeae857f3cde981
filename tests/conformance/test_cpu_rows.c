/* SPDX-License-Identifier: Apache-2.0 */
/* Every op of the cpu backend that is not a product or attention, in f32 and bf16 and at awkward shapes, against ref. */
#include "conformance/device_kit.h"

static const int64_t sizes[] = {0, 1, 3, 7, 16, 17, 31, 255, 257};
static const int64_t row_counts[] = {0, 1, 3, 17};
enum { N_SIZES = sizeof sizes / sizeof *sizes, N_ROWS = sizeof row_counts / sizeof *row_counts, MIXES = 8 };

static const Budget tight = {2e-6, 1e-7, 0}, sums = {2e-5, 2e-6, 1e-6};

/* Operand k of mix m: every combination of f32 and bf16 over three operands. */
static uint32_t mixed (int m, int k) { return m >> k & 1 ? BF16 : F32; }

#define EACH_SHAPE(N, D)                                                                                                                   \
    for (int r_ = 0; r_ < N_ROWS; r_++)                                                                                                    \
        for (int d_ = 0; d_ < N_SIZES; d_++)                                                                                               \
            for (int64_t N = row_counts[r_], D = sizes[d_], once_ = 1; once_; once_ = 0)

typedef struct Elementwise {
    const char *name;
    int n_in, n_out;
    DpsScalar attrs[2];
    Budget budget;
} Elementwise;

static const Elementwise elementwise[] = {
    {"fill", 0, 1, {{.f = -1.25}}, {0, 0, 0}},
    {"copy", 1, 1, {{0}}, {0, 0, 0}},
    {"add", 2, 1, {{0}}, {1e-6, 1e-7, 1e-6}},
    {"add", 2, 1, {{.f = -0.5}, {.f = 3}}, {1e-6, 1e-7, 1e-6}},
    {"mul", 2, 1, {{0}}, {1e-6, 0, 0}},
    {"div", 2, 1, {{0}}, {1e-6, 0, 0}},
    {"softcap", 1, 1, {{.f = 1.5}}, {2e-6, 1e-7, 0}},
    {"geglu", 2, 1, {{0}}, {2e-6, 1e-6, 2e-6}},
    {"swiglu", 2, 1, {{0}}, {2e-6, 1e-6, 2e-6}},
    {"geglu_bwd", 3, 2, {{0}}, {4e-6, 2e-6, 4e-6}},
    {"swiglu_bwd", 3, 2, {{0}}, {4e-6, 2e-6, 4e-6}},
};

static void test_elementwise (void)
{
    for (size_t i = 0; i < sizeof elementwise / sizeof *elementwise; i++)
        for (int m = 0; m < 2 * MIXES; m++) {
            const Elementwise *e = &elementwise[i];
            EACH_SHAPE (N, D)
            {
                Call c = {.name = e->name, .attrs = {e->attrs[0], e->attrs[1]}};
                for (int k = 0; k < e->n_in; k++)
                    c.in[k] = normals (mixed (m, k), N, D, 2);
                for (int k = 0; k < e->n_out; k++)
                    c.out[k] = array (mixed (m, e->n_in < 3 ? e->n_in + k : 3 - k), N, D);
                compare (&c, e->budget);
                arrays_free ();
            }
        }
}

/* GELU's small values on the left keep their digits: a norm behind the gate makes them as large as any others (Gemma). */
static void test_gelu_tail (void)
{
    Array *x = array (F32, 1, 80), *one = array (F32, 1, 80), *dy = array (F32, 1, 80);
    for (int64_t i = 0; i < 80; i++) {
        put (x, i, -5 + (double)i / 16);
        put (one, i, 1);
        put (dy, i, 1);
    }
    compare (&(Call){"geglu", {x, one}, {array (F32, 1, 80)}, {{0}}}, (Budget){4e-6, 0, 0});
    compare (&(Call){"geglu_bwd", {x, one, dy}, {array (F32, 1, 80), array (F32, 1, 80)}, {{0}}}, (Budget){1e-5, 1e-7, 0});
    arrays_free ();
}

/* More than one block of 4096 and enough to be shared among threads. */
static void test_long_arrays (void)
{
    for (size_t i = 0; i < sizeof elementwise / sizeof *elementwise; i++) {
        const Elementwise *e = &elementwise[i];
        Call c = {.name = e->name, .attrs = {e->attrs[0], e->attrs[1]}};
        for (int k = 0; k < e->n_in; k++)
            c.in[k] = normals (F32, 1, 140001, 2);
        for (int k = 0; k < e->n_out; k++)
            c.out[k] = array (F32, 1, 140001);
        compare (&c, e->budget);
        arrays_free ();
    }
}

static void test_columns_and_rows (void)
{
    for (int m = 0; m < MIXES; m++)
        EACH_SHAPE (N, D)
        {
            Array *x = normals (mixed (m, 0), N, D, 1), *v = normals (mixed (m, 1), D, -1, 1), *s = normals (F32, N, -1, 1);
            Array *dy = normals (mixed (m, 1), N, D, 1), *sum = normals (F32, D, -1, 1), *sum2 = normals (F32, D, -1, 1);
            compare (&(Call){"mul_cols", {x, v}, {array (mixed (m, 2), N, D)}, {{0}}}, tight);
            compare (&(Call){"add_cols", {x, v}, {array (mixed (m, 2), N, D)}, {{0}}}, tight);
            compare (&(Call){"scale_rows", {x, s}, {array (mixed (m, 2), N, D)}, {{0}}}, tight);
            compare (&(Call){"mul_cols_dv", {x, dy, roots_of (N)}, {sum}, {{0}}}, sums);
            compare (&(Call){"bias_db", {dy, roots_of (N)}, {sum2}, {{0}}}, sums);
            arrays_free ();
        }
}

static void test_dropout (void)
{
    for (int m = 0; m < 4; m++)
        EACH_SHAPE (N, D)
        {
            Array *keys = array (DPS_DTYPE_I64, N, -1);
            for (int64_t i = 0; i < N; i++)
                ((int64_t *)keys->view.host)[i] = (i * 3 + 1) << 20 | i;
            compare (
                &(Call){"dropout", {normals (mixed (m, 0), N, D, 1), keys}, {array (mixed (m, 1), N, D)}, {{.f = 0.3}, {.i = 5}, {.i = 9}}},
                tight);
            arrays_free ();
        }
    Call all = {"dropout", {normals (F32, 2, 5, 1), array (DPS_DTYPE_I64, 2, -1)}, {array (F32, 2, 5)}, {{.f = 1}}};
    CHECK_FAILS (call_on (KIT_DEVICE, &all, 0, &err), DPS_ERR_INVALID, "0 ≤ p < 1");
    arrays_free ();
}

static void test_moved_rows (void)
{
    const int64_t rows = 13;
    for (int m = 0; m < 4; m++)
        EACH_SHAPE (N, D)
        {
            Array *x = normals (mixed (m, 0), rows, D, 1), *few = normals (mixed (m, 0), N, D, 1), *at = indices (N, rows);
            Array *cache = normals (mixed (m, 1), 40, D, 1), *places = array (DPS_DTYPE_I32, N, -1);
            for (int64_t i = 0; i < N; i++)
                put (places, i, (double)(39 - 2 * i));
            compare (&(Call){"gather_rows", {x, at}, {array (mixed (m, 1), N, D)}, {{0}}}, tight);
            compare (&(Call){"scatter_rows", {few, at}, {array (mixed (m, 1), rows, D)}, {{0}}}, (Budget){2e-6, m & 2 ? 0x1p-6 : 1e-6, 0});
            compare (&(Call){"put_rows", {few, places}, {cache}, {{0}}}, tight);
            if (D) /* an empty table is refused */
                compare (&(Call){"embed", {x, at}, {array (mixed (m, 1), N, D)}, {{.f = 1.7}}}, tight);
            compare (&(Call){"embed_dw", {few, at, roots_of (N)}, {normals (F32, rows, D, 1)}, {{.f = 1.7}}}, sums);
            arrays_free ();
        }
}

static void test_bad_rows_are_refused (void)
{
    static const char *const names[] = {"gather_rows", "scatter_rows", "put_rows", "embed", "embed_dw"};
    for (int i = 0; i < 10; i++) {
        Array *x = normals (F32, 3, 4, 1), *at = i32s (3, (const int32_t[]){0, i % 2 ? -1 : 3, 1}), *y = array (F32, 3, 4);
        Call c = {names[i / 2], {x, at, i / 2 == 4 ? roots_of (3) : NULL}, {y}, {{0}}};
        CHECK_FAILS (call_on (KIT_DEVICE, &c, 0, &err), DPS_ERR_INVALID, i % 2 ? "-1" : "3");
        check_untouched (c.name, y, 0);
        arrays_free ();
    }
}

static void test_rms_norm (void)
{
    static const int64_t widths[] = {1, 3, 16, 17, 64, 257};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int64_t groups = 1; groups <= 3; groups += 2)
            for (int r = 0; r < N_ROWS; r++)
                for (int m = 0; m < 2 * MIXES; m++) {
                    int64_t h = widths[w], D = h * groups, N = row_counts[r];
                    const DpsScalar a[] = {{.f = 1e-5}, {.f = m & 1}, {.i = groups > 1 ? h : 0}};
                    Array *x = normals (mixed (m, 0), N, D, 1), *wt = normals (mixed (m, 1), h, -1, 1);
                    Array *rstd = array (F32, N * groups, -1), *dy = normals (mixed (m, 2), N, D, 1);
                    compare (&(Call){"rms_norm", {x, wt}, {array (mixed (m, 2), N, D), rstd}, {a[0], a[1], a[2]}}, (Budget){4e-6, 1e-6, 0});
                    compare (&(Call){"rms_norm", {x, wt}, {array (mixed (m, 2), N, D)}, {a[0], a[1], a[2]}}, (Budget){4e-6, 1e-6, 0});
                    double steep = 0;
                    for (int64_t i = 0; i < rstd->n; i++)
                        steep = fmax (steep, get (rstd, i));
                    for (int added = 0; added < 2; added++)
                        compare (&(Call){"rms_norm_dx",
                                         {x, wt, rstd, dy, added ? normals (mixed (m, 3), N, D, 1) : NULL},
                                         {array (mixed (m, 3), N, D)},
                                         {a[0], a[1], a[2]}},
                                 (Budget){1e-5, 4e-6, 2e-6 * steep});
                    compare (&(Call){"rms_norm_dw", {x, rstd, dy, roots_of (N)}, {normals (F32, h, -1, 1)}, {a[0], a[1], a[2]}}, sums);
                    arrays_free ();
                }
}

static void test_rope (void)
{
    static const int64_t heads[] = {2, 6, 32, 34, 64, 130};
    for (size_t k = 0; k < sizeof heads / sizeof *heads; k++)
        for (int m = 0; m < 8; m++) {
            int64_t h = heads[k];
            int32_t far = m & 4 ? 9000 : 40;
            /* row 8 belongs to no segment; the last segment is far behind the kept sines with m & 4 */
            const DpsSegment s[] = {{0, 5, 0, 5, -1, 0, 0, 0}, {5, 3, 5, 3, 0, 5, 0, 0}, {9, 8, 9, 8, -1, far, 0, 0}};
            Array *inv_freq = array (F32, h / 2, -1);
            for (int64_t i = 0; i < h / 2; i++)
                put (inv_freq, i, pow (10000, -2.0 * (double)i / (double)h));
            for (int64_t inverse = 0; inverse < 2; inverse++)
                compare (&(Call){"rope",
                                 {normals (mixed (m, 0), 17, 3 * h, 1), segment_table (3, s), inv_freq},
                                 {array (mixed (m, 1), 17, 3 * h)},
                                 {{.i = h}, {.i = inverse}, {.f = m & 1 ? 1.25 : 0}}},
                         (Budget){2e-6, 1e-6, 0});
            compare (&(Call){"rope", {normals (F32, 0, h, 1), segment_table (0, s), inv_freq}, {array (F32, 0, h)}, {{.i = h}}}, tight);
            arrays_free ();
        }
}

static void test_optimizers (void)
{
    for (int d = 0; d < N_SIZES; d++)
        for (int m = 0; m < 8; m++) {
            int64_t n = d ? sizes[d] : 140001;
            Array *p = normals (F32, n, -1, 1), *g = normals (F32, n, -1, 0.1), *mm = normals (F32, n, -1, 0.1), *v = array (F32, n, -1);
            Array *shadow = m & 1 ? normals (BF16, n, -1, 1) : NULL;
            for (int64_t i = 0; i < n; i++)
                put (v, i, pow (get (mm, i), 2) + 1e-4);
            double scale = m & 2 ? 0.25 : 0; /* 0 is a missing attribute: 1 */
            const Budget b = {4e-6, 1e-6, 0};
            if (m & 4)
                compare (&(Call){"adamw_step",
                                 {p, g, mm, v, shadow},
                                 {p, mm, v, shadow},
                                 {{.f = 0.01}, {.f = 0.9}, {.f = 0.999}, {.f = 1e-8}, {.f = 0.1}, {.i = 3}, {.f = scale}}},
                         b);
            else
                compare (&(Call){"sgd_step",
                                 {p, g, m & 1 ? mm : NULL, shadow},
                                 {p, m & 1 ? mm : NULL, shadow},
                                 {{.f = 0.01}, {.f = 0.9}, {0}, {0}, {.f = 0.1}, {0}, {.f = scale}}},
                         b);
            arrays_free ();
        }
    for (int bf = 0; bf < 2; bf++)
        for (int d = 0; d <= N_SIZES; d++) {
            compare (
                &(Call){
                    "sumsq", {normals (bf ? BF16 : F32, d < N_SIZES ? sizes[d] : 200001, -1, 1)}, {array (DPS_DTYPE_F64, 1, -1)}, {{0}}},
                (Budget){1e-12, 0, 0});
            arrays_free ();
        }
}

/* A NaN of element 1 is in element 1 of the output, or wherever a row is reduced. */
static void test_nan_stays (void)
{
    static const struct {
        const char *name;
        int n_in;
        DpsScalar attr;
    } ops[] = {{"copy", 1, {0}},     {"add", 2, {0}},      {"mul", 2, {0}},       {"div", 2, {0}},        {"softcap", 1, {.f = 2}},
               {"geglu", 2, {0}},    {"swiglu", 2, {0}},   {"geglu_bwd", 3, {0}}, {"swiglu_bwd", 3, {0}}, {"rms_norm", 2, {0}},
               {"mul_cols", 2, {0}}, {"add_cols", 2, {0}}, {"scale_rows", 2, {0}}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int k = 0; k < ops[i].n_in; k++)
            for (int m = 0; m < 4; m++) {
                Call c = {.name = ops[i].name, .attrs = {ops[i].attr}};
                int vector = strstr (c.name, "cols") || !strcmp (c.name, "rms_norm") ? 18 : !strcmp (c.name, "scale_rows") ? 1 : 0;
                for (int j = 0; j < ops[i].n_in; j++) {
                    c.in[j] =
                        j == 1 && vector ? normals (vector == 1 ? F32 : mixed (m, 0), vector, -1, 1) : normals (mixed (m, 0), 1, 18, 1);
                    if (j == k)
                        put (c.in[j], c.in[j]->n > 1, (double)NAN);
                }
                c.out[0] = array (mixed (m, 1), 1, 18);
                c.out[1] = strstr (c.name, "_bwd") ? array (mixed (m, 1), 1, 18) : NULL;
                call (&c);
                int up = strstr (c.name, "_bwd") && k == 1; /* dup does not depend on up */
                CU_ASSERT (isnan (get (c.out[0], 1)));
                CU_ASSERT (!c.out[1] || up || isnan (get (c.out[1], 1)));
                arrays_free ();
            }
    Array *p = normals (F32, 3, -1, 1), *g = normals (F32, 3, -1, 1), *shadow = array (BF16, 3, -1);
    put (g, 1, (double)NAN);
    call (&(Call){"sgd_step", {p, g, NULL, shadow}, {p, NULL, shadow}, {{.f = 0.1}}});
    CU_ASSERT (isnan (get (p, 1)) && isnan (get (shadow, 1)) && !isnan (get (shadow, 2)));
    arrays_free ();
}

static void test_close (void)
{
    printf ("%s ", device_named (KIT_DEVICE)->detail);
    kit_close ();
}

CHECK_MAIN (KIT_DEVICE ".rows", T (test_elementwise), T (test_gelu_tail), T (test_long_arrays), T (test_columns_and_rows), T (test_dropout),
            T (test_moved_rows), T (test_bad_rows_are_refused), T (test_rms_norm), T (test_rope), T (test_optimizers), T (test_nan_stays),
            T (test_close))
