/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jinja_methods.c: methods of dict, list and loop; those of str are in jinja_strings.c. Methods that would change their object do not
 * exist: the sandbox is immutable.
 */
#include <string.h>

#include "token/jinja_node.h"

static int bad_argument (DpsJinja *in, const char *name)
{
    return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s(): an argument is missing or of the wrong type", name);
}

/* items, keys, values, copy of a dict */
static int dict_parts (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJdict *d = self->dict;
    (void)args;
    if (dps__jinja_spend (in, d->n / 4) ||
        (name[0] == 'c' ? dps__jinja_new_dict (in, DPS_J_DICT, out) : dps__jinja_new_list (in, DPS_J_LIST, out)))
        return -1;
    for (size_t i = 0; i < d->n; i++) {
        DpsJval pair;
        int bad;
        if (name[0] == 'c')
            bad = dps__jinja_put (in, out->dict, d->keys[i], d->values[i]);
        else if (name[0] == 'i')
            bad = dps__jinja_new_list (in, DPS_J_TUPLE, &pair) || dps__jinja_append (in, pair.list, d->keys[i]) ||
                  dps__jinja_append (in, pair.list, d->values[i]) || dps__jinja_append (in, out->list, pair);
        else
            bad = dps__jinja_append (in, out->list, name[0] == 'k' ? d->keys[i] : d->values[i]);
        if (bad)
            return -1;
    }
    return 0;
}

static int dict_get (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *key = dps__jinja_arg (args, 0, NULL), *missing = dps__jinja_arg (args, 1, NULL);
    if (!key)
        return bad_argument (in, name);
    if (dps__jinja_spend (in, self->dict->n / 16))
        return -1;
    const DpsJval *v = dps__jinja_get (in, self->dict, key);
    *out = v ? *v : missing ? *missing : (DpsJval){.kind = DPS_J_NONE};
    return 0;
}

/* count, index, copy of a list */
static int list_parts (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *what = dps__jinja_arg (args, 0, NULL);
    int64_t count = 0;
    if (!strcmp (name, "copy")) {
        *out = *self; /* nothing can change it */
        return 0;
    }
    if (!what)
        return bad_argument (in, name);
    if (dps__jinja_spend (in, self->list->n / 4))
        return -1;
    for (size_t i = 0; i < self->list->n; i++) {
        int same = dps__jinja_equal (in, &self->list->items[i], what);
        count += same;
        if (same && name[0] == 'i') {
            *out = dps__jinja_int ((int64_t)i);
            return 0;
        }
    }
    *out = dps__jinja_int (count);
    return name[0] == 'i' ? dps__jinja_fail (in, DPS_ERR_FORMAT, "index(): the value is not in the list") : 0;
}

/* cycle, changed of loop */
static int loop_parts (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    DpsJval now;
    if (args->pos.n == 0)
        return bad_argument (in, name);
    if (name[1] == 'y') {
        *out = args->pos.items[self->loop->index % args->pos.n];
        return 0;
    }
    if (dps__jinja_new_list (in, DPS_J_TUPLE, &now))
        return -1;
    *now.list = args->pos;
    *out = dps__jinja_bool (self->loop->changed.kind != DPS_J_TUPLE || !dps__jinja_equal (in, &self->loop->changed, &now));
    self->loop->changed = now;
    return 0;
}

static const DpsJmethods methods[] = {
    {DPS_J_DICT, "items", dict_parts},
    {DPS_J_DICT, "keys", dict_parts},
    {DPS_J_DICT, "values", dict_parts},
    {DPS_J_DICT, "copy", dict_parts},
    {DPS_J_DICT, "get", dict_get},
    {DPS_J_LIST, "count", list_parts},
    {DPS_J_LIST, "index", list_parts},
    {DPS_J_LIST, "copy", list_parts},
    {DPS_J_TUPLE, "count", list_parts},
    {DPS_J_TUPLE, "index", list_parts},
    {DPS_J_LOOP, "cycle", loop_parts},
    {DPS_J_LOOP, "changed", loop_parts},
    {0, NULL, NULL},
};

static const DpsJmethods *find_method (const DpsJval *self, const char *name, size_t len)
{
    const DpsJmethods *m = self->kind == DPS_J_STR ? dps__jinja_string_methods () : methods;
    while (m->name && (m->kind != self->kind || strlen (m->name) != len || memcmp (m->name, name, len)))
        m++;
    return m->name ? m : NULL;
}

int dps__jinja_has_method (const DpsJval *self, const char *name, size_t len, const char **out_name)
{
    const DpsJmethods *m = find_method (self, name, len);
    if (!m)
        return 0;
    *out_name = m->name;
    return 1;
}

int dps__jinja_method (DpsJinja *in, const DpsJmethod *method, DpsJargs *args, DpsJval *out)
{
    return find_method (&method->self, method->name, strlen (method->name))->call (in, &method->self, args, method->name, out);
}
