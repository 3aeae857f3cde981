/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.c: a prompt and several answers to it, each judged by any number of criteria:
 *
 *   {"prompt": …, "completions": [{"content": text | messages, "scores": {"accuracy": 0.8, "tone": null}}, …], "weights": {"accuracy": 2}}
 *   {"prompt_input_ids": […], "completions": [{"input_ids": […], "scores": {…}}, …]}
 *   UltraFeedback: {"instruction", "completions": [{"response", "annotations": {"helpfulness": {"Rating": "4"}}, "overall_score": 7.5}]}
 *
 * null, a missing name and UltraFeedback's "N/A" mean the same: not judged. source, ts, model and what else an answer carries are left alone.
 * UltraFeedback has rows whose completions are []: a group that says nothing, which is counted and skipped.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/internal.h"

enum { MAX_ANSWERS = 4096 };

/* "completions[3].content" for errors. */
typedef struct Where {
    char text[128];
} Where;

static Where where_of (size_t k, const char *member, const char *name)
{
    Where w;
    snprintf (w.text, sizeof w.text, "completions[%zu]%s%s%s%.60s", k, *member ? "." : "", member, *name ? "." : "", name);
    return w;
}

/* The column of criterion `name`, made if need be. */
static DpsStatus find_criterion (DpsRow *row, const char *name, const char *where, size_t *out, DpsError *err)
{
    DpsScores *s = &row->scores;
    for (*out = 0; *out < s->n; ++*out)
        if (!strcmp (s->names[*out], name))
            return DPS_OK;
    if (!*name || strlen (name) > DPS_ROW_CRITERION_BYTES)
        return dps_row_fail (row, err, "%s: a criterion's name has 1 to %d bytes", where, (int)DPS_ROW_CRITERION_BYTES);
    if (s->n == DPS_ROW_CRITERIA)
        return dps_row_fail (row, err, "%s: more than %d criteria", where, (int)DPS_ROW_CRITERIA);
    s->names[s->n++] = name;
    return DPS_OK;
}

static DpsStatus put (DpsRow *row, size_t k, const char *name, double value, const char *where, DpsError *err)
{
    size_t c;
    if (fabs (value) > DPS_SCORE_MAX)
        return dps_row_fail (row, err, "%s is %g, expected -1e38 to 1e38", where, value);
    DPS_TRY (find_criterion (row, name, where, &c, err));
    row->scores.values[k * DPS_ROW_CRITERIA + c] = value; /* the rows are moved together at the end */
    return DPS_OK;
}

static DpsStatus read_number (const DpsRow *row, const json_t *v, const char *where, double *out, DpsError *err)
{
    *out = json_is_boolean (v) ? json_is_true (v) : json_is_number (v) ? json_number_value (v) : NAN;
    if (!json_is_boolean (v) && !json_is_number (v) && v && !json_is_null (v))
        return dps_row_fail (row, err, "%s: expected a number, or null where it was not judged, found %s", where, dps__json_kind (v));
    return DPS_OK;
}

/* UltraFeedback writes its ratings as text. */
static DpsStatus read_rating (const DpsRow *row, const json_t *v, const char *where, double *out, DpsError *err)
{
    const char *text = json_string_value (v);
    char *end;
    *out = NAN;
    if (!text)
        return read_number (row, v, where, out, err);
    if (!strcmp (text, "N/A"))
        return DPS_OK;
    double rating = strtod (text, &end);
    if (end == text || end[strspn (end, " \n")] || !isfinite (rating))
        return dps_row_fail (row, err, "%s: expected a number or N/A, found \"%.40s\"", where, text);
    *out = rating;
    return DPS_OK;
}

static DpsStatus read_annotations (DpsRow *row, size_t k, json_t *answer, DpsError *err)
{
    const char *name;
    json_t *all = json_object_get (answer, "annotations"), *v, *overall = json_object_get (answer, "overall_score");
    double value;
    json_object_foreach (all, name, v) {
        const Where w = where_of (k, "annotations", name);
        if (json_array_size (v) == 1) /* in files of its first releases a list of one */
            v = json_array_get (v, 0);
        DPS_TRY (read_rating (row, json_is_object (v) ? json_object_get (v, "Rating") : v, w.text, &value, err));
        DPS_TRY (put (row, k, name, value, w.text, err));
    }
    if (!overall)
        return DPS_OK;
    const Where w = where_of (k, "overall_score", "");
    DPS_TRY (read_rating (row, overall, w.text, &value, err));
    return put (row, k, "overall_score", value, w.text, err);
}

static DpsStatus read_scores (DpsRow *row, size_t k, json_t *answer, DpsError *err)
{
    const char *name;
    json_t *all = json_object_get (answer, "scores"), *v;
    if (all && !json_is_null (all) && !json_is_object (all))
        return dps_row_fail (row, err, "%s: expected a map of criteria to numbers, found %s", where_of (k, "scores", "").text,
                             dps__json_kind (all));
    json_object_foreach (all, name, v) {
        double value;
        const Where w = where_of (k, "scores", name);
        DPS_TRY (read_number (row, v, w.text, &value, err));
        DPS_TRY (put (row, k, name, value, w.text, err));
    }
    return read_annotations (row, k, answer, err);
}

