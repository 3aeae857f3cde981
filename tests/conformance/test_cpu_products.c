/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linear, linear_dx, linear_dw, dora_norm and token_logprobs of cpu: against ref, with weights as rows and packed; and rows that do not
 * depend on the other rows of the call, bit for bit.
 */
#include "conformance/device_kit.h"

enum { FORWARD = DPS_PACK_FORWARD, INPUT_GRAD = DPS_PACK_INPUT_GRAD };

static const Budget product = {1e-5, 4e-6, 0};

/* W as the backend packs it, in pieces of 64 rows. The bytes past those asked for are guarded like any array. Rows where nothing is packed here. */
static Array *packed (Array *w, uint32_t orientation)
{
    const Device *d = device_named (KIT_DEVICE);
    const DpsPack *pack = dps_registry_get (kit_registry, DPS_PACK_ID, KIT_DEVICE);
    uint64_t bytes;
    uint32_t layout;
    if (!pack || !d->shares)
        return w;
    CHECK_OK (pack->query (d->dev, w->shape[0], w->shape[1], w->view.dtype, orientation, &bytes, &layout, &err));
    /* packed weights lie in buffers, which are aligned to 64 */
    Array *p = array (DPS_DTYPE_U8, (int64_t)bytes + 64, -1);
    p->view.host = (void *)(((uintptr_t)p->view.host + 63) / 64 * 64);
    p->bytes = bytes;
    memset (p->room, GUARD_BYTE, (size_t)((unsigned char *)p->view.host - p->room));
    memset ((char *)p->view.host + bytes, GUARD_BYTE, GUARD);
    p->shape[0] = w->shape[0];
    p->shape[1] = w->shape[1];
    p->view.rank = 2;
    p->view.dtype = w->view.dtype;
    p->view.layout = layout;
    p->n = w->n;
    for (int64_t row = 0; row < w->shape[0]; row += 64) {
        int64_t shape[] = {w->shape[0] - row < 64 ? w->shape[0] - row : 64, w->shape[1]};
        DpsView from = w->view;
        from.shape = shape;
        from.host = (char *)w->view.host + (size_t)(row * w->shape[1]) * size_of (w->view.dtype);
        CHECK_OK (pack->pack (d->dev, &from, row, orientation, &p->view, &err));
    }
    return p;
}

/* compare with W as rows and with W packed. signals: the first three outputs have a budget of their own beside a fourth. */
static void compare_both (const Call *c, uint32_t orientation, Budget b, Budget signals)
{
    Call want = *c, got = *c;
    for (int i = 0; i < 4; i++)
        want.out[i] = c->out[i] ? twin (c->out[i]) : NULL;
    CHECK_OK (call_on ("ref", &want, 0, &err));
    for (int is_packed = 0; is_packed < 2; is_packed++) {
        if (is_packed)
            got.in[1] = packed (c->in[1], orientation);
        if (is_packed && !strcmp (c->name, "token_logprobs") && c->out[3])
            got.in[3] = packed (c->in[1], INPUT_GRAD);
        call (&got);
        for (int i = 0; i < 4; i++)
            if (c->out[i])
                check_close (c->name, c->out[i], want.out[i], c->out[3] && i < 3 ? signals : b);
    }
}

static const struct {
    int64_t M, K, O;
} shapes[] = {{0, 5, 3},     {1, 1, 1},    {1, 3, 17},    {3, 17, 5},     {7, 16, 16},    {16, 15, 33},   {17, 257, 31},
              {31, 33, 255}, {64, 48, 64}, {65, 64, 257}, {70, 255, 259}, {129, 31, 300}, {5, 640, 1025}, {33, 700, 17}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void test_linear (void)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int m = 0; m < 16; m++) {
            int64_t M = shapes[i].M, K = shapes[i].K, O = shapes[i].O;
            uint32_t xt = m & 1 ? BF16 : F32, wt = m & 2 ? BF16 : F32, yt = m & 4 ? BF16 : F32;
            Array *x = normals (xt, M, K, 1), *w = normals (wt, O, K, 1);
            Array *bias = m & 8 ? normals (m & 1 ? F32 : BF16, O, -1, 1) : NULL, *c = m & 8 ? normals (m & 2 ? F32 : BF16, M, O, 1) : NULL;
            Call f = {"linear", {x, w, bias, c}, {array (yt, M, O)}, {{.f = m & 8 ? -0.75 : 0}}};
            compare_both (&f, FORWARD, product, product);
            arrays_free ();
        }
}

