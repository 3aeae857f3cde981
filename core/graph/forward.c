/* SPDX-License-Identifier: Apache-2.0 */
/* forward.c: records one forward pass of a decoder: embed → layers → scored rows → log-probs. The whole transformer is on this page. */
#include "base/mem.h"
#include "graph/build.h"
#include "graph/model.h"

typedef struct Pass {
    const DpsModel *m;
    DpsGraph *g;
    const DpsForward *f;
    DpsNode ids, segments, ropes[DPS_MAX_ROPES], cache_rows;
} Pass;

DpsNode dps__model_weight (const DpsModel *m, DpsGraph *g, int32_t weight)
{
    if (weight < 0)
        return -1;
    const DpsWeight *w = &m->weights[weight];
    int vector = w->role == DPS_WEIGHT_NORM || w->role == DPS_WEIGHT_BIAS || w->rank == 1;
    uint32_t dtype = vector && g->compute == DPS_DTYPE_BF16 ? DPS_DTYPE_F32 : g->compute;
    return dps_graph_param (g, weight, dtype, w->rank, w->shape, w->trainable);
}

static DpsNode linear (const Pass *p, int32_t weight, int32_t bias, DpsNode x)
{
    return dps__model_linear (p->m, p->g, p->f, weight, bias, x);
}

static DpsNode norm (const Pass *p, int32_t weight, DpsNode x, int64_t width, uint32_t dtype)
{
    const DpsDecoder *d = &p->m->dec;
    return dps_build_rms_norm (p->g, x, dps__model_weight (p->m, p->g, weight), d->eps, d->norm_offset, width, dtype);
}

/* New keys or values go into the cache, and attention reads the cache. */
static DpsNode through_cache (const Pass *p, int32_t state, DpsNode x)
{
    const DpsDecoder *d = &p->m->dec;
    if (!p->f->cache_rows)
        return x;
    DpsNode cache = dps_graph_state (p->g, state, p->g->compute, 2, (int64_t[]){p->f->cache_rows, d->n_kv_heads * d->head_dim});
    return dps_graph_op (p->g, DPS_OP_put_rows, (DpsNode[]){x, p->cache_rows}, 2, NULL, 0, p->g->compute, &cache, 1);
}

static DpsNode attention_block (const Pass *p, int32_t layer, DpsNode x)
{
    const DpsDecoder *d = &p->m->dec;
    const DpsLayerWeights *w = &p->m->layers[layer];
    DpsNode inv_freq = p->ropes[d->layers[layer].rope];
    DpsNode q = linear (p, w->q, w->q_bias, x), k = linear (p, w->k, w->k_bias, x), v = linear (p, w->v, w->v_bias, x);
    if (d->qk_norm) {
        q = norm (p, w->q_norm, q, d->head_dim, p->g->compute);
        k = norm (p, w->k_norm, k, d->head_dim, p->g->compute);
    }
    q = dps_build_rope (p->g, q, p->segments, inv_freq, d->head_dim, 1);
    k = dps_build_rope (p->g, k, p->segments, inv_freq, d->head_dim, 1);
    k = through_cache (p, 2 * layer, k);
    v = through_cache (p, 2 * layer + 1, v);
    DpsAttention a = {d->n_heads, d->n_kv_heads, d->head_dim, d->attn_scale, d->layers[layer].window, d->attn_softcap};
    return linear (p, w->o, w->o_bias, dps_build_attention (p->g, q, k, v, p->segments, &a));
}

static DpsNode feed_forward (const Pass *p, int32_t layer, DpsNode x)
{
    const DpsLayerWeights *w = &p->m->layers[layer];
    DpsNode gate = linear (p, w->gate, w->gate_bias, x), up = linear (p, w->up, w->up_bias, x);
    return linear (p, w->down, w->down_bias, dps_build_gate (p->g, p->m->dec.gate, gate, up));
}

static DpsNode record_layer (const Pass *p, int32_t layer, DpsNode x)
{
    const DpsDecoder *d = &p->m->dec;
    const DpsLayerWeights *w = &p->m->layers[layer];
    p->g->layer = (int16_t)layer;
    DpsNode y = attention_block (p, layer, norm (p, w->input_norm, x, 0, p->g->compute));
    if (d->post_norms)
        y = norm (p, w->post_attention_norm, y, 0, p->g->residual);
    x = dps_build_add (p->g, x, y, p->g->residual);
    y = feed_forward (p, layer, norm (p, w->pre_ffn_norm, x, 0, p->g->compute));
    if (d->post_norms)
        y = norm (p, w->post_ffn_norm, y, 0, p->g->residual);
    x = dps_build_add (p->g, x, y, p->g->residual);
    p->g->layer = -1;
    return x;
}

static void keep (const Pass *p, DpsNode n)
{
    if (n >= 0)
        p->g->tensors[n].keep = 1;
}

