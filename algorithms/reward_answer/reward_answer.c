/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_answer.c: verifiable answers. A column of the data row holds what is expected: a text, a number, or a list of which one must be met.
 * Of the completion is compared: all of it; or what `pattern`'s first group (or the whole match) captured; or what follows the last `after` on its
 * line. Texts are compared folded (case, spaces, and on request accents and punctuation), numbers within a tolerance.
 */
#include <math.h>
#include <string.h>

#include "base/fold.h"
#include "base/json.h"
#include "base/judge.h"
#include "base/matcher.h"
#include "diapason/sdk.h"

enum { STEPS = 2000000 };

static const DpsParam column =
    DPS_SDK_PARAM ("column", DPS_PARAM_STR, 0, 0, 0, NULL, "column of the row with the expected answer (answer)");
static const DpsParam mode = DPS_SDK_PARAM ("mode", DPS_PARAM_STR, 0, 0, 0, "exact|contains|number", "how they are compared");
static const DpsParam pattern = DPS_SDK_PARAM ("pattern", DPS_PARAM_STR, 0, 0, 0, NULL, "regular expression; its first group is compared");
static const DpsParam after = DPS_SDK_PARAM ("after", DPS_PARAM_STR, 0, 0, 0, NULL, "compare what follows the last of these on its line");
static const DpsParam decimal =
    DPS_SDK_PARAM ("decimal", DPS_PARAM_STR, 0, 0, 0, "point|comma", "number: 1,234.5 or 1 234,5 (answers and expected texts)");
static const DpsParam tolerance = DPS_SDK_PARAM ("tolerance", DPS_PARAM_F64, 0, 0, 1e300, NULL, "number: difference allowed");
static const DpsParam relative =
    DPS_SDK_PARAM ("relative_tolerance", DPS_PARAM_F64, 1e-9, 0, 1, NULL, "number: difference allowed, as a share of the expected");
static const DpsParam ignore_case = DPS_SDK_PARAM ("ignore_case", DPS_PARAM_BOOL, 1, 0, 1, NULL, "texts in either case are equal");
static const DpsParam ignore_accents = DPS_SDK_PARAM ("ignore_accents", DPS_PARAM_BOOL, 0, 0, 1, NULL, "accents do not count");
static const DpsParam ignore_punctuation = DPS_SDK_PARAM ("ignore_punctuation", DPS_PARAM_BOOL, 0, 0, 1, NULL, "punctuation is space");
static const DpsParam match = DPS_SDK_PARAM ("match", DPS_PARAM_F64, 1, -1e9, 1e9, NULL, "reward of the expected answer");
static const DpsParam no_match = DPS_SDK_PARAM ("no_match", DPS_PARAM_F64, 0, -1e9, 1e9, NULL, "reward of any other");
static const DpsParam *const params[] = {&column,    &mode,     &pattern,     &after,          &decimal,
                                         &tolerance, &relative, &ignore_case, &ignore_accents, &ignore_punctuation,
                                         &match,     &no_match};
enum { COLUMN, MODE, PATTERN, AFTER, DECIMAL, TOLERANCE, RELATIVE, CASE, ACCENTS, PUNCTUATION, MATCH, NO_MATCH, N_PARAMS };
static const char *const criteria[] = {"answer"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "answer",
                                   .summary = "the expected text or number of the row",
                                   .params = params,
                                   .n_params = N_PARAMS,
                                   .n_criteria = 1,
                                   .criteria = criteria};

typedef struct Answer {
    char *column, *after;
    char mode;    /* 'e', 'c' or 'n' */
    char decimal; /* '.' or ',' */
    DpsMatcher *matcher;
    unsigned fold;
    double tolerance, relative, match, no_match;
} Answer;

static const DpsRewardInfo *describe (void) { return &info; }

static void close_answer (void *self)
{
    Answer *a = self;
    if (a) {
        dps_matcher_free (a->matcher);
        dps_free (a->column);
        dps_free (a->after);
    }
    dps_free (a);
}

static DpsStatus fill (Answer *a, const double *num, const DpsStr *str, DpsError *err)
{
    const DpsMatcherOptions options = {.any_bytes = 1, .steps = STEPS};
    DpsStr name = str[COLUMN].len ? str[COLUMN] : dps_str ("answer");
    a->mode = str[MODE].ptr[0];
    a->decimal = dps_str_is (str[DECIMAL], "comma") ? ',' : '.';
    a->fold = DPS_FOLD_SPACES | (num[CASE] != 0 ? DPS_FOLD_CASE : 0) | (num[ACCENTS] != 0 ? DPS_FOLD_MARKS : 0) |
              (num[PUNCTUATION] != 0 ? DPS_FOLD_PUNCTUATION : 0);
    a->tolerance = num[TOLERANCE];
    a->relative = num[RELATIVE];
    a->match = num[MATCH];
    a->no_match = num[NO_MATCH];
    if (str[PATTERN].len && str[AFTER].len)
        return dps_fail (err, DPS_ERR_INVALID, "pattern and after are both given: keep one");
    a->column = dps_strndup (name.ptr, name.len);
    a->after = dps_strndup (str[AFTER].ptr, str[AFTER].len);
    char *text = dps_strndup (str[PATTERN].ptr, str[PATTERN].len);
    DpsStatus st = a->column && a->after && text ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK && *text)
        st = dps_matcher_new (text, &options, "pattern", &a->matcher, err);
    dps_free (text);
    return st == DPS_ERR_USAGE || st == DPS_ERR_LIMIT ? DPS_ERR_INVALID : st;
}

