/* SPDX-License-Identifier: Apache-2.0 */
/* launch_attention.c: attention and its adjoint: operands widened to f32, then a kernel for each gradient. The equations are in attention.cl. */
#include "launch.h"

enum { PAIRS = 8 /* of attention.h */ };

static DpsStatus check (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t n_heads = dps_opcall_i (c, 0), n_kv = dps_opcall_i (c, 1), h = dps_opcall_i (c, 2);
    (void)l;
    if (n_heads < 1 || n_kv < 1 || h < 1 || n_heads % n_kv || !dps_heads_fit (c->dim['Q'], n_heads, h) ||
        !dps_heads_fit (c->dim['P'], n_kv, h))
        return dps_fail (c->err, DPS_ERR_SHAPE,
                         "%s %s: %lld heads and %lld key heads of width %lld do not fit q and k of %lld and %lld columns", c->who, c->name,
                         (long long)n_heads, (long long)n_kv, (long long)h, (long long)c->dim['Q'], (long long)c->dim['P']);
    if (c->dim['H'] >= 0 && c->dim['H'] != n_heads)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: lse has %lld columns, expected H = %lld", c->who, c->name, (long long)c->dim['H'],
                         (long long)n_heads);
    return dps_launch_window (c, dps_opcall_i (c, 4));
}

/* An operand as its kernels want it: f32. What is not is copied to or accumulated in scratch. */
typedef struct Wide {
    const DpsView *of;
    int is_input;
    DpsView f32;
} Wide;

static DpsStatus widen (const DpsLaunch *l, DpsOpCall *c, Wide *w)
{
    int64_t n = dps_view_count (w->of);
    DpsKernel k = dps_kernel ("elementwise", "dps_copy");
    dps_arg (&k, w->of);
    dps_arg (&k, &w->f32);
    dps_arg_i64 (&k, n);
    return dps_launch_flat (l, &k, n, c->err);
}

/* All operands in f32, and `extra` floats more. */
static DpsStatus open_wide (const DpsLaunch *l, DpsOpCall *c, Wide *w, int n, int64_t extra, DpsView *out_extra)
{
    uint64_t bytes = (uint64_t)extra * 4, at = bytes;
    DpsView room;
    for (int i = 0; i < n; i++)
        bytes += w[i].of->dtype == DPS_DTYPE_F32 ? 0 : (uint64_t)dps_view_count (w[i].of) * 4;
    DPS_TRY (l->scratch (l->ctx, DPS_SCRATCH_OP, bytes ? bytes : 4, &room, c->err));
    room.dtype = DPS_DTYPE_F32;
    if (out_extra)
        *out_extra = room;
    for (int i = 0; i < n; i++) {
        w[i].f32 = *w[i].of;
        if (w[i].of->dtype == DPS_DTYPE_F32)
            continue;
        w[i].f32 = room;
        w[i].f32.offset += at;
        at += (uint64_t)dps_view_count (w[i].of) * 4;
        if (w[i].is_input)
            DPS_TRY (widen (l, c, &w[i]));
    }
    return DPS_OK;
}

/* What every kernel ends with, after its row count. */
static void numbers (DpsKernel *k, const DpsOpCall *c, int64_t rows)
{
    dps_arg_i64 (k, rows);
    dps_arg_i32 (k, dps_opcall_i (c, 0));
    dps_arg_i32 (k, dps_opcall_i (c, 1));
    dps_arg_i32 (k, dps_opcall_i (c, 2));
    dps_arg_f32 (k, dps_opcall_f (c, 3));
    dps_arg_i32 (k, dps_opcall_i (c, 4));
    dps_arg_f32 (k, dps_opcall_f (c, 5));
}

/* Groups of PAIRS for each key head: `n` of them share one. */
static int64_t groups_of (const DpsOpCall *c, int64_t n) { return dps_opcall_i (c, 1) * ((n + PAIRS - 1) / PAIRS); }
static int64_t pairs_of (const DpsOpCall *c) { return c->dim['N'] * (dps_opcall_i (c, 0) / dps_opcall_i (c, 1)); }

