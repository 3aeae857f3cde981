/* SPDX-License-Identifier: Apache-2.0 */
#include "recipe/recipe.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "recipe/internal.h"

static void strings_free (DpsStrings *s)
{
    for (size_t i = 0; i < s->n; i++)
        dps_free (s->items[i]);
    dps_free (s->items);
}

void dps_recipe_free (DpsRecipe *r)
{
    for (int i = 0; r && i < DPS_N_KEYS; i++) {
        void *field = (char *)r + dps__keys[i].offset;
        switch (dps__keys[i].type) {
        case DPS_KEY_TEXT:
        case DPS_KEY_PATH:
        case DPS_KEY_OUT: dps_free (*(char **)field); break;
        case DPS_KEY_NAMES:
        case DPS_KEY_PATHS: strings_free (field); break;
        case DPS_KEY_OBJECT: json_decref (*(json_t **)field); break;
        case DPS_KEY_DATASETS: dps__datasets_free (field); break;
        case DPS_KEY_REWARDS: dps__rewards_free (field); break;
        case DPS_KEY_NUMBERS: dps_free (((DpsNumbers *)field)->items); break;
        default: break;
        }
        dps_free (r->place[i]);
    }
    if (r) {
        json_decref (r->params);
        dps_free (r->file);
    }
    dps_free (r);
}

static int set_default (DpsRecipe *r, const DpsKey *key)
{
    void *field = (char *)r + key->offset;
    switch (key->type) {
    case DPS_KEY_BOOL: *(int *)field = (int)key->def; return 0;
    case DPS_KEY_INT: *(int64_t *)field = (int64_t)key->def; return 0;
    case DPS_KEY_NUM: *(double *)field = key->def; return 0;
    case DPS_KEY_CHOICE: *(const char **)field = key->text; return 0;
    case DPS_KEY_TEXT:
    case DPS_KEY_PATH:
    case DPS_KEY_OUT: return key->text && !(*(char **)field = dps_strdup (key->text)) ? -1 : 0;
    case DPS_KEY_NAMES: {
        DpsStrings *names = field;
        if (!key->text)
            return 0;
        names->items = dps_calloc (1, sizeof *names->items);
        names->one = 1;
        if (!names->items || !(names->items[0] = dps_strdup (key->text)))
            return -1;
        names->n = 1;
        return 0;
    }
    default: return 0;
    }
}

static DpsStatus read_item (const DpsRecipeReader *in, const DpsYaml *item)
{
    char hint[128], place[600];
    DpsRecipe *r = in->recipe;
    int id = dps__key_find (item->key->text);
    if (id < 0 && !strcmp (item->key->text, "stages"))
        return dps_yaml_fail (item->key, in->err, "a chain of stages, where one recipe is expected: train, plan and explain take chains");
    if (id < 0)
        return dps_yaml_fail (item->key, in->err, "no key '%.100s'%s", item->key->text, dps__key_hint (item->key->text, hint, sizeof hint));
    if (r->place[id])
        return dps_yaml_fail (item->key, in->err, "'%s' is %s, which was already given at %s: remove one", item->key->text,
                              dps__keys[id].name, r->place[id]);
    r->place[id] = dps_strdup (dps_yaml_place (item->line ? item->key : item, place, sizeof place));
    if (!r->place[id])
        return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", item->where);
    return dps__read_key (in, item, (DpsKeyId)id);
}

char *dps__folder_of (const char *path)
{
    const char *slash = strrchr (path, '/');
    return dps_strndup (slash ? path : ".", slash ? (size_t)(slash - path) + (slash == path) : 1);
}

/* One key of a recipe whose items come from several files. */
static DpsStatus read_in_its_folder (const DpsRecipeReader *in, const DpsYaml *item)
{
    char *folder = dps__folder_of (item->where);
    const DpsRecipeReader reader = {.recipe = in->recipe, .folder = folder, .err = in->err};
    DpsStatus st = folder ? read_item (&reader, item) : dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", item->where);
    dps_free (folder);
    return st;
}

static DpsStatus read_tree (const DpsRecipeReader *in, const DpsYaml *root, const char *where)
{
    int several = in->folder && !*in->folder;
    for (int i = 0; i < DPS_N_KEYS; i++)
        if (set_default (in->recipe, &dps__keys[i]))
            return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", where);
    if (root && !dps_yaml_is_null (root))
        DPS_TRY (dps_yaml_expect_map (root, in->err));
    for (const DpsYaml *item = root ? root->first : NULL; item; item = item->next)
        DPS_TRY (several ? read_in_its_folder (in, item) : read_item (in, item));
    return dps__recipe_settle (in);
}

