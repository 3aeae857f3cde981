/* SPDX-License-Identifier: Apache-2.0 */
/* The elementwise, row, norm, linear and gate ops of ref: values, and every adjoint against central differences in f64. */
#include "conformance/ref_kit.h"

static const int64_t awkward[][2] = {{0, 3}, {1, 1}, {1, 7}, {2, 2}, {5, 3}, {7, 13}};
enum { N_AWKWARD = sizeof awkward / sizeof *awkward };
static const int32_t two_roots[][3] = {{0, 0, 0}, {0, 0, 1}, {0, 1, 1}, {0, 1, 2}, {0, 2, 5}, {0, 3, 7}};

static void test_elementwise_values (void)
{
    for (int t = 0; t < N_AWKWARD; t++) {
        int64_t n = awkward[t][0], d = awkward[t][1];
        Array *a = normals (n, d, 1), *b = normals (n, d, 1), *y = zeros (n, d);
        call (&(Call){"add", {a, b}, {y}, {{0}}});
        for (int64_t i = 0; i < y->n; i++)
            CHECK_NEAR (num (y)[i], num (a)[i] + num (b)[i], 0);
        call (&(Call){"add", {a, b}, {y}, {{.f = 2}, {.f = -0.5}}});
        for (int64_t i = 0; i < y->n; i++)
            CHECK_NEAR (num (y)[i], 2 * num (a)[i] - 0.5 * num (b)[i], 0);
        call (&(Call){"mul", {a, b}, {y}, {{0}}});
        for (int64_t i = 0; i < y->n; i++)
            CHECK_NEAR (num (y)[i], num (a)[i] * num (b)[i], 0);
        call (&(Call){"div", {a, b}, {y}, {{0}}});
        for (int64_t i = 0; i < y->n; i++)
            CHECK_NEAR (num (y)[i], num (a)[i] / num (b)[i], 0);
        call (&(Call){"softcap", {a}, {y}, {{.f = 1.5}}});
        for (int64_t i = 0; i < y->n; i++)
            CHECK_NEAR (num (y)[i], 1.5 * tanh (num (a)[i] / 1.5), 0);
        call (&(Call){"fill", {0}, {y}, {{.f = 3.25}}});
        for (int64_t i = 0; i < y->n; i++)
            CHECK_NEAR (num (y)[i], 3.25, 0);
    }
    arrays_free ();
}

static void test_mul_cols_gradients (void)
{
    for (int t = 0; t < N_AWKWARD; t++) {
        int64_t n = awkward[t][0], d = awkward[t][1];
        Array *x = normals (n, d, 1), *v = normals (d, -1, 1), *y = zeros (n, d), *dy = normals (n, d, 1);
        Array *dx = zeros (n, d), *dv = zeros (d, -1), *roots = i32s (3, two_roots[t]);
        Call f = {"mul_cols", {x, v}, {y}, {{0}}};
        call (&(Call){"mul_cols", {dy, v}, {dx}, {{0}}});
        call (&(Call){"mul_cols_dv", {x, dy, roots}, {dv}, {{0}}});
        check_gradient (&f, 0, dy, x, dx);
        check_gradient (&f, 0, dy, v, dv);
        call (&(Call){"add_cols", {x, v}, {y}, {{0}}});
        for (int64_t i = 0; i < y->n; i++)
            CHECK_NEAR (num (y)[i], num (x)[i] + num (v)[i % d], 0);
        Array *s = normals (n, -1, 1);
        call (&(Call){"scale_rows", {x, s}, {y}, {{0}}});
        for (int64_t i = 0; i < y->n; i++)
            CHECK_NEAR (num (y)[i], num (x)[i] * num (s)[i / d], 0);
    }
    arrays_free ();
}

