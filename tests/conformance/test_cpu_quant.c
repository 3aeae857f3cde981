/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantised weights in linear and linear_dx: cpu and ref give the bits they give with the decoded weight as rows, in every form there is, where
 * blocks cross rows too, for any number of rows of x; ref the derivatives of its forward; what is malformed is refused.
 */
#include "conformance/device_kit.h"
#include "quant_kit.h"

static DpsQuantNames names;

static uint32_t intern (DpsStr s)
{
    char name[64];
    snprintf (name, sizeof name, "%.*s", (int)s.len, s.ptr);
    return dps_intern (name);
}

/* The quantised matrix between guard bytes, and what it decodes to as rows of `dtype`. */
static Array *codes_of (const Quantised *q)
{
    DpsError e = DPS_ERROR_INIT;
    uint64_t bytes, parts[DPS_QPARTS];
    CU_ASSERT_EQUAL_FATAL (dps_quant_bytes (&q->form, q->shape[0], q->shape[1], &bytes, parts, &e), DPS_OK);
    Array *a = array (DPS_DTYPE_U8, (int64_t)bytes, -1);
    memcpy (a->view.host, q->view.host, bytes);
    void *host = a->view.host;
    a->view = q->view;
    a->view.host = host;
    a->shape[0] = q->shape[0];
    a->shape[1] = q->shape[1];
    a->view.shape = a->shape;
    return a;
}

static Array *decoded (const Quantised *q, uint32_t dtype)
{
    Array *a = array (dtype, q->shape[0], q->shape[1]);
    for (int64_t i = 0; i < a->n; i++)
        put (a, i, (double)q->values[i]);
    return a;
}

