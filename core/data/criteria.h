/* SPDX-License-Identifier: Apache-2.0 */
/* criteria.h: the criteria that the rows of a data set name, together: a table in alphabetical order, so that it does not depend on the rows' order. */
#ifndef DPS_DATA_CRITERIA_H
#define DPS_DATA_CRITERIA_H

#include "data/row.h"
#include "diapason/types.h"

/** All zeros is empty. */
typedef struct DpsCriteria {
    size_t n;
    DpsStr *names;   /* [n] NUL-terminated */
    double *weights; /* [n] NaN until settled where no row says one */
    char *first;     /* "rows.jsonl:3", where the first weight was said */
} DpsCriteria;

/**
 * Add those of a row. recipe: criteria_weights, or NULL: then rows that give one criterion two weights are refused.
 * Errors: DATA "file:line: …", LIMIT, NOMEM. [init]
 */
DpsStatus dps_criteria_add (DpsCriteria *c, const DpsRow *row, const json_t *recipe, DpsError *err);
/** After the last row: the weights of a recipe, else the rows', else 1. Errors: USAGE (a criterion that no row names), with `where` in front. [init] */
DpsStatus dps_criteria_settle (DpsCriteria *c, const json_t *recipe, const char *where, DpsError *err);
/** Row's values in the table's order: (n_answers, c->n), NaN where it names no such criterion. [any] */
void dps_criteria_place (const DpsCriteria *c, const DpsRow *row, double *out);
void dps_criteria_free (DpsCriteria *c);

#endif
