/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c: which folders are searched, in which order manifests are tried, and how the rest of the core finds a plugin. */
#include "plugin/registry.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "plugin/ledger.h"
#include "plugin/record.h"

enum { MAX_MANIFESTS = 1024 };

/** What a refused folder is listed as. */
static const char folder_id[] = "(folder)";

/** The only linked-in plugin, backends/ref. Declared here because its folder is no stage of the core. */
extern const DpsPluginEntry dps_ref_plugin_entry;

struct DpsRegistry {
    DpsRecord **records; /* sorted by id, then path, once open */
    size_t n_records, capacity;
    DpsGuards guards;
    DpsBuf searched;    /* folders, separated by ", " */
    DpsRegistry *older; /* that was open when this one was */
};

/* Written at [init], as the host's other tables are. */
static DpsRegistry *newest;

static const DpsManifest ref_manifest = {
    .id = "dps.ref",
    .kinds = "backend",
    .abi = "0.1",
    .version = DPS_SDK_VERSION,
    .licence = "Apache-2.0",
    .summary = "plain C, the oracle other backends are measured against",
    .abi_major = DPS_ABI_MAJOR,
    .abi_minor = DPS_ABI_MINOR,
};

/* Takes `path` whatever happens. NULL: no memory. */
static DpsRecord *add_record (DpsRegistry *reg, const char *id, size_t id_len, char *path)
{
    DpsRecord *r = DPS_GROW (reg->records, reg->n_records, reg->capacity) ? NULL : dps__record_new (id, id_len, path);
    if (r)
        reg->records[reg->n_records++] = r;
    else
        dps_free (path);
    return r;
}

static const DpsRecord *find_loaded (void *ctx, const char *id)
{
    const DpsRegistry *reg = ctx;
    for (size_t i = 0; i < reg->n_records; i++)
        if (reg->records[i]->pub.loaded && !strcmp (reg->records[i]->manifest.id, id))
            return reg->records[i];
    return NULL;
}

static int by_name (const void *a, const void *b) { return strcmp (*(char *const *)a, *(char *const *)b); }

/* The names of the folder's manifests, sorted bytewise; each dps_free, then the array. */
static DpsStatus list_manifests (const DpsFolder *folder, char ***out, size_t *out_n, DpsError *err)
{
    size_t n = 0, capacity = 0;
    char **names = NULL;
    int fd = dup (folder->fd);
    DIR *dir = fd < 0 ? NULL : fdopendir (fd);
    DpsStatus st = dir ? DPS_OK : dps_fail (err, DPS_ERR_IO, "%s: cannot list", folder->path);
    if (!dir && fd >= 0)
        close (fd);
    for (struct dirent *d; st == DPS_OK && (d = readdir (dir));) {
        size_t len = strlen (d->d_name), tail = strlen (".plugin");
        if (d->d_name[0] == '.' || len <= tail || strcmp (d->d_name + len - tail, ".plugin"))
            continue;
        if (n == MAX_MANIFESTS)
            st = dps_fail (err, DPS_ERR_LIMIT, "%s: more than %d manifests", folder->path, MAX_MANIFESTS);
        else if (DPS_GROW (names, n, capacity) || !(names[n] = dps_strdup (d->d_name)))
            st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder->path);
        else
            n++;
    }
    if (dir)
        closedir (dir);
    if (n)
        qsort (names, n, sizeof *names, by_name);
    *out = names;
    *out_n = n;
    return st;
}

static DpsStatus load_folder (DpsRegistry *reg, const DpsFolder *folder, const char *only, DpsError *err)
{
    char **names;
    size_t n;
    DpsStatus st = list_manifests (folder, &names, &n, err);
    for (size_t i = 0; i < n; i++) {
        if (only && strcmp (names[i], only)) {
            dps_free (names[i]);
            continue;
        }
        char *path = st == DPS_OK ? dps_path_join (folder->path, names[i]) : NULL;
        DpsRecord *r = path ? add_record (reg, names[i], strlen (names[i]) - strlen (".plugin"), path) : NULL;
        if (r)
            st = dps__record_load (r, folder, names[i], &reg->guards, find_loaded, reg, err);
        else if (st == DPS_OK)
            st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", names[i]);
        dps_free (names[i]);
    }
    dps_free (names);
    return st;
}

