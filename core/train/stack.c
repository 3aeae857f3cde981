/* SPDX-License-Identifier: Apache-2.0 */
/* stack.c: stack.lock: what this run computes with: the program, its plugins, the libraries they brought, the instruction set. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "plugin/needs.h"
#include "plugin/runtime.h"
#include "recipe/stack_lock.h"
#include "train/trainer.h"

/* One and what it answered to. Linked-in ones have no file: they come with the program, whose build id is among the runtimes. */
static int add_plugin (DpsEntries *e, const DpsPlugin *p)
{
    if (!p || dps__entries_have (e, "plugin ", p->id))
        return 0;
    return dps__entries_add (e, dps_strf ("plugin %s", p->id), p->digest.hex[0] ? p->digest.hex : "built in", p->version) ||
           dps__entries_add (e, dps_strf ("interfaces %s", p->id), p->interfaces, p->abi);
}

static int add_used (const DpsTrainer *t, DpsEntries *e, const char *interface, const char *name)
{
    return add_plugin (e, dps__plugin_used (t, interface, name));
}

static int add_plugins (const DpsTrainer *t, DpsEntries *e)
{
    const DpsRecipe *r = t->recipe;
    const DpsExec *ex = &t->session.ex;
    int bad = 0;
    for (int i = 0; i < ex->n_devices && !bad; i++)
        bad = add_plugin (e, ex->devices[i].plugin);
    bad = bad || add_used (t, e, DPS_OBJECTIVE_ID, r->stage) || (r->adapter && add_used (t, e, DPS_ADAPTER_ID, r->adapter));
    for (size_t i = 0; i < r->reward_funcs.n && !bad; i++)
        bad = add_used (t, e, DPS_REWARD_ID, r->reward_funcs.items[i].name);
    return bad || add_plugin (e, dps__plugin_of (t, DPS_FORMAT_ID, dps_source_format (t->session.source))) ||
           add_used (t, e, DPS_FORMAT_ID, "checkpoint") || (t->is_adapter && add_used (t, e, DPS_FORMAT_ID, "peft"));
}

typedef struct Stack {
    const DpsTrainer *t;
    DpsEntries *e;
} Stack;

/* The libraries that the manifests of these plugins name. */
static int is_named (void *ctx, const char *soname)
{
    const Stack *s = ctx;
    for (size_t i = 0; i < dps_registry_count (s->t->reg); i++) {
        const DpsPlugin *p = dps_registry_at (s->t->reg, i);
        const char *at = p->runtimes;
        for (char name[192]; dps__entries_have (s->e, "plugin ", p->id) && dps__needs_soname (&at, name, sizeof name);)
            if (!strcmp (name, soname))
                return 1;
    }
    return 0;
}

static int add_runtime (void *ctx, const char *soname, const char *build)
{
    const Stack *s = ctx;
    return dps__entries_have (s->e, "runtime ", soname) ? 0 : dps__entries_add (s->e, dps_strf ("runtime %s", soname), build, NULL);
}

static int collect (const DpsTrainer *t, DpsEntries *e)
{
    Stack stack = {t, e};
    char abi[32];
    snprintf (abi, sizeof abi, "%u.%u", DPS_ABI_MAJOR, DPS_ABI_MINOR);
    return dps__entries_add (e, dps_strdup ("diapason"), DIAPASON_VERSION, NULL) || dps__entries_add (e, dps_strdup ("abi"), abi, NULL) ||
           dps__entries_devices (e, &t->session.ex) || add_plugins (t, e) || dps_runtimes (is_named, add_runtime, &stack);
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
