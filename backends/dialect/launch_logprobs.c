/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch_logprobs.c: the vocabulary goes by in chunks of one size, whatever the call: a product, its softmax brought up to date, and, where the
 * adjoint will be wanted, a second product that gathers Σ p·W. So S×V numbers never exist, and a row's bits are those of any other call.
 */
#include "launch.h"

enum { CHUNK_ALONE = 2048, CHUNK = 16384, ROW_STATE = 6 /* floats a row, as logprobs.cl has them */ };

typedef struct Head {
    const DpsView *h, *w, *targets; /* row_logprobs: h and w NULL */
    int64_t S, D, V, chunk;
    double cap, factor;
    DpsView state, best, acc;
    int64_t shape[2], acc_shape[2];
} Head;

static DpsStatus open_head (const DpsLaunch *l, DpsOpCall *c, const DpsView *targets, Head *t)
{
    double temperature = dps_opcall_f (c, 1);
    t->targets = targets;
    t->S = c->dim['S'], t->V = c->dim['V'];
    t->chunk = l->lanes == 1 ? CHUNK_ALONE : CHUNK;
    t->cap = dps_opcall_f (c, 0);
    t->factor = temperature == 0 ? 1 : 1 / temperature;
    DPS_TRY (dps_launch_indices (c, targets, "targets", t->V));
    t->shape[0] = t->S;
    t->shape[1] = ROW_STATE + 1;
    DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP2, DPS_DTYPE_F32, 2, t->shape, &t->state, c->err));
    t->best = t->state;
    t->best.dtype = DPS_DTYPE_I32;
    t->best.offset += (uint64_t)(t->S * ROW_STATE) * 4;
    return DPS_OK;
}

static DpsStatus open_weights (const DpsLaunch *l, DpsOpCall *c, Head *t)
{
    t->h = c->in[0];
    t->w = c->in[1];
    t->D = c->dim['D'];
    return open_head (l, c, c->in[2], t);
}

/* z (S, n): h·Wᵀ of a chunk, as linear rounds it. */
static DpsStatus chunk_products (const DpsLaunch *l, DpsOpCall *c, const Head *t, int64_t first, int64_t shape[2], DpsView *out_z)
{
    shape[0] = t->S;
    shape[1] = t->V - first < t->chunk ? t->V - first : t->chunk;
    DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP, DPS_DTYPE_F32, 2, shape, out_z, c->err));
    const DpsProduct p = {.a = t->h, .w = t->w, .orientation = DPS_PACK_FORWARD, .first = first, .count = shape[1], .alpha = 1, .y = out_z};
    return dps_launch_product (l, &p, c->err);
}

/* One chunk into every row's state. p, acc: NULL where no adjoint is wanted. */
static DpsStatus soften (const DpsLaunch *l, DpsOpCall *c, const Head *t, const DpsView *z, int64_t ld, int64_t first, int64_t n,
                         const DpsView *p, const DpsView *acc)
{
    DpsKernel k = dps_kernel ("logprobs", "dps_logprobs_chunk");
    dps_arg_of (&k, z);
    dps_arg_i64 (&k, ld);
    dps_arg_of (&k, t->targets);
    dps_arg_of (&k, &t->state);
    dps_arg_of (&k, &t->best);
    dps_arg (&k, p);
    dps_arg (&k, acc);
    dps_arg_i64 (&k, t->D);
    dps_arg_i64 (&k, first);
    dps_arg_i64 (&k, n);
    dps_arg_f32 (&k, t->cap);
    dps_arg_f32 (&k, t->factor);
    return dps_launch_rows_of (l, &k, t->S, c->err);
}

/* acc += p·W of the chunk. */
static DpsStatus gather_weights (const DpsLaunch *l, DpsOpCall *c, const Head *t, const DpsView *w, const DpsView *p, int64_t first)
{
    const DpsProduct q = {
        .a = p, .w = w, .orientation = DPS_PACK_INPUT_GRAD, .first = first, .count = p->shape[1], .alpha = 1, .c = &t->acc, .y = &t->acc};
    return dps_launch_product (l, &q, c->err);
}

static DpsStatus all_chunks (const DpsLaunch *l, DpsOpCall *c, Head *t, const DpsView *w_grad)
{
    for (int64_t first = 0; first < t->V; first += t->chunk) {
        int64_t shape[2];
        DpsView z, p;
        DPS_TRY (chunk_products (l, c, t, first, shape, &z));
        if (w_grad)
            DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP4, w_grad->dtype == DPS_DTYPE_BF16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32, 2, shape, &p,
                                      c->err));
        DPS_TRY (soften (l, c, t, &z, shape[1], first, shape[1], w_grad ? &p : NULL, w_grad ? &t->acc : NULL));
        if (w_grad)
            DPS_TRY (gather_weights (l, c, t, w_grad, &p, first));
    }
    return DPS_OK;
}

static DpsStatus finish (const DpsLaunch *l, DpsOpCall *c, const Head *t, const DpsView *logp, const DpsView *entropy, const DpsView *hit)
{
    DpsKernel k = dps_kernel ("logprobs", "dps_logprobs_end");
    dps_arg_of (&k, t->targets);
    dps_arg_of (&k, &t->state);
    dps_arg_of (&k, &t->best);
    dps_arg (&k, logp);
    dps_arg (&k, entropy);
    dps_arg (&k, hit);
    dps_arg_i64 (&k, t->S);
    return dps_launch_flat (l, &k, t->S, c->err);
}

