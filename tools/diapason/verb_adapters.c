/* SPDX-License-Identifier: Apache-2.0 */
/* verb_adapters.c: which adapters lie in a folder and what they belong to; what two of them differ in. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "ckpt/peft_diff.h"
#include "diapason/cli.h"
#include "diapason/open_registry.h"
#include "recipe/yaml.h"

static int run (int argc, char **argv);

const DpsVerb dps_verb_adapters = {
    .name = "adapters",
    .summary = "list the adapters of a folder, or compare two",
    .synopsis = "list FOLDER … | diff A B",
    .help = "Example: diapason adapters list runs",
    .run = run,
};

static const GOptionEntry none[] = {{NULL, 0, 0, 0, NULL, NULL, NULL}};
static const CliSub subs[] = {
    {&(const DpsVerb){
         .name = "adapters list",
         .summary = "every PEFT folder below FOLDER but checkpoints",
         .synopsis = "FOLDER …",
         .help =
             "Kind, rank, targets, the stage it was trained with, parameters, the digest of the base it belongs to, and how many frozen\n"
             "adapters lie between.\n\n"
             "Example: diapason adapters list runs --json"},
     none},
    {&(const DpsVerb){
         .name = "adapters diff",
         .summary = "what two adapters differ in",
         .synopsis = "A B",
         .help = "Settings that differ, then for each module the Frobenius norm of what A and B add to it, and of the difference.\n\n"
                 "Example: diapason adapters diff runs/it runs/simpo --json"},
     none},
    {NULL, NULL},
};

enum { MAX_DEPTH = 4 };

static const char *kind (const DpsPeftAdapter *a)
{
    return a->config.plugin ? a->config.plugin : a->config.use_dora ? "dora" : a->config.use_rslora ? "rslora" : "lora";
}

static uint64_t parameters (const DpsPeftAdapter *a)
{
    uint64_t n = 0;
    for (size_t i = 0; i < dps_tensors_count (a->file); i++)
        n += dps_tensors_at (a->file, i)->n_elements;
    return n;
}

/* Last components of the adapted modules' paths, then the modules trained whole. */
static json_t *targets (const DpsPeftAdapter *a)
{
    g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);
    json_t *list = json_array ();
    for (size_t i = 0; i < a->n_modules; i++) {
        const char *dot = strrchr (a->modules[i].path, '.'), *name = dot ? dot + 1 : a->modules[i].path;
        if (g_hash_table_add (seen, (void *)name))
            json_array_append_new (list, json_string (name));
    }
    for (size_t i = 0; i < a->n_saved; i++)
        json_array_append_new (list, json_string (a->saved[i].name));
    return list;
}

static size_t n_under (const DpsPeftAdapter *a)
{
    size_t n = a->under && *a->under;
    for (const char *s = a->under; s && *s; s++)
        n += *s == ',';
    return n;
}

/* What recipe.lock.yaml beside it says; null for somebody else's. */
static json_t *stage_of (const char *folder)
{
    DpsBuf text = {0};
    DpsYamlDoc *doc = NULL;
    g_autofree char *path = g_build_filename (folder, DPS_CKPT_LOCK, NULL);
    json_t *stage = NULL;
    if (dps_file_read (path, DPS_YAML_MAX_BYTES, &text, NULL) == DPS_OK &&
        dps_yaml_parse (text.data ? text.data : "", text.len, path, &doc, NULL) == DPS_OK && doc->root) {
        const DpsYaml *recipe = dps_yaml_get (doc->root, "recipe"), *n = recipe ? dps_yaml_get (recipe, "stage") : NULL;
        stage = n && n->type == DPS_YAML_SCALAR ? json_string (n->text) : NULL;
    }
    dps_yaml_free (doc);
    dps_buf_free (&text);
    return stage ? stage : json_null ();
}

static json_t *describe (const char *folder, const DpsPeftAdapter *a)
{
    return json_pack ("{s:s, s:s, s:I, s:f, s:o, s:o, s:I, s:I, s:s?, s:I, s:s?}", "path", folder, "kind", kind (a), "r",
                      (json_int_t)a->config.r, "lora_alpha", a->config.lora_alpha, "targets", targets (a), "stage", stage_of (folder),
                      "modules", (json_int_t)a->n_modules, "parameters", (json_int_t)parameters (a), "base_sha256",
                      a->base_sha256[0] ? a->base_sha256 : NULL, "on_adapters", (json_int_t)n_under (a), "base_model_name_or_path",
                      a->config.base_model);
}

