/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/generate.h"

#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "exec/plan.h"

enum { PREFILL_TOKENS = 1024, DEFAULT_BATCH = 16, CACHE_STEP = 64 };

/* One prompt being continued. Its cache rows are [row, row + capacity). */
typedef struct Slot {
    size_t prompt; /* number among all prompts */
    const int32_t *ids;
    size_t n_prompt, n_cached; /* tokens whose keys and values are in the cache */
    int64_t row, capacity;
    DpsCompletion *out;
    size_t out_capacity;
    int done;
} Slot;

typedef struct Engine {
    DpsWeights *w;
    const DpsTokenizer *tok;
    const DpsGenerateOptions *o;
    DpsBlock *states;
    int64_t cache_rows;
    float *ropes[DPS_MAX_ROPES];
    DpsCandidate *room;
    int32_t *seen;
    /* the tables of one call */
    int32_t *ids, *rows, *last;
    DpsSegment *segments;
    int64_t n_tokens, n_segments;
    /* the graph of the last call, kept while its shape stays */
    DpsGraph graph;
    DpsForwardOut *nodes;
    uint64_t peak;
    int64_t graph_tokens, graph_segments;
} Engine;

void dps_completion_free (DpsCompletion *c)
{
    dps_free (c->ids);
    dps_free (c->text);
    *c = (DpsCompletion){0};
}

static DpsStatus record (Engine *e, DpsError *err)
{
    if (e->graph_tokens == e->n_tokens && e->graph_segments == e->n_segments)
        return DPS_OK;
    dps_graph_free (&e->graph);
    e->graph_tokens = -1;
    DpsForward f = {
        .n_tokens = e->n_tokens, .n_segments = e->n_segments, .n_scored = e->n_segments, .logits = 1, .cache_rows = e->cache_rows};
    DPS_TRY (dps_graph_init (&e->graph, e->w->model->n_weights, e->w->compute, 0, err));
    DPS_TRY (dps_model_forward (e->w->model, &e->graph, &f, e->nodes, err));
    DPS_TRY (dps_plan_layout (&e->graph, &e->peak, err));
    if (e->peak > e->w->ex->arena.bytes)
        DPS_TRY (dps_exec_reserve (e->w->ex, e->peak, err));
    e->graph_tokens = e->n_tokens;
    e->graph_segments = e->n_segments;
    return DPS_OK;
}

/* Add the next `n` tokens of a slot to the call. */
static void add_tokens (Engine *e, Slot *s, const int32_t *ids, size_t n)
{
    int32_t at = (int32_t)e->n_tokens, past = (int32_t)s->n_cached;
    e->segments[e->n_segments] = (DpsSegment){
        .q_start = at, .q_len = (int32_t)n, .kv_start = (int32_t)s->row, .kv_len = past + (int32_t)n, .parent = -1, .position = past};
    for (size_t i = 0; i < n; i++) {
        e->ids[at + (int32_t)i] = ids[i];
        e->rows[at + (int32_t)i] = (int32_t)s->row + past + (int32_t)i;
    }
    e->last[e->n_segments++] = at + (int32_t)n - 1;
    e->n_tokens += (int64_t)n;
    s->n_cached += n;
}

/* Run the call; logits of each segment's last token: (n_segments, V). */
static DpsStatus run (Engine *e, float **out_logits, DpsError *err)
{
    DPS_TRY (record (e, err));
    DpsBindings b = {.ctx = e->w, .resolve = dps_weights_resolve};
    b.inputs[DPS_INPUT_IDS] = e->ids;
    b.inputs[DPS_INPUT_SEGMENTS] = e->segments;
    b.inputs[DPS_INPUT_SCORED] = e->last;
    b.inputs[DPS_INPUT_CACHE_ROWS] = e->rows;
    b.inputs[DPS_INPUT_ROPE0] = e->ropes[0];
    b.inputs[DPS_INPUT_ROPE1] = e->ropes[1];
    DPS_TRY (dps_exec_run (e->w->ex, &e->graph, e->peak, 0, e->graph.n_ops, &b, err));
    *out_logits = dps_exec_temp (e->w->ex, &e->graph, e->nodes->logits);
    e->n_tokens = e->n_segments = 0;
    return DPS_OK;
}

