/* SPDX-License-Identifier: Apache-2.0 */
/* ids.c: rows that are tokenized already. */
#include <stdio.h>

#include "data/internal.h"

enum { NOT_TRAINED = -100 }; /* Hugging Face's label of a token without loss */

/* What stands there, as a message says it: "a number 5.5", "text". */
static const char *found (const json_t *v, char *room, size_t bytes)
{
    if (json_is_integer (v))
        snprintf (room, bytes, "a number %" JSON_INTEGER_FORMAT, json_integer_value (v));
    else if (json_is_real (v))
        snprintf (room, bytes, "a number %g, not written as a whole one", json_real_value (v));
    else
        return dps__json_kind (v);
    return room;
}

DpsStatus dps__ids_read (const DpsRow *row, const char *column, const json_t *list, DpsContent *out, DpsError *err)
{
    size_t n = json_array_size (list);
    if (!json_is_array (list) || !n)
        return dps_row_fail (row, err, "%s: expected a list of token ids, found %s", column,
                             json_is_array (list) ? "none" : dps__json_kind (list));
    out->ids = dps_malloc (n, sizeof *out->ids);
    if (!out->ids)
        return dps__row_no_memory (row, err);
    out->n_ids = n;
    char room[64];
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get (list, i);
        json_int_t id = json_integer_value (v);
        if (!json_is_integer (v) || id < 0 || id > INT32_MAX)
            return dps_row_fail (row, err, "%s[%zu]: expected a token id, found %s", column, i, found (v, room, sizeof room));
        out->ids[i] = (int32_t)id;
    }
    return DPS_OK;
}

/* Room for weights as long as the ids. */
static DpsStatus make_weights (const DpsRow *row, const char *column, const json_t *list, DpsContent *content, DpsError *err)
{
    if (!json_is_array (list) || json_array_size (list) != content->n_ids)
        return dps_row_fail (row, err, "%s has %zu entries, the ids are %zu", column, json_array_size (list), content->n_ids);
    content->weights = dps_calloc (content->n_ids, sizeof *content->weights);
    return content->weights ? DPS_OK : dps__row_no_memory (row, err);
}

DpsStatus dps__labels_read (const DpsRow *row, const json_t *labels, DpsContent *content, DpsError *err)
{
    char room[64];
    DPS_TRY (make_weights (row, "labels", labels, content, err));
    for (size_t i = 0; i < content->n_ids; i++) {
        const json_t *v = json_array_get (labels, i);
        json_int_t label = json_integer_value (v);
        if (!json_is_integer (v) || (label != NOT_TRAINED && label != content->ids[i]))
            return dps_row_fail (row, err, "labels[%zu]: expected %d or the token's own id %d, found %s", i, NOT_TRAINED,
                                 (int)content->ids[i], found (v, room, sizeof room));
        content->weights[i] = label != NOT_TRAINED;
    }
    return DPS_OK;
}

DpsStatus dps__mask_read (const DpsRow *row, const char *column, const json_t *mask, DpsContent *content, DpsError *err)
{
    char room[64];
    DPS_TRY (make_weights (row, column, mask, content, err));
    for (size_t i = 0; i < content->n_ids; i++) {
        const json_t *v = json_array_get (mask, i);
        json_int_t on = json_is_boolean (v) ? json_is_true (v) : json_integer_value (v);
        if ((!json_is_integer (v) && !json_is_boolean (v)) || on < 0 || on > 1)
            return dps_row_fail (row, err, "%s[%zu]: expected 0 or 1, found %s", column, i, found (v, room, sizeof room));
        content->weights[i] = (float)on;
    }
    return DPS_OK;
}
