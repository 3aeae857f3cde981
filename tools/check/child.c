/* SPDX-License-Identifier: Apache-2.0 */
/* child.c: the process that loads the plugin under test and runs one case on it. What it knows comes by arguments, what it finds leaves by a pipe. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "check/process.h"
#include "check/run.h"
#include "diapason/open_registry.h"
#include "exec/exec.h"
#include "objective/tape.h"
#include "plugin/crumb.h"
#include "plugin/host.h"
#include "train/reward_model.h"

enum { VERDICT_FD = 3 };

DpsStatus check_skip (DpsError *err, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (text, sizeof text, fmt, ap);
    va_end (ap);
    dps_fail (err, DPS_ERR_UNSUPPORTED, "%s", text);
    return CHECK_SKIPPED;
}

void check_note_number (CheckContext *ctx, const char *key, double value) { json_object_set_new (ctx->notes, key, json_real (value)); }
void check_note_text (CheckContext *ctx, const char *key, const char *value) { json_object_set_new (ctx->notes, key, json_string (value)); }

static const CheckCase *find_case (const char *name, const CheckSuite **out_suite)
{
    const char *slash = strchr (name, '/');
    for (size_t s = 0; slash && check_suites[s]; s++) {
        const CheckSuite *suite = check_suites[s];
        if (strlen (suite->name) != (size_t)(slash - name) || strncmp (suite->name, name, (size_t)(slash - name)))
            continue;
        for (size_t i = 0; i < suite->n_cases; i++)
            if (!strcmp (suite->cases[i].name, slash + 1)) {
                *out_suite = suite;
                return &suite->cases[i];
            }
    }
    return NULL;
}

/*
 * The registry of a case. A path ("x.so") means the manifest beside it, alone; a name means what the usual folders have under it. Nothing but
 * ref is loaded besides unless `all`.
 */
static DpsStatus open_registry (const char *target, int all, DpsRegistry **out, DpsError *err)
{
    DPS_TRY (dps_tape_provide (err));
    DPS_TRY (dps_reward_model_provide (err));
    const char *slash = strrchr (target, '/'), *dot = strrchr (target, '.');
    if ((!strcmp (target, "ref") || !strcmp (target, "dps.ref")) && !all) {
        const DpsRegistryOptions none = {.folders = (const char *const[]){NULL}};
        return dps_registry_open (&none, out, err); /* it is linked in */
    }
    if (!slash && !(dot && !strcmp (dot, ".so")))
        return dps_registry_open (NULL, out, err);
    if (!dps_is_file (target))
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: no such file. Hint: PLUGIN.so is a path, NAME one of 'diapason plugins list'",
                         target);
    char *path = realpath (target, NULL), manifest[256];
    if (!path || !(slash = strrchr (path, '/')) || !(dot = strrchr (slash, '.')) || (size_t)(dot - slash) > 200) {
        free (path); /* allocated by libc */
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: not the path of a plugin's module (NAME.so)", target);
    }
    snprintf (manifest, sizeof manifest, "%.*s.plugin", (int)(dot - slash - 1), slash + 1);
    path[slash - path] = '\0';
    const char *const folders[] = {*path ? path : "/"};
    const DpsRegistryOptions options = {.folders = folders, .n_folders = 1, .only = manifest, .and_usual = all};
    DpsStatus st = dps_registry_open (&options, out, err);
    free (path); /* allocated by libc */
    return st;
}

/* The plugin that `target` means: the one of its manifest, or the loaded one of that name. */
static DpsStatus find_plugin (const DpsRegistry *reg, const char *target, const DpsPlugin **out, DpsError *err)
{
    char *real = realpath (target, NULL);
    size_t n = real && strrchr (real, '.') ? (size_t)(strrchr (real, '.') - real) : 0;
    const DpsPlugin *found = NULL;
    for (size_t i = 0; i < dps_registry_count (reg) && !(found && found->loaded); i++) {
        const DpsPlugin *p = dps_registry_at (reg, i);
        int is_path = n && !strncmp (p->module, real, n) && p->module[n] == '.';
        if (is_path || !strcmp (p->id, target) || !strcmp (p->name, target))
            found = p;
    }
    free (real); /* allocated by libc */
    if (!found && cli_folder_refused (reg))
        return dps_fail (err, DPS_ERR_NOT_FOUND, "no plugin '%s', and %s", target, cli_folder_refused (reg));
    if (!found)
        return dps_fail (
            err, DPS_ERR_NOT_FOUND, "no plugin '%s' (searched: %s). Hint: %s", target, dps_registry_searched (reg),
            strchr (target, '/')
                ? "its manifest NAME.plugin must lie beside NAME.so; write-manifest of the SDK writes it (tools/dev in the source)"
                : "DIAPASON_PLUGINS=FOLDER names more folders, and a path to NAME.so checks that one; "
                  "'diapason plugins list' shows what is installed");
    *out = found;
    return found->loaded ? DPS_OK : dps_fail (err, DPS_ERR_FORMAT, "%s is refused at load: %s", found->id, found->reason);
}

