/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode.h: a row as token ids, with the weight of predicting each. Which tokens are trained:
 *
 *   text                  every token; training puts the end-of-sequence token behind it
 *   prompt + completion   the completion (completion_only_loss: false trains the prompt too)
 *                         of messages: of these only the ones that a conversation would train
 *   conversation          every token; with assistant_only_loss, or when a message says train, weight or loss_mask: those messages. A
 *                         message's tokens are what the template adds for it: its {% generation %} block, else the text it adds to the
 *                         conversation before it
 *   ids                   what labels or a mask say, else every token
 *
 * The first token of a sequence is predicted by nothing and never counts. Control tokens come from templates only: in messages, and with
 * split_special_tokens in plain text, what looks like one is text.
 */
#ifndef DPS_TOKEN_ENCODE_H
#define DPS_TOKEN_ENCODE_H

#include "data/row.h"
#include "token/tokenizer.h"

typedef struct DpsEncoder DpsEncoder;

/** All zeros is empty, and what truncation_mode drop leaves of a long row. */
typedef struct DpsEncoded {
    int32_t *ids;
    float *weights; /* [n] 0 or 1: whether predicting token t counts */
    size_t n;
    size_t n_prompt; /* leading tokens that are the prompt; 0 where a row has none */
    size_t n_long;   /* tokens above max_length, cut off or dropped with the row */
} DpsEncoded;

/**
 * recipe NULL: for scoring and generation: nothing is added, cut or refused, control tokens in plain text count as such, and of a conversation
 * the assistant's turns. tok NULL: only rows of ids. Both borrowed.
 * Errors: USAGE (eos_token), NOT_FOUND or IO (chat_template_path), NOMEM. [any]
 */
DpsStatus dps_encoder_new (const DpsRecipe *recipe, const DpsTokenizer *tok, DpsEncoder **out, DpsError *err);
void dps_encoder_free (DpsEncoder *e);
/**
 * What is known of the model: ids outside [0, vocab) are refused, and where there is no tokenizer bos_token_id and eos_token_id of its
 * configuration serve the checks. Errors: LIMIT (many eos). [init]
 */
DpsStatus dps_encoder_set_model (DpsEncoder *e, const json_t *config, int64_t vocab, DpsError *err);
/** max_length cuts no row: they are cut where they are wrapped. [init] */
void dps_encoder_keep_whole (DpsEncoder *e);
/** 1 when the chat template that a row with tools is rendered by speaks of them; 0: the model never sees them. [any] */
int dps_encoder_shows_tools (const DpsEncoder *e);
/** Weights are not asked for: a conversation is taken whole, also where it cannot be told which tokens are a reply's. [init] */
void dps_encoder_ids_only (DpsEncoder *e);

/**
 * A row to train or score. Training refuses: no trained token, a doubled beginning-of-sequence, a trained turn whose end is not trained, a prompt
 * whose tokens do not begin those of prompt + completion.
 * Errors: DATA "file:line: …"; NOMEM. Thread: [any], const. Free with dps_encoded_free.
 */
DpsStatus dps_encode_row (const DpsEncoder *e, const DpsRow *row, DpsEncoded *out, DpsError *err);

/** What one row trains together: one sequence, or the answers to one prompt. All zeros is empty, and what truncation_mode drop leaves. */
typedef struct DpsEncodedUnit {
    DpsEncoded *rows;
    size_t n;
    size_t prefix; /* leading tokens that all rows have in common: the prompt of a pair; 0 for a single sequence */
    size_t n_long; /* tokens of its longest row above max_length, cut off or dropped with it */
} DpsEncodedUnit;

/**
 * A row as the unit (DPS_UNIT_*) an objective works on. SINGLE: as dps_encode_row. PAIR: chosen, then rejected; of a group the answers with the
 * highest and the lowest weighted score, and nothing where none is better than another. GROUP: all answers. Only the completions count.
 * A prompt longer than max_prompt_length loses its beginning. What is then longer than max_length loses the end of its answers; with keep_end both lose the beginning of their prompt instead. Refused besides: another
 * kind of row, a missing side, an answer without a token, a prompt that fills max_length, a pair that is the same in what is left of it, a group of one.
 * Where the recipe samples its answers: dps_encode_prompt_unit, whatever the unit.
 * Errors: as dps_encode_row. Free with dps_encoded_unit_free. [any]
 */
DpsStatus dps_encode_unit (const DpsEncoder *e, const DpsRow *row, uint32_t unit, DpsEncodedUnit *out, DpsError *err);
void dps_encoded_unit_free (DpsEncodedUnit *u);

/** The prompt of a row, ready to be continued: of a conversation all but a last reply, with the template's generation prompt. Errors as above. */
DpsStatus dps_encode_prompt (const DpsEncoder *e, const DpsRow *row, DpsEncoded *out, DpsError *err);
/**
 * The same as a unit of its own, none of it trained, to be answered: longer than the recipe's max_prompt_length it loses its beginning.
 * Refused besides: a prompt without a token, rows whose answers are judged already. Free with dps_encoded_unit_free.
 */
DpsStatus dps_encode_prompt_unit (const DpsEncoder *e, const DpsRow *row, DpsEncodedUnit *out, DpsError *err);
void dps_encoded_free (DpsEncoded *x);

#endif
