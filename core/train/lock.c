/* SPDX-License-Identifier: Apache-2.0 */
/* lock.c: recipe.lock.yaml: the recipe as resolved and the identity of what it read: base, rows, template, plugins, instruction set. */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "recipe/lock.h"
#include "train/trainer.h"

enum { MAX_ENTRIES = 256 };

typedef struct Entries {
    DpsLockEntry items[MAX_ENTRIES];
    char *owned[MAX_ENTRIES];
    size_t n, n_owned;
} Entries;

static char *keep (Entries *e, char *s)
{
    if (s && e->n_owned < MAX_ENTRIES)
        e->owned[e->n_owned++] = s;
    return s;
}

static int add (Entries *e, const char *key, const char *value, const char *note)
{
    if (!key || !value || e->n == MAX_ENTRIES)
        return -1;
    e->items[e->n++] = (DpsLockEntry){key, value, note};
    return 0;
}

/* The plugins that did arithmetic on this run. */
static int add_plugin (const DpsTrainer *t, Entries *e, const char *interface, const char *name)
{
    for (size_t i = 0; i < dps_registry_count (t->reg); i++) {
        const DpsPlugin *p = dps_registry_at (t->reg, i);
        if (p->loaded && !strcmp (p->name, name) && dps_registry_get (t->reg, interface, p->id) && p->digest.hex[0])
            return add (e, keep (e, dps_strf ("plugin %s", p->id)), p->digest.hex, p->version);
    }
    return 0;
}

static int collect (const DpsTrainer *t, Entries *e)
{
    const DpsRecipe *r = t->recipe;
    const DpsDeviceInfo *device = &t->session.ex.devices[0].info;
    const char *path, *sha256;
    int bad = add (e, "base.sha256", t->base.hex, r->model_name_or_path);
    for (size_t i = 0; !bad && dps_feed_file (t->feed, i, &path, &sha256); i++)
        bad = add (e, keep (e, dps_strf ("datasets[%zu].sha256", i)), sha256, path);
    for (size_t i = 0; !bad && t->eval_feed && dps_feed_file (t->eval_feed, i, &path, &sha256); i++)
        bad = add (e, keep (e, dps_strf ("eval_datasets[%zu].sha256", i)), sha256, path);
    bad = bad || add (e, "device", device->name, device->detail) || add (e, "dtype", dps_dtype_name (t->session.compute), NULL);
    bad = bad || add_plugin (t, e, DPS_BACKEND_ID, device->name) || add_plugin (t, e, DPS_OBJECTIVE_ID, r->stage) ||
          (r->adapter && add_plugin (t, e, DPS_ADAPTER_ID, r->adapter));
    return bad;
}

static DpsStatus add_template (const DpsTrainer *t, Entries *e, DpsError *err)
{
    DpsDigest digest;
    if (!t->recipe->chat_template_path)
        return DPS_OK;
    DPS_TRY (dps_sha256_file (t->recipe->chat_template_path, &digest, err));
    return add (e, "chat_template.sha256", keep (e, dps_strdup (digest.hex)), t->recipe->chat_template_path)
               ? dps_fail (err, DPS_ERR_NOMEM, "train: out of memory")
               : DPS_OK;
}

DpsStatus dps__trainer_lock (DpsTrainer *t, const DpsCheckpoint *resumed, DpsError *err)
{
    Entries *e = dps_calloc (1, sizeof *e);
    char *path = dps_path_join (t->recipe->output_dir, DPS_CKPT_LOCK);
    DpsStatus st = e && path && !collect (t, e) ? add_template (t, e, err) : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    if (st == DPS_OK && resumed) {
        char *old = dps_path_join (dps_ckpt_path (resumed), DPS_CKPT_LOCK);
        st = old ? dps_lock_compare (t->recipe, e->items, e->n, old, err) : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
        dps_free (old);
    }
    if (st == DPS_OK)
        st = dps_lock_dump (t->recipe, e->items, e->n, &t->lock, err);
    if (st == DPS_OK)
        st = dps_file_write (path, t->lock.data, t->lock.len, err);
    for (size_t i = 0; e && i < e->n_owned; i++)
        dps_free (e->owned[i]);
    dps_free (e);
    dps_free (path);
    return st;
}
