/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row.h: one row of training data in one shape, whatever shape it was written in. The shapes are recognised by their keys:
 *
 *   text                                             plain text
 *   messages | conversations (role/content, from/value)   a conversation; weight, train, loss_mask per message
 *   prompt + completion (text or messages)           a prompt and its answer
 *   instruction, input, output, system, history      alpaca: becomes prompt and completion
 *   prompt alone, or a conversation to be continued  for generation
 *   input_ids | ids, labels, completion_mask         already tokenized
 *   prompt_input_ids + completion_input_ids          already tokenized, with a prompt
 *   chosen + rejected, with prompt or a common beginning   a preference pair; text, messages, chosen_input_ids … or OpenAI's preferred_output
 *   prompt + completions [{content, scores}], weights   a group of judged answers; also of ids, and UltraFeedback's annotations
 *   label, labels                                    judged rows: recognised, and refused by the stages there are
 *
 * Columns that mean nothing to a shape are left alone.
 */
#ifndef DPS_DATA_ROW_H
#define DPS_DATA_ROW_H

#include "base/json.h"
#include "recipe/recipe.h"

/** X(name, words): what a row is. */
#define DPS_ROW_KINDS(X)                                                                                                                   \
    X (TEXT, "plain text")                                                                                                                 \
    X (MESSAGES, "conversation")                                                                                                           \
    X (COMPLETION, "prompt and completion")                                                                                                \
    X (PROMPT, "prompt without completion")                                                                                                \
    X (IDS, "token ids")                                                                                                                   \
    X (COMPLETION_IDS, "token ids of prompt and completion")                                                                               \
    X (PAIR, "preference pair (chosen, rejected)")                                                                                         \
    X (FEEDBACK, "judged completion (label)")                                                                                              \
    X (GROUP, "group of judged completions")                                                                                               \
    X (STEPS, "judged steps (completions, labels)")

typedef enum DpsRowKind {
#define DPS_X(name, words) DPS_ROW_##name,
    DPS_ROW_KINDS (DPS_X)
#undef DPS_X
} DpsRowKind;

/** Whether a message is trained. */
enum { DPS_TRAIN_NO = 0, DPS_TRAIN_YES = 1, DPS_TRAIN_UNSAID = 2 };

/** A prompt or an answer: text, messages or ids; the others are NULL. */
typedef struct DpsContent {
    const char *text; /* borrowed from the row's object; may hold U+0000 */
    size_t text_len;
    json_t *
        messages; /* array of {role, content, …}: content a string, a list of {type: text, text} parts, or absent where only tools are called;
                     arguments objects where they parse */
    uint8_t *train; /* [messages] DPS_TRAIN_* */
    int32_t *ids;
    float *weights; /* [n_ids] 0 or 1 as labels or masks say; NULL: not said */
    size_t n_ids;
} DpsContent;

/** What several criteria say of a row's answers. All zeros: nothing. */
typedef struct DpsScores {
    size_t n;           /* criteria that the row names, in the order of their first appearance */
    const char **names; /* [n] borrowed from the row's object */
    double *weights;    /* [n] NaN: not said */
    double *values;     /* (n_answers, n) NaN: not judged */
} DpsScores;

/* Of a criterion's value and of a weight, in size: about what float32 holds, so that sums and squares of their products stay numbers. */
#define DPS_SCORE_MAX 1e38

enum { DPS_ROW_CRITERIA = 64, DPS_ROW_CRITERION_BYTES = 47 }; /* at most so many, with names of at most so many bytes */

/** Owned: dps_row_clear. All zeros is empty. */
typedef struct DpsRow {
    DpsRowKind kind;
    DpsContent prompt;   /* kinds with a prompt; nothing in it otherwise */
    DpsContent *answers; /* the text, the conversation, the completion; chosen, rejected; a group */
    size_t n_answers;
    DpsScores scores; /* of a group's answers */
    json_t *tools;    /* array, or NULL */
    json_t *kwargs;   /* chat_template_kwargs, or NULL */
    json_t *object;   /* the row as it was read, columns renamed */
    const char *file; /* borrowed */
    uint64_t line;    /* from 1 */
    uint64_t number;  /* of the row in its file, from 0 */
} DpsRow;

/** How the columns of one file map to our names. Owned by whoever makes it: dps_row_map_clear. All zeros: our names. */
typedef struct DpsRowMap {
    json_t *columns;                    /* {our name: its column}; NULL: by the same names */
    json_t *keep;                       /* list of the columns to see; NULL: all */
    json_t *roles;                      /* {its role: our role} */
    const char *role_key, *content_key; /* of a message; NULL: role or from, content or value. Borrowed */
    const char *text_field;             /* borrowed; NULL: text */
    int alpaca;                         /* rows are alpaca's, whatever else they hold */
} DpsRowMap;

/**
 * The map of a recipe's data set. Strings of d and text_field stay borrowed.
 * Errors: USAGE (at the data set's place): a type or a column name that is not known. [any]
 */
DpsStatus dps_row_map_init (const DpsRecipeDataset *d, const char *text_field, DpsRowMap *out, DpsError *err);
void dps_row_map_clear (DpsRowMap *map);

/**
 * Recognise and check `object` (its reference is taken, also on errors). map may be NULL.
 * Errors: DATA "file:line: …" naming what was found and what was expected; NOMEM. *out is empty then. [any]
 */
DpsStatus dps_row_parse (json_t *object, const DpsRowMap *map, const char *file, uint64_t line, uint64_t number, DpsRow *out,
                         DpsError *err);
void dps_row_clear (DpsRow *row);

/**
 * The best and the worst answer by Σ weight·value, a missing value counting 0 and an answer that nothing judged not at all; the first of equals.
 * weights: {criterion: number} of a recipe, or NULL: the row's own, and 1 where that says nothing. 0 when no answer is better than another. [any]
 */
int dps_scores_extremes (const DpsScores *s, size_t n_answers, const json_t *weights, size_t out_which[2]);

/** The column that would make the row a preference pair, when it has one side only: "rejected" …; else NULL. Static. */
const char *dps_row_missing_side (const DpsRow *row);

/** "plain text" … Static. */
const char *dps_row_kind_name (DpsRowKind kind);
/** Append what a message says: its content, or the texts of its parts one behind the other. 0, or -1 when out of memory. */
int dps_message_text (const json_t *message, DpsBuf *out);
/** DATA with "file:line: " in front. */
DpsStatus dps_row_fail (const DpsRow *row, DpsError *err, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));
/** Put "file:line: " before an error of what knows no row: a tokenizer's. Returns st. */
DpsStatus dps_row_place (const DpsRow *row, DpsStatus st, DpsError *err);

#endif
