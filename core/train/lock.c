/* SPDX-License-Identifier: Apache-2.0 */
/* lock.c: recipe.lock.yaml: the recipe as resolved and the identity of what it read: base, rows, template, plugins, instruction set. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "recipe/lock.h"
#include "train/trainer.h"

void dps__entries_free (DpsEntries *e)
{
    for (size_t i = 0; i < e->n; i++) {
        dps_free ((char *)e->items[i].key);
        dps_free ((char *)e->items[i].value);
    }
    dps_free (e->items);
}

/* key: taken over, NULL counts as out of memory. 0 or -1. */
int dps__entries_add (DpsEntries *e, char *key, const char *value, const char *note)
{
    char *copy = key ? dps_strdup (value) : NULL;
    if (!copy || DPS_GROW (e->items, e->n, e->capacity)) {
        dps_free (key);
        dps_free (copy);
        return -1;
    }
    e->items[e->n++] = (DpsLockEntry){key, copy, note};
    return 0;
}

int dps__entries_have (const DpsEntries *e, const char *kind, const char *id)
{
    size_t n = strlen (kind);
    for (size_t i = 0; i < e->n; i++)
        if (!strncmp (e->items[i].key, kind, n) && !strcmp (e->items[i].key + n, id))
            return 1;
    return 0;
}

const DpsPlugin *dps__plugin_of (const DpsTrainer *t, const char *interface, const void *table)
{
    const DpsPlugin *p = NULL;
    const void *at;
    for (size_t k = 0; (at = dps_registry_nth (t->reg, interface, k, &p)); k++)
        if (at == table)
            return p;
    return NULL;
}

const DpsPlugin *dps__plugin_used (const DpsTrainer *t, const char *interface, const char *name)
{
    return dps__plugin_of (t, interface, dps_registry_get (t->reg, interface, name));
}

/* "oneDNN 2.6.3, AVX512_BF16, 2 threads": bits hold for a library and an instruction set, and for any number of threads. */
static int add_isa (DpsEntries *e, char *key, const char *detail)
{
    DpsBuf isa = {0};
    int bad = dps_buf_str (&isa, "");
    for (const char *s = detail ? detail : ""; *s && !bad; s += strspn (s, ", ")) {
        size_t n = strcspn (s, ",");
        if (!(n > 8 && !memcmp (s + n - 8, " threads", 8)))
            bad = dps_buf_str (&isa, isa.len ? ", " : "") || dps_buf_add (&isa, s, n);
        s += n;
    }
    bad = dps__entries_add (e, key, bad ? "" : isa.data, detail) || bad;
    dps_buf_free (&isa);
    return bad;
}

int dps__entries_devices (DpsEntries *e, const DpsExec *ex)
{
    int bad = 0;
    for (int i = 0; i < ex->n_devices && !bad; i++) {
        const DpsDeviceInfo *d = &ex->devices[i].info;
        bad = dps__entries_add (e, i ? dps_strf ("device.%d", i) : dps_strdup ("device"), d->name, NULL) ||
              add_isa (e, i ? dps_strf ("isa.%d", i) : dps_strdup ("isa"), d->detail);
    }
    return bad;
}

/* Linked-in plugins have no file, and come with the program. */
static int add_plugin (DpsEntries *e, const char *kind, const DpsPlugin *p)
{
    return p && p->digest.hex[0] && !dps__entries_have (e, kind, p->id)
               ? dps__entries_add (e, dps_strf ("%s%s", kind, p->id), p->digest.hex, p->version)
               : 0;
}

