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

struct Schema {
    json_t *root;
    SchemaPattern *patterns;
    size_t n_patterns, capacity;
};

#endif
