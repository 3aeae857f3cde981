/* SPDX-License-Identifier: Apache-2.0 */
/* token_logprobs, optimiser steps, DoRA's norm, rounding, and how ref refuses. */
#include <float.h>

#include "conformance/ref_kit.h"

typedef struct HeadCase {
    int64_t s, d, v;
    double cap, temperature;
} HeadCase;

static const HeadCase heads[] = {{0, 3, 4, 0, 0},    {1, 1, 1, 0, 0},   {3, 5, 7, 0, 0},
                                 {5, 3, 11, 1.5, 0}, {4, 3, 5, 0, 0.5}, {4, 2, 3, 2, 1.7}};
enum { N_HEADS = sizeof heads / sizeof *heads };

static void test_token_logprobs_values (void)
{
    for (int t = 0; t < N_HEADS; t++) {
        const HeadCase *k = &heads[t];
        Array *h = normals (k->s, k->d, 1), *w = normals (k->v, k->d, 1), *logp = zeros (k->s, -1), *entropy = zeros (k->s, -1);
        Array *hit = zeros (k->s, -1), *targets = i32s (k->s, (int32_t[]){0, 2, 1, 0, 2});
        call (&(Call){"token_logprobs", {h, w, targets}, {logp, entropy, hit}, {{.f = k->cap}, {.f = k->temperature}}});
        for (int64_t s = 0; s < k->s; s++) {
            double z[16], sum = 0, e = 0;
            int64_t best = 0, target = ((int32_t *)targets->data)[s];
            for (int64_t v = 0; v < k->v; v++) {
                z[v] = 0;
                for (int64_t j = 0; j < k->d; j++)
                    z[v] += num (h)[s * k->d + j] * num (w)[v * k->d + j];
                z[v] = k->cap != 0 ? k->cap * tanh (z[v] / k->cap) : z[v];
                z[v] /= k->temperature != 0 ? k->temperature : 1;
                sum += exp (z[v]);
                best = z[v] > z[best] ? v : best;
            }
            for (int64_t v = 0; v < k->v; v++)
                e -= exp (z[v]) / sum * log (exp (z[v]) / sum);
            CHECK_NEAR (num (logp)[s], z[target] - log (sum), 1e-13);
            CHECK_NEAR (num (entropy)[s], e, 1e-13);
            CHECK_NEAR (num (hit)[s], best == target, 0);
        }
    }
    arrays_free ();
}

static void test_token_logprobs_gradients (void)
{
    for (int t = 0; t < N_HEADS; t++) {
        const HeadCase *k = &heads[t];
        Array *h = normals (k->s, k->d, 1), *w = normals (k->v, k->d, 1), *logp = zeros (k->s, -1), *dir = zeros (k->s, k->d);
        Array *targets = i32s (k->s, (int32_t[]){0, 2, 1, 0, 2}), *dlogp = normals (k->s, -1, 1), *dh = zeros (k->s, k->d);
        Array *dw = zeros (k->v, k->d), *roots = i32s (3, (int32_t[]){0, (int32_t)k->s / 2, (int32_t)k->s});
        DpsScalar cap = {.f = k->cap}, temperature = {.f = k->temperature};
        Call f = {"token_logprobs", {h, w, targets}, {logp, NULL, NULL, dir}, {cap, temperature}};
        call (&f);
        call (&(Call){"scale_rows", {dir, dlogp}, {dh}, {{0}}});
        call (&(Call){"token_logprobs_dw", {h, w, targets, dlogp, roots}, {dw}, {cap, temperature}});
        check_gradient (&f, 0, dlogp, h, dh);
        check_gradient (&f, 0, dlogp, w, dw);
    }
    arrays_free ();
}