static void test_linear_dx (void)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int m = 0; m < 16; m++) {
            int64_t M = shapes[i].M, K = shapes[i].K, O = shapes[i].O;
            Array *dy = normals (m & 1 ? BF16 : F32, M, O, 1), *w = normals (m & 2 ? BF16 : F32, O, K, 1);
            Array *c = m & 8 ? normals (m & 2 ? F32 : BF16, M, K, 1) : NULL;
            Call f = {"linear_dx", {dy, w, c}, {array (m & 4 ? BF16 : F32, M, K)}, {{.f = m & 8 ? -0.75 : 0}}};
            compare_both (&f, INPUT_GRAD, product, product);
            arrays_free ();
        }
}

static void test_linear_dw (void)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int m = 0; m < 4; m++) {
            int64_t M = shapes[i].M, K = shapes[i].K, O = shapes[i].O;
            Array *dy = normals (m & 1 ? BF16 : F32, M, O, 1), *x = normals (m & 2 ? BF16 : F32, M, K, 1), *dw = normals (F32, O, K, 1);
            compare (&(Call){"linear_dw", {dy, x, roots_of (M)}, {dw}, {{.f = m ? 0.5 : 0}}}, (Budget){2e-5, 4e-6, 0});
            arrays_free ();
        }
}

/* By cpu, which has nothing to pack; the sum of nothing is 0 elsewhere. */
static void test_empty_weights (void)
{
    Array *x = array (F32, 3, 0), *w = array (F32, 4, 0), *y = array (F32, 3, 4);
    Call c = {"linear", {x, w}, {y}, {{0}}};
    if (strcmp (KIT_DEVICE, "cpu") != 0)
        compare (&c, product);
    else
        for (uint32_t dry = 0; dry < 2; dry++)
            CHECK_FAILS (call_on (KIT_DEVICE, &c, dry ? DPS_RUN_DRY : 0, &err), DPS_ERR_UNSUPPORTED, "empty weight");
    arrays_free ();
}

static void test_dora_norm (void)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int m = 0; m < 8; m++) {
            int64_t K = shapes[i].K, O = shapes[i].O, r = 1 + m % 5;
            Array *w = normals (m & 1 ? BF16 : F32, O, K, 1), *a = normals (m & 2 ? BF16 : F32, r, K, 1), *b = normals (F32, O, r, 1);
            Array *magnitude = m & 4 ? normals (F32, O, -1, 1) : NULL;
            compare (&(Call){"dora_norm", {w, a, b, magnitude}, {magnitude ? array (F32, O, -1) : NULL, array (F32, O, -1)}, {{.f = 0.5}}},
                     (Budget){4e-6, 0, 0});
            arrays_free ();
        }
}

/* The last two vocabularies go by in chunks of 1024. */
static const struct {
    int64_t S, D, V;
} heads[] = {{0, 5, 7}, {1, 1, 1}, {1, 3, 2}, {3, 17, 5}, {17, 33, 255}, {65, 16, 257}, {70, 64, 300}, {19, 31, 16385}, {5, 24, 17409}};
enum { N_HEADS = sizeof heads / sizeof *heads };

typedef struct Scored {
    Array *h, *w, *targets, *out[4];
    DpsScalar attrs[2];
} Scored;

static Scored scored (int i, int m)
{
    int64_t S = heads[i].S, D = heads[i].D, V = heads[i].V;
    Scored s = {normals (m & 1 ? BF16 : F32, S, D, 1), normals (m & 2 ? BF16 : F32, V, D, 0.5), indices (S, V), {NULL}, {{0}, {0}}};
    s.attrs[0].f = m & 4 ? 3 : 0;
    s.attrs[1].f = m & 4 ? 0.7 : 0;
    for (int k = 0; k < 3; k++)
        s.out[k] = array (F32, S, -1);
    s.out[3] = m & 8 ? array (m & 1 ? BF16 : F32, S, D) : NULL;
    return s;
}

