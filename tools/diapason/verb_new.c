/* SPDX-License-Identifier: Apache-2.0 */
/* verb_new.c: a plugin to begin with: a template's folder under another name. It builds, passes its own test and loads as it is written. */
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "diapason/cli.h"
#include "diapason/open_registry.h"
#include "recipe/recipe.h"

static int run (int argc, char **argv);

const DpsVerb dps_verb_new = {
    .name = "new",
    .summary = "begin a plugin: objective, adapter, reward, format or backend",
    .synopsis = "KIND NAME [--out FOLDER]",
    .help =
        "Writes FOLDER/NAME: source, manifest, test, README, CMakeLists.txt. It works as it stands and passes `diapason check`;\n"
        "change the maths, then the test's numbers.\n"
        "Without --out the folder is plugins.d/ where there is one (Diapason's tree: tools/build builds it), else the current folder (a\n"
        "plugin of your own tree: it builds against an installed Diapason).\n\n"
        "Example: diapason new objective my-loss",
    .run = run,
};

static char *out;
static const GOptionEntry entries[] = {
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &out, "where to put the plugin's folder", "FOLDER"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

/* Kinds, what their templates call themselves, and the interface in which that name must be new. */
static const struct Kind {
    const char *kind, *called, *interface;
} kinds[] = {
    {"objective", "margin-sft", DPS_OBJECTIVE_ID},
    {"adapter", "tiny-lora", DPS_ADAPTER_ID},
    {"reward", "rules", DPS_REWARD_ID},
    {"format", "npy", DPS_FORMAT_ID},
    {"backend", "tiny", DPS_BACKEND_ID},
};

/* What the program's bin/ lies in: an installation, or a build. */
static char *own_prefix (void)
{
    g_autofree char *exe = g_file_read_link ("/proc/self/exe", NULL), *bin = exe ? g_path_get_dirname (exe) : g_strdup (".");
    return g_path_get_dirname (bin);
}

/* share/diapason/template of an installation, plugins.d/template of the tree that a build lies in. */
static char *template_folder (const char *kind)
{
    static const char *const places[] = {"share/diapason/template", "../plugins.d/template"};
    g_autofree char *prefix = own_prefix ();
    for (size_t i = 0; i < G_N_ELEMENTS (places); i++) {
        char *folder = g_build_filename (prefix, places[i], kind, NULL);
        if (dps_is_dir (folder))
            return folder;
        g_free (folder);
    }
    return NULL;
}

/* Names go into file names, CMake targets and recipes. */
static int is_name (const char *s)
{
    return g_ascii_islower (*s) && strlen (s) <= 40 && !s[strspn (s, "abcdefghijklmnopqrstuvwxyz0123456789-")] && s[strlen (s) - 1] != '-';
}

/* Taken: by a plugin, or because `stage` means something else by it. */
static DpsStatus check_name (const struct Kind *k, const char *name, DpsError *err)
{
    DpsRegistry *reg = NULL;
    DpsRecipe *recipe = NULL;
    DPS_TRY (cli_open_registry (&reg, err));
    int taken = dps_registry_get (reg, k->interface, name) != NULL;
    dps_registry_close (reg);
    if (taken)
        return dps_fail (err, DPS_ERR_USAGE, "there is %s '%s' already: see `diapason plugins show %s`", k->kind, name, name);
    if (strcmp (k->kind, "objective"))
        return DPS_OK;
    g_autofree char *text = g_strdup_printf ("stage: %s\n", name);
    DpsStatus st = dps_recipe_parse (text, strlen (text), "its name", NULL, NULL, 0, &recipe, err);
    if (st == DPS_OK && strcmp (recipe->stage, name))
        st = dps_fail (err, DPS_ERR_USAGE, "in a recipe stage: %s means %s: name the objective otherwise", name, recipe->stage);
    dps_recipe_free (recipe);
    return st;
}

/* 1 where the template's name for itself stands in `text` at `at`: in quotes, in the id, in a message or heading that begins with it. */
static int is_called (const char *text, const char *at, size_t n)
{
    static const char id[] = "com.example.", stage[] = "stage: ";
    size_t before = (size_t)(at - text);
    int begins = before == 0 || at[-1] == '"' || (before >= 2 && at[-2] == '#' && at[-1] == ' ') ||
                 (before >= sizeof id - 1 && !memcmp (at - (sizeof id - 1), id, sizeof id - 1)) ||
                 (before >= sizeof stage - 1 && !memcmp (at - (sizeof stage - 1), stage, sizeof stage - 1));
    return begins && strchr ("\":\n", at[n]);
}

/* `word` in text becomes `by`: everywhere, or where is_called says. */
static char *replace (const char *text, const char *word, const char *by, int called)
{
    GString *s = g_string_new (NULL);
    size_t n = strlen (word);
    const char *from = text;
    for (const char *at; (at = strstr (from, word)); from = at + n) {
        g_string_append_len (s, from, at - from);
        g_string_append (s, !called || is_called (text, at, n) ? by : word);
    }
    g_string_append (s, from);
    return g_string_free (s, FALSE);
}

static DpsStatus copy_file (const struct Kind *k, const char *from, const char *folder, const char *file, const char *name, DpsError *err)
{
    DpsBuf text = {0};
    g_autofree char *path = g_build_filename (from, file, NULL), *as = replace (file, k->kind, name, 0);
    g_autofree char *to = g_build_filename (folder, as, NULL), *head = g_strconcat (k->kind, ".c:", NULL),
                    *new_head = g_strconcat (name, ".c:", NULL);
    DPS_TRY (dps_file_read (path, 1 << 20, &text, err));
    g_autofree char *named = replace (text.data ? text.data : "", k->called, name, 1), *whole = replace (named, head, new_head, 0);
    dps_buf_free (&text);
    return dps_file_write (to, whole, strlen (whole), err);
}

static DpsStatus copy_folder (const struct Kind *k, const char *folder, const char *name, DpsError *err)
{
    g_autofree char *from = template_folder (k->kind);
    if (!from)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "the templates are not beside the program: expected ../share/diapason/template/%s",
                         k->kind);
    if (access (folder, F_OK) == 0)
        return dps_fail (err, DPS_ERR_USAGE, "%s exists already: nothing was written", folder);
    g_autoptr (GDir) dir = g_dir_open (from, 0, NULL);
    DPS_TRY (dps_mkdirs (folder, err));
    for (const char *file; dir && (file = g_dir_read_name (dir));)
        DPS_TRY (copy_file (k, from, folder, file, name, err));
    return DPS_OK;
}

