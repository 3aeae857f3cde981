/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decompose_attention.c: attention head by head over whole (N, M) matrices. mask is 1 where a query sees a key; hidden scores become −2¹⁰⁰, whose
 * exponential is 0; a query that sees no key is divided by 1 instead of 0.
 */
#include "base/opcall.h"
#include "graph/decompose_kit.h"

static const double hidden = 0x1p100; /* exact in f32, so that visible scores get exactly 0 */

typedef struct Attention {
    DpsGraph *g;
    const DpsRecord *r;
    int64_t n, m, n_heads, n_kv, h;
    double scale, cap;
    DpsNode q, k, v;    /* (N·H, h), (M·G, h) */
    DpsNode mask, bias; /* (N, M): 1 and 0; 0 and −2¹⁰⁰ */
} Attention;

static Attention attention_of (DpsGraph *g, const DpsRecord *r, DpsNode segments)
{
    Attention a = {.g = g,
                   .r = r,
                   .n = kit_rows (g, r->in[0]),
                   .m = kit_rows (g, r->in[1]),
                   .n_heads = r->attrs[0].i,
                   .n_kv = r->attrs[1].i,
                   .h = r->attrs[2].i,
                   .scale = r->attrs[3].f,
                   .cap = r->attrs[5].f};
    const int64_t width = kit_cols (g, r->in[0]);
    if (!dps_heads_fit (width, a.n_heads, a.h) || a.n_kv <= 0 || a.n_heads % a.n_kv) {
        dps_graph_fail (g, DPS_ERR_SHAPE, "attention: %lld query heads and %lld key heads of %lld, of queries %lld wide",
                        (long long)a.n_heads, (long long)a.n_kv, (long long)a.h, (long long)width);
        a.n_heads = a.n_kv = a.h = 0; /* what follows records nothing */
    }
    a.q = kit_as (g, r->in[0], a.n * a.n_heads, a.h);
    a.k = kit_as (g, r->in[1], a.m * a.n_kv, a.h);
    a.v = kit_as (g, r->in[2], a.m * a.n_kv, a.h);
    a.mask = dps_graph_temp (g, g->compute, 2, (int64_t[]){a.n, a.m});
    dps_graph_op (g, DPS_OP_segment_mask, &segments, 1, (DpsScalar[]){{.i = r->attrs[4].i}}, 1, g->compute, &a.mask, 1);
    a.bias = kit_affine (g, a.mask, hidden, -hidden);
    return a;
}

static DpsNode head_of (const Attention *a, DpsNode x, int64_t head, int64_t heads, int64_t rows)
{
    return kit_gather (a->g, x, head, heads, rows);
}

/* Softcapped scores of a head, before the mask. */
static DpsNode scores (const Attention *a, DpsNode q, DpsNode k) { return kit_softcap (a->g, kit_linear (a->g, q, k, a->scale), a->cap); }

/* exp (s − shift) where visible, 0 elsewhere; shift (N,1) */
static DpsNode weights (const Attention *a, DpsNode s, DpsNode shift)
{
    DpsGraph *g = a->g;
    return kit_mul (g, kit_map (g, DPS_OP_exp, kit_add (g, s, kit_spread (g, shift, a->m), 1, -1)), a->mask);
}

void dps__decompose_attention (DpsGraph *g, const DpsRecord *r)
{
    Attention a = attention_of (g, r, r->in[3]);
    DpsNode any = kit_row_max (g, a.mask, NULL), none = kit_affine (g, any, -1, 1);
    DpsNode o = kit_as (g, r->out[0], a.n * a.n_heads, a.h), lse = kit_as (g, r->out[1], a.n * a.n_heads, 1);
    for (int64_t head = 0; head < a.n_heads && g->status == DPS_OK; head++) {
        int64_t kv = head * a.n_kv / a.n_heads;
        DpsNode s = scores (&a, head_of (&a, a.q, head, a.n_heads, a.n), head_of (&a, a.k, kv, a.n_kv, a.m));
        s = kit_add (g, kit_mul (g, s, a.mask), a.bias, 1, 1);
        DpsNode max = kit_row_max (g, s, NULL), p = weights (&a, s, max), sum = kit_add (g, kit_row_sum (g, p), none, 1, 1);
        p = kit_div (g, p, kit_spread (g, sum, a.m));
        kit_put (g, kit_linear_dx (g, p, head_of (&a, a.v, kv, a.n_kv, a.m), 1), o, head, a.n_heads);
        kit_put (g, kit_mul (g, kit_add (g, max, kit_map (g, DPS_OP_log, sum), 1, 1), any), lse, head, a.n_heads);
    }
}

/* One head's share of dq, and of dk and dv of the key head it reads. */
static void head_bwd (const Attention *a, int64_t head, DpsNode roots, DpsNode dq, DpsNode dk, DpsNode dv)
{
    DpsGraph *g = a->g;
    int64_t kv = head * a->n_kv / a->n_heads, rows = a->n * a->n_heads;
    DpsNode q = head_of (a, a->q, head, a->n_heads, a->n), k = head_of (a, a->k, kv, a->n_kv, a->m);
    DpsNode o = head_of (a, kit_as (g, a->r->in[3], rows, a->h), head, a->n_heads, a->n),
            lse = head_of (a, kit_as (g, a->r->in[4], rows, 1), head, a->n_heads, a->n),
            d_o = head_of (a, kit_as (g, a->r->in[5], rows, a->h), head, a->n_heads, a->n);
    DpsNode s = scores (a, q, k), p = weights (a, kit_add (g, kit_mul (g, s, a->mask), a->bias, 1, 1), lse);
    DpsNode dp = kit_linear (g, d_o, head_of (a, a->v, kv, a->n_kv, a->m), 1), delta = kit_row_sum (g, kit_mul (g, d_o, o));
    DpsNode ds = kit_mul (g, p, kit_add (g, dp, kit_spread (g, delta, a->m), 1, -1));
    ds = kit_mul (g, ds, kit_softcap_slope (g, s, a->cap));
    kit_put (g, kit_linear_dx (g, ds, k, a->scale), dq, head, a->n_heads);
    kit_linear_dw (g, ds, q, roots, a->scale, dk);
    kit_linear_dw (g, p, d_o, roots, 1, dv);
}

void dps__decompose_attention_bwd (DpsGraph *g, const DpsRecord *r)
{
    Attention a = attention_of (g, r, r->in[6]);
    int64_t shared = a.n_kv > 0 ? a.n_heads / a.n_kv : 0;
    DpsNode dq = kit_as (g, r->out[0], a.n * a.n_heads, a.h), dk = kit_as (g, r->out[1], a.m * a.n_kv, a.h),
            dv = kit_as (g, r->out[2], a.m * a.n_kv, a.h), roots = kit_range (g, 0, a.n, 2);
    for (int64_t kv = 0; kv < a.n_kv && g->status == DPS_OK; kv++) {
        DpsNode dk_head = kit_fill (g, a.m, a.h, 0), dv_head = kit_fill (g, a.m, a.h, 0);
        for (int64_t i = 0; i < shared; i++)
            head_bwd (&a, kv * shared + i, roots, dq, dk_head, dv_head);
        kit_put (g, dk_head, dk, kv, a.n_kv);
        kit_put (g, dv_head, dv, kv, a.n_kv);
    }
}
