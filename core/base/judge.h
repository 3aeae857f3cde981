/* SPDX-License-Identifier: Apache-2.0 */
/* judge.h: what reward plugins share: answers judged one by one within a deadline, columns of a row, lists of words in a parameter. */
#ifndef DPS_BASE_JUDGE_H
#define DPS_BASE_JUDGE_H

#include "base/status.h"
#include "diapason/reward.h"

/**
 * Judge one answer by one criterion into *out. *status is DPS_SCORE_OK before the call. An error of any kind but NOMEM and CANCELLED means
 * DPS_SCORE_FAILED for this row, TIMEOUT DPS_SCORE_TIMEOUT.
 */
typedef DpsStatus (*DpsJudge) (void *self, const DpsRewardRow *row, double *out, uint32_t *status, DpsError *err);

/** DpsReward.score of a reward with one criterion: see there. A row's value goes to its last token in token_values. */
DpsStatus dps_judge_rows (DpsJudge judge, void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value,
                          uint32_t *status, double *const *token_values, DpsError *err);

/** Milliseconds of a clock that never goes back. [any] */
int64_t dps_judge_now_ms (void);

struct json_t;

/** A column of the data row: a new reference (jansson's json_t). NOT_FOUND when the row has none of that name (or it is null), FORMAT, NOMEM. [any] */
DpsStatus dps_judge_column (const DpsRewardRow *row, const char *name, struct json_t **out, DpsError *err);

/** A parameter that is one word or the JSON text of a list of words. Items may hold U+0000. Free with dps_words_free. */
typedef struct DpsWords {
    DpsStr *items;
    size_t n;
} DpsWords;
/** name: of the parameter, for errors. An empty text is an empty list. Errors: INVALID, NOMEM. [any] */
DpsStatus dps_words_parse (const char *name, DpsStr text, DpsWords *out, DpsError *err);
void dps_words_free (DpsWords *w);

/**
 * The first number of text[*from..), and *from behind it: sign (not behind a letter or digit: 10-15 is two numbers), digits, decimal mark, exponent.
 * Before three digits more and no fourth, digits may be grouped by ' _ U+00A0 or U+202F, and by the one of . and , that is not the decimal mark;
 * where it is the comma, by a space too, and a point that groups nothing is decimal. decimal: '.' or ','. 1, or 0 when there is none. [any]
 */
int dps_judge_number (DpsStr text, char decimal, size_t *from, double *out);

/** Code points of a text; each byte that is no UTF-8 counts as one. [any] */
uint64_t dps_judge_characters (DpsStr text);

#endif
