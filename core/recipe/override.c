/* SPDX-License-Identifier: Apache-2.0 */
/* override.c: `--set key=value` on the tree of a recipe, before it is checked: an override is read as if the file had said it. */
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "recipe/internal.h"

/* One step of a path: the next name or index. Returns the rest, or NULL when the path is malformed. */
static const char *path_step (const char *path, char *name, size_t cap)
{
    size_t n;
    if (*path == '[') {
        n = strspn (path + 1, "0123456789");
        if (!n || n >= cap || path[1 + n] != ']')
            return NULL;
        memcpy (name, path + 1, n);
        name[n] = '\0';
        path += n + 2;
    } else {
        n = strcspn (path, ".[");
        if (!n || n >= cap)
            return NULL;
        memcpy (name, path, n);
        name[n] = '\0';
        path += n;
    }
    if (*path == '.')
        return path[1] ? path + 1 : NULL;
    return !*path || *path == '[' ? path : NULL;
}

/* In the top map a key is the same key under each of its names. */
static DpsYaml *find_item (const DpsYaml *in, const char *name, int top)
{
    if (in->type == DPS_YAML_MAP) {
        int id = top ? dps__key_find (name) : -1;
        for (DpsYaml *item = in->first; item; item = item->next)
            if (!strcmp (item->key->text, name) || (id >= 0 && dps__key_find (item->key->text) == id))
                return item;
        return NULL;
    }
    guint64 index;
    if (in->type != DPS_YAML_LIST || !g_ascii_string_to_unsigned (name, 10, 0, DPS_YAML_MAX_NODES, &index, NULL))
        return NULL;
    DpsYaml *item = in->first;
    while (item && index--)
        item = item->next;
    return item;
}

/* Put `value` in the place of `old` (NULL: append under `name`). */
static DpsStatus put (DpsYaml *in, DpsYaml *old, const char *name, DpsYaml *value, DpsYamlDoc *doc, DpsError *err)
{
    if (in->type == DPS_YAML_MAP) {
        value->key = dps_yaml_node (doc, DPS_YAML_SCALAR, name);
        if (!value->key)
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", doc->where);
    }
    if (!old) {
        if (in->type == DPS_YAML_LIST)
            return dps_yaml_fail (value, err, "the list has no item %s", name);
        dps_yaml_append (in, value);
        return DPS_OK;
    }
    DpsYaml **link = &in->first;
    while (*link != old)
        link = &(*link)->next;
    value->next = old->next;
    *link = value;
    if (in->last == old)
        in->last = value;
    return DPS_OK;
}

/* Walk to the last step of the path, making maps on the way, and put the value there. */
static DpsStatus apply (DpsYaml *root, const char *path, DpsYaml *value, DpsYamlDoc *doc, DpsError *err)
{
    DpsYaml *in = root;
    for (int top = 1;; top = 0) {
        char name[128];
        path = path_step (path, name, sizeof name);
        if (!path)
            return dps_yaml_fail (value, err, "expected a key or a path such as datasets[0].fraction before '='");
        if (in->type == DPS_YAML_SCALAR)
            return dps_yaml_fail (value, err, "'%s' lies in something that is no map or list", name);
        DpsYaml *item = find_item (in, name, top);
        if (!*path)
            return put (in, item, name, value, doc, err);
        if (!item || dps_yaml_is_null (item)) {
            DpsYaml *map = dps_yaml_node (doc, DPS_YAML_MAP, NULL);
            if (!map)
                return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", doc->where);
            DPS_TRY (put (in, item, name, map, doc, err));
            item = map;
        }
        in = item;
    }
}

DpsYaml *dps__recipe_item (const DpsYaml *root, const char *name) { return find_item (root, name, 1); }

DpsStatus dps__recipe_put (DpsYamlDoc *doc, DpsYaml *root, DpsYaml *value, DpsError *err)
{
    DpsYaml *key = value->key;
    DpsStatus st = put (root, find_item (root, key->text, 1), key->text, value, doc, err);
    if (key->line)
        value->key = key;
    return st;
}

DpsStatus dps__override (DpsYamlDoc *doc, const char *text, size_t skip, DpsYamlDoc **out_doc, DpsError *err)
{
    *out_doc = NULL;
    const char *equals = strchr (text, '=');
    if (!equals || (size_t)(equals - text) < skip)
        return dps_fail (err, DPS_ERR_USAGE, "--set %.100s: expected key=value", text);
    char where[256];
    snprintf (where, sizeof where, "--set %.200s", text);
    char *path = dps_strndup (text + skip, (size_t)(equals - text) - skip);
    DpsYamlDoc *own = NULL;
    DpsStatus st = path ? dps_yaml_parse (equals + 1, strlen (equals + 1), where, &own, err)
                        : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    if (st == DPS_OK) {
        for (DpsYaml *n = own->nodes; n; n = n->allocated)
            n->line = 0;
        if (!own->root)
            own->root = dps_yaml_node (own, DPS_YAML_SCALAR, "");
        if (!doc->root)
            doc->root = dps_yaml_node (own, DPS_YAML_MAP, NULL);
        st = own->root && doc->root ? apply (doc->root, path, own->root, own, err)
                                    : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    }
    dps_free (path);
    *out_doc = own;
    return st;
}