static DpsStatus attention (const DpsLaunch *l, DpsOpCall *c)
{
    Wide w[] = {{c->in[0], 1, {0}}, {c->out[0], 0, {0}}};
    DpsKernel k = dps_kernel ("attention", "dps_attention");
    DpsView words;
    DPS_TRY (dps_launch_segments (l, c, c->in[3], c->dim['N'], c->dim['M'], &words));
    DPS_TRY (open_wide (l, c, w, 2, 0, NULL));
    dps_arg_of (&k, &w[0].f32);
    dps_arg (&k, c->in[1]);
    dps_arg (&k, c->in[2]);
    dps_arg_segments (&k, &words);
    dps_arg_of (&k, &w[1].f32);
    dps_arg (&k, c->out[0]);
    dps_arg (&k, c->out[1]);
    numbers (&k, c, c->dim['N']);
    return dps_launch_rows_of (l, &k, groups_of (c, pairs_of (c)), c->err);
}

enum { Q, K, V, D_O, DQ, DK, DV, WIDE };

static DpsStatus delta_of (const DpsLaunch *l, DpsOpCall *c, const DpsView *d_o, const DpsView *delta)
{
    int64_t n = c->dim['N'] * dps_opcall_i (c, 0);
    DpsKernel k = dps_kernel ("attention_bwd", "dps_attention_delta");
    dps_arg (&k, c->in[3]);
    dps_arg_of (&k, d_o);
    dps_arg_of (&k, delta);
    dps_arg_i64 (&k, n);
    dps_arg_i32 (&k, dps_opcall_i (c, 2));
    return dps_launch_rows_of (l, &k, (n + l->lanes - 1) / l->lanes, c->err);
}

static DpsKernel gradient (const char *name, const DpsOpCall *c, const Wide *w, const DpsView *delta, const DpsView *words)
{
    DpsKernel k = dps_kernel ("attention_bwd", name);
    dps_arg_of (&k, &w[Q].f32);
    dps_arg_of (&k, &w[K].f32);
    dps_arg_of (&k, &w[V].f32);
    dps_arg (&k, c->in[4]);
    dps_arg_of (&k, &w[D_O].f32);
    dps_arg_of (&k, delta);
    dps_arg_segments (&k, words);
    return k;
}

static DpsStatus attention_bwd (const DpsLaunch *l, DpsOpCall *c)
{
    Wide w[WIDE] = {{c->in[0], 1, {0}},  {c->in[1], 1, {0}},  {c->in[2], 1, {0}}, {c->in[5], 1, {0}},
                    {c->out[0], 0, {0}}, {c->out[1], 0, {0}}, {c->out[2], 0, {0}}};
    DpsView delta, words;
    DPS_TRY (dps_launch_segments (l, c, c->in[6], c->dim['N'], c->dim['M'], &words));
    DPS_TRY (open_wide (l, c, w, WIDE, c->dim['N'] * dps_opcall_i (c, 0), &delta));
    DPS_TRY (delta_of (l, c, &w[D_O].f32, &delta));
    DpsKernel dq = gradient ("dps_attention_dq", c, w, &delta, &words), dkv = gradient ("dps_attention_dkv", c, w, &delta, &words);
    dps_arg_of (&dq, &w[DQ].f32);
    dps_arg (&dq, c->out[0]);
    numbers (&dq, c, c->dim['N']);
    DPS_TRY (dps_launch_rows_of (l, &dq, groups_of (c, pairs_of (c)), c->err));
    dps_arg_of (&dkv, &w[DK].f32);
    dps_arg_of (&dkv, &w[DV].f32);
    dps_arg (&dkv, c->out[1]);
    dps_arg (&dkv, c->out[2]);
    numbers (&dkv, c, c->dim['M']);
    return dps_launch_rows_of (l, &dkv, groups_of (c, c->dim['M']), c->err);
}

const DpsLaunchOp dps_launch_attention[] = {
    {"attention", "q:N,Q k:M,P v:M,P segments:n,s:u8", "o:N,Q ?lse:N,H", check, attention},
    {"attention_bwd", "q:N,Q k:M,P v:M,P o:N,Q lse:N,H do:N,Q segments:n,s:u8", "dq:N,Q dk:M,P dv:M,P", check, attention_bwd},
    {NULL, NULL, NULL, NULL, NULL},
};
