/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_value.c: the arena, lists and dicts, and Python's rules for truth, equality and order. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "token/jinja_node.h"
#include "token/utf8.h"

enum { ARENA_BLOCK = 32 * 1024 };

int dps__jinja_fail (DpsJinja *in, DpsStatus code, const char *fmt, ...)
{
    char text[700];
    if (in->status != DPS_OK)
        return -1; /* the first failure is the one to tell */
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (text, sizeof text, fmt, ap);
    va_end (ap);
    in->status = dps_fail (in->err, code, "%s:%d: %s", in->where, in->line, text);
    return -1;
}

int dps__jinja_spend (DpsJinja *in, size_t n)
{
    if (n > (size_t)in->steps)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "the template takes more than %d steps", DPS_JINJA_STEPS);
    in->steps -= (long)n;
    return 0;
}

void *dps__jinja_alloc (DpsJinja *in, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow (n, size, &bytes) || bytes > in->arena_limit - in->arena_bytes - 16) {
        dps__jinja_fail (in, DPS_ERR_LIMIT, "the template takes more than %zu bytes of memory", in->arena_limit);
        return NULL;
    }
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > (size_t)(in->free_end - in->free_at)) {
        size_t room = bytes > ARENA_BLOCK / 4 ? bytes : ARENA_BLOCK;
        DpsJblock *block = dps_calloc (1, room + sizeof (DpsJblock) + 15);
        if (!block) {
            dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for the template");
            return NULL;
        }
        block->next = in->blocks;
        in->blocks = block;
        char *start = (char *)(((uintptr_t)(block + 1) + 15) & ~(uintptr_t)15);
        if (room == bytes) { /* a block of its own; what is left of the last one stays in use */
            in->arena_bytes += bytes;
            return start;
        }
        in->free_at = start;
        in->free_end = start + room;
    }
    void *p = in->free_at;
    in->free_at += bytes;
    in->arena_bytes += bytes;
    return p;
}

void dps__jinja_free (DpsJinja *in)
{
    while (in->blocks) {
        DpsJblock *next = in->blocks->next;
        dps_free (in->blocks);
        in->blocks = next;
    }
}

/* Room for one more item of arrays that double. */
static void *widen (DpsJinja *in, void *items, size_t n, size_t *capacity, size_t size)
{
    if (n < *capacity)
        return items;
    size_t wider = *capacity ? 2 * *capacity : 4;
    void *fresh = dps__jinja_alloc (in, wider, size);
    if (!fresh)
        return NULL;
    if (n)
        memcpy (fresh, items, n * size);
    *capacity = wider;
    return fresh;
}

int dps__jinja_append (DpsJinja *in, DpsJlist *list, DpsJval v)
{
    DpsJval *items = widen (in, list->items, list->n, &list->capacity, sizeof v);
    if (!items)
        return -1;
    list->items = items;
    list->items[list->n++] = v;
    return 0;
}

/* Dicts are small here; long ones pay in steps when they are searched (dps__jinja_item). */
DpsJval *dps__jinja_get (DpsJinja *in, const DpsJdict *dict, const DpsJval *key)
{
    for (size_t i = 0; i < dict->n; i++)
        if (dps__jinja_equal (in, &dict->keys[i], key))
            return &dict->values[i];
    return NULL;
}

DpsJval *dps__jinja_get_text (const DpsJdict *dict, const char *key)
{
    DpsJval word = dps__jinja_word (key);
    return dps__jinja_get (NULL, dict, &word);
}

static int dict_append (DpsJinja *in, DpsJdict *dict, DpsJval key, DpsJval value)
{
    size_t capacity = dict->capacity;
    DpsJval *keys = widen (in, dict->keys, dict->n, &capacity, sizeof key);
    DpsJval *values = keys ? widen (in, dict->values, dict->n, &dict->capacity, sizeof value) : NULL;
    if (!values)
        return -1;
    dict->keys = keys;
    dict->values = values;
    dict->keys[dict->n] = key;
    dict->values[dict->n++] = value;
    return 0;
}

int dps__jinja_put (DpsJinja *in, DpsJdict *dict, DpsJval key, DpsJval value)
{
    if (dps__jinja_spend (in, dict->n / 16))
        return -1;
    if (key.kind == DPS_J_LIST || key.kind == DPS_J_DICT)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "a %s cannot be the key of a dict", dps__jinja_kind (&key));
    DpsJval *old = dps__jinja_get (in, dict, &key);
    if (!old)
        return dict_append (in, dict, key, value);
    *old = value;
    return 0;
}

int dps__jinja_new_list (DpsJinja *in, int kind, DpsJval *out)
{
    *out = (DpsJval){.kind = kind};
    out->list = dps__jinja_alloc (in, 1, sizeof *out->list);
    return out->list ? 0 : -1;
}

int dps__jinja_new_dict (DpsJinja *in, int kind, DpsJval *out)
{
    *out = (DpsJval){.kind = kind};
    out->dict = dps__jinja_alloc (in, 1, sizeof *out->dict);
    return out->dict ? 0 : -1;
}