static DpsStatus open_answer (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    Answer *a = dps_calloc (1, sizeof *a);
    DpsStatus st = a ? fill (a, num, str, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st != DPS_OK) {
        close_answer (a);
        return st;
    }
    *out = a;
    return DPS_OK;
}

/* What of the completion is compared. *found 0: the pattern or marker is not there. */
static DpsStatus extract (const Answer *a, DpsStr text, DpsStr *out, int *found, DpsError *err)
{
    size_t start = 0, end = text.len, len = strlen (a->after);
    *found = 1;
    if (a->matcher) {
        *found = dps_matcher_find (a->matcher, text.ptr, text.len);
        if (*found < 0)
            return dps_fail (err, *found == -2 ? DPS_ERR_NOMEM : DPS_ERR_LIMIT,
                             "the pattern was given up after %d steps on an answer of %zu bytes", STEPS, text.len);
        *found = *found && dps_matcher_group (a->matcher, dps_matcher_groups (a->matcher) ? 1 : 0, &start, &end);
    } else if (len) {
        const char *at = NULL, *next = text.ptr;
        while (text.len >= len && (next = memmem (next, (size_t)(text.ptr + text.len - next), a->after, len)))
            at = next += len;
        *found = at != NULL;
        start = at ? (size_t)(at - text.ptr) : 0;
        const char *line = at ? memchr (at, '\n', text.len - start) : NULL;
        end = line ? (size_t)(line - text.ptr) : text.len;
    }
    *out = (DpsStr){text.ptr + start, end - start};
    return DPS_OK;
}

/* The last number of the text, so that what leads to it may hold others. */
static int last_number (const Answer *a, DpsStr text, double *out)
{
    size_t from = 0;
    int found = 0;
    while (dps_judge_number (text, a->decimal, &from, out))
        found = 1;
    return found;
}

static int equal_numbers (const Answer *a, DpsStr got, const json_t *expected)
{
    double x, y;
    if (json_is_number (expected))
        y = json_number_value (expected);
    else if (!json_is_string (expected) || !last_number (a, (DpsStr){json_string_value (expected), json_string_length (expected)}, &y))
        return 0;
    return last_number (a, got, &x) && fabs (x - y) <= fmax (a->tolerance, a->relative * fabs (y));
}

/* 1, 0, or -1: out of memory. A number stands for its text. */
static int equal_texts (const Answer *a, const DpsBuf *got, const json_t *expected)
{
    DpsBuf text = {0}, folded = {0};
    int bad = json_is_string (expected) ? dps_buf_add (&text, json_string_value (expected), json_string_length (expected))
                                        : dps_json_write (&text, expected, 0);
    bad = bad || dps_fold ((DpsStr){text.data, text.len}, a->fold, &folded);
    int equal = bad              ? -1
                : a->mode == 'c' ? dps_has_word ((DpsStr){got->data, got->len}, (DpsStr){folded.data, folded.len}, 1)
                                 : folded.len == got->len && (!got->len || !memcmp (folded.data, got->data, got->len));
    dps_buf_free (&text);
    dps_buf_free (&folded);
    return equal;
}

static DpsStatus compare (const Answer *a, DpsStr got, const json_t *expected, int *out, DpsError *err)
{
    DpsBuf folded = {0};
    int one = !json_is_array (expected);
    if (a->mode != 'n' && dps_fold (got, a->fold, &folded)) {
        dps_buf_free (&folded);
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    }
    *out = 0;
    for (size_t i = 0; i < (one ? 1 : json_array_size (expected)) && !*out; i++) {
        const json_t *e = one ? expected : json_array_get (expected, i);
        *out = a->mode == 'n' ? equal_numbers (a, got, e) : equal_texts (a, &folded, e);
    }
    dps_buf_free (&folded);
    return *out < 0 ? dps_fail (err, DPS_ERR_NOMEM, "out of memory") : DPS_OK;
}

static DpsStatus judge (void *self, const DpsRewardRow *row, double *out, uint32_t *status, DpsError *err)
{
    const Answer *a = self;
    json_t *expected = NULL;
    DpsStr got = {NULL, 0};
    int found = 0, equal = 0;
    DpsStatus st = dps_judge_column (row, a->column, &expected, err);
    if (st == DPS_ERR_NOT_FOUND) {
        *status = DPS_SCORE_NOT_JUDGED;
        return DPS_OK;
    }
    if (st == DPS_OK)
        st = extract (a, row->completion, &got, &found, err);
    if (st == DPS_OK && found)
        st = compare (a, got, expected, &equal, err);
    json_decref (expected);
    *out = equal ? a->match : a->no_match;
    return st;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    return dps_judge_rows (judge, self, rows, n_rows, deadline_ms, value, status, token_values, err);
}

static const DpsReward reward = {.size = sizeof reward, .describe = describe, .open = open_answer, .score = score, .close = close_answer};

DPS_PLUGIN_ONE (DPS_REWARD_ID, reward);
