/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer_json.c: the tokenizer.json of a Hugging Face folder. The document is walked in place; vocabulary and merges are read as they
 * stand, the small members through jansson. Names of special tokens and the chat template come from the files beside it
 * (tokenizer_folder.c).
 */
#include <string.h>

#include "base/file.h"
#include "base/jscan.h"
#include "token/tokenizer_folder.h"

enum { LARGEST_MEMBER = 64 * 1024 }; /* bytes; the largest real one, Llama 3's post_processor, takes 2 KiB */

/* Where the members lie, and the scalar members of "model". The last of several equal keys wins. */
typedef struct Parts {
    DpsScan added, normalizer, pretokenizer, post, decoder, vocab, merges;
    DpsBuf type, unknown, prefix, suffix;
    int byte_fallback, fuse_unknown, ignore_merges, has_model, has_type, has_dropout;
} Parts;

static void free_parts (Parts *p)
{
    dps_buf_free (&p->type);
    dps_buf_free (&p->unknown);
    dps_buf_free (&p->prefix);
    dps_buf_free (&p->suffix);
}

static int is (const DpsBuf *key, const char *name) { return key->len == strlen (name) && !memcmp (key->data, name, key->len); }

/* Keep the extent of the value at the cursor and step over it. */
static DpsStatus keep (DpsScan *c, DpsScan *out, DpsError *err)
{
    *out = *c;
    DPS_TRY (dps_scan_skip (c, err));
    out->len = c->at;
    return DPS_OK;
}

static DpsStatus keep_string (DpsScan *c, DpsBuf *out, DpsError *err)
{
    out->len = 0;
    return dps_scan_peek (c) == '"' ? dps_scan_string (c, out, err) : dps_scan_skip (c, err);
}

static DpsStatus keep_flag (DpsScan *c, int *out, DpsError *err)
{
    *out = dps_scan_peek (c) == 't';
    return dps_scan_skip (c, err);
}

static DpsStatus read_model (DpsScan *c, Parts *p, DpsError *err)
{
    int first = 1, more = 1;
    DpsBuf key = {0};
    DpsStatus st = DPS_OK;
    p->has_model = 1;
    while (st == DPS_OK && (st = dps_scan_member (c, &first, &key, &more, err)) == DPS_OK && more) {
        if (is (&key, "vocab"))
            st = keep (c, &p->vocab, err);
        else if (is (&key, "merges"))
            st = keep (c, &p->merges, err);
        else if (is (&key, "type"))
            st = dps_scan_string (c, &p->type, err), p->has_type = 1;
        else if (is (&key, "unk_token"))
            st = keep_string (c, &p->unknown, err);
        else if (is (&key, "continuing_subword_prefix"))
            st = keep_string (c, &p->prefix, err);
        else if (is (&key, "end_of_word_suffix"))
            st = keep_string (c, &p->suffix, err);
        else if (is (&key, "byte_fallback"))
            st = keep_flag (c, &p->byte_fallback, err);
        else if (is (&key, "fuse_unk"))
            st = keep_flag (c, &p->fuse_unknown, err);
        else if (is (&key, "ignore_merges"))
            st = keep_flag (c, &p->ignore_merges, err);
        else {
            if (is (&key, "dropout"))
                p->has_dropout = dps_scan_peek (c) != 'n' && dps_scan_peek (c) != '0';
            st = dps_scan_skip (c, err);
        }
    }
    dps_buf_free (&key);
    return st;
}

static DpsStatus read_document (DpsScan *c, Parts *p, DpsError *err)
{
    int first = 1, more = 1;
    DpsBuf key = {0};
    DpsScan ignored;
    DpsStatus st = DPS_OK;
    while (st == DPS_OK && (st = dps_scan_member (c, &first, &key, &more, err)) == DPS_OK && more) {
        DpsScan *to = is (&key, "added_tokens")     ? &p->added
                      : is (&key, "normalizer")     ? &p->normalizer
                      : is (&key, "pre_tokenizer")  ? &p->pretokenizer
                      : is (&key, "post_processor") ? &p->post
                      : is (&key, "decoder")        ? &p->decoder
                                                    : &ignored;
        st = is (&key, "model") ? read_model (c, p, err) : keep (c, to, err);
    }
    dps_buf_free (&key);
    if (st == DPS_OK && dps_scan_peek (c))
        st = dps_scan_refuse (c, "the end of the file", err);
    return st;
}

