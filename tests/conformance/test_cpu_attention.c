/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention of cpu: against ref over windows, softcaps, grouped heads, cache pages and parents; a shared prefix (of a prefix) against the
 * prompt repeated, bit for bit forwards and within 1e-5 backwards; and a sequence that has the same bits alone.
 */
#include "conformance/device_kit.h"

enum { MAX_SEGMENTS = 6 };

typedef struct Case {
    const char *what;
    int64_t H, G, h, window;
    double cap;
    int64_t n, m; /* rows of q and of k, v */
    int64_t n_segments;
    DpsSegment segments[MAX_SEGMENTS];
} Case;

/*                       q        kv      parent position adapter flags */
static const Case cases[] = {
    {"no rows", 2, 1, 4, 0, 0, 0, 0, 0, {{0}}},
    {"one token", 1, 1, 3, 0, 0, 1, 1, 1, {{0, 1, 0, 1, -1, 0, 0, 0}}},
    {"two sequences, grouped heads", 4, 2, 17, 0, 0, 7, 7, 2, {{0, 5, 0, 5, -1, 0, 0, 0}, {5, 2, 5, 2, -1, 0, 0, 0}}},
    {"several blocks, heads wider than one", 2, 1, 80, 0, 0, 150, 150, 2, {{0, 131, 0, 131, -1, 0, 0, 0}, {131, 19, 131, 19, -1, 0, 0, 0}}},
    {"window 5, softcap", 3, 1, 16, 5, 1.5, 140, 140, 2, {{0, 129, 0, 129, -1, 0, 0, 0}, {129, 11, 129, 11, -1, 0, 0, 0}}},
    {"window 64", 2, 2, 31, 64, 0, 200, 200, 1, {{0, 200, 0, 200, -1, 0, 0, 0}}},
    {"window 1", 2, 2, 8, 1, 0, 5, 5, 1, {{0, 5, 0, 5, -1, 0, 0, 0}}},
    {"shared prefix",
     2,
     1,
     33,
     0,
     0,
     90,
     90,
     3,
     {{0, 67, 0, 67, -1, 0, 0, 0}, {67, 12, 67, 12, 0, 67, 0, 0}, {79, 11, 79, 11, 0, 67, 0, 0}}},
    {"three generations, window 70, softcap",
     2,
     1,
     16,
     70,
     2,
     150,
     150,
     4,
     {{0, 63, 0, 63, -1, 0, 0, 0}, {63, 30, 63, 30, 0, 63, 0, 0}, {93, 40, 93, 40, 1, 93, 0, 0}, {133, 17, 133, 17, 1, 93, 0, 0}}},
    {"cache: more keys than queries", 2, 1, 16, 0, 0, 3, 90, 2, {{0, 2, 0, 70, -1, 68, 0, 0}, {2, 1, 70, 20, -1, 19, 0, 0}}},
    {"cache page as parent, window 40", 1, 1, 16, 40, 0, 2, 72, 2, {{0, 0, 2, 70, -1, 70, 0, 0}, {0, 2, 0, 2, 0, 70, 0, 0}}},
    {"rows of no segment", 2, 1, 16, 0, 0, 6, 6, 1, {{2, 3, 2, 3, -1, 0, 0, 0}}},
};
enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct Run {
    Array *q, *k, *v, *segments, *o, *lse, *d_o, *dq, *dk, *dv;
    DpsScalar attrs[6];
} Run;

static Run run_of (const Case *t, uint32_t in, uint32_t out)
{
    Run r = {.segments = segment_table (t->n_segments, t->segments)};
    const DpsScalar attrs[] = {{.i = t->H}, {.i = t->G}, {.i = t->h}, {.f = 0.3}, {.i = t->window}, {.f = t->cap}};
    memcpy (r.attrs, attrs, sizeof attrs);
    r.q = normals (in, t->n, t->H * t->h, 1);
    r.k = normals (in, t->m, t->G * t->h, 1);
    r.v = normals (in, t->m, t->G * t->h, 1);
    r.d_o = normals (in, t->n, t->H * t->h, 1);
    r.o = array (out, t->n, t->H * t->h);
    r.lse = array (F32, t->n, t->H);
    r.dq = array (out, t->n, t->H * t->h);
    r.dk = array (out, t->m, t->G * t->h);
    r.dv = array (out, t->m, t->G * t->h);
    return r;
}

static Call forward_of (const Run *r)
{
    Call c = {"attention", {r->q, r->k, r->v, r->segments}, {r->o, r->lse}, {{0}}};
    memcpy (c.attrs, r->attrs, sizeof r->attrs);
    return c;
}