static void record_head (const Pass *p, DpsNode x, DpsForwardOut *out)
{
    const DpsDecoder *d = &p->m->dec;
    const DpsForward *f = p->f;
    DpsNode rows = dps_graph_input (p->g, DPS_INPUT_SCORED, DPS_DTYPE_I32, 1, &f->n_scored);
    DpsNode head = dps__model_weight (p->m, p->g, p->m->head);
    DpsNode h = norm (p, p->m->final_norm, dps_build_gather_rows (p->g, x, rows, p->g->residual), 0, p->g->compute);
    out->hidden = h;
    if (f->logprobs) {
        DpsNode targets = dps_graph_input (p->g, DPS_INPUT_TARGETS, DPS_DTYPE_I32, 1, &f->n_scored), outs[4] = {-1, -1, -1, -1};
        DpsScalar attrs[] = {{.f = d->final_softcap}, {.f = f->temperature}};
        dps_graph_op (p->g, DPS_OP_token_logprobs, (DpsNode[]){h, head, targets, head}, 4, attrs, 2, p->g->compute, outs, 4);
        out->logp = outs[0];
        out->entropy = outs[1];
        out->hit = outs[2];
        for (int i = 0; i < 3; i++)
            keep (p, outs[i]);
        dps_graph_seed (p->g, out->logp, DPS_INPUT_DLOGP);
        if (f->values) { /* of the state before each scored token: the row that predicts it */
            DpsNode w = dps__model_weight (p->m, p->g, p->m->value), bias = dps__model_weight (p->m, p->g, p->m->value_bias);
            out->value = dps_build_linear (p->g, h, w, bias, -1, 1, DPS_DTYPE_F32);
            keep (p, out->value);
            dps_graph_seed (p->g, out->value, DPS_INPUT_DVALUE);
        }
    } else if (f->scores) {
        out->score = dps_build_linear (p->g, h, dps__model_weight (p->m, p->g, p->m->score), -1, -1, 1, DPS_DTYPE_F32);
        keep (p, out->score);
        dps_graph_seed (p->g, out->score, DPS_INPUT_DSCORE);
    } else if (f->logits) {
        out->products = out->logits = dps_build_linear (p->g, h, head, -1, -1, 1, DPS_DTYPE_F32);
        if (out->products >= 0)
            p->g->ops[p->g->n_ops - 1].head = 1;
        if (d->final_softcap > 0)
            out->logits =
                dps_graph_op (p->g, DPS_OP_softcap, &out->logits, 1, (DpsScalar[]){{.f = d->final_softcap}}, 1, DPS_DTYPE_F32, NULL, 1);
        keep (p, out->products);
        keep (p, out->logits);
    } else
        keep (p, h);
}

DpsStatus dps_model_forward (const DpsModel *m, DpsGraph *g, const DpsForward *f, DpsForwardOut *out, DpsError *err)
{
    Pass p = {.m = m, .g = g, .f = f};
    const DpsDecoder *d = &m->dec;
    int64_t half = d->head_dim / 2, n_roots = f->n_roots + 1;
    *out = (DpsForwardOut){.logp = -1, .entropy = -1, .hit = -1, .logits = -1, .products = -1, .score = -1, .value = -1, .hidden = -1};
    p.ids = dps_graph_input (g, DPS_INPUT_IDS, DPS_DTYPE_I32, 1, &f->n_tokens);
    p.segments = dps_graph_input (g, DPS_INPUT_SEGMENTS, DPS_DTYPE_U8, 2, (int64_t[]){f->n_segments, sizeof (DpsSegment)});
    for (uint32_t i = 0; i < d->n_ropes; i++)
        p.ropes[i] = dps_graph_input (g, (DpsInput)(DPS_INPUT_ROPE0 + i), DPS_DTYPE_F32, 1, &half);
    if (f->cache_rows)
        p.cache_rows = dps_graph_input (g, DPS_INPUT_CACHE_ROWS, DPS_DTYPE_I32, 1, &f->n_tokens);
    if (g->training) {
        dps_graph_input (g, DPS_INPUT_ROOTS, DPS_DTYPE_I32, 1, &n_roots);
        dps_graph_input (g, DPS_INPUT_SCORED_ROOTS, DPS_DTYPE_I32, 1, &n_roots);
        dps_graph_input (g, DPS_INPUT_KEYS, DPS_DTYPE_I64, 1, &f->n_tokens);
    }
    DpsNode x = dps_build_embed (g, dps__model_weight (m, g, m->embed), p.ids, d->embed_scale);
    for (int32_t i = 0; i < (int32_t)d->n_layers; i++) {
        out->layer_out[i] = x;
        if (f->keep_layers)
            keep (&p, x);
        x = record_layer (&p, i, x);
    }
    out->layer_out[d->n_layers] = x;
    record_head (&p, x, out);
    return dps_graph_status (g, err);
}
