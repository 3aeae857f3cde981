/* SPDX-License-Identifier: Apache-2.0 */
/* Attention and rope of ref: masks against a direct computation, adjoints against central differences, ancestors against repetition. */
#include "conformance/ref_kit.h"

typedef struct Case {
    const char *what;
    int64_t n_heads, n_kv, h, window;
    double cap;
    int64_t n, m; /* rows of q and of k, v */
    int64_t n_segments;
    DpsSegment segments[5];
} Case;

/*                         q        kv       parent position adapter flags */
static const Case cases[] = {
    {"no rows", 2, 1, 4, 0, 0, 0, 0, 0, {{0}}},
    {"one token", 1, 1, 3, 0, 0, 1, 1, 1, {{0, 1, 0, 1, -1, 0, 0, 0}}},
    {"two sequences, grouped heads", 4, 2, 3, 0, 0, 7, 7, 2, {{0, 5, 0, 5, -1, 0, 0, 0}, {5, 2, 5, 2, -1, 0, 0, 0}}},
    {"window 2, softcap", 3, 1, 2, 2, 1.5, 7, 7, 2, {{0, 5, 0, 5, -1, 0, 0, 0}, {5, 2, 5, 2, -1, 0, 0, 0}}},
    {"window 1", 2, 2, 2, 1, 0, 5, 5, 1, {{0, 5, 0, 5, -1, 0, 0, 0}}},
    {"shared prefix, two children",
     2,
     1,
     3,
     0,
     0,
     8,
     8,
     3,
     {{0, 3, 0, 3, -1, 0, 0, 0}, {3, 2, 3, 2, 0, 3, 0, 0}, {5, 3, 5, 3, 0, 3, 0, 0}}},
    {"three generations, window 3, softcap",
     2,
     1,
     3,
     3,
     2,
     9,
     9,
     4,
     {{0, 3, 0, 3, -1, 0, 0, 0}, {3, 2, 3, 2, 0, 3, 0, 0}, {5, 2, 5, 2, 1, 5, 0, 0}, {7, 2, 7, 2, 1, 5, 0, 0}}},
    {"cache: more keys than queries", 2, 1, 2, 0, 0, 3, 9, 2, {{0, 2, 0, 6, -1, 4, 0, 0}, {2, 1, 6, 3, -1, 2, 0, 0}}},
    {"cache page as parent, window 4", 1, 1, 2, 4, 0, 2, 7, 2, {{0, 0, 2, 5, -1, 5, 0, 0}, {0, 2, 0, 2, 0, 5, 0, 0}}},
    {"bidirectional, window 2", 1, 1, 2, 2, 0, 4, 4, 1, {{0, 4, 0, 4, -1, 0, 0, DPS_SEGMENT_BIDIRECTIONAL}}},
    {"rows of no segment", 1, 1, 2, 0, 0, 6, 6, 1, {{2, 3, 2, 3, -1, 0, 0, 0}}},
};
enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct Parts {
    Array *q, *k, *v, *segments, *o, *lse;
} Parts;

static void attrs_of (const Case *t, DpsScalar *a)
{
    const DpsScalar attrs[] = {{.i = t->n_heads}, {.i = t->n_kv}, {.i = t->h}, {.f = 0.7}, {.i = t->window}, {.f = t->cap}};
    memcpy (a, attrs, sizeof attrs);
}

static Call forward_of (const Case *t, Parts *p)
{
    int64_t qw = t->n_heads * t->h, kw = t->n_kv * t->h;
    *p = (Parts){normals (t->n, qw, 1), normals (t->m, kw, 1),   normals (t->m, kw, 1), segment_table (t->n_segments, t->segments),
                 zeros (t->n, qw),      zeros (t->n, t->n_heads)};
    Call f = {"attention", {p->q, p->k, p->v, p->segments}, {p->o, p->lse}, {{0}}};
    attrs_of (t, f.attrs);
    return f;
}

