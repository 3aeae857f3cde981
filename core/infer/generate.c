/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate.c: who is decoded when. The cache has two kinds of places:
 *
 *     [ prompt place 0 | prompt place 1 | … | slot 0 | slot 1 | … ]        places: the longest prompt; slots: max_tokens
 *
 * A prompt is computed into a place, its K first tokens are drawn from the same logits, and the place is kept until the last of the K is done. A slot
 * holds what one completion has added. Slots are refilled in the order of the completions, so there are never more prompts than slots in use.
 */
#include "infer/generate.h"

#include <string.h>

#include "base/mem.h"
#include "infer/cached.h"
#include "infer/completion.h"

enum { PREFILL_TOKENS = 1024, DEFAULT_BATCH = 16 };

/* A prompt in the cache. */
typedef struct Place {
    size_t n;        /* tokens */
    size_t left;     /* completions that are not done; 0: free */
    int32_t segment; /* in the call being laid out */
} Place;

/* A completion being decoded. */
typedef struct Slot {
    DpsGrowing *g; /* NULL: free */
    Place *place;
} Slot;

typedef struct Engine {
    DpsCached cache;
    DpsDrawing drawing;
    const DpsGenerateOptions *o;
    const size_t *lengths;
    size_t n, samples, batch, longest, n_places;
    DpsGrowing *all; /* [n·samples] */
    Place *places;   /* [n_places] */
    Slot *slots;     /* [batch] */
    /* of each row of a call, [batch] */
    DpsDrawRow *rows;
    int32_t *targets;
    float *logp;
    size_t n_computed, next; /* prompts computed; the first completion that was not looked at for a slot */
    Place *newest;           /* of the prompt computed last */
} Engine;

static int64_t place_row (const Engine *e, const Place *p) { return (int64_t)((size_t)(p - e->places) * e->longest); }

static int64_t slot_row (const Engine *e, const Slot *s)
{
    return (int64_t)(e->n_places * e->longest) + (int64_t)(s - e->slots) * e->o->max_tokens;
}

/* What the draws from the first n rows of the last call need to know. */
static DpsStatus look_at_rows (Engine *e, const float *logits, int64_t n, DpsError *err)
{
    for (int64_t i = 0; i < n; i++) {
        DPS_TRY (dps__draw_row (&e->drawing, logits + i * e->drawing.vocab, &e->rows[i], err));
        e->targets[i] = e->rows[i].best;
    }
    if (e->o->sampling.temperature > 0 && !e->drawing.penalised)
        DPS_TRY (dps__cached_logp (&e->cache, 0, n, e->targets, e->o->sampling.temperature, e->logp, err));
    for (int64_t i = 0; i < n; i++)
        e->rows[i].best_logp = e->logp[i];
    return DPS_OK;
}

/* The first token of every completion of a prompt, from the one row of logits. */
static DpsStatus draw_first (Engine *e, DpsGrowing *g, const float *logits, DpsError *err)
{
    e->newest->left = 0;
    DPS_TRY (look_at_rows (e, logits, 1, err));
    for (size_t k = 0; k < e->samples; k++) {
        DPS_TRY (dps__growing_draw (&e->drawing, &g[k], &e->rows[0], err));
        if (e->o->want_logp) {
            float logp;
            DPS_TRY (dps__cached_logp (&e->cache, 0, 1, &g[k].out->ids[0], e->o->sampling.temperature, &logp, err));
            DPS_TRY (dps__growing_logp (&g[k], logp, err));
        }
        if (g[k].done)
            DPS_TRY (dps__growing_text (&e->drawing, &g[k], err));
        e->newest->left += !g[k].done;
    }
    return DPS_OK;
}

static DpsStatus compute_prompt (Engine *e, size_t prompt, DpsError *err)
{
    DpsGrowing *g = e->all + prompt * e->samples;
    Place *p = e->places;
    float *logits = NULL;
    while (p->left > 0)
        p++;
    p->n = e->lengths[prompt];
    e->newest = p;
    for (size_t done = 0, n; done < p->n; done += n) {
        if (e->o->should_stop && e->o->should_stop ())
            return dps_fail (err, DPS_ERR_CANCELLED, "generate: interrupted");
        n = p->n - done < PREFILL_TOKENS ? p->n - done : PREFILL_TOKENS;
        dps__cached_add (&e->cache, -1, 0, place_row (e, p), done, g->prompt + done, n);
        DPS_TRY (dps__cached_run (&e->cache, &logits, err));
    }
    return draw_first (e, g, logits, err);
}

