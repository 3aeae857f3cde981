/* SPDX-License-Identifier: Apache-2.0 */
#include "check/attention_cases.h"

#include <math.h>
#include <string.h>

/*                       q        kv      parent position adapter flags */
const AttentionCase attention_cases[] = {
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
    {"heads of 128", 2, 1, 128, 0, 0, 9, 9, 1, {{0, 9, 0, 9, -1, 0, 0, 0}}},
    {"heads of 256", 2, 1, 256, 5, 0, 70, 70, 2, {{0, 61, 0, 61, -1, 0, 0, 0}, {61, 9, 61, 9, -1, 0, 0, 0}}},
    {"a long sequence", 1, 1, 8, 0, 0, 1100, 1100, 1, {{0, 1100, 0, 1100, -1, 0, 0, 0}}},
    {"scores beyond f32's exponentials", 2, 1, 16, 0, 0, 40, 40, 1, {{0, 40, 0, 40, -1, 0, 0, 0}}},
};
const int n_attention_cases = sizeof attention_cases / sizeof *attention_cases;

AttentionRun attention_run (Kit *k, const AttentionCase *t, uint32_t in, uint32_t out)
{
    const double scale = t == &attention_cases[ATTENTION_SHARP] ? 40 : 1; /* of q, and so of what rounding does to a score, and of dk */
    AttentionRun r = {.segments = kit_segments (k, t->n_segments, t->segments),
                      .length = t->m * (int64_t)(scale * scale),
                      .wide = scale * sqrt ((double)t->h)};
    const DpsScalar attrs[] = {{.i = t->H}, {.i = t->G}, {.i = t->h}, {.f = 0.3}, {.i = t->window}, {.f = t->cap}};
    memcpy (r.attrs, attrs, sizeof attrs);
    r.q = kit_normals (k, in, t->n, t->H * t->h, scale);
    r.k = kit_normals (k, in, t->m, t->G * t->h, 1);
    r.v = kit_normals (k, in, t->m, t->G * t->h, 1);
    r.d_o = kit_normals (k, in, t->n, t->H * t->h, 1);
    r.o = kit_array (k, out, t->n, t->H * t->h);
    r.lse = kit_array (k, F32, t->n, t->H);
    r.dq = kit_array (k, out, t->n, t->H * t->h);
    r.dk = kit_array (k, out, t->m, t->G * t->h);
    r.dv = kit_array (k, out, t->m, t->G * t->h);
    return r;
}

KitCall attention_forward (const AttentionRun *r)
{
    KitCall c = {.name = "attention", .in = {r->q, r->k, r->v, r->segments}, .out = {r->o, r->lse}, .length = r->length};
    memcpy (c.attrs, r->attrs, sizeof r->attrs);
    return c;
}

KitCall attention_backward (const AttentionRun *r)
{
    KitCall c = {.name = "attention_bwd",
                 .in = {r->q, r->k, r->v, r->o, r->lse, r->d_o, r->segments},
                 .out = {r->dq, r->dk, r->dv},
                 .length = r->length,
                 .scale = r->wide};
    memcpy (c.attrs, r->attrs, sizeof r->attrs);
    return c;
}
