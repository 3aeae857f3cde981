/* SPDX-License-Identifier: Apache-2.0 */
/* output.h: where a verb's results go: stdout, or a file that appears whole or not at all. */
#ifndef DPS_TOOLS_OUTPUT_H
#define DPS_TOOLS_OUTPUT_H

#include "base/file.h"

typedef struct CliOutput {
    DpsFileWriter file;
    int to_file;
    DpsBuf buf; /* what was not written yet */
} CliOutput;

/** Before anything is read. Errors: USAGE when the output `path` is `data`, a file of rows; either may be NULL. */
DpsStatus cli_output_check (const char *path, const char *data, DpsError *err);
/** path NULL or "-": stdout. */
DpsStatus cli_output_begin (CliOutput *o, const char *path, DpsError *err);
/** Write o->buf and empty it. Errors: IO. */
DpsStatus cli_output_flush (CliOutput *o, DpsError *err);
/** Flush and, unless `st` says the work failed, make the file appear; else it is as it was. Returns the first failure. */
DpsStatus cli_output_end (CliOutput *o, DpsStatus st, DpsError *err);

/** "[1,2,3]" */
int cli_put_ids (DpsBuf *b, const int32_t *ids, size_t n);
/** A JSON string of valid UTF-8 bytes. */
int cli_put_text (DpsBuf *b, const char *text, size_t len);

#endif
