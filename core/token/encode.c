/* SPDX-License-Identifier: Apache-2.0 */
#include "token/encode.h"

#include <string.h>

#include "base/file.h"
#include "token/bpe.h"
#include "token/encode_internal.h"

enum { TEMPLATE_MAX_BYTES = 1 << 20 };

DpsStatus dps_encoder_new (const DpsRecipe *recipe, const DpsTokenizer *tok, DpsEncoder **out, DpsError *err)
{
    DpsEncoder *e = *out = dps_calloc (1, sizeof *e);
    if (!e)
        return dps_fail (err, DPS_ERR_NOMEM, "rows: out of memory");
    *e = (DpsEncoder){.tok = tok, .recipe = recipe, .bos = tok ? dps_tokenizer_bos (tok) : -1, .eos = tok ? dps_tokenizer_eos (tok) : -1};
    DpsStatus st = DPS_OK;
    if (recipe && recipe->chat_template_path) {
        DpsBuf text = {0};
        st = dps_file_read (recipe->chat_template_path, TEMPLATE_MAX_BYTES, &text, err);
        if (st != DPS_OK)
            dps_error_prefix (err, "%s", dps_recipe_where (recipe, DPS_KEY_chat_template_path));
        e->template_source = text.data;
    }
    if (st == DPS_OK && recipe && recipe->eos_token) {
        e->eos = tok ? dps_tokenizer_id (tok, recipe->eos_token, strlen (recipe->eos_token)) : -1;
        if (e->eos < 0)
            st = dps_fail (err, DPS_ERR_USAGE, "%s: '%.60s' is no token of %s", dps_recipe_where (recipe, DPS_KEY_eos_token),
                           recipe->eos_token, tok ? "this tokenizer" : "the model, which has no tokenizer");
    }
    if (st == DPS_OK)
        return DPS_OK;
    dps_encoder_free (e);
    *out = NULL;
    return st;
}

void dps_encoder_free (DpsEncoder *e)
{
    if (e)
        dps_free (e->template_source);
    dps_free (e);
}

DpsStatus dps_encoder_set_model (DpsEncoder *e, const json_t *config, int64_t vocab, DpsError *err)
{
    const json_t *bos = json_object_get (config, "bos_token_id"), *eos = json_object_get (config, "eos_token_id");
    e->vocab = vocab;
    if (e->tok)
        return DPS_OK;
    if (json_is_integer (bos))
        e->bos = (int32_t)json_integer_value (bos);
    size_t n = json_is_array (eos) ? json_array_size (eos) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array (eos) ? json_array_get (eos, i) : eos;
        if (!json_is_integer (id))
            continue;
        if (e->n_ends == DPS_ENCODER_ENDS)
            return dps_fail (err, DPS_ERR_LIMIT, "eos_token_id: %zu ids, at most %d are used", n, DPS_ENCODER_ENDS);
        e->ends[e->n_ends++] = (int32_t)json_integer_value (id);
    }
    return DPS_OK;
}

int dps_encoder_shows_tools (const DpsEncoder *e)
{
    DpsError none = DPS_ERROR_INIT;
    DpsTemplate own = {.source = e->template_source};
    if (!own.source && e->tok)
        (void)dps_tokenizer_chat_template (e->tok, 1, &own, &none);
    return own.source && strstr (own.source, "tools") != NULL; /* Gemma's turn format has no place for them */
}

void dps_encoder_keep_whole (DpsEncoder *e) { e->keep_whole = 1; }
void dps_encoder_ids_only (DpsEncoder *e) { e->ids_only = 1; }

int dps__encoder_is_end (const DpsEncoder *e, int32_t id)
{
    for (size_t i = 0; i < e->n_ends; i++)
        if (e->ends[i] == id)
            return 1;
    return (e->tok && dps_tokenizer_is_end (e->tok, id)) || (id == e->eos && id >= 0);
}

void dps_encoded_free (DpsEncoded *x)
{
    dps_free (x->ids);
    dps_free (x->weights);
    *x = (DpsEncoded){0};
}

DpsStatus dps__encoded_take (const DpsRow *row, DpsIds *ids, float weight, DpsEncoded *out, DpsError *err)
{
    *out = (DpsEncoded){.ids = ids->ids, .n = ids->n, .weights = dps_calloc (ids->n ? ids->n : 1, sizeof *out->weights)};
    *ids = (DpsIds){0};
    if (!out->weights) {
        dps_encoded_free (out);
        return dps_fail (err, DPS_ERR_NOMEM, "%s:%llu: out of memory", row->file, (unsigned long long)row->line);
    }
    for (size_t i = 1; i < out->n; i++)
        out->weights[i] = weight;
    return DPS_OK;
}

/* ---- plain text ---- */

static unsigned text_flags (const DpsEncoder *e)
{
    return DPS_TOKENIZE_SPECIAL | (e->recipe && e->recipe->split_special_tokens > 0 ? (unsigned)DPS_TOKENIZE_LITERAL : 0u);
}