static void test_embed_gradient (void)
{
    Array *table = normals (5, 3, 1), *ids = i32s (7, (int32_t[]){4, 0, 4, 4, 1, 0, 4}), *y = zeros (7, 3), *dy = normals (7, 3, 1);
    Array *dtable = zeros (5, 3), *roots = i32s (3, (int32_t[]){0, 3, 7});
    Call f = {"embed", {table, ids}, {y}, {{.f = 1.75}}};
    call (&(Call){"embed_dw", {dy, ids, roots}, {dtable}, {{.f = 1.75}}});
    check_gradient (&f, 0, dy, table, dtable);
    DpsError err = DPS_ERROR_INIT;
    ((int32_t *)ids->data)[2] = 5;
    CHECK_FAILS (call_flags (&f, 0, &err), DPS_ERR_INVALID, "ids[2] is 5, expected 0 to 4");
    arrays_free ();
}

static void test_gather_and_scatter (void)
{
    Array *x = normals (6, 3, 1), *rows = i32s (4, (int32_t[]){5, 0, 5, 2}), *y = zeros (4, 3), *dy = normals (4, 3, 1),
          *dx = normals (6, 3, 1);
    Call f = {"gather_rows", {x, rows}, {y}, {{0}}};
    call (&(Call){"scatter_rows", {dy, rows}, {dx}, {{0}}});
    check_gradient (&f, 0, dy, x, dx);
    Array *cache = normals (6, 3, 1), *before = cast (cache, DPS_DTYPE_F64), *at = i32s (4, (int32_t[]){1, 5, 0, 3});
    call (&(Call){"put_rows", {y, at}, {cache}, {{0}}});
    for (int64_t r = 0; r < 6; r++)
        for (int64_t j = 0; j < 3; j++) {
            int64_t from = r == 1 ? 0 : r == 5 ? 1 : r == 0 ? 2 : r == 3 ? 3 : -1;
            CHECK_NEAR (num (cache)[r * 3 + j], from < 0 ? num (before)[r * 3 + j] : num (y)[from * 3 + j], 0);
        }
    arrays_free ();
}

static void check_norm (int64_t n, int64_t groups, int64_t h, const int32_t *root_offsets, int with_c)
{
    int64_t d = groups * h;
    Array *x = normals (n, d, 1), *w = normals (h, -1, 1), *y = zeros (n, d), *rstd = zeros (n * groups, -1), *dy = normals (n, d, 1);
    Array *c = with_c ? normals (n, d, 1) : NULL, *dx = zeros (n, d), *dw = zeros (h, -1), *roots = i32s (3, root_offsets);
    DpsScalar eps = {.f = 1e-3}, offset = {.f = 1}, width = {.i = groups == 1 ? 0 : h};
    Call f = {"rms_norm", {x, w}, {y, rstd}, {eps, offset, width}};
    call (&f);
    call (&(Call){"rms_norm_dx", {x, w, rstd, dy, c}, {dx}, {eps, offset, width}});
    call (&(Call){"rms_norm_dw", {x, rstd, dy, roots}, {dw}, {eps, offset, width}});
    for (int64_t i = 0; c && i < dx->n; i++)
        num (dx)[i] -= num (c)[i];
    check_gradient (&f, 0, dy, x, dx);
    check_gradient (&f, 0, dy, w, dw);
    arrays_free ();
}

static void test_rms_norm_gradients (void)
{
    for (int t = 0; t < N_AWKWARD; t++) {
        check_norm (awkward[t][0], 1, awkward[t][1], two_roots[t], t % 2);
        check_norm (awkward[t][0], 3, awkward[t][1], two_roots[t], (t + 1) % 2);
    }
}

static void check_linear (int64_t n, int64_t k, int64_t o, const int32_t *root_offsets, double alpha, int with_c)
{
    Array *x = normals (n, k, 1), *w = normals (o, k, 1), *y = zeros (n, o), *dy = normals (n, o, 1);
    Array *bias = with_c ? normals (o, -1, 1) : NULL, *c = with_c ? normals (n, o, 1) : NULL, *cx = with_c ? normals (n, k, 1) : NULL;
    Array *dx = zeros (n, k), *dw = zeros (o, k), *db = zeros (o, -1), *roots = i32s (3, root_offsets);
    Call f = {"linear", {x, w, bias, c}, {y}, {{.f = alpha}}};
    call (&(Call){"linear_dx", {dy, w, cx}, {dx}, {{.f = alpha}}});
    call (&(Call){"linear_dw", {dy, x, roots}, {dw}, {{.f = alpha}}});
    call (&(Call){"bias_db", {dy, roots}, {db}, {{0}}});
    for (int64_t i = 0; cx && i < dx->n; i++)
        num (dx)[i] -= num (cx)[i];
    check_gradient (&f, 0, dy, x, dx);
    check_gradient (&f, 0, dy, w, dw);
    if (bias)
        check_gradient (&f, 0, dy, bias, db);
    if (c)
        check_gradient (&f, 0, dy, c, dy);
    arrays_free ();
}

