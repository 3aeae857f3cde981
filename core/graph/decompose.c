/* SPDX-License-Identifier: Apache-2.0 */
/* decompose.c: the table of decompositions, and those of norms, rope, gates and AdamW. Formulas as in ops.h. */
#include "graph/decompose.h"

#include <math.h>

#include "graph/decompose_kit.h"

/* Groups of h numbers become rows; rstd stands beside them. */
typedef struct Norm {
    int64_t h, groups; /* groups: all of them */
    double eps, offset;
} Norm;

static Norm norm_of (const DpsGraph *g, const DpsRecord *r)
{
    const DpsTensor *x = &g->tensors[r->in[0]];
    int64_t width = r->attrs[2].i ? r->attrs[2].i : x->shape[x->rank - 1];
    return (Norm){width, width ? dps_tensor_elements (x) / width : 0, r->attrs[0].f, r->attrs[1].f};
}

/* w + offset in every row */
static DpsNode shifted (DpsGraph *g, DpsNode w, const Norm *n)
{
    DpsNode row = kit_affine (g, kit_as (g, w, 1, n->h), 1, n->offset);
    return kit_linear_dx (g, kit_fill (g, n->groups, 1, 1), row, 1);
}

static void decompose_rms_norm (DpsGraph *g, const DpsRecord *r)
{
    Norm n = norm_of (g, r);
    DpsNode x = kit_as (g, r->in[0], n.groups, n.h);
    DpsNode mean = kit_scale (g, kit_row_sum (g, kit_mul (g, x, x)), 1 / (double)n.h);
    DpsNode rstd = kit_div (g, kit_fill (g, n.groups, 1, 1), kit_map (g, DPS_OP_sqrt, kit_affine (g, mean, 1, n.eps)));
    kit_store (g, kit_mul (g, kit_mul (g, x, kit_spread (g, rstd, n.h)), shifted (g, r->in[1], &n)), r->out[0]);
    kit_store (g, rstd, r->out[1]);
}

/* dx = rstd·(u − x·rstd²·mean (u·x)) + c with u = dy·(w + offset) */
static void decompose_rms_norm_dx (DpsGraph *g, const DpsRecord *r)
{
    Norm n = norm_of (g, r);
    DpsNode x = kit_as (g, r->in[0], n.groups, n.h), rstd = kit_as (g, r->in[2], n.groups, 1);
    DpsNode u = kit_mul (g, kit_as (g, r->in[3], n.groups, n.h), shifted (g, r->in[1], &n));
    DpsNode along = kit_mul (g, kit_mul (g, rstd, rstd), kit_scale (g, kit_row_sum (g, kit_mul (g, u, x)), 1 / (double)n.h));
    DpsNode dx = kit_mul (g, kit_add (g, u, kit_mul (g, x, kit_spread (g, along, n.h)), 1, -1), kit_spread (g, rstd, n.h));
    if (r->in[4] >= 0)
        dx = kit_add (g, dx, kit_as (g, r->in[4], n.groups, n.h), 1, 1);
    kit_store (g, dx, r->out[0]);
}

/* The k-th groups of all rows at a time: roots count rows, not groups. */
static void decompose_rms_norm_dw (DpsGraph *g, const DpsRecord *r)
{
    Norm n = norm_of (g, r);
    int64_t rows = kit_rows (g, r->in[0]), per_row = rows ? n.groups / rows : 0;
    DpsNode x = kit_as (g, r->in[0], n.groups, n.h), rstd = kit_as (g, r->in[1], n.groups, 1), dy = kit_as (g, r->in[2], n.groups, n.h);
    for (int64_t k = 0; k < per_row; k++) {
        DpsNode scaled = kit_mul (g, kit_gather (g, x, k, per_row, rows), kit_spread (g, kit_gather (g, rstd, k, per_row, rows), n.h));
        DpsNode in[] = {scaled, kit_gather (g, dy, k, per_row, rows), r->in[3]}, dw = r->out[0];
        dps_graph_op (g, DPS_OP_mul_cols_dv, in, 3, NULL, 0, g->compute, &dw, 1);
    }
}