/* Two texts of one id: only one of them could be decoded, and the other's merges would be lost without a word. */
static DpsStatus add_token (DpsVocab *v, uint64_t id, const DpsBuf *text, DpsError *err)
{
    if (id < v->n && v->kind[id] != DPS_TOKEN_ABSENT &&
        (v->length[id] != text->len || memcmp (dps_vocab_text (v, (int32_t)id), text->data, text->len)))
        return dps_fail (err, DPS_ERR_FORMAT, "id %llu is that of \"%.60s\" and of \"%.60s\"", (unsigned long long)id,
                         dps_vocab_text (v, (int32_t)id), text->data ? text->data : "");
    return dps_vocab_set (v, id, text->data, text->len, DPS_TOKEN_NORMAL, err);
}

static DpsStatus read_vocab (Parts *p, DpsTokenizer *tok, DpsError *err)
{
    DpsScan c = p->vocab;
    int first = 1, more = 1;
    DpsBuf text = {0};
    uint64_t id;
    DpsStatus st = dps_vocab_init (&tok->vocab, (c.len - c.at) / 6 + 1, (c.len - c.at) / 2, err); /* "a":1, is six bytes */
    if (st == DPS_OK && dps_scan_peek (&c) != '{')
        st = dps_scan_refuse (&c, "\"vocab\" to be an object of ids", err);
    while (st == DPS_OK && (st = dps_scan_member (&c, &first, &text, &more, err)) == DPS_OK && more)
        if ((st = dps_scan_uint (&c, &id, err)) == DPS_OK)
            st = add_token (&tok->vocab, id, &text, err);
    dps_buf_free (&text);
    if (st != DPS_OK)
        return dps_error_prefix (err, "vocab");
    return tok->vocab.n ? DPS_OK : dps_fail (err, DPS_ERR_FORMAT, "\"vocab\" is empty");
}

/* One merge: "left right", or ["left", "right"] since tokenizers 0.20. */
static DpsStatus read_merge (DpsScan *c, DpsBuf *left, DpsBuf *right, DpsError *err)
{
    int first = 1, more = 0;
    right->len = 0;
    if (dps_scan_peek (c) == '[') {
        DPS_TRY (dps_scan_element (c, &first, &more, err));
        DPS_TRY (more ? dps_scan_string (c, left, err) : dps_scan_refuse (c, "two texts", err));
        DPS_TRY (dps_scan_element (c, &first, &more, err));
        DPS_TRY (more ? dps_scan_string (c, right, err) : dps_scan_refuse (c, "two texts", err));
        DPS_TRY (dps_scan_element (c, &first, &more, err));
        return more ? dps_scan_refuse (c, "no third text", err) : DPS_OK;
    }
    DPS_TRY (dps_scan_string (c, left, err));
    const char *space = left->len > 1 ? memchr (left->data + 1, ' ', left->len - 1) : NULL;
    if (!space)
        return dps_scan_refuse (c, "two texts parted by a space before this", err);
    size_t at = (size_t)(space - left->data);
    if (dps_buf_add (right, space + 1, left->len - at - 1))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for merges");
    left->len = at;
    return DPS_OK;
}

static DpsStatus add_merge (DpsTokenizer *tok, const DpsBuf *left, const DpsBuf *right, DpsBuf *joined, uint32_t rank, DpsError *err)
{
    joined->len = 0;
    if (dps_buf_add (joined, left->data, left->len) || dps_buf_add (joined, right->data, right->len))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for merges");
    int32_t a = dps_vocab_find (&tok->vocab, left->data, left->len), b = dps_vocab_find (&tok->vocab, right->data, right->len);
    int32_t id = dps_vocab_find (&tok->vocab, joined->data, joined->len);
    if (a < 0 || b < 0 || id < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "merge %u joins \"%.*s\" and \"%.60s\", but %s is no token of \"vocab\"", rank,
                         (int)(left->len < 60 ? left->len : 60), left->data, right->data ? right->data : "",
                         a < 0   ? "the left"
                         : b < 0 ? "the right"
                                 : "their join");
    if (tok->vocab.kind[id] == DPS_TOKEN_CONTROL)
        return DPS_OK; /* text never becomes a control token */
    return dps_bpe_add_merge (&tok->bpe, a, b, rank, id, err);
}

