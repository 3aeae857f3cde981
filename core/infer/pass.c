/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/pass.h"

#include "base/mem.h"
#include "exec/plan.h"
#include "exec/stage.h"

static DpsStatus record (DpsGraph *g, const DpsModel *model, uint32_t compute, const DpsForward *f, const DpsPassOptions *o,
                         DpsForwardOut *out, uint64_t *out_peak, DpsError *err)
{
    DPS_TRY (dps_graph_init (g, model->n_weights, compute, o->training, err));
    DPS_TRY (dps_model_forward (model, g, f, out, err));
    if (o->training)
        DPS_TRY (dps_graph_backward (g, o->checkpoint, err));
    else
        g->n_forward = g->n_ops;
    return dps_plan_layout (g, out_peak, err);
}

static DpsForward counts_of (const DpsBatch *b, const DpsPassOptions *o)
{
    return (DpsForward){.n_tokens = b->n_tokens,
                        .n_segments = b->n_segments,
                        .n_roots = b->n_roots,
                        .n_scored = b->n_scored,
                        .logprobs = !o->hidden_only && !o->logits && !o->scores,
                        .scores = o->scores,
                        .values = o->values,
                        .logits = o->logits,
                        .temperature = o->temperature,
                        .dropout_seed = o->dropout_seed,
                        .keep_layers = o->keep_layers};
}

DpsStatus dps_pass_measure (DpsWeights *weights, const DpsForward *counts, const DpsPassOptions *options, uint64_t *out_peak,
                            uint64_t *out_scratch, DpsError *err)
{
    const DpsBindings b = {.ctx = weights, .resolve = dps_weights_resolve, .outline = 1};
    DpsGraph g;
    DpsForwardOut *out = dps_malloc (1, sizeof *out);
    if (!out)
        return dps_fail (err, DPS_ERR_NOMEM, "plan: out of memory");
    DpsStatus st = record (&g, weights->model, weights->compute, counts, options, out, out_peak, err);
    if (st == DPS_OK)
        st = dps_exec_measure (weights->ex, &g, &b, out_scratch, err);
    dps_graph_free (&g);
    dps_free (out);
    return st;
}

DpsStatus dps_pass_open (DpsPass *p, DpsWeights *weights, const DpsBatch *batch, const DpsPassOptions *options, DpsError *err)
{
    const DpsDecoder *d = &weights->model->dec;
    *p = (DpsPass){.weights = weights, .batch = batch};
    DpsForward f = counts_of (batch, options);
    DpsStatus st = record (&p->graph, weights->model, weights->compute, &f, options, &p->out, &p->peak, err);
    for (uint32_t i = 0; st == DPS_OK && i < d->n_ropes; i++) {
        p->ropes[i] = dps_malloc ((size_t)d->head_dim / 2, sizeof **p->ropes);
        if (!p->ropes[i])
            st = dps_fail (err, DPS_ERR_NOMEM, "pass: out of memory");
        else
            dps_rope_table (&d->ropes[i], d->head_dim, p->ropes[i]);
    }
    if (st != DPS_OK) {
        dps_pass_close (p);
        return st;
    }
    p->bindings = (DpsBindings){.ctx = weights, .resolve = dps_weights_resolve};
    const void **in = p->bindings.inputs;
    in[DPS_INPUT_IDS] = batch->ids;
    in[DPS_INPUT_SEGMENTS] = batch->segments;
    in[DPS_INPUT_ROOTS] = batch->roots;
    in[DPS_INPUT_SCORED] = batch->scored;
    in[DPS_INPUT_TARGETS] = batch->targets;
    in[DPS_INPUT_SCORED_ROOTS] = batch->scored_roots;
    in[DPS_INPUT_KEYS] = batch->keys;
    in[DPS_INPUT_ROPE0] = p->ropes[0];
    in[DPS_INPUT_ROPE1] = p->ropes[1];
    return DPS_OK;
}

DpsStatus dps_pass_forward (DpsPass *p, DpsError *err)
{
    DpsExec *ex = p->weights->ex;
    const DpsNode results[] = {p->out.logp, p->out.entropy, p->out.hit, p->out.score, p->out.value};
    DPS_TRY (dps_exec_run (ex, &p->graph, p->peak, 0, p->graph.n_forward, &p->bindings, err));
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        DPS_TRY (dps_exec_fetch (ex, &p->graph, results[i], err));
    return DPS_OK;
}

static DpsStatus backward (DpsPass *p, DpsInput seed, const float *gradient, DpsError *err)
{
    p->bindings.inputs[seed] = gradient;
    return dps_exec_run (p->weights->ex, &p->graph, p->peak, p->graph.n_forward, p->graph.n_ops, &p->bindings, err);
}

DpsStatus dps_pass_backward (DpsPass *p, const float *dlogp, DpsError *err) { return backward (p, DPS_INPUT_DLOGP, dlogp, err); }

DpsStatus dps_pass_backward_scores (DpsPass *p, const float *dscore, DpsError *err) { return backward (p, DPS_INPUT_DSCORE, dscore, err); }

DpsStatus dps_pass_backward_values (DpsPass *p, const float *dlogp, const float *dvalue, DpsError *err)
{
    p->bindings.inputs[DPS_INPUT_DVALUE] = dvalue;
    return backward (p, DPS_INPUT_DLOGP, dlogp, err);
}

void dps_pass_close (DpsPass *p)
{
    dps_graph_free (&p->graph);
    for (int i = 0; i < DPS_MAX_ROPES; i++)
        dps_free (p->ropes[i]);
    *p = (DpsPass){0};
}

const float *dps_pass_logp (const DpsPass *p) { return dps_exec_temp (p->weights->ex, &p->graph, p->out.logp); }
const float *dps_pass_entropy (const DpsPass *p) { return dps_exec_temp (p->weights->ex, &p->graph, p->out.entropy); }
const float *dps_pass_hit (const DpsPass *p) { return dps_exec_temp (p->weights->ex, &p->graph, p->out.hit); }
const float *dps_pass_score (const DpsPass *p) { return dps_exec_temp (p->weights->ex, &p->graph, p->out.score); }
const float *dps_pass_value (const DpsPass *p) { return dps_exec_temp (p->weights->ex, &p->graph, p->out.value); }
