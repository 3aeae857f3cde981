/* SPDX-License-Identifier: Apache-2.0 */
/* report.h: what is said of the cases that ran: a table for people, JSON lines and JUnit for machines, a certificate to keep. */
#ifndef DPS_TOOLS_CHECK_REPORT_H
#define DPS_TOOLS_CHECK_REPORT_H

#include "check/run.h"

enum { CHECK_LEVELS = 6 };

typedef struct CheckReport {
    const char *target;
    const json_t *plugin;  /* as 'diapason plugins show --json' has it, of the load */
    const json_t *devices; /* [{name, detail}]; NULL: no backend */
    CheckResult *results;
    size_t n;
    int level; /* asked for, -1: no particular one */
    uint64_t seed;
    double seconds; /* of all of it */
} CheckReport;

/** A case counts as failed: failed, crashed, timed out, or skipped where `level` (≥ 0) demands it. */
int check_is_failure (const CheckResult *r, int level);
size_t check_failures (const CheckReport *c);

/** "backend.ops/linear". Returns out. */
const char *check_case_name (const CheckResult *r, char *out, size_t cap);

/** One line for people as a case ends; one JSON object. */
void check_print_case (const CheckResult *r, int level);
json_t *check_case_json (const CheckResult *r);
/** The last lines: how many held, the level, the op worth writing next. */
void check_print_summary (const CheckReport *c);
json_t *check_summary_json (const CheckReport *c);

/** Errors: IO. */
DpsStatus check_write_junit (const CheckReport *c, const char *path, DpsError *err);

#endif
