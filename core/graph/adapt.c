/* SPDX-License-Identifier: Apache-2.0 */
/* adapt.c: a linear map with what an adapter plugin makes of it: the host's side of DpsBuilderOps (adapter.h). */
#include "graph/build.h"
#include "graph/model.h"

struct DpsBuilder {
    const DpsModel *m;
    DpsGraph *g;
    const DpsForward *f;
    int32_t weight;
    const DpsSite *site; /* whose forward is being recorded */
};

static DpsNode record_site (const DpsModel *m, DpsGraph *g, const DpsForward *f, int32_t weight, const DpsSite *site, DpsNode x);

/* An adapter that was put on another has that one for its base. */
static DpsNode build_base (struct DpsBuilder *b, DpsNode x)
{
    if (b->site->below)
        return record_site (b->m, b->g, b->f, b->weight, b->site->below, x);
    return dps_build_linear (b->g, x, dps__model_weight (b->m, b->g, b->weight), -1, -1, 1, b->g->compute);
}

/* An op's alpha of 0 counts as 1 (ops.h); here it is 0: the product is recorded, and taken no times. */
static DpsNode build_linear (struct DpsBuilder *b, DpsNode x, DpsNode p, DpsNode c, double alpha)
{
    if (alpha != 0)
        return dps_build_linear (b->g, x, p, -1, c, alpha, b->g->compute);
    DpsNode y = dps_build_linear (b->g, x, p, -1, -1, 1, b->g->compute);
    DpsScalar times[] = {{.f = 1}, {.f = c < 0 ? -1 : 0}};
    return dps_graph_op (b->g, DPS_OP_add, (DpsNode[]){c < 0 ? y : c, y}, 2, times, 2, b->g->compute, NULL, 1);
}

static DpsNode build_add (struct DpsBuilder *b, DpsNode x, DpsNode y) { return dps_build_add (b->g, x, y, b->g->compute); }

static DpsNode build_sub (struct DpsBuilder *b, DpsNode x, DpsNode y)
{
    return dps_graph_op (b->g, DPS_OP_add, (DpsNode[]){x, y}, 2, (DpsScalar[]){{.f = 1}, {.f = -1}}, 2, b->g->compute, NULL, 1);
}

static DpsNode build_mul_cols (struct DpsBuilder *b, DpsNode x, DpsNode v)
{
    return dps_graph_op (b->g, DPS_OP_mul_cols, (DpsNode[]){x, v}, 2, NULL, 0, b->g->compute, NULL, 1);
}

static uint32_t vector_dtype (const DpsGraph *g) { return g->compute == DPS_DTYPE_F64 ? DPS_DTYPE_F64 : DPS_DTYPE_F32; }

/* Rows (N,D) by a vector (D): by its reciprocal, column by column; detached, also where the vector trains. */
static DpsNode build_div (struct DpsBuilder *b, DpsNode x, DpsNode y)
{
    if (x < 0 || y < 0)
        return dps_graph_fail (b->g, DPS_ERR_INVALID, "adapter: div without an operand");
    uint32_t dtype = vector_dtype (b->g);
    DpsTensor tx = b->g->tensors[x], ty = b->g->tensors[y];
    if (tx.rank == ty.rank)
        return dps_graph_op (b->g, DPS_OP_div, (DpsNode[]){x, y}, 2, NULL, 0, dtype, NULL, 1);
    DpsNode ones = dps_graph_temp (b->g, dtype, 1, ty.shape);
    dps_graph_op (b->g, DPS_OP_fill, NULL, 0, (DpsScalar[]){{.f = 1}}, 1, dtype, &ones, 1);
    DpsNode reciprocal = dps_graph_op (b->g, DPS_OP_div, (DpsNode[]){ones, y}, 2, NULL, 0, dtype, NULL, 1);
    if (reciprocal >= 0)
        b->g->tensors[reciprocal].requires_grad = 0;
    return build_mul_cols (b, x, reciprocal);
}

static DpsNode build_dropout (struct DpsBuilder *b, DpsNode x, double p)
{
    if (!b->g->training || p <= 0)
        return x;
    DpsScalar attrs[] = {{.f = p}, {.i = (int64_t)b->f->dropout_seed}, {.i = b->weight}};
    return dps_graph_op (b->g, DPS_OP_dropout, (DpsNode[]){x, b->g->inputs[DPS_INPUT_KEYS]}, 2, attrs, 3, b->g->compute, NULL, 1);
}

static DpsNode build_weight_norm (struct DpsBuilder *b, DpsNode a, DpsNode bb, double s)
{
    DpsNode out[2] = {-1, -1}, w = dps__model_weight (b->m, b->g, b->weight);
    dps_graph_op (b->g, DPS_OP_dora_norm, (DpsNode[]){w, a, bb, -1}, 4, (DpsScalar[]){{.f = s}}, 1, DPS_DTYPE_F32, out, 2);
    return out[1];
}

static const DpsBuilderOps builder_ops = {
    .size = sizeof (DpsBuilderOps),
    .base = build_base,
    .linear = build_linear,
    .add = build_add,
    .mul_cols = build_mul_cols,
    .div = build_div,
    .dropout = build_dropout,
    .weight_norm = build_weight_norm,
    .sub = build_sub,
};

static DpsNode record_site (const DpsModel *m, DpsGraph *g, const DpsForward *f, int32_t weight, const DpsSite *site, DpsNode x)
{
    struct DpsBuilder b = {m, g, f, weight, site};
    DpsNode params[8], y = -1;
    DpsError err = DPS_ERROR_INIT;
    for (uint32_t i = 0; i < site->n; i++)
        params[i] = dps__model_weight (m, g, site->weight[i]);
    DpsStatus st = site->adapter->forward (site->self, &builder_ops, &b, x, params, site->n, &y, &err);
    return st == DPS_OK ? y : dps_graph_fail (g, st, "%s: %s", m->weights[weight].name, err.msg);
}

DpsNode dps__model_linear (const DpsModel *m, DpsGraph *g, const DpsForward *f, int32_t weight, int32_t bias, DpsNode x)
{
    const DpsSite *site = &m->sites[weight];
    DpsNode bias_node = dps__model_weight (m, g, bias);
    if (site->n == 0)
        return dps_build_linear (g, x, dps__model_weight (m, g, weight), bias_node, -1, 1, g->compute);
    DpsNode y = record_site (m, g, f, weight, site, x);
    if (bias_node < 0 || y < 0)
        return y;
    return dps_graph_op (g, DPS_OP_add_cols, (DpsNode[]){y, bias_node}, 2, NULL, 0, g->compute, NULL, 1);
}
