/* SPDX-License-Identifier: Apache-2.0 */
/*
 * norm.cl: RMS norm over consecutive groups of h elements, and its adjoints: rstd = 1/√(mean x² + eps), y = x·rstd·(w + offset);
 * with g = dy·(w + offset): dx = rstd·(g − x̂·mean (g·x̂)) + c, dw = Σ dy·x̂.
 * Geometry: one work-group a group of h elements; dps_rms_norm_dw: one lane for eight elements of w, rows in order, one partial a root.
 * Sums: eight of a lane at stride DPS_LANES, then dps_sum8, then the lanes: an order that h alone decides.
 */

KERNEL (dps_rms_norm) (IN (x), IN (w), OUT (y), OUT (rstd), float eps, float offset, i64 h)
{
    LOCAL float tmp[DPS_LANES];
    float v[8], u[8], s[8], rest = 0;
    i64 at = GROUP (0) * h, whole = h / 8 * 8;
    EACH8 (k)
        s[k] = 0;
    for (i64 j = LANE * 8; j < whole; j += DPS_LANES * 8) {
        LOAD8 (x, at + j, v);
        EACH8 (k)
            s[k] += v[k] * v[k];
    }
    for (i64 j = whole + LANE; j < h; j += DPS_LANES)
        rest += LOAD (x, at + j) * LOAD (x, at + j);
    float r = 1.0f / SQRT (dps_lanes_sum (dps_sum8 (s) + rest, tmp) / (float)h + eps);
    if (rstd_t && LANE == 0)
        STORE (rstd, GROUP (0), r);
    for (i64 j = LANE * 8; j < whole; j += DPS_LANES * 8) {
        LOAD8 (x, at + j, v);
        LOAD8 (w, j, u);
        EACH8 (k)
            v[k] *= r * (u[k] + offset);
        STORE8 (y, at + j, v);
    }
    for (i64 j = whole + LANE; j < h; j += DPS_LANES)
        STORE (y, at + j, LOAD (x, at + j) * (r * (LOAD (w, j) + offset)));
}

KERNEL (dps_rms_norm_dx) (IN (x), IN (w), IN (rstd), IN (dy), IN (c), OUT (dx), float offset, i64 h)
{
    LOCAL float tmp[DPS_LANES];
    float v[8], u[8], g[8], s[8], rest = 0;
    i64 at = GROUP (0) * h, whole = h / 8 * 8;
    float r = LOAD (rstd, GROUP (0));
    EACH8 (k)
        s[k] = 0;
    for (i64 j = LANE * 8; j < whole; j += DPS_LANES * 8) {
        LOAD8 (x, at + j, v);
        LOAD8 (w, j, u);
        LOAD8 (dy, at + j, g);
        EACH8 (k)
            s[k] += g[k] * (u[k] + offset) * (v[k] * r);
    }
    for (i64 j = whole + LANE; j < h; j += DPS_LANES)
        rest += LOAD (dy, at + j) * (LOAD (w, j) + offset) * (LOAD (x, at + j) * r);
    float mean = dps_lanes_sum (dps_sum8 (s) + rest, tmp) / (float)h;
    for (i64 j = LANE * 8; j < whole; j += DPS_LANES * 8) {
        LOAD8 (x, at + j, v);
        LOAD8 (w, j, u);
        LOAD8 (dy, at + j, g);
        EACH8 (k)
            v[k] = r * (g[k] * (u[k] + offset) - v[k] * r * mean);
        if (c_t) {
            LOAD8 (c, at + j, u);
            EACH8 (k)
                v[k] += u[k];
        }
        STORE8 (dx, at + j, v);
    }
    for (i64 j = whole + LANE; j < h; j += DPS_LANES) {
        float d = r * (LOAD (dy, at + j) * (LOAD (w, j) + offset) - LOAD (x, at + j) * r * mean);
        STORE (dx, at + j, c_t ? d + LOAD (c, at + j) : d);
    }
}

KERNEL (dps_rms_norm_dw) (IN (x), IN (rstd), IN (dy), IN_OF (i32, roots), OUT (dw), i32 n_roots, i64 n_rows, i64 d, i64 h)
{
    i64 j = (GROUP (0) * DPS_LANES + LANE) * 8, groups = d / h;
    i64 width = j + 8 <= h ? 8 : h - j;
    float s[8], v[8], g[8];
    if (j >= h)
        return;
    for (i32 r = 0; r < n_roots; r++) {
        i64 first = AT (roots, r) < 0 ? 0 : AT (roots, r), end = AT (roots, r + 1) < n_rows ? AT (roots, r + 1) : n_rows;
        EACH8 (k)
            s[k] = 0;
        for (i64 row = first * groups; row < end * groups; row++) {
            float scale = LOAD (rstd, row);
            if (width == 8) {
                LOAD8 (x, row * h + j, v);
                LOAD8 (dy, row * h + j, g);
            } else
                for (i32 k = 0; k < 8; k++) {
                    v[k] = k < width ? LOAD (x, row * h + j + k) : 0;
                    g[k] = k < width ? LOAD (dy, row * h + j + k) : 0;
                }
            EACH8 (k)
                s[k] += g[k] * v[k] * scale;
        }
        for (i32 k = 0; k < width; k++)
            STORE (dw, j + k, LOAD (dw, j + k) + s[k]);
    }
}