static void decompose_rope (DpsGraph *g, const DpsRecord *r)
{
    int64_t rows = kit_rows (g, r->in[0]), half = r->attrs[0].i / 2;
    if (half <= 0) {
        dps_graph_fail (g, DPS_ERR_SHAPE, "rope: heads of %lld", (long long)r->attrs[0].i);
        return;
    }
    int64_t heads = kit_cols (g, r->in[0]) / (2 * half), step = 2 * heads;
    double scale = r->attrs[2].f == 0 ? 1 : r->attrs[2].f, sign = r->attrs[1].i ? -1 : 1;
    DpsNode x = kit_as (g, r->in[0], rows * step, half), y = kit_as (g, r->out[0], rows * step, half), table[2];
    for (int i = 0; i < 2; i++)
        table[i] = dps_graph_temp (g, g->compute, 2, (int64_t[]){rows, half});
    dps_graph_op (g, DPS_OP_rope_angles, (DpsNode[]){r->in[1], r->in[2]}, 2, NULL, 0, g->compute, table, 2);
    for (int64_t head = 0; head < heads; head++) {
        DpsNode a = kit_gather (g, x, 2 * head, step, rows), b = kit_gather (g, x, 2 * head + 1, step, rows);
        kit_put (g, kit_add (g, kit_mul (g, a, table[0]), kit_mul (g, b, table[1]), scale, -sign * scale), y, 2 * head, step);
        kit_put (g, kit_add (g, kit_mul (g, b, table[0]), kit_mul (g, a, table[1]), scale, sign * scale), y, 2 * head + 1, step);
    }
}

/* An activation and its slope. gelu_tanh (x) = x·(1 + t)/2, t = tanh (√(2/π)·(x + 0.044715·x³)); silu (x) = x/(1 + exp (−x)). */
static DpsNode activation (DpsGraph *g, int is_gelu, DpsNode x, DpsNode *out_slope)
{
    DpsNode square = kit_mul (g, x, x), one = kit_fill (g, kit_rows (g, x), kit_cols (g, x), 1);
    if (!is_gelu) {
        DpsNode s = kit_div (g, one, kit_affine (g, kit_map (g, DPS_OP_exp, kit_scale (g, x, -1)), 1, 1)), y = kit_mul (g, x, s);
        *out_slope = kit_add (g, s, kit_mul (g, y, kit_add (g, one, s, 1, -1)), 1, 1);
        return y;
    }
    double k = sqrt (2 / 3.14159265358979323846);
    DpsNode t = kit_softcap (g, kit_scale (g, kit_mul (g, x, kit_affine (g, square, 0.044715, 1)), k), 1);
    DpsNode cdf = kit_affine (g, t, 0.5, 0.5), inner = kit_affine (g, square, 3 * 0.044715 * k, k);
    *out_slope = kit_add (g, cdf, kit_mul (g, kit_mul (g, x, kit_affine (g, kit_mul (g, t, t), -1, 1)), inner), 1, 0.5);
    return kit_mul (g, x, cdf);
}

static void decompose_gate (DpsGraph *g, const DpsRecord *r)
{
    int64_t rows = kit_rows (g, r->in[0]), cols = kit_cols (g, r->in[0]);
    DpsNode slope, gate = kit_as (g, r->in[0], rows, cols), up = kit_as (g, r->in[1], rows, cols);
    kit_store (g, kit_mul (g, activation (g, r->op == DPS_OP_geglu, gate, &slope), up), r->out[0]);
}

