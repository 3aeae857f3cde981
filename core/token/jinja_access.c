/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_access.c: what is in a value: x.name, x[key] and slices, as Jinja and Python look them up. */
#include <string.h>

#include "token/jinja_node.h"

int dps__jinja_undefined_used (DpsJinja *in, const DpsJval *v)
{
    return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s", v->s ? v->s : "an undefined value is used");
}

/* What x.name is on loop, macros and namespaces; *found 0 for other kinds and names. */
static int own_attribute (DpsJinja *in, const DpsJval *object, const DpsJval *name, DpsJval *out, int *found)
{
    static const char *const loop_names[] = {"index",  "index0",   "revindex", "revindex0", "first",  "last",
                                             "length", "previtem", "nextitem", "depth",     "depth0", NULL};
    *found = 0;
    if (object->kind == DPS_J_NAMESPACE) {
        const DpsJval *v = dps__jinja_get (in, object->dict, name);
        *found = 1;
        *out = v ? *v : dps__jinja_undefined (in, "the namespace has no attribute '%.*s'", (int)(name->len < 80 ? name->len : 80), name->s);
        return 0;
    }
    if (object->kind == DPS_J_MACRO && name->len == 4 && !memcmp (name->s, "name", 4)) {
        *found = 1;
        *out = object->macro->node->kind == DPS_JN_MACRO ? object->macro->node->value : dps__jinja_word ("caller");
        return 0;
    }
    if (object->kind != DPS_J_LOOP)
        return 0;
    const DpsJloop *loop = object->loop;
    int64_t i = (int64_t)loop->index, n = (int64_t)loop->items.n;
    int which = 0;
    while (loop_names[which] && (strlen (loop_names[which]) != name->len || memcmp (loop_names[which], name->s, name->len)))
        which++;
    *found = loop_names[which] != NULL;
    switch (which) {
    case 0: *out = dps__jinja_int (i + 1); break;
    case 1: *out = dps__jinja_int (i); break;
    case 2: *out = dps__jinja_int (n - i); break;
    case 3: *out = dps__jinja_int (n - i - 1); break;
    case 4: *out = dps__jinja_bool (i == 0); break;
    case 5: *out = dps__jinja_bool (i == n - 1); break;
    case 6: *out = dps__jinja_int (n); break;
    case 7: *out = i > 0 ? loop->items.items[i - 1] : dps__jinja_undefined (in, "there is no previous item"); break;
    case 8: *out = i + 1 < n ? loop->items.items[i + 1] : dps__jinja_undefined (in, "there is no next item"); break;
    case 9: *out = dps__jinja_int (loop->depth + 1); break;
    case 10: *out = dps__jinja_int (loop->depth); break;
    default: break;
    }
    return 0;
}

static int bound_method (DpsJinja *in, const DpsJval *object, const DpsJval *name, DpsJval *out)
{
    const char *method;
    if (!dps__jinja_has_method (object, name->s, name->len, &method))
        return 0;
    DpsJmethod *bound = dps__jinja_alloc (in, 1, sizeof *bound);
    if (!bound)
        return -1;
    *bound = (DpsJmethod){.self = *object, .name = method};
    *out = (DpsJval){.kind = DPS_J_METHOD, .method = bound};
    return 1;
}

static DpsJval missing (DpsJinja *in, const DpsJval *object, const DpsJval *key)
{
    if (object->kind == DPS_J_NONE)
        return dps__jinja_undefined (in, "'None' has no attribute '%.*s'", (int)(key->kind == DPS_J_STR && key->len < 80 ? key->len : 0),
                                     key->kind == DPS_J_STR ? key->s : "");
    if (key->kind == DPS_J_STR)
        return dps__jinja_undefined (in, "'%s object' has no attribute '%.*s'", dps__jinja_kind (object),
                                     (int)(key->len < 80 ? key->len : 80), key->s);
    return dps__jinja_undefined (in, "'%s object' has no element %lld", dps__jinja_kind (object),
                                 (long long)(key->kind == DPS_J_INT ? key->i : 0));
}

/* x[key] proper; *found 0 when there is none. */
static int subscript (DpsJinja *in, const DpsJval *object, const DpsJval *key, DpsJval *out, int *found)
{
    *found = 0;
    if (object->kind == DPS_J_DICT) {
        if (dps__jinja_spend (in, object->dict->n / 16))
            return -1;
        const DpsJval *v = dps__jinja_get (in, object->dict, key);
        *found = v != NULL;
        if (v)
            *out = *v;
        return 0;
    }
    if (key->kind != DPS_J_INT && key->kind != DPS_J_BOOL)
        return 0;
    int list = object->kind == DPS_J_LIST || object->kind == DPS_J_TUPLE;
    if (!list && object->kind != DPS_J_STR)
        return 0;
    if (!list && dps__jinja_spend (in, object->len / 64))
        return -1;
    int64_t n = (int64_t)(list ? object->list->n : dps__jinja_length (object)), i = key->i < 0 ? key->i + n : key->i;
    if (i < 0 || i >= n)
        return 0;
    *found = 1;
    *out = list ? object->list->items[i] : dps__jinja_slice_text (object, (size_t)i, (size_t)i + 1);
    return 0;
}

