/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logprobs.c: log-probs of given tokens without holding S×V numbers: one scored row at a time.
 *
 *     u = softcap (h·Wᵀ)     z = u/T     logp = z[t] − lse (z)     entropy = lse − Σ p·z     p = exp (z − lse)
 *     d logp / d (h·W_v) = c_v = ([v = t] − p_v)/T·(1 − (u_v/cap)²)     dir = Σ_v c_v·W_v     dW_v += dlogp·c_v·h
 *
 * dir makes the adjoint in h a scaling (scale_rows). in[3] of token_logprobs is for backends that pack W; it is not looked at.
 * h·Wᵀ is rounded to f32, as the logits of decoding are, so that row_logprobs of those gives the same bits; f64 operands stay unrounded.
 */
#include "ref.h"

#include <math.h>
#include <string.h>

typedef struct Head {
    int64_t v, d;
    double cap, temperature;
    double *w; /* one row of W */
    double *z; /* (V) */
    int wide;  /* f64 operands: products are not rounded */
} Head;

static DpsStatus prepare_rows (DpsRefCall *c, const DpsView *targets, Head *a)
{
    double t = dps__ref_f (c, 1);
    *a = (Head){.v = c->dim['V'], .d = c->dim['D'], .cap = dps__ref_f (c, 0), .temperature = t == 0 ? 1 : t};
    if (a->v < 1 && c->dim['S'] > 0)
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref %s: the vocabulary is empty", c->name);
    DPS_TRY (dps__ref_indices (c, targets, "targets", a->v));
    return dps__ref_scratch (c, a->v, &a->z);
}

static DpsStatus prepare (DpsRefCall *c, Head *a)
{
    DPS_TRY (prepare_rows (c, c->in[2], a));
    a->wide = c->in[0]->dtype == DPS_DTYPE_F64 || c->in[1]->dtype == DPS_DTYPE_F64;
    return dps__ref_scratch (c, a->d, &a->w);
}

/* z holds the products of one row, and now its logits; returns lse. *best: the first index of the largest. */
static double soften (Head *a, int64_t *best)
{
    *best = 0;
    for (int64_t v = 0; v < a->v; v++) {
        double u = a->z[v];
        if (a->cap != 0)
            u = a->cap * tanh (u / a->cap);
        a->z[v] = u / a->temperature;
        if (a->z[v] > a->z[*best])
            *best = v;
    }
    double top = a->z[*best], sum = 0;
    for (int64_t v = 0; v < a->v; v++)
        sum += exp (a->z[v] - top);
    return top + log (sum);
}

static double logits (const DpsRefCall *c, Head *a, const double *h, int64_t *best)
{
    for (int64_t v = 0; v < a->v; v++) {
        dps__ref_load_weight (c->in[1], v, c->in[0], a->w);
        double u = dps__ref_dot (h, a->w, a->d);
        a->z[v] = a->wide ? u : (double)(float)u;
    }
    return soften (a, best);
}

/* c_v of the head comment. */
static double coefficient (const Head *a, int64_t v, int64_t target, double lse)
{
    double slope = 1, u = a->z[v] * a->temperature;
    if (a->cap != 0)
        slope = 1 - u / a->cap * (u / a->cap);
    return ((v == target) - exp (a->z[v] - lse)) / a->temperature * slope;
}

static void direction (const DpsRefCall *c, Head *a, int64_t target, double lse, double *dir)
{
    memset (dir, 0, (size_t)a->d * sizeof *dir);
    for (int64_t v = 0; v < a->v; v++) {
        double g = coefficient (a, v, target, lse);
        dps__ref_load_weight (c->in[1], v, c->in[0], a->w);
        for (int64_t j = 0; j < a->d; j++)
            dir[j] += g * a->w[j];
    }
}

DpsStatus dps__ref_token_logprobs (DpsRefCall *c)
{
    Head a;
    double *h, *dir;
    DPS_TRY (prepare (c, &a));
    DPS_TRY (dps__ref_scratch (c, a.d, &h));
    DPS_TRY (dps__ref_scratch (c, a.d, &dir));
    for (int64_t s = 0; s < c->dim['S']; s++) {
        int64_t target = dps__ref_index (c->in[2], s), best;
        dps__ref_load (c->in[0], s, h);
        double lse = logits (c, &a, h, &best), mean = 0;
        dps__ref_put (c->out[0], s, a.z[target] - lse);
        for (int64_t v = 0; c->out[1] && v < a.v; v++)
            mean += exp (a.z[v] - lse) * a.z[v];
        if (c->out[1])
            dps__ref_put (c->out[1], s, lse - mean);
        if (c->out[2])
            dps__ref_put (c->out[2], s, target == best);
        if (c->out[3]) {
            direction (c, &a, target, lse, dir);
            dps__ref_store (c->out[3], s, dir);
        }
    }
    return DPS_OK;
}

DpsStatus dps__ref_row_logprobs (DpsRefCall *c)
{
    Head a;
    int64_t best;
    DPS_TRY (prepare_rows (c, c->in[1], &a));
    for (int64_t s = 0; s < c->dim['S']; s++) {
        dps__ref_load (c->in[0], s, a.z);
        double lse = soften (&a, &best);
        dps__ref_put (c->out[0], s, a.z[dps__ref_index (c->in[1], s)] - lse);
    }
    return DPS_OK;
}

/* The adjoint in W. The coefficients of one root are kept, (rows of the root)×V, so that each row of dW gets one partial per root. */
DpsStatus dps__ref_token_logprobs_dw (DpsRefCall *c)
{
    const DpsView *roots = c->in[4];
    Head a;
    int64_t n_roots, longest = 0, best;
    double *h, *g, *partial, *tmp;
    DPS_TRY (prepare (c, &a));
    DPS_TRY (dps__ref_roots (c, roots, c->dim['S'], &n_roots));
    for (int64_t r = 0; r < n_roots; r++) {
        int64_t n = dps__ref_index (roots, r + 1) - dps__ref_index (roots, r);
        longest = n > longest ? n : longest;
    }
    DPS_TRY (dps__ref_matrix (c, c->in[0], &h));
    DPS_TRY (dps__ref_scratch (c, longest * a.v, &g));
    DPS_TRY (dps__ref_scratch (c, a.d, &partial));
    DPS_TRY (dps__ref_scratch (c, a.d, &tmp));
    for (int64_t r = 0; r < n_roots; r++) {
        int64_t first = dps__ref_index (roots, r), n = dps__ref_index (roots, r + 1) - first;
        for (int64_t i = 0; i < n; i++) {
            int64_t target = dps__ref_index (c->in[2], first + i);
            double lse = logits (c, &a, h + (first + i) * a.d, &best), dlogp = dps__ref_at (c->in[3], first + i);
            for (int64_t v = 0; v < a.v; v++)
                g[i * a.v + v] = dlogp * coefficient (&a, v, target, lse);
        }
        for (int64_t v = 0; v < a.v; v++) {
            memset (partial, 0, (size_t)a.d * sizeof *partial);
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < a.d; j++)
                    partial[j] += g[i * a.v + v] * h[(first + i) * a.d + j];
            dps__ref_add_partial (c->out[0], v, partial, tmp);
        }
    }
    return DPS_OK;
}