static void decompose_gate_bwd (DpsGraph *g, const DpsRecord *r)
{
    int64_t rows = kit_rows (g, r->in[0]), cols = kit_cols (g, r->in[0]);
    DpsNode slope, gate = kit_as (g, r->in[0], rows, cols), up = kit_as (g, r->in[1], rows, cols), dy = kit_as (g, r->in[2], rows, cols);
    DpsNode y = activation (g, r->op == DPS_OP_geglu_bwd, gate, &slope);
    kit_store (g, kit_mul (g, kit_mul (g, dy, up), slope), r->out[0]);
    kit_store (g, kit_mul (g, dy, y), r->out[1]);
}

static void decompose_adamw_step (DpsGraph *g, const DpsRecord *r)
{
    const DpsScalar *a = r->attrs;
    int64_t n = dps_tensor_elements (&g->tensors[r->in[0]]);
    double lr = a[0].f, b1 = a[1].f, b2 = a[2].f, t = (double)a[5].i, scale = r->n_attrs < 7 || a[6].f == 0 ? 1 : a[6].f;
    if (t < 1) {
        dps_graph_fail (g, DPS_ERR_INVALID, "adamw_step: t is %g, expected 1 for the first step", t);
        return;
    }
    DpsNode p = kit_as (g, r->in[0], 1, n), grad = kit_scale (g, kit_as (g, r->in[1], 1, n), scale);
    DpsNode m = kit_add (g, kit_as (g, r->in[2], 1, n), grad, b1, 1 - b1);
    DpsNode v = kit_add (g, kit_as (g, r->in[3], 1, n), kit_mul (g, grad, grad), b2, 1 - b2);
    DpsNode root = kit_affine (g, kit_map (g, DPS_OP_sqrt, kit_scale (g, v, 1 / (1 - pow (b2, t)))), 1, a[3].f);
    DpsNode move = kit_div (g, kit_scale (g, m, 1 / (1 - pow (b1, t))), root);
    DpsNode next = kit_add (g, p, move, 1 - lr * a[4].f, -lr);
    kit_store (g, next, r->out[0]);
    kit_store (g, m, r->out[1]);
    kit_store (g, v, r->out[2]);
    kit_store (g, next, r->n_out > 3 ? r->out[3] : -1);
}

static const struct {
    DpsOpCode op;
    void (*record) (DpsGraph *g, const DpsRecord *r);
} decompositions[] = {
    {DPS_OP_rms_norm, decompose_rms_norm},
    {DPS_OP_rms_norm_dx, decompose_rms_norm_dx},
    {DPS_OP_rms_norm_dw, decompose_rms_norm_dw},
    {DPS_OP_rope, decompose_rope},
    {DPS_OP_attention, dps__decompose_attention},
    {DPS_OP_attention_bwd, dps__decompose_attention_bwd},
    {DPS_OP_geglu, decompose_gate},
    {DPS_OP_geglu_bwd, decompose_gate_bwd},
    {DPS_OP_swiglu, decompose_gate},
    {DPS_OP_swiglu_bwd, decompose_gate_bwd},
    {DPS_OP_token_logprobs, dps__decompose_token_logprobs},
    {DPS_OP_row_logprobs, dps__decompose_row_logprobs},
    {DPS_OP_token_logprobs_dw, dps__decompose_token_logprobs_dw},
    {DPS_OP_adamw_step, decompose_adamw_step},
};
enum { N_DECOMPOSITIONS = sizeof decompositions / sizeof *decompositions };

int dps_op_decomposes (DpsOpCode op)
{
    for (int i = 0; i < N_DECOMPOSITIONS; i++)
        if (decompositions[i].op == op)
            return 1;
    return 0;
}

DpsStatus dps_graph_decompose (DpsGraph *g, const DpsRecord *r, DpsError *err)
{
    for (int i = 0; i < N_DECOMPOSITIONS; i++)
        if (decompositions[i].op == (DpsOpCode)r->op) {
            decompositions[i].record (g, r);
            return dps_graph_status (g, err);
        }
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s has no decomposition", dps_op_name ((DpsOpCode)r->op));
}