static void test_token_logprobs (void)
{
    for (int i = 0; i < N_HEADS; i++)
        for (int m = heads[i].V > 16384 ? 8 : 0; m < 16; m++) {
            Scored s = scored (i, m);
            Call c = {"token_logprobs", {s.h, s.w, s.targets}, {s.out[0], s.out[1], s.out[2], s.out[3]}, {s.attrs[0], s.attrs[1]}};
            /* softmax weights are rounded to the head's dtype before they meet it again: dir of a bf16 head is as good as those; signals are not */
            const Budget f32 = {1e-5, 1e-5, 2e-6}, bf16 = {0x1p-8, 0x1p-8, 0x1p-8};
            compare_both (&c, FORWARD, m & 2 && m & 8 ? bf16 : f32, f32);
            arrays_free ();
        }
}

/* Rows [first, first + n) of a, as an array of their own. */
static Array *rows_of (const Array *a, int64_t first, int64_t n)
{
    int vector = a->view.rank == 1;
    size_t row = (size_t)(vector ? 1 : a->shape[1]) * size_of (a->view.dtype);
    Array *b = array (a->view.dtype, n, vector ? -1 : a->shape[1]);
    memcpy (b->view.host, (char *)a->view.host + (size_t)first * row, (size_t)n * row);
    return b;
}

static void check_same_rows (const char *what, int64_t M, const Array *part, const Array *whole, int64_t first)
{
    size_t row = (size_t)(whole->view.rank == 1 ? 1 : whole->shape[1]) * size_of (whole->view.dtype);
    int same = !memcmp (part->view.host, (char *)whole->view.host + (size_t)first * row, part->bytes);
    if (!same)
        printf ("\n    %s: rows %lld to %lld of %lld are not those of a call of their own\n", what, (long long)first,
                (long long)(first + part->shape[0] - 1), (long long)M);
    CU_ASSERT (same);
}

/* From the logits, on cpu and in one call or row by row, the bits that come from the states, with and without dir. */
static void test_row_logprobs_are_token_logprobs (void)
{
    for (int i = 0; i < N_HEADS; i++)
        for (int m = 0; m < 16; m++) {
            Scored s = scored (i, m);
            int64_t S = heads[i].S, V = heads[i].V;
            Array *z = array (F32, S, V), *rows = array (F32, S, -1), *p = packed (s.w, FORWARD);
            call (&(Call){"token_logprobs",
                          {s.h, p, s.targets, m & 8 ? packed (s.w, INPUT_GRAD) : NULL},
                          {s.out[0], NULL, NULL, s.out[3]},
                          {s.attrs[0], s.attrs[1]}});
            call (&(Call){"linear", {s.h, p}, {z}, {{0}}});
            Call f = {"row_logprobs", {z, s.targets}, {rows}, {s.attrs[0], s.attrs[1]}};
            compare (&f, (Budget){1e-6, 1e-6, 1e-6});
            CU_ASSERT (!memcmp (rows->view.host, s.out[0]->view.host, (size_t)S * sizeof (float)));
            for (int64_t r = 0; r < S; r += 7) {
                Array *one = array (F32, 1, -1);
                call (&(Call){"row_logprobs", {rows_of (z, r, 1), rows_of (s.targets, r, 1)}, {one}, {s.attrs[0], s.attrs[1]}});
                check_same_rows ("row_logprobs", S, one, rows, r);
            }
            arrays_free ();
        }
    int32_t bad = 3;
    Call c = {"row_logprobs", {normals (F32, 1, 3, 1), i32s (1, &bad)}, {array (F32, 1, -1)}, {{0}}};
    CHECK_FAILS (call_on (KIT_DEVICE, &c, 0, &err), DPS_ERR_INVALID, "target");
    arrays_free ();
}

static void test_token_logprobs_dw (void)
{
    for (int i = 0; i < N_HEADS; i++)
        for (int m = 0; m < 8; m++) {
            Scored s = scored (i, m);
            Array *dlogp = normals (F32, heads[i].S, -1, 1), *dw = normals (F32, heads[i].V, heads[i].D, 0.1);
            compare (&(Call){"token_logprobs_dw", {s.h, s.w, s.targets, dlogp, roots_of (heads[i].S)}, {dw}, {s.attrs[0], s.attrs[1]}},
                     (Budget){2e-5, 1e-5, 0});
            arrays_free ();
        }
}