static DpsStatus read_merges (Parts *p, DpsTokenizer *tok, DpsError *err)
{
    DpsScan c = p->merges;
    int first = 1, more = 1;
    uint32_t rank = 0;
    DpsBuf left = {0}, right = {0}, joined = {0};
    size_t expected = c.s ? (c.len - c.at) / 12 : 0; /* the table grows where this is too few */
    DpsStatus st = dps_bpe_reserve_merges (&tok->bpe, expected, err);
    while (c.s && st == DPS_OK && (st = dps_scan_element (&c, &first, &more, err)) == DPS_OK && more)
        if ((st = read_merge (&c, &left, &right, err)) == DPS_OK)
            st = add_merge (tok, &left, &right, &joined, rank++, err);
    dps_buf_free (&left);
    dps_buf_free (&right);
    dps_buf_free (&joined);
    return st == DPS_OK ? st : dps_error_prefix (err, "merges");
}

/* A small value as a tree; *out NULL when it is absent. A tree takes up to forty times its text: hence the limit. */
static DpsStatus parse (const DpsScan *part, const char *name, json_t **out, DpsError *err)
{
    *out = NULL;
    if (part->s && part->len - part->at > LARGEST_MEMBER)
        return dps_fail (err, DPS_ERR_LIMIT, "%s takes %zu bytes, the limit is %d", name, part->len - part->at, LARGEST_MEMBER);
    return part->s ? dps_json_parse (part->s + part->at, part->len - part->at, name, 1, DPS_JSON_WIDE, out, err) : DPS_OK;
}

static DpsStatus added_token (DpsTokenizer *tok, json_t *item, DpsError *err)
{
    json_t *content = json_object_get (item, "content"), *id = json_object_get (item, "id");
    if (!json_is_string (content) || !json_is_integer (id) || json_integer_value (id) < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "an entry without \"content\" (a string) and \"id\" (an integer from 0)");
    const char *text = json_string_value (content);
    size_t len = json_string_length (content);
    int special = json_is_true (json_object_get (item, "special"));
    int normalised = json_object_get (item, "normalized") ? json_is_true (json_object_get (item, "normalized")) : !special;
    unsigned flags = (json_is_true (json_object_get (item, "single_word")) ? DPS_ADDED_SINGLE_WORD : 0u) |
                     (json_is_true (json_object_get (item, "lstrip")) ? DPS_ADDED_LSTRIP : 0u) |
                     (json_is_true (json_object_get (item, "rstrip")) ? DPS_ADDED_RSTRIP : 0u);
    if (len == 0)
        return DPS_OK; /* matches nothing */
    /* A text the vocabulary holds keeps the vocabulary's id, as in the tokenizers library. */
    int32_t known = dps_vocab_find (&tok->vocab, text, len);
    uint64_t to = known >= 0 ? (uint64_t)known : (uint64_t)json_integer_value (id);
    DPS_TRY (dps_vocab_set (&tok->vocab, to, text, len, special ? DPS_TOKEN_CONTROL : DPS_TOKEN_USER, err));
    if (!normalised || tok->normalizer.n == 0)
        return dps__tokenizer_add (tok, (int32_t)to, text, len, flags, normalised, err);
    DpsBuf look = {0}; /* looked for as the normaliser writes it */
    DpsStatus st = dps_normalise (&tok->normalizer, text, len, &look, err);
    if (st == DPS_OK && look.len)
        st = dps__tokenizer_add (tok, (int32_t)to, look.data, look.len, flags, 1, err);
    dps_buf_free (&look);
    return st;
}