/* A folder that cannot be trusted or listed is shown as a refused plugin would be: its reason is what the user needs to read. */
static DpsStatus add_folder (DpsRegistry *reg, const char *path, int must_exist, const char *only, DpsError *err)
{
    DpsFolder folder;
    DpsError why = DPS_ERROR_INIT;
    DpsStatus st = dps__folder_open (path, &folder, &why);
    if (dps_buf_printf (&reg->searched, "%s%s", reg->searched.len ? ", " : "", path))
        st = dps_fail (&why, DPS_ERR_NOMEM, "%s: out of memory", path);
    if (st == DPS_OK)
        st = load_folder (reg, &folder, only, &why);
    dps__folder_close (&folder);
    if (st == DPS_OK)
        return st;
    if (st == DPS_ERR_NOMEM || (st == DPS_ERR_NOT_FOUND && must_exist))
        return dps_fail (err, st, "%s", why.msg);
    char *copy = dps_strdup (path);
    DpsRecord *r = copy ? add_record (reg, folder_id, strlen (folder_id), copy) : NULL;
    if (!r)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    r->error = why;
    dps__record_refuse (r);
    return DPS_OK;
}

/* DIAPASON_PLUGINS: absolute folders separated by ':', searched before the default one. */
static DpsStatus add_environment (DpsRegistry *reg, DpsError *err)
{
    const char *at = getenv ("DIAPASON_PLUGINS");
    DpsStatus st = DPS_OK;
    if (at && !dps__environment_counts ()) {
        dps_log (DPS_LOG_WARNING, "DIAPASON_PLUGINS is ignored: %s",
                 dps__privileged () ? "this process has rights its user has not" : "--production");
        return DPS_OK;
    }
    while (at && *at && st == DPS_OK) {
        size_t n = strcspn (at, ":");
        char *folder = dps_strndup (at, n);
        if (!folder)
            return dps_fail (err, DPS_ERR_NOMEM, "DIAPASON_PLUGINS: out of memory");
        if (n)
            st = add_folder (reg, folder, 0, NULL, err);
        dps_free (folder);
        at += n + (at[n] == ':');
    }
    return st;
}

