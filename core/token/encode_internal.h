/* SPDX-License-Identifier: Apache-2.0 */
/* encode_internal.h: what encode.c (text, ids, checks) and encode_chat.c (conversations) share. */
#ifndef DPS_TOKEN_ENCODE_INTERNAL_H
#define DPS_TOKEN_ENCODE_INTERNAL_H

#include "token/chat.h"
#include "token/encode.h"

enum { DPS_ENCODER_ENDS = 8 };

struct DpsEncoder {
    const DpsTokenizer *tok;
    const DpsRecipe *recipe;
    char *template_source;          /* chat_template_path's text; NULL: the model's own */
    int64_t vocab;                  /* of the model; 0: not known */
    int32_t bos, eos;               /* -1: none */
    int32_t ends[DPS_ENCODER_ENDS]; /* further ids that end a turn, from the configuration */
    size_t n_ends;
    int keep_whole; /* max_length is not of a row */
    int ids_only;   /* weights are not asked for */
};

/** 1 for an id that ends generation. */
int dps__encoder_is_end (const DpsEncoder *e, int32_t id);

/** Ids and weights at once; grows out. All appended ids get `weight`. */
DpsStatus dps__encoded_take (const DpsRow *row, DpsIds *ids, float weight, DpsEncoded *out, DpsError *err);

/** prompt and completion as messages. */
DpsStatus dps__encode_chat_pair (const DpsEncoder *e, const DpsRow *row, json_t *answer, DpsEncoded *out, DpsError *err);
DpsStatus dps__encode_chat (const DpsEncoder *e, const DpsRow *row, DpsEncoded *out, DpsError *err);
DpsStatus dps__encode_chat_prompt (const DpsEncoder *e, const DpsRow *row, json_t *messages, DpsEncoded *out, DpsError *err);

/** The row's prompt with one of its answers: text, messages or ids. Prompt and answer weigh 1. */
DpsStatus dps__encode_completion (const DpsEncoder *e, const DpsRow *row, const DpsContent *answer, DpsEncoded *out, DpsError *err);

/** What training refuses of a sequence; `cut`: tokens that max_length took. */
DpsStatus dps__encode_check_trained (const DpsEncoder *e, const DpsRow *row, const DpsEncoded *x, size_t cut, DpsError *err);
/** Take n tokens from the beginning of a prompt longer than that; a beginning-of-sequence token stays. */
void dps__encode_drop_beginning (const DpsEncoder *e, DpsEncoded *x, size_t n);
DpsStatus dps__encode_check_ids (const DpsEncoder *e, const DpsRow *row, const DpsEncoded *x, DpsError *err);

/** How many of ids the first `len` bytes of the rendered text are. Errors: DATA when they are not their beginning. */
DpsStatus dps__encode_prefix (const DpsEncoder *e, const DpsRow *row, const DpsRendered *r, size_t len, const DpsIds *ids, const char *what,
                              size_t *out_n, DpsError *err);

#endif
