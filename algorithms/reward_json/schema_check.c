/* SPDX-License-Identifier: Apache-2.0 */
/* schema_check.c: a value against a schema that schema.c has read. Work is counted: no schema and no value takes more than SCHEMA_MAX_STEPS. */
#include <math.h>
#include <string.h>

#include "base/judge.h"
#include "schema_internal.h"

/* st is not OK when checking was given up; the answer is then of no account. */
typedef struct Check {
    const Schema *schema;
    uint64_t steps;
    int nested; /* schemas applied one inside the other */
    DpsStatus st;
    DpsError *err;
} Check;

static int fits (Check *c, const json_t *schema, const json_t *v);

static int spend (Check *c, uint64_t n)
{
    c->steps += n;
    if (c->st == DPS_OK && c->steps > SCHEMA_MAX_STEPS)
        c->st = dps_fail (c->err, DPS_ERR_LIMIT, "the schema was given up after %d steps", (int)SCHEMA_MAX_STEPS);
    return c->st == DPS_OK;
}

static int found (Check *c, const void *owner, const char *text, size_t len)
{
    size_t i = 0;
    while (i < c->schema->n_patterns && c->schema->patterns[i].owner != owner)
        i++;
    int hit = i < c->schema->n_patterns ? dps_matcher_find (c->schema->patterns[i].matcher, text, len) : 0;
    if (hit < 0 && c->st == DPS_OK)
        c->st = dps_fail (c->err, hit == -2 ? DPS_ERR_NOMEM : DPS_ERR_LIMIT, "a pattern of the schema was given up on %zu bytes", len);
    return hit > 0 && spend (c, 1 + len / 16);
}

/* 1 is 1.0; otherwise as JSON defines equality. */
static int equal (Check *c, const json_t *a, const json_t *b)
{
    const char *key;
    json_t *item;
    if (!spend (c, 1))
        return 0;
    if (json_is_number (a) && json_is_number (b))
        return json_is_integer (a) && json_is_integer (b) ? json_integer_value (a) == json_integer_value (b)
                                                          : json_number_value (a) == json_number_value (b);
    if (json_typeof (a) != json_typeof (b))
        return 0;
    if (json_is_array (a)) {
        if (json_array_size (a) != json_array_size (b))
            return 0;
        for (size_t i = 0; i < json_array_size (a); i++)
            if (!equal (c, json_array_get (a, i), json_array_get (b, i)))
                return 0;
        return 1;
    }
    if (!json_is_object (a))
        return json_equal (a, b);
    if (json_object_size (a) != json_object_size (b))
        return 0;
    json_object_foreach ((json_t *)a, key, item) {
        const json_t *other = json_object_get (b, key);
        if (!other || !equal (c, item, other))
            return 0;
    }
    return 1;
}

static int is_of_type (const json_t *v, const char *type)
{
    switch (json_typeof (v)) {
    case JSON_NULL: return !strcmp (type, "null");
    case JSON_TRUE:
    case JSON_FALSE: return !strcmp (type, "boolean");
    case JSON_OBJECT: return !strcmp (type, "object");
    case JSON_ARRAY: return !strcmp (type, "array");
    case JSON_STRING: return !strcmp (type, "string");
    case JSON_INTEGER: return !strcmp (type, "integer") || !strcmp (type, "number");
    default: return !strcmp (type, "number") || (!strcmp (type, "integer") && json_real_value (v) == floor (json_real_value (v)));
    }
}

static int fits_type (const json_t *types, const json_t *v)
{
    if (json_is_string (types))
        return is_of_type (v, json_string_value (types));
    for (size_t i = 0; i < json_array_size (types); i++)
        if (is_of_type (v, json_string_value (json_array_get (types, i))))
            return 1;
    return !types;
}

/* type, enum, const: of values of any type. */
static int fits_value (Check *c, const json_t *schema, const json_t *v)
{
    const json_t *list = json_object_get (schema, "enum"), *one = json_object_get (schema, "const");
    size_t i = 0;
    if (!fits_type (json_object_get (schema, "type"), v) || (one && !equal (c, one, v)))
        return 0;
    while (i < json_array_size (list) && !equal (c, json_array_get (list, i), v))
        i++;
    return !list || i < json_array_size (list);
}

static int fits_number (const json_t *schema, double x)
{
    const json_t *b;
    if (((b = json_object_get (schema, "minimum")) && x < json_number_value (b)) ||
        ((b = json_object_get (schema, "maximum")) && x > json_number_value (b)) ||
        ((b = json_object_get (schema, "exclusiveMinimum")) && x <= json_number_value (b)) ||
        ((b = json_object_get (schema, "exclusiveMaximum")) && x >= json_number_value (b)))
        return 0;
    if (!(b = json_object_get (schema, "multipleOf")))
        return 1;
    double q = x / json_number_value (b); /* 0.3 is a multiple of 0.1 to the reader, if not to the bits */
    return fabs (q - nearbyint (q)) <= 1e-9 * fmax (1, fabs (q));
}

/* Do n things lie within the counts of two keywords? */
static int within (const json_t *schema, const char *least, const char *most, uint64_t n)
{
    const json_t *min = json_object_get (schema, least), *max = json_object_get (schema, most);
    return (!min || n >= (uint64_t)json_integer_value (min)) && (!max || n <= (uint64_t)json_integer_value (max));
}