static Call backward_of (const Run *r)
{
    Call c = {"attention_bwd", {r->q, r->k, r->v, r->o, r->lse, r->d_o, r->segments}, {r->dq, r->dk, r->dv}, {{0}}};
    memcpy (c.attrs, r->attrs, sizeof r->attrs);
    return c;
}

static void test_attention (void)
{
    for (int t = 0; t < N_CASES; t++)
        for (int m = 0; m < 4; m++) {
            Run r = run_of (&cases[t], m & 1 ? BF16 : F32, m & 2 ? BF16 : F32);
            Call f = forward_of (&r), b = backward_of (&r);
            compare (&f, (Budget){1e-5, 4e-6, 0});
            compare (&b, (Budget){2e-5, 2e-5, 0});
            f.out[1] = NULL;
            Array *with = copy_of (r.o);
            call (&f);
            CU_ASSERT (!r.o->bytes || !memcmp (with->view.host, r.o->view.host, r.o->bytes)); /* lse is optional */
            arrays_free ();
        }
}

/* Rows rows[0..n) of a. */
static Array *picked (const Array *a, const int32_t *rows, int64_t n)
{
    Array *b = array (a->view.dtype, n, a->shape[1]);
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < a->shape[1]; d++)
            put (b, i * a->shape[1] + d, get (a, rows[i] * a->shape[1] + d));
    return b;
}

/* The tree of the case's segments, and each path from its root to a leaf as a sequence of its own: rows[] says which row of the tree stands there. */
static int64_t unroll (const Case *t, Case *out, int32_t *rows, int32_t *counts_once)
{
    int64_t n = 0;
    unsigned char done[512] = {0};
    *out = *t;
    out->n_segments = 0;
    for (int64_t s = 0; s < t->n_segments; s++) {
        int64_t path[MAX_SEGMENTS], depth = 0, first = n;
        int leaf = 1;
        for (int64_t c = s + 1; c < t->n_segments; c++)
            leaf &= t->segments[c].parent != s;
        for (int64_t p = s; leaf && p >= 0; p = t->segments[p].parent)
            path[depth++] = p;
        while (depth > 0) {
            const DpsSegment *g = &t->segments[path[--depth]];
            for (int32_t i = 0; i < g->q_len; i++, n++) {
                rows[n] = g->q_start + i;
                counts_once[n] = !done[rows[n]];
                done[rows[n]] = 1;
            }
        }
        if (leaf)
            out->segments[out->n_segments++] =
                (DpsSegment){(int32_t)first, (int32_t)(n - first), (int32_t)first, (int32_t)(n - first), -1, 0, 0, 0};
    }
    out->n = out->m = n;
    return n;
}

static void add_rows (Array *sum, const Array *from, const int32_t *rows, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < sum->shape[1]; d++)
            put (sum, rows[i] * sum->shape[1] + d, get (sum, rows[i] * sum->shape[1] + d) + get (from, i * sum->shape[1] + d));
}

static void check_repetition (const Case *t, uint32_t in)
{
    int32_t rows[512], once[512];
    Case flat;
    int64_t n = unroll (t, &flat, rows, once);
    Run a = run_of (t, in, F32), b = run_of (&flat, in, F32);
    b.q = picked (a.q, rows, n), b.k = picked (a.k, rows, n), b.v = picked (a.v, rows, n), b.d_o = picked (a.d_o, rows, n);
    for (int64_t i = 0; i < n; i++) /* the repeated prompt's own output counts once */
        for (int64_t d = 0; !once[i] && d < b.d_o->shape[1]; d++)
            put (b.d_o, i * b.d_o->shape[1] + d, 0);
    Call fa = forward_of (&a), fb = forward_of (&b), ba = backward_of (&a), bb = backward_of (&b);
    call (&fa);
    call (&fb);
    Array *o = picked (a.o, rows, n), *lse = picked (a.lse, rows, n);
    CU_ASSERT (!memcmp (o->view.host, b.o->view.host, o->bytes) && !memcmp (lse->view.host, b.lse->view.host, lse->bytes));
    call (&ba);
    call (&bb);
    Array *const got[] = {a.dq, a.dk, a.dv}, *const flat_grads[] = {b.dq, b.dk, b.dv};
    for (int g = 0; g < 3; g++) {
        Array *sum = filled (DPS_DTYPE_F64, got[g]->shape[0], got[g]->shape[1], 0);
        add_rows (sum, flat_grads[g], rows, n);
        check_close (t->what, got[g], sum, (Budget){0, 1e-5, 0});
    }
    arrays_free ();
}