/* f32 and bf16 operands, as decoding and training have them: the same bits from the logits as from the states. */
static void test_row_logprobs_are_token_logprobs (void)
{
    static const uint32_t dtypes[] = {DPS_DTYPE_F32, DPS_DTYPE_BF16};
    for (int t = 0; t < 2 * N_HEADS; t++) {
        const HeadCase *k = &heads[t / 2];
        DpsScalar cap = {.f = k->cap}, temperature = {.f = k->temperature};
        Array *h = cast (normals (k->s, k->d, 1), dtypes[t % 2]), *w = cast (normals (k->v, k->d, 1), dtypes[t % 2]);
        Array *z = cast (zeros (k->s, k->v), DPS_DTYPE_F32), *targets = i32s (k->s, (int32_t[]){0, 2, 1, 0, 2});
        Array *whole = cast (zeros (k->s, -1), DPS_DTYPE_F32), *rows = cast (zeros (k->s, -1), DPS_DTYPE_F32);
        call (&(Call){"token_logprobs", {h, w, targets}, {whole}, {cap, temperature}});
        call (&(Call){"linear", {h, w}, {z}, {{0}}});
        call (&(Call){"row_logprobs", {z, targets}, {rows}, {cap, temperature}});
        CU_ASSERT (!memcmp (rows->data, whole->data, (size_t)k->s * sizeof (float)));
    }
    DpsError err = DPS_ERROR_INIT;
    Array *z = zeros (1, 3), *logp = zeros (1, -1);
    CHECK_FAILS (call_flags (&(Call){"row_logprobs", {z, i32s (1, (int32_t[]){3})}, {logp}, {{0}}}, 0, &err), DPS_ERR_INVALID,
                 "targets[0] is 3");
    arrays_free ();
}

static void test_hit_on_ties_is_the_first (void)
{
    Array *h = zeros (2, 2), *w = zeros (3, 2), *logp = zeros (2, -1), *hit = zeros (2, -1), *targets = i32s (2, (int32_t[]){0, 1});
    call (&(Call){"token_logprobs", {h, w, targets}, {logp, NULL, hit}, {{0}}});
    CHECK_NEAR (num (logp)[0], -log (3), 1e-15);
    CHECK_NEAR (num (hit)[0], 1, 0);
    CHECK_NEAR (num (hit)[1], 0, 0);
    arrays_free ();
}

static void test_dora_norm (void)
{
    int64_t o = 5, k = 3, r = 2;
    Array *w = normals (o, k, 1), *a = normals (r, k, 1), *b = normals (o, r, 1), *m = normals (o, -1, 1), *v = zeros (o, -1),
          *norm = zeros (o, -1);
    memset (num (w) + 2 * k, 0, (size_t)k * sizeof *num (w));
    memset (num (b) + 2 * r, 0, (size_t)r * sizeof *num (b));
    call (&(Call){"dora_norm", {w, a, b, m}, {v, norm}, {{.f = 1.25}}});
    for (int64_t i = 0; i < o; i++) {
        double sum = 0;
        for (int64_t j = 0; j < k; j++) {
            double x = num (w)[i * k + j];
            for (int64_t t = 0; t < r; t++)
                x += 1.25 * num (b)[i * r + t] * num (a)[t * k + j];
            sum += x * x;
        }
        if (i == 2) {
            CU_ASSERT (sum == 0 && num (norm)[i] == FLT_MIN && num (v)[i] == num (m)[i] / FLT_MIN);
        } else {
            CHECK_NEAR (num (norm)[i], sqrt (sum), 1e-13);
            CHECK_NEAR (num (v)[i], num (m)[i] / sqrt (sum), 1e-13);
        }
    }
    arrays_free ();
}

static void test_adamw_two_steps (void)
{
    Array *p = zeros (1, -1), *g = zeros (1, -1), *m = zeros (1, -1), *v = zeros (1, -1), *shadow = zeros (1, -1);
    num (p)[0] = 2;
    double want = 2, wm = 0, wv = 0;
    for (int t = 1; t <= 2; t++) {
        num (g)[0] = 0.5 * t;
        DpsScalar attrs[] = {{.f = 0.1}, {.f = 0.9}, {.f = 0.99}, {.f = 1e-8}, {.f = 0.01}, {.i = t}, {.f = 0.25}};
        Call f = {"adamw_step", {p, g, m, v, shadow}, {p, m, v, shadow}, {{0}}};
        memcpy (f.attrs, attrs, sizeof attrs);
        call (&f);
        double grad = 0.125 * t;
        want *= 1 - 0.1 * 0.01;
        wm = 0.9 * wm + 0.1 * grad;
        wv = 0.99 * wv + 0.01 * grad * grad;
        want -= 0.1 * (wm / (1 - pow (0.9, t))) / (sqrt (wv / (1 - pow (0.99, t))) + 1e-8);
        CHECK_NEAR (num (p)[0], want, 1e-14);
        CHECK_NEAR (num (shadow)[0], num (p)[0], 0);
    }
    arrays_free ();
}

