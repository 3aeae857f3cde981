/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h: the options of every verb that computes on devices: check the calls of backends, write them down. */
#ifndef DPS_TOOLS_WATCH_H
#define DPS_TOOLS_WATCH_H

#include "diapason/cli.h"

typedef struct CliWatch {
    gboolean validate, record_ids;
    char *record, *record_limit;
} CliWatch;
extern CliWatch cli_watch;

/** Entries for the table of cli_parse. */
#define CLI_WATCH_ENTRIES                                                                                                                  \
    {"validate",                                                                                                                           \
     0,                                                                                                                                    \
     0,                                                                                                                                    \
     G_OPTION_ARG_NONE,                                                                                                                    \
     &cli_watch.validate,                                                                                                                  \
     "check every call of a plugin: threads, memory, shapes, NaN; several times slower, the same bits",                                    \
     NULL},                                                                                                                                \
        {"record", 0, 0, G_OPTION_ARG_FILENAME, &cli_watch.record, "write the calls of backends there, without weights: for replay",       \
         "FILE"},                                                                                                                          \
        {"record-ids", 0, 0, G_OPTION_ARG_NONE, &cli_watch.record_ids, "record token ids as they are, not synthetic ones", NULL},          \
    {                                                                                                                                      \
        "record-limit", 0, 0, G_OPTION_ARG_STRING, &cli_watch.record_limit, "end the record at this size (256MiB)", "SIZE"                 \
    }

/** Do what the options say, before plugins are opened. Errors: USAGE, IO, NOMEM. [init] */
DpsStatus cli_watch_begin (DpsError *err);
/** After the verb: close the record; code, or 1 when it is 0 and a rule was broken or the record could not be written. [init] */
int cli_watch_end (int code);

#endif