DpsStatus dps__recipe_from_tree (const DpsYaml *root, const char *where, const char *folder, DpsRecipe **out, DpsError *err)
{
    const DpsRecipeReader in = {.recipe = dps_calloc (1, sizeof (DpsRecipe)), .folder = folder, .err = err};
    DpsStatus st = in.recipe && (in.recipe->file = dps_strdup (where)) ? read_tree (&in, root, where)
                                                                       : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    *out = st == DPS_OK ? in.recipe : NULL;
    if (st != DPS_OK)
        dps_recipe_free (in.recipe);
    return st;
}

DpsStatus dps_recipe_parse (const char *text, size_t len, const char *where, const char *folder, const char *const *overrides, size_t n,
                            DpsRecipe **out, DpsError *err)
{
    DpsYamlDoc *doc = NULL, **sets = dps_calloc (n, sizeof *sets);
    *out = NULL;
    DpsStatus st = sets ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    if (st == DPS_OK)
        st = dps_yaml_parse (text, len, where, &doc, err);
    if (st == DPS_OK && doc->root && dps_yaml_is_null (doc->root))
        doc->root = NULL;
    if (st == DPS_OK && doc->root)
        st = dps_yaml_expect_map (doc->root, err);
    for (size_t i = 0; i < n && st == DPS_OK; i++)
        st = dps__override (doc, overrides[i], 0, &sets[i], err);
    if (st == DPS_OK)
        st = dps__recipe_from_tree (doc->root, where, folder, out, err);
    for (size_t i = 0; sets && i < n; i++)
        dps_yaml_free (sets[i]);
    dps_free (sets);
    dps_yaml_free (doc);
    return st;
}

DpsStatus dps__recipe_text (const char *path, DpsBuf *out, DpsError *err)
{
    static const char *const others[] = {".jsonl", ".ndjson", ".csv", ".tsv", ".gguf", ".safetensors"};
    enum { N_OF_ROWS = 4 };
    for (size_t i = 0; i < G_N_ELEMENTS (others); i++)
        if (g_str_has_suffix (path, others[i]))
            return dps_fail (err, DPS_ERR_USAGE,
                             "%s: a recipe is expected here, YAML with model_name_or_path and datasets; a %s file is none%s%s%s", path,
                             others[i], i < N_OF_ROWS ? ". Hint: diapason data takes rows alone: --data " : "", i < N_OF_ROWS ? path : "",
                             i < N_OF_ROWS ? " --model M" : "");
    if (g_file_test (path, G_FILE_TEST_IS_DIR))
        return dps_fail (err, DPS_ERR_USAGE, "%s is a folder; a recipe is expected here, a YAML file with model_name_or_path and datasets",
                         path);
    DpsStatus st = dps_file_read (path, DPS_YAML_MAX_BYTES, out, err);
    if (st == DPS_OK && !out->data)
        st = dps_buf_str (out, "") ? dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path) : DPS_OK;
    /* A recipe that is not there is a mistake in the command, not a failure while running. */
    if (st == DPS_ERR_NOT_FOUND || st == DPS_ERR_IO || st == DPS_ERR_LIMIT)
        st = dps_fail (err, DPS_ERR_USAGE, "%s: no recipe can be read there%s", path,
                       st == DPS_ERR_LIMIT ? ": it is larger than 1 MiB"
                       : st == DPS_ERR_IO  ? ": not a readable file"
                                           : ": there is no such file");
    return st;
}

DpsStatus dps_recipe_load (const char *path, const char *const *overrides, size_t n, DpsRecipe **out, DpsError *err)
{
    DpsBuf text = {0};
    *out = NULL;
    if (!path)
        return dps_recipe_parse ("", 0, "command line", NULL, overrides, n, out, err);
    DpsStatus st = dps__recipe_text (path, &text, err);
    char *folder = dps__folder_of (path);
    if (st == DPS_OK)
        st = folder ? dps_recipe_parse (text.data, text.len, path, folder, overrides, n, out, err)
                    : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    dps_free (folder);
    dps_buf_free (&text);
    return st;
}

const char *dps_recipe_where (const DpsRecipe *r, DpsKeyId key)
{
    if ((unsigned)key >= DPS_N_KEYS)
        return r->file;
    return r->place[key] ? r->place[key] : dps__keys[key].name;
}

DpsStatus dps_recipe_named (const DpsRecipe *r, DpsKeyId key, DpsStatus st, DpsError *err)
{
    if (r && st == DPS_ERR_NOT_FOUND)
        dps_error_prefix (err, "%s", dps_recipe_where (r, key));
    return st;
}

int dps_recipe_given (const DpsRecipe *r, DpsKeyId key) { return (unsigned)key < DPS_N_KEYS && r->place[key]; }
