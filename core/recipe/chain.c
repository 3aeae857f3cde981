/* SPDX-License-Identifier: Apache-2.0 */
/* chain.c: a chain's file to one recipe a stage. Each is a tree composed of shared keys, the stage's recipe file, its own keys, overrides. */
#include "recipe/chain.h"

#include <string.h>

#include "base/file.h"
#include "base/seal.h"
#include "recipe/chain_internal.h"

void dps_chain_free (DpsChain *c)
{
    for (size_t i = 0; c && i < c->n; i++) {
        dps_free (c->stages[i].name);
        dps_free (c->stages[i].merged);
        dps_recipe_free (c->stages[i].recipe);
        dps_recipe_free (c->stages[i].stand_in);
    }
    if (c) {
        dps_free (c->stages);
        dps_free (c->file);
        dps_free (c->lock);
    }
    dps_free (c);
}

static DpsStatus no_memory (const DpsChainReader *in) { return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", in->path); }

/* ---- what the file says ---- */

static int is_stage_name (const char *s)
{
    return *s && *s != '.' && strlen (s) < 64 && !s[strspn (s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")];
}

static const DpsYaml *word_of (const DpsYaml *map, const char *key)
{
    const DpsYaml *n = map ? dps_yaml_get (map, key) : NULL;
    return n && n->type == DPS_YAML_SCALAR && !dps_yaml_is_null (n) ? n : NULL;
}

/* The name given, else the word of `stage`, wherever that stands. */
static DpsStatus name_stage (const DpsChainReader *in, size_t i)
{
    const DpsChainEntry *e = &in->entries[i];
    const DpsYaml *name = word_of (e->own, "name");
    for (int k = 0; !name && k < 3; k++)
        name = word_of (k == 0 ? e->own : k == 1 ? (e->file ? e->file->root : NULL) : in->doc->root, "stage");
    const char *text = name ? name->text : "sft";
    const DpsYaml *at = name ? name : e->own;
    if (!is_stage_name (text))
        return dps_yaml_fail (at, in->err, "name: expected letters, digits and . _ - for a folder, found \"%.80s\"", text);
    if (dps__key_find (text) >= 0)
        return dps_yaml_fail (at, in->err, "name: '%s' is a key of recipes: name the stage otherwise", text);
    for (size_t k = 0; k < i; k++)
        if (!strcmp (in->chain->stages[k].name, text))
            return dps_yaml_fail (at, in->err, "two stages are called '%s': give one a name", text);
    return (in->chain->stages[i].name = dps_strdup (text)) ? DPS_OK : no_memory (in);
}

/* Keys that one stage cannot have: NULL when `id` is none of them, else why not. */
static const char *not_of_a_stage (int id, int from)
{
    switch (id) {
    case DPS_KEY_output_dir: return "a stage writes to output_dir/NAME of the chain";
    case DPS_KEY_overwrite_output_dir:
    case DPS_KEY_resume_from_checkpoint:
    case DPS_KEY_env:
    case DPS_KEY_threads: return "it belongs to the whole chain: give it at its top";
    case DPS_KEY_model_name_or_path:
    case DPS_KEY_adapter_init:
    case DPS_KEY_frozen_adapters: return from >= 0 ? "it comes from the stage before: remove it, or say `from: null` to start anew" : NULL;
    default: return NULL;
    }
}

/* "NAME." of a stage at the start of an override: its length, with the stage's number in *out; else 0 and -1. */
static size_t addressed (const DpsChain *c, const char *text, int *out)
{
    *out = -1;
    for (size_t i = 0; i < c->n; i++) {
        size_t len = strlen (c->stages[i].name);
        if (!strncmp (text, c->stages[i].name, len) && text[len] == '.') {
            *out = (int)i;
            return len + 1;
        }
    }
    return 0;
}

/* What is said to one stage is a key that a stage can have. */
static DpsStatus check_overrides (const DpsChainReader *in, int i)
{
    for (size_t k = 0; k < in->n_overrides; k++) {
        int stage;
        const char *text = in->overrides[k];
        size_t skip = addressed (in->chain, text, &stage), n = strcspn (text + skip, ".[=");
        char key[64];
        if (stage != i || n >= sizeof key)
            continue;
        memcpy (key, text + skip, n);
        key[n] = '\0';
        const char *why = not_of_a_stage (dps__key_find (key), in->entries[i].from);
        if (!strcmp (key, "name") || !strcmp (key, "recipe"))
            why = "the file says it";
        if (why)
            return dps_fail (in->err, DPS_ERR_USAGE, "--set %.100s: %s", text, why);
    }
    return DPS_OK;
}

DpsStatus dps__chain_check_keys (const DpsChainReader *in, int i)
{
    const DpsChainEntry *e = &in->entries[i];
    for (const DpsYaml *item = e->own->first; item; item = item->next) {
        const char *why = not_of_a_stage (dps__key_find (item->key->text), e->from);
        if (why)
            return dps_yaml_fail (item->key, in->err, "%s: %s", item->key->text, why);
    }
    for (const DpsYaml *item = e->file ? e->file->root->first : NULL; item; item = item->next) {
        int id = dps__key_find (item->key->text);
        if (id == DPS_KEY_env || id == DPS_KEY_threads)
            return dps_yaml_fail (item->key, in->err, "%s: %s, %s", item->key->text, not_of_a_stage (id, -1), in->path);
    }
    return check_overrides (in, i);
}

/* The recipe file of a stage. */
static DpsStatus read_file (const DpsChainReader *in, DpsChainEntry *e)
{
    const DpsYaml *n = dps_yaml_get (e->own, "recipe");
    char *folder = dps__folder_of (in->path), *path = NULL;
    DpsBuf text = {0};
    const DpsRecipeReader reader = {.folder = folder, .err = in->err};
    if (!folder)
        return no_memory (in);
    DpsStatus st = n ? dps__read_path (&reader, n, "recipe", &path) : DPS_OK;
    if (st == DPS_OK && path)
        st = dps__recipe_text (path, &text, in->err);
    if (st == DPS_ERR_USAGE && path)
        st = dps_yaml_fail (n, in->err, "recipe: %s: no recipe can be read there", path);
    if (st == DPS_OK && path)
        st = dps_yaml_parse (text.data, text.len, path, &e->file, in->err);
    if (st == DPS_OK && path && (!e->file->root || e->file->root->type != DPS_YAML_MAP || dps_yaml_get (e->file->root, "stages")))
        st = dps_yaml_fail (n, in->err, "recipe: %s is no recipe: expected a map of keys to values, without stages of its own", path);
    dps_buf_free (&text);
    dps_free (folder);
    dps_free (path);
    return st;
}

static DpsStatus read_entries (DpsChainReader *in, const DpsYaml *list)
{
    DpsChain *c = in->chain;
    if (list->type != DPS_YAML_LIST || !list->first)
        return dps_yaml_fail (list, in->err, "stages: expected a list of stages, each a map of keys to values");
    if (!(c->stages = dps_calloc (DPS_CHAIN_MAX, sizeof *c->stages)) || !(in->entries = dps_calloc (DPS_CHAIN_MAX, sizeof *in->entries)))
        return no_memory (in);
    for (const DpsYaml *item = list->first; item; item = item->next) {
        if (item->type != DPS_YAML_MAP)
            return dps_yaml_fail (item, in->err, "stages: expected a map of keys to values");
        if (c->n == DPS_CHAIN_MAX)
            return dps_yaml_fail (item, in->err, "stages: more than %d", DPS_CHAIN_MAX);
        DpsChainEntry *e = &in->entries[c->n];
        e->own = item;
        e->from = c->stages[c->n].from = -1;
        c->n++;
        DPS_TRY (read_file (in, e));
        DPS_TRY (name_stage (in, c->n - 1));
    }
    return DPS_OK;
}

/* ---- overrides ---- */

/* Those for stage i, or with i < 0 those for all. */
static DpsStatus override (DpsChainReader *in, DpsYamlDoc *tree, int i)
{
    for (size_t k = 0; k < in->n_overrides; k++) {
        int stage;
        const char *text = in->overrides[k];
        size_t skip = addressed (in->chain, text, &stage);
        if (stage != i)
            continue;
        if (DPS_GROW (in->sets, in->n_sets, in->sets_capacity))
            return no_memory (in);
        in->sets[in->n_sets] = NULL;
        DPS_TRY (dps__override (tree, text, skip, &in->sets[in->n_sets++], in->err));
    }
    return DPS_OK;
}

/* ---- trees ---- */

static DpsStatus add_all (const DpsChainReader *in, DpsYamlDoc *tree, const DpsYaml *from, int is_file)
{
    for (const DpsYaml *item = from->first; item; item = item->next) {
        int id = dps__key_find (item->key->text);
        DpsYaml *copy;
        if ((from == in->doc->root && !strcmp (item->key->text, "stages")) ||
            (is_file && (id == DPS_KEY_output_dir || id == DPS_KEY_model_name_or_path || id == DPS_KEY_adapter_init ||
                         id == DPS_KEY_frozen_adapters || id == DPS_KEY_overwrite_output_dir || id == DPS_KEY_resume_from_checkpoint)))
            continue;
        DPS_TRY (dps_yaml_copy (tree, item, NULL, &copy, in->err));
        DPS_TRY (dps__recipe_put (tree, tree->root, copy, in->err));
    }
    return DPS_OK;
}

DpsStatus dps__chain_tree (DpsChainReader *in, int i, DpsYamlDoc **out)
{
    DpsYamlDoc *tree = *out = dps_calloc (1, sizeof *tree);
    if (!tree || !(tree->where = dps_strdup (in->path)) || !(tree->root = dps_yaml_node (tree, DPS_YAML_MAP, NULL)))
        return no_memory (in);
    DPS_TRY (add_all (in, tree, in->doc->root, 0));
    if (i >= 0 && in->entries[i].file)
        DPS_TRY (add_all (in, tree, in->entries[i].file->root, 1));
    if (i >= 0)
        DPS_TRY (add_all (in, tree, in->entries[i].own, 0));
    DPS_TRY (override (in, tree, -1));
    return i >= 0 ? override (in, tree, i) : DPS_OK;
}

/* output_dir and overwrite_output_dir of the whole chain. */
static DpsStatus read_top (DpsChainReader *in)
{
    DpsYamlDoc *tree;
    DpsRecipe *r = dps_calloc (1, sizeof *r);
    const DpsRecipeReader reader = {.recipe = r, .err = in->err};
    DpsStatus st = r ? dps__chain_tree (in, -1, &tree) : no_memory (in);
    static const DpsKeyId keys[] = {DPS_KEY_output_dir, DPS_KEY_overwrite_output_dir};
    for (size_t k = 0; st == DPS_OK && k < sizeof keys / sizeof *keys; k++) {
        const DpsYaml *n = dps__recipe_item (tree->root, dps_recipe_key_name (keys[k]));
        st = n ? dps__read_key (&reader, n, keys[k]) : DPS_OK;
    }
    if (st == DPS_OK && !(in->output_dir = dps_strdup (r->output_dir ? r->output_dir : "trainer_output")))
        st = no_memory (in);
    if (st == DPS_OK && !(in->chain->lock = dps_path_join (in->output_dir, DPS_CHAIN_LOCK)))
        st = no_memory (in);
    in->chain->overwrite = st == DPS_OK && r->overwrite_output_dir;
    dps_recipe_free (r);
    if (r)
        dps_yaml_free (tree);
    return st;
}

static DpsStatus read_chain (DpsChainReader *in, const DpsYaml *list)
{
    DPS_TRY (read_entries (in, list));
    DPS_TRY (read_top (in));
    for (size_t i = 0; i < in->chain->n; i++)
        DPS_TRY (dps__chain_stage (in, (int)i));
    return DPS_OK;
}

static void free_reader (DpsChainReader *in)
{
    for (size_t i = 0; in->entries && i < DPS_CHAIN_MAX; i++) {
        dps_yaml_free (in->entries[i].file);
        dps_yaml_free (in->entries[i].tree);
    }
    for (size_t i = 0; i < in->n_sets; i++)
        dps_yaml_free (in->sets[i]);
    dps_free (in->sets);
    dps_free (in->entries);
    dps_free (in->output_dir);
    dps_yaml_free (in->doc);
}

/* A chain of the one stage that a plain recipe is. */
static DpsStatus read_plain (DpsChainReader *in, const char *text, size_t len)
{
    DpsChain *c = in->chain;
    char *folder = dps__folder_of (in->path);
    DpsStatus st = folder && (c->stages = dps_calloc (1, sizeof *c->stages)) ? DPS_OK : no_memory (in);
    if (st == DPS_OK) {
        c->n = 1;
        c->stages[0].from = -1;
        st = dps_recipe_parse (text, len, in->path, folder, in->overrides, in->n_overrides, &c->stages[0].recipe, in->err);
    }
    dps_free (folder);
    c->overwrite = st == DPS_OK && c->stages[0].recipe->overwrite_output_dir > 0;
    return st;
}

DpsStatus dps_chain_parse (const char *text, size_t len, const char *where, const char *const *overrides, size_t n, DpsChain **out,
                           DpsError *err)
{
    DpsChainReader in = {.chain = dps_calloc (1, sizeof (DpsChain)), .path = where, .overrides = overrides, .n_overrides = n, .err = err};
    DpsStatus st = in.chain && (in.chain->file = dps_strdup (where)) ? dps_yaml_parse (text, len, where, &in.doc, err) : no_memory (&in);
    const DpsYaml *list = st == DPS_OK && in.doc->root ? dps_yaml_get (in.doc->root, "stages") : NULL;
    if (st == DPS_OK)
        st = list ? read_chain (&in, list) : read_plain (&in, text, len);
    free_reader (&in);
    *out = st == DPS_OK ? in.chain : NULL;
    if (st != DPS_OK)
        dps_chain_free (in.chain);
    return st;
}

DpsStatus dps_chain_load (const char *path, const char *const *overrides, size_t n, DpsChain **out, DpsError *err)
{
    DpsBuf text = {0};
    *out = NULL;
    DpsStatus st = dps__recipe_text (path, &text, err);
    if (st == DPS_OK)
        st = dps_chain_parse (text.data, text.len, path, overrides, n, out, err);
    dps_buf_free (&text);
    return st;
}

static int is_sealed (const char *folder)
{
    char *path = dps_path_join (folder, DPS_SEAL_NAME);
    int is = path && dps_is_file (path);
    dps_free (path);
    return is;
}

int dps_chain_waits (const DpsChain *c, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (c->stages[i].named >> k & 1 && !is_sealed (c->stages[k].recipe->output_dir))
            return (int)k;
    return -1;
}

DpsRecipe *dps_chain_plan (const DpsChain *c, size_t i)
{
    const DpsChainStage *s = &c->stages[i];
    int ready = s->from < 0 || (is_sealed (c->stages[s->from].recipe->output_dir) && (!s->merged || is_sealed (s->merged)));
    return ready ? s->recipe : s->stand_in;
}

size_t dps_chain_under (const DpsChain *c, size_t i, const DpsRecipe **out)
{
    const DpsStrings *frozen = &c->stages[i].recipe->frozen_adapters;
    size_t n = 0;
    for (size_t f = 0; dps_chain_plan (c, i) != c->stages[i].recipe && f < frozen->n; f++)
        for (size_t k = 0; k < i; k++)
            if (!strcmp (frozen->items[f], c->stages[k].recipe->output_dir) && n < DPS_CHAIN_MAX)
                out[n++] = c->stages[k].stand_in ? c->stages[k].stand_in : c->stages[k].recipe;
    return n;
}
