/* SPDX-License-Identifier: Apache-2.0 */
/* schema.h: JSON Schema, the part of it that this reward knows. A keyword it does not know is refused when the schema is read. */
#ifndef DPS_REWARD_JSON_SCHEMA_H
#define DPS_REWARD_JSON_SCHEMA_H

#include "base/json.h"

/* Levels of the schema; steps, and schemas applied one inside the other, of a check; schemas that are referred to. */
enum { SCHEMA_MAX_DEPTH = 64, SCHEMA_MAX_STEPS = 2000000, SCHEMA_MAX_NESTED = 1000, SCHEMA_MAX_TARGETS = 4096 };

typedef struct Schema Schema;

/** A schema from its text; `where` names it. Errors: INVALID with the path of what was refused ("schema: /properties/a/type: …"), NOMEM. */
DpsStatus schema_new (DpsStr text, const char *where, Schema **out, DpsError *err);
void schema_free (Schema *s);

/** *out: whether the value fits. Errors: LIMIT after SCHEMA_MAX_STEPS or _NESTED, or when a pattern was given up; NOMEM. One at a time per schema. */
DpsStatus schema_check (const Schema *s, const json_t *value, int *out, DpsError *err);

#endif
