/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module.c: dlopen of a sealed memory file, then mistrust of what comes out: the symbol's size, its magic, its version, before any
 * function in it is called.
 */
#include "plugin/module.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "plugin/registry.h"

enum { MAX_MODULES = 256 };

struct DpsModule {
    DpsDigest key;                 /* of path and content; empty for a linked-in one */
    const DpsPluginEntry *address; /* in the module */
    DpsPluginEntry entry;          /* our copy: members it lacks are 0 */
    unsigned n_users;
};

/* For the life of the process, like the code itself. [init] only, so no lock. */
static DpsModule modules[MAX_MODULES];
static size_t n_modules;

void dps__one_line (char *s)
{
    for (size_t left = strlen (s), n; left; s += n, left -= n) {
        n = dps_utf8_sequence (s, left);
        if (n == 0) {
            *s = '?';
            n = 1;
        } else if (!dps_utf8_is_plain (s, n))
            memset (s, ' ', n);
    }
}

/* Everything up to and including the size member has been in the struct since the first ABI. */
static DpsStatus check_entry (const DpsPluginEntry *e, size_t bytes, const char *path, DpsPluginEntry *out, DpsError *err)
{
    const size_t least = offsetof (DpsPluginEntry, get_interface) + sizeof e->get_interface;
    uint32_t magic = 0;
    if (bytes >= sizeof magic)
        memcpy (&magic, e, sizeof magic);
    if (magic != DPS_PLUGIN_MAGIC)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: " DPS_PLUGIN_SYMBOL " does not begin with the plugin magic (0x%08x, expected 0x%08x)",
                         path, magic, DPS_PLUGIN_MAGIC);
    if (bytes < least || e->size < least || e->size > bytes)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: " DPS_PLUGIN_SYMBOL " says %zu bytes and has %zu, expected at least %zu", path,
                         bytes < least ? (size_t)0 : e->size, bytes, least);
    if (e->abi_major != DPS_ABI_MAJOR)
        return dps_fail (err, DPS_ERR_VERSION, "%s: built for ABI %u.%u, this host speaks %u.%u. Hint: rebuild it with this SDK", path,
                         e->abi_major, e->abi_minor, DPS_ABI_MAJOR, DPS_ABI_MINOR);
    if (!e->init || !e->get_interface)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: " DPS_PLUGIN_SYMBOL " has no %s", path, e->init ? "get_interface" : "init");
    memset (out, 0, sizeof *out);
    memcpy (out, e, e->size < sizeof *out ? e->size : sizeof *out);
    return DPS_OK;
}

/* dlerror names the memory file; people know the plugin by its path. */
static DpsStatus fail_load (const char *loaded_as, const char *path, DpsError *err)
{
    const char *why = dlerror ();
    size_t n = strlen (loaded_as);
    if (why && !strncmp (why, loaded_as, n) && why[n] == ':')
        why += n + 1 + strspn (why + n + 1, " ");
    return dps_fail (err, DPS_ERR_FORMAT, "%s: does not load: %s", path, why ? why : "unknown reason");
}

static DpsStatus module_key (const DpsSealed *sealed, const char *path, DpsDigest *out, DpsError *err)
{
    DpsHasher *h = dps_hasher_new ();
    if (!h)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    dps_hasher_add (h, sealed->digest.hex, sizeof sealed->digest.hex);
    dps_hasher_add (h, path, strlen (path));
    return dps_hasher_final (h, out, err);
}

DpsStatus dps__module_load (DpsSealed *sealed, const char *path, DpsModule **out, DpsError *err)
{
    DpsModule m = {.n_users = 0};
    char name[64];
    Dl_info info;
    const ElfW (Sym) *symbol = NULL;
    DPS_TRY (module_key (sealed, path, &m.key, err));
    for (size_t i = 0; i < n_modules; i++)
        if (!strcmp (modules[i].key.hex, m.key.hex)) {
            *out = &modules[i];
            return DPS_OK;
        }
    if (n_modules == MAX_MODULES)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: more than %d plugins in one process", path, MAX_MODULES);
    snprintf (name, sizeof name, "/proc/self/fd/%d", sealed->fd);
    void *handle = dlopen (name, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return fail_load (name, path, err);
    /* The descriptor stays open: the dynamic linker knows modules by name, and a number used again would find this one. */
    sealed->fd = -1;
    m.address = dlsym (handle, DPS_PLUGIN_SYMBOL);
    if (!m.address || !dladdr1 (m.address, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: exports no symbol " DPS_PLUGIN_SYMBOL ", so it is not a Diapason plugin", path);
    DPS_TRY (check_entry (m.address, (size_t)symbol->st_size, path, &m.entry, err));
    modules[n_modules] = m;
    *out = &modules[n_modules++];
    return DPS_OK;
}

DpsStatus dps__module_builtin (const DpsPluginEntry *entry, DpsModule **out, DpsError *err)
{
    DpsModule m = {.address = entry};
    for (size_t i = 0; i < n_modules; i++)
        if (modules[i].address == entry) {
            *out = &modules[i];
            return DPS_OK;
        }
    if (n_modules == MAX_MODULES)
        return dps_fail (err, DPS_ERR_LIMIT, "more than %d plugins in one process", MAX_MODULES);
    DPS_TRY (check_entry (entry, sizeof *entry, "(built in)", &m.entry, err));
    modules[n_modules] = m;
    *out = &modules[n_modules++];
    return DPS_OK;
}

DpsStatus dps__module_start (DpsModule *m, const char *path, DpsError *err)
{
    DpsError theirs = DPS_ERROR_INIT;
    if (m->n_users == 0) {
        DpsStatus st = m->entry.init (dps_host (), path, &theirs);
        theirs.msg[sizeof theirs.msg - 1] = '\0';
        dps__one_line (theirs.msg);
        if (st == DPS_ERR_NOT_FOUND && theirs.msg[0])
            return dps_fail (err, st, "not available here: %s", theirs.msg);
        if (st != DPS_OK)
            return dps_fail (err, st, "%s: init failed (%s): %s", path, dps_status_name (st),
                             theirs.msg[0] ? theirs.msg : "it gave no reason");
    }
    m->n_users++;
    return DPS_OK;
}

void dps__module_stop (DpsModule *m)
{
    if (--m->n_users == 0 && m->entry.deinit)
        m->entry.deinit ();
}

const void *dps__module_interface (const DpsModule *m, const char *id) { return m->entry.get_interface (dps_str (id)); }