static DpsStatus read_answer (DpsRow *row, size_t k, json_t *answer, const DpsRowMap *map, int ids, DpsError *err)
{
    static const char *const members[] = {"content", "response", "messages"};
    const char *member = "content";
    if (!json_is_object (answer))
        return dps_row_fail (row, err, "%s: expected {\"content\": …, \"scores\": {…}}, found %s", where_of (k, "", "").text,
                             dps__json_kind (answer));
    DPS_TRY (read_scores (row, k, answer, err));
    if (ids)
        return dps__ids_read (row, where_of (k, "input_ids", "").text, json_object_get (answer, "input_ids"), &row->answers[k], err);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (json_object_get (answer, members[i])) {
            member = members[i];
            break;
        }
    const json_t *v = json_object_get (answer, member);
    if (!v || json_is_null (v))
        return dps_row_fail (row, err, "%s: the completion is empty", where_of (k, member, "").text);
    return dps__content_read (row, v, where_of (k, member, "").text, map, NULL, &row->answers[k], err);
}

/* weights: {criterion: number}. */
static DpsStatus read_weights (DpsRow *row, DpsError *err)
{
    const json_t *all = dps__row_column (row, "weights");
    const char *name;
    json_t *v;
    size_t c;
    if (all && !json_is_object (all))
        return dps_row_fail (row, err, "weights: expected a map of criteria to numbers, found %s", dps__json_kind (all));
    json_object_foreach ((json_t *)all, name, v) {
        if (!json_is_number (v))
            return dps_row_fail (row, err, "weights.%.60s: expected a number, found %s", name, dps__json_kind (v));
        if (fabs (json_number_value (v)) > DPS_SCORE_MAX)
            return dps_row_fail (row, err, "weights.%.60s is %g, expected -1e38 to 1e38", name, json_number_value (v));
        DPS_TRY (find_criterion (row, name, "weights", &c, err));
        row->scores.weights[c] = json_number_value (v);
    }
    return DPS_OK;
}

/* Until a row is read, it is not known how many criteria it names. */
static DpsStatus make_room (DpsRow *row, size_t n, DpsError *err)
{
    DpsScores *s = &row->scores;
    DPS_TRY (dps__row_answers (row, n, err));
    s->names = dps_calloc (DPS_ROW_CRITERIA, sizeof *s->names);
    s->weights = dps_malloc (DPS_ROW_CRITERIA, sizeof *s->weights);
    s->values = dps_malloc (n * DPS_ROW_CRITERIA, sizeof *s->values);
    if (!s->names || !s->weights || !s->values)
        return dps__row_no_memory (row, err);
    for (size_t i = 0; i < n * DPS_ROW_CRITERIA; i++)
        s->values[i] = NAN;
    for (size_t i = 0; i < DPS_ROW_CRITERIA; i++)
        s->weights[i] = NAN;
    return DPS_OK;
}

static void move_together (DpsRow *row)
{
    DpsScores *s = &row->scores;
    for (size_t k = 1; k < row->n_answers; k++)
        memmove (s->values + k * s->n, s->values + k * DPS_ROW_CRITERIA, s->n * sizeof *s->values);
}

static DpsStatus read_prompt (DpsRow *row, const DpsRowMap *map, int ids, DpsError *err)
{
    int given;
    if (ids)
        return dps__ids_read (row, "prompt_input_ids", dps__row_column (row, "prompt_input_ids"), &row->prompt, err);
    DPS_TRY (dps__prompt_read (row, map, &given, err));
    if (!given)
        return dps_row_fail (row, err, "a group of completions without a prompt");
    DPS_TRY (dps__row_same_form (row, 1, err));
    for (size_t k = 0; k < row->n_answers; k++)
        DPS_TRY (dps__answer_check (row, &row->answers[k], where_of (k, "", "").text, err));
    return DPS_OK;
}

DpsStatus dps__group_read (DpsRow *row, const DpsRowMap *map, DpsError *err)
{
    const json_t *list = dps__row_column (row, "completions");
    const int ids = dps__row_column (row, "prompt_input_ids") != NULL;
    size_t n = json_array_size (list);
    row->kind = DPS_ROW_GROUP;
    const int may_be_none = json_is_array (list) && dps__row_column (row, "instruction");
    if ((!n && !may_be_none) || n > MAX_ANSWERS)
        return dps_row_fail (row, err, "completions: expected a list of 1 to %d answers, found %s", (int)MAX_ANSWERS,
                             n                      ? "more"
                             : json_is_array (list) ? "none"
                                                    : dps__json_kind (list));
    DPS_TRY (make_room (row, n, err));
    for (size_t k = 0; k < n; k++)
        DPS_TRY (read_answer (row, k, json_array_get (list, k), map, ids, err));
    DPS_TRY (read_weights (row, err));
    move_together (row);
    return read_prompt (row, map, ids, err);
}

/* The weight of criterion c: the recipe's (a criterion it does not name: 0), or the row's, or 1. */
static double weight_of (const DpsScores *s, size_t c, const json_t *weights)
{
    if (weights)
        return json_number_value (json_object_get (weights, s->names[c]));
    return isnan (s->weights[c]) ? 1 : s->weights[c];
}

int dps_scores_extremes (const DpsScores *s, size_t n_answers, const json_t *weights, size_t out_which[2])
{
    double best = -INFINITY, worst = INFINITY;
    for (size_t k = 0; k < n_answers; k++) {
        double total = 0;
        int judged = 0;
        for (size_t c = 0; c < s->n; c++) {
            const double v = s->values[k * s->n + c];
            judged |= !isnan (v);
            total += isnan (v) ? 0 : v * weight_of (s, c, weights);
        }
        if (judged && total > best) {
            best = total;
            out_which[0] = k;
        }
        if (judged && total < worst) {
            worst = total;
            out_which[1] = k;
        }
    }
    return best > worst;
}
