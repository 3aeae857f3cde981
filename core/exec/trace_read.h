/* SPDX-License-Identifier: Apache-2.0 */
/* trace_read.h: a record (trace.h) read line by line: foreign bytes, of which nothing is believed. Internal to the stage. */
#ifndef DPS_EXEC_TRACE_READ_H
#define DPS_EXEC_TRACE_READ_H

#include "base/json.h"
#include "exec/operands.h"
#include "exec/trace.h"

/** V of the format. */
typedef struct DpsTraceView {
    int present;
    uint32_t dtype, rank;
    int64_t shape[4], stride[4];
    int has_stride;
    int pack;          /* orientation, or -1 */
    DpsQuantForm form; /* of a quantised weight: its contents are not in a record, its parts' sizes are */
} DpsTraceView;

typedef struct DpsTraceCase {
    DpsOpCode op;
    uint32_t n_in, n_out;
    DpsTraceView views[DPS_OPERANDS_MAX]; /* inputs first */
} DpsTraceCase;

typedef enum DpsFillKind {
    DPS_FILL_NONE,
    DPS_FILL_ZERO,
    DPS_FILL_NORMAL,
    DPS_FILL_POSITIVE,
    DPS_FILL_NAN,
    DPS_FILL_TOKENS,
    DPS_FILL_DATA
} DpsFillKind;

typedef struct DpsTraceFill {
    DpsFillKind kind;
    uint64_t seed; /* DATA: its number */
    int64_t limit; /* of tokens */
    double rms;
} DpsTraceFill;

typedef struct DpsTraceCall {
    uint64_t number;
    const DpsTraceCase *kind;
    struct {
        uint64_t buffer, offset; /* buffer 0: memory of the host */
    } at[DPS_OPERANDS_MAX];
    uint32_t n_attrs;
    DpsScalar attrs[DPS_OP_MAX_ATTRS];
    DpsTraceFill fill[DPS_OPERANDS_MAX];
} DpsTraceCall;

typedef struct DpsTraceData {
    unsigned char *bytes;
    uint64_t n, have; /* have < n: pieces are missing */
} DpsTraceData;

typedef enum DpsTraceKind {
    DPS_TRACE_DEVICE,
    DPS_TRACE_ALLOC,
    DPS_TRACE_FREE,
    DPS_TRACE_CALL,
    DPS_TRACE_FAILED,
    DPS_TRACE_END,
    DPS_TRACE_CUT /* the bytes end without a last line */
} DpsTraceKind;

/** The next line that replay acts on. Strings are cut to fit. */
typedef struct DpsTraceEvent {
    DpsTraceKind kind;
    uint64_t number, bytes; /* of a buffer or call */
    char name[64];          /* device; status of a failed call; "closed" or "limit" */
    char text[400];         /* plugin and detail; message */
    DpsTraceCall call;
} DpsTraceEvent;

typedef struct DpsTrace {
    const char *at, *end, *where;
    long line;
    char ids[16]; /* "synthetic" or "recorded" */
    DpsQuantNames quants;
    DpsTraceCase *cases;
    size_t n_cases, case_capacity;
    DpsTraceData *data;
    size_t n_data, data_capacity;
} DpsTrace;

/** Read the header of a record of len bytes, borrowed; where names it in errors. Close in any case. Errors: FORMAT, VERSION, LIMIT, NOMEM. [any] */
DpsStatus dps__trace_open (DpsTrace *t, const char *data, size_t len, const char *where, DpsError *err);
/** The next event; after END or CUT there is none. Errors: FORMAT with the line, LIMIT, NOMEM. */
DpsStatus dps__trace_next (DpsTrace *t, DpsTraceEvent *out, DpsError *err);
void dps__trace_close (DpsTrace *t);

#endif
