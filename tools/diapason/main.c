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

#define VERB(name) extern const DpsVerb dps_verb_##name;
#include "verbs.inc"
#undef VERB

static const DpsVerb *const verbs[] = {
#define VERB(name) &dps_verb_##name,
#include "verbs.inc"
#undef VERB
    NULL};

/* Edit distance of two short words (rows of the Levenshtein table kept one at a time). */
static unsigned distance (const char *a, const char *b)
{
    unsigned row[32], n = (unsigned)strlen (b);
    if (n > 31)
        return 99;
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            best = MIN (best, MIN (above, row[j - 1]) + 1);
            diagonal = above;
            row[j] = best;
        }
    }
    return row[n];
}

static int print_help (FILE *to)
{
    fprintf (to, "usage: diapason VERB …\n\nAdapts large language models from C: pretraining, fine-tuning, preference tuning, LoRA.\n\n");
    for (int i = 0; verbs[i]; i++)
        if (verbs[i]->summary)
            fprintf (to, "  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    fprintf (to, "\n'diapason VERB --help' explains one, with an example. 'diapason --version' prints the version.\n");
    return to == stdout ? 0 : 2;
}

/* Output that did not arrive is a failure. Whoever closed the pipe knows. */
static int finish (int code)
{
    errno = 0;
    if (fflush (stdout) == 0 && !ferror (stdout))
        return code;
    if (errno != EPIPE)
        fprintf (stderr, "diapason: error: standard output: %s\n", errno ? strerror (errno) : "could not be written");
    return code ? code : 1;
}

/* Verbs of the command line that this version does not have. */
static const char *const later[] = {"quantize", "export", "serve", "chat", NULL};

int main (int argc, char **argv)
{
    signal (SIGPIPE, SIG_IGN);
    /* Arguments are UTF-8 whatever LANG says; GLib would convert them from the locale's charset. */
    setlocale (LC_CTYPE, "C.UTF-8");
    dps_json_init ();
#ifndef __SANITIZE_ADDRESS__ /* which reports better */
    dps_crash_report_install ();
#endif
    if (argc < 2)
        return print_help (stderr);
    if (!strcmp (argv[1], "--help") || !strcmp (argv[1], "-h") || !strcmp (argv[1], "help"))
        return finish (print_help (stdout));
    if (!strcmp (argv[1], "--version")) {
        printf ("diapason %s\n", DIAPASON_VERSION);
        return finish (0);
    }
    for (int i = 0; later[i]; i++)
        if (!strcmp (argv[1], later[i])) {
            fprintf (stderr, "diapason: %s is not implemented in this version\nTry 'diapason --help'.\n", later[i]);
            return 2;
        }
    const DpsVerb *nearest = NULL;
    for (int i = 0; verbs[i]; i++) {
        if (!strcmp (argv[1], verbs[i]->name))
            return finish (cli_watch_end (verbs[i]->run (argc - 1, argv + 1)));
        if (verbs[i]->summary && (!nearest || distance (argv[1], verbs[i]->name) < distance (argv[1], nearest->name)))
            nearest = verbs[i];
    }
    fprintf (stderr, "diapason: no verb '%s'", argv[1]);
    if (nearest && distance (argv[1], nearest->name) <= 3)
        fprintf (stderr, "; did you mean '%s'?", nearest->name);
    fprintf (stderr, "\nTry 'diapason --help'.\n");
    return 2;
}
