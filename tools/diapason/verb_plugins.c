/* SPDX-License-Identifier: Apache-2.0 */
/* verb_plugins.c: which plugins there are, which load, and why the others do not. */
#include <string.h>

#include "diapason/cli.h"
#include "diapason/open_registry.h"

static int run (int argc, char **argv);

const DpsVerb dps_verb_plugins = {
    .name = "plugins",
    .summary = "list the plugins, or show one",
    .synopsis = "[list | show ID]",
    .help = "Looks in the folders of DIAPASON_PLUGINS (absolute, separated by ':'), then in lib/diapason/plugins beside the program.\n"
            "A plugin that cannot be loaded is listed with the reason; the others are not affected, and the exit code is 0.\n\n"
            "Examples:\n"
            "  diapason plugins\n"
            "  diapason plugins show gguf\n"
            "  diapason plugins list --json | jq '.[] | select(.loaded | not)'",
    .run = run,
};

static int width (const char *s) { return (int)g_utf8_strlen (s, -1); }

static void pad (GString *to, const char *s, int columns) { g_string_append_printf (to, "%s%*s", s, MAX (columns - width (s), 0) + 2, ""); }

static void print_table (const DpsRegistry *reg)
{
    int id = 2, kind = 4, version = 7;
    size_t n = dps_registry_count (reg), n_refused = 0;
    for (size_t i = 0; i < n; i++) {
        const DpsPlugin *p = dps_registry_at (reg, i);
        id = MAX (id, width (p->id));
        n_refused += !p->loaded;
        if (p->loaded) {
            kind = MAX (kind, width (p->kinds));
            version = MAX (version, width (p->version));
        }
    }
    g_autoptr (GString) row = g_string_new (NULL);
    pad (row, "ID", id), pad (row, "KIND", kind), pad (row, "VERSION", version);
    int columns = width (row->str);
    printf ("%sSUMMARY\n", row->str);
    for (size_t i = 0; i < n; i++) {
        const DpsPlugin *p = dps_registry_at (reg, i);
        if (!p->loaded)
            continue;
        g_string_truncate (row, 0);
        pad (row, p->id, id), pad (row, p->kinds, kind), pad (row, p->version, version);
        g_string_truncate (row, strlen (g_strchomp (row->str)));
        cli_labelled (row->str, columns, NULL, p->summary);
    }
    if (n_refused)
        printf ("\n%zu refused:\n", n_refused);
    for (size_t i = 0; i < n; i++) {
        const DpsPlugin *p = dps_registry_at (reg, i);
        if (p->loaded)
            continue;
        cli_labelled (p->id, id + 2, "31", p->reason);
    }
}

static int list (const DpsRegistry *reg)
{
    if (!cli_common.json) {
        print_table (reg);
        return 0;
    }
    json_t *all = json_array ();
    for (size_t i = 0; i < dps_registry_count (reg); i++)
        json_array_append_new (all, cli_plugin_json (dps_registry_at (reg, i)));
    json_dumpf (all, stdout, JSON_INDENT (2));
    putchar ('\n');
    json_decref (all);
    return 0;
}

static void show_one (const DpsPlugin *p)
{
    const struct {
        const char *label, *value;
    } lines[] = {
        {"  kinds", p->kinds},     {"  summary", p->summary},   {"  version", p->version},
        {"  licence", p->licence}, {"  abi", p->abi},           {"  interfaces", p->interfaces},
        {"  module", p->module},   {"  sha256", p->digest.hex}, {"  refused", p->reason},
    };
    printf ("%s\n", p->id);
    for (size_t i = 0; i < G_N_ELEMENTS (lines); i++)
        if (*lines[i].value)
            cli_labelled (lines[i].label, 14, i + 1 == G_N_ELEMENTS (lines) ? "31" : "2", lines[i].value);
}

static int show (const DpsRegistry *reg, const char *wanted)
{
    json_t *found = json_array ();
    for (size_t i = 0; i < dps_registry_count (reg); i++) {
        const DpsPlugin *p = dps_registry_at (reg, i);
        if (strcmp (p->id, wanted) && strcmp (p->name, wanted))
            continue;
        json_array_append_new (found, cli_plugin_json (p));
        if (!cli_common.json)
            show_one (p);
    }
    size_t n = json_array_size (found);
    if (cli_common.json && n) {
        json_dumpf (n == 1 ? json_array_get (found, 0) : found, stdout, JSON_INDENT (2));
        putchar ('\n');
    }
    json_decref (found);
    if (n)
        return 0;
    DpsError err = DPS_ERROR_INIT;
    dps_fail (&err, DPS_ERR_NOT_FOUND, "no plugin '%.100s'. Hint: diapason plugins list", wanted);
    return cli_fail (&dps_verb_plugins, DPS_ERR_NOT_FOUND, &err);
}

static int run (int argc, char **argv)
{
    const GOptionEntry none[] = {{NULL, 0, 0, 0, NULL, NULL, NULL}};
    int code = cli_parse (&dps_verb_plugins, none, &argc, &argv);
    if (code >= 0)
        return code;
    const char *what = argc > 1 ? argv[1] : "list";
    int showing = !strcmp (what, "show");
    if (!showing && strcmp (what, "list"))
        return cli_usage (&dps_verb_plugins, "'%s' is neither list nor show", what);
    if (showing && argc < 3)
        return cli_usage (&dps_verb_plugins, "show needs the id of a plugin");
    if (argc > (showing ? 3 : 2))
        return cli_usage (&dps_verb_plugins, "unexpected argument '%s'", argv[showing ? 3 : 2]);
    DpsRegistry *reg = NULL;
    DpsError err = DPS_ERROR_INIT;
    DpsStatus st = cli_open_registry (&reg, &err);
    if (st != DPS_OK)
        return cli_fail (&dps_verb_plugins, st, &err);
    code = showing ? show (reg, argv[2]) : list (reg);
    dps_registry_close (reg);
    return code;
}