/* dir = W[target]·slope − acc/sum. */
static DpsStatus finish_dir (const DpsLaunch *l, DpsOpCall *c, const Head *t, const DpsView *dir)
{
    DpsView rows;
    DpsKernel k = dps_kernel ("logprobs", "dps_logprobs_dir");
    DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP4, DPS_DTYPE_F32, 2, t->acc_shape, &rows, c->err));
    DPS_TRY (dps_launch_take_rows (l, t->w, t->targets, 1, &rows, c->err));
    dps_arg (&k, &rows);
    dps_arg_of (&k, &t->state);
    dps_arg_of (&k, &t->acc);
    dps_arg (&k, dir);
    dps_arg_i64 (&k, t->D);
    return dps_launch_rows_of (l, &k, t->S, c->err);
}

static DpsStatus check (const DpsLaunch *l, DpsOpCall *c)
{
    (void)l;
    if (c->dim['V'] < 1)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: the vocabulary is empty", c->who, c->name);
    return DPS_OK;
}

static DpsStatus token_logprobs (const DpsLaunch *l, DpsOpCall *c)
{
    const DpsView *dir = c->out[3];
    Head t = {0};
    DPS_TRY (open_weights (l, c, &t));
    t.acc_shape[0] = t.S;
    t.acc_shape[1] = t.D;
    if (dir)
        DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP3, DPS_DTYPE_F32, 2, t.acc_shape, &t.acc, c->err));
    const DpsView *w_grad = c->in[3] && t.w->layout != DPS_LAYOUT_ROW_MAJOR ? c->in[3] : t.w;
    DPS_TRY (all_chunks (l, c, &t, dir ? w_grad : NULL));
    DPS_TRY (finish (l, c, &t, c->out[0], c->out[1], c->out[2]));
    return dir ? finish_dir (l, c, &t, dir) : DPS_OK;
}

/* The rows are there whole: the same chunks, without the product. */
static DpsStatus row_logprobs (const DpsLaunch *l, DpsOpCall *c)
{
    Head t = {0};
    DPS_TRY (open_head (l, c, c->in[1], &t));
    for (int64_t first = 0; first < t.V; first += t.chunk) {
        DpsView z = *c->in[0];
        z.offset += (uint64_t)first * 4;
        DPS_TRY (soften (l, c, &t, &z, t.V, first, t.V - first < t.chunk ? t.V - first : t.chunk, NULL, NULL));
    }
    return finish (l, c, &t, c->out[0], NULL, NULL);
}

static DpsStatus row_check (const DpsLaunch *l, DpsOpCall *c)
{
    if (c->in[0]->dtype != DPS_DTYPE_F32)
        return dps_fail (c->err, DPS_ERR_DTYPE, "%s row_logprobs: z has dtype number %u, expected f32", c->who, c->in[0]->dtype);
    return check (l, c);
}

static DpsStatus chunk_dz (const DpsLaunch *l, DpsOpCall *c, const Head *t, const DpsView *z, const DpsView *dlogp, int64_t first,
                           const DpsView *dz)
{
    DpsKernel k = dps_kernel ("logprobs", "dps_logprobs_dz");
    dps_arg_of (&k, z);
    dps_arg_i64 (&k, z->shape[1]);
    dps_arg_of (&k, t->targets);
    dps_arg_of (&k, &t->state);
    dps_arg (&k, dlogp);
    dps_arg_of (&k, dz);
    dps_arg_i64 (&k, first);
    dps_arg_i64 (&k, z->shape[1]);
    dps_arg_f32 (&k, t->cap);
    dps_arg_f32 (&k, t->factor);
    return dps_launch_rows_of (l, &k, t->S, c->err);
}

/* dW[first …] += Σ over roots of dzᵀ·h, after a pass for the sums. */
static DpsStatus token_logprobs_dw (const DpsLaunch *l, DpsOpCall *c)
{
    const DpsView *dlogp = c->in[3], *roots = c->in[4], *dw = c->out[0];
    Head t = {0};
    DPS_TRY (dps_launch_roots (c, roots, c->dim['S']));
    DPS_TRY (open_weights (l, c, &t));
    DPS_TRY (all_chunks (l, c, &t, NULL));
    for (int64_t first = 0; first < t.V; first += t.chunk) {
        int64_t shape[2], rows[2];
        DpsView z, dz, part;
        DPS_TRY (chunk_products (l, c, &t, first, shape, &z));
        DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP4, DPS_DTYPE_F32, 2, shape, &dz, c->err));
        DPS_TRY (chunk_dz (l, c, &t, &z, dlogp, first, &dz));
        part = dps_launch_rows_view (dw, first, shape[1], rows);
        DPS_TRY (dps_launch_outer (l, &(DpsOuter){.dy = &dz, .x = t.h, .roots = roots, .dw = &part, .alpha = 1}, c->err));
    }
    return DPS_OK;
}

static DpsStatus dw_check (const DpsLaunch *l, DpsOpCall *c)
{
    if (c->out[0]->dtype != DPS_DTYPE_F32)
        return dps_fail (c->err, DPS_ERR_DTYPE, "%s token_logprobs_dw: dW has dtype number %u, expected f32", c->who, c->out[0]->dtype);
    return check (l, c);
}

const DpsLaunchOp dps_launch_logprobs[] = {
    {"token_logprobs", "h:S,D W:V,D:weight targets:S:i32 ?pack:-", "logp:S ?entropy:S ?hit:S ?dir:S,D", check, token_logprobs},
    {"row_logprobs", "z:S,V targets:S:i32", "logp:S", row_check, row_logprobs},
    {"token_logprobs_dw", "h:S,D W:V,D targets:S:i32 dlogp:S roots:R:i32", "dW:V,D", dw_check, token_logprobs_dw},
    {NULL, NULL, NULL, NULL, NULL},
};
