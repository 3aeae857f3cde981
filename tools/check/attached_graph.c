/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attached_graph.c: the attached adapter in the host's own graph, as in a model: rows of a table are x, its map gives y, and a map of one row makes a
 * number of each row of y, from which the adjoints start.
 */
#include <string.h>

#include "base/mem.h"
#include "check/attached.h"
#include "exec/exec.h"
#include "exec/plan.h"
#include "graph/build.h"
#include "graph/model.h"

/* The model's weights: the base map, the table, the map to one number; then the adapter's. */
enum { BASE, TABLE, HEAD, FIRST };

typedef struct Mapped {
    DpsModel model;
    DpsWeight weights[FIRST + CHECK_MAX_PARAMS];
    DpsSite sites[1];
    const float *values[FIRST + CHECK_MAX_PARAMS];
    float *grads[FIRST + CHECK_MAX_PARAMS]; /* NULL: it does not train */
} Mapped;

static DpsStatus resolve (void *ctx, DpsTensorKind kind, int32_t index, DpsOpCode op, int slot, DpsView *out, DpsError *err)
{
    const Mapped *m = ctx;
    const void *at = kind == DPS_TENSOR_PARAM ? m->values[index] : kind == DPS_TENSOR_GRAD ? m->grads[index] : NULL;
    if (!at)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s operand %d: a gradient of what does not train", dps_op_name (op), slot);
    *out = dps_view (DPS_DTYPE_F32, m->weights[index].rank, m->weights[index].shape, at);
    return DPS_OK;
}

static void describe_model (const Attached *a, const float *x, const float *cols, AttachedGrads *g, Mapped *m)
{
    *m = (Mapped){.weights = {[BASE] = {.name = (char *)attached_name, .role = DPS_WEIGHT_LINEAR, .rank = 2, .shape = {O, K}},
                              [TABLE] = {.name = (char *)"x", .role = DPS_WEIGHT_EMBED, .rank = 2, .shape = {N, K}, .trainable = 1},
                              [HEAD] = {.name = (char *)"head", .role = DPS_WEIGHT_SCORE, .rank = 2, .shape = {1, O}}},
                  .sites = {{.n = a->n, .self = a->self, .adapter = a->table}},
                  .values = {[BASE] = a->w, [TABLE] = x, [HEAD] = cols},
                  .grads = {[TABLE] = g->x}};
    for (uint32_t i = 0; i < a->n; i++) {
        const DpsAdapterParam *p = &a->layout[i];
        m->weights[FIRST + i] = (DpsWeight){.name = (char *)p->suffix,
                                            .role = DPS_WEIGHT_ADAPTER,
                                            .rank = p->rank,
                                            .shape = {p->shape[0], p->rank == 2 ? p->shape[1] : 1},
                                            .trainable = 1};
        m->sites[0].weight[i] = (int32_t)(FIRST + i);
        m->values[FIRST + i] = a->values[i];
        m->grads[FIRST + i] = g->params[i];
    }
    m->model = (DpsModel){.weights = m->weights, .n_weights = FIRST + a->n, .n_base = FIRST, .sites = m->sites};
}

static DpsStatus record (const Mapped *m, DpsGraph *g, uint64_t *out_peak, DpsError *err)
{
    DPS_TRY (dps_graph_init (g, m->model.n_weights, DPS_DTYPE_F32, 1, err));
    for (size_t i = 0; i < m->model.n_weights; i++)
        dps__model_weight (&m->model, g, (int32_t)i);
    g->training = 0; /* what trains is known by now; dropout is the identity */
    DpsNode ids = dps_graph_input (g, DPS_INPUT_IDS, DPS_DTYPE_I32, 1, (int64_t[]){N});
    dps_graph_input (g, DPS_INPUT_ROOTS, DPS_DTYPE_I32, 1, (int64_t[]){2});
    DpsNode x = dps_build_embed (g, g->params[TABLE], ids, 1);
    DpsNode y = dps__model_linear (&m->model, g, &(DpsForward){.n_tokens = N, .n_roots = 1}, BASE, -1, x);
    dps_graph_seed (g, dps_build_linear (g, y, g->params[HEAD], -1, -1, 1, DPS_DTYPE_F32), DPS_INPUT_DSCORE);
    DPS_TRY (dps_graph_backward (g, 0, err));
    return dps_plan_layout (g, out_peak, err);
}

static DpsStatus run (const CheckContext *ctx, Mapped *m, const DpsGraph *g, uint64_t peak, const float *rows, DpsError *err)
{
    static const int32_t ids[N] = {0, 1, 2}, roots[] = {0, N};
    const DpsBindings b = {
        .ctx = m, .resolve = resolve, .inputs = {[DPS_INPUT_IDS] = ids, [DPS_INPUT_ROOTS] = roots, [DPS_INPUT_DSCORE] = rows}};
    const char *device = "ref";
    DpsExec ex;
    DPS_TRY (dps_exec_open (&ex, ctx->registry, &device, 1, err));
    DpsStatus st = dps_exec_reserve (&ex, peak, err);
    if (st == DPS_OK)
        st = dps_exec_run (&ex, g, peak, 0, g->n_ops, &b, err);
    dps_exec_close (&ex);
    return st;
}

DpsStatus attached_gradients (const Attached *a, const float *rows, const float *cols, AttachedGrads *out, DpsError *err)
{
    static Mapped m;
    float x[MOST_X];
    DpsGraph g;
    uint64_t peak;
    *out = (AttachedGrads){.params = {0}};
    for (uint32_t i = 0; i < a->n; i++)
        if (!(out->params[i] = dps_calloc ((size_t)attached_elements (&a->layout[i]), sizeof **out->params)))
            return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    for (int i = 0; i < N * K; i++)
        x[i] = (float)a->x[i];
    describe_model (a, x, cols, out, &m);
    DpsStatus st = record (&m, &g, &peak, err);
    if (st == DPS_OK)
        st = run (a->ctx, &m, &g, peak, rows, err);
    dps_graph_free (&g);
    return st;
}

void attached_gradients_drop (AttachedGrads *g)
{
    for (uint32_t i = 0; i < CHECK_MAX_PARAMS; i++)
        dps_free (g->params[i]);
    *g = (AttachedGrads){.params = {0}};
}
