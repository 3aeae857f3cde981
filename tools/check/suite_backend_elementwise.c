/* SPDX-License-Identifier: Apache-2.0 */
/* suite_backend_elementwise.c: ops whose every number is its own, and those that go by columns or rows; in f32 and bf16 at awkward shapes. */
#include <math.h>
#include <string.h>

#include "check/kit.h"

typedef struct Elementwise {
    const char *name;
    int n_in, n_out;
    DpsScalar attrs[2];
    int positive; /* operands are made so: logarithms, roots */
} Elementwise;

static const Elementwise fills[] = {{"fill", 0, 1, {{.f = -1.25}}, 0}, {"copy", 1, 1, {{0}}, 0}};
static const Elementwise sums[] = {
    {"add", 2, 1, {{0}}, 0}, {"add", 2, 1, {{.f = -0.5}, {.f = 3}}, 0}, {"mul", 2, 1, {{0}}, 0}, {"div", 2, 1, {{0}}, 0}};
static const Elementwise maps[] = {
    {"exp", 1, 1, {{0}}, 0}, {"log", 1, 1, {{0}}, 1}, {"sqrt", 1, 1, {{0}}, 1}, {"softcap", 1, 1, {{.f = 1.5}}, 0}};
static const Elementwise gates[] = {{"geglu", 2, 1, {{0}}, 0}, {"swiglu", 2, 1, {{0}}, 0}};
static const Elementwise gates_bwd[] = {{"geglu_bwd", 3, 2, {{0}}, 0}, {"swiglu_bwd", 3, 2, {{0}}, 0}};

static KitArray *operand (Kit *k, const Elementwise *e, uint32_t dtype, int64_t N, int64_t D, int strided)
{
    KitArray *a = strided ? kit_array_strided (k, dtype, N, D) : kit_array (k, dtype, N, D), *from = kit_normals (k, dtype, N, D, 2);
    for (int64_t i = 0; a && from && i < a->n; i++) {
        double v = kit_get (from, i);
        kit_put (a, i, e->positive ? fabs (v) + 0.25 : v);
    }
    return a;
}

/* Mix m of dtypes; 16 and more: with strides. */
static DpsStatus one (Kit *k, const Elementwise *e, int m, int64_t N, int64_t D, DpsError *err)
{
    int strided = m & 16;
    KitCall c = {.name = e->name, .attrs = {e->attrs[0], e->attrs[1]}};
    for (int i = 0; i < e->n_in; i++)
        c.in[i] = operand (k, e, kit_mixed (m, i), N, D, strided);
    for (int i = 0; i < e->n_out; i++) {
        uint32_t dtype = kit_mixed (m, e->n_in < 3 ? e->n_in + i : 3 - i);
        c.out[i] = strided ? kit_array_strided (k, dtype, N, D) : kit_array (k, dtype, N, D);
    }
    DpsStatus st = kit_compare (k, &c, err);
    kit_clear (k);
    return st;
}

static DpsStatus each (Kit *k, const Elementwise *list, size_t n, DpsError *err)
{
    for (size_t e = 0; e < n; e++) {
        for (int m = 0; m < 16; m++)
            KIT_EACH_SHAPE (N, D) DPS_TRY (one (k, &list[e], m, N, D, err));
        DPS_TRY (one (k, &list[e], 16, 7, 17, err));
        DPS_TRY (one (k, &list[e], 31, 7, 17, err));
        DPS_TRY (one (k, &list[e], 0, 1, 140001, err)); /* many blocks, shared among threads */
    }
    return DPS_OK;
}

static DpsStatus fill_copy (Kit *k, DpsError *err) { return each (k, fills, sizeof fills / sizeof *fills, err); }
static DpsStatus arithmetic (Kit *k, DpsError *err) { return each (k, sums, sizeof sums / sizeof *sums, err); }
static DpsStatus functions (Kit *k, DpsError *err) { return each (k, maps, sizeof maps / sizeof *maps, err); }
static DpsStatus gate_forward (Kit *k, DpsError *err) { return each (k, gates, sizeof gates / sizeof *gates, err); }
static DpsStatus gate_backward (Kit *k, DpsError *err) { return each (k, gates_bwd, sizeof gates_bwd / sizeof *gates_bwd, err); }

