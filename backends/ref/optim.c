/* SPDX-License-Identifier: Apache-2.0 */
/* optim.c: sumsq (for the gradient norm), adamw_step and sgd_step. Moments and weights are read, updated and rounded once. */
#include "ref.h"

#include <math.h>

enum { SUMSQ_CHUNK = 65536 };

DpsStatus dps__ref_sumsq (DpsRefCall *c)
{
    int64_t n = dps__ref_count (c->in[0]);
    double total = 0;
    for (int64_t first = 0; first < n; first += SUMSQ_CHUNK) {
        double chunk = 0;
        for (int64_t i = first; i < n && i < first + SUMSQ_CHUNK; i++) {
            double x = dps__ref_at (c->in[0], i);
            chunk += x * x;
        }
        total += chunk;
    }
    dps__ref_put (c->out[0], 0, total);
    return DPS_OK;
}

/* 0 is a missing attribute: gradients as they are. */
static double grad_scale (const DpsRefCall *c) { return dps__ref_f (c, 6) == 0 ? 1 : dps__ref_f (c, 6); }

/*
 * AdamW with decoupled decay (arXiv:1711.05101), bias-corrected, in the order torch.optim.AdamW computes:
 *     p ← p·(1 − lr·wd);  m ← β1·m + (1−β1)·g;  v ← β2·v + (1−β2)·g²;  p ← p − lr·(m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + eps)
 */
DpsStatus dps__ref_adamw_step (DpsRefCall *c)
{
    double lr = dps__ref_f (c, 0), b1 = dps__ref_f (c, 1), b2 = dps__ref_f (c, 2), eps = dps__ref_f (c, 3), decay = dps__ref_f (c, 4);
    double t = (double)dps__ref_i (c, 5), scale = grad_scale (c), fix1 = 1 - pow (b1, t), fix2 = 1 - pow (b2, t);
    int64_t n = dps__ref_count (c->in[0]);
    if (t < 1)
        return dps_fail (c->err, DPS_ERR_INVALID, "ref adamw_step: t is %lld, expected 1 for the first step", (long long)dps__ref_i (c, 5));
    for (int64_t i = 0; i < n; i++) {
        double p = dps__ref_at (c->in[0], i), g = dps__ref_at (c->in[1], i) * scale;
        double m = b1 * dps__ref_at (c->in[2], i) + (1 - b1) * g;
        double v = b2 * dps__ref_at (c->in[3], i) + (1 - b2) * g * g;
        p -= lr * decay * p;
        p -= lr * (m / fix1) / (sqrt (v / fix2) + eps);
        dps__ref_put (c->out[0], i, p);
        dps__ref_put (c->out[1], i, m);
        dps__ref_put (c->out[2], i, v);
        if (c->out[3])
            dps__ref_put (c->out[3], i, dps__ref_at (c->out[0], i));
    }
    return DPS_OK;
}

/* As torch.optim.SGD without dampening: g ← g + wd·p;  m ← momentum·m + g;  p ← p − lr·m. Without m there is no momentum. */
DpsStatus dps__ref_sgd_step (DpsRefCall *c)
{
    double lr = dps__ref_f (c, 0), momentum = dps__ref_f (c, 1), decay = dps__ref_f (c, 4), scale = grad_scale (c);
    int64_t n = dps__ref_count (c->in[0]);
    if (!c->in[2] != !c->out[1])
        return dps_fail (c->err, DPS_ERR_INVALID, "ref sgd_step: m must be both an input and an output, or neither");
    for (int64_t i = 0; i < n; i++) {
        double p = dps__ref_at (c->in[0], i), g = dps__ref_at (c->in[1], i) * scale + decay * p;
        if (c->in[2]) {
            g += momentum * dps__ref_at (c->in[2], i);
            dps__ref_put (c->out[1], i, g);
        }
        dps__ref_put (c->out[0], i, p - lr * g);
        if (c->out[2])
            dps__ref_put (c->out[2], i, dps__ref_at (c->out[0], i));
    }
    return DPS_OK;
}