static void add_one (const DpsFormat *format, const char *folder, json_t *list)
{
    DpsPeftAdapter *a;
    DpsError err = DPS_ERROR_INIT;
    if (dps_peft_open (folder, format, &a, &err) == DPS_OK) {
        json_array_append_new (list, describe (folder, a));
        dps_peft_close (a);
    } else
        json_array_append_new (list, json_pack ("{s:s, s:s}", "path", folder, "refused", err.msg));
}

static int by_name (const void *a, const void *b) { return strcmp (*(char *const *)a, *(char *const *)b); }

static void search (const DpsFormat *format, const char *folder, int depth, json_t *list)
{
    g_autofree char *config = g_build_filename (folder, DPS_CKPT_ADAPTER_CONFIG, NULL);
    g_autoptr (GDir) dir = depth < MAX_DEPTH ? g_dir_open (folder, 0, NULL) : NULL;
    g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
    if (dps_is_file (config))
        add_one (format, folder, list);
    for (const char *name; dir && (name = g_dir_read_name (dir));)
        if (*name != '.' && !g_str_has_prefix (name, "checkpoint-"))
            g_ptr_array_add (names, g_strdup (name));
    qsort (names->pdata, names->len, sizeof *names->pdata, by_name);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = g_build_filename (folder, names->pdata[i], NULL);
        if (dps_is_dir (path))
            search (format, path, depth + 1, list);
    }
}

static void print_one (const json_t *o)
{
    const char *refused = json_string_value (json_object_get (o, "refused")),
               *base = json_string_value (json_object_get (o, "base_sha256"));
    const char *stage = json_string_value (json_object_get (o, "stage"));
    g_autoptr (GString) names = g_string_new (NULL);
    size_t i;
    json_t *name;
    printf ("%s\n", json_string_value (json_object_get (o, "path")));
    if (refused) {
        cli_labelled ("  refused", 14, "31", refused);
        return;
    }
    json_array_foreach (json_object_get (o, "targets"), i, name)
        g_string_append_printf (names, "%s%s", i ? " " : "", json_string_value (name));
    long long r = (long long)json_integer_value (json_object_get (o, "r"));
    g_autofree char *rank =
        r ? g_strdup_printf (", r %lld, alpha %g", r, json_number_value (json_object_get (o, "lora_alpha"))) : g_strdup ("");
    g_autofree char *shape = g_strdup_printf ("%s%s, %lld modules, %lld parameters", json_string_value (json_object_get (o, "kind")), rank,
                                              (long long)json_integer_value (json_object_get (o, "modules")),
                                              (long long)json_integer_value (json_object_get (o, "parameters")));
    long long under = (long long)json_integer_value (json_object_get (o, "on_adapters"));
    g_autofree char *on = g_strdup_printf ("%.12s%s", base ? base : "not said", base ? "…" : "");
    g_autofree char *all = under ? g_strdup_printf ("%s, under %lld frozen adapter%s", on, under, under == 1 ? "" : "s") : g_strdup (on);
    cli_labelled ("  adapter", 14, "2", shape);
    cli_labelled ("  targets", 14, "2", names->str);
    cli_labelled ("  stage", 14, "2", stage ? stage : "not said");
    cli_labelled ("  base", 14, "2", all);
}

static void print_json (json_t *o)
{
    json_dumpf (o, stdout, JSON_INDENT (2));
    putchar ('\n');
}

static int list (const DpsFormat *format, char **folders, int n)
{
    json_t *found = json_array (), *o;
    size_t k;
    for (int i = 0; i < n; i++) {
        if (!dps_is_dir (folders[i])) {
            DpsError err = DPS_ERROR_INIT;
            json_decref (found);
            return cli_fail (&dps_verb_adapters, dps_fail (&err, DPS_ERR_NOT_FOUND, "%s: no such folder", folders[i]), &err);
        }
        search (format, folders[i], 0, found);
    }
    if (cli_common.json)
        print_json (found);
    else
        json_array_foreach (found, k, o)
            print_one (o);
    if (!cli_common.json && json_array_size (found) == 0)
        fprintf (stderr, "no adapter below %s\n", folders[0]);
    json_decref (found);
    return 0;
}

/* ---- diff ---- */

