/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_order.c: filters that compare: sort, dictsort, groupby, unique, min, max. */
#include <string.h>

#include "token/jinja.h"

/* What an item is ordered by: itself or an attribute, strings in small letters unless case_sensitive. */
static int sort_key (DpsJinja *in, const DpsJval *item, const DpsJval *attribute, int case_sensitive, DpsJval *out)
{
    *out = *item;
    if (attribute && attribute->kind != DPS_J_NONE && dps__jinja_at_path (in, item, attribute, out))
        return -1;
    if (out->kind != DPS_J_STR || case_sensitive)
        return 0;
    DpsJval text = *out;
    return dps__jinja_case (in, &text, DPS_J_LOWER, out);
}

/* Merge sort of indices by keys: stable, n log n. */
static int sort_range (DpsJinja *in, const DpsJval *keys, size_t *order, size_t *room, size_t n, int descending)
{
    if (n < 2)
        return 0;
    size_t half = n / 2, i = 0, j = half, k = 0;
    if (sort_range (in, keys, order, room, half, descending) || sort_range (in, keys, order + half, room, n - half, descending))
        return -1;
    while (i < half && j < n) {
        int compared;
        if (dps__jinja_compare (in, &keys[order[i]], &keys[order[j]], &compared))
            return -1;
        room[k++] = (descending ? compared < 0 : compared > 0) ? order[j++] : order[i++];
    }
    while (i < half)
        room[k++] = order[i++];
    while (j < n)
        room[k++] = order[j++];
    memcpy (order, room, n * sizeof *order);
    return 0;
}

static int sort_items (DpsJinja *in, const DpsJlist *items, const DpsJval *attribute, int case_sensitive, int descending, DpsJlist *out)
{
    DpsJval *keys = dps__jinja_alloc (in, items->n, sizeof *keys);
    size_t *order = keys ? dps__jinja_alloc (in, items->n, sizeof *order) : NULL;
    size_t *room = order ? dps__jinja_alloc (in, items->n, sizeof *room) : NULL;
    if (!room)
        return -1;
    for (size_t i = 0; i < items->n; i++) {
        order[i] = i;
        if (dps__jinja_spend (in, 1) || sort_key (in, &items->items[i], attribute, case_sensitive, &keys[i]))
            return -1;
    }
    if (sort_range (in, keys, order, room, items->n, descending))
        return -1;
    for (size_t i = 0; i < items->n; i++)
        if (dps__jinja_append (in, out, items->items[order[i]]))
            return -1;
    return 0;
}

static int filter_sort (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJlist items;
    if (dps__jinja_items (in, v, &items) || dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    return sort_items (in, &items, dps__jinja_arg (args, 2, "attribute"), dps__jinja_arg_flag (args, 1, "case_sensitive", 0),
                       dps__jinja_arg_flag (args, 0, "reverse", 0), out->list);
}

static int filter_dictsort (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *by = dps__jinja_arg (args, 1, "by");
    DpsJargs none = {0};
    int known;
    DpsJval pairs, path = dps__jinja_int (by && by->kind == DPS_J_STR && by->len && by->s[0] == 'v');
    if (v->kind != DPS_J_DICT)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "dictsort needs a mapping, not %s", dps__jinja_kind (v));
    if (dps__jinja_filter (in, "items", v, &none, &pairs, &known) || dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    return sort_items (in, pairs.list, &path, dps__jinja_arg_flag (args, 0, "case_sensitive", 0),
                       dps__jinja_arg_flag (args, 2, "reverse", 0), out->list);
}

static int extreme (DpsJinja *in, const DpsJval *v, const DpsJargs *args, int sign, DpsJval *out)
{
    DpsJlist items;
    DpsJval best, key;
    if (dps__jinja_items (in, v, &items))
        return -1;
    *out = items.n ? items.items[0] : dps__jinja_undefined (in, "the sequence was empty");
    for (size_t i = 0; i < items.n; i++) {
        int compared = 1;
        if (sort_key (in, &items.items[i], dps__jinja_arg (args, 1, "attribute"), dps__jinja_arg_flag (args, 0, "case_sensitive", 0),
                      &key) ||
            (i && dps__jinja_compare (in, &key, &best, &compared)))
            return -1;
        if (i && compared * sign <= 0)
            continue;
        best = key;
        *out = items.items[i];
    }
    return in->status == DPS_OK ? 0 : -1;
}

static int filter_min (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out) { return extreme (in, v, args, -1, out); }
static int filter_max (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out) { return extreme (in, v, args, 1, out); }

static int filter_unique (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    DpsJlist items, seen = {0};
    if (dps__jinja_items (in, v, &items) || dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    for (size_t i = 0; i < items.n; i++) {
        DpsJval key;
        int known = 0;
        if (dps__jinja_spend (in, seen.n / 8) ||
            sort_key (in, &items.items[i], dps__jinja_arg (args, 1, "attribute"), dps__jinja_arg_flag (args, 0, "case_sensitive", 0), &key))
            return -1;
        for (size_t k = 0; k < seen.n && !known; k++)
            known = dps__jinja_equal (in, &seen.items[k], &key);
        if (!known && (dps__jinja_append (in, &seen, key) || dps__jinja_append (in, out->list, items.items[i])))
            return -1;
    }
    return 0;
}

/* (grouper, items) pairs, in order of the attribute. */
static int filter_groupby (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out)
{
    const DpsJval *attribute = dps__jinja_arg (args, 0, "attribute");
    int exact = dps__jinja_arg_flag (args, 2, "case_sensitive", 0);
    DpsJlist items, sorted = {0};
    DpsJval group = {0}, last = {0};
    if (!attribute)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "groupby needs an attribute");
    if (dps__jinja_items (in, v, &items) || sort_items (in, &items, attribute, exact, 0, &sorted) ||
        dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    for (size_t i = 0; i < sorted.n; i++) {
        DpsJval key, shown, pair;
        if (sort_key (in, &sorted.items[i], attribute, exact, &key) || dps__jinja_at_path (in, &sorted.items[i], attribute, &shown))
            return -1;
        if (i == 0 || !dps__jinja_equal (in, &key, &last)) {
            if (dps__jinja_new_list (in, DPS_J_LIST, &group) || dps__jinja_new_list (in, DPS_J_TUPLE, &pair) ||
                dps__jinja_append (in, pair.list, shown) || dps__jinja_append (in, pair.list, group) ||
                dps__jinja_append (in, out->list, pair))
                return -1;
        }
        last = key;
        if (dps__jinja_append (in, group.list, sorted.items[i]))
            return -1;
    }
    return 0;
}

static const DpsJfilters filters[] = {
    {"dictsort", filter_dictsort}, {"groupby", filter_groupby}, {"max", filter_max}, {"min", filter_min},
    {"sort", filter_sort},         {"unique", filter_unique},   {NULL, NULL},
};

const DpsJfilters *dps__jinja_order_filters (void) { return filters; }
