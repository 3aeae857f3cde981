/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h: what every verb shares. A verb is one file verb_NAME.c defining `const DpsVerb dps_verb_NAME`; CMake finds it by its name.
 * A verb parses its options with cli_parse, does its work through the core, prints results on stdout, and everything else on stderr.
 */
#ifndef DPS_TOOLS_CLI_H
#define DPS_TOOLS_CLI_H

#include <glib.h>
#include <stdio.h>

#include "base/status.h"

typedef struct DpsVerb {
    const char *name;                   /* "train" */
    const char *summary;                /* one line for `diapason --help`; NULL: not listed */
    const char *synopsis;               /* what follows the verb: "RECIPE [--set key=value …]" */
    const char *help;                   /* a paragraph and at least one example, printed by --help */
    int (*run) (int argc, char **argv); /* argv[0] is the verb; returns the exit code of CONVENTIONS section 1 */
} DpsVerb;

/** Options every verb has; filled by cli_parse (environment DIAPASON_JSON, DIAPASON_QUIET, DIAPASON_LOG_LEVEL first). */
typedef struct CliCommon {
    gboolean json;
    gboolean quiet;
    gboolean production; /* from the command line only */
    char *log_level;     /* error, warning, info, debug */
} CliCommon;
extern CliCommon cli_common;

/**
 * Parse options with GLib; leaves positionals in argv[1..argc). DIAPASON_<FLAG> in the environment gives the default of any flag of
 * `entries` (never for trust, plugin paths or the bind address). Returns -1 to go on, else the exit code to return (0 after --help,
 * 2 after a usage error, already printed with a did-you-mean).
 */
int cli_parse (const DpsVerb *verb, const GOptionEntry *entries, int *argc, char ***argv);

/** A verb of a verb: `data check`. */
typedef struct CliSub {
    const DpsVerb *verb;         /* name: "data check"; run: parses for itself, or NULL */
    const GOptionEntry *entries; /* its options; where run is NULL */
} CliSub;

/**
 * cli_parse for a verb of verbs: parses the options of the one that is named. *out_sub is it, its arguments are argv[1..argc). `subs` ends with one
 * without a verb; its summaries stand in the verb's own --help. usual: the one meant where none is named, or NULL; `all`: the options of every one, for a command line that begins with
 * options. Returns as cli_parse does.
 */
int cli_parse_sub (const DpsVerb *verb, const CliSub *subs, const char *usual, const GOptionEntry *all, int *argc, char ***argv,
                   const CliSub **out_sub);

/** Print "diapason VERB: message" to stderr and return the exit code that belongs to `status`. */
int cli_fail (const DpsVerb *verb, DpsStatus status, const DpsError *err);
/** The same for a usage error found by the verb itself (exit 2). */
int cli_usage (const DpsVerb *verb, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));

/** "6GiB", "1.5 GB", "800M": bytes, or 0 when it is no size. */
uint64_t cli_size (const char *text);

/** 1 when `stream` is a terminal and colour is wanted (NO_COLOR honoured). */
int cli_colour (FILE *stream);

/**
 * One line on stdout: label, padded to `indent` columns, then text. On a terminal the text is wrapped at spaces, further lines begin under it,
 * and the label has `colour` ("2": dim, "31": red …; NULL: none). Elsewhere it is one plain line, to paste or grep.
 */
void cli_labelled (const char *label, int indent, const char *colour, const char *text);

/** A help text on stdout. On a terminal lines are wrapped at spaces, under where their text begins; those from "Example" on are left as they are. */
void cli_print_help (const char *text);

/**
 * One progress bar on stderr: redrawn in place on a terminal, nothing otherwise (callers print a line per logging step there).
 * done/total in units of `unit`; `detail` is appended ("312 tokens/s, 2:10 left"). cli_progress_end clears the line.
 * total 0: there is no count, and label and detail stand alone.
 */
void cli_progress (const char *label, double done, double total, const char *detail);
/** The same; the detail is the pace since cli_progress_end: "312 tokens/s, 2:10 left". tokens: worked through so far; 0: not counted. */
void cli_progress_paced (const char *label, double done, double total, double tokens);
void cli_progress_end (void);

#endif