static void test_sgd (void)
{
    Array *p = zeros (1, -1), *g = zeros (1, -1), *m = zeros (1, -1);
    num (p)[0] = 1;
    num (g)[0] = 0.5;
    call (&(Call){"sgd_step", {p, g}, {p}, {{.f = 0.1}}});
    CHECK_NEAR (num (p)[0], 0.95, 1e-15);
    num (m)[0] = 2;
    call (&(Call){"sgd_step", {p, g, m}, {p, m}, {{.f = 0.1}, {.f = 0.9}, {0}, {0}, {.f = 0.2}, {0}, {.f = 2}}});
    double gm = 0.9 * 2 + 2 * 0.5 + 0.2 * 0.95;
    CHECK_NEAR (num (m)[0], gm, 1e-15);
    CHECK_NEAR (num (p)[0], 0.95 - 0.1 * gm, 1e-15);
    arrays_free ();
}

static void test_sumsq_adds_chunks_in_order (void)
{
    int64_t n = 2 * 65536 + 3;
    Array *x = normals (n, -1, 1), *y = zeros (1, -1);
    double chunk[3] = {0};
    for (int64_t i = 0; i < n; i++)
        chunk[i / 65536] += num (x)[i] * num (x)[i];
    call (&(Call){"sumsq", {x}, {y}, {{0}}});
    CHECK_NEAR (num (y)[0], chunk[0] + chunk[1] + chunk[2], 0);
    arrays_free ();
}

/* Every value of the 16-bit types comes back from f64 as it was; halves round to even. */
static void test_sixteen_bit_types (void)
{
    static const uint32_t types[] = {DPS_DTYPE_BF16, DPS_DTYPE_F16};
    for (int t = 0; t < 2; t++) {
        Array *all = array_typed (types[t], 1, (int64_t[]){65536}), *wide = zeros (65536, -1);
        for (int i = 0; i < 65536; i++)
            ((uint16_t *)all->data)[i] = (uint16_t)i;
        call (&(Call){"copy", {all}, {wide}, {{0}}});
        Array *back = cast (wide, types[t]);
        Array *again = cast (back, DPS_DTYPE_F64);
        for (int i = 0; i < 65536; i++) {
            int same = ((uint16_t *)back->data)[i] == i || (isnan (num (wide)[i]) && isnan (num (again)[i]));
            CU_ASSERT (same);
        }
        arrays_free ();
    }
    static const struct {
        uint32_t dtype;
        double from, to;
    } rounds[] = {{DPS_DTYPE_BF16, 1 + 1.0 / 256, 1},      {DPS_DTYPE_BF16, 1 + 3.0 / 256, 1 + 4.0 / 256},
                  {DPS_DTYPE_F16, 1 + 1.0 / 2048, 1},      {DPS_DTYPE_F16, 1 + 3.0 / 2048, 1 + 4.0 / 2048},
                  {DPS_DTYPE_F16, 65519, 65504},           {DPS_DTYPE_F16, 65520, INFINITY},
                  {DPS_DTYPE_F16, 1.5 * 0x1p-24, 0x1p-23}, {DPS_DTYPE_F16, 0x1p-25, 0},
                  {DPS_DTYPE_F16, -2047.5, -2048},         {DPS_DTYPE_BF16, 0x1.ffp127, INFINITY}};
    for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++) {
        Array *x = zeros (1, -1);
        num (x)[0] = rounds[i].from;
        CU_ASSERT_EQUAL (num (cast (cast (x, rounds[i].dtype), DPS_DTYPE_F64))[0], rounds[i].to);
    }
    arrays_free ();
}

static void test_refusals_have_reasons (void)
{
    DpsError err = DPS_ERROR_INIT;
    Array *x = normals (3, 4, 1), *w = normals (5, 4, 1), *y = zeros (3, 5), *bad = zeros (3, 6), *ids = i32s (3, (int32_t[]){0, 1, 2});
    CHECK_FAILS (call_flags (&(Call){"linear", {x, w}, {bad}, {{0}}}, DPS_RUN_DRY, &err), DPS_ERR_SHAPE,
                 "ref linear: y is (3,6), expected (N,O) where O is 5");
    CHECK_FAILS (call_flags (&(Call){"linear", {x}, {y}, {{0}}}, DPS_RUN_DRY, &err), DPS_ERR_INVALID, "operand W is missing");
    CHECK_FAILS (call_flags (&(Call){"linear", {x, ids}, {y}, {{0}}}, DPS_RUN_DRY, &err), DPS_ERR_DTYPE,
                 "W has dtype number 5, expected weight");
    CHECK_FAILS (call_flags (&(Call){"add", {x, w}, {y}, {{0}}}, DPS_RUN_DRY, &err), DPS_ERR_SHAPE,
                 "b is (5,4), expected the shape of a, (3,4)");
    CHECK_FAILS (call_flags (&(Call){"nonsense", {x}, {y}, {{0}}}, DPS_RUN_DRY, &err), DPS_ERR_UNSUPPORTED, "is not one of");
    w->view.layout = DPS_LAYOUT_PACKED;
    CHECK_FAILS (call_flags (&(Call){"linear", {x, w}, {y}, {{0}}}, DPS_RUN_DRY, &err), DPS_ERR_UNSUPPORTED, "ref reads row-major only");
    w->view.layout = 0;
    w->view.host = NULL;
    Call f = {"linear", {x, w}, {y}, {{0}}};
    CHECK_OK (call_flags (&f, DPS_RUN_DRY, &err)); /* a dry run needs no memory */
    CHECK_FAILS (call_flags (&f, 0, &err), DPS_ERR_INVALID, "W has no host memory");
    Array *roots = i32s (2, (int32_t[]){0, 4});
    CHECK_FAILS (call_flags (&(Call){"bias_db", {x, roots}, {zeros (4, -1)}, {{0}}}, 0, &err), DPS_ERR_INVALID,
                 "roots[1] is 4, expected 0 to 3");
    arrays_free ();
}

