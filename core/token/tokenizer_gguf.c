/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer_gguf.c: a tokenizer from GGUF metadata. "llama" is SentencePiece BPE (scores, byte fallback), "gpt2" byte-level BPE (merges, a
 * pre-tokenizer known by name). Values that are not what the key demands are refused by key.
 */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "token/tokenizer_internal.h"
#include "token/utf8.h"

#define SPACE_MARK "\xe2\x96\x81" /* U+2581, SentencePiece's space */

typedef struct Reader {
    const DpsMeta *const *meta;
    size_t n;
    const char *where; /* the file */
} Reader;

static const DpsMeta *find (const Reader *r, const char *key)
{
    size_t len = strlen (key);
    for (size_t i = 0; i < r->n; i++)
        if (r->meta[i]->key.len == len && !memcmp (r->meta[i]->key.ptr, key, len))
            return r->meta[i];
    return NULL;
}

static const DpsMeta *find_array (const Reader *r, const char *key, uint32_t elem_type, uint64_t n, DpsError *err)
{
    const DpsMeta *m = find (r, key);
    if (!m)
        dps_fail (err, DPS_ERR_FORMAT, "the metadata lacks %s", key);
    else if (m->type != DPS_META_ARRAY || m->elem_type != elem_type)
        dps_fail (err, DPS_ERR_FORMAT, "%s has type %u of %u, expected an array of %s", key, m->raw_type, m->raw_elem_type,
                  elem_type == DPS_META_STR   ? "strings"
                  : elem_type == DPS_META_F64 ? "floats"
                                              : "integers");
    else if (n && m->n != n)
        dps_fail (err, DPS_ERR_FORMAT, "%s has %llu elements, expected %llu, one per token", key, (unsigned long long)m->n,
                  (unsigned long long)n);
    else
        return m;
    return NULL;
}

static int get_bool (const Reader *r, const char *key, int missing)
{
    const DpsMeta *m = find (r, key);
    return m && m->type == DPS_META_BOOL ? m->v.u != 0 : missing;
}

/* An id, or `missing` when the key is absent. */
static DpsStatus get_id (const Reader *r, const char *key, size_t vocab, int32_t missing, int32_t *out, DpsError *err)
{
    const DpsMeta *m = find (r, key);
    *out = missing >= 0 && (size_t)missing < vocab ? missing : -1;
    if (!m)
        return DPS_OK;
    uint64_t id = m->type == DPS_META_U64 || (m->type == DPS_META_I64 && m->v.i >= 0) ? m->v.u : UINT64_MAX;
    if (m->type == DPS_META_U64 && id == UINT32_MAX) /* written for "none" */
        return DPS_OK;
    if (id >= vocab)
        return dps_fail (err, DPS_ERR_FORMAT, "%s is no id of the %zu tokens", key, vocab);
    *out = (int32_t)id;
    return DPS_OK;
}

