/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.c: the order of the checks is the point: nothing of a plugin runs until its manifest, its needs, its folder, its digest and
 * its ELF headers have been accepted.
 */
#include "plugin/record.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "plugin/crumb.h"
#include "plugin/elf.h"
#include "plugin/needs.h"
#include "plugin/validate.h"

DpsRecord *dps__record_new (const char *id, size_t id_len, char *path)
{
    DpsRecord *r = dps_calloc (1, sizeof *r);
    if (!r)
        return NULL;
    size_t n = id_len < sizeof r->manifest.id - 1 ? id_len : sizeof r->manifest.id - 1;
    memcpy (r->manifest.id, id, n);
    dps__one_line (r->manifest.id);
    r->error.size = sizeof r->error;
    r->path = path;
    return r;
}

static void withdraw (DpsRecord *r)
{
    for (size_t i = 0; i < DPS_N_INTERFACES; i++) {
        dps_free (r->tables[i]);
        r->tables[i] = NULL;
    }
    if (r->module)
        dps__module_stop (r->module);
    r->module = NULL;
}

void dps__record_free (DpsRecord *r)
{
    if (!r)
        return;
    withdraw (r);
    dps_buf_free (&r->text);
    dps_free (r->path);
    dps_free (r);
}

/* Ask for every interface the host knows; the kinds promised by the manifest must be among the answers. */
static DpsStatus take_interfaces (DpsRecord *r, const char *where, DpsError *err)
{
    size_t used = 0;
    for (size_t i = 0; i < DPS_N_INTERFACES; i++) {
        const char *id = dps__interface_id (i);
        const void *theirs = dps__module_interface (r->module, id);
        if (!theirs)
            continue;
        DPS_TRY (dps__interface_copy (i, theirs, where, &r->tables[i], err));
        if (dps__validating ())
            dps__validate_table (id, r->tables[i], r->manifest.id);
        used += (size_t)snprintf (r->interfaces + used, sizeof r->interfaces - used, "%s%s", used ? "," : "", id);
    }
    const char *at = r->manifest.kinds;
    for (DpsStr kind; dps__list_next (&at, &kind);) {
        char id[64];
        snprintf (id, sizeof id, "dps.%.*s/1", (int)kind.len, kind.ptr);
        size_t i = dps__interface_find (id);
        if (i == DPS_N_INTERFACES || !r->tables[i])
            return dps_fail (err, DPS_ERR_FORMAT, "%s: its manifest promises kind %.*s, but it has no %s", where, (int)kind.len, kind.ptr,
                             id);
    }
    return DPS_OK;
}

static DpsStatus start (DpsRecord *r, DpsModule *module, const char *path, DpsError *err)
{
    dps_crumb_enter (r->manifest.id, "init");
    DpsStatus st = dps__module_start (module, path, err);
    dps_crumb_leave ();
    r->pub.absent = st == DPS_ERR_NOT_FOUND;
    r->init_failed = st != DPS_OK;
    DPS_TRY (st);
    r->module = module;
    dps_crumb_enter (r->manifest.id, "get_interface");
    st = take_interfaces (r, path, err);
    dps_crumb_leave ();
    return st;
}

/* From an accepted manifest to a running plugin. */
static DpsStatus load_module (DpsRecord *r, const DpsFolder *folder, const DpsGuards *guards, DpsError *err)
{
    const DpsManifest *m = &r->manifest;
    DpsSealed sealed = {.fd = -1};
    DpsModule *module = NULL;
    DpsStatus st;
    int fd = -1;
    DPS_TRY (dps__needs_check (m, r->path, err));
    DPS_TRY (dps__folder_file (folder, m->module, &fd, err));
    DPS_TRY_GOTO (st, done, dps__seal_copy (fd, r->path, &sealed, err));
    r->pub.digest = sealed.digest;
    if (strcasecmp (sealed.digest.hex, m->sha256)) {
        st = dps_fail (err, DPS_ERR_DIGEST,
                       "%s: its SHA-256 is %.12s…, its manifest says %.12s…. Hint: reinstall it, or write the manifest again if you "
                       "changed the file yourself",
                       r->path, sealed.digest.hex, m->sha256);
        goto done;
    }
    DPS_TRY_GOTO (st, done, dps__warrant (&guards->warrants, m, &r->text, &sealed.digest, guards->beside_program, r->path, r->signer, err));
    DPS_TRY_GOTO (st, done, dps__elf_check (sealed.data, sealed.len, r->path, err));
    DPS_TRY_GOTO (st, done, dps__needs_runtimes (m, r->path, err));
    DPS_TRY_GOTO (st, done, dps__contain (&guards->contain, guards->beside_program, m, &sealed, r->path, &r->pub.quarantined, err));
    DPS_TRY_GOTO (st, done, dps__module_load (&sealed, r->path, &module, err));
    st = start (r, module, r->path, err);
done:
    dps__seal_close (&sealed);
    close (fd);
    return st;
}