/* Training ends a text with eos, once; scoring takes it as it is. The tokenizer's own suffix may have put it there already. */
static DpsStatus end_text (const DpsEncoder *e, DpsIds *ids, DpsError *err)
{
    if (!e->recipe || e->eos < 0 || (ids->n && ids->ids[ids->n - 1] == e->eos))
        return DPS_OK;
    return dps_ids_add (ids, e->eos, err);
}

static DpsStatus encode_text (const DpsEncoder *e, const DpsRow *row, const DpsContent *c, DpsEncoded *out, DpsError *err)
{
    DpsIds ids = {0};
    DpsStatus st = dps_row_place (row, dps_tokenizer_encode (e->tok, c->text, c->text_len, text_flags (e), &ids, err), err);
    if (st == DPS_OK)
        st = end_text (e, &ids, err);
    if (st == DPS_OK)
        st = dps__encoded_take (row, &ids, 1, out, err);
    dps_free (ids.ids);
    return st;
}

static DpsStatus encode_text_pair (const DpsEncoder *e, const DpsRow *row, const DpsContent *c, DpsEncoded *out, DpsError *err)
{
    DpsBuf joined = {0};
    DpsIds ids = {0};
    DpsRendered view = {0};
    size_t n_prompt = 0;
    const DpsContent *p = &row->prompt;
    DpsStatus st = DPS_OK;
    if (dps_buf_add (&joined, p->text, p->text_len) || dps_buf_add (&joined, c->text, c->text_len))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s:%llu: out of memory", row->file, (unsigned long long)row->line);
    if (st == DPS_OK)
        st = dps_row_place (row, dps_tokenizer_encode (e->tok, joined.data ? joined.data : "", joined.len, text_flags (e), &ids, err), err);
    if (st == DPS_OK)
        st = end_text (e, &ids, err);
    view.text = joined;
    if (st == DPS_OK)
        st = dps__encode_prefix (e, row, &view, p->text_len, &ids, "prompt", &n_prompt, err);
    if (st == DPS_OK)
        st = dps__encoded_take (row, &ids, 1, out, err);
    out->n_prompt = st == DPS_OK ? n_prompt : 0;
    dps_buf_free (&joined);
    dps_free (ids.ids);
    return st;
}

/* ---- rows of ids ---- */

static DpsStatus take_ids (const DpsRow *row, const DpsContent *a, const DpsContent *b, DpsEncoded *out, DpsError *err)
{
    DpsIds ids = {0};
    DpsStatus st = DPS_OK;
    for (size_t i = 0; st == DPS_OK && i < a->n_ids; i++)
        st = dps_ids_add (&ids, a->ids[i], err);
    for (size_t i = 0; st == DPS_OK && b && i < b->n_ids; i++)
        st = dps_ids_add (&ids, b->ids[i], err);
    if (st == DPS_OK)
        st = dps__encoded_take (row, &ids, 1, out, err);
    for (size_t i = 1; st == DPS_OK && a->weights && i < a->n_ids; i++)
        out->weights[i] = a->weights[i];
    dps_free (ids.ids);
    return st;
}

/* ---- what training refuses ---- */

static size_t count_trained (const DpsEncoded *x)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++)
        n += x->weights[i] > 0;
    return n;
}

DpsStatus dps__encode_check_trained (const DpsEncoder *e, const DpsRow *row, const DpsEncoded *x, size_t cut, DpsError *err)
{
    if (x->n > 1 && e->bos >= 0 && x->ids[0] == e->bos && x->ids[1] == e->bos)
        return dps_row_fail (row, err,
                             "two beginning-of-sequence tokens (id %d): the tokenizer or template adds the first, so the row must not",
                             (int)e->bos);
    if (count_trained (x) == 0)
        return cut ? dps_row_fail (row, err, "none of its tokens is trained: max_length %lld cuts %zu of them off",
                                   (long long)e->recipe->max_length, cut)
                   : dps_row_fail (row, err, "none of its %zu tokens is trained", x->n);
    for (size_t i = 1; i + 1 < x->n; i++)
        if (x->weights[i] > 0 && !(x->weights[i + 1] > 0) && dps__encoder_is_end (e, x->ids[i + 1]))
            return dps_row_fail (
                row, err,
                "token %zu ends a trained turn (id %d) and is not trained itself: the model would not learn to stop. Hint: train it too",
                i + 1, (int)x->ids[i + 1]);
    return DPS_OK;
}

/* max_length. */
static DpsStatus truncate_row (const DpsEncoder *e, const DpsRow *row, DpsEncoded *x, DpsError *err)
{
    size_t limit = e->keep_whole ? 0 : (size_t)e->recipe->max_length;
    const char *mode = e->recipe->truncation_mode;
    if (limit == 0 || x->n <= limit)
        return DPS_OK;
    size_t cut = x->n - limit;
    if (!strcmp (mode, "error"))
        return dps_row_fail (row, err, "%zu tokens, max_length is %zu", x->n, limit);
    if (!strcmp (mode, "drop")) {
        dps_encoded_free (x);
        x->n_long = cut;
        return DPS_OK;
    }
    if (!strcmp (mode, "keep_end")) {
        memmove (x->ids, x->ids + cut, limit * sizeof *x->ids);
        memmove (x->weights, x->weights + cut, limit * sizeof *x->weights);
        x->weights[0] = 0;
        x->n_prompt = x->n_prompt > cut ? x->n_prompt - cut : 0;
    }
    x->n = limit;
    x->n_long = cut;
    x->n_prompt = x->n_prompt < limit ? x->n_prompt : limit;
    return DPS_OK;
}