/* lib/diapason/plugins beside the executable's own folder: right for bin/ of an installation, and for bin/ and tests/ of a build. */
static DpsStatus add_default (DpsRegistry *reg, DpsError *err)
{
    char exe[4096];
    ssize_t n = readlink ("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return dps_fail (err, DPS_ERR_IO, "/proc/self/exe: cannot read, so the plugin folder is unknown");
    exe[n] = '\0';
    char *slash = strrchr (exe, '/');
    *slash = '\0';
    slash = strrchr (exe, '/');
    if (slash)
        *slash = '\0';
    char *folder = dps_path_join (exe, "lib/diapason/plugins");
    if (!folder)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    DpsStatus st = DPS_OK;
    reg->guards.beside_program = 1;
    if (dps_is_dir (folder))
        st = add_folder (reg, folder, 0, NULL, err);
    else
        dps_log (DPS_LOG_DEBUG, "%s: no such folder, so there are no plugins but those built in", folder);
    dps_free (folder);
    return st;
}

static DpsStatus add_builtin (DpsRegistry *reg, DpsError *err)
{
    DpsRecord *ref = add_record (reg, ref_manifest.id, strlen (ref_manifest.id), NULL);
    if (!ref)
        return dps_fail (err, DPS_ERR_NOMEM, "plugin registry: out of memory");
    return dps__record_builtin (ref, &ref_manifest, &dps_ref_plugin_entry, err);
}

static int by_id (const void *a, const void *b)
{
    const DpsRecord *x = *(DpsRecord *const *)a, *y = *(DpsRecord *const *)b;
    int c = strcmp (x->pub.id, y->pub.id);
    return c ? c : strcmp (x->pub.module, y->pub.module);
}

DpsStatus dps_registry_open (const DpsRegistryOptions *options, DpsRegistry **out, DpsError *err)
{
    DpsRegistry *reg = dps_calloc (1, sizeof *reg);
    DpsStatus st = reg ? dps__warrants_open (&reg->guards.warrants, err) : dps_fail (err, DPS_ERR_NOMEM, "plugin registry: out of memory");
    if (st != DPS_OK) {
        dps_free (reg);
        return st;
    }
    st = add_builtin (reg, err);
    if (st != DPS_OK)
        goto failed;
    if (options && options->prober)
        reg->guards.contain = (DpsContain){
            .program = options->prober, .deadline_ms = options->probe_ms ? options->probe_ms : DPS_PROBE_MS, .ledger = dps__ledger_path ()};
    if (options && options->folders)
        for (size_t i = 0; i < options->n_folders && st == DPS_OK; i++)
            st = add_folder (reg, options->folders[i], 1, options->only, err);
    if (st == DPS_OK && (!options || !options->folders || options->and_usual) && (st = add_environment (reg, err)) == DPS_OK)
        st = add_default (reg, err);
    if (st != DPS_OK)
        goto failed;
    if (reg->n_records)
        qsort (reg->records, reg->n_records, sizeof *reg->records, by_id);
    reg->older = newest;
    newest = reg;
    *out = reg;
    return DPS_OK;
failed:
    dps_registry_close (reg);
    return st;
}

void dps_registry_close (DpsRegistry *reg)
{
    if (!reg)
        return;
    for (DpsRegistry **at = &newest; *at; at = &(*at)->older)
        if (*at == reg) {
            *at = reg->older;
            break;
        }
    for (size_t i = reg->n_records; i-- > 0;)
        dps__record_free (reg->records[i]);
    dps_free (reg->records);
    dps_free (reg->guards.contain.ledger);
    dps__warrants_close (&reg->guards.warrants);
    dps_buf_free (&reg->searched);
    dps_free (reg);
}

DpsStatus dps_plugin_release (const DpsPlugin *p, DpsError *err)
{
    const DpsLedgerLine nothing = {.verdict = DPS_LEDGER_UNKNOWN};
    if (!p->quarantined)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: is not in quarantine%s%s", p->id, p->loaded ? "" : "; it is refused: ", p->reason);
    char *path = dps__ledger_path ();
    DpsStatus st = dps__ledger_set (path, &p->digest, &nothing, err);
    dps_free (path);
    return st;
}

size_t dps_registry_count (const DpsRegistry *reg) { return reg->n_records; }
const DpsPlugin *dps_registry_at (const DpsRegistry *reg, size_t i) { return i < reg->n_records ? &reg->records[i]->pub : NULL; }
const char *dps_registry_searched (const DpsRegistry *reg) { return reg->searched.data ? reg->searched.data : ""; }

const void *dps_registry_get (const DpsRegistry *reg, const char *interface_id, const char *name)
{
    size_t face = dps__interface_find (interface_id);
    const void *ours = NULL, *other = NULL;
    for (size_t i = 0; face < DPS_N_INTERFACES && i < reg->n_records; i++) {
        const DpsRecord *r = reg->records[i];
        const void *table = r->tables[face];
        if (table && !strcmp (r->pub.id, name))
            return table;
        if (!table || strcmp (r->pub.name, name))
            continue;
        if (!strncmp (r->pub.id, "dps.", 4))
            ours = ours ? ours : table;
        else
            other = other ? other : table;
    }
    return ours ? ours : other;
}

const DpsFormat *dps__registry_format (DpsStr name)
{
    char id[128];
    const DpsFormat *found = NULL;
    if (name.len >= sizeof id)
        return NULL;
    memcpy (id, name.ptr, name.len);
    id[name.len] = '\0';
    for (const DpsRegistry *reg = newest; reg && !found; reg = reg->older)
        found = dps_registry_get (reg, DPS_FORMAT_ID, id);
    return found;
}

const void *dps_registry_nth (const DpsRegistry *reg, const char *interface_id, size_t k, const DpsPlugin **out_plugin)
{
    size_t face = dps__interface_find (interface_id);
    for (size_t i = 0; face < DPS_N_INTERFACES && i < reg->n_records; i++)
        if (reg->records[i]->tables[face] && k-- == 0) {
            if (out_plugin)
                *out_plugin = &reg->records[i]->pub;
            return reg->records[i]->tables[face];
        }
    return NULL;
}

DpsStatus dps_registry_missing (const DpsRegistry *reg, const char *interface_id, const char *name, DpsError *err)
{
    char names[512] = "", refused[512] = "";
    const char *kind = strncmp (interface_id, "dps.", 4) ? interface_id : interface_id + 4;
    const DpsPlugin *p;
    size_t used = 0;
    for (size_t k = 0; dps_registry_nth (reg, interface_id, k, &p) && used < sizeof names; k++)
        used += (size_t)snprintf (names + used, sizeof names - used, "%s%s", k ? ", " : "", p->name);
    for (size_t i = 0; i < reg->n_records && !refused[0]; i++) {
        p = &reg->records[i]->pub;
        if (!p->loaded && (!strcmp (p->name, name) || !strcmp (p->id, name) || !strcmp (p->id, folder_id)))
            snprintf (refused, sizeof refused, ". Refused: %s", p->reason);
    }
    return dps_fail (err, DPS_ERR_NOT_FOUND, "no %.*s plugin '%s'; there are: %s%s. Hint: diapason plugins list", (int)strcspn (kind, "/"),
                     kind, name, names[0] ? names : "none", refused);
}
