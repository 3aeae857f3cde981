/* SPDX-License-Identifier: Apache-2.0 */
/* simple.c: what fused ops are made of when they are taken apart: range, row_max, one_hot, segment_mask, rope_angles. */
#include "ref.h"

#include <math.h>
#include <string.h>

DpsStatus dps__ref_range (DpsRefCall *c)
{
    const DpsView *y = c->out[0];
    int64_t first = dps__ref_i (c, 0), step = dps__ref_i (c, 1), last, n = c->dim['n'];
    if (n && (__builtin_mul_overflow (step, n - 1, &last) || __builtin_add_overflow (first, last, &last) || first != (int32_t)first ||
              last != (int32_t)last))
        return dps_fail (c->err, DPS_ERR_INVALID, "ref range: %lld numbers from %lld in steps of %lld leave int32", (long long)n,
                         (long long)first, (long long)step);
    for (int64_t i = 0; i < c->dim['n']; i++)
        dps__ref_put (y, i, (double)(first + step * i));
    return DPS_OK;
}

/* A row of no columns: 0, in column 0. */
DpsStatus dps__ref_row_max (DpsRefCall *c)
{
    int64_t d = c->dim['D'];
    double *x;
    DPS_TRY (dps__ref_scratch (c, d, &x));
    for (int64_t n = 0; n < c->dim['N']; n++) {
        int64_t at = 0;
        dps__ref_load (c->in[0], n, x);
        for (int64_t j = 1; j < d; j++)
            at = x[j] > x[at] ? j : at;
        double largest = d ? x[at] : 0;
        dps__ref_store (c->out[0], n, &largest);
        if (c->out[1])
            dps__ref_put (c->out[1], n, (double)at);
    }
    return DPS_OK;
}

DpsStatus dps__ref_one_hot (DpsRefCall *c)
{
    double *row;
    DPS_TRY (dps__ref_indices (c, c->in[0], "ids", c->dim['V']));
    DPS_TRY (dps__ref_scratch (c, c->dim['V'], &row));
    for (int64_t n = 0; n < c->dim['N']; n++) {
        int64_t at = dps__ref_index (c->in[0], n);
        row[at] = 1;
        dps__ref_store (c->out[0], n, row);
        row[at] = 0;
    }
    return DPS_OK;
}

DpsStatus dps__ref_segment_mask (DpsRefCall *c)
{
    int64_t n_q = c->dim['N'], n_kv = c->dim['M'], window = dps__ref_i (c, 0), n_segments;
    const DpsSegment *table;
    double *y;
    void *scratch;
    if (window < 0)
        return dps_fail (c->err, DPS_ERR_INVALID, "ref segment_mask: window is %lld", (long long)window);
    DPS_TRY (dps__ref_segments (c, c->in[0], n_q, n_kv, &table, &n_segments));
    DPS_TRY (dps__ref_scratch (c, n_q * n_kv, &y));
    DPS_TRY (dps__ref_scratch_bytes (c, n_kv, (int64_t)sizeof (int64_t), &scratch));
    int64_t *rows = scratch;
    for (int64_t s = 0; s < n_segments; s++)
        for (int64_t i = 0; i < table[s].q_len; i++) {
            int64_t seen = dps__ref_visible (table, s, i, window, rows);
            for (int64_t k = 0; k < seen; k++)
                y[(table[s].q_start + i) * n_kv + rows[k]] = 1;
        }
    for (int64_t n = 0; n < n_q; n++)
        dps__ref_store (c->out[0], n, y + n * n_kv);
    return DPS_OK;
}

DpsStatus dps__ref_rope_angles (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], f = c->dim['f'], n_segments;
    const DpsSegment *table;
    double *inv_freq, *both[2];
    DPS_TRY (dps__ref_segments (c, c->in[0], n_rows, -1, &table, &n_segments));
    DPS_TRY (dps__ref_matrix (c, c->in[1], &inv_freq));
    for (int k = 0; k < 2; k++)
        DPS_TRY (dps__ref_scratch (c, n_rows * f, &both[k]));
    for (int64_t s = 0; s < n_segments; s++)
        for (int64_t i = 0; i < table[s].q_len; i++)
            for (int64_t j = 0; j < f; j++) {
                double angle = (double)(table[s].position + i) * inv_freq[j];
                both[0][(table[s].q_start + i) * f + j] = cos (angle);
                both[1][(table[s].q_start + i) * f + j] = sin (angle);
            }
    for (int k = 0; k < 2; k++)
        for (int64_t n = 0; n < n_rows; n++)
            dps__ref_store (c->out[k], n, both[k] + n * f);
    return DPS_OK;
}
