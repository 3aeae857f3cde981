/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.h: what a case's process may take of the machine, and what of the process belongs to the host: a plugin that changes its locale, folder,
 * environment, signals or arithmetic, or leaves files open, has changed every other plugin's too.
 */
#ifndef DPS_TOOLS_CHECK_PROCESS_H
#define DPS_TOOLS_CHECK_PROCESS_H

#include <signal.h>
#include <stdint.h>

#include "base/status.h"

enum { CHECK_SIGNALS = 8, CHECK_VARIABLES = 512, CHECK_FILES_MAY = 32 /* a driver keeps some for each device */ };

/** [init] No core, no file of more than 256 MiB, no more memory than half of the machine, and the first to go when it has none left. */
void check_process_limit (void);

typedef struct CheckMark {
    uint64_t variables[CHECK_VARIABLES]; /* hashes of "NAME=value" */
    size_t n_variables;
    char folder[512], locale[256];
    struct sigaction actions[CHECK_SIGNALS];
    sigset_t blocked;
    uint32_t mask;             /* of file modes */
    int rounding, keeps_small; /* of arithmetic; 0: numbers below 2⁻¹²⁶ become 0 */
    int files;
} CheckMark;

/** Of the calling thread and its process, before any code of a plugin's. */
void check_mark (CheckMark *m);
/** DPS_OK, or INVALID with what is no longer as it was. */
DpsStatus check_unchanged (const CheckMark *m, DpsError *err);

/** Open files; -1: not known. */
int check_open_files (void);

#endif