static const struct {
    int64_t M, K, O;
} shapes[] = {{1, 1, 1}, {3, 13, 7}, {17, 67, 63}, {5, 100, 65}, {33, 32, 130}, {64, 256, 16}, {70, 256, 259}, {2, 768, 600}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static int fits (DpsQuantForm form, int64_t K)
{
    uint64_t bytes, parts[DPS_QPARTS];
    return dps_quant_bytes (&form, 1, K, &bytes, parts, NULL) == DPS_OK;
}

static void check_same (const char *what, const char *form, const Array *got, const Array *want)
{
    int same = !memcmp (got->view.host, want->view.host, got->bytes);
    if (!same)
        printf ("\n    %s with %s (%lld x %lld) is not what the decoded weight gives\n", what, form, (long long)got->shape[0],
                (long long)got->shape[1]);
    CU_ASSERT (same);
}

/* name (x, W): with W quantised and as rows. */
static void check_one (const char *name, const Quantised *q, int64_t M, uint32_t xt, int extras)
{
    int back = !strcmp (name, "linear_dx");
    int64_t in = q->shape[!back], out = q->shape[back];
    Array *x = normals (xt, M, in, 1), *w = codes_of (q), *rows = decoded (q, back && extras ? F32 : xt);
    Array *c = extras ? normals (F32, M, out, 1) : NULL, *bias = extras && !back ? normals (F32, out, -1, 1) : NULL;
    DpsScalar alpha = {.f = extras ? -0.75 : 0};
    Call got = {name, {x, w, back ? c : bias, back ? NULL : c}, {array (extras ? F32 : xt, M, out)}, {alpha}}, want = got;
    want.in[1] = rows;
    want.out[0] = array (extras ? F32 : xt, M, out);
    call (&got);
    call (&want);
    check_same (name, dps_quant_name (q->form.type), got.out[0], want.out[0]);
    Call ref_got = got, ref_want = want;
    ref_got.out[0] = array (got.out[0]->view.dtype, M, out);
    ref_want.out[0] = array (got.out[0]->view.dtype, M, out);
    CHECK_OK (call_on ("ref", &ref_got, 0, &err));
    CHECK_OK (call_on ("ref", &ref_want, 0, &err));
    check_same (name, dps_quant_name (q->form.type), ref_got.out[0], ref_want.out[0]);
    check_close (name, got.out[0], ref_got.out[0], got.out[0]->view.dtype == BF16 ? (Budget){0x1p-8, 4e-6, 0} : (Budget){1e-5, 4e-6, 0});
}

static void test_products (void)
{
    CU_ASSERT_EQUAL_FATAL (dps_quant_names (intern, &names), 0);
    for (int f = 0; f < KIT_FORMS; f++)
        for (int i = 0; i < N_SHAPES; i++)
            for (int m = 0; fits (kit_forms[f], shapes[i].K) && m < 4; m++) {
                Quantised *q = quantised (&names, kit_forms[f], shapes[i].O, shapes[i].K, (uint64_t)(1 + f + 31 * i));
                check_one ("linear", q, shapes[i].M, m & 1 ? BF16 : F32, m & 2);
                check_one ("linear_dx", q, shapes[i].M, m & 1 ? BF16 : F32, m & 2);
                arrays_free ();
                quantised_free (q);
            }
}

/* DoRA's norm of W + s·B·A is that of the decoded rows, to the bit. */
static void test_dora_norms (void)
{
    CU_ASSERT_EQUAL_FATAL (dps_quant_names (intern, &names), 0);
    for (int f = 0; f < KIT_FORMS; f++)
        for (int i = 0; i < N_SHAPES; i++) {
            const int64_t O = shapes[i].O, K = shapes[i].K;
            if (!fits (kit_forms[f], K))
                continue;
            Quantised *q = quantised (&names, kit_forms[f], O, K, (uint64_t)(3 + f + 17 * i));
            Array *a = normals (F32, 4, K, 1), *b = normals (F32, O, 4, 1), *m = normals (F32, O, -1, 1);
            Call got = {"dora_norm", {codes_of (q), a, b, m}, {array (F32, O, -1), array (F32, O, -1)}, {{.f = 0.5}}}, want = got;
            want.in[0] = decoded (q, F32);
            want.out[0] = array (F32, O, -1);
            want.out[1] = array (F32, O, -1);
            if (strcmp (KIT_DEVICE, "cpu") != 0 && call_on (KIT_DEVICE, &got, DPS_RUN_DRY, &err) != DPS_OK) {
                arrays_free (); /* left to ref */
                quantised_free (q);
                continue;
            }
            call (&got);
            call (&want);
            check_same ("dora_norm", dps_quant_name (q->form.type), got.out[0], want.out[0]);
            check_same ("dora_norm", dps_quant_name (q->form.type), got.out[1], want.out[1]);
            arrays_free ();
            quantised_free (q);
        }
}

/* Any rows of a call are the bits of a call of their own. */
static void test_rows_are_independent (void)
{
    CU_ASSERT_EQUAL_FATAL (dps_quant_names (intern, &names), 0);
    for (int m = 0; m < 4; m++) {
        const char *name = m & 1 ? "linear_dx" : "linear";
        uint32_t xt = m & 2 ? BF16 : F32;
        Quantised *q = quantised (&names, (DpsQuantForm){DPS_QUANT_NF4, 64, 1}, 130, 77, 9);
        int64_t in = q->shape[!(m & 1)], out = q->shape[m & 1];
        Array *w = codes_of (q), *x = normals (xt, 90, in, 1), *y = array (xt, 90, out);
        call (&(Call){name, {x, w}, {y}, {{0}}});
        for (int64_t n = 1; n <= 66; n++) {
            int64_t first = n * 37 % (90 - n);
            Array *part = array (xt, n, in), *z = array (xt, n, out);
            memcpy (part->view.host, (char *)x->view.host + (size_t)(first * in) * size_of (xt), part->bytes);
            call (&(Call){name, {part, w}, {z}, {{0}}});
            CU_ASSERT (!memcmp (z->view.host, (char *)y->view.host + (size_t)(first * out) * size_of (xt), z->bytes));
        }
        arrays_free ();
        quantised_free (q);
    }
}

/* d/dx of Σ dy·y by central differences on ref, in f64. */
static void test_finite_differences (void)
{
    const double h = 1e-4;
    CU_ASSERT_EQUAL_FATAL (dps_quant_names (intern, &names), 0);
    for (int f = 0; f < KIT_FORMS; f++) {
        int64_t M = 2, K = fits (kit_forms[f], 33) ? 33 : fits (kit_forms[f], 32) ? 32 : 256, O = 5;
        Quantised *q = quantised (&names, kit_forms[f], O, K, (uint64_t)(70 + f));
        Array *x = normals (DPS_DTYPE_F64, M, K, 1), *dy = normals (DPS_DTYPE_F64, M, O, 1), *w = codes_of (q);
        Array *dx = array (DPS_DTYPE_F64, M, K), *y = array (DPS_DTYPE_F64, M, O);
        CHECK_OK (call_on ("ref", &(Call){"linear_dx", {dy, w}, {dx}, {{0}}}, 0, &err));
        for (int64_t i = 0; i < x->n; i += 7) {
            double kept = get (x, i), sum = 0;
            for (int side = -1; side <= 1; side += 2) {
                put (x, i, kept + side * h);
                CHECK_OK (call_on ("ref", &(Call){"linear", {x, w}, {y}, {{0}}}, 0, &err));
                for (int64_t k = 0; k < y->n; k++)
                    sum += side * get (y, k) * get (dy, k);
            }
            put (x, i, kept);
            CHECK_NEAR (sum / (2 * h), get (dx, i), 1e-7 * (1 + fabs (get (dx, i))));
        }
        arrays_free ();
        quantised_free (q);
    }
}

static void test_what_is_refused (void)
{
    static const char *const devices[] = {KIT_DEVICE, "ref"};
    CU_ASSERT_EQUAL_FATAL (dps_quant_names (intern, &names), 0);
    for (int d = 0; d < 2; d++) {
        Quantised *q = quantised (&names, (DpsQuantForm){DPS_QUANT_NF4, 64, 0}, 4, 40, 3);
        Array *x = normals (F32, 2, 40, 1), *y = array (F32, 2, 4), *w = codes_of (q);
        Call c = {"linear", {x, w}, {y}, {{0}}};
        q->parts[DPS_QPART_ABSMAX].bytes -= 4;
        CHECK_FAILS (call_on (devices[d], &c, 0, &err), DPS_ERR_INVALID, "part absmax has 8 bytes, expected 12");
        q->parts[DPS_QPART_ABSMAX].bytes += 4;
        w->view.n_parts = 0;
        CHECK_FAILS (call_on (devices[d], &c, 0, &err), DPS_ERR_INVALID, "part absmax has 0 bytes");
        Call add = {"add", {codes_of (q), codes_of (q)}, {array (F32, 4, 40)}, {{0}}};
        CU_ASSERT_EQUAL (call_on (devices[d], &add, DPS_RUN_DRY, &err), DPS_ERR_DTYPE); /* an op that reads no weight */
        arrays_free ();
        quantised_free (q);
    }
    kit_close ();
}

CHECK_MAIN (KIT_DEVICE ".quant", T (test_products), T (test_dora_norms), T (test_rows_are_independent), T (test_finite_differences),
            T (test_what_is_refused))
