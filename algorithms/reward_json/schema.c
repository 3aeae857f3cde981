/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema.c: reading a schema: every keyword is known and its value makes sense, so that checking (schema_check.c) need not ask. The vocabulary
 * is that of JSON Schema 2020-12 for validation and application, with references inside the document only; `format` is an annotation.
 */
#include <string.h>

#include "schema_internal.h"

static const struct {
    const char *name;
    SchemaForm form;
} keywords[] = {
    {"type", FORM_TYPE},
    {"enum", FORM_LIST},
    {"const", FORM_ANYTHING},
    {"properties", FORM_SCHEMA_MAP},
    {"patternProperties", FORM_SCHEMA_MAP},
    {"additionalProperties", FORM_SCHEMA},
    {"propertyNames", FORM_SCHEMA},
    {"required", FORM_WORDS},
    {"minProperties", FORM_COUNT},
    {"maxProperties", FORM_COUNT},
    {"items", FORM_SCHEMA},
    {"prefixItems", FORM_SCHEMAS},
    {"contains", FORM_SCHEMA},
    {"minItems", FORM_COUNT},
    {"maxItems", FORM_COUNT},
    {"uniqueItems", FORM_FLAG},
    {"minimum", FORM_NUMBER},
    {"maximum", FORM_NUMBER},
    {"exclusiveMinimum", FORM_NUMBER},
    {"exclusiveMaximum", FORM_NUMBER},
    {"multipleOf", FORM_NUMBER},
    {"minLength", FORM_COUNT},
    {"maxLength", FORM_COUNT},
    {"pattern", FORM_PATTERN},
    {"allOf", FORM_SCHEMAS},
    {"anyOf", FORM_SCHEMAS},
    {"oneOf", FORM_SCHEMAS},
    {"not", FORM_SCHEMA},
    {"if", FORM_SCHEMA},
    {"then", FORM_SCHEMA},
    {"else", FORM_SCHEMA},
    {"$ref", FORM_REFERENCE},
    {"$defs", FORM_SCHEMA_MAP},
    {"definitions", FORM_SCHEMA_MAP},
    {"format", FORM_WORD},
    {"$schema", FORM_ANNOTATION},
    {"$id", FORM_ANNOTATION},
    {"$comment", FORM_ANNOTATION},
    {"title", FORM_ANNOTATION},
    {"description", FORM_ANNOTATION},
    {"default", FORM_ANNOTATION},
    {"examples", FORM_ANNOTATION},
    {"deprecated", FORM_ANNOTATION},
    {"readOnly", FORM_ANNOTATION},
    {"writeOnly", FORM_ANNOTATION},
};
enum { N_KEYWORDS = sizeof keywords / sizeof *keywords };

SchemaForm schema_form (const char *keyword)
{
    for (size_t k = 0; k < N_KEYWORDS; k++)
        if (!strcmp (keywords[k].name, keyword))
            return keywords[k].form;
    return FORM_UNKNOWN;
}

static const char *const types[] = {"null", "boolean", "object", "array", "number", "integer", "string", NULL};

/* Where in the schema: a chain of keys from here to the root, written out only for messages. */
typedef struct Place {
    const struct Place *above;
    const char *key;
    int depth;
} Place;

typedef struct Reader {
    Schema *schema;
    const char *where;
    DpsError *err;
} Reader;

static void put_place (const Place *p, char *out, size_t cap)
{
    if (p->above) {
        put_place (p->above, out, cap);
        size_t used = strlen (out);
        snprintf (out + used, cap - used, "/%.80s", p->key);
    } else
        out[0] = '\0';
}

static DpsStatus refuse (const Reader *r, const Place *p, const char *what)
{
    char place[400];
    put_place (p, place, sizeof place);
    return dps_fail (r->err, DPS_ERR_INVALID, "%s: %s: %s", r->where, *place ? place : "/", what);
}

static int is_type (const char *word)
{
    for (int i = 0; types[i]; i++)
        if (!strcmp (types[i], word))
            return 1;
    return 0;
}

static DpsStatus read_type (const Reader *r, const Place *p, const json_t *v)
{
    size_t n = json_is_array (v) ? json_array_size (v) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *word = json_is_array (v) ? json_array_get (v, i) : v;
        if (!json_is_string (word) || !is_type (json_string_value (word)))
            return refuse (r, p, "expected null, boolean, object, array, number, integer, string, or a list of these");
    }
    return n ? DPS_OK : refuse (r, p, "the list is empty");
}

static DpsStatus read_words (const Reader *r, const Place *p, const json_t *v)
{
    for (size_t i = 0; i < json_array_size (v); i++)
        if (!json_is_string (json_array_get (v, i)))
            return refuse (r, p, "expected a list of names");
    return json_is_array (v) ? DPS_OK : refuse (r, p, "expected a list of names");
}

/* An expression, kept beside the node (or key) whose it is. */
static DpsStatus add_pattern (const Reader *r, const Place *p, const void *owner, const char *text)
{
    const DpsMatcherOptions options = {.any_bytes = 1, .steps = SCHEMA_MAX_STEPS};
    Schema *s = r->schema;
    if (DPS_GROW (s->patterns, s->n_patterns, s->capacity))
        return dps_fail (r->err, DPS_ERR_NOMEM, "%s: out of memory", r->where);
    s->patterns[s->n_patterns] = (SchemaPattern){.owner = owner};
    char place[400];
    put_place (p, place, sizeof place);
    DpsError why = DPS_ERROR_INIT;
    DpsStatus st = dps_matcher_new (text, &options, place, &s->patterns[s->n_patterns].matcher, &why);
    if (st == DPS_OK)
        s->n_patterns++;
    return st == DPS_OK ? DPS_OK : dps_fail (r->err, st == DPS_ERR_NOMEM ? DPS_ERR_NOMEM : DPS_ERR_INVALID, "%s: %s", r->where, why.msg);
}