static void test_linear_gradients (void)
{
    for (int t = 0; t < N_AWKWARD; t++) {
        check_linear (awkward[t][0], awkward[t][1], 4, two_roots[t], 0, t % 2);
        check_linear (awkward[t][0], 5, awkward[t][1], two_roots[t], -0.75, (t + 1) % 2);
    }
}

static void test_gate_gradients (void)
{
    static const char *const names[] = {"geglu", "swiglu"}, *const adjoints[] = {"geglu_bwd", "swiglu_bwd"};
    for (int op = 0; op < 2; op++)
        for (int t = 0; t < N_AWKWARD; t++) {
            int64_t n = awkward[t][0], d = awkward[t][1];
            Array *gate = normals (n, d, 2), *up = normals (n, d, 1), *y = zeros (n, d), *dy = normals (n, d, 1);
            Array *dgate = zeros (n, d), *dup = zeros (n, d);
            Call f = {names[op], {gate, up}, {y}, {{0}}};
            call (&(Call){adjoints[op], {gate, up, dy}, {dgate, dup}, {{0}}});
            check_gradient (&f, 0, dy, gate, dgate);
            check_gradient (&f, 0, dy, up, dup);
        }
    arrays_free ();
}

static void test_gate_values (void)
{
    /* gelu_tanh (1) and silu (1) to 16 digits, from their definitions. */
    Array *one = zeros (1, 1), *y = zeros (1, 1);
    num (one)[0] = 1;
    call (&(Call){"geglu", {one, one}, {y}, {{0}}});
    CHECK_NEAR (num (y)[0], 0.8411919906082768, 1e-15);
    call (&(Call){"swiglu", {one, one}, {y}, {{0}}});
    CHECK_NEAR (num (y)[0], 0.7310585786300049, 1e-15);
    arrays_free ();
}

static void test_dropout (void)
{
    int64_t n = 40, d = 50;
    Array *x = zeros (n, d), *y = zeros (n, d), *keys = array_typed (DPS_DTYPE_I64, 1, &n), *part = zeros (1, d);
    for (int64_t i = 0; i < n; i++)
        ((int64_t *)keys->data)[i] = ((int64_t)3 << 32) + i;
    for (int64_t i = 0; i < x->n; i++)
        num (x)[i] = 1;
    Call f = {"dropout", {x, keys}, {y}, {{.f = 0.25}, {.i = 11}, {.i = 2}}};
    call (&f);
    int64_t kept = 0;
    for (int64_t i = 0; i < y->n; i++) {
        CU_ASSERT (num (y)[i] == 0 || num (y)[i] == 1 / 0.75);
        kept += num (y)[i] != 0;
    }
    CHECK_NEAR ((double)kept / (double)y->n, 0.75, 0.04);
    /* A row alone is dropped as it was among the others. */
    Array *row = zeros (1, d), *key = array_typed (DPS_DTYPE_I64, 1, (int64_t[]){1});
    memcpy (row->data, x->data, (size_t)d * 8);
    ((int64_t *)key->data)[0] = ((int64_t)3 << 32) + 17;
    call (&(Call){"dropout", {row, key}, {part}, {{.f = 0.25}, {.i = 11}, {.i = 2}}});
    CU_ASSERT_EQUAL (memcmp (part->data, num (y) + 17 * d, (size_t)d * 8), 0);
    /* p = 0 keeps all. */
    call (&(Call){"dropout", {x, keys}, {y}, {{0}}});
    check_same_bits (x, y);
    arrays_free ();
}