/* Devices of a backend, as `load` tells them. */
static DpsStatus describe_devices (const DpsRegistry *reg, const DpsPlugin *p, json_t *notes, DpsError *err)
{
    const DpsBackend *backend = dps_registry_get (reg, DPS_BACKEND_ID, p->id);
    if (!backend)
        return DPS_OK;
    json_t *list = json_array ();
    DpsStatus st = DPS_OK;
    for (uint32_t i = 0; st == DPS_OK && i < DPS_DEVICES_MAX; i++) {
        DpsDeviceInfo info;
        st = dps_exec_device (p, backend, i, &info, err);
        if (st == DPS_OK)
            json_array_append_new (list,
                                   json_pack ("{s:s, s:s}", "name", info.name ? info.name : "", "detail", info.detail ? info.detail : ""));
    }
    json_object_set_new (notes, "devices", list);
    return st == DPS_ERR_NOT_FOUND ? DPS_OK : st;
}

static DpsStatus load (CheckContext *ctx, DpsError *err)
{
    json_object_set_new (ctx->notes, "plugin", cli_plugin_json (ctx->plugin));
    return describe_devices (ctx->registry, ctx->plugin, ctx->notes, err);
}

static DpsStatus run_case (CheckContext *ctx, DpsError *err)
{
    if (!ctx->test)
        return load (ctx, err);
    ctx->table = dps_registry_get (ctx->registry, ctx->suite->interface_id, ctx->plugin->id);
    if (!ctx->table)
        return check_skip (err, "it has no %s", ctx->suite->interface_id);
    if (ctx->test->needs && !dps_registry_get (ctx->registry, ctx->test->needs, ctx->plugin->id))
        return check_skip (err, "it has no %s", ctx->test->needs);
    DpsDeviceInfo info = {.size = sizeof info};
    ctx->ref = dps_registry_get (ctx->registry, DPS_BACKEND_ID, "ref");
    DPS_TRY (ctx->ref->enumerate (0, &info, err));
    ctx->ref_device = info.device;
    return ctx->test->run (ctx, err);
}

/* One line on the pipe. */
static int tell (CheckVerdict verdict, const char *message, json_t *notes)
{
    char clean[sizeof ((DpsError){0}.msg)];
    snprintf (clean, sizeof clean, "%s", message);
    json_t *line =
        json_pack ("{s:s, s:s, s:O}", "verdict", check_verdict_names[verdict], "message", check_printable (clean), "notes", notes);
    char *bytes = line ? json_dumps (line, JSON_COMPACT) : NULL;
    ssize_t n = bytes ? (ssize_t)strlen (bytes) : 0, sent = 0;
    while (sent < n) {
        ssize_t some = write (VERDICT_FD, bytes + sent, (size_t)(n - sent));
        if (some <= 0)
            break;
        sent += some;
    }
    dps_free (bytes);
    json_decref (line);
    return n > 0 && sent == n ? 0 : 1;
}

static void log_line (void *unused, int level, const char *line)
{
    (void)unused, (void)level;
    fprintf (stderr, "%s\n", line);
}

int check_child (const CheckOptions *o, const char *name, const char *scratch)
{
    char program[4096] = "";
    DpsError err = DPS_ERROR_INIT;
    CheckMark mark;
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    check_process_limit ();
    dps_crash_report_install ();
    dps_log_install (log_line, NULL, DPS_LOG_WARNING);
    check_mark (&mark);
    if (readlink ("/proc/self/exe", program, sizeof program - 1) < 0)
        program[0] = '\0';
    CheckContext ctx = {.seed = o->seed,
                        .scratch = scratch,
                        .program = program,
                        .target = o->target,
                        .device = o->device,
                        .args = o->args,
                        .sample = o->sample,
                        .notes = json_object ()};
    DpsStatus st = DPS_OK;
    if (strcmp (name, CHECK_LOAD) && !(ctx.test = find_case (name, &ctx.suite)))
        st = dps_fail (&err, DPS_ERR_USAGE, "no case '%s'", name);
    if (st == DPS_OK && o->args) /* the user typed what a process reward is to run */
        st = dps_host_config_set ("programs", "allowed", &err);
    if (st == DPS_OK)
        st = open_registry (o->target, ctx.test && ctx.test->flags & CHECK_ALL_PLUGINS, &ctx.registry, &err);
    if (st == DPS_OK)
        st = find_plugin (ctx.registry, o->target, &ctx.plugin, &err);
    if (st == DPS_OK)
        st = run_case (&ctx, &err);
    if (st == DPS_OK || st == CHECK_SKIPPED) {
        DpsError kept = err;
        DpsStatus verdict = st;
        st = check_unchanged (&mark, &err);
        if (st == DPS_OK) {
            st = verdict;
            err = kept;
        }
    }
    if (ctx.registry)
        dps_registry_close (ctx.registry);
    if (!ctx.test && st == DPS_ERR_NOT_FOUND)
        check_note_text (&ctx, "status", dps_status_name (st)); /* the plugin is not to blame */
    CheckVerdict verdict = st == DPS_OK ? CHECK_PASS : st == CHECK_SKIPPED ? CHECK_SKIP : CHECK_FAIL;
    if (st != DPS_OK && !err.msg[0])
        snprintf (err.msg, sizeof err.msg, "%s, with no message", dps_status_name (st));
    int code = tell (verdict, st == DPS_OK ? "" : err.msg, ctx.notes);
    json_decref (ctx.notes);
    return code;
}