/* A path as a shell takes it: quoted where it must be. */
static char *shell_word (const char *path)
{
    return path[strspn (path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./")] ? g_shell_quote (path)
                                                                                                      : g_strdup (path);
}

static void print_next (const struct Kind *k, const char *folder, const char *name, int in_tree)
{
    printf ("%s/%s.c           the %s\n%s/test_%s.c      its test%s\n%s/%s.plugin.in   its id and summary: change them\n\n", folder, name,
            k->kind, folder, name, in_tree ? "" : ", built in Diapason's tree only: elsewhere `diapason check` is the test", folder, name);
    g_autofree char *prefix = own_prefix (), *config = g_build_filename (prefix, "lib/cmake/diapason", NULL);
    g_autofree char *source = shell_word (folder), *installed = shell_word (prefix);
    if (in_tree)
        printf ("  tools/build && ctest --test-dir build -R plugin.%s\n", name);
    else
        printf ("  cmake -S %s -B build-%s -DCMAKE_PREFIX_PATH=%s && cmake --build build-%s\n"
                "  export DIAPASON_PLUGINS=$PWD/build-%s/lib/diapason/plugins\n",
                source, name, dps_is_dir (config) ? installed : "WHERE_DIAPASON_IS_INSTALLED", name, name);
    printf ("  diapason plugins show com.example.%s\n  diapason check %s%s\n", name, name,
            !strcmp (k->kind, "backend")  ? " --level 0"
            : !strcmp (k->kind, "format") ? " --sample FILE_IT_READS"
                                          : "");
    if (!strcmp (k->kind, "objective"))
        printf ("  diapason train RECIPE --set stage=%s\n", name);
}

static int run (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    const struct Kind *k = NULL;
    int code = cli_parse (&dps_verb_new, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc != 3)
        return cli_usage (&dps_verb_new, "%s", argc < 3 ? "KIND and NAME are missing" : "one plugin at a time");
    for (size_t i = 0; i < G_N_ELEMENTS (kinds); i++)
        k = strcmp (kinds[i].kind, argv[1]) ? k : &kinds[i];
    if (!k)
        return cli_usage (&dps_verb_new, "'%s' is none of objective, adapter, reward, format, backend", argv[1]);
    if (!is_name (argv[2]))
        return cli_usage (&dps_verb_new, "'%s' is no name: a letter, then letters, digits and '-', all small, 40 at most", argv[2]);
    int in_tree = !out && dps_is_dir ("plugins.d/template");
    g_autofree char *folder = g_build_filename (out ? out : in_tree ? "plugins.d" : ".", argv[2], NULL);
    DpsStatus st = check_name (k, argv[2], &err);
    if (st == DPS_OK)
        st = copy_folder (k, folder, argv[2], &err);
    if (st != DPS_OK)
        return cli_fail (&dps_verb_new, st, &err);
    if (cli_common.json) {
        json_t *o = json_pack ("{s:s, s:s, s:s}", "folder", folder, "kind", k->kind, "name", argv[2]);
        json_dumpf (o, stdout, JSON_COMPACT);
        putchar ('\n');
        json_decref (o);
    } else if (!cli_common.quiet)
        print_next (k, folder, argv[2], in_tree);
    return 0;
}
