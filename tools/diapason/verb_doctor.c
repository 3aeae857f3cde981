/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_doctor.c: what is installed and what of it works, as a block to paste into a bug report. Gathered once as JSON; the text is that
 * JSON printed for people, so the two cannot disagree.
 */
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <libfyaml.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <openssl/crypto.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/file.h"
#include "diapason/cli.h"
#include "diapason/open_registry.h"
#include "exec/exec.h"
#include "plugin/cpu.h"
#include "plugin/host.h"
#include "plugin/module.h"

static int run (int argc, char **argv);

const DpsVerb dps_verb_doctor = {
    .name = "doctor",
    .summary = "what is installed, which plugins load, what this machine can do",
    .synopsis = "",
    .help = "Paste the output into a bug report. The exit code is 0 also when a plugin was refused: the last line says so. A plugin whose\n"
            "hardware or driver this machine does not have is listed as absent, which is no fault.\n\n"
            "Examples:\n"
            "  diapason doctor\n"
            "  diapason doctor --json | jq .cpu.features",
    .run = run,
};

/* The features a backend of ours chooses its kernels by; the names are the kernel's. */
static const char *const features[] = {"avx2",     "fma",      "f16c",     "avx512f", "avx512_vnni", "avx512_bf16",
                                       "amx_tile", "amx_bf16", "amx_int8", "asimd",   "sve",         "bf16"};

/* The value of `key` in a file of KEY=VALUE or "key: value" lines, without quotes; *to stays as it is when there is none. */
static void file_value (const char *path, const char *key, char *to, size_t cap)
{
    DpsBuf text = {0};
    DpsError ignored = DPS_ERROR_INIT;
    if (dps_file_read (path, 1 << 20, &text, &ignored) == DPS_OK && text.data) {
        g_auto (GStrv) lines = g_strsplit (text.data, "\n", -1);
        for (char **line = lines; *line; line++)
            if (g_str_has_prefix (*line, key)) {
                char *value = g_strstrip (*line + strlen (key));
                g_strlcpy (to, g_strdelimit (value, "\"", ' '), cap);
                g_strstrip (to);
                break;
            }
    }
    dps_buf_free (&text);
}

static json_t *system_json (void)
{
    struct utsname u;
    char distribution[128] = "unknown distribution";
    if (uname (&u) != 0)
        memset (&u, 0, sizeof u);
    file_value ("/etc/os-release", "PRETTY_NAME=", distribution, sizeof distribution);
    return json_pack ("{s:s, s:s, s:s, s:s, s:s}", "kernel", u.sysname, "release", u.release, "machine", u.machine, "distribution",
                      distribution, "libc", gnu_get_libc_version ());
}

static json_t *cpu_json (void)
{
    json_t *has = json_object ();
    for (size_t i = 0; i < G_N_ELEMENTS (features); i++)
        json_object_set_new (has, features[i], json_boolean (dps_cpu_has (features[i], strlen (features[i]))));
    return json_pack ("{s:s, s:i, s:i, s:i, s:o}", "model", dps_cpu_model (), "usable_cpus", (int)dps_cpu_count (), "online_cpus",
                      (int)sysconf (_SC_NPROCESSORS_ONLN), "threads", (int)dps_parallel_threads (), "features", has);
}

/* Bytes; 0 where the kernel does not say. The control group's limit is what a container may really use. */
static json_t *memory_json (void)
{
    char total[64] = "0", available[64] = "0", limit[64] = "0";
    file_value ("/proc/meminfo", "MemTotal:", total, sizeof total);
    file_value ("/proc/meminfo", "MemAvailable:", available, sizeof available);
    file_value ("/sys/fs/cgroup/memory.max", "", limit, sizeof limit);
    return json_pack ("{s:I, s:I, s:I}", "total_bytes", (json_int_t)g_ascii_strtoll (total, NULL, 10) * 1024, "available_bytes",
                      (json_int_t)g_ascii_strtoll (available, NULL, 10) * 1024, "cgroup_limit_bytes",
                      (json_int_t)g_ascii_strtoll (limit, NULL, 10));
}

static json_t *libraries_json (void)
{
    char glib[32], pcre2[64] = "";
    g_snprintf (glib, sizeof glib, "%u.%u.%u", glib_major_version, glib_minor_version, glib_micro_version);
    pcre2_config (PCRE2_CONFIG_VERSION, pcre2);
    return json_pack ("{s:s, s:s, s:s, s:s, s:s, s:s}", "glib", glib, "jansson", jansson_version_str (), "libfyaml", fy_library_version (),
                      "libcrypto", OpenSSL_version (OPENSSL_VERSION), "pcre2", pcre2, "utf8proc", utf8proc_version ());
}

