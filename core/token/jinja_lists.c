/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_lists.c: filters on lists, dicts and whatever else can be gone through. Results are lists. */
#include <string.h>

#include "token/jinja_node.h"

/* Drop the first n positional arguments. */
static DpsJargs rest_of (const DpsJargs *args, size_t n)
{
    DpsJargs rest = *args;
    rest.pos.items += n < args->pos.n ? n : args->pos.n;
    rest.pos.n -= n < args->pos.n ? n : args->pos.n;
    rest.pos.capacity = 0;
    return rest;
}

/* map, select and the like take what is false (none above all) for an empty list, as jinja2's do. */
static int items_or_none (DpsJinja *in, const DpsJval *v, DpsJlist *out)
{
    *out = (DpsJlist){0};
    return dps__jinja_truth (v) ? dps__jinja_items (in, v, out) : 0;
}

static int filter_map (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJlist items;
    const DpsJval *attribute = args->pos.n ? NULL : dps__jinja_get_text (&args->named, "attribute");
    const DpsJval *missing = dps__jinja_get_text (&args->named, "default"), *name = dps__jinja_arg (args, 0, NULL);
    DpsJargs rest = rest_of (args, 1);
    if (!attribute && (!name || name->kind != DPS_J_STR))
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "map needs a filter or an attribute");
    if (items_or_none (in, v, &items) || dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    for (size_t i = 0; i < items.n; i++) {
        DpsJval one;
        int known = 1;
        if (dps__jinja_spend (in, 1) || (attribute ? dps__jinja_at_path (in, &items.items[i], attribute, &one)
                                                   : dps__jinja_filter (in, name->s, &items.items[i], &rest, &one, &known)))
            return -1;
        if (!known)
            return dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "there is no filter '%.60s'", name->s);
        if (attribute && missing && one.kind == DPS_J_UNDEFINED)
            one = *missing;
        if (dps__jinja_append (in, out->list, one))
            return -1;
    }
    return 0;
}

/* select, reject, selectattr, rejectattr: by a test, or by truth when none is named. */
static int choose (DpsJinja *in, const DpsJval *v, const DpsJargs *args, int wanted, int by_attribute, DpsJval *out)
{
    DpsJlist items;
    const DpsJval *path = by_attribute ? dps__jinja_arg (args, 0, NULL) : NULL;
    const DpsJval *test = dps__jinja_arg (args, by_attribute ? 1 : 0, NULL);
    DpsJargs rest = rest_of (args, by_attribute ? 2 : 1);
    if ((by_attribute && !path) || (test && test->kind != DPS_J_STR))
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "select: an attribute or test is missing or no string");
    if (items_or_none (in, v, &items) || dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    for (size_t i = 0; i < items.n; i++) {
        DpsJval one = items.items[i];
        int holds, known = 1;
        if (dps__jinja_spend (in, 1) || (path && dps__jinja_at_path (in, &items.items[i], path, &one)))
            return -1;
        if (!test)
            holds = dps__jinja_truth (&one);
        else if (dps__jinja_test (in, test->s, &one, &rest, &holds, &known))
            return -1;
        if (!known)
            return dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "there is no test '%.60s'", test->s);
        if (holds == wanted && dps__jinja_append (in, out->list, items.items[i]))
            return -1;
    }
    return 0;
}

static int filter_select (DpsJinja *in, const DpsJval *v, const DpsJargs *a, DpsJval *out) { return choose (in, v, a, 1, 0, out); }
static int filter_reject (DpsJinja *in, const DpsJval *v, const DpsJargs *a, DpsJval *out) { return choose (in, v, a, 0, 0, out); }
static int filter_selectattr (DpsJinja *in, const DpsJval *v, const DpsJargs *a, DpsJval *out) { return choose (in, v, a, 1, 1, out); }
static int filter_rejectattr (DpsJinja *in, const DpsJval *v, const DpsJargs *a, DpsJval *out) { return choose (in, v, a, 0, 1, out); }

static int filter_list (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJlist items;
    (void)args;
    if (dps__jinja_items (in, v, &items) || dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    *out->list = items;
    return 0;
}

static int filter_items (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJmethod method = {.self = *v, .name = "items"};
    DpsJargs none = {0};
    (void)args;
    if (v->kind == DPS_J_UNDEFINED)
        return dps__jinja_new_list (in, DPS_J_LIST, out);
    if (v->kind != DPS_J_DICT)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "items needs a mapping, not %s", dps__jinja_kind (v));
    return dps__jinja_method (in, &method, &none, out);
}

static int end_of (DpsJinja *in, const DpsJval *v, int last, DpsJval *out)
{
    DpsJlist items;
    if (dps__jinja_items (in, v, &items))
        return -1;
    *out = items.n ? items.items[last ? items.n - 1 : 0] : dps__jinja_undefined (in, "the sequence was empty");
    return in->status == DPS_OK ? 0 : -1;
}

static int filter_first (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    (void)args;
    return end_of (in, v, 0, out);
}

static int filter_last (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    (void)args;
    return end_of (in, v, 1, out);
}

