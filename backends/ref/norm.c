/* SPDX-License-Identifier: Apache-2.0 */
/*
 * norm.c: RMS norm over consecutive groups of h elements (the whole row, or one head):
 *
 *     rstd = 1/√(mean x² + eps)     x̂ = x·rstd     y = x̂·(w + offset)
 *
 * and its adjoints. With g = dy·(w + offset):  dx = rstd·(g − x̂·mean (g·x̂)),  dw = Σ dy·x̂.
 */
#include "ref.h"

#include <math.h>
#include <string.h>

static DpsStatus check_groups (DpsRefCall *c, const DpsView *rstd)
{
    int64_t d = c->dim['D'], h = c->dim['h'], asked = dps__ref_i (c, 2);
    if (h != (asked ? asked : d))
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref %s: w has %lld elements, expected h = %lld", c->name, (long long)h,
                         (long long)(asked ? asked : d));
    if (h < 1 || d % h)
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref %s: rows of %lld elements do not divide into groups of h = %lld", c->name,
                         (long long)d, (long long)h);
    if (rstd && dps__ref_count (rstd) != c->dim['N'] * (d / h))
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref %s: rstd has %lld elements, expected N·D/h = %lld", c->name,
                         (long long)dps__ref_count (rstd), (long long)(c->dim['N'] * (d / h)));
    return DPS_OK;
}

/* rms_norm has rstd as its second output (absent in inference), rms_norm_dx as its third input. */
DpsStatus dps__ref_rms_norm_check (DpsRefCall *c) { return check_groups (c, c->out[1] ? c->out[1] : c->in[2]); }

DpsStatus dps__ref_rms_norm_dw_check (DpsRefCall *c) { return check_groups (c, c->in[1]); }

DpsStatus dps__ref_rms_norm (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], d = c->dim['D'], h = c->dim['h'], groups = d / h;
    double eps = dps__ref_f (c, 0), offset = dps__ref_f (c, 1), *x, *w;
    DPS_TRY (dps__ref_scratch (c, d, &x));
    DPS_TRY (dps__ref_matrix (c, c->in[1], &w));
    for (int64_t n = 0; n < n_rows; n++) {
        dps__ref_load (c->in[0], n, x);
        for (int64_t g = 0; g < groups; g++) {
            double *xg = x + g * h;
            double rstd = 1 / sqrt (dps__ref_dot (xg, xg, h) / (double)h + eps);
            if (c->out[1])
                dps__ref_put (c->out[1], n * groups + g, rstd);
            for (int64_t j = 0; j < h; j++)
                xg[j] *= rstd * (w[j] + offset);
        }
        dps__ref_store (c->out[0], n, x);
    }
    return DPS_OK;
}

DpsStatus dps__ref_rms_norm_dx (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], d = c->dim['D'], h = c->dim['h'], groups = d / h;
    double offset = dps__ref_f (c, 1), *x, *w, *dy, *dx;
    DPS_TRY (dps__ref_scratch (c, d, &x));
    DPS_TRY (dps__ref_scratch (c, d, &dy));
    DPS_TRY (dps__ref_scratch (c, d, &dx));
    DPS_TRY (dps__ref_matrix (c, c->in[1], &w));
    for (int64_t n = 0; n < n_rows; n++) {
        dps__ref_load (c->in[0], n, x);
        dps__ref_load (c->in[3], n, dy);
        memset (dx, 0, (size_t)d * sizeof *dx);
        if (c->in[4])
            dps__ref_load (c->in[4], n, dx);
        for (int64_t g = 0; g < groups; g++) {
            double rstd = dps__ref_at (c->in[2], n * groups + g), *xg = x + g * h, *dyg = dy + g * h;
            for (int64_t j = 0; j < h; j++) {
                xg[j] *= rstd;
                dyg[j] *= w[j] + offset;
            }
            double mean = dps__ref_dot (dyg, xg, h) / (double)h;
            for (int64_t j = 0; j < h; j++)
                dx[g * h + j] += rstd * (dyg[j] - xg[j] * mean);
        }
        dps__ref_store (c->out[0], n, dx);
    }
    return DPS_OK;
}

DpsStatus dps__ref_rms_norm_dw (DpsRefCall *c)
{
    const DpsView *roots = c->in[3];
    int64_t d = c->dim['D'], h = c->dim['h'], groups = d / h, n_roots;
    double *x, *dy, *dw;
    DPS_TRY (dps__ref_roots (c, roots, c->dim['N'], &n_roots));
    DPS_TRY (dps__ref_scratch (c, d, &x));
    DPS_TRY (dps__ref_scratch (c, d, &dy));
    DPS_TRY (dps__ref_scratch (c, h, &dw));
    for (int64_t r = 0; r < n_roots; r++) {
        memset (dw, 0, (size_t)h * sizeof *dw);
        for (int64_t n = dps__ref_index (roots, r); n < dps__ref_index (roots, r + 1); n++) {
            dps__ref_load (c->in[0], n, x);
            dps__ref_load (c->in[2], n, dy);
            for (int64_t g = 0; g < groups; g++) {
                double rstd = dps__ref_at (c->in[1], n * groups + g);
                for (int64_t j = 0; j < h; j++)
                    dw[j] += dy[g * h + j] * x[g * h + j] * rstd;
            }
        }
        dps__ref_add_partial (c->out[0], 0, dw, x);
    }
    return DPS_OK;
}
