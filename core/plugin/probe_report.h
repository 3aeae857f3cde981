/* SPDX-License-Identifier: Apache-2.0 */
/* probe_report.h: what the child of a probe says, line by line, of the step it is about to take; the plugin in it may write there too. */
#ifndef DPS_PLUGIN_PROBE_REPORT_H
#define DPS_PLUGIN_PROBE_REPORT_H

#include <stddef.h>

typedef struct DpsProbeReport {
    char step[120];  /* the last whole line, fit to print */
    char line[120];  /* the one that is being written */
    size_t line_len; /* may go past the room: what does not fit is dropped */
} DpsProbeReport;

/** 1 when it said that it came through; nothing after that is read. */
int dps__probe_is_done (const DpsProbeReport *r);
/** The next n bytes. */
void dps__probe_take (DpsProbeReport *r, const char *data, size_t n);

#endif