/* A chat template by its name; the one without is "default". */
static DpsStatus read_chat (const Reader *r, const char *key, const char *name, DpsTokenizer *tok, DpsError *err)
{
    const DpsMeta *m = find (r, key);
    if (!m)
        return DPS_OK;
    if (m->type != DPS_META_STR)
        return dps_fail (err, DPS_ERR_FORMAT, "%s is no string", key);
    char *where = dps_strf ("%s: %s", r->where, key);
    DpsStatus st =
        where ? dps__tokenizer_add_chat (tok, name, m->v.s, where, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory for %s", key);
    dps_free (where);
    return st;
}

static int is_byte_text (DpsStr s)
{
    static const char digits[] = "0123456789ABCDEFabcdef";
    return s.len == 6 && !memcmp (s.ptr, "<0x", 3) && s.ptr[5] == '>' && s.ptr[3] && s.ptr[4] && strchr (digits, s.ptr[3]) &&
           strchr (digits, s.ptr[4]);
}

/* Token types come as i32 arrays, in some files as u32. */
static DpsStatus token_kind (const DpsMeta *types, size_t i, DpsStr text, int *out, DpsError *err)
{
    int64_t kind = types ? ((const int64_t *)types->v.array)[i] : DPS_TOKEN_NORMAL;
    if (kind < DPS_TOKEN_NORMAL || kind > DPS_TOKEN_BYTE)
        return dps_fail (err, DPS_ERR_FORMAT, "tokenizer.ggml.token_type[%zu] is %lld, expected 1 to 6", i, (long long)kind);
    if (kind == DPS_TOKEN_BYTE && !is_byte_text (text))
        return dps_fail (err, DPS_ERR_FORMAT, "tokenizer.ggml.tokens[%zu] is a byte token \"%.*s\", expected <0x00> to <0xFF>", i,
                         (int)(text.len < 40 ? text.len : 40), text.ptr);
    *out = (int)kind;
    return DPS_OK;
}

static DpsStatus read_tokens (const Reader *r, DpsTokenizer *tok, DpsError *err)
{
    const DpsMeta *tokens = find_array (r, "tokenizer.ggml.tokens", DPS_META_STR, 0, err), *types = NULL;
    if (!tokens)
        return DPS_ERR_FORMAT;
    const DpsMeta *t = find (r, "tokenizer.ggml.token_type");
    if (t &&
        !(types = find_array (r, "tokenizer.ggml.token_type", t->elem_type == DPS_META_U64 ? DPS_META_U64 : DPS_META_I64, tokens->n, err)))
        return DPS_ERR_FORMAT;
    if (tokens->n == 0 || tokens->n > INT32_MAX)
        return dps_fail (err, DPS_ERR_FORMAT, "tokenizer.ggml.tokens has %llu elements", (unsigned long long)tokens->n);
    const DpsStr *texts = tokens->v.array;
    size_t bytes = 0;
    for (uint64_t i = 0; i < tokens->n; i++)
        bytes += texts[i].len;
    DPS_TRY (dps_vocab_init (&tok->vocab, (size_t)tokens->n, bytes, err));
    for (size_t i = 0; i < tokens->n; i++) {
        int kind = DPS_TOKEN_NORMAL;
        DPS_TRY (token_kind (types, i, texts[i], &kind, err));
        DPS_TRY (dps_vocab_set (&tok->vocab, i, texts[i].ptr, texts[i].len, kind, err));
    }
    return DPS_OK;
}

/* SentencePiece's user-defined tokens match the normalised text; files hold them with spaces or with space marks. */
static DpsStatus add_user (DpsTokenizer *tok, int32_t id, const DpsSteps *marks, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = dps_normalise (marks, dps_vocab_text (&tok->vocab, id), tok->vocab.length[id], &text, err);
    if (st == DPS_OK)
        st = dps__tokenizer_add (tok, id, text.data, text.len, 0, 1, err);
    dps_buf_free (&text);
    return st;
}

/* Control tokens match the raw text, in byte-level vocabularies user-defined ones too. */
static DpsStatus add_special (DpsTokenizer *tok, int sentencepiece, DpsError *err)
{
    DpsSteps marks = {0};
    DpsStatus st = dps_steps_add (&marks, DPS_NORM_SPACE_MARK, SPACE_MARK, 3, NULL, err);
    for (size_t id = 0; id < tok->vocab.n && st == DPS_OK; id++) {
        int kind = tok->vocab.kind[id];
        if ((kind != DPS_TOKEN_CONTROL && kind != DPS_TOKEN_UNKNOWN && kind != DPS_TOKEN_USER) || tok->vocab.length[id] == 0)
            continue;
        if (sentencepiece && kind == DPS_TOKEN_USER)
            st = add_user (tok, (int32_t)id, &marks, err);
        else
            st = dps__tokenizer_add (tok, (int32_t)id, dps_vocab_text (&tok->vocab, (int32_t)id), tok->vocab.length[id], 0, 0, err);
    }
    dps_steps_free (&marks);
    return st;
}

/* A rank that orders as scores do, highest first. */
static uint32_t rank_of (double score)
{
    float f = (float)score;
    uint32_t bits;
    if (f == 0)
        f = 0; /* −0 and 0 are one score */
    memcpy (&bits, &f, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u; /* ascending with the score */
    return ~bits == UINT32_MAX ? UINT32_MAX - 1 : ~bits;
}

static DpsStatus setup_sentencepiece (const Reader *r, DpsTokenizer *tok, DpsError *err)
{
    const DpsMeta *scores = find_array (r, "tokenizer.ggml.scores", DPS_META_F64, tok->vocab.n, err);
    if (!scores)
        return DPS_ERR_FORMAT;
    tok->bpe.rank = dps_malloc (tok->vocab.n, sizeof *tok->bpe.rank);
    if (!tok->bpe.rank)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for scores");
    for (size_t i = 0; i < tok->vocab.n; i++) {
        double score = ((const double *)scores->v.array)[i];
        if (isnan (score))
            return dps_fail (err, DPS_ERR_FORMAT, "tokenizer.ggml.scores[%zu] is NaN", i);
        int kind = tok->vocab.kind[i];
        tok->bpe.rank[i] = kind == DPS_TOKEN_NORMAL || kind == DPS_TOKEN_USER || kind == DPS_TOKEN_UNUSED ? rank_of (score) : UINT32_MAX;
    }
    tok->bpe.byte_fallback = 1;
    int prefix = get_bool (r, "tokenizer.ggml.add_space_prefix", 1);
    DpsStep *step;
    if (prefix)
        DPS_TRY (dps_steps_add (&tok->normalizer, DPS_NORM_PREPEND, " ", 1, NULL, err));
    DPS_TRY (dps_steps_add (&tok->normalizer, DPS_NORM_SPACE_MARK, SPACE_MARK, 3, NULL, err));
    DPS_TRY (dps_steps_add (&tok->decoder, DPS_DECODE_REPLACE, " ", 1, &step, err));
    DPS_TRY (dps_regex_new (SPACE_MARK, 3, 1, &step->pattern, err));
    DPS_TRY (dps_steps_add (&tok->decoder, DPS_DECODE_BYTE_FALLBACK, NULL, 0, &step, err));
    step->flag = 1;
    if (!prefix)
        return DPS_OK;
    DPS_TRY (dps_steps_add (&tok->decoder, DPS_DECODE_FUSE, NULL, 0, NULL, err));
    DPS_TRY (dps_steps_add (&tok->decoder, DPS_DECODE_STRIP, " ", 1, &step, err));
    step->left = 1;
    return DPS_OK;
}

/* Pre-tokenizers by GGUF name: single digits first or not, then a scanner. */
typedef struct Pre {
    const char *name;
    uint8_t digits, scanner, ignore_merges, adds_bos;
} Pre;
static const Pre pres[] = {
    {"default", 0, DPS_SCAN_GPT2, 0, 0},
    {"gpt-2", 0, DPS_SCAN_GPT2, 0, 0},
    {"phi-2", 0, DPS_SCAN_GPT2, 0, 0},
    {"olmo", 0, DPS_SCAN_GPT2, 0, 0},
    {"smollm", 1, DPS_SCAN_GPT2, 0, 0},
    {"starcoder", 1, DPS_SCAN_GPT2, 0, 0},
    {"refact", 1, DPS_SCAN_GPT2, 0, 0},
    {"command-r", 1, DPS_SCAN_GPT2, 0, 0},
    {"codeshell", 1, DPS_SCAN_GPT2, 0, 0},
    {"llama-bpe", 0, DPS_SCAN_LLAMA3, 1, 1},
    {"llama3", 0, DPS_SCAN_LLAMA3, 1, 1},
    {"llama-v3", 0, DPS_SCAN_LLAMA3, 1, 1},
    {"smaug-bpe", 0, DPS_SCAN_LLAMA3, 0, 0},
    {"dbrx", 0, DPS_SCAN_LLAMA3, 0, 0},
    {"qwen2", 0, DPS_SCAN_QWEN2, 0, 0},
    {"qwen3", 0, DPS_SCAN_QWEN2, 0, 0},
    {"deepseek-r1-qwen", 0, DPS_SCAN_QWEN2, 0, 0},
    {"stablelm2", 0, DPS_SCAN_QWEN2, 0, 0},
};

static DpsStatus find_pre (const Reader *r, const Pre **out, DpsError *err)
{
    const DpsMeta *m = find (r, "tokenizer.ggml.pre");
    *out = &pres[0];
    if (!m) {
        dps_log (DPS_LOG_WARNING,
                 "%s: no tokenizer.ggml.pre: GPT-2's pre-tokenizer is assumed; ids may differ from the model's own. Hint: convert the "
                 "model again, or use its folder with tokenizer.json",
                 r->where);
        return DPS_OK;
    }
    if (m->type == DPS_META_STR)
        for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
            if (m->v.s.len == strlen (pres[i].name) && !memcmp (m->v.s.ptr, pres[i].name, m->v.s.len)) {
                *out = &pres[i];
                return DPS_OK;
            }
    return dps_fail (
        err, DPS_ERR_UNSUPPORTED,
        "tokenizer.ggml.pre \"%.*s\" is not supported; supported are gpt-2, smollm, llama-bpe, qwen2 and their aliases. Hint: use "
        "the model's folder with tokenizer.json",
        m->type == DPS_META_STR ? (int)(m->v.s.len < 60 ? m->v.s.len : 60) : 0, m->type == DPS_META_STR ? m->v.s.ptr : "");
}

/* "left right": the space that parts them is the first one past the first byte. */
static DpsStatus add_merge (DpsTokenizer *tok, DpsStr text, size_t i, DpsBuf *joined, DpsError *err)
{
    const char *space = text.len > 2 ? memchr (text.ptr + 1, ' ', text.len - 2) : NULL;
    if (!space)
        return dps_fail (err, DPS_ERR_FORMAT, "tokenizer.ggml.merges[%zu] is not two texts parted by a space", i);
    size_t left_len = (size_t)(space - text.ptr), right_len = text.len - left_len - 1;
    joined->len = 0;
    if (dps_buf_add (joined, text.ptr, left_len) || dps_buf_add (joined, space + 1, right_len))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for merges");
    int32_t left = dps_vocab_find (&tok->vocab, text.ptr, left_len), right = dps_vocab_find (&tok->vocab, space + 1, right_len);
    int32_t id = dps_vocab_find (&tok->vocab, joined->data, joined->len);
    if (left < 0 || right < 0 || id < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "tokenizer.ggml.merges[%zu] \"%.*s\" names a text that is no token", i,
                         (int)(text.len < 80 ? text.len : 80), text.ptr);
    if (tok->vocab.kind[id] == DPS_TOKEN_CONTROL)
        return DPS_OK; /* text never becomes a control token */
    return dps_bpe_add_merge (&tok->bpe, left, right, (uint32_t)i, id, err);
}

static DpsStatus setup_byte_level (const Reader *r, DpsTokenizer *tok, const Pre **out_pre, DpsError *err)
{
    const DpsMeta *merges = find_array (r, "tokenizer.ggml.merges", DPS_META_STR, 0, err);
    const Pre *pre;
    DpsStep *step;
    if (!merges)
        return DPS_ERR_FORMAT;
    DPS_TRY (find_pre (r, &pre, err));
    *out_pre = pre;
    tok->bpe.by_bytes = 1;
    tok->bpe.ignore_merges = pre->ignore_merges;
    if (pre->digits) {
        DPS_TRY (dps_steps_add (&tok->pretokenizer, DPS_PRE_DIGITS, NULL, 0, &step, err));
        step->behaviour = DPS_SPLIT_ISOLATED;
    }
    DPS_TRY (dps_steps_add (&tok->pretokenizer, DPS_PRE_SCAN, NULL, 0, &step, err));
    step->flag = pre->scanner;
    if (pre->scanner == DPS_SCAN_QWEN2) {
        DPS_TRY (dps_steps_add (&tok->normalizer, DPS_NORM_UNICODE, NULL, 0, &step, err));
        step->flag = DPS_UNICODE_NFC;
    }
    DPS_TRY (dps_steps_add (&tok->decoder, DPS_DECODE_BYTE_LEVEL, NULL, 0, NULL, err));
    if (merges->n > UINT32_MAX - 1)
        return dps_fail (err, DPS_ERR_LIMIT, "tokenizer.ggml.merges has too many elements");
    DPS_TRY (dps_bpe_reserve_merges (&tok->bpe, (size_t)merges->n, err));
    DpsBuf joined = {0};
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < merges->n && st == DPS_OK; i++)
        st = add_merge (tok, ((const DpsStr *)merges->v.array)[i], i, &joined, err);
    dps_buf_free (&joined);
    return st;
}

static DpsStatus read_named (const Reader *r, DpsTokenizer *tok, int sentencepiece, const Pre *pre, DpsError *err)
{
    size_t n = tok->vocab.n;
    int32_t id;
    DPS_TRY (get_id (r, "tokenizer.ggml.bos_token_id", n, sentencepiece ? 1 : -1, &tok->named[DPS_NAMED_BOS], err));
    DPS_TRY (get_id (r, "tokenizer.ggml.eos_token_id", n, sentencepiece ? 2 : -1, &tok->named[DPS_NAMED_EOS], err));
    DPS_TRY (get_id (r, "tokenizer.ggml.padding_token_id", n, -1, &tok->named[DPS_NAMED_PAD], err));
    DPS_TRY (get_id (r, "tokenizer.ggml.unknown_token_id", n, sentencepiece ? 0 : -1, &tok->named[DPS_NAMED_UNK], err));
    tok->bpe.unknown = sentencepiece ? tok->named[DPS_NAMED_UNK] : -1;
    DPS_TRY (get_id (r, "tokenizer.ggml.seperator_token_id", n, -1, &tok->named[DPS_NAMED_SEP], err)); /* so spelt in GGUF */
    DPS_TRY (get_id (r, "tokenizer.ggml.cls_token_id", n, -1, &tok->named[DPS_NAMED_CLS], err));
    DPS_TRY (get_id (r, "tokenizer.ggml.mask_token_id", n, -1, &tok->named[DPS_NAMED_MASK], err));
    static const char *const ends[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    tok->is_end = dps_calloc (n, 1);
    if (!tok->is_end)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for special tokens");
    for (int i = 0; i < 2; i++) {
        DPS_TRY (get_id (r, ends[i], n, -1, &id, err));
        dps__tokenizer_set_end (tok, id);
    }
    if (tok->named[DPS_NAMED_BOS] >= 0 && get_bool (r, "tokenizer.ggml.add_bos_token", sentencepiece || (pre && pre->adds_bos)))
        DPS_TRY (dps_ids_add (&tok->prefix, tok->named[DPS_NAMED_BOS], err));
    if (tok->named[DPS_NAMED_EOS] >= 0 && get_bool (r, "tokenizer.ggml.add_eos_token", 0))
        DPS_TRY (dps_ids_add (&tok->suffix, tok->named[DPS_NAMED_EOS], err));
    DPS_TRY (read_chat (r, "tokenizer.chat_template", "default", tok, err));
    return read_chat (r, "tokenizer.chat_template.tool_use", "tool_use", tok, err);
}

static DpsStatus load (const Reader *r, DpsTokenizer *tok, DpsError *err)
{
    const DpsMeta *model = find (r, "tokenizer.ggml.model");
    if (!model || model->type != DPS_META_STR)
        return dps_fail (err, DPS_ERR_FORMAT, "the metadata has no tokenizer.ggml.model");
    int sentencepiece = model->v.s.len == 5 && !memcmp (model->v.s.ptr, "llama", 5);
    if (!sentencepiece && !(model->v.s.len == 4 && !memcmp (model->v.s.ptr, "gpt2", 4)))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "tokenizer.ggml.model \"%.*s\" is not supported; supported are llama and gpt2",
                         (int)(model->v.s.len < 60 ? model->v.s.len : 60), model->v.s.ptr);
    const Pre *pre = NULL;
    DPS_TRY (read_tokens (r, tok, err));
    DPS_TRY (sentencepiece ? setup_sentencepiece (r, tok, err) : setup_byte_level (r, tok, &pre, err));
    DPS_TRY (read_named (r, tok, sentencepiece, pre, err));
    DPS_TRY (add_special (tok, sentencepiece, err));
    return dps__tokenizer_finish (tok, err);
}

DpsStatus dps_tokenizer_from_meta (const DpsMeta *const *meta, size_t n_meta, const char *where, DpsTokenizer **out, DpsError *err)
{
    Reader r = {.meta = meta, .n = n_meta, .where = where};
    *out = NULL;
    if (!find (&r, "tokenizer.ggml.model") && !find (&r, "tokenizer.ggml.tokens"))
        return DPS_OK; /* converted without a vocabulary */
    DpsTokenizer *tok = dps__tokenizer_new ();
    if (!tok)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory for a tokenizer", where);
    DpsStatus st = load (&r, tok, err);
    if (st == DPS_OK)
        *out = tok;
    else
        dps_tokenizer_free (tok);
    return st == DPS_OK ? st : dps_error_prefix (err, "%s", where);
}