/* The plugins that do arithmetic on this run; backends by their own name, not by their devices': opencl:0 is of dps.opencl. */
static int add_plugins (const DpsTrainer *t, DpsEntries *e)
{
    const DpsRecipe *r = t->recipe;
    int bad = add_plugin (e, "plugin ", dps__plugin_of (t, DPS_FORMAT_ID, dps_source_format (t->session.source))) ||
              add_plugin (e, "plugin ", dps__plugin_used (t, DPS_OBJECTIVE_ID, r->stage)) ||
              (r->adapter && add_plugin (e, "plugin ", dps__plugin_used (t, DPS_ADAPTER_ID, r->adapter)));
    for (int i = 0; i < t->session.ex.n_devices && !bad; i++)
        bad = add_plugin (e, "device.plugin ", t->session.ex.devices[i].plugin);
    for (size_t i = 0; i < r->reward_funcs.n && !bad; i++)
        bad = add_plugin (e, "plugin ", dps__plugin_used (t, DPS_REWARD_ID, r->reward_funcs.items[i].name));
    return bad;
}

static int collect (const DpsTrainer *t, DpsEntries *e)
{
    const DpsRecipe *r = t->recipe;
    const char *path, *sha256;
    char seed[32];
    snprintf (seed, sizeof seed, "%lld", (long long)r->seed);
    int bad = dps__entries_add (e, dps_strdup ("base.sha256"), t->base.hex, r->model_name_or_path);
    for (size_t i = 0; !bad && dps_feed_file (t->feed, i, &path, &sha256); i++)
        bad = dps__entries_add (e, dps_strf ("datasets[%zu].sha256", i), sha256, path);
    for (size_t i = 0; !bad && t->eval_feed && dps_feed_file (t->eval_feed, i, &path, &sha256); i++)
        bad = dps__entries_add (e, dps_strf ("eval_datasets[%zu].sha256", i), sha256, path);
    bad = bad || dps__entries_devices (e, &t->session.ex) ||
          dps__entries_add (e, dps_strdup ("dtype"), dps_dtype_name (t->session.compute), NULL) ||
          dps__entries_add (e, dps_strdup ("seed"), seed, NULL);
    return bad || add_plugins (t, e);
}

/* A file beside the weights of a folder, if there is one; a GGUF's is where the base is. */
static DpsStatus add_beside (const DpsTrainer *t, DpsEntries *e, const char *file, const char *key, DpsError *err)
{
    DpsDigest digest;
    const char *dir = dps_source_path (t->session.source);
    char *path = dps_source_is_gguf (t->session.source) ? NULL : dps_path_join (dir, file);
    DpsStatus st = DPS_OK;
    if (path && dps_is_file (path)) {
        st = dps_sha256_file (path, &digest, err);
        if (st == DPS_OK && dps__entries_add (e, dps_strdup (key), digest.hex, dir))
            st = dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    }
    dps_free (path);
    return st;
}

static DpsStatus add_digest (DpsEntries *e, const char *key, const DpsDigest *digest, const char *detail, DpsError *err)
{
    return dps__entries_add (e, dps_strdup (key), digest->hex, detail) ? dps_fail (err, DPS_ERR_NOMEM, "train: out of memory") : DPS_OK;
}

/* The chat templates that conversations are rendered by: the recipe's, or the model's own, without and with tools. */
static DpsStatus add_template (const DpsTrainer *t, DpsEntries *e, DpsError *err)
{
    static const char *const keys[] = {"chat_template.sha256", "chat_template.tool_use.sha256"};
    DpsDigest digest;
    const char *path = t->recipe->chat_template_path;
    if (path) {
        DPS_TRY (dps_sha256_file (path, &digest, err));
        return add_digest (e, keys[0], &digest, path, err);
    }
    DpsTemplate own[2] = {0};
    for (int tools = 0; t->session.tok && tools < 2; tools++) {
        DpsError none = DPS_ERROR_INIT; /* told with the row that wants it */
        (void)dps_tokenizer_chat_template (t->session.tok, tools, &own[tools], &none);
        if (!own[tools].source || (tools && own[1].source == own[0].source))
            continue;
        DPS_TRY (dps_sha256 (own[tools].source, strlen (own[tools].source), &digest, err));
        DPS_TRY (add_digest (e, keys[tools], &digest, "the model's own", err));
    }
    return DPS_OK;
}

