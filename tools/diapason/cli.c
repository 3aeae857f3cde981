/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/cli.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "observe/pace.h"
#include "plugin/trust.h"
#include "recipe/recipe.h"

CliCommon cli_common;

static void print_log (void *ctx, int level, const char *line)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    (void)ctx;
    cli_progress_end ();
    fprintf (stderr, "diapason: %s: %s\n", names[level], line);
}

static int log_level (const char *name)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    for (int i = 0; name && i < 4; i++)
        if (!strcmp (name, names[i]))
            return i;
    return -1;
}

/* The option parser takes strings out of argv without freeing them; all of it lives as long as the program. */
static void *keep (void *p)
{
    static GPtrArray *kept;
    if (!kept)
        kept = g_ptr_array_new ();
    g_ptr_array_add (kept, p);
    return p;
}

/* --NAME or -N among the arguments. */
static int is_given (const GOptionEntry *e, int argc, char **argv)
{
    size_t n = strlen (e->long_name);
    for (int i = 1; i < argc; i++)
        if ((g_str_has_prefix (argv[i], "--") && !strncmp (argv[i] + 2, e->long_name, n) && (!argv[i][n + 2] || argv[i][n + 2] == '=')) ||
            (e->short_name && argv[i][0] == '-' && argv[i][1] == e->short_name))
            return 1;
    return 0;
}

/* DIAPASON_MAX_TOKENS=5 is --max-tokens=5 put before the user's own arguments; of files that add up (--adapter) it is not one more. */
static void add_environment (GPtrArray *args, const GOptionEntry *entries, int argc, char **argv)
{
    static const char *const never[] = {"production", "trust", "plugin-path", "plugins", "listen", "bind", "allow-programs", NULL};
    for (const GOptionEntry *e = entries; e && e->long_name; e++) {
        if (g_strv_contains (never, e->long_name) || !*e->long_name)
            continue;
        g_autofree char *upper = g_ascii_strup (e->long_name, -1);
        g_autofree char *name = g_strconcat ("DIAPASON_", g_strdelimit (upper, "-", '_'), NULL);
        const char *value = g_getenv (name);
        if (!value || (e->arg == G_OPTION_ARG_FILENAME_ARRAY && is_given (e, argc, argv)))
            continue;
        if (e->arg == G_OPTION_ARG_NONE) {
            if (*value && strcmp (value, "0"))
                g_ptr_array_add (args, keep (g_strconcat ("--", e->long_name, NULL)));
        } else
            g_ptr_array_add (args, keep (g_strconcat ("--", e->long_name, "=", value, NULL)));
    }
}

/* The long options of a NULL-terminated table are added to names; 1 when --set is among them. */
static int add_names (GPtrArray *names, const GOptionEntry *entries)
{
    int set = 0;
    for (const GOptionEntry *e = entries; e && e->long_name; e++) {
        set |= !strcmp (e->long_name, "set");
        if (*e->long_name)
            g_ptr_array_add (names, (char *)e->long_name);
    }
    return set;
}

/* What an option that is none may have been meant to be: one that begins so, a key of the recipe, one that is spelt nearly so. */
static char *option_hint (const char *given, const GOptionEntry *entries, const GOptionEntry *common)
{
    g_autoptr (GPtrArray) names = g_ptr_array_new ();
    g_autofree char *name = g_strndup (given, strcspn (given, "="));
    g_autofree char *key = g_strdelimit (g_strdup (name), "-", '_');
    const char *near = NULL;
    int set = add_names (names, entries), begin = 0;
    add_names (names, common);
    for (guint i = 0; *name && i < names->len; i++)
        if (g_str_has_prefix (names->pdata[i], name) && !begin++)
            near = names->pdata[i];
    g_ptr_array_add (names, NULL);
    if (set && dps_recipe_has_key (key))
        return g_strdup_printf (". Hint: keys of the recipe are given so: --set %s=…", key);
    if (begin != 1)
        near = dps_suggest (name, (const char *const *)names->pdata);
    return near ? g_strdup_printf ("; did you mean '--%s'?", near) : g_strdup ("");
}

