/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema.c: reading a schema: every keyword is known and its value makes sense, so that checking (schema_check.c) need not ask. The vocabulary
 * is that of JSON Schema 2020-12 for validation and application, without references, conditionals, formats and what depends on them.
 */
#include <string.h>

#include "schema_internal.h"

/* What a keyword's value must be. */
typedef enum Form { ANNOTATION, TYPE, NUMBER, COUNT, FLAG, TEXT, LIST, WORDS, SCHEMA, SCHEMAS, SCHEMA_MAP, ANYTHING } Form;

static const struct {
    const char *name;
    Form form;
} keywords[] = {
    {"type", TYPE},
    {"enum", LIST},
    {"const", ANYTHING},
    {"properties", SCHEMA_MAP},
    {"patternProperties", SCHEMA_MAP},
    {"additionalProperties", SCHEMA},
    {"propertyNames", SCHEMA},
    {"required", WORDS},
    {"minProperties", COUNT},
    {"maxProperties", COUNT},
    {"items", SCHEMA},
    {"prefixItems", SCHEMAS},
    {"contains", SCHEMA},
    {"minItems", COUNT},
    {"maxItems", COUNT},
    {"uniqueItems", FLAG},
    {"minimum", NUMBER},
    {"maximum", NUMBER},
    {"exclusiveMinimum", NUMBER},
    {"exclusiveMaximum", NUMBER},
    {"multipleOf", NUMBER},
    {"minLength", COUNT},
    {"maxLength", COUNT},
    {"pattern", TEXT},
    {"allOf", SCHEMAS},
    {"anyOf", SCHEMAS},
    {"oneOf", SCHEMAS},
    {"not", SCHEMA},
    {"$schema", ANNOTATION},
    {"$id", ANNOTATION},
    {"$comment", ANNOTATION},
    {"title", ANNOTATION},
    {"description", ANNOTATION},
    {"default", ANNOTATION},
    {"examples", ANNOTATION},
    {"deprecated", ANNOTATION},
    {"readOnly", ANNOTATION},
    {"writeOnly", ANNOTATION},
};
enum { N_KEYWORDS = sizeof keywords / sizeof *keywords };

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

static DpsStatus read_keyword (const Reader *r, const Place *p, const char *name, Form form, json_t *v)
{
    switch (form) {
    case TYPE: return read_type (r, p, v);
    case NUMBER:
        if (!json_is_number (v) || (!strcmp (name, "multipleOf") && !(json_number_value (v) > 0)))
            return refuse (r, p, strcmp (name, "multipleOf") ? "expected a number" : "expected a number above 0");
        return DPS_OK;
    case COUNT: return json_is_integer (v) && json_integer_value (v) >= 0 ? DPS_OK : refuse (r, p, "expected a whole number, at least 0");
    case FLAG: return json_is_boolean (v) ? DPS_OK : refuse (r, p, "expected true or false");
    case TEXT: return json_is_string (v) ? add_pattern (r, p, v, json_string_value (v)) : refuse (r, p, "expected a regular expression");
    case LIST: return json_is_array (v) ? DPS_OK : refuse (r, p, "expected a list");
    case WORDS: return read_words (r, p, v);
    case SCHEMA: return read_schema (r, p, v);
    case SCHEMAS: return read_list (r, p, v);
    case SCHEMA_MAP: return read_map (r, p, v, !strcmp (name, "patternProperties"));
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
        size_t k = 0;
        while (k < N_KEYWORDS && strcmp (keywords[k].name, key) != 0)
            k++;
        if (k == N_KEYWORDS) {
            char what[200];
            snprintf (what, sizeof what, "keyword '%.80s' is not one this reward knows: remove it, or state it otherwise", key);
            return refuse (r, p, what);
        }
        DPS_TRY (read_keyword (r, &(Place){p, key, p->depth + 1}, key, keywords[k].form, item));
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