static DpsStatus read_manifest (DpsRecord *r, const DpsFolder *folder, const char *file, DpsError *err)
{
    DpsManifest m;
    int fd;
    DPS_TRY (dps__folder_file (folder, file, &fd, err));
    DpsStatus st = dps__fd_read (fd, r->path, DPS_MANIFEST_MAX_BYTES, &r->text, err);
    close (fd);
    if (st == DPS_OK)
        st = dps__manifest_parse (r->text.data, r->text.len, r->path, &m, err);
    DPS_TRY (st);
    char *path = dps_path_join (folder->path, m.module);
    if (!path)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", file);
    dps_free (r->path);
    r->path = path;
    r->manifest = m;
    return DPS_OK;
}

/* What `diapason plugins` shows. */
static void publish (DpsRecord *r, DpsStatus st)
{
    DpsManifest *m = &r->manifest;
    r->pub.id = m->id;
    r->pub.name = dps__manifest_name (m->id);
    r->pub.kinds = m->kinds;
    r->pub.module = r->path ? r->path : "(built in)";
    r->pub.version = m->version;
    r->pub.licence = m->licence;
    r->pub.summary = m->summary;
    r->pub.on_request = !strcmp (m->automatic, "no");
    r->pub.abi = m->abi;
    r->pub.runtimes = m->runtimes;
    r->pub.interfaces = r->interfaces;
    r->pub.signer = r->signer;
    dps_buf_free (&r->text);
    r->pub.loaded = st == DPS_OK;
    r->pub.reason = "";
    for (char *c = m->kinds; *c; c++)
        *c = *c == ';' ? ',' : *c;
    if (st == DPS_OK)
        return;
    withdraw (r);
    r->interfaces[0] = '\0';
    dps__one_line (r->error.msg);
    r->pub.reason = r->error.msg;
    dps_log (DPS_LOG_DEBUG, "plugin %s refused: %s", m->id, r->error.msg);
}

void dps__record_refuse (DpsRecord *r) { publish (r, r->error.code); }

DpsStatus dps__record_load (DpsRecord *r, const DpsFolder *folder, const char *file, const DpsGuards *guards, DpsRecordFind find, void *ctx,
                            DpsError *err)
{
    DpsStatus st = read_manifest (r, folder, file, &r->error);
    const DpsRecord *taken = st == DPS_OK ? find (ctx, r->manifest.id) : NULL;
    if (taken)
        st = dps_fail (&r->error, DPS_ERR_EXISTS, "%s: id %s is taken by %s", r->path, r->manifest.id, taken->pub.module);
    if (st == DPS_OK)
        st = load_module (r, folder, guards, &r->error);
    publish (r, st);
    return st == DPS_ERR_NOMEM && !r->init_failed ? dps_fail (err, st, "%s", r->error.msg) : DPS_OK;
}

DpsStatus dps__record_builtin (DpsRecord *r, const DpsManifest *manifest, const DpsPluginEntry *entry, DpsError *err)
{
    static const char where[] = "(built in)";
    DpsModule *module = NULL;
    r->manifest = *manifest;
    DpsStatus st = dps__needs_check (manifest, where, &r->error);
    if (st == DPS_OK)
        st = dps__module_builtin (entry, &module, &r->error);
    if (st == DPS_OK)
        st = start (r, module, where, &r->error);
    publish (r, st);
    return st == DPS_ERR_NOMEM ? dps_fail (err, st, "%s", r->error.msg) : DPS_OK;
}
