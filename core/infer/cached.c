/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/cached.h"

#include "base/mem.h"
#include "exec/plan.h"
#include "exec/stage.h"

/* Segment tables grow in steps, so that a prompt that comes or goes makes no new graph. What fills the last step is empty. */
enum { SEGMENT_STEP = 16 };

static size_t stepped (size_t n) { return (n + SEGMENT_STEP - 1) / SEGMENT_STEP * SEGMENT_STEP; }

static uint64_t row_bytes (const DpsWeights *w)
{
    return (uint64_t)(w->model->dec.n_kv_heads * w->model->dec.head_dim) * dps_dtype_bytes (w->compute);
}

uint64_t dps__cached_bytes (const DpsWeights *w, int64_t n_rows)
{
    return 2 * (uint64_t)w->model->dec.n_layers * (uint64_t)n_rows * row_bytes (w);
}

DpsStatus dps__cached_open (DpsCached *c, DpsWeights *w, int64_t n_rows, size_t most_tokens, size_t most_segments, DpsError *err)
{
    const DpsDecoder *d = &w->model->dec;
    *c = (DpsCached){.w = w, .n_rows = n_rows, .graph_tokens = -1};
    if (n_rows > INT32_MAX)
        return dps_fail (err, DPS_ERR_LIMIT, "generate: a cache of %lld tokens, at most %d. Hint: a smaller batch, or fewer tokens",
                         (long long)n_rows, INT32_MAX);
    c->states = dps_calloc (2 * (size_t)d->n_layers, sizeof *c->states);
    c->nodes = dps_calloc (1, sizeof *c->nodes);
    c->ids = dps_calloc (most_tokens, sizeof *c->ids);
    c->rows = dps_calloc (most_tokens, sizeof *c->rows);
    c->last = dps_calloc (most_segments, sizeof *c->last);
    c->segments = dps_calloc (stepped (most_segments), sizeof *c->segments);
    int ok = c->states && c->nodes && c->ids && c->rows && c->last && c->segments;
    for (uint32_t i = 0; ok && i < d->n_ropes; i++) {
        c->ropes[i] = dps_malloc ((size_t)d->head_dim / 2, sizeof **c->ropes);
        ok = c->ropes[i] != NULL;
        if (ok)
            dps_rope_table (&d->ropes[i], d->head_dim, c->ropes[i]);
    }
    if (!ok)
        return dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory for calls of %zu tokens", most_tokens);
    for (int64_t i = 0; i < 2 * d->n_layers; i++)
        DPS_TRY (dps_exec_alloc (w->ex, (uint64_t)n_rows * row_bytes (w), &c->states[i], err));
    w->states = c->states;
    w->n_states = 2 * (size_t)d->n_layers;
    return DPS_OK;
}

void dps__cached_close (DpsCached *c)
{
    if (!c->w)
        return;
    for (int64_t i = 0; c->states && i < 2 * c->w->model->dec.n_layers; i++)
        dps_exec_free (c->w->ex, &c->states[i]);
    c->w->states = NULL;
    c->w->n_states = 0;
    dps_graph_free (&c->graph);
    void *arrays[] = {c->states, c->nodes, c->ids, c->rows, c->last, c->segments, c->ropes[0], c->ropes[1]};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        dps_free (arrays[i]);
    *c = (DpsCached){0};
}

int32_t dps__cached_past (DpsCached *c, int64_t row, size_t n)
{
    c->segments[c->n_segments] = (DpsSegment){.kv_start = (int32_t)row, .kv_len = (int32_t)n, .parent = -1, .position = (int32_t)n};
    return (int32_t)c->n_segments++;
}

void dps__cached_add (DpsCached *c, int32_t parent, size_t past, int64_t row, size_t own, const int32_t *ids, size_t n)
{
    int32_t at = (int32_t)c->n_tokens, len = (int32_t)n, before = (int32_t)own;
    c->segments[c->n_segments++] = (DpsSegment){.q_start = at,
                                                .q_len = len,
                                                .kv_start = (int32_t)row,
                                                .kv_len = before + len,
                                                .parent = parent,
                                                .position = (int32_t)past + before};
    for (int32_t i = 0; i < len; i++) {
        c->ids[at + i] = ids[i];
        c->rows[at + i] = (int32_t)row + before + i;
    }
    c->last[c->n_runs++] = at + len - 1;
    c->n_tokens += len;
}