static void test_bad_targets_are_refused (void)
{
    for (int32_t bad = -1; bad <= 3; bad += 4) {
        Array *logp = array (F32, 1, -1);
        Call c = {"token_logprobs", {normals (F32, 1, 4, 1), normals (F32, 3, 4, 1), i32s (1, &bad)}, {logp}, {{0}}};
        CHECK_FAILS (call_on (KIT_DEVICE, &c, 0, &err), DPS_ERR_INVALID, "target");
        arrays_free ();
    }
}

static void test_nan_stays (void)
{
    for (int m = 0; m < 8; m++) {
        uint32_t xt = m & 1 ? BF16 : F32, wt = m & 2 ? BF16 : F32;
        Array *x = normals (xt, 20, 35, 1), *w = normals (wt, 40, 35, 1), *y = array (F32, 20, 40), *dy = normals (xt, 20, 40, 1);
        Array *dx = array (F32, 20, 35), *dw = filled (F32, 40, 35, 0), *logp = array (F32, 20, -1), *entropy = array (F32, 20, -1);
        put (m & 4 ? w : x, 3 * 35 + 2, (double)NAN);
        put (dy, 3 * 40 + 2, (double)NAN);
        call (&(Call){"linear", {x, w}, {y}, {{0}}});
        call (&(Call){"linear_dx", {dy, w}, {dx}, {{0}}});
        call (&(Call){"linear_dw", {dy, x, roots_of (20)}, {dw}, {{0}}});
        call (&(Call){"token_logprobs", {x, w, indices (20, 40)}, {logp, entropy}, {{0}}});
        CU_ASSERT (isnan (get (y, 3 * 40 + 3)));
        CU_ASSERT (isnan (get (dx, 3 * 35 + 1)));
        CU_ASSERT (isnan (get (dw, 2 * 35 + 1)));
        CU_ASSERT (isnan (get (logp, 3)) && isnan (get (entropy, 3)));
        CU_ASSERT (m & 4 || (!isnan (get (y, 4 * 40 + 3)) && !isnan (get (logp, 4)))); /* in its own row alone */
        arrays_free ();
    }
}

enum { WIDE = 300, IN = 83, OUT = 277 };
static const int64_t heights[] = {300, 70, 65, 64, 63, 49, 48, 47, 33, 32, 31, 17, 16, 15, 13, 12, 11, 7, 6, 5, 4, 3, 2, 1};

/* M rows of a call of 300, wherever they begin, for every M up to 70: products of one weight. */
static void check_product_rows (const char *name, uint32_t xt, uint32_t wt, uint32_t yt)
{
    int back = !strcmp (name, "linear_dx");
    int64_t K = back ? OUT : IN, O = back ? IN : OUT;
    Array *x = normals (xt, WIDE, K, 1), *w = normals (wt, OUT, IN, 1), *y = array (yt, WIDE, O);
    Array *p = packed (w, back ? INPUT_GRAD : FORWARD);
    call (&(Call){name, {x, p}, {y}, {{0}}});
    for (int64_t M = 1; M <= 70; M++) {
        int64_t first = (M * 37) % (WIDE - M);
        Array *part = array (yt, M, O);
        call (&(Call){name, {rows_of (x, first, M), p}, {part}, {{0}}});
        check_same_rows (name, M, part, y, first);
    }
    for (int64_t i = 0; i < WIDE; i++) {
        Array *one = array (yt, 1, O);
        call (&(Call){name, {rows_of (x, i, 1), i % 2 ? p : w}, {one}, {{0}}});
        check_same_rows (name, WIDE, one, y, i);
    }
    arrays_free ();
}

static void test_rows_of_products_are_independent (void)
{
    for (int m = 0; m < 8; m++) {
        check_product_rows ("linear", m & 1 ? BF16 : F32, m & 2 ? BF16 : F32, m & 4 ? BF16 : F32);
        check_product_rows ("linear_dx", m & 1 ? BF16 : F32, m & 2 ? BF16 : F32, m & 4 ? BF16 : F32);
    }
}

