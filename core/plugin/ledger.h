/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger.h: what is known of plugins' modules by their digest, from one start of the program to the next: those that came through a probe
 * (probe.h), and those that did not, with the reason. One text file in the user's state folder, $XDG_STATE_HOME/diapason/plugins, a line each:
 *
 *     good        SHA256 ID
 *     quarantined SHA256 ID DATE REASON …
 *
 * A line that is not so is ignored, and gone when the file is written next.
 */
#ifndef DPS_PLUGIN_LEDGER_H
#define DPS_PLUGIN_LEDGER_H

#include "base/mem.h"
#include "base/sha256.h"

enum { DPS_LEDGER_UNKNOWN = 0, DPS_LEDGER_GOOD = 1, DPS_LEDGER_QUARANTINED = 2 };

/** One line. reason is "" but for the quarantined. */
typedef struct DpsLedgerLine {
    int verdict; /* DPS_LEDGER_* */
    char id[97];
    char date[11]; /* 2026-11-26 */
    char reason[300];
} DpsLedgerLine;

/** The file's path, dps_free; NULL when there is no state folder that may be believed (no home; the environment does not count). [init] */
char *dps__ledger_path (void);

/** What is known of a digest. A file that is absent, not trusted or not readable knows nothing. [init] */
DpsLedgerLine dps__ledger_find (const char *path, const DpsDigest *digest);

/**
 * Replace what is known of a digest; verdict UNKNOWN: forget it. The file is read again and written whole, atomically.
 * Errors: UNSUPPORTED (path NULL), IO, NOMEM. [init]
 */
DpsStatus dps__ledger_set (const char *path, const DpsDigest *digest, const DpsLedgerLine *line, DpsError *err);

#endif
