/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: finds the verb and runs it. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "diapason/watch.h"
#include "plugin/host.h"
#include "recipe/recipe.h"

#define VERB(name) extern const DpsVerb dps_verb_##name;
#include "verbs.inc"
#undef VERB

static const DpsVerb *const verbs[] = {
#define VERB(name) &dps_verb_##name,
#include "verbs.inc"
#undef VERB
    NULL};

static const DpsVerb *find_verb (const char *name)
{
    for (int i = 0; verbs[i]; i++)
        if (!strcmp (name, verbs[i]->name))
            return verbs[i];
    return NULL;
}

static char *help_text (void)
{
    GString *text = g_string_new (
        "usage: diapason VERB …\n\nAdapts large language models from C: pretraining, fine-tuning, preference tuning, LoRA.\n\n");
    for (int i = 0; verbs[i]; i++)
        if (verbs[i]->summary)
            g_string_append_printf (text, "  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    g_string_append (text, "\n'diapason VERB --help' explains one, with an example. 'diapason --version' prints the version.\n");
    return g_string_free (text, FALSE);
}

static int print_help (FILE *to)
{
    g_autofree char *text = help_text ();
    if (to == stdout)
        cli_print_help (text);
    else
        fputs (text, to);
    return to == stdout ? 0 : 2;
}

/* Output that did not arrive is a failure, and so is JSON that may lack a key: verbs do not look at each as they put it together. Whoever closed the
 * pipe knows. */
static int finish (int code)
{
    if (!code && cli_common.json && dps_mem_failed ()) {
        fputs ("diapason: error: out of memory: what was printed may lack something\n", stderr);
        code = 1;
    }
    errno = 0;
    if (fflush (stdout) == 0 && !ferror (stdout))
        return code;
    if (errno != EPIPE)
        fprintf (stderr, "diapason: error: standard output: %s\n", errno ? strerror (errno) : "could not be written");
    return code ? code : 1;
}

/* Verbs of the command line that this version does not have. */
static const char *const later[] = {"quantize", "export", "serve", "chat", NULL};

static int refuse (const char *name)
{
    const char *names[G_N_ELEMENTS (verbs)] = {NULL};
    for (int i = 0, n = 0; verbs[i]; i++)
        if (verbs[i]->summary)
            names[n++] = verbs[i]->name;
    const char *nearest = dps_suggest (name, names);
    int is_later = 0;
    for (int i = 0; later[i]; i++)
        is_later |= !strcmp (name, later[i]);
    if (is_later)
        fprintf (stderr, "diapason: %s is not implemented in this version", name);
    else
        fprintf (stderr, "diapason: no verb '%s'", name);
    if (nearest && !is_later)
        fprintf (stderr, "; did you mean '%s'?", nearest);
    fprintf (stderr, "\nTry 'diapason --help'.\n");
    return 2;
}

static int run (int argc, char **argv)
{
    if (argc < 2)
        return print_help (stderr);
    if (argc == 3 && !strcmp (argv[1], "help") && find_verb (argv[2])) {
        char *help[] = {argv[2], (char *)"--help", NULL};
        return find_verb (argv[2])->run (2, help);
    }
    if (!strcmp (argv[1], "--help") || !strcmp (argv[1], "-h") || !strcmp (argv[1], "help"))
        return print_help (stdout);
    if (!strcmp (argv[1], "--version")) {
        printf ("diapason %s\n", DIAPASON_VERSION);
        return 0;
    }
    const DpsVerb *verb = find_verb (argv[1]);
    return verb ? cli_watch_end (verb->run (argc - 1, argv + 1)) : refuse (argv[1]);
}

int main (int argc, char **argv)
{
    signal (SIGPIPE, SIG_IGN);
    /* Arguments are UTF-8 whatever LANG says; GLib would convert them from the locale's charset. */
    setlocale (LC_CTYPE, "C.UTF-8");
    dps_json_init ();
#ifndef __SANITIZE_ADDRESS__ /* which reports better */
    dps_crash_report_install ();
#endif
    return finish (run (argc, argv));
}
