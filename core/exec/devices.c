/* SPDX-License-Identifier: Apache-2.0 */
/* devices.c: which devices an exec opens, in which order, and what their names mean. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "exec/exec.h"
#include "exec/layer.h"
#include "plugin/crumb.h"
#include "plugin/host.h"

/* Does a name mean the plugin or one of its devices: "opencl" or "opencl:1"? */
static int means (const char *name, const char *plugin)
{
    size_t n = strlen (plugin);
    return !strncmp (name, plugin, n) && (name[n] == '\0' || name[n] == ':');
}

/* The backend that a name means, as the registry chooses among plugins of one short name; NULL: no plugin, so it is a device's name. */
static const DpsBackend *meant (const DpsRegistry *reg, const char *name)
{
    char plugin[128];
    snprintf (plugin, sizeof plugin, "%.*s", (int)strcspn (name, ":"), name);
    return dps_registry_get (reg, DPS_BACKEND_ID, plugin);
}

/* A plugin's full id may stand for its short name: "com.acme.npu:1" is device "npu:1" of that plugin. */
static int wanted (const char *name, const DpsPlugin *plugin, const char *device)
{
    const char *name_here = means (name, plugin->id) ? name + strlen (plugin->id) - strlen (plugin->name) : name;
    return !strcmp (name_here, plugin->name) || !strcmp (name_here, device);
}

const char *dps_exec_device_fault (const DpsRegistry *reg, const DpsBackend *be, uint32_t i, const DpsDeviceInfo *info)
{
    if (i == DPS_DEVICES_MAX)
        return "is one too many: enumerate never says that there is no more";
    if (!info->device || !info->name || !*info->name || !dps_utf8_is_plain (info->name, strlen (info->name)) ||
        (info->detail && !dps_utf8_is_plain (info->detail, strlen (info->detail))))
        return "has no handle, or a name or detail that is no plain text";
    const DpsBackend *named = meant (reg, info->name);
    return named && named != be ? "has a name that means another backend here; expected one that begins with its plugin's" : NULL;
}

DpsStatus dps_exec_device (const DpsPlugin *plugin, const DpsBackend *be, uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    *out = (DpsDeviceInfo){.size = sizeof *out};
    dps_crumb_enter (plugin->id, "enumerate");
    DpsStatus st = be->enumerate (i, out, err);
    dps_crumb_leave ();
    return st;
}

/* Refused where it was asked for by name; elsewhere the run goes on without it. */
static DpsStatus unsound (const DpsPlugin *plugin, uint32_t i, const char *what, int asked_for, DpsError *err)
{
    if (asked_for)
        return dps_fail (err, DPS_ERR_INVALID, "backend %s: device %u %s. Hint: diapason check %s", plugin->id, i, what, plugin->name);
    dps_log (DPS_LOG_WARNING, "backend %s is left out: device %u %s. Hint: diapason check %s", plugin->id, i, what, plugin->name);
    return DPS_OK;
}

/* Every device of one backend whose name is asked for. */
static DpsStatus add_backend (DpsExec *ex, const DpsRegistry *reg, const DpsBackend *be, const DpsPlugin *plugin, const char *const *names,
                              size_t n, size_t rank, DpsError *err)
{
    for (uint32_t i = 0; ex->n_devices < DPS_EXEC_MAX_DEVICES; i++) {
        DpsExecDevice d = {.backend = be, .plugin = plugin};
        DpsError end = DPS_ERROR_INIT;
        DpsStatus st = dps_exec_device (plugin, be, i, &d.info, &end);
        if (st != DPS_OK) /* past the last; a driver that is asked for by name and has nothing says why */
            return i == 0 && n && be == meant (reg, names[rank]) && st != DPS_ERR_NOT_FOUND ? dps_fail (err, st, "%s", end.msg) : DPS_OK;
        const char *what = dps_exec_device_fault (reg, be, i, &d.info);
        if (what)
            return unsound (plugin, i, what, n && be == meant (reg, names[rank]), err);
        if (n && !wanted (names[rank], plugin, d.info.name))
            continue;
        if (n == 0 && !(d.info.flags & DPS_DEVICE_HOST_MEMORY))
            continue;
        for (int k = 0; k < ex->n_devices; k++)
            if (ex->devices[k].info.device == d.info.device && ex->devices[k].backend == be)
                return DPS_OK;
        d.pack = dps_registry_get (reg, DPS_PACK_ID, plugin->id);
        ex->devices[ex->n_devices++] = d;
    }
    return DPS_OK;
}

