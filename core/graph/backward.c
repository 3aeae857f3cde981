/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backward.c: walks the forward records in reverse and lets each emit its adjoint. With checkpointing, the records of a layer are recorded
 * again (recomputed) just before their adjoints, so that between forward and backward only the layer's input stays alive.
 */
#include <string.h>

#include "base/mem.h"
#include "graph/rules.h"

/* The grad table covers every tensor there is now. */
static int cover (DpsAdjoint *a)
{
    size_t n = a->g->n_tensors;
    if (n <= a->n)
        return 0;
    DpsNode *grad = dps_realloc (a->grad, n, sizeof *grad);
    if (!grad)
        return -1;
    for (size_t i = a->n; i < n; i++)
        grad[i] = -1;
    a->grad = grad;
    a->n = n;
    return 0;
}

static int adjoint_of (DpsAdjoint *a, const DpsRecord *r)
{
    DpsNode y = r->out[0];
    if (y < 0 || !a->g->tensors[y].requires_grad || a->grad[y] < 0)
        return 0;
    DpsRecord copy = *r; /* emitting may move the op array */
    a->g->layer = r->layer;
    dps__op_adjoint (a, &copy, a->grad[y]);
    return a->g->status == DPS_OK ? 0 : -1;
}

/* Whether an op of [first, end) reads an output of record `at`. */
static int read_inside (const DpsGraph *g, size_t at, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++)
        for (int k = 0; k < g->ops[i].n_in; k++)
            for (int o = 0; o < g->ops[at].n_out; o++)
                if (g->ops[i].in[k] >= 0 && g->ops[i].in[k] == g->ops[at].out[o])
                    return 1;
    return 0;
}

/* Record ops [first, end) again; map[old node] = new node. copies receives the records whose adjoints are to be emitted. */
static int recompute (DpsAdjoint *a, size_t first, size_t end, DpsNode *map, DpsRecord *copies)
{
    DpsGraph *g = a->g;
    for (size_t i = first; i < end; i++) {
        DpsRecord r = g->ops[i];
        g->layer = r.layer;
        for (int k = 0; k < r.n_in; k++)
            r.in[k] = r.in[k] >= 0 ? map[r.in[k]] : -1;
        if (read_inside (g, i, first, end)) {
            DpsNode out[DPS_OP_MAX_OUT];
            memset (out, 0xff, sizeof out);
            int made = 0; /* the first output there is: dora_norm may leave out its first */
            while (made + 1 < r.n_out && r.out[made] < 0)
                made++;
            DpsTensor like = g->tensors[r.out[made]];
            if (r.op == DPS_OP_fill) /* no shape rule gives it an output */
                out[0] = dps_graph_temp (g, like.dtype, like.rank, like.shape);
            dps_graph_op (g, (DpsOpCode)r.op, r.in, r.n_in, r.attrs, r.n_attrs, like.dtype, out, r.n_out);
            if (g->status != DPS_OK || cover (a))
                return -1;
            for (int o = 0; o < r.n_out; o++)
                if (r.out[o] >= 0 && out[o] >= 0) {
                    g->tensors[out[o]].requires_grad = g->tensors[r.out[o]].requires_grad;
                    map[r.out[o]] = out[o];
                    r.out[o] = out[o];
                }
        }
        copies[i - first] = r;
    }
    return 0;
}

static int backward_layer (DpsAdjoint *a, size_t first, size_t end, DpsNode *map)
{
    DpsRecord *copies = dps_malloc (end - first, sizeof *copies);
    int bad = !copies || recompute (a, first, end, map, copies);
    for (size_t i = end; !bad && i > first; i--)
        bad = adjoint_of (a, &copies[i - first - 1]);
    dps_free (copies);
    return bad;
}

static int walk (DpsAdjoint *a, int checkpoint, DpsNode *map)
{
    DpsGraph *g = a->g;
    size_t end = g->n_forward;
    while (end > 0) {
        size_t first = end - 1;
        int16_t layer = g->ops[first].layer;
        while (checkpoint && layer >= 0 && first > 0 && g->ops[first - 1].layer == layer)
            first--;
        if (checkpoint && layer >= 0) {
            if (backward_layer (a, first, end, map))
                return -1;
        } else {
            DpsRecord r = g->ops[first];
            if (adjoint_of (a, &r))
                return -1;
        }
        end = first;
    }
    return 0;
}

DpsStatus dps_graph_backward (DpsGraph *g, int checkpoint, DpsError *err)
{
    DPS_TRY (dps_graph_status (g, err));
    DpsAdjoint a = {.g = g};
    g->n_forward = g->n_ops;
    DpsNode *map = dps_malloc (g->n_tensors, sizeof *map);
    for (size_t i = 0; map && i < g->n_tensors; i++)
        map[i] = (DpsNode)i;
    int bad = !map;
    for (int i = 0; !bad && i < DPS_INPUT_COUNT; i++) {
        DpsNode value = g->seeds[i];
        if (value < 0)
            continue;
        DpsNode seed = dps_graph_input (g, (DpsInput)i, DPS_DTYPE_F32, g->tensors[value].rank, g->tensors[value].shape);
        bad = seed < 0 || cover (&a);
        if (!bad)
            a.grad[value] = seed;
    }
    bad = bad || cover (&a) || walk (&a, checkpoint, map);
    dps_free (map);
    dps_free (a.grad);
    g->layer = -1;
    if (g->status == DPS_OK && bad)
        return dps_fail (err, DPS_ERR_NOMEM, "graph: out of memory for the backward pass");
    return dps_graph_status (g, err);
}
