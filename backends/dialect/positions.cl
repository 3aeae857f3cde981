/* SPDX-License-Identifier: Apache-2.0 */
/*
 * positions.cl: what depends on where a row stands in its sequence: rope, rope_angles, segment_mask. Launch: a group for every row.
 *
 * Rope rotates halves, for i < h/2 and angle = position·inv_freq[i]:
 *
 *     y[i] = scale·(x[i]·cos − x[i+h/2]·sin)     y[i+h/2] = scale·(x[i+h/2]·cos + x[i]·sin)
 *
 * Exact: the angle. The product is kept in two floats, and multiples of π/2 come off it in two parts, the first without rounding, so that the sines
 * of positions up to 2²⁴ are as good as those of small ones. Rows of no segment give zeros.
 */
#include "segments.h"

FN void sines (i32 position, float inv_freq, float *cosine, float *sine)
{
    const float p = (float)position, angle = p * inv_freq, rest = FMA (p, inv_freq, -angle);
    const float n = FLOOR (FMA (angle, 0.636619772f, 0.5f)); /* quarters of a turn */
    const float r = FMA (n, 4.37113900e-8f, FMA (n, -1.57079637f, angle)) + rest;
    const float c = COS (r), s = SIN (r);
    const i32 quarter = (i32)n & 3;
    *cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
    *sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
}

KERNEL (dps_rope) (IN (x), IN_OF (i32, seg), i32 seg_stride, i32 n_segments, IN (inv_freq), OUT (y), i64 width, i32 h, i32 inverse,
                   float scale)
{
    const Segments t = {seg + seg_off, seg_stride, n_segments};
    const i64 row = GROUP (0);
    const i32 s = segment_of (&t, row), half_h = h / 2;
    const i32 position = s < 0 ? 0 : query_position (&t, s, row);
    for (i32 i = LANE; i < half_h; i += DPS_LANES) {
        float cosine = 0, sine = 0;
        if (s >= 0)
            sines (position, LOAD (inv_freq, i), &cosine, &sine);
        if (inverse)
            sine = -sine;
        for (i64 at = row * width + i; at < (row + 1) * width; at += h) {
            const float a = s < 0 ? 0 : LOAD (x, at), b = s < 0 ? 0 : LOAD (x, at + half_h);
            STORE (y, at, (a * cosine - b * sine) * scale);
            STORE (y, at + half_h, (b * cosine + a * sine) * scale);
        }
    }
}

KERNEL (dps_rope_angles) (IN_OF (i32, seg), i32 seg_stride, i32 n_segments, IN (inv_freq), OUT (cosines), OUT (sines_out), i32 n)
{
    const Segments t = {seg + seg_off, seg_stride, n_segments};
    const i64 row = GROUP (0);
    const i32 s = segment_of (&t, row);
    for (i32 i = LANE; i < n; i += DPS_LANES) {
        float cosine = 0, sine = 0;
        if (s >= 0)
            sines (query_position (&t, s, row), LOAD (inv_freq, i), &cosine, &sine);
        STORE (cosines, row * n + i, cosine);
        STORE (sines_out, row * n + i, sine);
    }
}

KERNEL (dps_segment_mask) (IN_OF (i32, seg), i32 seg_stride, i32 n_segments, OUT (y), i64 m, i32 window)
{
    const Segments t = {seg + seg_off, seg_stride, n_segments};
    const i64 row = GROUP (0);
    const i32 s = segment_of (&t, row);
    i32 lo = 0, hi = -1;
    if (s >= 0)
        seen_by (&t, s, query_position (&t, s, row), window, &lo, &hi);
    for (i64 key = LANE; key < m; key += DPS_LANES) {
        i32 seen = 0;
        for (i32 holder = s; holder >= 0; holder = segment_field (&t, holder, PARENT)) {
            const i64 j = key - segment_field (&t, holder, KV_START);
            const i64 at = j + first_key (&t, holder);
            seen |= j >= 0 && j < segment_field (&t, holder, KV_LEN) && at >= lo && at <= hi;
        }
        STORE (y, row * m + key, seen ? 1.0f : 0.0f);
    }
}
