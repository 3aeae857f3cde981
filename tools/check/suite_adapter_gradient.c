/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_adapter_gradient.c: what an adapter learns by. Its forward is recorded in the host's graph and differentiated there; the gradients must be those
 * of differences, must lead downhill though divisors and weight norms count as constants, and must leave no parameter where it starts.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "check/attached.h"

enum { SAMPLED = 48 /* elements of a tensor that differences are taken of */ };

/* L = Σ rows[n]·y[n,o]·cols[o]. */
typedef struct Loss {
    float rows[N], cols[LONG];
    CheckHeld held;
} Loss;

/* In f64, on the builder that computes at once. held: divisors and norms are those that were kept. */
static DpsStatus loss (const Attached *a, Loss *l, int held, double *out, DpsError *err)
{
    struct DpsBuilder b = {.held = held ? &l->held : NULL};
    double y[MOST_Y];
    l->held.n = 0;
    DPS_TRY (attached_forward_with (a, &b, 0, N, y, err));
    *out = 0;
    for (int64_t i = 0; i < N * O; i++)
        *out += (double)l->rows[i / O] * y[i] * (double)l->cols[i % O];
    return DPS_OK;
}

static DpsStatus loss_begin (const Attached *a, Loss *l, DpsError *err)
{
    double at;
    for (int64_t i = 0; i < N; i++)
        l->rows[i] = (float)dps_rng_normal (a->ctx->seed, 3, (uint64_t)i);
    for (int64_t i = 0; i < O; i++)
        l->cols[i] = (float)dps_rng_normal (a->ctx->seed, 4, (uint64_t)i);
    l->held.keep = 1;
    DPS_TRY (loss (a, l, 1, &at, err));
    l->held.keep = 0;
    return DPS_OK;
}

/* dL/d(*at), divisors and norms held; *at is put back. */
static DpsStatus slope_f32 (const Attached *a, Loss *l, float *at, double *out, DpsError *err)
{
    const float kept = *at, h = 0x1p-10f;
    double up, down;
    *at = kept + h;
    const double above = (double)*at;
    DPS_TRY (loss (a, l, 1, &up, err));
    *at = kept - h;
    const double below = (double)*at;
    DPS_TRY (loss (a, l, 1, &down, err));
    *at = kept;
    *out = (up - down) / (above - below);
    return DPS_OK;
}

static DpsStatus slope_x (Attached *a, Loss *l, int64_t i, double *out, DpsError *err)
{
    const double kept = a->x[i], h = 0x1p-10;
    double up, down;
    a->x[i] = kept + h;
    DPS_TRY (loss (a, l, 1, &up, err));
    a->x[i] = kept - h;
    DPS_TRY (loss (a, l, 1, &down, err));
    a->x[i] = kept;
    *out = (up - down) / (2 * h);
    return DPS_OK;
}

/* Of parameter p, or of x where p is that of no parameter. */
static DpsStatus differences (Attached *a, Loss *l, const AttachedGrads *g, uint32_t p, DpsError *err)
{
    const int is_x = p == a->n;
    const int64_t n = is_x ? N * K : attached_elements (&a->layout[p]), stride = n / SAMPLED + 1;
    const float *got = is_x ? g->x : g->params[p];
    double slope[SAMPLED], most = 1e-6;
    for (int64_t i = 0; i * stride < n; i++) {
        DPS_TRY (is_x ? slope_x (a, l, i * stride, &slope[i], err) : slope_f32 (a, l, &a->values[p][i * stride], &slope[i], err));
        most = fmax (most, fabs (slope[i]));
    }
    for (int64_t i = 0; i * stride < n; i++)
        if (!(fabs ((double)got[i * stride] - slope[i]) <= 1e-4 * most))
            return dps_fail (err, DPS_ERR_INVALID, "d(loss)/d(%s %lld): the host's adjoints say %.9g, differences %.9g",
                             is_x ? "x" : a->layout[p].suffix, (long long)(i * stride), (double)got[i * stride], slope[i]);
    return DPS_OK;
}