/* The completion's text so far, cut at the first stop string. */
static DpsStatus decode (Engine *e, Slot *s, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = dps_tokenizer_decode (e->tok, s->out->ids, s->out->n, 0, &text, err);
    if (st == DPS_OK && !text.data && dps_buf_str (&text, ""))
        st = dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory");
    for (size_t i = 0; st == DPS_OK && i < e->o->n_stop; i++) {
        size_t n = strlen (e->o->stop[i]);
        char *at = n ? memmem (text.data, text.len, e->o->stop[i], n) : NULL;
        if (at) {
            text.len = (size_t)(at - text.data);
            *at = '\0';
            s->done = s->out->stopped = 1;
        }
    }
    if (st != DPS_OK) {
        dps_buf_free (&text);
        return st;
    }
    dps_free (s->out->text);
    s->out->text = text.data;
    s->out->len = text.len;
    return DPS_OK;
}

static int ends (const Engine *e, int32_t id)
{
    if (e->o->ignore_end)
        return 0;
    return e->tok ? dps_tokenizer_is_end (e->tok, id) : id == e->w->model->dec.eos;
}

static DpsStatus take (Engine *e, Slot *s, float *logits, DpsError *err)
{
    size_t at = s->n_prompt + s->out->n;
    double draw = dps_rng_uniform (e->o->sampling.seed, dps_rng_stream ("generate") + e->o->first + s->prompt, at);
    memcpy (e->seen, s->ids, s->n_prompt * sizeof *e->seen);
    if (s->out->n > 0)
        memcpy (e->seen + s->n_prompt, s->out->ids, s->out->n * sizeof *e->seen);
    int32_t id = 0;
    DPS_TRY (dps_sample (&e->o->sampling, logits, e->w->model->dec.vocab, e->seen, at, e->room, draw, &id, err));
    if (DPS_GROW (s->out->ids, s->out->n, s->out_capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory");
    s->out->ids[s->out->n++] = id;
    if (e->o->on_token)
        e->o->on_token (e->o->ctx, s->prompt, id);
    if (ends (e, id))
        s->done = s->out->stopped = 1;
    if (s->out->n >= (size_t)e->o->max_tokens)
        s->done = 1;
    return e->tok && e->o->n_stop ? decode (e, s, err) : DPS_OK;
}

static DpsStatus prefill (Engine *e, Slot *s, DpsError *err)
{
    float *logits = NULL;
    while (s->n_cached < s->n_prompt) {
        size_t n = s->n_prompt - s->n_cached;
        add_tokens (e, s, s->ids + s->n_cached, n < PREFILL_TOKENS ? n : PREFILL_TOKENS);
        DPS_TRY (run (e, &logits, err));
    }
    return take (e, s, logits, err);
}

static DpsStatus decode_step (Engine *e, Slot *slots, size_t n, size_t *out_left, DpsError *err)
{
    size_t active = 0;
    float *logits;
    for (size_t i = 0; i < n; i++)
        if (!slots[i].done)
            add_tokens (e, &slots[i], &slots[i].out->ids[slots[i].out->n - 1], 1);
    *out_left = 0;
    if (e->n_segments == 0)
        return DPS_OK;
    DPS_TRY (run (e, &logits, err));
    for (size_t i = 0; i < n; i++) {
        if (slots[i].done)
            continue;
        DPS_TRY (take (e, &slots[i], logits + (int64_t)active++ * e->w->model->dec.vocab, err));
        *out_left += !slots[i].done;
    }
    return DPS_OK;
}

static DpsStatus open_engine (Engine *e, size_t batch, size_t longest, DpsError *err)
{
    const DpsDecoder *d = &e->w->model->dec;
    size_t call = longest > PREFILL_TOKENS ? PREFILL_TOKENS : longest;
    call = call > batch ? call : batch;
    uint64_t row_bytes = (uint64_t)(d->n_kv_heads * d->head_dim) * dps_dtype_bytes (e->w->compute);
    e->states = dps_calloc (2 * (size_t)d->n_layers, sizeof *e->states);
    e->nodes = dps_calloc (1, sizeof *e->nodes);
    e->room = dps_calloc ((size_t)d->vocab, sizeof *e->room);
    e->seen = dps_calloc (longest + (size_t)e->o->max_tokens, sizeof *e->seen);
    e->ids = dps_calloc (call, sizeof *e->ids);
    e->rows = dps_calloc (call, sizeof *e->rows);
    e->last = dps_calloc (batch, sizeof *e->last);
    e->segments = dps_calloc (batch, sizeof *e->segments);
    e->graph_tokens = -1;
    int ok = e->states && e->nodes && e->room && e->seen && e->ids && e->rows && e->last && e->segments;
    for (uint32_t i = 0; ok && i < d->n_ropes; i++) {
        e->ropes[i] = dps_malloc ((size_t)d->head_dim / 2, sizeof **e->ropes);
        ok = e->ropes[i] != NULL;
        if (ok)
            dps_rope_table (&d->ropes[i], d->head_dim, e->ropes[i]);
    }
    if (!ok)
        return dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory for %zu prompts of up to %zu tokens", batch, longest);
    for (int64_t i = 0; i < 2 * d->n_layers; i++)
        DPS_TRY (dps_exec_alloc (e->w->ex, (uint64_t)e->cache_rows * row_bytes, &e->states[i], err));
    e->w->states = e->states;
    e->w->n_states = 2 * (size_t)d->n_layers;
    return DPS_OK;
}

static void close_engine (Engine *e)
{
    for (int64_t i = 0; e->states && i < 2 * e->w->model->dec.n_layers; i++)
        dps_exec_free (e->w->ex, &e->states[i]);
    e->w->states = NULL;
    e->w->n_states = 0;
    dps_graph_free (&e->graph);
    void *arrays[] = {e->states, e->nodes, e->room, e->seen, e->ids, e->rows, e->last, e->segments, e->ropes[0], e->ropes[1]};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        dps_free (arrays[i]);
}

static DpsStatus run_group (Engine *e, Slot *slots, size_t n, size_t longest, DpsError *err)
{
    DPS_TRY (open_engine (e, n, longest, err));
    for (size_t i = 0; i < n; i++)
        DPS_TRY (prefill (e, &slots[i], err));
    for (size_t left = 1; left;) {
        if (e->o->should_stop && e->o->should_stop ())
            return dps_fail (err, DPS_ERR_CANCELLED, "generate: interrupted");
        DPS_TRY (decode_step (e, slots, n, &left, err));
    }
    for (size_t i = 0; e->tok && i < n; i++)
        DPS_TRY (decode (e, &slots[i], err));
    return DPS_OK;
}

static DpsStatus check_prompt (const DpsWeights *w, const int32_t *ids, size_t n, size_t number, DpsError *err)
{
    if (n == 0)
        return dps_fail (err, DPS_ERR_INVALID, "prompt %zu is empty. Hint: a model with a beginning-of-sequence token can start from that",
                         number + 1);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= w->model->dec.vocab)
            return dps_fail (err, DPS_ERR_INVALID, "prompt %zu, token %zu: id %d is outside the vocabulary of %lld", number + 1, i, ids[i],
                             (long long)w->model->dec.vocab);
    return DPS_OK;
}

DpsStatus dps_generate (DpsWeights *w, const DpsTokenizer *tok, const int32_t *const *prompts, const size_t *lengths, size_t n,
                        const DpsGenerateOptions *options, DpsCompletion *out, DpsError *err)
{
    size_t batch = options->batch > 0 ? (size_t)options->batch : DEFAULT_BATCH;
    memset (out, 0, n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        DPS_TRY (check_prompt (w, prompts[i], lengths[i], i, err));
    Slot *slots = dps_calloc (batch, sizeof *slots);
    if (!slots)
        return dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory");
    DpsStatus st = DPS_OK;
    for (size_t first = 0; st == DPS_OK && first < n && options->max_tokens > 0; first += batch) {
        size_t count = n - first < batch ? n - first : batch, longest = 0;
        Engine e = {.w = w, .tok = tok, .o = options};
        for (size_t i = 0; i < count; i++) {
            size_t k = first + i, need = lengths[k] + (size_t)options->max_tokens;
            int64_t capacity = (int64_t)((need + CACHE_STEP - 1) / CACHE_STEP * CACHE_STEP);
            slots[i] =
                (Slot){.prompt = k, .ids = prompts[k], .n_prompt = lengths[k], .row = e.cache_rows, .capacity = capacity, .out = &out[k]};
            e.cache_rows += capacity;
            longest = lengths[k] > longest ? lengths[k] : longest;
        }
        st = run_group (&e, slots, count, longest, err);
        close_engine (&e);
    }
    dps_free (slots);
    return st;
}
