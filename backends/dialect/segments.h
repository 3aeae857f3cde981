/* SPDX-License-Identifier: Apache-2.0 */
/* segments.h: the segment table of ops.h as kernels read it. The host has checked it: rows, keys, parents and positions fit. */

/* Fields of a row, in DpsSegment's order. */
enum { Q_START, Q_LEN, KV_START, KV_LEN, PARENT, POSITION, ADAPTER, FLAGS };

typedef struct Segments {
    GLOBAL const i32 *table;
    i32 stride, n; /* i32s from row to row; rows */
} Segments;

FN i32 segment_field (const Segments *t, i32 s, i32 field) { return t->table[(i64)s * t->stride + field]; }

/* The segment that query row `row` belongs to, −1: none. */
FN i32 segment_of (const Segments *t, i64 row)
{
    i32 found = -1;
    for (i32 s = 0; s < t->n; s++) {
        i64 i = row - segment_field (t, s, Q_START);
        found = i >= 0 && i < segment_field (t, s, Q_LEN) ? s : found;
    }
    return found;
}

FN i32 query_position (const Segments *t, i32 s, i64 row)
{
    return segment_field (t, s, POSITION) + (i32)(row - segment_field (t, s, Q_START));
}

/* The position of a segment's first key. */
FN i32 first_key (const Segments *t, i32 s)
{
    return segment_field (t, s, POSITION) + segment_field (t, s, Q_LEN) - segment_field (t, s, KV_LEN);
}

/* The key row at a position of the sequence that ends with segment s: its own, else an ancestor's; −1: none. */
FN i32 key_row (const Segments *t, i32 s, i32 position)
{
    for (; s >= 0; s = segment_field (t, s, PARENT)) {
        i32 j = position - first_key (t, s);
        if (j >= 0 && j < segment_field (t, s, KV_LEN))
            return segment_field (t, s, KV_START) + j;
    }
    return -1;
}

FN i32 is_bidirectional (const Segments *t, i32 s) { return segment_field (t, s, FLAGS) & 1; }

/* The positions *lo … *hi that the query at position p of segment s sees; window 0: all of the past. */
FN void seen_by (const Segments *t, i32 s, i32 p, i32 window, i32 *lo, i32 *hi)
{
    *lo = window > 0 && p >= window ? p - window + 1 : 0;
    *hi = p;
    if (is_bidirectional (t, s)) {
        i32 last = segment_field (t, s, POSITION) + segment_field (t, s, Q_LEN) - 1;
        *hi = window > 0 && last - p >= window ? p + window - 1 : last;
    }
}