static DpsStatus read_added (const Parts *p, DpsTokenizer *tok, DpsError *err)
{
    DpsScan c = p->added, item;
    int first = 1, more = 1;
    DpsStatus st = DPS_OK;
    if (!c.s || dps_scan_peek (&c) == 'n') /* absent or null */
        return DPS_OK;
    for (size_t i = 0; (st = dps_scan_element (&c, &first, &more, err)) == DPS_OK && more; i++) {
        json_t *tree = NULL;
        st = keep (&c, &item, err);
        if (st == DPS_OK && (st = parse (&item, "entry", &tree, err)) == DPS_OK)
            st = added_token (tok, tree, err);
        json_decref (tree);
        if (st != DPS_OK)
            return dps_error_prefix (err, "added_tokens[%zu]", i);
    }
    return st;
}

static DpsStatus read_normalizer (const Parts *p, DpsTokenizer *tok, DpsError *err)
{
    json_t *part;
    DPS_TRY (parse (&p->normalizer, "normalizer", &part, err));
    DpsStatus st = dps_steps_normalizer (part, &tok->normalizer, err);
    json_decref (part);
    return st;
}

static DpsStatus read_pretokenizer (const Parts *p, DpsTokenizer *tok, DpsError *err)
{
    json_t *part;
    DPS_TRY (parse (&p->pretokenizer, "pre_tokenizer", &part, err));
    DpsStatus st = dps_steps_pretokenizer (part, &tok->pretokenizer, &tok->bpe.by_bytes, err);
    json_decref (part);
    return st;
}

static DpsStatus read_decoder (const Parts *p, DpsTokenizer *tok, DpsError *err)
{
    json_t *part;
    DPS_TRY (parse (&p->decoder, "decoder", &part, err));
    DpsStatus st = dps_steps_decoder (part, &tok->decoder, err);
    tok->space_between = !part || json_is_null (part);
    json_decref (part);
    return st;
}

static DpsStatus read_post (const Parts *p, DpsTokenizer *tok, DpsError *err)
{
    json_t *part;
    DPS_TRY (parse (&p->post, "post_processor", &part, err));
    DpsStatus st = dps__post_processor (part, tok, 0, err);
    json_decref (part);
    return st;
}

static DpsStatus read_parts (Parts *p, DpsTokenizer *tok, DpsError *err)
{
    if (!p->has_model || (p->has_type && !p->type.len))
        return dps_fail (err, DPS_ERR_FORMAT, "%s", p->has_model ? "model: \"type\" is empty" : "no \"model\"");
    if (p->has_type && !is (&p->type, "BPE")) /* older files have none */
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "model type \"%.40s\"; supported is BPE", p->type.data);
    if (!p->vocab.s)
        return dps_fail (err, DPS_ERR_FORMAT, "model lacks \"vocab\"");
    if (p->has_dropout || p->prefix.len || p->suffix.len)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "model with dropout, continuing_subword_prefix or end_of_word_suffix");
    DPS_TRY (read_vocab (p, tok, err));
    DPS_TRY (read_normalizer (p, tok, err)); /* first: added tokens are looked for as it writes them */
    DPS_TRY (read_added (p, tok, err));
    tok->bpe.byte_fallback = p->byte_fallback;
    tok->bpe.fuse_unknown = p->fuse_unknown;
    tok->bpe.ignore_merges = p->ignore_merges;
    tok->bpe.unknown = p->unknown.len ? dps_vocab_find (&tok->vocab, p->unknown.data, p->unknown.len) : -1;
    if (p->unknown.len && tok->bpe.unknown < 0)
        tok->bpe.unknown = DPS_UNKNOWN_ABSENT;
    DPS_TRY (read_merges (p, tok, err));
    DPS_TRY (read_pretokenizer (p, tok, err));
    DPS_TRY (read_decoder (p, tok, err));
    return read_post (p, tok, err);
}

DpsStatus dps__tokenizer_json (const char *data, size_t len, DpsTokenizer *tok, DpsError *err)
{
    Parts parts = {0};
    DpsScan c = {.s = data, .len = len};
    DpsStatus st = read_document (&c, &parts, err);
    if (st == DPS_OK)
        st = read_parts (&parts, tok, err);
    free_parts (&parts);
    return st;
}
