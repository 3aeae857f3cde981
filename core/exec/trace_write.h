/* SPDX-License-Identifier: Apache-2.0 */
/* trace_write.h: the file behind a record (trace.h): one a process. Internal to the stage. */
#ifndef DPS_EXEC_TRACE_WRITE_H
#define DPS_EXEC_TRACE_WRITE_H

#include "base/mem.h"
#include "base/status.h"

/** What the record is at: the line that is being made, and the number of the call. */
typedef struct DpsTraceOut {
    DpsBuf line;
    uint64_t n_calls;
} DpsTraceOut;
extern DpsTraceOut dps__trace_out;

/** Begin the file. Errors: IO, NOMEM. */
DpsStatus dps__trace_create (const char *path, uint64_t limit, DpsError *err);
/** What a write met since. */
DpsStatus dps__trace_status (DpsError *err);
/** Write the last line and forget everything. Errors: those of dps__trace_status. */
DpsStatus dps__trace_finish (DpsError *err);
/** 1 from open until close, the limit or an error: the run goes on without. */
int dps__trace_recording (void);

/** Write the line and empty it. bad: it could not be made. */
void dps__trace_flush (int bad);
/** The record ends here. */
void dps__trace_give_up (DpsStatus st, const char *what);

/** The number of a kind of call by the text behind "case":N, which is freed or kept; written when it is new. -1: given up. */
int64_t dps__trace_case (DpsBuf *text);
/** Integers with this hash, written once: the number of their data, or -1. */
int64_t dps__trace_data (uint64_t hash, const unsigned char *bytes, uint64_t n);

#endif