/* The next completion that is not done with its first token, its prompt computed; NULL: none is left. */
static DpsStatus next_completion (Engine *e, DpsGrowing **out, DpsError *err)
{
    for (*out = NULL; !*out;) {
        if (e->next < e->n_computed * e->samples) {
            DpsGrowing *g = &e->all[e->next++];
            *out = g->done ? NULL : g;
        } else if (e->n_computed < e->n)
            DPS_TRY (compute_prompt (e, e->n_computed++, err));
        else
            return DPS_OK;
    }
    return DPS_OK;
}

/* Every free slot gets a completion while there are any. */
static DpsStatus refill (Engine *e, size_t *out_busy, DpsError *err)
{
    *out_busy = 0;
    for (size_t i = 0; i < e->batch; i++) {
        Slot *s = &e->slots[i];
        if (!s->g) {
            DPS_TRY (next_completion (e, &s->g, err));
            s->place = e->newest;
        }
        *out_busy += s->g != NULL;
    }
    return DPS_OK;
}

static void lay_out (Engine *e)
{
    for (size_t i = 0; i < e->n_places; i++)
        if (e->places[i].left > 0)
            e->places[i].segment = dps__cached_past (&e->cache, place_row (e, &e->places[i]), e->places[i].n);
    for (size_t i = 0; i < e->batch; i++) {
        const Slot *s = &e->slots[i];
        if (s->g) /* the token drawn last is the one whose key and value are missing */
            dps__cached_add (&e->cache, s->place->segment, s->place->n, slot_row (e, s), s->g->out->n - 1,
                             &s->g->out->ids[s->g->out->n - 1], 1);
    }
}

/* The tokens that follow, and their log-probs, from the logits of a call of n rows. */
static DpsStatus draw_next (Engine *e, const float *logits, int64_t n, DpsError *err)
{
    DPS_TRY (look_at_rows (e, logits, n, err));
    for (size_t i = 0, row = 0; i < e->batch; i++) {
        DpsGrowing *g = e->slots[i].g;
        if (!g)
            continue;
        DPS_TRY (dps__growing_draw (&e->drawing, g, &e->rows[row], err));
        e->targets[row++] = g->out->ids[g->out->n - 1];
    }
    return e->o->want_logp ? dps__cached_logp (&e->cache, 0, n, e->targets, e->o->sampling.temperature, e->logp, err) : DPS_OK;
}

/* One token more for every slot in use. */
static DpsStatus decode_step (Engine *e, size_t busy, DpsError *err)
{
    float *logits;
    lay_out (e);
    DPS_TRY (dps__cached_run (&e->cache, &logits, err));
    DPS_TRY (draw_next (e, logits, (int64_t)busy, err));
    for (size_t i = 0, row = 0; i < e->batch; i++) {
        Slot *s = &e->slots[i];
        if (!s->g)
            continue;
        if (e->o->want_logp)
            DPS_TRY (dps__growing_logp (s->g, e->logp[row++], err));
        if (s->g->done) {
            DPS_TRY (dps__growing_text (&e->drawing, s->g, err));
            s->place->left--;
            s->g = NULL;
        }
    }
    return DPS_OK;
}

static DpsStatus run (Engine *e, DpsError *err)
{
    for (size_t busy;;) {
        DPS_TRY (refill (e, &busy, err));
        if (busy == 0)
            return DPS_OK;
        if (e->o->should_stop && e->o->should_stop ())
            return dps_fail (err, DPS_ERR_CANCELLED, "generate: interrupted");
        DPS_TRY (decode_step (e, busy, err));
    }
}

static size_t samples_of (const DpsGenerateOptions *o) { return o->n_samples > 0 ? (size_t)o->n_samples : 1; }

static size_t batch_of (const DpsGenerateOptions *o, size_t n)
{
    size_t batch = o->batch > 0 ? (size_t)o->batch : DEFAULT_BATCH, total = n * samples_of (o);
    return batch < total ? batch : total;
}

static int64_t rows_of (size_t n_places, size_t longest, size_t batch, const DpsGenerateOptions *o)
{
    return (int64_t)(n_places * longest + batch * (size_t)o->max_tokens);
}

