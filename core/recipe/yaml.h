/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml.h: a YAML 1.2 document as a small tree in which every node knows its line and column. libfyaml finds the events; this builds the
 * tree within fixed bounds and refuses what a recipe has no use for: tags, merge keys, several documents, keys that are not plain
 * scalars, duplicate keys, NUL bytes, anything but UTF-8. Anchors and aliases work; their expansion counts against the node limit.
 */
#ifndef DPS_RECIPE_YAML_H
#define DPS_RECIPE_YAML_H

#include "base/json.h"

enum {
    DPS_YAML_MAX_BYTES = 1 << 20,
    DPS_YAML_MAX_NODES = 20000, /* after the expansion of aliases */
    DPS_YAML_MAX_DEPTH = 32
};

typedef enum DpsYamlType { DPS_YAML_SCALAR, DPS_YAML_LIST, DPS_YAML_MAP } DpsYamlType;

/** Owned by its document. */
typedef struct DpsYaml DpsYaml;
struct DpsYaml {
    DpsYamlType type;
    uint8_t plain;         /* an unquoted scalar: only such a one is null, a boolean or a number */
    int32_t line, column;  /* from 1; 0: no place within `where` */
    const char *where;     /* the file, or what stands for it */
    char *text;            /* scalars: NUL-terminated, without U+0000 inside */
    DpsYaml *key;          /* in a map: the scalar that names this value */
    DpsYaml *first, *last; /* items */
    DpsYaml *next;
    DpsYaml *allocated; /* the document's list of all nodes */
};

typedef struct DpsYamlDoc {
    DpsYaml *root; /* NULL: an empty document */
    char *where;
    DpsYaml *nodes;
    size_t n_nodes;
} DpsYamlDoc;

/** Parse text[0..len). All errors but NOMEM are USAGE "where:line:column: …". *out: dps_yaml_free. [any] */
DpsStatus dps_yaml_parse (const char *text, size_t len, const char *where, DpsYamlDoc **out, DpsError *err);
void dps_yaml_free (DpsYamlDoc *doc);

/** One more node of `doc`, a plain one at no line; text is copied. NULL when out of memory. */
DpsYaml *dps_yaml_node (DpsYamlDoc *doc, DpsYamlType type, const char *text);
/** Put an item at the end of a list or, with its key set, of a map. */
void dps_yaml_append (DpsYaml *to, DpsYaml *item);
/**
 * Copy a node with its key and items into `doc`; it stands where it stood or, unless at is NULL, at that place. Files named by `from` and at
 * must outlive doc. Errors: USAGE (more than DPS_YAML_MAX_NODES), NOMEM. [any]
 */
DpsStatus dps_yaml_copy (DpsYamlDoc *doc, const DpsYaml *from, const DpsYaml *at, DpsYaml **out, DpsError *err);

/** The value of a key, or NULL. */
DpsYaml *dps_yaml_get (const DpsYaml *map, const char *key);

/** A plain scalar by YAML 1.2's core schema: each returns 1 and the value, or 0 when the node is of another type. */
int dps_yaml_is_null (const DpsYaml *n);
int dps_yaml_bool (const DpsYaml *n, int *out);
/** Also 0 when the integer does not fit. */
int dps_yaml_int (const DpsYaml *n, int64_t *out);
/** Integers are numbers; .inf and .nan are. */
int dps_yaml_number (const DpsYaml *n, double *out);
/** "the boolean true", "a list": for messages. buf is returned. */
const char *dps_yaml_describe (const DpsYaml *n, char *buf, size_t cap);
/** "recipe.yaml:12:7", or just where. buf is returned. */
const char *dps_yaml_place (const DpsYaml *n, char *buf, size_t cap);
/** dps_fail with the node's place in front. */
DpsStatus dps_yaml_fail (const DpsYaml *n, DpsError *err, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));

/** A recipe's outermost node is a map. Errors: USAGE, which names a space that is missing behind a key's colon. [any] */
DpsStatus dps_yaml_expect_map (const DpsYaml *n, DpsError *err);

/** The node as JSON, scalars by the core schema. Errors: USAGE for .inf and .nan, NOMEM. [any] */
DpsStatus dps_yaml_json (const DpsYaml *n, json_t **out, DpsError *err);

#endif