/* dW over two calls of one root each must be the bits of one call of both: f32 partials, added in order. */
static void test_roots_split_changes_no_bit (void)
{
    int64_t n = 7, k = 5, o = 3;
    Array *x = cast (normals (n, k, 1), DPS_DTYPE_F32), *dy = cast (normals (n, o, 1), DPS_DTYPE_F32);
    Array *start = cast (normals (o, k, 1), DPS_DTYPE_F32), *whole = cast (start, DPS_DTYPE_F32), *split = cast (start, DPS_DTYPE_F32);
    Array *roots = i32s (3, (int32_t[]){0, 3, 7}), *rest = i32s (2, (int32_t[]){0, 4}), *head = i32s (2, (int32_t[]){0, 3});
    call (&(Call){"linear_dw", {dy, x, roots}, {whole}, {{0}}});
    Array *x0 = array_typed (DPS_DTYPE_F32, 2, (int64_t[]){3, k}), *x1 = array_typed (DPS_DTYPE_F32, 2, (int64_t[]){4, k});
    Array *y0 = array_typed (DPS_DTYPE_F32, 2, (int64_t[]){3, o}), *y1 = array_typed (DPS_DTYPE_F32, 2, (int64_t[]){4, o});
    memcpy (x0->data, x->data, (size_t)x0->n * 4);
    memcpy (x1->data, (float *)x->data + x0->n, (size_t)x1->n * 4);
    memcpy (y0->data, dy->data, (size_t)y0->n * 4);
    memcpy (y1->data, (float *)dy->data + y0->n, (size_t)y1->n * 4);
    call (&(Call){"linear_dw", {y0, x0, head}, {split}, {{0}}});
    call (&(Call){"linear_dw", {y1, x1, rest}, {split}, {{0}}});
    check_same_bits (whole, split);
    arrays_free ();
}

/* A root's partial is an f32 of its own: 2^-24 + 2^-49 becomes 2^-24, which added to 1 is a tie and leaves 1. */
static void test_partials_are_rounded (void)
{
    Array *dy = array_typed (DPS_DTYPE_F32, 2, (int64_t[]){2, 1}), *db = array_typed (DPS_DTYPE_F32, 1, (int64_t[]){1});
    ((float *)dy->data)[0] = 0x1p-24f;
    ((float *)dy->data)[1] = 0x1p-49f;
    ((float *)db->data)[0] = 1;
    call (&(Call){"bias_db", {dy, i32s (2, (int32_t[]){0, 2})}, {db}, {{0}}});
    CU_ASSERT_EQUAL (((float *)db->data)[0], 1);
    arrays_free ();
}

static void test_strided_views (void)
{
    /* x and y as columns 1..4 of wider matrices, read backwards by rows through W's stride. */
    Array *wide = normals (4, 9, 1), *x = zeros (4, 3), *w = normals (2, 3, 1), *y = zeros (4, 2), *out = zeros (4, 5), *y2 = zeros (4, 2);
    for (int64_t i = 0; i < 12; i++)
        num (x)[i] = num (wide)[i / 3 * 9 + 1 + i % 3 * 2];
    call (&(Call){"linear", {x, w}, {y}, {{0}}});
    Array *xs = zeros (4, 3), *ys = zeros (4, 2);
    xs->view.host = num (wide) + 1;
    xs->view.stride = (int64_t[]){9, 2};
    ys->view.host = num (out) + 1;
    ys->view.stride = (int64_t[]){5, 3};
    call (&(Call){"linear", {xs, w}, {ys}, {{0}}});
    for (int64_t i = 0; i < 8; i++)
        num (y2)[i] = num (out)[i / 2 * 5 + 1 + i % 2 * 3];
    check_same_bits (y, y2);
    arrays_free ();
}

CHECK_MAIN ("ref.basic", T (test_elementwise_values), T (test_mul_cols_gradients), T (test_embed_gradient), T (test_gather_and_scatter),
            T (test_rms_norm_gradients), T (test_linear_gradients), T (test_gate_gradients), T (test_gate_values), T (test_dropout),
            T (test_roots_split_changes_no_bit), T (test_partials_are_rounded), T (test_strided_views))
