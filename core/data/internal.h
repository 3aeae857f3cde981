/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h: the pieces of row recognition. */
#ifndef DPS_DATA_INTERNAL_H
#define DPS_DATA_INTERNAL_H

#include "data/row.h"

/** A NOMEM error at the row. */
DpsStatus dps__row_no_memory (const DpsRow *row, DpsError *err);

/**
 * Messages as written → messages as templates read them, and which are trained. `what` names the column in errors.
 * system: text put in front as a system message, or NULL.
 */
DpsStatus dps__messages_read (const DpsRow *row, const json_t *list, const DpsRowMap *map, const char *what, const json_t *system,
                              DpsContent *out, DpsError *err);
/** Append {role, content}. 0 or -1. */
int dps__message_add (json_t *list, const char *role, const json_t *content);

/** A column of token ids. labels, mask: NULL, or columns of the same length. */
DpsStatus dps__ids_read (const DpsRow *row, const char *column, const json_t *list, DpsContent *out, DpsError *err);
DpsStatus dps__labels_read (const DpsRow *row, const json_t *labels, DpsContent *content, DpsError *err);
DpsStatus dps__mask_read (const DpsRow *row, const char *column, const json_t *mask, DpsContent *content, DpsError *err);

/** Alpaca's columns → prompt and completion as messages. */
DpsStatus dps__alpaca_read (DpsRow *row, const DpsRowMap *map, DpsError *err);
/** The prompt alone. */
DpsStatus dps__alpaca_prompt (DpsRow *row, const DpsRowMap *map, DpsError *err);

/** A column that is present and not null, or NULL. */
const json_t *dps__row_column (const DpsRow *row, const char *name);
/** Room for n answers. */
DpsStatus dps__row_answers (DpsRow *row, size_t n, DpsError *err);
/** A column that may be text or messages (one message object counts as a list of one). */
DpsStatus dps__side_read (const DpsRow *row, const char *name, const DpsRowMap *map, const json_t *system, DpsContent *out, DpsError *err);

/** The same of a value that is no column; name is for errors. */
DpsStatus dps__content_read (const DpsRow *row, const json_t *v, const char *name, const DpsRowMap *map, const json_t *system,
                             DpsContent *out, DpsError *err);

/** The prompt a column gives: prompt, conversations, alpaca's; *out_given 0: none does. */
DpsStatus dps__prompt_read (DpsRow *row, const DpsRowMap *map, int *out_given, DpsError *err);
/** Prompt and answers of one form: where one holds messages, text becomes the user's or the assistant's. */
DpsStatus dps__row_same_form (DpsRow *row, int prompt_given, DpsError *err);
/** An answer must hold something, and end with the assistant. */
DpsStatus dps__answer_check (const DpsRow *row, const DpsContent *c, const char *name, DpsError *err);

/** group.c: a prompt and its judged answers; of token ids when the prompt is. */
DpsStatus dps__group_read (DpsRow *row, const DpsRowMap *map, DpsError *err);

/** pair.c: a preference pair in the two columns `names`; and one of token ids. */
DpsStatus dps__pair_read (DpsRow *row, const DpsRowMap *map, const char *const names[2], DpsError *err);
DpsStatus dps__pair_read_ids (DpsRow *row, DpsError *err);

/** "an array", "a number": for messages. */
const char *dps__json_kind (const json_t *v);

#endif