/* Is key row j visible to the token at row i? Written from the sentence in ops.h, by positions of single rows. */
static int visible (const Case *t, int64_t i, int64_t j)
{
    for (int64_t s = 0; s < t->n_segments; s++) {
        const DpsSegment *own = &t->segments[s];
        if (i < own->q_start || i >= own->q_start + own->q_len)
            continue;
        int64_t p = own->position + i - own->q_start;
        for (int64_t a = s; a >= 0; a = t->segments[a].parent) {
            const DpsSegment *g = &t->segments[a];
            if (j < g->kv_start || j >= g->kv_start + g->kv_len)
                continue;
            int64_t at = g->position + g->q_len - g->kv_len + j - g->kv_start;
            int both = a == s && (own->flags & DPS_SEGMENT_BIDIRECTIONAL);
            return (both || at <= p) && (!t->window || (at > p - t->window && at < p + t->window));
        }
    }
    return 0;
}

static void check_forward (const Case *t, Parts *p)
{
    for (int64_t i = 0; i < t->n; i++)
        for (int64_t head = 0; head < t->n_heads; head++) {
            double sum = 0, o[8] = {0};
            const double *q = num (p->q) + (i * t->n_heads + head) * t->h;
            for (int64_t j = 0; j < t->m; j++) {
                int64_t at = (j * t->n_kv + head * t->n_kv / t->n_heads) * t->h;
                double s = 0;
                for (int64_t d = 0; d < t->h; d++)
                    s += 0.7 * q[d] * num (p->k)[at + d];
                s = t->cap != 0 ? t->cap * tanh (s / t->cap) : s;
                double e = visible (t, i, j) ? exp (s) : 0;
                sum += e;
                for (int64_t d = 0; d < t->h; d++)
                    o[d] += e * num (p->v)[at + d];
            }
            CHECK_NEAR (num (p->lse)[i * t->n_heads + head], sum > 0 ? log (sum) : 0, 1e-13);
            for (int64_t d = 0; d < t->h; d++)
                CHECK_NEAR (num (p->o)[(i * t->n_heads + head) * t->h + d], sum > 0 ? o[d] / sum : 0, 1e-13);
        }
}

static void test_attention_values (void)
{
    for (int t = 0; t < N_CASES; t++) {
        Parts p;
        Call f = forward_of (&cases[t], &p);
        call (&f);
        check_forward (&cases[t], &p);
        arrays_free ();
    }
}

static void test_attention_gradients (void)
{
    for (int i = 0; i < N_CASES; i++) {
        const Case *t = &cases[i];
        int64_t qw = t->n_heads * t->h, kw = t->n_kv * t->h;
        Parts p;
        Call f = forward_of (t, &p);
        call (&f);
        Array *d_o = normals (t->n, qw, 1), *dq = normals (t->n, qw, 1), *dk = normals (t->m, kw, 1), *dv = normals (t->m, kw, 1);
        Call b = {"attention_bwd", {p.q, p.k, p.v, p.o, p.lse, d_o, p.segments}, {dq, dk, dv}, {{0}}};
        attrs_of (t, b.attrs);
        call (&b);
        check_gradient (&f, 0, d_o, p.q, dq);
        check_gradient (&f, 0, d_o, p.k, dk);
        check_gradient (&f, 0, d_o, p.v, dv);
        arrays_free ();
    }
}

static void copy_rows (Array *to, int64_t to_row, Array *from, int64_t from_row, int64_t n)
{
    size_t w = (size_t)from->shape[1];
    memcpy (num (to) + to_row * (int64_t)w, num (from) + from_row * (int64_t)w, (size_t)n * w * 8);
}