/* x.name: attribute or method first, then item; x[key]: the other way round. */
int dps__jinja_attribute (DpsJinja *in, const DpsJval *object, const char *name, size_t len, DpsJval *out)
{
    DpsJval key = dps__jinja_text (name, len);
    int found;
    if (object->kind == DPS_J_UNDEFINED)
        return dps__jinja_undefined_used (in, object);
    if (own_attribute (in, object, &key, out, &found) || found)
        return in->status == DPS_OK ? 0 : -1;
    int method = bound_method (in, object, &key, out);
    if (method)
        return method < 0 ? -1 : 0;
    if (subscript (in, object, &key, out, &found))
        return -1;
    if (!found)
        *out = missing (in, object, &key);
    return in->status == DPS_OK ? 0 : -1;
}

int dps__jinja_item (DpsJinja *in, const DpsJval *object, const DpsJval *key, DpsJval *out)
{
    int found;
    if (object->kind == DPS_J_UNDEFINED)
        return dps__jinja_undefined_used (in, object);
    if (subscript (in, object, key, out, &found) || found)
        return in->status == DPS_OK ? 0 : -1;
    if (key->kind == DPS_J_STR) {
        if (own_attribute (in, object, key, out, &found) || found)
            return in->status == DPS_OK ? 0 : -1;
        int method = bound_method (in, object, key, out);
        if (method)
            return method < 0 ? -1 : 0;
    }
    *out = missing (in, object, key);
    return in->status == DPS_OK ? 0 : -1;
}

int dps__jinja_at_path (DpsJinja *in, const DpsJval *v, const DpsJval *path, DpsJval *out)
{
    *out = *v;
    if (path->kind != DPS_J_STR)
        return dps__jinja_item (in, v, path, out);
    for (size_t at = 0; at <= path->len;) {
        const char *dot = memchr (path->s + at, '.', path->len - at);
        size_t end = dot ? (size_t)(dot - path->s) : path->len;
        DpsJval key = dps__jinja_text (path->s + at, end - at), object = *out;
        int digits = key.len > 0 && key.len < 10;
        int64_t index = 0;
        for (size_t i = 0; i < key.len && digits; i++) {
            digits = key.s[i] >= '0' && key.s[i] <= '9';
            index = index * 10 + (key.s[i] - '0');
        }
        if (digits)
            key = dps__jinja_int (index);
        if (dps__jinja_item (in, &object, &key, out))
            return -1;
        at = end + 1;
    }
    return 0;
}

static int64_t clamp (int64_t i, int64_t n, int64_t low, int64_t high)
{
    i = i < 0 && i >= -n ? i + n : i < -n ? low : i;
    return i < low ? low : i > high ? high : i;
}

int dps__jinja_slice (DpsJinja *in, const DpsJval *object, int64_t start, int64_t stop, int64_t step, DpsJval *out)
{
    const int list = object->kind == DPS_J_LIST || object->kind == DPS_J_TUPLE;
    if (!list && object->kind != DPS_J_STR) {
        *out = dps__jinja_undefined (in, "a value of type %s has no slices", dps__jinja_kind (object));
        return in->status == DPS_OK ? 0 : -1;
    }
    int64_t n = (int64_t)(list ? object->list->n : dps__jinja_length (object));
    start = step > 0 ? clamp (start, n, 0, n) : clamp (start, n, -1, n - 1);
    stop = step > 0 ? clamp (stop, n, 0, n) : stop == INT64_MIN ? -1 : clamp (stop, n, -1, n - 1);
    if (dps__jinja_spend (in, list ? (size_t)1 : object->len / 64))
        return -1;
    if (!list && step == 1) {
        *out = dps__jinja_slice_text (object, (size_t)start, (size_t)(stop > start ? stop : start));
        return 0;
    }
    DpsJlist items;
    DpsBuf text = {0};
    if (dps__jinja_items (in, object, &items) || (list && dps__jinja_new_list (in, object->kind, out)))
        return -1;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (list ? dps__jinja_append (in, out->list, items.items[i]) : dps_buf_add (&text, items.items[i].s, items.items[i].len)) {
            dps_buf_free (&text);
            return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for a slice");
        }
        if (__builtin_add_overflow (i, step, &i))
            break;
    }
    return list ? 0 : dps__jinja_take (in, &text, out);
}
