/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_ref.c: $ref inside one document (RFC 6901 in a URI fragment, from the root; an $id in between moves nothing), and references that go in a
 * circle: one that comes back through what is applied to the same value ($ref, allOf, anyOf, oneOf, not, if, then, else) would never end, one that
 * comes back through a member or an item ends with the value.
 */
#include <stdlib.h>
#include <string.h>

#include "schema_internal.h"

/* One step of a pointer, decoded into out[cap]; returns what follows it, or NULL when it is no step. */
static const char *next_step (const char *at, char *out, size_t cap)
{
    size_t n = 0;
    for (at++; *at && *at != '/'; at++) {
        char c = *at;
        if (c == '%') {
            const char hex[3] = {at[1], at[1] ? at[2] : '\0', '\0'};
            char *end;
            c = (char)strtol (hex, &end, 16);
            if (end != hex + 2 || !c)
                return NULL;
            at += 2;
        }
        if (c == '~') {
            at++;
            if (*at != '0' && *at != '1')
                return NULL;
            c = *at == '0' ? '~' : '/';
        }
        if (n + 1 >= cap)
            return NULL;
        out[n++] = c;
    }
    out[n] = '\0';
    return at;
}

static const json_t *item_at (const json_t *list, const char *number)
{
    const size_t digits = strspn (number, "0123456789");
    if (!digits || digits > 9 || number[digits] || (number[0] == '0' && digits > 1))
        return NULL;
    return json_array_get (list, (size_t)strtoul (number, NULL, 10));
}

const json_t *schema_target (const json_t *root, const char *reference)
{
    const json_t *here = root;
    const char *at = reference + 1;
    char key[256];
    if (reference[0] != '#')
        return NULL;
    while (here && *at) {
        if (*at != '/' || !json_is_object (here) || !(at = next_step (at, key, sizeof key)))
            return NULL;
        const SchemaForm form = schema_form (key);
        const json_t *value = json_object_get (here, key);
        here = form == FORM_SCHEMA ? value : NULL;
        if (form != FORM_SCHEMAS && form != FORM_SCHEMA_MAP)
            continue;
        if (*at != '/' || !(at = next_step (at, key, sizeof key)))
            return NULL;
        here = form == FORM_SCHEMAS ? item_at (value, key) : json_object_get (value, key);
    }
    return here;
}

/* What a schema applies to the value that it is itself applied to. */
static SchemaCircle walk (Schema *s, const json_t *schema, int depth)
{
    static const char *const one[] = {"not", "if", "then", "else"}, *const many[] = {"allOf", "anyOf", "oneOf"};
    const json_t *reference = json_object_get (schema, "$ref");
    const json_t *target = json_is_string (reference) ? schema_target (s->root, json_string_value (reference)) : NULL;
    SchemaCircle found = depth > SCHEMA_MAX_NESTED ? CIRCLE_LIMIT : target ? schema_follow (s, target, depth + 1) : CIRCLE_NONE;
    for (size_t i = 0; i < sizeof one / sizeof *one && found == CIRCLE_NONE; i++)
        if (json_object_get (schema, one[i]))
            found = walk (s, json_object_get (schema, one[i]), depth + 1);
    for (size_t i = 0; i < sizeof many / sizeof *many && found == CIRCLE_NONE; i++) {
        const json_t *list = json_object_get (schema, many[i]);
        for (size_t k = 0; k < json_array_size (list) && found == CIRCLE_NONE; k++)
            found = walk (s, json_array_get (list, k), depth + 1);
    }
    return found;
}

SchemaCircle schema_follow (Schema *s, const json_t *target, int depth)
{
    size_t i = 0;
    while (i < s->n_targets && s->targets[i].node != target)
        i++;
    if (i < s->n_targets)
        return s->targets[i].done ? CIRCLE_NONE : CIRCLE_FOUND;
    if (s->n_targets == SCHEMA_MAX_TARGETS)
        return CIRCLE_LIMIT;
    if (DPS_GROW (s->targets, s->n_targets, s->targets_capacity))
        return CIRCLE_NOMEM;
    s->targets[s->n_targets++] = (SchemaTarget){.node = target};
    const SchemaCircle found = walk (s, target, depth + 1);
    s->targets[i].done = found == CIRCLE_NONE;
    return found;
}
