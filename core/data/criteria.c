/* SPDX-License-Identifier: Apache-2.0 */
#include "data/criteria.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "diapason/plugin.h"

/* Where `name` is, or would be. */
static size_t find (const DpsCriteria *c, const char *name, int *out_known)
{
    size_t i = 0;
    while (i < c->n && strcmp (c->names[i].ptr, name) < 0)
        i++;
    *out_known = i < c->n && !strcmp (c->names[i].ptr, name);
    return i;
}

static DpsStatus insert (DpsCriteria *c, size_t at, const char *name, const DpsRow *row, DpsError *err)
{
    if (c->n == DPS_ROW_CRITERIA)
        return dps_row_fail (row, err, "'%s' is the %dth criterion of these rows, at most %d", name, (int)DPS_ROW_CRITERIA + 1,
                             (int)DPS_ROW_CRITERIA);
    if (!c->names) {
        c->names = dps_calloc (DPS_ROW_CRITERIA, sizeof *c->names);
        c->weights = dps_calloc (DPS_ROW_CRITERIA, sizeof *c->weights);
    }
    char *copy = dps_strdup (name);
    if (!c->names || !c->weights || !copy) {
        dps_free (copy);
        return dps_fail (err, DPS_ERR_NOMEM, "criteria: out of memory");
    }
    memmove (c->names + at + 1, c->names + at, (c->n - at) * sizeof *c->names);
    memmove (c->weights + at + 1, c->weights + at, (c->n - at) * sizeof *c->weights);
    c->names[at] = dps_str (copy);
    c->weights[at] = NAN;
    c->n++;
    return DPS_OK;
}

static DpsStatus add_weight (DpsCriteria *c, size_t at, double weight, const DpsRow *row, DpsError *err)
{
    if (!isnan (c->weights[at]) && c->weights[at] != weight)
        return dps_row_fail (row, err,
                             "weights.%s is %g, and %g in a row before it (the first weights: %s). Hint: make them alike, or give "
                             "criteria_weights in the recipe",
                             c->names[at].ptr, weight, c->weights[at], c->first);
    c->weights[at] = weight;
    if (!c->first && !(c->first = dps_strf ("%s:%llu", row->file, (unsigned long long)row->line)))
        return dps_fail (err, DPS_ERR_NOMEM, "criteria: out of memory");
    return DPS_OK;
}

DpsStatus dps_criteria_add (DpsCriteria *c, const DpsRow *row, const json_t *recipe, DpsError *err)
{
    const DpsScores *s = &row->scores;
    for (size_t i = 0; i < s->n; i++) {
        int known;
        size_t at = find (c, s->names[i], &known);
        if (!known)
            DPS_TRY (insert (c, at, s->names[i], row, err));
        if (!recipe && !isnan (s->weights[i]))
            DPS_TRY (add_weight (c, at, s->weights[i], row, err));
    }
    return DPS_OK;
}

DpsStatus dps_criteria_settle (DpsCriteria *c, const json_t *recipe, const char *where, DpsError *err)
{
    const char *name;
    json_t *v;
    int known;
    json_object_foreach ((json_t *)recipe, name, v) {
        char list[400] = "";
        for (size_t i = 0, used = 0; i < c->n && used < sizeof list; i++)
            used += (size_t)snprintf (list + used, sizeof list - used, "%s%s", i ? ", " : "", c->names[i].ptr);
        find (c, name, &known);
        if (!known)
            return dps_fail (err, DPS_ERR_USAGE, "%s: criteria_weights: no row names a criterion '%.60s'; there are: %s", where, name,
                             c->n ? list : "none");
        if (!json_is_number (v) || !(fabs (json_number_value (v)) <= DPS_SCORE_MAX))
            return dps_fail (err, DPS_ERR_USAGE, "%s: criteria_weights.%.60s: expected a number, -1e38 to 1e38", where, name);
    }
    for (size_t i = 0; i < c->n; i++) {
        if (recipe)
            c->weights[i] = json_number_value (json_object_get (recipe, c->names[i].ptr));
        else if (isnan (c->weights[i]))
            c->weights[i] = 1;
    }
    return DPS_OK;
}

void dps_criteria_place (const DpsCriteria *c, const DpsRow *row, double *out)
{
    const DpsScores *s = &row->scores;
    for (size_t i = 0; i < row->n_answers * c->n; i++)
        out[i] = NAN;
    for (size_t i = 0; i < s->n; i++) {
        int known;
        size_t at = find (c, s->names[i], &known);
        for (size_t k = 0; known && k < row->n_answers; k++)
            out[k * c->n + at] = s->values[k * s->n + i];
    }
}

void dps_criteria_free (DpsCriteria *c)
{
    for (size_t i = 0; i < c->n; i++)
        dps_free ((char *)c->names[i].ptr);
    dps_free (c->names);
    dps_free (c->weights);
    dps_free (c->first);
    *c = (DpsCriteria){0};
}