/* Two children of a prefix of 3 against the prompt repeated: forward bits, and summed gradients. */
static void test_shared_prefix_is_repetition (void)
{
    const Case shared = cases[5];
    Case repeated = shared;
    repeated.n = repeated.m = 11;
    repeated.n_segments = 2;
    repeated.segments[0] = (DpsSegment){0, 5, 0, 5, -1, 0, 0, 0};
    repeated.segments[1] = (DpsSegment){5, 6, 5, 6, -1, 0, 0, 0};
    static const int64_t rows[11] = {0, 1, 2, 3, 4, 0, 1, 2, 5, 6, 7};
    Parts a, b;
    Call fa = forward_of (&shared, &a), fb = forward_of (&repeated, &b);
    Array *da = normals (8, 6, 1), *db = zeros (11, 6);
    for (int64_t i = 0; i < 11; i++) {
        copy_rows (b.q, i, a.q, rows[i], 1);
        copy_rows (b.k, i, a.k, rows[i], 1);
        copy_rows (b.v, i, a.v, rows[i], 1);
        if (i < 5 || i >= 8) /* the repeated prompt's own output counts once */
            copy_rows (db, i, da, rows[i], 1);
    }
    call (&fa);
    call (&fb);
    for (int64_t i = 0; i < 11; i++)
        CU_ASSERT_EQUAL (memcmp (num (a.o) + rows[i] * 6, num (b.o) + i * 6, 48), 0);
    Array *ga[3] = {zeros (8, 6), zeros (8, 3), zeros (8, 3)}, *gb[3] = {zeros (11, 6), zeros (11, 3), zeros (11, 3)};
    Call ba = {"attention_bwd", {a.q, a.k, a.v, a.o, a.lse, da, a.segments}, {ga[0], ga[1], ga[2]}, {{0}}};
    Call bb = {"attention_bwd", {b.q, b.k, b.v, b.o, b.lse, db, b.segments}, {gb[0], gb[1], gb[2]}, {{0}}};
    attrs_of (&shared, ba.attrs);
    attrs_of (&repeated, bb.attrs);
    call (&ba);
    call (&bb);
    for (int g = 0; g < 3; g++) {
        Array *sum = zeros (8, ga[g]->shape[1]);
        for (int64_t i = 0; i < 11; i++)
            for (int64_t j = 0; j < sum->shape[1]; j++)
                num (sum)[rows[i] * sum->shape[1] + j] += num (gb[g])[i * sum->shape[1] + j];
        check_close (ga[g], sum, 1e-13);
    }
    arrays_free ();
}

static void test_rope (void)
{
    int64_t h = 6, width = 12;
    const DpsSegment s[] = {{0, 3, 0, 3, -1, 0, 0, 0}, {3, 2, 3, 2, 0, 3, 0, 0}, {5, 1, 5, 1, -1, 40, 0, 0}};
    Array *x = normals (7, width, 1), *y = zeros (7, width), *dy = normals (7, width, 1), *dx = zeros (7, width);
    Array *segments = segment_table (3, s), *inv_freq = zeros (3, -1);
    static const int64_t position[] = {0, 1, 2, 3, 4, 40};
    for (int64_t i = 0; i < 3; i++)
        num (inv_freq)[i] = pow (100, -(double)i / 3);
    Call f = {"rope", {x, segments, inv_freq}, {y}, {{.i = h}, {.i = 0}, {.f = 1.5}}};
    call (&f);
    for (int64_t n = 0; n < 6; n++)
        for (int64_t e = 0; e < width; e++) {
            int64_t i = e % h % 3, other = e % h < 3 ? e + 3 : e - 3;
            double angle = (double)position[n] * num (inv_freq)[i], sign = e % h < 3 ? -1 : 1;
            double want = 1.5 * (num (x)[n * width + e] * cos (angle) + sign * num (x)[n * width + other] * sin (angle));
            CHECK_NEAR (num (y)[n * width + e], want, 1e-13);
        }
    for (int64_t e = 0; e < width; e++)
        CHECK_NEAR (num (y)[6 * width + e], 0, 0);
    call (&(Call){"rope", {dy, segments, inv_freq}, {dx}, {{.i = h}, {.i = 1}, {.f = 1.5}}});
    check_gradient (&f, 0, dy, x, dx);
    arrays_free ();
}

static void test_bad_segments_are_named (void)
{
    DpsError err = DPS_ERROR_INIT;
    static const struct {
        DpsSegment s;
        const char *text;
    } bad[] = {
        {{0, 8, 0, 5, -1, 0, 0, 0}, "segment 1 has queries 0+8 of 7 rows"},
        {{-1, 2, 0, 2, -1, 0, 0, 0}, "segment 1 has queries -1+2"},
        {{0, 2, 6, 2, -1, 0, 0, 0}, "segment 1 has keys 6+2 of 7 rows"},
        {{0, 2, 0, 2, 1, 0, 0, 0}, "segment 1 has parent 1"},
        {{0, 2, 0, 2, -2, 0, 0, 0}, "segment 1 has parent -2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Case t = cases[2];
        t.segments[1] = bad[i].s;
        Parts p;
        Call f = forward_of (&t, &p);
        CHECK_FAILS (call_flags (&f, 0, &err), DPS_ERR_INVALID, bad[i].text);
        arrays_free ();
    }
}

CHECK_MAIN ("ref.attention", T (test_attention_values), T (test_attention_gradients), T (test_shared_prefix_is_repetition), T (test_rope),
            T (test_bad_segments_are_named))
