/* SPDX-License-Identifier: Apache-2.0 */
/* stack.c: stack.lock: what this run computes with: the program, its plugins, the libraries they brought, the instruction set. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "plugin/runtime.h"
#include "recipe/stack_lock.h"
#include "train/trainer.h"

static int has (const DpsEntries *e, const char *kind, const char *id)
{
    size_t n = strlen (kind);
    for (size_t i = 0; i < e->n; i++)
        if (!strncmp (e->items[i].key, kind, n) && !strcmp (e->items[i].key + n, id))
            return 1;
    return 0;
}

/*
 * The plugin that a short name or id means, and what it answered to; one of the same name that is not used is no part of the stack. Linked-in
 * ones have no file: they come with the program, whose build id is among the runtimes.
 */
static int add_plugin (const DpsTrainer *t, DpsEntries *e, const char *interface, const char *name)
{
    const void *used = dps_registry_get (t->reg, interface, name);
    for (size_t i = 0; i < dps_registry_count (t->reg); i++) {
        const DpsPlugin *p = dps_registry_at (t->reg, i);
        if (!used || !p->loaded || dps_registry_get (t->reg, interface, p->id) != used || has (e, "plugin ", p->id))
            continue;
        if (dps__entries_add (e, dps_strf ("plugin %s", p->id), p->digest.hex[0] ? p->digest.hex : "built in", p->version) ||
            dps__entries_add (e, dps_strf ("interfaces %s", p->id), p->interfaces, p->abi))
            return -1;
    }
    return 0;
}

static int add_plugins (const DpsTrainer *t, DpsEntries *e)
{
    const DpsRecipe *r = t->recipe;
    const DpsExec *ex = &t->session.ex;
    int bad = 0;
    for (int i = 0; i < ex->n_devices && !bad; i++)
        bad = ex->devices[i].plugin ? add_plugin (t, e, DPS_BACKEND_ID, ex->devices[i].plugin->id) : 0;
    bad = bad || add_plugin (t, e, DPS_OBJECTIVE_ID, r->stage) || (r->adapter && add_plugin (t, e, DPS_ADAPTER_ID, r->adapter));
    for (size_t i = 0; i < r->reward_funcs.n && !bad; i++)
        bad = add_plugin (t, e, DPS_REWARD_ID, r->reward_funcs.items[i].name);
    return bad || add_plugin (t, e, DPS_FORMAT_ID, dps_source_is_gguf (t->session.source) ? "gguf" : "safetensors") ||
           add_plugin (t, e, DPS_FORMAT_ID, "checkpoint") || (t->is_adapter && add_plugin (t, e, DPS_FORMAT_ID, "peft"));
}

static int add_runtime (void *ctx, const char *soname, const char *build)
{
    DpsEntries *e = ctx;
    return has (e, "runtime ", soname) ? 0 : dps__entries_add (e, dps_strf ("runtime %s", soname), build, NULL);
}

static int collect (const DpsTrainer *t, DpsEntries *e)
{
    const DpsDeviceInfo *device = &t->session.ex.devices[0].info;
    char abi[32];
    snprintf (abi, sizeof abi, "%u.%u", DPS_ABI_MAJOR, DPS_ABI_MINOR);
    return dps__entries_add (e, dps_strdup ("diapason"), DIAPASON_VERSION, NULL) || dps__entries_add (e, dps_strdup ("abi"), abi, NULL) ||
           dps__entries_add (e, dps_strdup ("device"), device->name, NULL) || dps__entries_isa (e, device->detail) || add_plugins (t, e) ||
           dps_runtimes (add_runtime, e);
}

DpsStatus dps__trainer_stack (const DpsTrainer *t, int write, DpsError *err)
{
    const char *locked = t->options->locked;
    DpsEntries e = {0};
    char *path = dps_path_join (t->recipe->output_dir, DPS_STACK_LOCK);
    DpsStatus st = path && !collect (t, &e) ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    if (st == DPS_OK && locked && !write)
        st = dps_stack_lock_compare (e.items, e.n, *locked ? locked : path, err);
    if (st == DPS_OK && write)
        st = dps_stack_lock_write (e.items, e.n, path, err);
    dps__entries_free (&e);
    dps_free (path);
    return st;
}
