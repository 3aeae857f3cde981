/* SPDX-License-Identifier: Apache-2.0 */
/* datasets.c: the lists of data sets: a path, a list of paths, or maps under the names that TRL, LLaMA-Factory and Axolotl use. */
#include <stdio.h>
#include <string.h>

#include "recipe/internal.h"

typedef enum Field { F_TEXT, F_PATH, F_OBJECT, F_COLUMNS, F_FRACTION, F_LATER } Field;

static const struct {
    const char *name, *alias;
    Field type;
    size_t offset;
} fields[] = {
    {"path", "file_name", F_PATH, offsetof (DpsRecipeDataset, path)},
    {"name", "name", F_TEXT, offsetof (DpsRecipeDataset, name)},
    {"split", "split", F_TEXT, offsetof (DpsRecipeDataset, split)},
    {"type", "formatting", F_TEXT, offsetof (DpsRecipeDataset, type)},
    {"field", "field", F_TEXT, offsetof (DpsRecipeDataset, field)},
    {"field_messages", "field_messages", F_TEXT, offsetof (DpsRecipeDataset, field_messages)},
    {"columns", "columns", F_COLUMNS, offsetof (DpsRecipeDataset, columns)},
    {"tags", "tags", F_OBJECT, offsetof (DpsRecipeDataset, tags)},
    {"message_property_mappings", "message_property_mappings", F_OBJECT, offsetof (DpsRecipeDataset, message_property_mappings)},
    {"roles", "roles", F_OBJECT, offsetof (DpsRecipeDataset, roles)},
    {"fraction", "weight", F_FRACTION, offsetof (DpsRecipeDataset, fraction)},
    {"ranking", "ranking", F_LATER, 0},
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static DpsStatus read_fraction (const DpsRecipeReader *in, const DpsYaml *n, const char *key, double *out)
{
    char found[128];
    if (dps_yaml_is_null (n))
        return DPS_OK;
    if (!dps_yaml_number (n, out) || !(*out > 0 && *out <= 1000))
        return dps_yaml_fail (n, in->err, "%s: expected a number above 0, at most 1000, found %s", key,
                              dps_yaml_describe (n, found, sizeof found));
    return DPS_OK;
}

static DpsStatus read_map (const DpsRecipeReader *in, const DpsYaml *n, const char *key, int or_list, json_t **out)
{
    char found[128];
    if (dps_yaml_is_null (n))
        return DPS_OK;
    if (n->type != DPS_YAML_MAP && !(or_list && n->type == DPS_YAML_LIST))
        return dps_yaml_fail (n, in->err, "%s: expected a map%s, found %s", key,
                              or_list ? " of our names to the file's, or a list of columns" : "",
                              dps_yaml_describe (n, found, sizeof found));
    for (const DpsYaml *item = n->first; or_list && item; item = item->next)
        if (item->type != DPS_YAML_SCALAR || dps_yaml_is_null (item))
            return dps_yaml_fail (item, in->err, "%s: expected a column's name, found %s", key,
                                  dps_yaml_describe (item, found, sizeof found));
    return dps_yaml_json (n, out, in->err);
}

static DpsStatus unknown_field (const DpsRecipeReader *in, const DpsYaml *item, const char *key)
{
    const char *names[N_FIELDS + 1] = {NULL};
    for (size_t i = 0; i < N_FIELDS; i++)
        names[i] = fields[i].name;
    const char *near = dps_suggest (item->key->text, names);
    return dps_yaml_fail (item->key, in->err, "%s: no key '%.60s' in a data set%s%s%s", key, item->key->text,
                          near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static DpsStatus read_field (const DpsRecipeReader *in, const DpsYaml *item, const char *key, DpsRecipeDataset *d)
{
    size_t i = 0;
    while (i < N_FIELDS && strcmp (fields[i].name, item->key->text) && strcmp (fields[i].alias, item->key->text))
        i++;
    if (i == N_FIELDS)
        return unknown_field (in, item, key);
    char name[128];
    snprintf (name, sizeof name, "%s.%s", key, fields[i].name);
    void *field = (char *)d + fields[i].offset;
    if (fields[i].type == F_LATER) {
        int on = 1;
        if (dps_yaml_is_null (item) || (dps_yaml_bool (item, &on) && !on))
            return DPS_OK;
        return dps_yaml_fail (item, in->err, "%s is not implemented in this version: preference rows have no stage yet", name);
    }
    if (fields[i].type != F_FRACTION && *(void **)field)
        return dps_yaml_fail (item, in->err, "%s is given twice, under two of its names", name);
    switch (fields[i].type) {
    case F_TEXT: return dps__read_text (in, item, name, field);
    case F_PATH: DPS_TRY (dps__read_text (in, item, name, &d->as_given)); return dps__read_path (in, item, name, field);
    case F_OBJECT: return read_map (in, item, name, 0, field);
    case F_COLUMNS: return read_map (in, item, name, 1, field);
    default: return read_fraction (in, item, name, field);
    }
}

static DpsStatus read_one (const DpsRecipeReader *in, const DpsYaml *n, const char *key, DpsRecipeDataset *d)
{
    char place[600], found[128];
    d->fraction = 1;
    d->where = dps_strdup (dps_yaml_place (n, place, sizeof place));
    if (!d->where)
        return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", n->where);
    if (n->type == DPS_YAML_LIST || dps_yaml_is_null (n))
        return dps_yaml_fail (n, in->err, "%s: expected a path or a map with a path, found %s", key,
                              dps_yaml_describe (n, found, sizeof found));
    if (n->type == DPS_YAML_SCALAR) {
        DPS_TRY (dps__read_text (in, n, key, &d->as_given));
        return dps__read_path (in, n, key, &d->path);
    }
    for (const DpsYaml *item = n->first; item; item = item->next)
        DPS_TRY (read_field (in, item, key, d));
    return d->path ? DPS_OK : dps_yaml_fail (n, in->err, "%s: a data set has no path", key);
}

DpsStatus dps__read_datasets (const DpsRecipeReader *in, const DpsYaml *n, const char *key, DpsRecipeDatasets *out)
{
    if (dps_yaml_is_null (n))
        return DPS_OK;
    const DpsYaml *item = n->type == DPS_YAML_LIST ? n->first : n;
    for (; item; item = n->type == DPS_YAML_LIST ? item->next : NULL) {
        if (DPS_GROW (out->items, out->n, out->capacity))
            return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", n->where);
        memset (&out->items[out->n], 0, sizeof *out->items);
        char name[64];
        snprintf (name, sizeof name, "%s[%zu]", key, out->n);
        out->n++;
        DPS_TRY (read_one (in, item, name, &out->items[out->n - 1]));
    }
    return DPS_OK;
}

void dps__datasets_free (DpsRecipeDatasets *d)
{
    for (size_t i = 0; i < d->n; i++) {
        DpsRecipeDataset *s = &d->items[i];
        for (size_t f = 0; f < N_FIELDS; f++) {
            void *field = (char *)s + fields[f].offset;
            if (fields[f].type == F_TEXT || fields[f].type == F_PATH)
                dps_free (*(char **)field);
            else if (fields[f].type == F_OBJECT || fields[f].type == F_COLUMNS)
                json_decref (*(json_t **)field);
        }
        dps_free (s->as_given);
        dps_free (s->where);
    }
    dps_free (d->items);
    memset (d, 0, sizeof *d);
}

int dps__dataset_dump (const DpsRecipeDataset *d, DpsBuf *out)
{
    int bad = dps_buf_str (out, "{");
    for (size_t f = 0; f < N_FIELDS && !bad; f++) {
        const void *field = (const char *)d + fields[f].offset;
        const char *text = f == 0 ? d->as_given : fields[f].type == F_TEXT ? *(char *const *)field : NULL;
        const json_t *object = fields[f].type == F_OBJECT || fields[f].type == F_COLUMNS ? *(json_t *const *)field : NULL;
        if (fields[f].type == F_LATER || (fields[f].type != F_FRACTION && !text && !object))
            continue;
        bad = dps_buf_printf (out, "%s\"%s\": ", f ? ", " : "", fields[f].name);
        bad = bad || (text     ? dps_json_quote (out, text, strlen (text))
                      : object ? dps_json_write (out, object, 0)
                               : dps_json_number (out, d->fraction));
    }
    return bad || dps_buf_str (out, "}") ? -1 : 0;
}