/* Ask where the log-probs of these rows would be taken in training, direction included: sampling's must have their bits. */
static DpsStatus place_head (DpsWeights *w, int64_t rows, DpsError *err)
{
    const DpsWeight *head = &w->model->weights[w->model->head];
    const int64_t of_h[] = {rows, w->model->dec.hidden};
    DpsView h = dps_view (w->compute, 2, of_h, NULL), targets = dps_view (DPS_DTYPE_I32, 1, of_h, NULL), weight[2];
    const DpsView number = dps_view (DPS_DTYPE_F32, 1, of_h, NULL);
    for (int i = 0; i < 2; i++) {
        weight[i] = dps_view (w->compute, head->rank, head->shape, NULL);
        DPS_TRY (dps_weights_resolve (w, DPS_TENSOR_PARAM, w->model->head, DPS_OP_token_logprobs, 1 + 2 * i, &weight[i], err));
    }
    int device;
    DPS_TRY (dps_exec_place (w->ex, DPS_OP_token_logprobs,
                             (DpsOp){DPS_IN (&h, &weight[0], &targets, weight[1].dtype ? &weight[1] : NULL),
                                     DPS_OUT (&number, &number, &number, &h), DPS_ATTRS ({.f = w->model->dec.final_softcap}, {.f = 1})},
                             &device, err));
    w->ex->head = 1 + device;
    return DPS_OK;
}

static DpsStatus record (DpsGraph *g, DpsWeights *w, const DpsForward *f, DpsForwardOut *nodes, uint64_t *out_peak, DpsError *err)
{
    DPS_TRY (dps_graph_init (g, w->model->n_weights, w->compute, 0, err));
    DPS_TRY (dps_model_forward (w->model, g, f, nodes, err));
    DPS_TRY (place_head (w, f->n_scored, err));
    return dps_plan_layout (g, out_peak, err);
}

static DpsStatus record_call (DpsCached *c, DpsError *err)
{
    if (c->graph_tokens == c->n_tokens && c->graph_segments == c->n_segments && c->graph_runs == c->n_runs)
        return DPS_OK;
    dps_graph_free (&c->graph);
    c->graph_tokens = -1;
    const DpsForward f = {
        .n_tokens = c->n_tokens, .n_segments = c->n_segments, .n_scored = c->n_runs, .logits = 1, .cache_rows = c->n_rows};
    DPS_TRY (record (&c->graph, c->w, &f, c->nodes, &c->peak, err));
    DPS_TRY (dps_exec_reserve (c->w->ex, c->peak, err));
    c->graph_tokens = c->n_tokens;
    c->graph_segments = c->n_segments;
    c->graph_runs = c->n_runs;
    return DPS_OK;
}

DpsStatus dps__cached_run (DpsCached *c, float **out_logits, DpsError *err)
{
    for (int64_t end = (int64_t)stepped ((size_t)c->n_segments); c->n_segments < end; c->n_segments++)
        c->segments[c->n_segments] = (DpsSegment){.parent = -1};
    DPS_TRY (record_call (c, err));
    DpsBindings b = {.ctx = c->w, .resolve = dps_weights_resolve};
    b.inputs[DPS_INPUT_IDS] = c->ids;
    b.inputs[DPS_INPUT_SEGMENTS] = c->segments;
    b.inputs[DPS_INPUT_SCORED] = c->last;
    b.inputs[DPS_INPUT_CACHE_ROWS] = c->rows;
    b.inputs[DPS_INPUT_ROPE0] = c->ropes[0];
    b.inputs[DPS_INPUT_ROPE1] = c->ropes[1];
    DPS_TRY (dps_exec_run (c->w->ex, &c->graph, c->peak, 0, c->graph.n_ops, &b, err));
    DPS_TRY (dps_exec_fetch (c->w->ex, &c->graph, c->nodes->logits, err));
    *out_logits = dps_exec_temp (c->w->ex, &c->graph, c->nodes->logits);
    c->n_tokens = c->n_segments = c->n_runs = 0;
    return DPS_OK;
}

