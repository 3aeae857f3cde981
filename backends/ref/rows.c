/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c: ops that move whole rows by an index table: embed, gather_rows, scatter_rows, put_rows. */
#include "ref.h"

#include <string.h>

DpsStatus dps__ref_embed (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], d = c->dim['D'];
    double *row, scale = dps__ref_f (c, 0) == 0 ? 1 : dps__ref_f (c, 0);
    DPS_TRY (dps__ref_indices (c, c->in[1], "ids", c->dim['V']));
    DPS_TRY (dps__ref_scratch (c, d, &row));
    for (int64_t n = 0; n < n_rows; n++) {
        dps__ref_load (c->in[0], dps__ref_index (c->in[1], n), row);
        for (int64_t j = 0; j < d; j++)
            row[j] *= scale;
        dps__ref_store (c->out[0], n, row);
    }
    return DPS_OK;
}

/* One partial per (root, id): the rows of the root that read this id, in order. */
DpsStatus dps__ref_embed_dw (DpsRefCall *c)
{
    const DpsView *dy = c->in[0], *ids = c->in[1], *roots = c->in[2];
    int64_t d = c->dim['D'], n_roots;
    double *row, *partial, scale = dps__ref_f (c, 0) == 0 ? 1 : dps__ref_f (c, 0);
    void *done;
    DPS_TRY (dps__ref_indices (c, ids, "ids", c->dim['V']));
    DPS_TRY (dps__ref_roots (c, roots, c->dim['N'], &n_roots));
    DPS_TRY (dps__ref_scratch (c, d, &row));
    DPS_TRY (dps__ref_scratch (c, d, &partial));
    DPS_TRY (dps__ref_scratch_bytes (c, c->dim['N'], 1, &done));
    for (int64_t r = 0; r < n_roots; r++) {
        int64_t end = dps__ref_index (roots, r + 1);
        for (int64_t n = dps__ref_index (roots, r); n < end; n++) {
            if (((uint8_t *)done)[n])
                continue;
            int64_t id = dps__ref_index (ids, n);
            memset (partial, 0, (size_t)d * sizeof *partial);
            for (int64_t m = n; m < end; m++) {
                if (dps__ref_index (ids, m) != id)
                    continue;
                ((uint8_t *)done)[m] = 1;
                dps__ref_load (dy, m, row);
                for (int64_t j = 0; j < d; j++)
                    partial[j] += scale * row[j];
            }
            dps__ref_add_partial (c->out[0], id, partial, row);
        }
    }
    return DPS_OK;
}

DpsStatus dps__ref_gather_rows (DpsRefCall *c)
{
    double *row;
    DPS_TRY (dps__ref_indices (c, c->in[1], "rows", c->dim['N']));
    DPS_TRY (dps__ref_scratch (c, c->dim['D'], &row));
    for (int64_t s = 0; s < c->dim['S']; s++) {
        dps__ref_load (c->in[0], dps__ref_index (c->in[1], s), row);
        dps__ref_store (c->out[0], s, row);
    }
    return DPS_OK;
}

/* The adjoint of gather_rows: a row gathered twice receives both gradients. */
DpsStatus dps__ref_scatter_rows (DpsRefCall *c)
{
    int64_t n_rows = c->dim['N'], d = c->dim['D'];
    double *dx, *dy;
    DPS_TRY (dps__ref_indices (c, c->in[1], "rows", n_rows));
    DPS_TRY (dps__ref_scratch (c, n_rows * d, &dx));
    DPS_TRY (dps__ref_scratch (c, d, &dy));
    for (int64_t s = 0; s < c->dim['S']; s++) {
        double *to = dx + dps__ref_index (c->in[1], s) * d;
        dps__ref_load (c->in[0], s, dy);
        for (int64_t j = 0; j < d; j++)
            to[j] += dy[j];
    }
    for (int64_t n = 0; n < n_rows; n++)
        dps__ref_store (c->out[0], n, dx + n * d);
    return DPS_OK;
}

DpsStatus dps__ref_put_rows (DpsRefCall *c)
{
    double *row;
    DPS_TRY (dps__ref_indices (c, c->in[1], "rows", c->dim['M']));
    DPS_TRY (dps__ref_scratch (c, c->dim['D'], &row));
    for (int64_t n = 0; n < c->dim['N']; n++) {
        dps__ref_load (c->in[0], n, row);
        dps__ref_store (c->out[0], dps__ref_index (c->in[1], n), row);
    }
    return DPS_OK;
}
