/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.h: text ↔ token ids: byte-level BPE and SentencePiece BPE with byte fallback, from tokenizer.json or GGUF metadata. */
#ifndef DPS_TOKEN_TOKENIZER_H
#define DPS_TOKEN_TOKENIZER_H

#include "base/mem.h"
#include "base/status.h"
#include "diapason/format.h"

typedef struct DpsTokenizer DpsTokenizer;

/** A growable list of ids; all zeros is a valid empty one. Free ids with dps_free. */
typedef struct DpsIds {
    int32_t *ids;
    size_t n, capacity;
} DpsIds;

enum {
    DPS_TOKENIZE_SPECIAL = 1, /* add what the tokenizer adds itself (<bos> for Gemma) */
    DPS_TOKENIZE_LITERAL = 2  /* control-token look-alikes in the text are plain text: what untrusted input needs */
};
enum { DPS_DETOKENIZE_KEEP_SPECIAL = 1 };

/** A byte range of a text. */
typedef struct DpsSpan {
    size_t start, end;
} DpsSpan;

/** Load tokenizer.json (and tokenizer_config.json, the chat templates, generation_config.json when there) of a Hugging Face folder. [any] */
DpsStatus dps_tokenizer_from_folder (const char *folder, DpsTokenizer **out, DpsError *err);
/** Load from GGUF metadata (tokenizer.ggml.*), borrowed until return; *out is NULL where there is none. `where` names the file in errors. [any] */
DpsStatus dps_tokenizer_from_meta (const DpsMeta *const *meta, size_t n_meta, const char *where, DpsTokenizer **out, DpsError *err);
void dps_tokenizer_free (DpsTokenizer *tok);

/** Append the ids of text[0..len) (UTF-8; may hold U+0000; invalid bytes are encoded as bytes). [any]: const, several threads at once. */
DpsStatus dps_tokenizer_encode (const DpsTokenizer *tok, const char *text, size_t len, unsigned flags, DpsIds *out, DpsError *err);
/** The same; control-token look-alikes that begin inside one of the ranges (rising, disjoint) are plain text. [any] */
DpsStatus dps_tokenizer_encode_literal (const DpsTokenizer *tok, const char *text, size_t len, unsigned flags, const DpsSpan *literal,
                                        size_t n_literal, DpsIds *out, DpsError *err);
/** The first control token's text in text[from..len): 1 and its range, or 0. [any] */
int dps_tokenizer_find_special (const DpsTokenizer *tok, const char *text, size_t len, size_t from, DpsSpan *out);
/**
 * Append the text of ids. An id that no token has, one that only pads a model's embedding, has no text, as in the tokenizers library.
 * Errors: INVALID for a negative id. [any]
 */
DpsStatus dps_tokenizer_decode (const DpsTokenizer *tok, const int32_t *ids, size_t n, unsigned flags, DpsBuf *out, DpsError *err);

size_t dps_tokenizer_vocab (const DpsTokenizer *tok);
/** The special tokens that have a name, and that name: "bos_token" …, as transformers gives it to chat templates. */
enum { DPS_NAMED_BOS, DPS_NAMED_EOS, DPS_NAMED_PAD, DPS_NAMED_UNK, DPS_NAMED_SEP, DPS_NAMED_CLS, DPS_NAMED_MASK, DPS_NAMED_TOKENS };
const char *dps_named_token (int which);
/** Ids of the named special tokens, or -1. */
int32_t dps_tokenizer_named (const DpsTokenizer *tok, int which);
int32_t dps_tokenizer_bos (const DpsTokenizer *tok);
int32_t dps_tokenizer_eos (const DpsTokenizer *tok);
/** The id whose text is exactly this, or -1. */
int32_t dps_tokenizer_id (const DpsTokenizer *tok, const char *text, size_t len);
/** The vocabulary's own text of an id (not decoded), or NULL. */
const char *dps_tokenizer_token (const DpsTokenizer *tok, int32_t id);
/** 1 for a control (special) token; 1 for one that ends generation (eos, end of turn). */
int dps_tokenizer_is_special (const DpsTokenizer *tok, int32_t id);
int dps_tokenizer_is_end (const DpsTokenizer *tok, int32_t id);
/** A chat template: its Jinja source, NULL when there is none, and where that stands, for errors. Both borrowed. */
typedef struct DpsTemplate {
    const char *source, *where;
} DpsTemplate;
/**
 * The model's own chat template, chosen as transformers does: for conversations with tools the one named "tool_use", else "default".
 * Errors: UNSUPPORTED when the model has templates of other names only. [any]
 */
DpsStatus dps_tokenizer_chat_template (const DpsTokenizer *tok, int with_tools, DpsTemplate *out, DpsError *err);

#endif
