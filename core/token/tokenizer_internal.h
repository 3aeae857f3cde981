/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_internal.h: what the loaders (tokenizer_json.c, tokenizer_gguf.c) fill and tokenizer.c runs. */
#ifndef DPS_TOKEN_TOKENIZER_INTERNAL_H
#define DPS_TOKEN_TOKENIZER_INTERNAL_H

#include "token/bpe.h"
#include "token/steps.h"
#include "token/tokenizer.h"
#include "token/trie.h"
#include "token/vocab.h"

/** How an added token is found in text. */
enum {
    DPS_ADDED_SINGLE_WORD = 1, /* not inside a word */
    DPS_ADDED_LSTRIP = 2,      /* takes white space before it */
    DPS_ADDED_RSTRIP = 4
};

typedef struct DpsAdded {
    int32_t id;
    uint8_t flags; /* DPS_ADDED_* */
} DpsAdded;

/** The chat templates that are used, and their names. */
enum { DPS_CHAT_DEFAULT, DPS_CHAT_TOOL_USE, DPS_CHAT_TEMPLATES };

struct DpsTokenizer {
    DpsVocab vocab;
    DpsBpe bpe;
    DpsSteps normalizer, pretokenizer, decoder;
    int space_between; /* tokens are joined by a space: a tokenizer.json without decoder */
    /* Added tokens: found in the raw text, or in normalised text. Values of the tries are indices of `added`. */
    DpsAdded *added;
    size_t n_added, added_capacity;
    uint8_t *added_special; /* [n_added], for DPS_TOKENIZE_LITERAL */
    DpsTrie raw, normalised;
    DpsIds prefix, suffix; /* what DPS_TOKENIZE_SPECIAL adds */
    int32_t named[DPS_NAMED_TOKENS];
    uint8_t *is_end; /* [vocab] */
    struct {
        char *source, *where;
    } chat[DPS_CHAT_TEMPLATES];
    DpsBuf other_chats; /* names of further ones, with commas */
};

/** An empty tokenizer with the defaults above, or NULL. */
DpsTokenizer *dps__tokenizer_new (void);
/** Remember an added token; its text must be in the vocabulary already. content: what is looked for, when it differs from that text. */
DpsStatus dps__tokenizer_add (DpsTokenizer *tok, int32_t id, const char *content, size_t len, unsigned flags, int normalised,
                              DpsError *err);
/** Remember a chat template; names but "default" and "tool_use" are only kept to be told. source, where: copied. */
DpsStatus dps__tokenizer_add_chat (DpsTokenizer *tok, const char *name, DpsStr source, const char *where, DpsError *err);
/** Last step of loading: derived tables, ends of generation by name. */
DpsStatus dps__tokenizer_finish (DpsTokenizer *tok, DpsError *err);
/** Mark an id as ending generation; out of range is ignored. */
void dps__tokenizer_set_end (DpsTokenizer *tok, int64_t id);

#endif
