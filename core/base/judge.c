/* SPDX-License-Identifier: Apache-2.0 */
#include "base/judge.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

int64_t dps_judge_now_ms (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

DpsStatus dps_judge_rows (DpsJudge judge, void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value,
                          uint32_t *status, double *const *token_values, DpsError *err)
{
    const int64_t end = deadline_ms > 0 ? dps_judge_now_ms () + deadline_ms : INT64_MAX;
    DpsError why = DPS_ERROR_INIT;
    uint64_t n_failed = 0;
    for (uint64_t i = 0; i < n_rows; i++) {
        DpsStatus st = DPS_OK;
        value[i] = NAN;
        status[i] = DPS_SCORE_OK;
        if (dps_judge_now_ms () >= end)
            status[i] = DPS_SCORE_TIMEOUT;
        else
            st = judge (self, rows[i], &value[i], &status[i], &why);
        if (st == DPS_ERR_NOMEM || st == DPS_ERR_CANCELLED)
            return dps_fail (err, st, "%s", why.msg);
        if (st != DPS_OK)
            status[i] = st == DPS_ERR_TIMEOUT ? DPS_SCORE_TIMEOUT : DPS_SCORE_FAILED;
        if (status[i] != DPS_SCORE_OK)
            value[i] = NAN;
        n_failed += st != DPS_OK;
        for (uint64_t t = 0; token_values && token_values[i] && t < rows[i]->n_completion_ids; t++)
            token_values[i][t] = t + 1 == rows[i]->n_completion_ids ? value[i] : 0;
    }
    return n_rows && n_failed == n_rows ? dps_fail (err, DPS_ERR_IO, "%s", why.msg) : DPS_OK;
}

DpsStatus dps_judge_column (const DpsRewardRow *row, const char *name, json_t **out, DpsError *err)
{
    json_t *all = NULL;
    *out = NULL;
    if (row->columns.len)
        DPS_TRY (dps_json_parse (row->columns.ptr, row->columns.len, "columns", 1, 0, &all, err));
    json_t *found = json_object_get (all, name);
    *out = found && !json_is_null (found) ? json_incref (found) : NULL;
    json_decref (all);
    return *out ? DPS_OK : dps_fail (err, DPS_ERR_NOT_FOUND, "the row has no column '%s'", name);
}

static DpsStatus add_word (DpsWords *w, const char *name, const char *text, size_t len, DpsError *err)
{
    char *copy = dps_strndup (text, len);
    if (!copy)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", name);
    w->items[w->n++] = (DpsStr){copy, len};
    return DPS_OK;
}

static DpsStatus add_list (DpsWords *w, const char *name, json_t *list, DpsError *err)
{
    size_t i;
    json_t *item;
    if (!(w->items = dps_calloc (json_array_size (list) + 1, sizeof *w->items)))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", name);
    json_array_foreach (list, i, item) {
        if (!json_is_string (item) || !json_string_length (item))
            return dps_fail (err, DPS_ERR_INVALID, "%s: entry %zu of the list is not a word", name, i + 1);
        DPS_TRY (add_word (w, name, json_string_value (item), json_string_length (item), err));
    }
    return DPS_OK;
}

DpsStatus dps_words_parse (const char *name, DpsStr text, DpsWords *out, DpsError *err)
{
    json_t *list = NULL;
    DpsStatus st;
    *out = (DpsWords){0};
    if (!text.len)
        return DPS_OK;
    if (text.ptr[0] == '[' && dps_json_parse (text.ptr, text.len, name, 1, 0, &list, NULL) == DPS_OK && json_is_array (list))
        st = add_list (out, name, list, err);
    else if (!(out->items = dps_calloc (1, sizeof *out->items)))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", name);
    else
        st = add_word (out, name, text.ptr, text.len, err);
    json_decref (list);
    if (st != DPS_OK)
        dps_words_free (out);
    return st;
}

void dps_words_free (DpsWords *w)
{
    for (size_t i = 0; i < w->n; i++)
        dps_free ((char *)w->items[i].ptr);
    dps_free (w->items);
    *w = (DpsWords){0};
}

uint64_t dps_judge_characters (DpsStr text)
{
    uint64_t n = 0;
    for (size_t at = 0; at < text.len; n++) {
        size_t len = dps_utf8_sequence (text.ptr + at, text.len - at);
        at += len ? len : 1;
    }
    return n;
}
