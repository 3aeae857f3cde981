/* SPDX-License-Identifier: Apache-2.0 */
/* linear.c: y = alpha·x·Wᵀ + bias + c with W (O,K), its three adjoints, and the norm DoRA divides by. */
#include "ref.h"

#include <float.h>
#include <math.h>
#include <string.h>

static double alpha_of (const DpsRefCall *c) { return dps__ref_f (c, 0) == 0 ? 1 : dps__ref_f (c, 0); }

/* W is loaded row by row, once: it may be the largest matrix of the model. */
DpsStatus dps__ref_linear (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], k = c->dim['K'], o = c->dim['O'];
    double alpha = alpha_of (c), *x, *w, *y, *add;
    DPS_TRY (dps__ref_matrix (c, c->in[0], &x));
    DPS_TRY (dps__ref_scratch (c, k, &w));
    DPS_TRY (dps__ref_scratch (c, n_rows * o, &y));
    DPS_TRY (dps__ref_scratch (c, o, &add));
    for (int64_t i = 0; i < o; i++) {
        dps__ref_load_weight (c->in[1], i, c->in[0], w);
        double bias = c->in[2] ? dps__ref_at (c->in[2], i) : 0;
        for (int64_t n = 0; n < n_rows; n++)
            y[n * o + i] = alpha * dps__ref_dot (x + n * k, w, k) + bias;
    }
    for (int64_t n = 0; n < n_rows; n++) {
        if (c->in[3])
            dps__ref_load (c->in[3], n, add);
        for (int64_t i = 0; i < o; i++)
            y[n * o + i] += add[i];
        dps__ref_store (c->out[0], n, y + n * o);
    }
    return DPS_OK;
}

DpsStatus dps__ref_linear_dx (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], k = c->dim['K'], o = c->dim['O'];
    double alpha = alpha_of (c), *dy, *w, *dx, *add;
    DPS_TRY (dps__ref_matrix (c, c->in[0], &dy));
    DPS_TRY (dps__ref_scratch (c, k, &w));
    DPS_TRY (dps__ref_scratch (c, n_rows * k, &dx));
    DPS_TRY (dps__ref_scratch (c, k, &add));
    for (int64_t i = 0; i < o; i++) {
        dps__ref_load_weight (c->in[1], i, c->out[0], w);
        for (int64_t n = 0; n < n_rows; n++) {
            double g = alpha * dy[n * o + i];
            for (int64_t j = 0; j < k; j++)
                dx[n * k + j] += g * w[j];
        }
    }
    for (int64_t n = 0; n < n_rows; n++) {
        if (c->in[2])
            dps__ref_load (c->in[2], n, add);
        for (int64_t j = 0; j < k; j++)
            dx[n * k + j] += add[j];
        dps__ref_store (c->out[0], n, dx + n * k);
    }
    return DPS_OK;
}

DpsStatus dps__ref_linear_dw (DpsRefCall *c)
{
    const DpsView *roots = c->in[2];
    int64_t k = c->dim['K'], o = c->dim['O'], n_roots;
    double alpha = alpha_of (c), *dy, *x, *partial, *tmp;
    DPS_TRY (dps__ref_roots (c, roots, c->dim['N'], &n_roots));
    DPS_TRY (dps__ref_matrix (c, c->in[0], &dy));
    DPS_TRY (dps__ref_matrix (c, c->in[1], &x));
    DPS_TRY (dps__ref_scratch (c, k, &partial));
    DPS_TRY (dps__ref_scratch (c, k, &tmp));
    for (int64_t r = 0; r < n_roots; r++) {
        int64_t first = dps__ref_index (roots, r), end = dps__ref_index (roots, r + 1);
        for (int64_t i = 0; i < o; i++) {
            memset (partial, 0, (size_t)k * sizeof *partial);
            for (int64_t n = first; n < end; n++) {
                double g = alpha * dy[n * o + i];
                for (int64_t j = 0; j < k; j++)
                    partial[j] += g * x[n * k + j];
            }
            dps__ref_add_partial (c->out[0], i, partial, tmp);
        }
    }
    return DPS_OK;
}

DpsStatus dps__ref_bias_db (DpsRefCall *c)
{
    const DpsView *roots = c->in[1];
    int64_t o = c->dim['O'], n_roots;
    double *dy, *partial;
    DPS_TRY (dps__ref_roots (c, roots, c->dim['N'], &n_roots));
    DPS_TRY (dps__ref_scratch (c, o, &dy));
    DPS_TRY (dps__ref_scratch (c, o, &partial));
    for (int64_t r = 0; r < n_roots; r++) {
        memset (partial, 0, (size_t)o * sizeof *partial);
        for (int64_t n = dps__ref_index (roots, r); n < dps__ref_index (roots, r + 1); n++) {
            dps__ref_load (c->in[0], n, dy);
            for (int64_t i = 0; i < o; i++)
                partial[i] += dy[i];
        }
        dps__ref_add_partial (c->out[0], 0, partial, dy);
    }
    return DPS_OK;
}

DpsStatus dps__ref_dora_norm_check (DpsRefCall *c)
{
    if (c->out[0] && !c->in[3])
        return dps_fail (c->err, DPS_ERR_INVALID, "ref dora_norm: v = m/norm is wanted, but m is missing");
    return DPS_OK;
}

/* norm = ‖W + s·B·A‖ per output row, v = m/norm. Never differentiated: DoRA (arXiv:2402.09353, section 4.3) takes it as a constant. */
DpsStatus dps__ref_dora_norm (DpsRefCall *c)
{
    int64_t k = c->dim['K'], o = c->dim['O'], rank = c->dim['r'];
    double s = dps__ref_f (c, 0), *w, *a, *b;
    DPS_TRY (dps__ref_scratch (c, k, &w));
    DPS_TRY (dps__ref_matrix (c, c->in[1], &a));
    DPS_TRY (dps__ref_scratch (c, rank, &b));
    for (int64_t i = 0; i < o; i++) {
        dps__ref_load (c->in[0], i, w);
        dps__ref_load (c->in[2], i, b);
        for (int64_t t = 0; t < rank; t++)
            for (int64_t j = 0; j < k; j++)
                w[j] += s * b[t] * a[t * k + j];
        double norm = sqrt (dps__ref_dot (w, w, k));
        norm = norm < FLT_MIN ? FLT_MIN : norm; /* a NaN stays */
        if (c->out[0])
            dps__ref_put (c->out[0], i, dps__ref_at (c->in[3], i) / norm);
        if (c->out[1])
            dps__ref_put (c->out[1], i, norm);
    }
    return DPS_OK;
}
