/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer.c: runs the pipeline. Text → added tokens cut out → normalised → added tokens of normalised text cut out → words → BPE.
 */
#include "token/tokenizer.h"

#include <string.h>

#include "token/tokenizer_internal.h"
#include "token/utf8.h"

DpsTokenizer *dps__tokenizer_new (void)
{
    DpsTokenizer *tok = dps_calloc (1, sizeof *tok);
    if (tok) {
        for (int i = 0; i < DPS_NAMED_TOKENS; i++)
            tok->named[i] = -1;
        tok->bpe.unknown = -1;
        tok->bpe.vocab = &tok->vocab;
    }
    return tok;
}

void dps_tokenizer_free (DpsTokenizer *tok)
{
    if (!tok)
        return;
    dps_bpe_free (&tok->bpe);
    dps_vocab_free (&tok->vocab);
    dps_steps_free (&tok->normalizer);
    dps_steps_free (&tok->pretokenizer);
    dps_steps_free (&tok->decoder);
    dps_trie_free (&tok->raw);
    dps_trie_free (&tok->normalised);
    dps_free (tok->added);
    dps_free (tok->added_special);
    dps_free (tok->prefix.ids);
    dps_free (tok->suffix.ids);
    dps_free (tok->is_end);
    for (int i = 0; i < DPS_CHAT_TEMPLATES; i++) {
        dps_free (tok->chat[i].source);
        dps_free (tok->chat[i].where);
    }
    dps_buf_free (&tok->other_chats);
    dps_free (tok);
}

DpsStatus dps__tokenizer_add (DpsTokenizer *tok, int32_t id, const char *content, size_t len, unsigned flags, int normalised, DpsError *err)
{
    if (DPS_GROW (tok->added, tok->n_added, tok->added_capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for added tokens");
    tok->added[tok->n_added] = (DpsAdded){.id = id, .flags = (uint8_t)flags};
    DPS_TRY (dps_trie_add (normalised ? &tok->normalised : &tok->raw, content, len, (int32_t)tok->n_added, err));
    tok->n_added++;
    return DPS_OK;
}

void dps__tokenizer_set_end (DpsTokenizer *tok, int64_t id)
{
    if (id >= 0 && (uint64_t)id < tok->vocab.n)
        tok->is_end[id] = 1;
}

/* Tokens that end a turn or a text in the families around; they count only where they are control tokens. */
static const char *const end_texts[] = {"<|eot_id|>",    "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "<|end|>",
                                        "<end_of_turn>", "<|return|>", "<|call|>",        "<EOT>",      "</s>",          "<eos>"};

DpsStatus dps__tokenizer_finish (DpsTokenizer *tok, DpsError *err)
{
    tok->added_special = dps_calloc (tok->n_added, 1);
    tok->is_end = tok->is_end ? tok->is_end : dps_calloc (tok->vocab.n, 1);
    if (!tok->added_special || !tok->is_end)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for special tokens");
    for (size_t i = 0; i < tok->n_added; i++)
        tok->added_special[i] = (uint8_t)dps_tokenizer_is_special (tok, tok->added[i].id);
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++) {
        int32_t id = dps_tokenizer_id (tok, end_texts[i], strlen (end_texts[i]));
        if (dps_tokenizer_is_special (tok, id))
            tok->is_end[id] = 1;
    }
    dps__tokenizer_set_end (tok, tok->named[DPS_NAMED_EOS]);
    return dps_bpe_finish (&tok->bpe, err);
}

/* State of one encode call. */
typedef struct Encoder {
    const DpsTokenizer *tok;
    const uint8_t *skip; /* added tokens to leave as text; NULL: none */
    DpsIds *out;
    DpsBpeScratch scratch;
    int first;        /* the stretch at hand begins the input */
    const char *text; /* the whole input; literal ranges count from here */
    const DpsSpan *literal;
    size_t n_literal;
} Encoder;

typedef DpsStatus (*StretchSink) (Encoder *e, const char *s, size_t len, DpsError *err);

static DpsStatus encode_word (void *ctx, const char *word, size_t len, DpsError *err)
{
    Encoder *e = ctx;
    return dps_bpe_encode (&e->tok->bpe, word, len, &e->scratch, e->out, err);
}

static DpsStatus encode_words (Encoder *e, const char *s, size_t len, DpsError *err)
{
    if (e->tok->pretokenizer.n == 0)
        return len ? encode_word (e, s, len, err) : DPS_OK;
    return dps_pretokenise (&e->tok->pretokenizer, s, len, e->first, encode_word, e, err);
}

static int inside_word (const char *s, size_t len, size_t start, size_t end)
{
    size_t n;
    return (start > 0 && dps_utf8_is_word (dps_utf8_previous (s, start, &n))) ||
           (end < len && dps_utf8_is_word (dps_utf8_next (s + end, len - end, &n)));
}

/* 1 when a literal range meets [start, end). */
static int is_literal (const Encoder *e, size_t start, size_t end)
{
    size_t low = 0, high = e->n_literal;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (e->literal[middle].end <= start)
            low = middle + 1;
        else
            high = middle;
    }
    return low < e->n_literal && e->literal[low].start < end;
}