static int object_from_json (DpsJinja *in, json_t *json, int depth, DpsJval *out)
{
    const char *key;
    json_t *child;
    if (dps__jinja_new_dict (in, DPS_J_DICT, out))
        return -1;
    json_object_foreach (json, key, child) {
        DpsJval value;
        if (dps__jinja_from_json (in, child, depth + 1, &value) || dict_append (in, out->dict, dps__jinja_word (key), value))
            return -1;
    }
    return 0;
}

/* Strings are borrowed: the JSON outlives the rendering. */
int dps__jinja_from_json (DpsJinja *in, json_t *json, int depth, DpsJval *out)
{
    *out = (DpsJval){.kind = DPS_J_NONE};
    if (depth > DPS_JINJA_NESTING)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "messages nested deeper than %d", DPS_JINJA_NESTING);
    switch (json ? json_typeof (json) : JSON_NULL) {
    case JSON_OBJECT: return object_from_json (in, json, depth, out);
    case JSON_ARRAY:
        if (dps__jinja_new_list (in, DPS_J_LIST, out))
            return -1;
        for (size_t i = 0; i < json_array_size (json); i++) {
            DpsJval item;
            if (dps__jinja_from_json (in, json_array_get (json, i), depth + 1, &item) || dps__jinja_append (in, out->list, item))
                return -1;
        }
        return 0;
    case JSON_STRING: *out = dps__jinja_text (json_string_value (json), json_string_length (json)); return 0;
    case JSON_INTEGER: *out = dps__jinja_int (json_integer_value (json)); return 0;
    case JSON_REAL: *out = (DpsJval){.kind = DPS_J_FLOAT, .f = json_real_value (json)}; return 0;
    case JSON_TRUE: *out = dps__jinja_bool (1); return 0;
    case JSON_FALSE: *out = dps__jinja_bool (0); return 0;
    default: return 0;
    }
}

DpsJval dps__jinja_text (const char *s, size_t len) { return (DpsJval){.kind = DPS_J_STR, .s = s, .len = len}; }
DpsJval dps__jinja_word (const char *s) { return dps__jinja_text (s, strlen (s)); }
DpsJval dps__jinja_int (int64_t i) { return (DpsJval){.kind = DPS_J_INT, .i = i}; }
DpsJval dps__jinja_bool (int b) { return (DpsJval){.kind = DPS_J_BOOL, .i = b != 0}; }

DpsJval dps__jinja_undefined (DpsJinja *in, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start (ap, fmt);
    int n = vsnprintf (text, sizeof text, fmt, ap);
    va_end (ap);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    char *kept = dps__jinja_alloc (in, len + 1, 1);
    if (kept)
        memcpy (kept, text, len);
    return (DpsJval){.kind = DPS_J_UNDEFINED, .s = kept};
}

int dps__jinja_take (DpsJinja *in, DpsBuf *b, DpsJval *out)
{
    char *kept = dps__jinja_spend (in, b->len / 64) ? NULL : dps__jinja_alloc (in, b->len + 1, 1);
    if (kept && b->len)
        memcpy (kept, b->data, b->len);
    *out = dps__jinja_text (kept, b->len);
    dps_buf_free (b);
    return kept ? 0 : -1;
}

const char *dps__jinja_kind (const DpsJval *v)
{
    static const char *const names[] = {"Undefined", "NoneType", "bool",      "int",   "float",    "str",    "list",
                                        "tuple",     "dict",     "Namespace", "Macro", "function", "method", "LoopContext"};
    return names[v->kind];
}

int dps__jinja_truth (const DpsJval *v)
{
    switch (v->kind) {
    case DPS_J_UNDEFINED:
    case DPS_J_NONE: return 0;
    case DPS_J_BOOL:
    case DPS_J_INT: return v->i != 0;
    case DPS_J_FLOAT: return v->f != 0;
    case DPS_J_STR: return v->len != 0;
    case DPS_J_LIST:
    case DPS_J_TUPLE: return v->list->n != 0;
    case DPS_J_DICT: return v->dict->n != 0;
    case DPS_J_LOOP: return v->loop->items.n != 0;
    default: return 1;
    }
}

int dps__jinja_number (const DpsJval *v, double *out)
{
    if (v->kind == DPS_J_FLOAT)
        *out = v->f;
    else if (v->kind == DPS_J_INT || v->kind == DPS_J_BOOL)
        *out = (double)v->i;
    else
        return 0;
    return 1;
}

static int is_integer (const DpsJval *v) { return v->kind == DPS_J_INT || v->kind == DPS_J_BOOL; }

/* Into a value that holds n others. Memory bounds how many there are, but neither how deep they lie nor how often one is reached: so this costs more
 * steps than a node does, and the longest comparison takes a tenth of a second. */
static int enter (DpsJinja *in, size_t n)
{
    int rc = in->depth >= DPS_JINJA_DEPTH ? dps__jinja_fail (in, DPS_ERR_LIMIT, "a value nested deeper than %d", DPS_JINJA_DEPTH)
                                          : dps__jinja_spend (in, 16 + n / 4);
    if (rc)
        in->steps = 0; /* a verdict cannot say that it failed: whatever is done next does */
    in->depth += !rc;
    return rc;
}

