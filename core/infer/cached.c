/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/cached.h"

#include "base/mem.h"
#include "exec/plan.h"

/* Segment tables grow in steps, so that a prompt that comes or goes makes no new graph. What fills the last step is empty. */
enum { SEGMENT_STEP = 16 };

static size_t stepped (size_t n) { return (n + SEGMENT_STEP - 1) / SEGMENT_STEP * SEGMENT_STEP; }

DpsStatus dps__cached_open (DpsCached *c, DpsWeights *w, int64_t n_rows, size_t most_tokens, size_t most_segments, DpsError *err)
{
    const DpsDecoder *d = &w->model->dec;
    uint64_t row_bytes = (uint64_t)(d->n_kv_heads * d->head_dim) * dps_dtype_bytes (w->compute);
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
        DPS_TRY (dps_exec_alloc (w->ex, (uint64_t)n_rows * row_bytes, &c->states[i], err));
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

static DpsStatus record (DpsCached *c, DpsError *err)
{
    if (c->graph_tokens == c->n_tokens && c->graph_segments == c->n_segments && c->graph_runs == c->n_runs)
        return DPS_OK;
    dps_graph_free (&c->graph);
    c->graph_tokens = -1;
    DpsForward f = {.n_tokens = c->n_tokens, .n_segments = c->n_segments, .n_scored = c->n_runs, .logits = 1, .cache_rows = c->n_rows};
    DPS_TRY (dps_graph_init (&c->graph, c->w->model->n_weights, c->w->compute, 0, err));
    DPS_TRY (dps_model_forward (c->w->model, &c->graph, &f, c->nodes, err));
    DPS_TRY (dps_plan_layout (&c->graph, &c->peak, err));
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
    DPS_TRY (record (c, err));
    DpsBindings b = {.ctx = c->w, .resolve = dps_weights_resolve};
    b.inputs[DPS_INPUT_IDS] = c->ids;
    b.inputs[DPS_INPUT_SEGMENTS] = c->segments;
    b.inputs[DPS_INPUT_SCORED] = c->last;
    b.inputs[DPS_INPUT_CACHE_ROWS] = c->rows;
    b.inputs[DPS_INPUT_ROPE0] = c->ropes[0];
    b.inputs[DPS_INPUT_ROPE1] = c->ropes[1];
    DPS_TRY (dps_exec_run (c->w->ex, &c->graph, c->peak, 0, c->graph.n_ops, &b, err));
    *out_logits = dps_exec_temp (c->w->ex, &c->graph, c->nodes->logits);
    c->n_tokens = c->n_segments = c->n_runs = 0;
    return DPS_OK;
}

DpsStatus dps__cached_logp (DpsCached *c, int64_t row, int64_t n, const int32_t *targets, double temperature, float *out, DpsError *err)
{
    int64_t vocab = c->w->model->dec.vocab;
    const float *products = dps_exec_temp (c->w->ex, &c->graph, c->nodes->products);
    DpsView z = dps_view (DPS_DTYPE_F32, 2, (int64_t[]){n, vocab}, products + row * vocab), t = dps_view (DPS_DTYPE_I32, 1, &n, targets),
            logp = dps_view (DPS_DTYPE_F32, 1, &n, out);
    const DpsScalar attrs[] = {{.f = c->w->model->dec.final_softcap}, {.f = temperature}};
    const DpsView *in[] = {&z, &t}, *outs[] = {&logp};
    return dps_exec_op (c->w->ex, DPS_OP_row_logprobs, in, 2, outs, 1, attrs, 2, err);
}
