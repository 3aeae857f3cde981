/* SPDX-License-Identifier: Apache-2.0 */
/* launch_positions.c: what knows of segments: the table's checks and its form for kernels, rope, and the mask of decomposed attention. */
#include <string.h>

#include "launch.h"

static const char *const family = "positions";

static int range_fits (int64_t start, int64_t len, int64_t limit) { return start >= 0 && len >= 0 && start + len <= limit; }

static DpsStatus check_table (const DpsOpCall *c, const DpsView *table, int64_t n_q, int64_t n_kv)
{
    int64_t stride = table->shape[1];
    if (stride < (int64_t)sizeof (DpsSegment) || stride % 4)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: segments of %lld bytes, expected at least %zu, and a multiple of 4", c->who,
                         c->name, (long long)stride, sizeof (DpsSegment));
    for (int64_t i = 0; table->host && i < table->shape[0]; i++) {
        DpsSegment s;
        memcpy (&s, (const char *)table->host + i * stride, sizeof s);
        int keys = n_kv < 0 || (range_fits (s.kv_start, s.kv_len, n_kv) && s.position + (int64_t)s.q_len - s.kv_len >= 0);
        if (!range_fits (s.q_start, s.q_len, n_q) || !keys || s.position < 0 || s.parent < -1 || s.parent >= i)
            return dps_fail (
                c->err, DPS_ERR_INVALID,
                "%s %s: segment %lld does not fit its rows, its keys or its parents: queries %d+%d of %lld, keys %d+%d of %lld, "
                "parent %d, position %d",
                c->who, c->name, (long long)i, (int)s.q_start, (int)s.q_len, (long long)n_q, (int)s.kv_start, (int)s.kv_len,
                (long long)n_kv, (int)s.parent, (int)s.position);
    }
    return DPS_OK;
}

/* Kernels read whole i32s; a table may begin anywhere. */
static DpsStatus align (const DpsLaunch *l, const DpsView *table, DpsView *words, DpsError *err)
{
    int64_t bytes = dps_view_count (table);
    DpsKernel k = dps_kernel ("elementwise", "dps_copy_bytes");
    DPS_TRY (l->scratch (l->ctx, DPS_SCRATCH_OP4, (uint64_t)bytes, words, err));
    dps_arg_of (&k, table);
    dps_arg_of (&k, words);
    dps_arg_i32 (&k, 1);
    dps_arg_i64 (&k, bytes);
    words->rank = table->rank;
    words->shape = table->shape;
    return dps_launch_flat (l, &k, bytes, err);
}

DpsStatus dps_launch_segments (const DpsLaunch *l, const DpsOpCall *c, const DpsView *table, int64_t n_q, int64_t n_kv, DpsView *out_words)
{
    *out_words = *table;
    DPS_TRY (check_table (c, table, n_q, n_kv));
    if (table->offset % 4 && table->shape[0] > 0)
        DPS_TRY (align (l, table, out_words, c->err));
    out_words->dtype = DPS_DTYPE_I32;
    return DPS_OK;
}

void dps_arg_segments (DpsKernel *k, const DpsView *words)
{
    dps_arg_of (k, words);
    dps_arg_i32 (k, words->shape[1] / 4);
    dps_arg_i32 (k, words->shape[0]);
}

static DpsStatus rope_check (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t h = dps_opcall_i (c, 0);
    (void)l;
    if (h < 2 || h % 2 || c->dim['Q'] % h || c->dim['f'] != h / 2)
        return dps_fail (c->err, DPS_ERR_SHAPE,
                         "%s rope: rows of %lld elements and %lld frequencies do not fit heads of an even width h = %lld", c->who,
                         (long long)c->dim['Q'], (long long)c->dim['f'], (long long)h);
    return DPS_OK;
}

static DpsStatus rope (const DpsLaunch *l, DpsOpCall *c)
{
    DpsView words;
    DpsKernel k = dps_kernel (family, "dps_rope");
    DPS_TRY (dps_launch_segments (l, c, c->in[1], c->dim['N'], -1, &words));
    dps_arg (&k, c->in[0]);
    dps_arg_segments (&k, &words);
    dps_arg (&k, c->in[2]);
    dps_arg (&k, c->out[0]);
    dps_arg_i64 (&k, c->dim['Q']);
    dps_arg_i32 (&k, dps_opcall_i (c, 0));
    dps_arg_i32 (&k, dps_opcall_i (c, 1) != 0);
    dps_arg_f32 (&k, dps_opcall_f (c, 2) == 0 ? 1 : dps_opcall_f (c, 2));
    return dps_launch_rows_of (l, &k, c->dim['N'], c->err);
}

static DpsStatus rope_angles (const DpsLaunch *l, DpsOpCall *c)
{
    DpsView words;
    DpsKernel k = dps_kernel (family, "dps_rope_angles");
    DPS_TRY (dps_launch_segments (l, c, c->in[0], c->dim['N'], -1, &words));
    dps_arg_segments (&k, &words);
    dps_arg (&k, c->in[1]);
    dps_arg (&k, c->out[0]);
    dps_arg (&k, c->out[1]);
    dps_arg_i32 (&k, c->dim['f']);
    return dps_launch_rows_of (l, &k, c->dim['N'], c->err);
}

static DpsStatus segment_mask (const DpsLaunch *l, DpsOpCall *c)
{
    DpsView words;
    DpsKernel k = dps_kernel (family, "dps_segment_mask");
    DPS_TRY (dps_launch_window (c, dps_opcall_i (c, 0)));
    DPS_TRY (dps_launch_segments (l, c, c->in[0], c->dim['N'], c->dim['M'], &words));
    dps_arg_segments (&k, &words);
    dps_arg (&k, c->out[0]);
    dps_arg_i64 (&k, c->dim['M']);
    dps_arg_i32 (&k, dps_opcall_i (c, 0));
    return dps_launch_rows_of (l, &k, c->dim['N'], c->err);
}

DpsStatus dps_launch_window (const DpsOpCall *c, int64_t window)
{
    if (window < 0 || window > INT32_MAX)
        return dps_fail (c->err, DPS_ERR_INVALID, "%s %s: window is %lld, expected 0 (all of the past) to %d", c->who, c->name,
                         (long long)window, INT32_MAX);
    return DPS_OK;
}

const DpsLaunchOp dps_launch_positions[] = {
    {"rope", "x:N,Q segments:n,s:u8 inv_freq:f", "y:N,Q", rope_check, rope},
    {"rope_angles", "segments:n,s:u8 inv_freq:f", "cos:N,f sin:N,f", NULL, rope_angles},
    {"segment_mask", "segments:n,s:u8", "y:N,M", NULL, segment_mask},
    {NULL, NULL, NULL, NULL, NULL},
};