/* Cut the added tokens of one trie out of s: their ids go to the output, the stretches between them to `rest`. */
static DpsStatus cut_added (Encoder *e, const DpsTrie *trie, const char *s, size_t len, StretchSink rest, DpsError *err)
{
    size_t done = 0, n, space;
    int begins = e->first, raw = trie == &e->tok->raw;
    for (size_t at = 0; at < len && trie->n;) {
        int32_t index = -1;
        size_t got = trie->root[(unsigned char)s[at]] ? dps_trie_match (trie, s + at, len - at, e->skip, &index) : 0;
        if (got && raw && is_literal (e, (size_t)(s + at - e->text), (size_t)(s + at - e->text) + 1))
            got = dps_trie_match (trie, s + at, len - at, e->tok->added_special, &index);
        if (!got) {
            at++;
            continue;
        }
        const DpsAdded *added = &e->tok->added[index];
        size_t start = at, end = at + got;
        at = end;
        if (added->flags & DPS_ADDED_SINGLE_WORD && inside_word (s, len, start, end))
            continue;
        while (added->flags & DPS_ADDED_LSTRIP && start > done && dps_utf8_is_space (dps_utf8_previous (s + done, start - done, &space)))
            start -= space;
        while (added->flags & DPS_ADDED_RSTRIP && end < len && dps_utf8_is_space (dps_utf8_next (s + end, len - end, &n)))
            end += n;
        e->first = begins && done == 0;
        if (start > done)
            DPS_TRY (rest (e, s + done, start - done, err));
        DPS_TRY (dps_ids_add (e->out, added->id, err));
        done = end;
    }
    e->first = begins && done == 0;
    return done < len ? rest (e, s + done, len - done, err) : DPS_OK;
}

static DpsStatus encode_stretch (Encoder *e, const char *s, size_t len, DpsError *err)
{
    if (e->tok->normalizer.n == 0)
        return cut_added (e, &e->tok->normalised, s, len, encode_words, err);
    DpsBuf text = {0};
    DpsStatus st = dps_normalise (&e->tok->normalizer, s, len, &text, err);
    if (st == DPS_OK)
        st = cut_added (e, &e->tok->normalised, text.data ? text.data : "", text.len, encode_words, err);
    dps_buf_free (&text);
    return st;
}

/* Normalising moves bytes, so a literal range counts for the whole stretch it lies in. */
static DpsStatus encode_raw (Encoder *e, const char *s, size_t len, DpsError *err)
{
    const uint8_t *skip = e->skip;
    if (is_literal (e, (size_t)(s - e->text), (size_t)(s - e->text) + len))
        e->skip = e->tok->added_special;
    DpsStatus st = encode_stretch (e, s, len, err);
    e->skip = skip;
    return st;
}

static DpsStatus add_ids (DpsIds *out, const DpsIds *ids, DpsError *err)
{
    for (size_t i = 0; i < ids->n; i++)
        DPS_TRY (dps_ids_add (out, ids->ids[i], err));
    return DPS_OK;
}

DpsStatus dps_tokenizer_encode (const DpsTokenizer *tok, const char *text, size_t len, unsigned flags, DpsIds *out, DpsError *err)
{
    return dps_tokenizer_encode_literal (tok, text, len, flags, NULL, 0, out, err);
}

int dps_tokenizer_find_special (const DpsTokenizer *tok, const char *text, size_t len, size_t from, DpsSpan *out)
{
    for (size_t at = from; at < len; at++) {
        int32_t raw = -1, normalised = -1;
        size_t a = dps_trie_match (&tok->raw, text + at, len - at, NULL, &raw),
               b = dps_trie_match (&tok->normalised, text + at, len - at, NULL, &normalised);
        a = a && tok->added_special[raw] ? a : 0;
        b = b && tok->added_special[normalised] ? b : 0;
        if (a || b) {
            *out = (DpsSpan){at, at + (a > b ? a : b)};
            return 1;
        }
    }
    return 0;
}

DpsStatus dps_tokenizer_encode_literal (const DpsTokenizer *tok, const char *text, size_t len, unsigned flags, const DpsSpan *literal,
                                        size_t n_literal, DpsIds *out, DpsError *err)
{
    if (len > INT32_MAX)
        return dps_fail (err, DPS_ERR_LIMIT, "a text of %zu bytes; one call takes at most 2 GiB", len);
    Encoder e = {.tok = tok,
                 .skip = flags & DPS_TOKENIZE_LITERAL ? tok->added_special : NULL,
                 .out = out,
                 .first = 1,
                 .text = text,
                 .literal = literal,
                 .n_literal = n_literal};
    size_t before = out->n;
    DpsStatus st = flags & DPS_TOKENIZE_SPECIAL ? add_ids (out, &tok->prefix, err) : DPS_OK;
    if (st == DPS_OK)
        st = cut_added (&e, &tok->raw, text, len, encode_raw, err);
    if (st == DPS_OK && flags & DPS_TOKENIZE_SPECIAL)
        st = add_ids (out, &tok->suffix, err);
    dps_bpe_scratch_free (&e.scratch);
    if (st != DPS_OK)
        out->n = before;
    return st;
}