static void check_head_rows (int m, int64_t V)
{
    int64_t S = V > 16384 ? 70 : WIDE, D = V > 16384 ? 17 : 40;
    Array *h = normals (m & 1 ? BF16 : F32, S, D, 1), *w = normals (m & 2 ? BF16 : F32, V, D, 0.5), *targets = indices (S, V);
    Array *p = packed (w, FORWARD), *g = packed (w, INPUT_GRAD), *out[4];
    const DpsScalar softcap = {.f = m & 4 ? 5 : 0};
    for (int k = 0; k < 4; k++)
        out[k] = array (k == 3 && m & 1 ? BF16 : F32, S, k == 3 ? D : -1);
    call (&(Call){"token_logprobs", {h, p, targets, g}, {out[0], out[1], out[2], out[3]}, {softcap}});
    for (size_t i = 0; i<sizeof heights / sizeof *heights; i += V> 16384 ? 3 : 1) {
        int64_t M = heights[i] < S ? heights[i] : S, first = M == S ? 0 : (M * 37) % (S - M);
        Array *part[4];
        for (int k = 0; k < 4; k++)
            part[k] = array (out[k]->view.dtype, M, k == 3 ? D : -1);
        Call c = {
            "token_logprobs", {rows_of (h, first, M), p, rows_of (targets, first, M), g}, {part[0], part[1], part[2], part[3]}, {softcap}};
        call (&c);
        for (int k = 0; k < 4; k++)
            check_same_rows ("token_logprobs", M, part[k], out[k], first);
        c.out[3] = NULL; /* the signals are the same without the adjoint's direction */
        c.in[3] = NULL;
        call (&c);
        for (int k = 0; k < 3; k++)
            check_same_rows ("token_logprobs without dir", M, part[k], out[k], first);
    }
    arrays_free ();
}

static void test_rows_of_the_head_are_independent (void)
{
    for (int m = 0; m < 8; m++) {
        check_head_rows (m, 509);
        check_head_rows (m, 16389);
    }
}

static void test_unpack_is_the_reverse (void)
{
    const DpsPack *pack = dps_registry_get (kit_registry, DPS_PACK_ID, KIT_DEVICE);
    for (int m = 0; pack && device_named (KIT_DEVICE)->shares && m < 2; m++)
        for (int64_t O = 1; O < 20000; O = O * 5 + 3) {
            Array *w = normals (m ? BF16 : F32, O, 19, 1), *p = packed (w, FORWARD), *ids = indices (21, O),
                  *y = array (w->view.dtype, 21, 19);
            CHECK_OK (pack->unpack_rows (device_named (KIT_DEVICE)->dev, &p->view, ids->view.host, 21, &y->view, &err));
            check_untouched ("unpack_rows", y, 0);
            for (int64_t i = 0; i < 21 * 19; i++)
                CU_ASSERT_EQUAL (get (y, i), get (w, (int64_t)get (ids, i / 19) * 19 + i % 19));
            compare (&(Call){"embed", {w, ids}, {array (F32, 21, 19)}, {{.f = 3}}}, (Budget){0, 0, 0});
            Array *a = array (F32, 21, 19), *b = array (F32, 21, 19);
            call (&(Call){"embed", {w, ids}, {a}, {{.f = 3}}});
            call (&(Call){"embed", {p, ids}, {b}, {{.f = 3}}});
            check_same_rows ("embed of a packed table", 21, b, a, 0);
            arrays_free ();
        }
}

static void test_close (void) { kit_close (); }

CHECK_MAIN (KIT_DEVICE ".products", T (test_linear), T (test_linear_dx), T (test_linear_dw), T (test_empty_weights), T (test_dora_norm),
            T (test_token_logprobs), T (test_row_logprobs_are_token_logprobs), T (test_token_logprobs_dw), T (test_bad_targets_are_refused),
            T (test_nan_stays), T (test_rows_of_products_are_independent), T (test_rows_of_the_head_are_independent),
            T (test_unpack_is_the_reverse), T (test_close))
