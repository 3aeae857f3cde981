/* SPDX-License-Identifier: Apache-2.0 */
/* gates.c: y = act (gate)·up with act the tanh form of GELU (geglu) or SiLU (swiglu), and the gradients of both factors. */
#include "ref.h"

#include <math.h>

/* act (x), and its derivative in *slope. */
typedef double (*Activation) (double x, double *slope);

static double gelu_tanh (double x, double *slope)
{
    const double k = 0.79788456080286535588 /* √(2/π) */, cubic = 0.044715;
    double t = tanh (k * (x + cubic * x * x * x));
    *slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * cubic * x * x);
    return 0.5 * x * (1 + t);
}

static double silu (double x, double *slope)
{
    double s = 1 / (1 + exp (-x));
    *slope = s * (1 + x * (1 - s));
    return x * s;
}

static DpsStatus gate (DpsRefCall *c, Activation act)
{
    int64_t n_rows = c->dim['N'], d = c->dim['D'];
    double *g, *up, slope;
    DPS_TRY (dps__ref_scratch (c, d, &g));
    DPS_TRY (dps__ref_scratch (c, d, &up));
    for (int64_t n = 0; n < n_rows; n++) {
        dps__ref_load (c->in[0], n, g);
        dps__ref_load (c->in[1], n, up);
        for (int64_t j = 0; j < d; j++)
            up[j] *= act (g[j], &slope);
        dps__ref_store (c->out[0], n, up);
    }
    return DPS_OK;
}

static DpsStatus gate_bwd (DpsRefCall *c, Activation act)
{
    int64_t n_rows = c->dim['N'], d = c->dim['D'];
    double *g, *up, *dy, slope;
    DPS_TRY (dps__ref_scratch (c, d, &g));
    DPS_TRY (dps__ref_scratch (c, d, &up));
    DPS_TRY (dps__ref_scratch (c, d, &dy));
    for (int64_t n = 0; n < n_rows; n++) {
        dps__ref_load (c->in[0], n, g);
        dps__ref_load (c->in[1], n, up);
        dps__ref_load (c->in[2], n, dy);
        for (int64_t j = 0; j < d; j++) {
            double a = act (g[j], &slope);
            g[j] = dy[j] * up[j] * slope;
            up[j] = dy[j] * a;
        }
        dps__ref_store (c->out[0], n, g);
        dps__ref_store (c->out[1], n, up);
    }
    return DPS_OK;
}

DpsStatus dps__ref_geglu (DpsRefCall *c) { return gate (c, gelu_tanh); }

DpsStatus dps__ref_swiglu (DpsRefCall *c) { return gate (c, silu); }

DpsStatus dps__ref_geglu_bwd (DpsRefCall *c) { return gate_bwd (c, gelu_tanh); }

DpsStatus dps__ref_swiglu_bwd (DpsRefCall *c) { return gate_bwd (c, silu); }