static int filter_join (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *given = dps__jinja_arg (args, 0, "d"), *attribute = dps__jinja_arg (args, 1, "attribute");
    DpsJval separator = dps__jinja_text ("", 0);
    DpsJlist items;
    DpsBuf text = {0};
    int bad = dps_buf_add (&text, "", 0) ? dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for join") : 0;
    bad = bad || (given && dps__jinja_to_text (in, given, &separator)) || dps__jinja_items (in, v, &items);
    for (size_t i = 0; !bad && i < items.n; i++) {
        DpsJval one = items.items[i];
        if ((i && dps_buf_add (&text, separator.s, separator.len)) || text.len > DPS_JINJA_OUTPUT)
            bad = dps__jinja_fail (in, DPS_ERR_LIMIT, "join makes too long a text");
        bad = bad || dps__jinja_spend (in, 1) || (attribute && dps__jinja_at_path (in, &items.items[i], attribute, &one)) ||
              dps__jinja_str (in, &one, &text);
    }
    if (!bad)
        return dps__jinja_take (in, &text, out);
    dps_buf_free (&text);
    return -1;
}

static int filter_reverse (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJlist items;
    DpsBuf text = {0};
    (void)args;
    if (dps__jinja_items (in, v, &items) || (v->kind != DPS_J_STR && dps__jinja_new_list (in, DPS_J_LIST, out)))
        return -1;
    for (size_t i = items.n; i-- > 0;)
        if (v->kind == DPS_J_STR ? dps_buf_add (&text, items.items[i].s, items.items[i].len)
                                 : dps__jinja_append (in, out->list, items.items[i])) {
            dps_buf_free (&text);
            return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for reverse");
        }
    return v->kind == DPS_J_STR ? dps__jinja_take (in, &text, out) : 0;
}

static int filter_sum (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *attribute = dps__jinja_arg (args, 0, "attribute"), *start = dps__jinja_arg (args, 1, "start");
    DpsJlist items;
    *out = start ? *start : dps__jinja_int (0);
    if (dps__jinja_items (in, v, &items))
        return -1;
    for (size_t i = 0; i < items.n; i++) {
        DpsJval one = items.items[i], sum = *out;
        if ((attribute && attribute->kind != DPS_J_NONE && dps__jinja_at_path (in, &items.items[i], attribute, &one)) ||
            dps__jinja_spend (in, 1) || dps__jinja_binary (in, '+', &sum, &one, out))
            return -1;
    }
    return 0;
}

/* Rows of n items, the last filled up with `fill_with`. */
static int filter_batch (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *fill = dps__jinja_arg (args, 1, "fill_with");
    DpsJlist items;
    DpsJval row = {0};
    int64_t n;
    if (dps__jinja_arg_int (in, args, 0, "linecount", 0, &n) || dps__jinja_items (in, v, &items) ||
        dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    if (n < 1 || n > DPS_JINJA_RANGE)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "batch needs rows of 1 to %d items", DPS_JINJA_RANGE);
    for (size_t i = 0; i < items.n; i++) {
        if (i % (size_t)n == 0 && (dps__jinja_new_list (in, DPS_J_LIST, &row) || dps__jinja_append (in, out->list, row)))
            return -1;
        if (dps__jinja_append (in, row.list, items.items[i]))
            return -1;
    }
    while (row.list && fill && fill->kind != DPS_J_NONE && row.list->n < (size_t)n)
        if (dps__jinja_append (in, row.list, *fill))
            return -1;
    return 0;
}

/* n columns as even as can be, the longer ones first. */
static int filter_slice (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *fill = dps__jinja_arg (args, 1, "fill_with");
    DpsJlist items;
    int64_t n;
    if (dps__jinja_arg_int (in, args, 0, "slices", 0, &n) || dps__jinja_items (in, v, &items) || dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    if (n < 1 || n > DPS_JINJA_RANGE)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "slice needs 1 to %d columns", DPS_JINJA_RANGE);
    for (size_t column = 0, at = 0; column < (size_t)n; column++) {
        size_t longer = column < items.n % (size_t)n, end = at + items.n / (size_t)n + longer;
        DpsJval row;
        if (dps__jinja_spend (in, 1) || dps__jinja_new_list (in, DPS_J_LIST, &row) || dps__jinja_append (in, out->list, row))
            return -1;
        for (; at < end; at++)
            if (dps__jinja_append (in, row.list, items.items[at]))
                return -1;
        if (fill && fill->kind != DPS_J_NONE && !longer && items.n % (size_t)n && dps__jinja_append (in, row.list, *fill))
            return -1;
    }
    return 0;
}

static const DpsJfilters filters[] = {
    {"batch", filter_batch},     {"first", filter_first},   {"items", filter_items},
    {"join", filter_join},       {"last", filter_last},     {"list", filter_list},
    {"map", filter_map},         {"reject", filter_reject}, {"rejectattr", filter_rejectattr},
    {"reverse", filter_reverse}, {"select", filter_select}, {"selectattr", filter_selectattr},
    {"slice", filter_slice},     {"sum", filter_sum},       {NULL, NULL},
};

const DpsJfilters *dps__jinja_list_filters (void) { return filters; }