/* ---- any row ---- */

static DpsStatus need_tokenizer (const DpsEncoder *e, const DpsRow *row, DpsError *err)
{
    return e->tok ? DPS_OK
                  : dps_row_fail (row, err, "%s, but the model has no tokenizer that can be used. Hint: rows of input_ids need none",
                                  dps_row_kind_name (row->kind));
}

DpsStatus dps__encode_completion (const DpsEncoder *e, const DpsRow *row, const DpsContent *answer, DpsEncoded *out, DpsError *err)
{
    if (answer->ids) {
        DPS_TRY (take_ids (row, &row->prompt, answer, out, err));
        out->n_prompt = row->prompt.n_ids;
        return DPS_OK;
    }
    DPS_TRY (need_tokenizer (e, row, err));
    return row->prompt.messages ? dps__encode_chat_pair (e, row, answer->messages, out, err) : encode_text_pair (e, row, answer, out, err);
}

static DpsStatus encode_any (const DpsEncoder *e, const DpsRow *row, DpsEncoded *out, DpsError *err)
{
    switch (row->kind) {
    case DPS_ROW_IDS: return take_ids (row, row->answers, NULL, out, err);
    case DPS_ROW_TEXT: DPS_TRY (need_tokenizer (e, row, err)); return encode_text (e, row, row->answers, out, err);
    case DPS_ROW_MESSAGES: DPS_TRY (need_tokenizer (e, row, err)); return dps__encode_chat (e, row, out, err);
    case DPS_ROW_COMPLETION_IDS:
    case DPS_ROW_COMPLETION: return dps__encode_completion (e, row, row->answers, out, err);
    default:
        return dps_row_fail (row, err, "%s: this stage takes text, conversations, prompt with completion, or ids",
                             dps_row_kind_name (row->kind));
    }
}

DpsStatus dps__encode_check_ids (const DpsEncoder *e, const DpsRow *row, const DpsEncoded *x, DpsError *err)
{
    for (size_t i = 0; i < x->n && e->vocab; i++)
        if (x->ids[i] < 0 || x->ids[i] >= e->vocab)
            return dps_row_fail (row, err, "token %zu has id %d, but the model has ids 0 … %lld. Hint: is this of another tokenizer?", i,
                                 (int)x->ids[i], (long long)e->vocab - 1);
    return DPS_OK;
}

DpsStatus dps_encode_row (const DpsEncoder *e, const DpsRow *row, DpsEncoded *out, DpsError *err)
{
    *out = (DpsEncoded){0};
    DpsStatus st = encode_any (e, row, out, err);
    if (st == DPS_OK)
        st = dps__encode_check_ids (e, row, out, err);
    if (st == DPS_OK && !(e->recipe && e->recipe->completion_only_loss == 0))
        for (size_t i = 0; i < out->n_prompt && i < out->n; i++)
            out->weights[i] = 0;
    if (st == DPS_OK && e->recipe)
        st = truncate_row (e, row, out, err);
    if (st == DPS_OK && e->recipe && (out->n || !out->n_long)) /* not one that is dropped */
        st = dps__encode_check_trained (e, row, out, out->n_long, err);
    if (st != DPS_OK)
        dps_encoded_free (out);
    return st;
}

static DpsStatus prompt_of (const DpsEncoder *e, const DpsRow *row, const DpsContent *c, DpsEncoded *out, DpsError *err)
{
    if (c->ids)
        return take_ids (row, c, NULL, out, err);
    DPS_TRY (need_tokenizer (e, row, err));
    if (c->messages)
        return dps__encode_chat_prompt (e, row, c->messages, out, err);
    const DpsEncoder plain = {.tok = e->tok, .bos = e->bos, .eos = -1};
    return encode_text (&plain, row, c, out, err);
}

DpsStatus dps_encode_prompt (const DpsEncoder *e, const DpsRow *row, DpsEncoded *out, DpsError *err)
{
    *out = (DpsEncoded){0};
    int has_prompt = row->prompt.text || row->prompt.messages || row->prompt.ids;
    if (!has_prompt && row->n_answers == 0)
        return dps_row_fail (row, err, "%s: nothing to continue", dps_row_kind_name (row->kind));
    DpsStatus st = prompt_of (e, row, has_prompt ? &row->prompt : row->answers, out, err);
    if (st == DPS_OK)
        st = dps__encode_check_ids (e, row, out, err);
    out->n_prompt = out->n;
    if (st != DPS_OK)
        dps_encoded_free (out);
    return st;
}