/* {key: [a, b]} of what two descriptions say differently. */
static json_t *settings (const json_t *a, const json_t *b)
{
    json_t *out = json_object (), *value;
    const char *key;
    json_object_foreach ((json_t *)a, key, value)
        if (strcmp (key, "path") && !json_equal (value, json_object_get (b, key)))
            json_object_set_new (out, key, json_pack ("[O, O]", value, json_object_get (b, key)));
    return out;
}

static json_t *delta_json (const DpsPeftDelta *d)
{
    json_t *o = json_pack ("{s:s, s:f, s:f, s:f, s:b, s:b}", "module", d->module, "norm_a", d->a, "norm_b", d->b, "norm_difference",
                           d->difference, "in_a", d->in_a, "in_b", d->in_b);
    if (isfinite (d->magnitude))
        json_object_set_new (o, "norm_magnitude_difference", json_real (d->magnitude));
    return o;
}

static void print_diff (const json_t *differs, const DpsPeftDelta *list, size_t n)
{
    const char *key;
    json_t *pair;
    int wide = 6;
    json_object_foreach ((json_t *)differs, key, pair) {
        g_autofree char *a = json_dumps (json_array_get (pair, 0), JSON_ENCODE_ANY),
                        *b = json_dumps (json_array_get (pair, 1), JSON_ENCODE_ANY);
        printf ("%s: %s → %s\n", key, a, b);
    }
    for (size_t i = 0; i < n; i++)
        wide = MAX (wide, (int)strlen (list[i].module));
    printf ("%s%-*s  %12s  %12s  %12s\n", json_object_size (differs) ? "\n" : "", wide, "MODULE", "NORM OF A", "NORM OF B", "DIFFERENCE");
    for (size_t i = 0; i < n; i++)
        printf ("%-*s  %12.6g  %12.6g  %12.6g%s\n", wide, list[i].module, list[i].a, list[i].b, list[i].difference,
                !list[i].in_b   ? "  only in A"
                : !list[i].in_a ? "  only in B"
                                : "");
}

static DpsStatus diff (const DpsFormat *format, const char *path_a, const char *path_b, DpsError *err)
{
    DpsPeftAdapter *a = NULL, *b = NULL;
    DpsPeftDelta *deltas = NULL;
    size_t n = 0;
    DpsStatus st = dps_peft_open (path_a, format, &a, err);
    if (st == DPS_OK)
        st = dps_peft_open (path_b, format, &b, err);
    if (st == DPS_OK)
        st = dps_peft_diff (a, b, &deltas, &n, err);
    if (st == DPS_OK) {
        json_t *da = describe (path_a, a), *db = describe (path_b, b), *differs = settings (da, db), *list = json_array ();
        for (size_t i = 0; i < n; i++)
            json_array_append_new (list, delta_json (&deltas[i]));
        json_t *all = json_pack ("{s:O, s:O, s:O, s:O}", "a", da, "b", db, "settings", differs, "modules", list);
        if (cli_common.json)
            print_json (all);
        else
            print_diff (differs, deltas, n);
        json_decref (all);
        json_decref (list);
        json_decref (differs);
        json_decref (da);
        json_decref (db);
    }
    dps_free (deltas);
    dps_peft_close (a);
    dps_peft_close (b);
    return st;
}

static int run (int argc, char **argv)
{
    const CliSub *sub;
    int code = cli_parse_sub (&dps_verb_adapters, subs, NULL, none, &argc, &argv, &sub);
    if (code >= 0)
        return code;
    int comparing = sub != subs;
    if (comparing ? argc != 3 : argc < 2)
        return cli_usage (sub->verb, comparing ? "diff takes two adapters" : "list needs a FOLDER");
    DpsRegistry *reg = NULL;
    DpsError err = DPS_ERROR_INIT;
    DpsStatus st = cli_open_registry (&reg, &err);
    const DpsFormat *format = st == DPS_OK ? dps_registry_get (reg, DPS_FORMAT_ID, "peft") : NULL;
    if (st == DPS_OK && !format)
        st = dps_registry_missing (reg, DPS_FORMAT_ID, "peft", &err);
    if (st == DPS_OK && comparing)
        st = diff (format, argv[1], argv[2], &err);
    code = st == DPS_OK && !comparing ? list (format, argv + 1, argc - 1) : 0;
    if (reg)
        dps_registry_close (reg);
    return st == DPS_OK ? code : cli_fail (sub->verb, st, &err);
}