static int known (const DpsTokenizer *tok, int32_t id)
{
    return id >= 0 && (size_t)id < tok->vocab.n && tok->vocab.kind[id] != DPS_TOKEN_ABSENT;
}

DpsStatus dps_tokenizer_decode (const DpsTokenizer *tok, const int32_t *ids, size_t n, unsigned flags, DpsBuf *out, DpsError *err)
{
    DpsPieces pieces = {0};
    DpsStatus st = DPS_OK;
    int bad = 0;
    for (size_t i = 0; i < n && !bad && st == DPS_OK; i++) {
        if (ids[i] < 0)
            st = dps_fail (err, DPS_ERR_INVALID, "token id %d at position %zu; ids begin at 0", ids[i], i);
        else if (!known (tok, ids[i]) || (!(flags & DPS_DETOKENIZE_KEEP_SPECIAL) && dps_tokenizer_is_special (tok, ids[i])))
            continue;
        else
            bad = (tok->space_between && pieces.n && dps_buf_add (&pieces.text, " ", 1)) ||
                  dps_buf_add (&pieces.text, dps_vocab_text (&tok->vocab, ids[i]), tok->vocab.length[ids[i]]) || dps_pieces_close (&pieces);
    }
    if (st == DPS_OK && !bad)
        st = dps_decode_pieces (&tok->decoder, &pieces, err);
    if (st == DPS_OK && !bad)
        bad = dps_utf8_repair (out, pieces.text.data ? pieces.text.data : "", pieces.text.len);
    dps_pieces_free (&pieces);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory for decoded text") : st;
}

size_t dps_tokenizer_vocab (const DpsTokenizer *tok) { return tok->vocab.n; }
int32_t dps_tokenizer_named (const DpsTokenizer *tok, int which) { return tok->named[which]; }
int32_t dps_tokenizer_bos (const DpsTokenizer *tok) { return tok->named[DPS_NAMED_BOS]; }
int32_t dps_tokenizer_eos (const DpsTokenizer *tok) { return tok->named[DPS_NAMED_EOS]; }
int32_t dps_tokenizer_id (const DpsTokenizer *tok, const char *text, size_t len) { return dps_vocab_find (&tok->vocab, text, len); }

const char *dps_tokenizer_token (const DpsTokenizer *tok, int32_t id) { return known (tok, id) ? dps_vocab_text (&tok->vocab, id) : NULL; }

int dps_tokenizer_is_special (const DpsTokenizer *tok, int32_t id)
{
    return known (tok, id) && (tok->vocab.kind[id] == DPS_TOKEN_CONTROL || tok->vocab.kind[id] == DPS_TOKEN_UNKNOWN);
}

int dps_tokenizer_is_end (const DpsTokenizer *tok, int32_t id) { return known (tok, id) && tok->is_end[id]; }

const char *dps_named_token (int which)
{
    static const char *const names[DPS_NAMED_TOKENS] = {"bos_token", "eos_token", "pad_token", "unk_token",
                                                        "sep_token", "cls_token", "mask_token"};
    return names[which];
}

/* ---- chat templates ---- */

static const char *const chat_names[DPS_CHAT_TEMPLATES] = {"default", "tool_use"};

DpsStatus dps__tokenizer_add_chat (DpsTokenizer *tok, const char *name, DpsStr source, const char *where, DpsError *err)
{
    int i = 0, bad = 0;
    while (i < DPS_CHAT_TEMPLATES && strcmp (name, chat_names[i]))
        i++;
    if (i == DPS_CHAT_TEMPLATES)
        bad = dps_buf_printf (&tok->other_chats, "%s%.60s", tok->other_chats.len ? ", " : "", name);
    else if (!tok->chat[i].source) {
        tok->chat[i].source = dps_strndup (source.ptr, source.len);
        tok->chat[i].where = dps_strdup (where);
        bad = !tok->chat[i].source || !tok->chat[i].where;
    }
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory for the chat template") : DPS_OK;
}

DpsStatus dps_tokenizer_chat_template (const DpsTokenizer *tok, int with_tools, DpsTemplate *out, DpsError *err)
{
    int i = with_tools && tok->chat[DPS_CHAT_TOOL_USE].source ? DPS_CHAT_TOOL_USE : DPS_CHAT_DEFAULT;
    *out = (DpsTemplate){tok->chat[i].source, tok->chat[i].where};
    if (out->source && !*out->source)
        return dps_fail (err, DPS_ERR_UNSUPPORTED,
                         "%s is empty: it makes nothing of any conversation. Hint: chat_template_path names the file of another",
                         out->where);
    if (out->source || (!tok->other_chats.len && !tok->chat[DPS_CHAT_TOOL_USE].source))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_UNSUPPORTED,
                     "the model has chat templates, none of them named \"default\": %s%s. Hint: chat_template_path names the file of one",
                     tok->other_chats.len ? tok->other_chats.data : "tool_use",
                     tok->other_chats.len && tok->chat[DPS_CHAT_TOOL_USE].source ? ", tool_use" : "");
}