DpsStatus dps_generate_measure (DpsWeights *w, size_t longest, size_t n, const DpsGenerateOptions *options, DpsGenerateBytes *out,
                                DpsError *err)
{
    size_t batch = batch_of (options, n), call = longest < PREFILL_TOKENS ? longest : PREFILL_TOKENS;
    int64_t rows = rows_of (batch < n ? batch : n, longest, batch, options);
    uint64_t arena, scratch;
    *out = (DpsGenerateBytes){.cache = dps__cached_bytes (w, rows)};
    DPS_TRY (dps__cached_measure (w, rows, call, 1, 1, &out->arena, &out->scratch, err));
    DPS_TRY (dps__cached_measure (w, rows, batch, 2 * batch, batch, &arena, &scratch, err));
    out->arena = arena > out->arena ? arena : out->arena;
    out->scratch = scratch > out->scratch ? scratch : out->scratch;
    return DPS_OK;
}

static DpsStatus open_engine (Engine *e, DpsWeights *w, const DpsTokenizer *tok, const int32_t *const *prompts, DpsCompletion *out,
                              DpsError *err)
{
    size_t total = e->n * e->samples, tokens = e->longest < PREFILL_TOKENS ? e->longest : PREFILL_TOKENS;
    e->all = dps_calloc (total, sizeof *e->all);
    e->places = dps_calloc (e->n_places, sizeof *e->places);
    e->slots = dps_calloc (e->batch, sizeof *e->slots);
    e->rows = dps_calloc (e->batch, sizeof *e->rows);
    e->targets = dps_calloc (e->batch, sizeof *e->targets);
    e->logp = dps_calloc (e->batch, sizeof *e->logp);
    if (!e->all || !e->places || !e->slots || !e->rows || !e->targets || !e->logp)
        return dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory for %zu completions", total);
    for (size_t i = 0; i < total; i++)
        e->all[i] = (DpsGrowing){.number = i, .prompt = prompts[i / e->samples], .n_prompt = e->lengths[i / e->samples], .out = &out[i]};
    DPS_TRY (dps__drawing_open (&e->drawing, e->o, tok, &w->model->dec, e->longest + (size_t)e->o->max_tokens, err));
    return dps__cached_open (&e->cache, w, rows_of (e->n_places, e->longest, e->batch, e->o), tokens > e->batch ? tokens : e->batch,
                             2 * e->batch, err);
}

static void close_engine (Engine *e)
{
    dps__cached_close (&e->cache);
    dps__drawing_close (&e->drawing);
    dps_free (e->all);
    dps_free (e->places);
    dps_free (e->slots);
    dps_free (e->rows);
    dps_free (e->targets);
    dps_free (e->logp);
}

void dps_generate_options (const DpsRecipe *r, size_t per_prompt, DpsGenerateOptions *out)
{
    *out = (DpsGenerateOptions){.sampling = {.temperature = r->temperature,
                                             .top_k = r->top_k,
                                             .top_p = r->top_p,
                                             .min_p = r->min_p,
                                             .repetition_penalty = r->repetition_penalty,
                                             .seed = (uint64_t)r->seed},
                                .max_tokens = r->max_completion_length,
                                .batch = r->rollout_batch_size,
                                .n_samples = (int64_t)per_prompt,
                                .stop = (const char *const *)r->stop_strings.items,
                                .n_stop = r->stop_strings.n};
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
    Engine e = {.o = options, .lengths = lengths, .n = n, .samples = samples_of (options), .batch = batch_of (options, n)};
    size_t total = n * e.samples;
    e.n_places = e.batch < n ? e.batch : n;
    memset (out, 0, total * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        DPS_TRY (check_prompt (w, prompts[i], lengths[i], i, err));
        e.longest = lengths[i] > e.longest ? lengths[i] : e.longest;
    }
    for (size_t i = 0; i < options->n_stop; i++)
        if (!*options->stop[i])
            return dps_fail (err, DPS_ERR_INVALID, "generate: stop string %zu is empty: it would end every completion at once", i + 1);
    if (options->n_stop && !tok)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "generate: stop strings, but the model has no tokenizer to read its answers with");
    if (total == 0 || options->max_tokens <= 0)
        return DPS_OK;
    DpsStatus st = open_engine (&e, w, tok, prompts, out, err);
    if (st == DPS_OK)
        st = run (&e, err);
    close_engine (&e);
    return st;
}
