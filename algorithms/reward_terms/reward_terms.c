/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_terms.c: terms that must and must not be in an answer.
 *
 *     0                                                   a forbidden term is there
 *     (required terms that are there) / (required terms)   else; 1 where none is required
 *
 * Required are those of the recipe and those the row's column lists. Terms and answer are folded alike (spaces, case, and on request accents).
 */
#include <string.h>

#include "base/fold.h"
#include "base/json.h"
#include "base/judge.h"
#include "diapason/sdk.h"

static const DpsParam required = DPS_SDK_PARAM ("required", DPS_PARAM_STR, 0, 0, 0, NULL, "a term or a list of terms");
static const DpsParam forbidden = DPS_SDK_PARAM ("forbidden", DPS_PARAM_STR, 0, 0, 0, NULL, "a term or a list of terms");
static const DpsParam column =
    DPS_SDK_PARAM ("column", DPS_PARAM_STR, 0, 0, 0, NULL, "column with a term or list of terms that are required too");
static const DpsParam ignore_case = DPS_SDK_PARAM ("ignore_case", DPS_PARAM_BOOL, 1, 0, 1, NULL, "in either case");
static const DpsParam ignore_accents = DPS_SDK_PARAM ("ignore_accents", DPS_PARAM_BOOL, 0, 0, 1, NULL, "accents do not count");
static const DpsParam whole_words = DPS_SDK_PARAM ("whole_words", DPS_PARAM_BOOL, 1, 0, 1, NULL, "not within a longer word");
static const DpsParam *const params[] = {&required, &forbidden, &column, &ignore_case, &ignore_accents, &whole_words};
enum { REQUIRED, FORBIDDEN, COLUMN, CASE, ACCENTS, WHOLE, N_PARAMS };
static const char *const criteria[] = {"terms"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "terms",
                                   .summary = "required and forbidden terms",
                                   .params = params,
                                   .n_params = N_PARAMS,
                                   .n_criteria = 1,
                                   .criteria = criteria};

typedef struct Terms {
    DpsWords required, forbidden; /* folded */
    char *column;                 /* "": none */
    unsigned fold;
    int whole;
} Terms;

static const DpsRewardInfo *describe (void) { return &info; }

static void close_terms (void *self)
{
    Terms *t = self;
    if (t) {
        dps_words_free (&t->required);
        dps_words_free (&t->forbidden);
        dps_free (t->column);
    }
    dps_free (t);
}

/* Each term is replaced by what it is folded to. */
static DpsStatus read_terms (const Terms *t, const char *name, DpsStr text, DpsWords *out, DpsError *err)
{
    DPS_TRY (dps_words_parse (name, text, out, err));
    for (size_t i = 0; i < out->n; i++) {
        DpsBuf folded = {0};
        if (dps_fold (out->items[i], t->fold, &folded)) {
            dps_buf_free (&folded);
            return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
        }
        if (!folded.len) {
            dps_buf_free (&folded);
            return dps_fail (err, DPS_ERR_INVALID, "%s: term %zu holds nothing but spaces", name, i + 1);
        }
        dps_free ((char *)out->items[i].ptr);
        out->items[i] = (DpsStr){folded.data, folded.len};
    }
    return DPS_OK;
}

static DpsStatus open_terms (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    Terms *t = dps_calloc (1, sizeof *t);
    if (!t || !(t->column = dps_strndup (str[COLUMN].ptr, str[COLUMN].len))) {
        close_terms (t);
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    }
    t->fold = DPS_FOLD_SPACES | (num[CASE] != 0 ? DPS_FOLD_CASE : 0) | (num[ACCENTS] != 0 ? DPS_FOLD_MARKS : 0);
    t->whole = num[WHOLE] != 0;
    DpsStatus st = read_terms (t, "required", str[REQUIRED], &t->required, err);
    if (st == DPS_OK)
        st = read_terms (t, "forbidden", str[FORBIDDEN], &t->forbidden, err);
    if (st == DPS_OK && !t->required.n && !t->forbidden.n && !*t->column)
        st = dps_fail (err, DPS_ERR_INVALID, "required, forbidden or column is missing: the terms");
    if (st != DPS_OK) {
        close_terms (t);
        return st;
    }
    *out = t;
    return DPS_OK;
}

static size_t count_held (const Terms *t, DpsStr text, const DpsWords *terms)
{
    size_t n = 0;
    for (size_t i = 0; i < terms->n; i++)
        n += (size_t)dps_has_word (text, terms->items[i], t->whole);
    return n;
}

/* The row's own terms. Rows without the column have none. */
static DpsStatus read_column (const Terms *t, const DpsRewardRow *row, DpsWords *out, DpsError *err)
{
    json_t *v = NULL;
    DpsBuf text = {0};
    *out = (DpsWords){0};
    DpsStatus st = *t->column ? dps_judge_column (row, t->column, &v, err) : DPS_ERR_NOT_FOUND;
    if (st == DPS_ERR_NOT_FOUND)
        return DPS_OK;
    DPS_TRY (st);
    int bad = json_is_string (v) ? dps_buf_add (&text, json_string_value (v), json_string_length (v)) : dps_json_write (&text, v, 0);
    st = bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory") : read_terms (t, t->column, (DpsStr){text.data, text.len}, out, err);
    dps_buf_free (&text);
    json_decref (v);
    return st;
}

static DpsStatus judge (void *self, const DpsRewardRow *row, double *out, uint32_t *status, DpsError *err)
{
    const Terms *t = self;
    DpsBuf folded = {0};
    DpsWords own = {0};
    (void)status;
    DpsStatus st =
        dps_fold (row->completion, t->fold, &folded) ? dps_fail (err, DPS_ERR_NOMEM, "out of memory") : read_column (t, row, &own, err);
    if (st == DPS_OK) {
        DpsStr text = {folded.data, folded.len};
        size_t n = t->required.n + own.n, held = count_held (t, text, &t->required) + count_held (t, text, &own);
        *out = count_held (t, text, &t->forbidden) ? 0 : n ? (double)held / (double)n : 1;
    }
    dps_words_free (&own);
    dps_buf_free (&folded);
    return st;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    return dps_judge_rows (judge, self, rows, n_rows, deadline_ms, value, status, token_values, err);
}

static const DpsReward reward = {.size = sizeof reward, .describe = describe, .open = open_terms, .score = score, .close = close_terms};

DPS_PLUGIN_ONE (DPS_REWARD_ID, reward);
