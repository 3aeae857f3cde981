/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rope.c: rotary position embedding, halves rotated: for i < h/2 and angle = position·inv_freq[i]
 *
 *     y[i]       = scale·(x[i]·cos − x[i+h/2]·sin)
 *     y[i+h/2]   = scale·(x[i+h/2]·cos + x[i]·sin)
 *
 * The adjoint is the rotation by −angle (attr inverse). Rows of no segment become zero.
 */
#include "ref.h"

#include <math.h>
#include <string.h>

DpsStatus dps__ref_rope_check (DpsRefCall *c)
{
    int64_t h = dps__ref_i (c, 0);
    if (h < 2 || h % 2 || c->dim['Q'] % h)
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref rope: rows of %lld elements do not divide into heads of an even width h = %lld",
                         (long long)c->dim['Q'], (long long)h);
    if (c->dim['f'] != h / 2)
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref rope: inv_freq has %lld elements, expected h/2 = %lld", (long long)c->dim['f'],
                         (long long)(h / 2));
    return DPS_OK;
}

static void rotate (double *x, int64_t half, const double *inv_freq, double position, double scale)
{
    for (int64_t i = 0; i < half; i++) {
        double cosine = scale * cos (position * inv_freq[i]), sine = scale * sin (position * inv_freq[i]);
        double a = x[i], b = x[i + half];
        x[i] = a * cosine - b * sine;
        x[i + half] = b * cosine + a * sine;
    }
}

DpsStatus dps__ref_rope (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], width = c->dim['Q'], h = dps__ref_i (c, 0), n_segments;
    double sign = dps__ref_i (c, 1) ? -1 : 1, scale = dps__ref_f (c, 2) == 0 ? 1 : dps__ref_f (c, 2), *x, *inv_freq;
    const DpsSegment *table;
    DPS_TRY (dps__ref_segments (c, c->in[1], n_rows, -1, &table, &n_segments));
    DPS_TRY (dps__ref_matrix (c, c->in[2], &inv_freq));
    DPS_TRY (dps__ref_scratch (c, n_rows * width, &x));
    for (int64_t s = 0; s < n_segments; s++)
        for (int64_t i = 0; i < table[s].q_len; i++) {
            double *row = x + (table[s].q_start + i) * width;
            dps__ref_load (c->in[0], table[s].q_start + i, row);
            for (int64_t head = 0; head < width / h; head++)
                rotate (row + head * h, h / 2, inv_freq, sign * (double)(table[s].position + i), scale);
        }
    for (int64_t n = 0; n < n_rows; n++)
        dps__ref_store (c->out[0], n, x + n * width);
    return DPS_OK;
}