static json_t *plugins_json (const DpsRegistry *reg)
{
    json_t *all = json_array ();
    for (size_t i = 0; i < dps_registry_count (reg); i++)
        json_array_append_new (all, cli_plugin_json (dps_registry_at (reg, i)));
    return all;
}

/* What a backend says, fit for one line. */
static json_t *words (const char *s)
{
    char text[sizeof ((DpsError){0}.msg)];
    g_strlcpy (text, s ? s : "", sizeof text);
    dps__one_line (text);
    return json_string (text);
}

static json_t *devices_json (const DpsRegistry *reg)
{
    json_t *all = json_array ();
    const DpsBackend *backend;
    const DpsPlugin *p;
    for (size_t k = 0; (backend = dps_registry_nth (reg, DPS_BACKEND_ID, k, &p)); k++) {
        DpsDeviceInfo info;
        DpsError err = DPS_ERROR_INIT;
        DpsStatus st = DPS_OK;
        for (uint32_t i = 0; i < DPS_DEVICES_MAX && (st = dps_exec_device (p, backend, i, &info, &err)) == DPS_OK; i++)
            json_array_append_new (
                all, json_pack ("{s:o, s:o, s:s}", "name", words (info.name), "detail", words (info.detail), "plugin", p->id));
        if (st != DPS_OK && st != DPS_ERR_NOT_FOUND)
            json_array_append_new (all, json_pack ("{s:s, s:o, s:s}", "name", p->name, "detail", words (err.msg), "plugin", p->id));
    }
    return all;
}

static int by_name (const void *a, const void *b) { return strcmp (*(char *const *)a, *(char *const *)b); }

/* What else changes behaviour: our own variables, and those of the threading runtimes and oneDNN; by name, for a shell may reorder them. */
static json_t *environment_json (void)
{
    json_t *set = json_object ();
    g_auto (GStrv) names = g_listenv ();
    if (names)
        qsort (names, g_strv_length (names), sizeof *names, by_name);
    for (char **n = names; n && *n; n++)
        if (g_str_has_prefix (*n, "DIAPASON_") || g_str_has_prefix (*n, "OMP_") || g_str_has_prefix (*n, "ONEDNN_") ||
            g_str_has_prefix (*n, "DNNL_") || !strcmp (*n, "LD_PRELOAD") || !strcmp (*n, "LD_LIBRARY_PATH")) {
            g_autofree char *value = g_utf8_make_valid (g_getenv (*n), -1);
            json_object_set_new (set, *n, json_string (value));
        }
    return set;
}

static json_t *gather (const DpsRegistry *reg)
{
    const char *cache = g_getenv ("DIAPASON_CACHE");
    g_autofree char *home_cache = g_build_filename (g_get_home_dir (), ".cache", "diapason", NULL);
    char abi[32];
#ifdef __clang__
    static const char compiler[] = __VERSION__;
#else
    static const char compiler[] = "gcc " __VERSION__;
#endif
    g_snprintf (abi, sizeof abi, "%u.%u", DPS_ABI_MAJOR, DPS_ABI_MINOR);
    return json_pack ("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:s}", "version", DIAPASON_VERSION, "abi", abi, "compiler",
                      compiler, "system", system_json (), "cpu", cpu_json (), "memory", memory_json (), "libraries", libraries_json (),
                      "environment", environment_json (), "devices", devices_json (reg), "plugins", plugins_json (reg), "plugin_folders",
                      dps_registry_searched (reg), "cache", cache && *cache ? cache : home_cache);
}

static const char *text (const json_t *o, const char *key) { return json_string_value (json_object_get (o, key)); }
static double gib (const json_t *o, const char *key) { return (double)json_integer_value (json_object_get (o, key)) / (1 << 30); }

G_GNUC_PRINTF (3, 4)
static void line (const char *label, const char *colour, const char *format, ...)
{
    va_list ap;
    va_start (ap, format);
    g_autofree char *all = g_strdup_vprintf (format, ap);
    va_end (ap);
    cli_labelled (label, 11, colour, all);
}

static const char dim[] = "2", red[] = "31", green[] = "32";

