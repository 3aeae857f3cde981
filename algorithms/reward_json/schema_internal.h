/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DPS_REWARD_JSON_SCHEMA_INTERNAL_H
#define DPS_REWARD_JSON_SCHEMA_INTERNAL_H

#include "base/matcher.h"
#include "schema.h"

/** The expression of the `pattern` value, or of the patternProperties member, that lies at `owner`. */
typedef struct SchemaPattern {
    const void *owner;
    DpsMatcher *matcher;
} SchemaPattern;

/** A subschema that some $ref names, and whether what it refers to in place was followed: schema_ref.c. */
typedef struct SchemaTarget {
    const json_t *node;
    int done;
} SchemaTarget;

struct Schema {
    json_t *root;
    SchemaPattern *patterns;
    size_t n_patterns, capacity;
    SchemaTarget *targets;
    size_t n_targets, targets_capacity;
};

/** What a keyword's value must be. */
typedef enum SchemaForm {
    FORM_UNKNOWN,
    FORM_ANNOTATION,
    FORM_TYPE,
    FORM_NUMBER,
    FORM_COUNT,
    FORM_FLAG,
    FORM_WORD,
    FORM_PATTERN,
    FORM_LIST,
    FORM_WORDS,
    FORM_SCHEMA,
    FORM_SCHEMAS,
    FORM_SCHEMA_MAP,
    FORM_REFERENCE,
    FORM_ANYTHING
} SchemaForm;
SchemaForm schema_form (const char *keyword);

/** The subschema that a reference ("#", "#/$defs/name") names, or NULL: no such place, or one that holds no schema. */
const json_t *schema_target (const json_t *root, const char *reference);
/** 0; what was wrong with following from `target` all that is applied to the same value: it comes back to itself, or leads too far; no memory. */
typedef enum SchemaCircle { CIRCLE_NONE, CIRCLE_FOUND, CIRCLE_LIMIT, CIRCLE_NOMEM } SchemaCircle;
SchemaCircle schema_follow (Schema *s, const json_t *target, int depth);

#endif
