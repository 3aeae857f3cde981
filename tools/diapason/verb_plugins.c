/* SPDX-License-Identifier: Apache-2.0 */
/* verb_plugins.c: which plugins there are, which load, and why the others do not. */
#include <string.h>

#include "diapason/cli.h"
#include "diapason/open_registry.h"
#include "diapason/plugin_params.h"
#include "diapason/plugins_sign.h"

enum { RELEASE_MS = 30000 };

static int run (int argc, char **argv);

const DpsVerb dps_verb_plugins = {
    .name = "plugins",
    .summary = "list the plugins, show one, lift a quarantine, sign",
    .synopsis = "[list | show ID | release ID | sign MANIFEST | verify MANIFEST]",
    .help =
        "Plugins are looked for in the folders of DIAPASON_PLUGINS (absolute, separated by ':'), then in lib/diapason/plugins beside the "
        "program.\n"
        "A plugin that cannot be loaded is listed with the reason; the others are not affected, and the exit code is 0.\n"
        "One that was never seen is first tried in a child process. If it crashes, hangs or ends the process there, it is in quarantine:\n"
        "refused, by the digest of its module, until `release` tries it again and it comes through.\n\n"
        "Example: diapason plugins",
    .run = run,
};

static char *key, *signer;
/* Options of sign; verify has those from the second line on, the others none. */
enum { OF_VERIFY = 1, OF_NONE = 2 };
static const GOptionEntry entries[] = {
    {"as", 0, 0, G_OPTION_ARG_STRING, &signer, "sign: the key's name where it will be looked for (default: its file's)", "NAME"},
    {"key", 0, 0, G_OPTION_ARG_FILENAME, &key, "sign: private key; verify: public key (PEM)", "FILE"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

enum { LIST, SHOW, RELEASE, SIGN, VERIFY };
static const CliSub subs[] = {
    {&(const DpsVerb){.name = "plugins list",
                      .summary = "which plugins there are, which load, and why the others do not",
                      .synopsis = "[--json]",
                      .help = "Example: diapason plugins list --json | jq '.[] | select(.loaded | not)'"},
     entries + OF_NONE},
    {&(const DpsVerb){
         .name = "plugins show",
         .summary = "everything that is known of one plugin, with its parameters",
         .synopsis = "ID",
         .help =
             "ID is the full id or its last word. Parameters: type, range, default and meaning; a recipe gives them in objective_args,\n"
             "adapter_args, or beside the name of a reward.\n\n"
             "Example: diapason plugins show grpo"},
     entries + OF_NONE},
    {&(const DpsVerb){.name = "plugins release",
                      .summary = "try a plugin in quarantine again",
                      .synopsis = "ID",
                      .help = "It is tried in a child process, 30 s a step, and comes through or stays in quarantine.\n\n"
                              "Example: diapason plugins release com.acme.npu"},
     entries + OF_NONE},
    {&(const DpsVerb){.name = "plugins sign",
                      .summary = "put an Ed25519 signature at the end of NAME.plugin",
                      .synopsis = "MANIFEST --key FILE [--as NAME]",
                      .help = "A manifest signed by NAME is held to NAME.pem of etc/diapason/keys beside the program's bin/, or of "
                              "~/.config/diapason/keys,\n"
                              "where there is such a file.\n\n"
                              "Example:\n"
                              "  openssl genpkey -algorithm ed25519 -out acme.pem\n"
                              "  diapason plugins sign acme-npu.plugin --key acme.pem"},
     entries},
    {&(const DpsVerb){.name = "plugins verify",
                      .summary = "hold a manifest's signature to a public key",
                      .synopsis = "MANIFEST --key FILE",
                      .help = "Example:\n"
                              "  openssl pkey -in acme.pem -pubout -out acme.pub.pem\n"
                              "  diapason plugins verify acme-npu.plugin --key acme.pub.pem"},
     entries + OF_VERIFY},
    {NULL, NULL},
};

static int width (const char *s) { return (int)g_utf8_strlen (s, -1); }

static void pad (GString *to, const char *s, int columns) { g_string_append_printf (to, "%s%*s", s, MAX (columns - width (s), 0) + 2, ""); }

/* Those that did not load, with their reasons: they were refused, or what they drive is not on this machine. */
static void print_reasons (const DpsRegistry *reg, int absent, int columns)
{
    size_t n = 0;
    const DpsPlugin *p;
    for (size_t i = 0; (p = dps_registry_at (reg, i)); i++)
        n += !p->loaded && p->absent == absent;
    if (n)
        printf ("\n%zu %s:\n", n, absent ? "not available here" : "refused");
    for (size_t i = 0; (p = dps_registry_at (reg, i)); i++)
        if (!p->loaded && p->absent == absent)
            cli_labelled (p->id, columns, absent ? "2" : "31", p->reason);
}

static void print_table (const DpsRegistry *reg)
{
    int id = 2, kind = 4, version = 7;
    size_t n = dps_registry_count (reg);
    for (size_t i = 0; i < n; i++) {
        const DpsPlugin *p = dps_registry_at (reg, i);
        id = MAX (id, width (p->id));
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
    print_reasons (reg, 1, id + 2);
    print_reasons (reg, 0, id + 2);
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
        {"  kinds", p->kinds},      {"  summary", p->summary},
        {"  version", p->version},  {"  licence", p->licence},
        {"  abi", p->abi},          {"  interfaces", p->interfaces},
        {"  module", p->module},    {"  sha256", p->digest.hex},
        {"  signed by", p->signer}, {p->absent ? "  absent" : "  refused", p->reason},
    };
    printf ("%s\n", p->id);
    for (size_t i = 0; i < G_N_ELEMENTS (lines); i++)
        if (*lines[i].value)
            cli_labelled (lines[i].label, 14, i + 1 == G_N_ELEMENTS (lines) && !p->absent ? "31" : "2", lines[i].value);
}

static int show (const DpsRegistry *reg, const char *wanted)
{
    json_t *found = json_array ();
    for (size_t i = 0; i < dps_registry_count (reg); i++) {
        const DpsPlugin *p = dps_registry_at (reg, i);
        if (strcmp (p->id, wanted) && strcmp (p->name, wanted))
            continue;
        json_t *one = cli_plugin_json (p), *params = plugin_params_json (reg, p);
        json_array_append_new (found, one);
        json_object_set_new (one, "parameters", params);
        if (cli_common.json)
            continue;
        show_one (p);
        plugin_params_print (params);
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

/* The plugins in quarantine that are called so are tried again. */
static int release (DpsRegistry *reg, const char *wanted)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRegistry *again = NULL;
    DpsStatus st = DPS_OK;
    const DpsPlugin *p, *found = NULL;
    for (size_t i = 0; st == DPS_OK && (p = dps_registry_at (reg, i)); i++)
        if ((!strcmp (p->id, wanted) || !strcmp (p->name, wanted)) && (!found || p->quarantined)) {
            found = p;
            if (p->quarantined)
                st = dps_plugin_release (p, &err);
        }
    if (found && !found->quarantined)
        st = dps_plugin_release (found, &err);
    if (!found)
        st = dps_fail (&err, DPS_ERR_NOT_FOUND, "no plugin '%.100s'. Hint: diapason plugins list", wanted);
    if (st == DPS_OK)
        st = cli_open_registry_patient (RELEASE_MS, &again, &err);
    for (size_t i = 0; st == DPS_OK && (p = dps_registry_at (again, i)); i++)
        if (!strcmp (p->id, found->id) && p->quarantined)
            st = dps_fail (&err, DPS_ERR_POLICY, "%s", p->reason);
    if (st == DPS_OK && !cli_common.quiet)
        printf ("%s: released\n", found->id);
    dps_registry_close (again);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_plugins, st, &err);
}

/* What needs no plugin to be loaded. */
static int sign_or_verify (const CliSub *sub, const char *manifest)
{
    DpsError err = DPS_ERROR_INIT;
    int signing = sub == &subs[SIGN];
    if (!key)
        return cli_usage (sub->verb, "%s needs --key FILE", signing ? "sign" : "verify");
    DpsStatus st = signing ? plugins_sign (manifest, key, signer, &err) : plugins_verify (manifest, key, &err);
    if (st == DPS_OK && !cli_common.quiet)
        printf ("%s: %s\n", manifest, signing ? "signed" : "good");
    return st == DPS_OK ? 0 : cli_fail (sub->verb, st, &err);
}

static int run (int argc, char **argv)
{
    const CliSub *sub;
    int code = cli_parse_sub (&dps_verb_plugins, subs, "list", entries, &argc, &argv, &sub);
    if (code >= 0)
        return code;
    const int of_manifest = sub == &subs[SIGN] || sub == &subs[VERIFY], needs = sub == &subs[LIST] ? 1 : 2;
    if (argc < needs)
        return cli_usage (sub->verb, "%s is missing", of_manifest ? "a manifest" : "the id of a plugin");
    if (argc > needs)
        return cli_usage (sub->verb, "unexpected argument '%s'", argv[needs]);
    if (of_manifest)
        return sign_or_verify (sub, argv[1]);
    DpsRegistry *reg = NULL;
    DpsError err = DPS_ERROR_INIT;
    DpsStatus st = sub == &subs[LIST] ? cli_open_registry_patient (0, &reg, &err) : cli_open_registry (&reg, &err);
    if (st != DPS_OK)
        return cli_fail (sub->verb, st, &err);
    code = sub == &subs[SHOW] ? show (reg, argv[1]) : sub == &subs[RELEASE] ? release (reg, argv[1]) : list (reg);
    dps_registry_close (reg);
    return code;
}
