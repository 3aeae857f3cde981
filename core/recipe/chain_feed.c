/* SPDX-License-Identifier: Apache-2.0 */
/* chain_feed.c: what a stage gets from those before it: model, adapter, ${NAME}. Then its recipe is read. */
#include <string.h>

#include "base/file.h"
#include "recipe/chain_internal.h"

static DpsStatus no_memory (const DpsChainReader *in) { return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", in->path); }

static DpsYaml *take (DpsYaml *map, const char *key)
{
    DpsYaml **link = &map->first, *last = NULL;
    for (; *link && strcmp ((*link)->key->text, key); link = &(*link)->next)
        last = *link;
    DpsYaml *item = *link;
    if (!item)
        return NULL;
    *link = item->next;
    if (map->last == item)
        map->last = last;
    return item;
}

/* ---- from, merge, freeze ---- */

typedef struct Feed {
    int from, merge, freeze;
    const char *dtype;
} Feed;

static DpsStatus read_from (const DpsChainReader *in, const DpsYaml *n, int i, int *out)
{
    if (!n) {
        *out = i - 1;
        return DPS_OK;
    }
    *out = -1;
    if (dps_yaml_is_null (n))
        return DPS_OK;
    for (int k = 0; k < i && n->type == DPS_YAML_SCALAR; k++)
        if (!strcmp (n->text, in->chain->stages[k].name)) {
            *out = k;
            return DPS_OK;
        }
    char found[128];
    return dps_yaml_fail (n, in->err, "from: expected the name of a stage above, or null, found %s",
                          dps_yaml_describe (n, found, sizeof found));
}

static DpsStatus read_merge (const DpsChainReader *in, const DpsYaml *n, Feed *out)
{
    static const char *const types[] = {"float32", "bfloat16"};
    char found[128];
    if (!n || dps_yaml_is_null (n) || dps_yaml_bool (n, &out->merge))
        return DPS_OK;
    for (size_t k = 0; n->type == DPS_YAML_SCALAR && k < 2; k++)
        if (!strcmp (n->text, types[k])) {
            out->merge = 1;
            out->dtype = types[k];
            return DPS_OK;
        }
    return dps_yaml_fail (n, in->err, "merge: expected true, false, float32 or bfloat16, found %s",
                          dps_yaml_describe (n, found, sizeof found));
}

/* The keys that only a chain has leave the tree. */
static DpsStatus read_feed (const DpsChainReader *in, DpsYaml *root, int i, Feed *out)
{
    char found[128];
    *out = (Feed){.from = -1};
    take (root, "name");
    take (root, "recipe");
    const DpsYaml *from = take (root, "from"), *merge = take (root, "merge"), *freeze = take (root, "freeze");
    DPS_TRY (read_from (in, from, i, &out->from));
    DPS_TRY (read_merge (in, merge, out));
    if (freeze && !dps_yaml_is_null (freeze) && !dps_yaml_bool (freeze, &out->freeze))
        return dps_yaml_fail (freeze, in->err, "freeze: expected true or false, found %s", dps_yaml_describe (freeze, found, sizeof found));
    const DpsYaml *at = out->merge ? merge : freeze;
    if (out->merge && out->freeze)
        return dps_yaml_fail (freeze, in->err, "freeze: the adapter is merged already: remove one of merge and freeze");
    if ((out->merge || out->freeze) && out->from < 0)
        return dps_yaml_fail (at, in->err, "%s: there is no stage above to start from", at->key->text);
    if ((out->merge || out->freeze) && !in->chain->stages[out->from].recipe->adapter)
        return dps_yaml_fail (at, in->err, "%s: stage '%s' trains every weight and leaves no adapter: remove it", at->key->text,
                              in->chain->stages[out->from].name);
    return DPS_OK;
}

/* ---- values that the chain gives ---- */

/* A value at the stage's place that reads as a path where the user is, not beside the file: line 0 says so. */
static DpsStatus give (const DpsChainReader *in, DpsYamlDoc *tree, int i, const char *key, DpsYaml *value)
{
    char place[600];
    const DpsYaml *own = in->entries[i].own;
    DpsYaml *where = dps_yaml_node (tree, DPS_YAML_SCALAR, dps_yaml_place (own, place, sizeof place));
    if (!value || !where || !(value->key = dps_yaml_node (tree, DPS_YAML_SCALAR, key)))
        return no_memory (in);
    value->where = where->text;
    for (DpsYaml *item = value->first; item; item = item->next)
        item->where = where->text;
    return dps__recipe_put (tree, tree->root, value, in->err);
}

static DpsYaml *word (DpsYamlDoc *tree, const char *text)
{
    DpsYaml *n = dps_yaml_node (tree, DPS_YAML_SCALAR, text);
    if (n)
        n->plain = 0;
    return n;
}

static DpsStatus give_word (const DpsChainReader *in, DpsYamlDoc *tree, int i, const char *key, const char *text)
{
    return give (in, tree, i, key, word (tree, text));
}

/* The frozen adapters of the stage before, and on top of them its own. */
static DpsStatus give_frozen (const DpsChainReader *in, DpsYamlDoc *tree, int i, const DpsRecipe *before, int its_own)
{
    DpsYaml *list = dps_yaml_node (tree, DPS_YAML_LIST, NULL);
    size_t n = before->frozen_adapters.n + (size_t)its_own;
    for (size_t k = 0; list && k < n; k++) {
        DpsYaml *item = word (tree, k < before->frozen_adapters.n ? before->frozen_adapters.items[k] : before->output_dir);
        if (!item)
            return no_memory (in);
        dps_yaml_append (list, item);
    }
    return n ? give (in, tree, i, "frozen_adapters", list) : DPS_OK;
}

/* The item that says that every weight is trained, or NULL. */
static const DpsYaml *wants_all (const DpsYaml *root)
{
    int peft;
    const DpsYaml *adapter = dps__recipe_item (root, "adapter"), *use = dps__recipe_item (root, "use_peft");
    if (adapter && adapter->type == DPS_YAML_SCALAR && (!strcmp (adapter->text, "none") || !strcmp (adapter->text, "full")))
        return adapter;
    return use && dps_yaml_bool (use, &peft) && !peft ? use : NULL;
}

static DpsStatus give_start (const DpsChainReader *in, DpsYamlDoc *tree, int i, const Feed *f)
{
    const DpsChainStage *p = &in->chain->stages[f->from];
    const DpsRecipe *r = p->recipe;
    DpsChainStage *s = &in->chain->stages[i];
    const DpsYaml *all = r->adapter && !f->merge ? wants_all (tree->root) : NULL;
    if (all)
        return dps_yaml_fail (all->line ? all->key : all, in->err,
                              "%s: every weight is to be trained, and stage '%s' leaves an adapter: say merge: true", all->key->text,
                              p->name);
    if (f->merge && !(s->merged = dps_strf ("%s/merged%s%s", r->output_dir, f->dtype ? "-" : "", f->dtype ? f->dtype : "")))
        return no_memory (in);
    s->dtype = f->dtype;
    const char *model = f->merge ? s->merged : r->adapter ? r->model_name_or_path : r->output_dir;
    if (model)
        DPS_TRY (give_word (in, tree, i, "model_name_or_path", model));
    if (!r->adapter || f->merge)
        return DPS_OK;
    DPS_TRY (give_frozen (in, tree, i, r, f->freeze));
    return f->freeze ? DPS_OK : give_word (in, tree, i, "adapter_init", r->output_dir);
}

/* ---- ${NAME} ---- */

/* One ${NAME} of text: its first byte and its end, or NULL. */
static const char *next_name (const char *text, const char **out_end)
{
    const char *at = strstr (text, "${"), *end = at ? strchr (at, '}') : NULL;
    *out_end = end ? end + 1 : NULL;
    return end ? at : NULL;
}

static DpsStatus expand_text (const DpsChainReader *in, DpsYamlDoc *tree, DpsYaml *n, int i)
{
    DpsBuf out = {0};
    char place[600];
    const char *text = n->text, *end;
    int bad = 0;
    for (const char *at; !bad && (at = next_name (text, &end)); text = end) {
        int k = 0;
        for (size_t len = (size_t)(end - at) - 3; k < i; k++)
            if (strlen (in->chain->stages[k].name) == len && !memcmp (at + 2, in->chain->stages[k].name, len))
                break;
        if (k == i) {
            dps_buf_free (&out);
            return dps_yaml_fail (n, in->err, "%.*s names no stage above", (int)(end - at < 70 ? end - at : 70), at);
        }
        in->chain->stages[i].named |= (uint64_t)1 << k;
        bad = dps_buf_add (&out, text, (size_t)(at - text)) || dps_buf_str (&out, in->chain->stages[k].recipe->output_dir);
    }
    DpsYaml *where = dps_yaml_node (tree, DPS_YAML_SCALAR, dps_yaml_place (n, place, sizeof place));
    bad = bad || !where || dps_buf_str (&out, text);
    if (!bad) {
        dps_free (n->text);
        n->text = out.data;
        n->where = where->text;
        n->line = 0;
        return DPS_OK;
    }
    dps_buf_free (&out);
    return no_memory (in);
}

static DpsStatus expand (const DpsChainReader *in, DpsYamlDoc *tree, DpsYaml *n, int i)
{
    const char *end;
    if (n->text && next_name (n->text, &end))
        return expand_text (in, tree, n, i);
    for (DpsYaml *item = n->first; item; item = item->next)
        DPS_TRY (expand (in, tree, item, i));
    return DPS_OK;
}

/* ---- the recipes ---- */

static int is_adapter_key (int id) { return id == DPS_KEY_adapter || (id >= DPS_KEY_use_peft && id <= DPS_KEY_adapter_args); }

/* Before there is an adapter to go on with: a fresh one as the stage before describes it, on the model the chain starts from. */
static DpsStatus make_stand_in (DpsChainReader *in, int i, const Feed *f)
{
    DpsChainEntry *e = &in->entries[i];
    const DpsChainEntry *p = &in->entries[f->from];
    DpsYaml *root = e->tree->root, *copy;
    int goes_on = in->chain->stages[f->from].recipe->adapter && !f->merge && !f->freeze;
    take (root, "frozen_adapters");
    take (root, "adapter_init");
    take (root, "model_name_or_path");
    if ((e->base = p->base)) {
        DPS_TRY (dps_yaml_copy (e->tree, p->base, NULL, &copy, in->err));
        DPS_TRY (dps__recipe_put (e->tree, root, copy, in->err));
    }
    for (const DpsYaml *item = goes_on ? p->tree->root->first : NULL; item; item = item->next)
        if (is_adapter_key (dps__key_find (item->key->text)) && !dps__recipe_item (root, item->key->text)) {
            DPS_TRY (dps_yaml_copy (e->tree, item, NULL, &copy, in->err));
            DPS_TRY (dps__recipe_put (e->tree, root, copy, in->err));
        }
    return dps__recipe_from_tree (root, in->path, "", &in->chain->stages[i].stand_in, in->err);
}

DpsStatus dps__chain_stage (DpsChainReader *in, int i)
{
    DpsChainEntry *e = &in->entries[i];
    DpsChainStage *s = &in->chain->stages[i];
    Feed f;
    DPS_TRY (dps__chain_tree (in, i, &e->tree));
    DpsYaml *root = e->tree->root;
    DPS_TRY (read_feed (in, root, i, &f));
    e->from = s->from = f.from;
    DPS_TRY (dps__chain_check_keys (in, i));
    DPS_TRY (expand (in, e->tree, root, i));
    char *out = dps_path_join (in->output_dir, s->name);
    DpsStatus st = out ? give_word (in, e->tree, i, "output_dir", out) : no_memory (in);
    dps_free (out);
    DPS_TRY (st);
    if (f.from >= 0)
        DPS_TRY (give_start (in, e->tree, i, &f));
    else
        e->base = dps__recipe_item (root, "model_name_or_path");
    DPS_TRY (dps__recipe_from_tree (root, in->path, "", &s->recipe, in->err));
    if (f.from < 0)
        return DPS_OK;
    return make_stand_in (in, i, &f);
}