static void print_machine (const json_t *d)
{
    const json_t *s = json_object_get (d, "system"), *c = json_object_get (d, "cpu"), *m = json_object_get (d, "memory");
    g_autoptr (GString) isa = g_string_new (NULL);
    g_autoptr (GString) libraries = g_string_new (NULL);
    const char *name;
    json_t *value;
    line ("diapason", dim, "%s, ABI %s, compiled by %s", text (d, "version"), text (d, "abi"), text (d, "compiler"));
    line ("system", dim, "%s, %s %s %s, glibc %s", text (s, "distribution"), text (s, "kernel"), text (s, "release"), text (s, "machine"),
          text (s, "libc"));
    line ("cpu", dim, "%s, %d of %d CPUs usable, %d threads", text (c, "model"),
          (int)json_integer_value (json_object_get (c, "usable_cpus")), (int)json_integer_value (json_object_get (c, "online_cpus")),
          (int)json_integer_value (json_object_get (c, "threads")));
    json_object_foreach (json_object_get (c, "features"), name, value) {
        if (json_is_true (value))
            g_string_append_printf (isa, "%s%s", isa->len ? " " : "", name);
    }
    line ("isa", dim, "%s", isa->len ? isa->str : "none of those kernels are chosen by");
    if (gib (m, "cgroup_limit_bytes") > 0)
        line ("memory", dim, "%.1f GiB, %.1f GiB available, this container may use %.1f GiB", gib (m, "total_bytes"),
              gib (m, "available_bytes"), gib (m, "cgroup_limit_bytes"));
    else
        line ("memory", dim, "%.1f GiB, %.1f GiB available", gib (m, "total_bytes"), gib (m, "available_bytes"));
    json_object_foreach (json_object_get (d, "libraries"), name, value) {
        g_string_append_printf (libraries, "%s%s %s", libraries->len ? "; " : "", name, json_string_value (value));
    }
    line ("libraries", dim, "%s", libraries->str);
    line ("cache", dim, "%s", text (d, "cache"));
    json_object_foreach (json_object_get (d, "environment"), name, value) {
        line ("variable", dim, "%s=%s", name, json_string_value (value));
    }
}

static void print_plugins (const json_t *d)
{
    size_t i, n_loaded = 0, n_absent = 0, n_refused = 0;
    g_autofree char *absent = NULL;
    json_t *p;
    json_array_foreach (json_object_get (d, "devices"), i, p) {
        line ("device", dim, "%s: %s (%s)", text (p, "name"), text (p, "detail"), text (p, "plugin"));
    }
    json_array_foreach (json_object_get (d, "plugins"), i, p) {
        if (!json_is_true (json_object_get (p, "loaded")))
            continue;
        line ("plugin", dim, "%s %s", text (p, "id"), text (p, "version"));
        n_loaded++;
    }
    json_array_foreach (json_object_get (d, "plugins"), i, p) {
        if (json_is_true (json_object_get (p, "loaded")))
            continue;
        int is_absent = json_is_true (json_object_get (p, "absent"));
        line (is_absent ? "absent" : "refused", is_absent ? dim : red, "%s: %s", text (p, "id"), text (p, "reason"));
        n_absent += (size_t)is_absent;
        n_refused += !is_absent;
    }
    absent = n_absent ? g_strdup_printf (", %zu not available here", n_absent) : g_strdup ("");
    line ("folders", dim, "%s", *text (d, "plugin_folders") ? text (d, "plugin_folders") : "(no plugin folder beside the program)");
    line ("result", n_refused ? red : green, "%zu plugin%s loaded%s, %zu refused%s", n_loaded, n_loaded == 1 ? "" : "s", absent, n_refused,
          n_refused ? ": see above" : "");
}

static int run (int argc, char **argv)
{
    const GOptionEntry none[] = {{NULL, 0, 0, 0, NULL, NULL, NULL}};
    int code = cli_parse (&dps_verb_doctor, none, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc > 1)
        return cli_usage (&dps_verb_doctor, "unexpected argument '%s'", argv[1]);
    DpsRegistry *reg = NULL;
    DpsError err = DPS_ERROR_INIT;
    DpsStatus st = cli_open_registry_patient (0, &reg, &err);
    if (st != DPS_OK)
        return cli_fail (&dps_verb_doctor, st, &err);
    json_t *d = gather (reg);
    if (!d)
        st = dps_fail (&err, DPS_ERR_NOMEM, "out of memory");
    else if (cli_common.json) {
        json_dumpf (d, stdout, JSON_INDENT (2));
        putchar ('\n');
    } else {
        print_machine (d);
        print_plugins (d);
    }
    json_decref (d);
    dps_registry_close (reg);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_doctor, st, &err);
}