static DpsStatus gradient_look (Attached *a, DpsError *err)
{
    static Loss l;
    AttachedGrads g;
    for (int64_t i = 0; i < N * K; i++)
        a->x[i] = (double)(float)a->x[i]; /* what both sides see */
    DPS_TRY (loss_begin (a, &l, err));
    DpsStatus st = attached_gradients (a, l.rows, l.cols, &g, err);
    for (uint32_t p = 0; st == DPS_OK && p <= a->n; p++)
        st = differences (a, &l, &g, p, err);
    attached_gradients_drop (&g);
    return st;
}

static double length (const float *v, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    return sqrt (sum);
}

static void move (float *v, const float *from, const float *along, int64_t n, double by)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)((double)from[i] + by * (double)along[i]);
}

/* A step of parameter p against its gradient lowers the loss, nothing held. */
static DpsStatus leads_down (Attached *a, Loss *l, const float *g, uint32_t p, DpsError *err)
{
    const int64_t n = attached_elements (&a->layout[p]);
    const double size = length (g, n);
    double up, down;
    if (size == 0)
        return dps_fail (err, DPS_ERR_INVALID, "the gradient of %s is 0: every way from it to y leads through a divisor or a norm",
                         a->layout[p].suffix);
    float *kept = dps_copy (a->values[p], (size_t)n, sizeof *kept);
    if (!kept)
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    move (a->values[p], kept, g, n, 0x1p-7 / size);
    DpsStatus st = loss (a, l, 0, &up, err);
    move (a->values[p], kept, g, n, -0x1p-7 / size);
    if (st == DPS_OK)
        st = loss (a, l, 0, &down, err);
    memcpy (a->values[p], kept, (size_t)n * sizeof *kept);
    dps_free (kept);
    if (st == DPS_OK && !(up > down))
        st = dps_fail (err, DPS_ERR_INVALID,
                       "the gradient of %s leads uphill: a small step along it gives a loss of %.9g, against it of %.9g",
                       a->layout[p].suffix, up, down);
    return st;
}

static DpsStatus downhill_look (Attached *a, DpsError *err)
{
    static Loss l;
    AttachedGrads g;
    DPS_TRY (loss_begin (a, &l, err));
    DpsStatus st = attached_gradients (a, l.rows, l.cols, &g, err);
    for (uint32_t p = 0; st == DPS_OK && p < a->n; p++)
        st = leads_down (a, &l, g.params[p], p, err);
    attached_gradients_drop (&g);
    return st;
}

/* A fresh one, three steps: LoRA's A gets a gradient once B has moved. Two factors that both start at 0 never get one. */
static DpsStatus leaves_start_look (Attached *a, DpsError *err)
{
    static Loss l;
    int moved[CHECK_MAX_PARAMS] = {0};
    DPS_TRY (loss_begin (a, &l, err));
    for (int step = 0; step < 3; step++) {
        AttachedGrads g;
        DpsStatus st = attached_gradients (a, l.rows, l.cols, &g, err);
        for (uint32_t p = 0; st == DPS_OK && p < a->n; p++) {
            const int64_t n = attached_elements (&a->layout[p]);
            const double size = length (g.params[p], n);
            moved[p] |= size > 0;
            move (a->values[p], a->values[p], g.params[p], n, size > 0 ? -0.1 / size : 0);
        }
        attached_gradients_drop (&g);
        DPS_TRY (st);
    }
    for (uint32_t p = 0; p < a->n; p++)
        if (!moved[p])
            return dps_fail (err, DPS_ERR_INVALID,
                             "a fresh %s gets no gradient in three steps: it starts at 0 beside what it is multiplied by",
                             a->layout[p].suffix);
    return DPS_OK;
}

static const CheckCase cases[] = {
    ATTACHED_LOOK (gradient, 0, 1),
    ATTACHED_LOOK (downhill, 0, 0),
    ATTACHED_LOOK (leaves_start, 1, 0),
};

const CheckSuite check_suite_adapter_gradient = {.name = "adapter.gradient",
                                                 .interface_id = DPS_ADAPTER_ID,
                                                 .summary = "what an adapter learns by: the host's adjoints against differences",
                                                 .cases = cases,
                                                 .n_cases = sizeof cases / sizeof *cases};