static int fits_string (Check *c, const json_t *schema, const json_t *v)
{
    const json_t *pattern = json_object_get (schema, "pattern");
    const char *text = json_string_value (v);
    size_t len = json_string_length (v);
    return within (schema, "minLength", "maxLength", dps_judge_characters ((DpsStr){text, len})) &&
           (!pattern || found (c, pattern, text, len));
}

static int all_differ (Check *c, const json_t *v)
{
    for (size_t i = 0; i < json_array_size (v); i++)
        for (size_t k = 0; k < i && c->st == DPS_OK; k++)
            if (equal (c, json_array_get (v, i), json_array_get (v, k)))
                return 0;
    return 1;
}

static int fits_array (Check *c, const json_t *schema, const json_t *v)
{
    const json_t *first = json_object_get (schema, "prefixItems"), *rest = json_object_get (schema, "items");
    const json_t *contains = json_object_get (schema, "contains");
    size_t n = json_array_size (v), hits = 0;
    if (!within (schema, "minItems", "maxItems", n))
        return 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get (v, i), *own = i < json_array_size (first) ? json_array_get (first, i) : rest;
        if (!spend (c, 1) || (own && !fits (c, own, item)))
            return 0;
        hits += contains && !hits && fits (c, contains, item);
    }
    return (!contains || hits) && (!json_is_true (json_object_get (schema, "uniqueItems")) || all_differ (c, v));
}

/* One member against properties, patternProperties, additionalProperties and propertyNames. */
static int fits_member (Check *c, const json_t *schema, const char *key, const json_t *item)
{
    const json_t *own = json_object_get (json_object_get (schema, "properties"), key);
    json_t *patterns = json_object_get (schema, "patternProperties"), *by_pattern;
    const json_t *others = json_object_get (schema, "additionalProperties"), *names = json_object_get (schema, "propertyNames");
    const char *pattern;
    int known = own != NULL;
    if (!spend (c, 1) || (own && !fits (c, own, item)))
        return 0;
    json_object_foreach (patterns, pattern, by_pattern) {
        if (!found (c, by_pattern, key, strlen (key)))
            continue;
        known = 1;
        if (!fits (c, by_pattern, item))
            return 0;
    }
    if (!known && others && !fits (c, others, item))
        return 0;
    json_t *name = names ? json_string (key) : NULL;
    int good = !names || (name && fits (c, names, name));
    if (names && !name)
        c->st = dps_fail (c->err, DPS_ERR_NOMEM, "out of memory");
    json_decref (name);
    return good;
}

static int fits_object (Check *c, const json_t *schema, json_t *v)
{
    const json_t *required = json_object_get (schema, "required");
    const char *key;
    json_t *item;
    if (!within (schema, "minProperties", "maxProperties", json_object_size (v)))
        return 0;
    for (size_t i = 0; i < json_array_size (required); i++)
        if (!json_object_get (v, json_string_value (json_array_get (required, i))))
            return 0;
    json_object_foreach (v, key, item)
        if (!fits_member (c, schema, key, item))
            return 0;
    return 1;
}

static size_t count_fitting (Check *c, const json_t *schemas, const json_t *v)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size (schemas) && c->st == DPS_OK; i++)
        n += (size_t)fits (c, json_array_get (schemas, i), v);
    return n;
}

static int fits_combined (Check *c, const json_t *schema, const json_t *v)
{
    const json_t *all = json_object_get (schema, "allOf"), *any = json_object_get (schema, "anyOf");
    const json_t *one = json_object_get (schema, "oneOf"), *not = json_object_get (schema, "not");
    return (!all || count_fitting (c, all, v) == json_array_size (all)) && (!any || count_fitting (c, any, v) > 0) &&
           (!one || count_fitting (c, one, v) == 1) && (!not || !fits (c, not, v));
}

static int fits_reference (Check *c, const json_t *schema, const json_t *v)
{
    const json_t *reference = json_object_get (schema, "$ref");
    return !reference ||
           (spend (c, json_string_length (reference) / 16) && fits (c, schema_target (c->schema->root, json_string_value (reference)), v));
}

static int fits_condition (Check *c, const json_t *schema, const json_t *v)
{
    const json_t *condition = json_object_get (schema, "if");
    const json_t *then = condition ? json_object_get (schema, fits (c, condition, v) ? "then" : "else") : NULL;
    return !then || fits (c, then, v);
}

static int fits_here (Check *c, const json_t *schema, const json_t *v)
{
    if (json_is_boolean (schema))
        return json_is_true (schema);
    if (!fits_value (c, schema, v))
        return 0;
    int good = json_is_number (v)   ? fits_number (schema, json_number_value (v))
               : json_is_string (v) ? fits_string (c, schema, v)
               : json_is_array (v)  ? fits_array (c, schema, v)
               : json_is_object (v) ? fits_object (c, schema, (json_t *)v)
                                    : 1;
    return good && fits_combined (c, schema, v) && fits_condition (c, schema, v) && fits_reference (c, schema, v);
}

static int fits (Check *c, const json_t *schema, const json_t *v)
{
    if (c->st == DPS_OK && c->nested == SCHEMA_MAX_NESTED)
        c->st = dps_fail (c->err, DPS_ERR_LIMIT, "the schema was given up %d levels deep", (int)SCHEMA_MAX_NESTED);
    if (!spend (c, 1))
        return 0;
    c->nested++;
    const int good = fits_here (c, schema, v);
    c->nested--;
    return good;
}

DpsStatus schema_check (const Schema *s, const json_t *value, int *out, DpsError *err)
{
    Check c = {.schema = s, .err = err};
    *out = fits (&c, s->root, value);
    return c.st;
}