/* z of `n` rows, their targets and log-probs; memory is looked at only when it runs. */
typedef struct Logp {
    int64_t shape[2];
    DpsView z, targets, out;
    DpsScalar attrs[2];
    const DpsView *in[2], *outs[1];
    DpsOp call;
} Logp;

static void lay_out_logp (Logp *l, const DpsDecoder *d, int64_t n, const int32_t *targets, double temperature, float *out)
{
    *l = (Logp){.shape = {n, d->vocab}, .attrs = {{.f = d->final_softcap}, {.f = temperature}}};
    l->z = dps_view (DPS_DTYPE_F32, 2, l->shape, NULL);
    l->targets = dps_view (DPS_DTYPE_I32, 1, l->shape, targets);
    l->out = dps_view (DPS_DTYPE_F32, 1, l->shape, out);
    l->in[0] = &l->z, l->in[1] = &l->targets, l->outs[0] = &l->out;
    l->call = (DpsOp){.in = l->in, .n_in = 2, .out = l->outs, .n_out = 1, .attrs = l->attrs, .n_attrs = 2};
}

DpsStatus dps__cached_logp (DpsCached *c, int64_t row, int64_t n, const int32_t *targets, double temperature, float *out, DpsError *err)
{
    const DpsDecoder *d = &c->w->model->dec;
    uint64_t at = c->graph.tensors[c->nodes->products].offset + (uint64_t)(row * d->vocab) * sizeof (float);
    Logp l;
    lay_out_logp (&l, d, n, targets, temperature, out);
    l.z = dps_block_view (DPS_DTYPE_F32, 2, l.shape, &c->w->ex->arena, at);
    return dps_exec_op (c->w->ex, DPS_OP_row_logprobs, l.call, err);
}

static DpsStatus measure_scratch (DpsWeights *w, const DpsGraph *g, int64_t runs, uint64_t *out, DpsError *err)
{
    const DpsBindings b = {.ctx = w, .resolve = dps_weights_resolve, .outline = 1};
    uint64_t of_logp;
    Logp l;
    DPS_TRY (dps_exec_measure (w->ex, g, &b, out, err));
    lay_out_logp (&l, &w->model->dec, runs, NULL, 1, NULL);
    DPS_TRY (dps_exec_op_scratch (w->ex, DPS_OP_row_logprobs, l.call, &of_logp, err));
    *out = of_logp > *out ? of_logp : *out;
    return DPS_OK;
}

DpsStatus dps__cached_measure (DpsWeights *w, int64_t n_rows, size_t tokens, size_t segments, size_t runs, uint64_t *out_arena,
                               uint64_t *out_scratch, DpsError *err)
{
    const DpsForward f = {.n_tokens = (int64_t)tokens,
                          .n_segments = (int64_t)stepped (segments),
                          .n_scored = (int64_t)runs,
                          .logits = 1,
                          .cache_rows = n_rows};
    size_t n_states = 2 * (size_t)w->model->dec.n_layers;
    DpsGraph g = {0};
    DpsBlock *states = dps_calloc (n_states, sizeof *states);
    DpsForwardOut *nodes = dps_calloc (1, sizeof *nodes);
    DpsStatus st = states && nodes ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "plan: out of memory");
    if (st == DPS_OK)
        st = record (&g, w, &f, nodes, out_arena, err);
    w->states = states; /* nothing but their number is looked at */
    w->n_states = n_states;
    if (st == DPS_OK)
        st = measure_scratch (w, &g, (int64_t)runs, out_scratch, err);
    w->states = NULL;
    w->n_states = 0;
    dps_graph_free (&g);
    dps_free (states);
    dps_free (nodes);
    return st;
}