/* The digest of an adapter's tensors. key: as add takes it. */
static DpsStatus add_adapter (DpsEntries *e, char *key, const DpsPeftAdapter *a, const char *folder, DpsError *err)
{
    DpsDigest digest;
    DpsStatus st = key ? dps_tensors_digest (a->file, &digest, err) : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    if (st != DPS_OK)
        dps_free (key);
    else if (dps__entries_add (e, key, digest.hex, folder))
        st = dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    return st;
}

/* The value model's base, and its adapter where it is one. */
static DpsStatus add_critic (const DpsTrainer *t, DpsEntries *e, DpsError *err)
{
    DpsDigest digest;
    if (!t->critic.on)
        return DPS_OK;
    DPS_TRY (dps_source_digest (t->critic.session.source, &digest, err));
    if (dps__entries_add (e, dps_strdup ("value_model.base.sha256"), digest.hex, t->recipe->value_model))
        return dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    return t->critic.adapter ? add_adapter (e, dps_strdup ("value_model.sha256"), t->critic.session.adapter, t->critic.adapter, err)
                             : DPS_OK;
}

static DpsStatus all_entries (const DpsTrainer *t, DpsEntries *e, DpsError *err)
{
    if (collect (t, e))
        return dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    DPS_TRY (add_template (t, e, err));
    DPS_TRY (add_beside (t, e, "config.json", "config.sha256", err));
    DPS_TRY (add_beside (t, e, "tokenizer.json", "tokenizer.sha256", err));
    for (size_t i = 0; i < t->recipe->frozen_adapters.n; i++)
        DPS_TRY (
            add_adapter (e, dps_strf ("frozen_adapters[%zu].sha256", i), t->session.frozen[i], t->recipe->frozen_adapters.items[i], err));
    DPS_TRY (add_critic (t, e, err));
    return t->recipe->adapter_init ? add_adapter (e, dps_strdup ("adapter_init.sha256"), t->session.adapter, t->recipe->adapter_init, err)
                                   : DPS_OK;
}

static DpsStatus compare (const DpsTrainer *t, const DpsEntries *e, const char *folder, DpsError *err)
{
    char *old = dps_path_join (folder, DPS_CKPT_LOCK);
    DpsStatus st = old ? dps_lock_compare (t->recipe, e->items, e->n, old, err) : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    dps_free (old);
    return st;
}

DpsStatus dps__trainer_lock (DpsTrainer *t, const DpsCheckpoint *resumed, DpsError *err)
{
    DpsEntries e = {0};
    char *path = dps_path_join (t->recipe->output_dir, DPS_CKPT_LOCK);
    DpsStatus st = path ? all_entries (t, &e, err) : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    if (st == DPS_OK && resumed)
        st = compare (t, &e, dps_ckpt_path (resumed), err);
    if (st == DPS_OK)
        st = dps_lock_dump (t->recipe, e.items, e.n, &t->lock, err);
    if (st == DPS_OK)
        st = dps_file_write (path, t->lock.data, t->lock.len, err);
    dps__entries_free (&e);
    dps_free (path);
    return st;
}

DpsStatus dps_train_unchanged (const DpsRegistry *reg, DpsRecipe *recipe, DpsError *err)
{
    const DpsTrainOptions options = {0};
    DpsTrainer t;
    DpsEntries e = {0};
    DPS_TRY (dps__trainer_open (&t, reg, recipe, &options, 1, err));
    DpsStatus st = dps_source_digest (t.session.source, &t.base, err);
    if (st == DPS_OK)
        st = all_entries (&t, &e, err);
    if (st == DPS_OK)
        st = compare (&t, &e, recipe->output_dir, err);
    dps__entries_free (&e);
    dps__trainer_close (&t);
    return st;
}