/* Ours come before strangers', which are the first choice of a run only where its recipe names them. */
static DpsStatus add_named (DpsExec *ex, const DpsRegistry *reg, const char *const *names, size_t n, size_t rank, int ref, DpsError *err)
{
    const DpsPlugin *plugin;
    const DpsBackend *be, *only = n ? meant (reg, names[rank]) : NULL;
    int before = ex->n_devices;
    for (int strangers = 0; strangers < 2; strangers++)
        for (size_t k = 0; (be = dps_registry_nth (reg, DPS_BACKEND_ID, k, &plugin)); k++) {
            int chosen = only ? be == only : !plugin->on_request && (n || (strcmp (plugin->name, "ref") == 0) == ref);
            if (chosen && (strncmp (plugin->id, "dps.", 4) != 0) == strangers)
                DPS_TRY (add_backend (ex, reg, be, plugin, names, n, rank, err));
        }
    if (n && ex->n_devices == before)
        return dps_registry_missing (reg, DPS_BACKEND_ID, names[rank], err);
    return DPS_OK;
}

/* What would have been used, and was refused: said, where nothing but ref is left, which is far slower and has bits of its own. */
static void say_refused (const DpsRegistry *reg)
{
    for (size_t i = 0; i < dps_registry_count (reg); i++) {
        const DpsPlugin *p = dps_registry_at (reg, i);
        if (!p->loaded && !p->absent && !p->on_request && strstr (p->kinds, "backend"))
            dps_log (DPS_LOG_WARNING, "everything runs on ref, which is slow, since backend %s was refused (diapason doctor): %s", p->name,
                     p->reason);
    }
}

DpsStatus dps_exec_open (DpsExec *ex, const DpsRegistry *reg, const char *const *names, size_t n_names, DpsError *err)
{
    static const char *const ref_name = "ref";
    *ex = (DpsExec){0};
    for (int i = 0; i < DPS_OP_COUNT; i++)
        ex->op_ids[i] = dps_intern (dps_op_name ((DpsOpCode)i));
    if (dps_quant_names (dps__intern, &ex->quants))
        return dps_fail (err, DPS_ERR_LIMIT, "exec: no number is left for the dtypes of quantised weights");
    if (n_names == 0)
        DPS_TRY (add_named (ex, reg, NULL, 0, 0, 0, err));
    if (n_names == 0 && ex->n_devices == 0)
        say_refused (reg);
    for (size_t i = 0; i < n_names; i++)
        DPS_TRY (add_named (ex, reg, names, n_names, i, 0, err));
    int has_ref = 0;
    for (int i = 0; i < ex->n_devices; i++)
        has_ref |= !strcmp (ex->devices[i].info.name, "ref");
    if (!has_ref)
        DPS_TRY (add_named (ex, reg, &ref_name, 1, 0, 1, err));
    return dps__layers_add (ex, reg, err);
}

int dps_exec_elsewhere (const DpsExec *ex, DpsOpCode op) { return ex->prefer[op] > 1; }

DpsStatus dps_exec_prefer (DpsExec *ex, const char *op, const char *device, DpsError *err)
{
    int code = 0, at = 0;
    while (code < DPS_OP_COUNT && strcmp (dps_op_name ((DpsOpCode)code), op))
        code++;
    while (at < ex->n_devices && !wanted (device, ex->devices[at].plugin, ex->devices[at].info.name))
        at++;
    if (code == DPS_OP_COUNT)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "there is no op '%.60s'. Hint: diapason explain lists those of a step", op);
    if (at == ex->n_devices)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s is to run on '%.60s', which is not among the devices. Hint: device: [%s, %.60s]", op,
                         device, ex->devices[0].info.name, device);
    ex->prefer[code] = (uint8_t)(at + 1);
    return DPS_OK;
}
