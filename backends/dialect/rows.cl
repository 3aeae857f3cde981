/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.cl: whole rows by an index table: embed, embed_dw, gather_rows, scatter_rows, put_rows; and range, one_hot, row_max.
 * Geometry: one group a row (embed_dw: a token; scatter_rows: a row of the result), its columns over the lanes; range: flat; row_max: flat over rows.
 * Exact: gathering moves numbers; sums over rows go in the order of the rows. An index out of range writes nothing (gather_rows, embed: zeros).
 */

/* y[n] = scale·x[rows[n]]. */
KERNEL (dps_take_rows) (IN (x), IN_OF (i32, rows), OUT (y), float scale, i64 n_x, i64 d)
{
    i64 row = AT (rows, GROUP (0)), to = GROUP (0) * d;
    float v[8];
    int there = row >= 0 && row < n_x;
    for (i64 j = LANE * 8; j + 8 <= d; j += DPS_LANES * 8) {
        if (there)
            LOAD8 (x, row * d + j, v);
        EACH8 (k)
            v[k] = there ? v[k] * scale : 0;
        STORE8 (y, to + j, v);
    }
    for (i64 j = d / 8 * 8 + LANE; j < d; j += DPS_LANES)
        STORE (y, to + j, there ? LOAD (x, row * d + j) * scale : 0);
}

/* y[rows[n]] = x[n]. */
KERNEL (dps_put_rows) (IN (x), IN_OF (i32, rows), OUT (y), i64 n_y, i64 d)
{
    i64 row = AT (rows, GROUP (0)), from = GROUP (0) * d;
    float v[8];
    if (row < 0 || row >= n_y)
        return;
    for (i64 j = LANE * 8; j + 8 <= d; j += DPS_LANES * 8) {
        LOAD8 (x, from + j, v);
        STORE8 (y, row * d + j, v);
    }
    for (i64 j = d / 8 * 8 + LANE; j < d; j += DPS_LANES)
        STORE (y, row * d + j, LOAD (x, from + j));
}

KERNEL (dps_scatter_rows) (IN (dy), IN_OF (i32, rows), OUT (dx), i64 n_rows, i64 d)
{
    i64 to = GROUP (0);
    for (i64 j = LANE; j < d; j += DPS_LANES) {
        float sum = 0;
        for (i64 s = 0; s < n_rows; s++)
            if (AT (rows, s) == to)
                sum += LOAD (dy, s * d + j);
        STORE (dx, to * d + j, sum);
    }
}

/* The first token of an id adds up all of them: root by root, one partial each, its rows in order. */
KERNEL (dps_embed_dw) (IN (dy), IN_OF (i32, ids), IN_OF (i32, roots), OUT (dw), float scale, i32 n_roots, i64 n, i64 d, i64 n_ids)
{
    i64 token = GROUP (0), id = AT (ids, token);
    if (id < 0 || id >= n_ids || token < AT (roots, 0))
        return;
    for (i64 m = AT (roots, 0); m < token; m++)
        if (AT (ids, m) == id)
            return;
    for (i64 j = LANE; j < d; j += DPS_LANES) {
        float sum = LOAD (dw, id * d + j);
        for (i32 r = 0; r < n_roots; r++) {
            i64 end = AT (roots, r + 1) < n ? AT (roots, r + 1) : n;
            float partial = 0;
            int any = 0;
            for (i64 m = AT (roots, r) > token ? AT (roots, r) : token; m < end; m++)
                if (AT (ids, m) == id) {
                    partial += scale * LOAD (dy, m * d + j);
                    any = 1;
                }
            if (any)
                sum += partial;
        }
        STORE (dw, id * d + j, sum);
    }
}

KERNEL (dps_range) (OUT_OF (i32, y), i64 first, i64 step, i64 n)
{
    for (i64 i = FIRST; i < LAST (n); i += STEP)
        AT (y, i) = (i32)(first + step * i);
}

KERNEL (dps_one_hot) (IN_OF (i32, ids), OUT (y), i64 d)
{
    i64 id = AT (ids, GROUP (0)), to = GROUP (0) * d;
    for (i64 j = LANE; j < d; j += DPS_LANES)
        STORE (y, to + j, j == id ? 1.0f : 0.0f);
}

/* NaN is never larger; a row of no columns: 0, in column 0. */
KERNEL (dps_row_max) (IN (x), OUT (y), OUT_OF (i32, at), i32 has_at, i64 n, i64 d)
{
    for (i64 i = FIRST; i < LAST (n); i += STEP) {
        i64 best = 0;
        float most = d ? LOAD (x, i * d) : 0;
        for (i64 j = 1; j < d; j++) {
            float v = LOAD (x, i * d + j);
            if (v > most) {
                most = v;
                best = j;
            }
        }
        STORE (y, i, most);
        if (has_at)
            AT (at, i) = (i32)best;
    }
}