/* Where exp overflows f32 on the way, the answer does not: it is 0, 1, the cap or x. */
static DpsStatus saturated (Kit *k, DpsError *err)
{
    static const struct {
        const char *name;
        int n_in, n_out, n;
        DpsScalar attr;
    } ops[] = {{"softcap", 1, 1, 6, {.f = 2}},
               {"geglu", 2, 1, 4, {0}},
               {"geglu_bwd", 3, 2, 4, {0}},
               {"swiglu", 2, 1, 6, {0}},
               {"swiglu_bwd", 3, 2, 6, {0}}};
    static const double at[] = {12, -12, 20, -20, 300, -300}; /* the last two are past what f64 holds of a cube's exponential */
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int m = 0; m < 4; m++) {
            KitCall c = {.name = ops[i].name, .attrs = {ops[i].attr}};
            for (int j = 0; j < ops[i].n_in; j++)
                c.in[j] = kit_filled (k, kit_mixed (m, 0), 1, ops[i].n, 1);
            for (int j = 0; j < ops[i].n; j++)
                kit_put (c.in[0], j, at[j]);
            for (int o = 0; o < ops[i].n_out; o++)
                c.out[o] = kit_array (k, kit_mixed (m, 1), 1, ops[i].n);
            DPS_TRY (kit_compare (k, &c, err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* copy to fewer bits rounds to nearest, ties to even; what is too large is infinite, and a NaN stays one. */
static DpsStatus rounding (Kit *k, DpsError *err)
{
    static const double odd[] = {1.00390625, 1.01171875, -1.00390625, 1.0039062501,     3.4e38,     -3.4e38, 65519,
                                 65520,      1e-3,       0,           (double)INFINITY, (double)NAN};
    enum { ODD = sizeof odd / sizeof *odd, COUNT = 999 };
    for (int to = 0; to < 2; to++) {
        KitArray *x = kit_normals (k, F32, COUNT, -1, 1), *y = kit_array (k, to ? F16 : BF16, COUNT, -1),
                 *want = kit_array (k, to ? F16 : BF16, COUNT, -1);
        for (int64_t i = 0; x && i < COUNT; i++)
            kit_put (x, i, i < ODD ? odd[i] : kit_get (x, i) * 1.2345678);
        KitCall c = {.name = "copy", .in = {x}, .out = {want}};
        DPS_TRY (kit_on_ref (k, &c, err));
        c.out[0] = y;
        DpsStatus st = kit_call (k, &c, err);
        for (int64_t i = 0; st == DPS_OK && i < COUNT; i++)
            if (kit_get (y, i) != kit_get (want, i) && !(isnan (kit_get (y, i)) && isnan (kit_get (want, i))))
                st = dps_fail (err, DPS_ERR_INVALID,
                               "copy of %.9g from f32 to %s gives %.9g, expected %.9g: the nearest, or the even one of two", kit_get (x, i),
                               to ? "f16" : "bf16", kit_get (y, i), kit_get (want, i));
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        kit_clear (k);
    }
    return DPS_OK;
}

/* GELU's small values on the left keep their digits: a norm behind the gate makes them as large as any others (Gemma). */
static DpsStatus gelu_tail (Kit *k, DpsError *err)
{
    KitArray *x = kit_array (k, F32, 1, 80), *one_ = kit_filled (k, F32, 1, 80, 1), *dy = kit_filled (k, F32, 1, 80, 1),
             *y = kit_array (k, F32, 1, 80), *want[KIT_MAX_OUT];
    for (int64_t i = 0; x && i < 80; i++)
        kit_put (x, i, -5 + (double)i / 16);
    KitCall c = {.name = "geglu", .in = {x, one_}, .out = {y}};
    DpsStatus st = kit_call (k, &c, err);
    if (st != DPS_OK)
        return st;
    DPS_TRY (kit_oracle (k, &c, want, err));
    for (int64_t i = 0; i < 80; i++) {
        double g = kit_get (y, i), w = kit_get (want[0], i);
        if (!(fabs (g - w) <= 8e-6 * fabs (w)))
            return dps_fail (err, DPS_ERR_INVALID,
                             "geglu (%g) is %.9g, expected %.9g to 8e-6 of it: 1 + tanh loses digits there. Hint: gelu_tanh in ops.h",
                             kit_get (x, i), g, w);
    }
    k->n_compared++;
    return kit_compare (
        k, &(KitCall){.name = "geglu_bwd", .in = {x, one_, dy}, .out = {kit_array (k, F32, 1, 80), kit_array (k, F32, 1, 80)}}, err);
}

static DpsStatus columns (Kit *k, DpsError *err)
{
    for (int m = 0; m < 8; m++)
        KIT_EACH_SHAPE (N, D)
        {
            KitArray *x = kit_normals (k, kit_mixed (m, 0), N, D, 1), *v = kit_normals (k, kit_mixed (m, 1), D, -1, 1);
            DPS_TRY (kit_compare (k, &(KitCall){.name = "mul_cols", .in = {x, v}, .out = {kit_array (k, kit_mixed (m, 2), N, D)}}, err));
            DPS_TRY (kit_compare (k, &(KitCall){.name = "add_cols", .in = {x, v}, .out = {kit_array (k, kit_mixed (m, 2), N, D)}}, err));
            KitArray *s = kit_normals (k, F32, N, -1, 1);
            DPS_TRY (kit_compare (k, &(KitCall){.name = "scale_rows", .in = {x, s}, .out = {kit_array (k, kit_mixed (m, 2), N, D)}}, err));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus column_sums (Kit *k, DpsError *err)
{
    for (int m = 0; m < 4; m++)
        KIT_EACH_SHAPE (N, D)
        {
            KitArray *x = kit_normals (k, kit_mixed (m, 0), N, D, 1), *dy = kit_normals (k, kit_mixed (m, 1), N, D, 1);
            DPS_TRY (kit_compare (
                k, &(KitCall){.name = "mul_cols_dv", .in = {x, dy, kit_roots (k, N)}, .out = {kit_normals (k, F32, D, -1, 1)}, .length = N},
                err));
            DPS_TRY (kit_compare (
                k, &(KitCall){.name = "bias_db", .in = {dy, kit_roots (k, N)}, .out = {kit_normals (k, F32, D, -1, 1)}, .length = N}, err));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus dropout (Kit *k, DpsError *err)
{
    for (int m = 0; m < 4; m++)
        KIT_EACH_SHAPE (N, D)
        {
            KitArray *keys = kit_array (k, DPS_DTYPE_I64, N, -1);
            for (int64_t i = 0; keys && i < N; i++) {
                const int64_t key = (i * 3 + 1) << 20 | i;
                memcpy (kit_data (keys) + 8 * i, &key, sizeof key);
            }
            DPS_TRY (kit_compare (k,
                                  &(KitCall){.name = "dropout",
                                             .in = {kit_normals (k, kit_mixed (m, 0), N, D, 1), keys},
                                             .out = {kit_array (k, kit_mixed (m, 1), N, D)},
                                             .attrs = {{.f = m & 2 ? 0.1 : 0.75}, {.i = m & 1 ? 0x6E3779B97F4A7C15 : 77}, {.i = 3}}},
                                  err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* A NaN of element 1 is in element 1 of the output, or wherever a row is reduced: nothing hides it. */
static DpsStatus nan_stays (Kit *k, DpsError *err)
{
    static const struct {
        const char *name;
        int n_in, n_out, vector; /* width of a second operand that is one; 0: a matrix */
        DpsScalar attr;
    } ops[] = {{"copy", 1, 1, 0, {0}},      {"add", 2, 1, 0, {0}},       {"mul", 2, 1, 0, {0}},          {"div", 2, 1, 0, {0}},
               {"exp", 1, 1, 0, {0}},       {"sqrt", 1, 1, 0, {0}},      {"softcap", 1, 1, 0, {.f = 2}}, {"geglu", 2, 1, 0, {0}},
               {"swiglu", 2, 1, 0, {0}},    {"geglu_bwd", 3, 2, 0, {0}}, {"swiglu_bwd", 3, 2, 0, {0}},   {"rms_norm", 2, 1, 18, {0}},
               {"mul_cols", 2, 1, 18, {0}}, {"add_cols", 2, 1, 18, {0}}, {"scale_rows", 2, 1, 1, {0}}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int bad = 0; bad < ops[i].n_in; bad++)
            for (int m = 0; m < 4; m++) {
                KitCall c = {.name = ops[i].name, .attrs = {ops[i].attr}};
                for (int j = 0; j < ops[i].n_in; j++) {
                    int is_vector = j == 1 && ops[i].vector;
                    c.in[j] = is_vector ? kit_normals (k, ops[i].vector == 1 ? F32 : kit_mixed (m, 0), ops[i].vector, -1, 1)
                                        : kit_normals (k, kit_mixed (m, 0), 1, 18, 1);
                    if (j == bad)
                        kit_put (c.in[j], c.in[j] && c.in[j]->n > 1, (double)NAN);
                }
                for (int o = 0; o < ops[i].n_out; o++)
                    c.out[o] = kit_array (k, kit_mixed (m, 1), 1, 18);
                DpsStatus st = kit_call (k, &c, err);
                int is_free = ops[i].n_out == 2 && bad == 1; /* dup does not depend on up */
                if (st == DPS_OK && (!isnan (kit_get (c.out[0], 1)) || (c.out[1] && !is_free && !isnan (kit_get (c.out[1], 1)))))
                    st = dps_fail (err, DPS_ERR_INVALID, "%s: a NaN in input %d is gone from the output", c.name, bad);
                k->n_compared += st == DPS_OK;
                DPS_TRY (kit_refusable (k, st));
                kit_clear (k);
            }
    return DPS_OK;
}

KIT_CASE (fill_copy)
KIT_CASE (arithmetic)
KIT_CASE (functions)
KIT_CASE (gate_forward)
KIT_CASE (gate_backward)
KIT_CASE (gelu_tail)
KIT_CASE (saturated)
KIT_CASE (rounding)
KIT_CASE (columns)
KIT_CASE (column_sums)
KIT_CASE (dropout)
KIT_CASE (nan_stays)

static const CheckCase cases[] = {
    KIT_LINE (fill_copy, 3, CHECK_REQUIRED),    KIT_LINE (arithmetic, 3, CHECK_REQUIRED),    KIT_LINE (functions, 3, 0),
    KIT_LINE (gate_forward, 3, CHECK_REQUIRED), KIT_LINE (gate_backward, 3, CHECK_REQUIRED), KIT_LINE (gelu_tail, 3, 0),
    KIT_LINE (saturated, 3, CHECK_REQUIRED),    KIT_LINE (rounding, 3, CHECK_REQUIRED),      KIT_LINE (columns, 3, CHECK_REQUIRED),
    KIT_LINE (column_sums, 3, CHECK_REQUIRED),  KIT_LINE (dropout, 3, CHECK_REQUIRED),       KIT_LINE (nan_stays, 3, 0),
};
const CheckSuite check_suite_backend_elementwise = {"backend.elementwise", DPS_BACKEND_ID, "ops whose numbers are their own", cases,
                                                    sizeof cases / sizeof *cases};