static DpsStatus read_schema (const Reader *r, const Place *p, const json_t *v);

static DpsStatus read_list (const Reader *r, const Place *p, const json_t *v)
{
    if (!json_is_array (v) || !json_array_size (v))
        return refuse (r, p, "expected a list of schemas");
    for (size_t i = 0; i < json_array_size (v); i++) {
        char number[24];
        snprintf (number, sizeof number, "%zu", i);
        DPS_TRY (read_schema (r, &(Place){p, number, p->depth + 1}, json_array_get (v, i)));
    }
    return DPS_OK;
}

static DpsStatus read_map (const Reader *r, const Place *p, json_t *v, int patterns)
{
    const char *key;
    json_t *item;
    if (!json_is_object (v))
        return refuse (r, p, "expected a map of schemas");
    json_object_foreach (v, key, item) {
        const Place below = {p, key, p->depth + 1};
        if (patterns)
            DPS_TRY (add_pattern (r, &below, item, key));
        DPS_TRY (read_schema (r, &below, item));
    }
    return DPS_OK;
}

static DpsStatus read_reference (const Reader *r, const Place *p, const json_t *v)
{
    const char *text = json_string_value (v);
    const json_t *target = text ? schema_target (r->schema->root, text) : NULL;
    if (!target) {
        char what[300];
        snprintf (
            what, sizeof what,
            "'%.100s' names no schema of this document: expected # or #/ and the way to one, as in #/$defs/name; what is elsewhere must "
            "be copied in",
            text ? text : "");
        return refuse (r, p, what);
    }
    switch (schema_follow (r->schema, target, 0)) {
    case CIRCLE_NONE: return DPS_OK;
    case CIRCLE_FOUND:
        return refuse (r, p,
                       "the reference leads back to itself, and never into the value: no answer could be checked. Recursion must go "
                       "through properties, items or the like");
    case CIRCLE_LIMIT: return refuse (r, p, "references lead too far: at most 4096 schemas are referred to, 1000 levels deep");
    default: return dps_fail (r->err, DPS_ERR_NOMEM, "%s: out of memory", r->where);
    }
}

static DpsStatus read_keyword (const Reader *r, const Place *p, const char *name, SchemaForm form, json_t *v)
{
    switch (form) {
    case FORM_TYPE: return read_type (r, p, v);
    case FORM_NUMBER:
        if (!json_is_number (v) || (!strcmp (name, "multipleOf") && !(json_number_value (v) > 0)))
            return refuse (r, p, strcmp (name, "multipleOf") ? "expected a number" : "expected a number above 0");
        return DPS_OK;
    case FORM_COUNT:
        return json_is_integer (v) && json_integer_value (v) >= 0 ? DPS_OK : refuse (r, p, "expected a whole number, at least 0");
    case FORM_FLAG: return json_is_boolean (v) ? DPS_OK : refuse (r, p, "expected true or false");
    case FORM_PATTERN:
        return json_is_string (v) ? add_pattern (r, p, v, json_string_value (v)) : refuse (r, p, "expected a regular expression");
    case FORM_WORD: return json_is_string (v) ? DPS_OK : refuse (r, p, "expected a word");
    case FORM_REFERENCE: return read_reference (r, p, v);
    case FORM_LIST: return json_is_array (v) ? DPS_OK : refuse (r, p, "expected a list");
    case FORM_WORDS: return read_words (r, p, v);
    case FORM_SCHEMA: return read_schema (r, p, v);
    case FORM_SCHEMAS: return read_list (r, p, v);
    case FORM_SCHEMA_MAP: return read_map (r, p, v, !strcmp (name, "patternProperties"));
    default: return DPS_OK;
    }
}

static DpsStatus read_schema (const Reader *r, const Place *p, const json_t *v)
{
    const char *key;
    json_t *item;
    if (json_is_boolean (v))
        return DPS_OK;
    if (!json_is_object (v))
        return refuse (r, p, "expected a schema: an object, true or false");
    if (p->depth > SCHEMA_MAX_DEPTH)
        return refuse (r, p, "the schema is nested too deeply: at most 64 levels are read");
    json_object_foreach ((json_t *)v, key, item) {
        const SchemaForm form = schema_form (key);
        if (form == FORM_UNKNOWN) {
            char what[200];
            snprintf (what, sizeof what, "keyword '%.80s' is not one this reward knows: remove it, or state it otherwise", key);
            return refuse (r, p, what);
        }
        DPS_TRY (read_keyword (r, &(Place){p, key, p->depth + 1}, key, form, item));
    }
    return DPS_OK;
}

void schema_free (Schema *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_patterns; i++)
        dps_matcher_free (s->patterns[i].matcher);
    dps_free (s->patterns);
    dps_free (s->targets);
    json_decref (s->root);
    dps_free (s);
}

DpsStatus schema_new (DpsStr text, const char *where, Schema **out, DpsError *err)
{
    Schema *s = dps_calloc (1, sizeof *s);
    DpsStatus st = s ? dps_json_parse (text.ptr, text.len, where, 1, DPS_JSON_UNIQUE, &s->root, err)
                     : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    const Reader r = {s, where, err};
    if (st == DPS_OK)
        st = read_schema (&r, &(Place){NULL, "", 0}, s->root);
    if (st != DPS_OK) {
        schema_free (s);
        return st == DPS_ERR_FORMAT || st == DPS_ERR_LIMIT ? DPS_ERR_INVALID : st;
    }
    *out = s;
    return DPS_OK;
}