int cli_parse (const DpsVerb *verb, const GOptionEntry *entries, int *argc, char ***argv)
{
    const GOptionEntry common[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &cli_common.json, "machine-readable output", NULL},
        {"quiet", 'q', 0, G_OPTION_ARG_NONE, &cli_common.quiet, "errors only", NULL},
        {"production", 0, 0, G_OPTION_ARG_NONE, &cli_common.production, "only plugins that come with Diapason, are listed or signed", NULL},
        {"log-level", 0, 0, G_OPTION_ARG_STRING, &cli_common.log_level, "error, warning, info or debug", "LEVEL"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    GPtrArray *args = g_ptr_array_new ();
    g_ptr_array_add (args, keep (g_strdup ((*argv)[0])));
    add_environment (args, common, *argc, *argv);
    add_environment (args, entries, *argc, *argv);
    for (int i = 1; i < *argc; i++)
        g_ptr_array_add (args, keep (g_strdup ((*argv)[i])));
    g_ptr_array_add (args, NULL);
    *argc = (int)args->len - 1;
    *argv = keep (g_ptr_array_free (args, FALSE));

    g_autoptr (GOptionContext) context = g_option_context_new (verb->synopsis);
    g_autofree char *summary = g_strdup_printf ("diapason %s: %s", verb->name, verb->summary);
    g_option_context_set_summary (context, summary);
    g_option_context_set_description (context, verb->help);
    g_option_context_set_help_enabled (context, FALSE);
    gboolean help = FALSE;
    const GOptionEntry help_entry[] = {{"help", 'h', 0, G_OPTION_ARG_NONE, &help, "this text", NULL}, {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_option_context_add_main_entries (context, entries, NULL);
    g_option_context_add_main_entries (context, common, NULL);
    g_option_context_add_main_entries (context, help_entry, NULL);
    g_autofree char *program = g_strdup_printf ("diapason %s", verb->name);
    g_set_prgname (program);
    g_autoptr (GError) error = NULL;
    if (!g_option_context_parse (context, argc, argv, &error)) {
        const char *unknown = g_error_matches (error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION) ? strstr (error->message, "--") : NULL;
        g_autofree char *hint = unknown ? option_hint (unknown + 2, entries, common) : NULL;
        return cli_usage (verb, "%s%s", error->domain == G_CONVERT_ERROR ? "an argument is not valid UTF-8" : error->message,
                          hint ? hint : "");
    }
    if (help) {
        g_autofree char *text = g_option_context_get_help (context, FALSE, NULL);
        cli_print_help (text);
        return 0;
    }
    int level = cli_common.log_level ? log_level (cli_common.log_level) : cli_common.quiet ? DPS_LOG_ERROR : DPS_LOG_INFO;
    if (level < 0)
        return cli_usage (verb, "--log-level is '%s', expected error, warning, info or debug", cli_common.log_level);
    dps_log_install (print_log, NULL, level);
    dps_trust_production (cli_common.production);
    if (*argc > 1 && !strcmp ((*argv)[1], "--")) {
        memmove (*argv + 1, *argv + 2, (size_t)(*argc - 1) * sizeof **argv);
        (*argc)--;
    }
    return -1;
}

/* The last word of "data check". */
static const char *sub_name (const CliSub *s)
{
    const char *space = strrchr (s->verb->name, ' ');
    return space ? space + 1 : s->verb->name;
}

/* The one that `word` names; NULL after a usage error that lists them. */
static const CliSub *find_sub (const DpsVerb *verb, const CliSub *subs, const char *word)
{
    const char *names[16] = {NULL};
    g_autoptr (GString) list = g_string_new (NULL);
    for (size_t i = 0; subs[i].verb && i + 1 < G_N_ELEMENTS (names); i++) {
        names[i] = sub_name (&subs[i]);
        if (word && !strcmp (names[i], word))
            return &subs[i];
        g_string_append_printf (list, "%s%s", !i ? "" : subs[i + 1].verb ? ", " : " or ", names[i]);
    }
    const char *near = word ? dps_suggest (word, names) : NULL;
    if (word)
        cli_usage (verb, "'%s', expected %s%s%s%s", word, list->str, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    else
        cli_usage (verb, "nothing to do, expected %s", list->str);
    return NULL;
}

/* "check  read every row as training would": what each is for, then what the verb says of all. */
static char *help_of_all (const DpsVerb *verb, const CliSub *subs)
{
    GString *text = g_string_new (NULL);
    size_t wide = 0;
    for (size_t i = 0; subs[i].verb; i++)
        wide = MAX (wide, strlen (sub_name (&subs[i])));
    for (size_t i = 0; subs[i].verb; i++)
        g_string_append_printf (text, "%-*s  %s\n", (int)wide, sub_name (&subs[i]), subs[i].verb->summary);
    g_string_append_printf (text, "Each has its own options and examples: diapason %s --help\n\n%s", subs[0].verb->name, verb->help);
    return g_string_free (text, FALSE);
}

int cli_parse_sub (const DpsVerb *verb, const CliSub *subs, const char *usual, const GOptionEntry *all, int *argc, char ***argv,
                   const CliSub **out_sub)
{
    g_autofree char *help = help_of_all (verb, subs);
    DpsVerb whole = *verb;
    whole.help = help;
    int first = *argc > 1 && *(*argv)[1] != '-', code = first ? -1 : cli_parse (&whole, all, argc, argv);
    if (code >= 0)
        return code;
    if (!(*out_sub = find_sub (verb, subs, *argc > 1 ? (*argv)[1] : usual)))
        return 2;
    (*argc) -= *argc > 1;
    (*argv)++;
    if ((*out_sub)->verb->run)
        return first ? (*out_sub)->verb->run (*argc, *argv) : cli_usage (verb, "the options of %s stand behind its name", (*argv)[0]);
    return first ? cli_parse ((*out_sub)->verb, (*out_sub)->entries, argc, argv) : -1;
}

int cli_fail (const DpsVerb *verb, DpsStatus status, const DpsError *err)
{
    cli_progress_end ();
    fprintf (stderr, "diapason %s: %s%s\n", verb->name,
             status == DPS_ERR_INTERRUPTED ? "" : "error: ", err && err->msg[0] ? err->msg : dps_status_name (status));
    return dps_status_exit_code (status);
}

int cli_usage (const DpsVerb *verb, const char *fmt, ...)
{
    va_list ap;
    va_start (ap, fmt);
    fprintf (stderr, "diapason %s: usage: ", verb->name);
    vfprintf (stderr, fmt, ap);
    va_end (ap);
    fprintf (stderr, "\nTry 'diapason %s --help'.\n", verb->name);
    return 2;
}

int cli_colour (FILE *stream)
{
    const char *no_color = g_getenv ("NO_COLOR");
    return isatty (fileno (stream)) && !(no_color && *no_color);
}

/* Columns of the terminal behind stdout; 0 when it is none. */
static glong columns (void)
{
    struct winsize size = {0};
    if (!isatty (STDOUT_FILENO))
        return 0;
    return ioctl (STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Words from column `indent` on, where the cursor is, and a newline. */
static void wrap (const char *text, int indent, glong room)
{
    glong left = room - indent;
    for (const char *word = text; *word;) {
        size_t bytes = strcspn (word, " ");
        glong wide = g_utf8_strlen (word, (gssize)bytes), gap = word > text;
        if (gap && left < wide + 1) {
            printf ("\n%*s", indent, "");
            left = room - indent;
            gap = 0;
        }
        printf ("%s%.*s", gap ? " " : "", (int)bytes, word);
        left -= wide + gap;
        word += bytes + strspn (word + bytes, " ");
    }
    putchar ('\n');
}

void cli_labelled (const char *label, int indent, const char *colour, const char *text)
{
    glong room = columns ();
    int used = (int)g_utf8_strlen (label, -1), coloured = colour && cli_colour (stdout);
    printf ("%s%s%s%s%s%*s", coloured ? "\033[" : "", coloured ? colour : "", coloured ? "m" : "", label, coloured ? "\033[0m" : "",
            MAX (indent - used, 2), "");
    indent = used + MAX (indent - used, 2);
    if (room < indent + 20) { /* no terminal, or too narrow to indent in */
        puts (text);
        return;
    }
    wrap (text, indent, room);
}

void cli_print_help (const char *text)
{
    glong room = columns ();
    int example = 0; /* as they are, to be copied */
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (char **line = lines; *line && (line[1] || **line); line++) {
        size_t label = strspn (*line, " ");
        const char *gap = strstr (*line + label, "  ");
        label = gap ? (size_t)(gap - *line) + strspn (gap, " ") : label;
        glong indent = g_utf8_strlen (*line, (gssize)label);
        example |= g_str_has_prefix (*line, "Example");
        if (example || room < indent + 20 || g_utf8_strlen (*line, -1) <= room) {
            puts (*line);
            continue;
        }
        printf ("%.*s", (int)label, *line);
        wrap (*line + label, (int)indent, room);
    }
}

static int progress_drawn;
static gint64 progress_since; /* µs; 0: nothing goes on */
static double progress_done;  /* when it was drawn last: less than that is another task */

void cli_progress (const char *label, double done, double total, const char *detail)
{
    if (cli_common.quiet || !isatty (STDERR_FILENO) || (cli_common.json && isatty (STDOUT_FILENO)))
        return;
    struct winsize ws = {.ws_col = 80};
    if (ioctl (STDERR_FILENO, TIOCGWINSZ, &ws) != 0 || ws.ws_col < 20)
        ws.ws_col = 80;
    double share = total > 0 ? CLAMP (done / total, 0, 1) : 0;
    char head[64], tail[160];
    if (total > 0)
        snprintf (head, sizeof head, "%.30s %3.0f%% ", label, 100 * share);
    else
        snprintf (head, sizeof head, "%.30s", label);
    snprintf (tail, sizeof tail, " %.150s", detail ? detail : "");
    int width = (int)ws.ws_col - 1 - (int)strlen (head) - (int)g_utf8_strlen (tail, -1) - 2;
    width = total > 0 ? CLAMP (width, 0, 40) : 0;
    int filled = (int)(share * width);
    fprintf (stderr, "\r\033[K%s", head);
    if (width > 4) {
        fputc ('[', stderr);
        for (int i = 0; i < width; i++)
            fputc (i < filled ? '#' : '.', stderr);
        fputc (']', stderr);
    }
    fputs (tail, stderr);
    fflush (stderr);
    progress_drawn = 1;
}

void cli_progress_paced (const char *label, double done, double total, double tokens)
{
    char detail[96] = "", left[40];
    gint64 now = g_get_monotonic_time ();
    if (!progress_since || done < progress_done)
        progress_since = now;
    progress_done = done;
    double took = 1e-6 * (double)(now - progress_since);
    if (done > 0 && took > 0) {
        dps_duration_text (took * (total - done) / done, left, sizeof left);
        if (tokens > 0)
            snprintf (detail, sizeof detail, tokens < 10 * took ? "%.1f tokens/s, %s left" : "%.0f tokens/s, %s left", tokens / took, left);
        else
            snprintf (detail, sizeof detail, "%s left", left);
    }
    cli_progress (label, done, total, detail);
}

void cli_progress_end (void)
{
    if (progress_drawn)
        fputs ("\r\033[K", stderr);
    progress_drawn = 0;
    progress_since = 0;
}

uint64_t cli_size (const char *text)
{
    static const struct {
        const char *suffix;
        double bytes;
    } units[] = {{"", 1},       {"B", 1},      {"KB", 1e3},   {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {"K", 0x1p10},
                 {"M", 0x1p20}, {"G", 0x1p30}, {"T", 0x1p40}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    char *end;
    double n = g_ascii_strtod (text, &end);
    while (*end == ' ')
        end++;
    for (size_t i = 0; end != text && i < G_N_ELEMENTS (units); i++)
        if (!g_ascii_strcasecmp (end, units[i].suffix))
            return isfinite (n) && n * units[i].bytes >= 1 && n * units[i].bytes < 0x1p62 ? (uint64_t)(n * units[i].bytes) : 0;
    return 0;
}
