/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/completion.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "generate: out of memory"); }

static int penalises (const DpsSampling *s) { return s->repetition_penalty > 0 && s->repetition_penalty != 1; }

DpsStatus dps__drawing_open (DpsDrawing *d, const DpsGenerateOptions *o, const DpsTokenizer *tok, const DpsDecoder *dec, size_t longest,
                             DpsError *err)
{
    *d = (DpsDrawing){.o = o, .tok = tok, .dec = dec, .vocab = dec->vocab};
    d->room = dps_malloc ((size_t)dec->vocab, sizeof *d->room);
    d->seen = dps_malloc (longest, sizeof *d->seen);
    if (penalises (&o->sampling))
        d->penalised = dps_malloc ((size_t)dec->vocab, sizeof *d->penalised);
    return d->room && d->seen && (d->penalised || !penalises (&o->sampling)) ? DPS_OK : no_memory (err);
}

void dps__drawing_close (DpsDrawing *d)
{
    dps_free (d->room);
    dps_free (d->seen);
    dps_free (d->penalised);
    *d = (DpsDrawing){0};
}

void dps_completion_free (DpsCompletion *c)
{
    dps_free (c->ids);
    dps_free (c->logp);
    dps_free (c->text);
    *c = (DpsCompletion){0};
}

/* The text so far, cut at the first stop string. */
static DpsStatus decode (const DpsDrawing *d, DpsGrowing *g, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = dps_tokenizer_decode (d->tok, g->out->ids, g->out->n, 0, &text, err);
    if (st == DPS_OK && !text.data && dps_buf_str (&text, ""))
        st = no_memory (err);
    for (size_t i = 0; st == DPS_OK && i < d->o->n_stop; i++) {
        char *at = memmem (text.data, text.len, d->o->stop[i], strlen (d->o->stop[i]));
        if (at) {
            text.len = (size_t)(at - text.data);
            *at = '\0';
            g->done = g->out->stopped = 1;
        }
    }
    if (st != DPS_OK) {
        dps_buf_free (&text);
        return st;
    }
    dps_free (g->out->text);
    g->out->text = text.data;
    g->out->len = text.len;
    return DPS_OK;
}

/* Ended by what the tokenizer says or by what the model's configuration says. */
static int ends (const DpsDrawing *d, int32_t id)
{
    if (d->o->ignore_end)
        return 0;
    for (uint32_t i = 0; i < d->dec->n_more_ends; i++)
        if (d->dec->more_ends[i] == id)
            return 1;
    return id == d->dec->eos || (d->tok && dps_tokenizer_is_end (d->tok, id));
}

DpsStatus dps__draw_row (const DpsDrawing *d, const float *logits, DpsDrawRow *out, DpsError *err)
{
    *out = (DpsDrawRow){.logits = logits, .best = dps_sample_best (logits, d->vocab)};
    return out->best >= 0
               ? DPS_OK
               : dps_fail (err, DPS_ERR_NONFINITE,
                           "generate: no finite logit among %lld, or an infinite one. Hint: the weights are damaged or overflow; diapason "
                           "score names the first place, and another dtype may have the range",
                           (long long)d->vocab);
}

static DpsStatus choose (DpsDrawing *d, const DpsGrowing *g, const DpsDrawRow *row, int32_t *out, DpsError *err)
{
    size_t n = g->out->n, at = g->n_prompt + n;
    double draw = dps_rng_uniform (d->o->sampling.seed, dps_rng_stream ("generate") + d->o->first + g->number, at);
    if (!d->penalised) {
        *out = dps_sample_known (&d->o->sampling, row->logits, d->vocab, row->best, exp (-(double)row->best_logp), d->room, draw);
        return DPS_OK;
    }
    memcpy (d->seen, g->prompt, g->n_prompt * sizeof *d->seen);
    if (n > 0)
        memcpy (d->seen + g->n_prompt, g->out->ids, n * sizeof *d->seen);
    memcpy (d->penalised, row->logits, (size_t)d->vocab * sizeof *row->logits);
    return dps_sample (&d->o->sampling, d->penalised, d->vocab, d->seen, at, d->room, draw, out, err);
}

DpsStatus dps__growing_draw (DpsDrawing *d, DpsGrowing *g, const DpsDrawRow *row, DpsError *err)
{
    int32_t id = 0;
    DpsCompletion *out = g->out;
    DPS_TRY (choose (d, g, row, &id, err));
    if (DPS_GROW (out->ids, out->n, g->ids_capacity))
        return no_memory (err);
    out->ids[out->n++] = id;
    if (d->o->on_token)
        d->o->on_token (d->o->ctx, g->number, id);
    if (ends (d, id))
        g->done = out->stopped = 1;
    if (out->n >= (size_t)d->o->max_tokens)
        g->done = 1;
    return d->tok && d->o->n_stop ? decode (d, g, err) : DPS_OK;
}

DpsStatus dps__growing_logp (DpsGrowing *g, float logp, DpsError *err)
{
    if (DPS_GROW (g->out->logp, g->out->n - 1, g->logp_capacity))
        return no_memory (err);
    g->out->logp[g->out->n - 1] = logp;
    return DPS_OK;
}

DpsStatus dps__growing_text (const DpsDrawing *d, DpsGrowing *g, DpsError *err) { return d->tok ? decode (d, g, err) : DPS_OK; }