static void test_shared_prefix_is_repetition (void)
{
    for (int t = 0; t < N_CASES; t++)
        if (strstr (cases[t].what, "prefix") || strstr (cases[t].what, "generations"))
            for (int m = 0; m < 2; m++)
                check_repetition (&cases[t], m ? BF16 : F32);
}

/* Each sequence alone, and its last tokens one by one on a cache, have the bits they have beside others. */
static void test_batch_composition (void)
{
    const Case *t = &cases[4];
    for (int m = 0; m < 4; m++) {
        Run all = run_of (t, m & 1 ? BF16 : F32, m & 2 ? BF16 : F32);
        Call c = forward_of (&all);
        call (&c);
        for (int64_t s = 0; s < 2; s++)
            for (int32_t last = 1; last <= t->segments[s].q_len; last += last < 4 ? 1 : 31) {
                DpsSegment g = t->segments[s];
                int32_t keys[200], *queries = keys + g.q_len - last;
                for (int32_t i = 0; i < g.kv_len; i++)
                    keys[i] = g.kv_start + i;
                const DpsSegment own = {0, last, 0, g.kv_len, -1, g.q_len - last, 0, 0};
                Case alone = *t;
                alone.n = last, alone.m = g.kv_len, alone.n_segments = 1;
                alone.segments[0] = own;
                Run r = run_of (&alone, m & 1 ? BF16 : F32, m & 2 ? BF16 : F32);
                r.q = picked (all.q, queries, last), r.k = picked (all.k, keys, g.kv_len), r.v = picked (all.v, keys, g.kv_len);
                Call one = forward_of (&r);
                call (&one);
                Array *want = picked (all.o, queries, last), *lse = picked (all.lse, queries, last);
                CU_ASSERT (!memcmp (want->view.host, r.o->view.host, want->bytes) &&
                           !memcmp (lse->view.host, r.lse->view.host, lse->bytes));
            }
        arrays_free ();
    }
}

/* In the rows that see it, and never in another sequence. (A row before a NaN of v may have one too: its weight there is 0, and 0·NaN is NaN.) */
static void test_nan_stays (void)
{
    for (int k = 0; k < 3; k++) {
        Run r = run_of (&cases[4], F32, F32);
        Array *const from[] = {r.q, r.k, r.v};
        put (from[k], 20 * from[k]->shape[1] + 1, (double)NAN);
        Call c = forward_of (&r), b = backward_of (&r);
        call (&c);
        call (&b);
        CU_ASSERT (isnan (get (r.o, 20 * r.o->shape[1] + 1)));
        CU_ASSERT (k == 2 || isnan (get (r.lse, 20 * 3)));
        CU_ASSERT (k == 2 || !isnan (get (r.o, 19 * r.o->shape[1] + 1)));
        CU_ASSERT (isnan (get (k == 2 ? r.dq : r.dk, 20 * (k == 2 ? r.dq : r.dk)->shape[1] + 1)));
        CU_ASSERT (!isnan (get (r.o, 130 * r.o->shape[1])) && !isnan (get (r.dk, 130 * r.dk->shape[1])));
        arrays_free ();
    }
}

static void test_refusals (void)
{
    static const DpsSegment bad[] = {
        {0, 6, 0, 5, -1, 1, 0, 0},  {0, 5, 1, 5, -1, 0, 0, 0},  {0, 5, 0, 5, 0, 0, 0, 0},  {0, 5, 0, 5, -1, -1, 0, 0},
        {-1, 5, 0, 5, -1, 0, 0, 0}, {0, -1, 0, 5, -1, 9, 0, 0}, {0, 2, 0, 5, -1, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Case t = {"bad", 1, 1, 4, 0, 0, 5, 5, 1, {bad[i]}};
        Run r = run_of (&t, F32, F32);
        Call f = forward_of (&r), b = backward_of (&r);
        CHECK_FAILS (call_on (KIT_DEVICE, &f, 0, &err), DPS_ERR_INVALID, "segment 0 does not fit");
        CHECK_FAILS (call_on (KIT_DEVICE, &b, 0, &err), DPS_ERR_INVALID, "segment 0 does not fit");
        check_untouched ("attention", r.o, 0);
        arrays_free ();
    }
    Run r = run_of (&cases[2], F32, F32);
    Call f = forward_of (&r);
    f.attrs[2].i = 16;
    CHECK_FAILS (call_on (KIT_DEVICE, &f, 0, &err), DPS_ERR_SHAPE, "do not fit q and k");
    arrays_free ();
}

static void test_close (void) { kit_close (); }

CHECK_MAIN (KIT_DEVICE ".attention", T (test_attention), T (test_shared_prefix_is_repetition), T (test_batch_composition),
            T (test_nan_stays), T (test_refusals), T (test_close))
