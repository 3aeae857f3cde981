/* SPDX-License-Identifier: Apache-2.0 */
/* judge_row.c: the part of judge.h that reads JSON, apart from the rest so that a plugin without jansson can link that. */
#include <string.h>

#include "base/json.h"
#include "base/judge.h"

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
    DpsStatus st = DPS_OK;
    *out = (DpsWords){0};
    if (!text.len)
        return DPS_OK;
    if (text.ptr[0] == '[')
        st = dps_json_parse (text.ptr, text.len, name, 1, 0, &list, NULL);
    if (st == DPS_ERR_NOMEM || (!json_is_array (list) && !(out->items = dps_calloc (1, sizeof *out->items))))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", name);
    else /* what begins with '[' and is no list is a word */
        st = json_is_array (list) ? add_list (out, name, list, err) : add_word (out, name, text.ptr, text.len, err);
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
