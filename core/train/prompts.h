/* SPDX-License-Identifier: Apache-2.0 */
/* prompts.h: rows of a feed as prompts to be answered: ids, the text they stand for, and the row's other columns for whoever judges the answers. */
#ifndef DPS_TRAIN_PROMPTS_H
#define DPS_TRAIN_PROMPTS_H

#include "base/json.h"
#include "train/feed.h"

typedef struct DpsPrompt {
    int32_t *ids;
    size_t n;
    DpsBuf text;    /* as rendered; without a tokenizer the ids, separated by spaces */
    DpsBuf columns; /* a JSON object: the row without its prompt and answers */
} DpsPrompt;

/** All zeros is empty. */
typedef struct DpsPrompts {
    DpsPrompt *items;
    size_t n, capacity;
} DpsPrompts;

/** Append n places of an epoch from `first`. tok may be NULL. Errors: DATA by file and line, NOMEM. Free with dps_prompts_free, also then. */
DpsStatus dps_prompts_add (DpsPrompts *p, DpsFeed *feed, const DpsTokenizer *tok, uint64_t epoch, uint64_t first, uint64_t n,
                           DpsError *err);
void dps_prompts_free (DpsPrompts *p);

/** What a reward may look at besides the text: a row's columns but those the prompt was made of, as a JSON object. */
DpsStatus dps_prompt_columns (json_t *object, DpsBuf *out, DpsError *err);

/** Append ids as text: decoded with control tokens, or numbers where there is no tokenizer. */
DpsStatus dps_ids_text (const DpsTokenizer *tok, const int32_t *ids, size_t n, DpsBuf *out, DpsError *err);

#endif