/* A list or dict is equal to itself, whatever it holds: Python looks at identity before it compares elements. */
static int equal_lists (DpsJinja *in, const DpsJlist *a, const DpsJlist *b)
{
    if (a == b)
        return 1;
    if (a->n != b->n || enter (in, a->n))
        return 0;
    size_t i = 0;
    while (i < a->n && dps__jinja_equal (in, &a->items[i], &b->items[i]))
        i++;
    in->depth--;
    return i == a->n;
}

static int equal_dicts (DpsJinja *in, const DpsJdict *a, const DpsJdict *b)
{
    if (a == b)
        return 1;
    if (a->n != b->n || enter (in, a->n + a->n * (a->n / 16)))
        return 0;
    size_t i = 0;
    for (const DpsJval *other; i < a->n; i++)
        if (!(other = dps__jinja_get (in, b, &a->keys[i])) || !dps__jinja_equal (in, &a->values[i], other))
            break;
    in->depth--;
    return i == a->n;
}

int dps__jinja_equal (DpsJinja *in, const DpsJval *a, const DpsJval *b)
{
    double x, y;
    if (is_integer (a) && is_integer (b))
        return a->i == b->i;
    if (dps__jinja_number (a, &x) && dps__jinja_number (b, &y))
        return x == y;
    if (a->kind != b->kind)
        return 0;
    switch (a->kind) {
    case DPS_J_UNDEFINED:
    case DPS_J_NONE: return 1;
    case DPS_J_STR: return a->len == b->len && !memcmp (a->s, b->s, a->len);
    case DPS_J_LIST:
    case DPS_J_TUPLE: return equal_lists (in, a->list, b->list);
    case DPS_J_DICT: return equal_dicts (in, a->dict, b->dict);
    default: return a->s == b->s; /* the same object; a function: the same index */
    }
}

int dps__jinja_compare (DpsJinja *in, const DpsJval *a, const DpsJval *b, int *out)
{
    double x, y;
    if (dps__jinja_spend (in, 1))
        return -1;
    if (is_integer (a) && is_integer (b)) {
        *out = (a->i > b->i) - (a->i < b->i);
        return 0;
    }
    if (dps__jinja_number (a, &x) && dps__jinja_number (b, &y)) {
        *out = (x > y) - (x < y);
        return 0;
    }
    if (a->kind == DPS_J_STR && b->kind == DPS_J_STR) { /* UTF-8 orders as code points do */
        size_t n = a->len < b->len ? a->len : b->len;
        int order = n ? memcmp (a->s, b->s, n) : 0;
        *out = order ? order : (a->len > b->len) - (a->len < b->len);
        return 0;
    }
    if (a->kind == b->kind && (a->kind == DPS_J_LIST || a->kind == DPS_J_TUPLE)) {
        size_t i = 0, n = a->list->n < b->list->n ? a->list->n : b->list->n;
        if (enter (in, 0))
            return -1;
        while (i < n && dps__jinja_equal (in, &a->list->items[i], &b->list->items[i]))
            i++;
        *out = (a->list->n > b->list->n) - (a->list->n < b->list->n);
        int rc = i < n ? dps__jinja_compare (in, &a->list->items[i], &b->list->items[i], out) : 0;
        in->depth--;
        return rc;
    }
    if (a->kind == DPS_J_UNDEFINED || b->kind == DPS_J_UNDEFINED)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s", a->kind == DPS_J_UNDEFINED && a->s ? a->s : b->s ? b->s : "an undefined value");
    return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s and %s have no order", dps__jinja_kind (a), dps__jinja_kind (b));
}

int dps__jinja_items (DpsJinja *in, const DpsJval *v, DpsJlist *out)
{
    *out = (DpsJlist){0};
    switch (v->kind) {
    case DPS_J_UNDEFINED: return 0;
    case DPS_J_LIST:
    case DPS_J_TUPLE:
        *out = (DpsJlist){.items = v->list->items, .n = v->list->n}; /* capacity 0: an append copies */
        return dps__jinja_spend (in, 1);
    case DPS_J_DICT: *out = (DpsJlist){.items = v->dict->keys, .n = v->dict->n}; return dps__jinja_spend (in, 1);
    case DPS_J_LOOP: *out = (DpsJlist){.items = v->loop->items.items, .n = v->loop->items.n}; return 0;
    case DPS_J_STR:
        if (dps__jinja_spend (in, v->len))
            return -1;
        for (size_t at = 0, n; at < v->len; at += n) {
            dps_utf8_next (v->s + at, v->len - at, &n);
            if (dps__jinja_append (in, out, dps__jinja_text (v->s + at, n)))
                return -1;
        }
        return 0;
    default: return dps__jinja_fail (in, DPS_ERR_FORMAT, "a value of type %s cannot be gone through", dps__jinja_kind (v));
    }
}