static void test_dry_run_writes_nothing (void)
{
    DpsError err = DPS_ERROR_INIT;
    Array *x = normals (3, 4, 1), *y = normals (3, 4, 1), *before = cast (y, DPS_DTYPE_F64);
    CHECK_OK (call_flags (&(Call){"softcap", {x}, {y}, {{.f = 2}}}, DPS_RUN_DRY, &err));
    check_same_bits (y, before);
    arrays_free ();
}

static void test_device_memory (void)
{
    DpsError err = DPS_ERROR_INIT;
    const DpsBackend *b = ref_backend ();
    DpsDeviceInfo info = {.size = sizeof info};
    CHECK_OK (b->enumerate (0, &info, &err));
    CHECK_STR (info.name, "ref");
    CU_ASSERT_EQUAL (info.flags, DPS_DEVICE_HOST_MEMORY);
    CHECK_FAILS (b->enumerate (1, &info, &err), DPS_ERR_NOT_FOUND, "one device");
    CU_ASSERT_EQUAL (b->determinism (info.device), DPS_DETERMINISM_BATCH);
    struct DpsBuffer *buffer;
    void *host;
    CHECK_OK (b->alloc (info.device, 96, &buffer, &host, &err));
    CU_ASSERT_EQUAL ((uintptr_t)host % 64, 0);
    /* A view of the buffer without a host pointer: rows 1 and 2 of (3, 4). */
    Array *x = normals (2, 4, 1), *back = zeros (2, 4);
    DpsView on_device = {.size = sizeof on_device, .dtype = DPS_DTYPE_F64, .rank = 2, .shape = x->shape, .buffer = buffer, .offset = 32};
    CHECK_OK (b->copy (info.device, &x->view, &on_device, &err));
    CHECK_OK (b->copy (info.device, &on_device, &back->view, &err));
    check_same_bits (x, back);
    b->free (info.device, buffer);
    arrays_free ();
}

/* A failing allocation is an error value at every place, and leaks nothing. */
static void test_allocation_failures (void)
{
    int64_t live = dps_mem_live ();
    Array *q = normals (3, 4, 1), *o = zeros (3, 4), *s = segment_table (1, &(DpsSegment){0, 3, 0, 3, -1, 0, 0, 0});
    Call f = {"attention", {q, q, q, s}, {o}, {{.i = 2}, {.i = 2}, {.i = 2}, {.f = 1}}};
    DpsError err = DPS_ERROR_INIT;
    DpsStatus st = DPS_ERR_NOMEM;
    for (uint64_t k = 1; st != DPS_OK && k < 50; k++) {
        dps_mem_fail_at (k);
        st = call_flags (&f, 0, &err);
        CU_ASSERT (st == DPS_OK || st == DPS_ERR_NOMEM);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    dps_mem_fail_at (0);
    CU_ASSERT_EQUAL (st, DPS_OK);
    arrays_free ();
}

CHECK_MAIN ("ref.head", T (test_token_logprobs_values), T (test_token_logprobs_gradients), T (test_row_logprobs_are_token_logprobs),
            T (test_hit_on_ties_is_the_first), T (test_dora_norm), T (test_adamw_two_steps), T (test_sgd),
            T (test_sumsq_adds_chunks_in_order), T (test_sixteen_bit_types), T (test_refusals_have_reasons),
            T (test_dry_run_writes_nothing), T (test_device_memory), T (test_allocation_failures))
