/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_write.h: what the layer that records calls (trace.c) is made of: the file, line by line; what replay will have in memory at this point of it;
 * and kinds of calls and contents of operands as the format (trace.h) has them. One record a process. Internal to the stage.
 */
#ifndef DPS_EXEC_TRACE_WRITE_H
#define DPS_EXEC_TRACE_WRITE_H

#include "base/mem.h"
#include "exec/operands.h"
#include "exec/trace.h"

/* trace_file.c */

typedef struct DpsTraceFile {
    int fd; /* -1: none */
    char *path;
    uint64_t limit, written, n_calls;
    DpsStatus status;
    DpsError err;
    DpsBuf line; /* being made */
} DpsTraceFile;

extern DpsTraceFile dps__trace_file;

static inline int dps__trace_is_on (void) { return dps__trace_file.fd >= 0; }
/** Create the file. Errors: IO, NOMEM. */
DpsStatus dps__trace_file_begin (const char *path, uint64_t limit, DpsError *err);
/** Write the line and empty it; bad: it could not be made. The last line always fits; what does not fit or cannot be written ends the record. */
void dps__trace_flush (int bad);
/** The record ends here, and the run goes on. */
void dps__trace_give_up (DpsStatus st, const char *what);
/** Close it, with its last line. Errors: IO, NOMEM, LIMIT: what a write met earlier. */
DpsStatus dps__trace_file_end (DpsError *err);

/* trace_known.c: live buffers, and of which ranges replay has the contents: by the hash of what was there when they were last seen. */

typedef struct DpsTracedBuffer {
    const struct DpsBuffer *handle;
    const char *host;
    uint64_t bytes, id;
    uint64_t packed_seed; /* of the rows it was packed from, 0: not packed */
    uint32_t orientation;
} DpsTracedBuffer;

/** A new buffer, numbered; NULL: no memory. Pointers hold until the next one. */
DpsTracedBuffer *dps__traced_add (const struct DpsBuffer *handle, const void *host, uint64_t bytes);
void dps__traced_drop (DpsTracedBuffer *b);
/** The buffer of that handle, or where `host` lies; NULL: none. */
DpsTracedBuffer *dps__traced_find (const struct DpsBuffer *handle, const void *host);
/** Where in its buffer a view begins. */
uint64_t dps__traced_place (const DpsView *v, const DpsTracedBuffer *b);
int dps__known_is (uint64_t buffer, uint64_t first, uint64_t end, uint64_t hash);
void dps__known_put (uint64_t buffer, uint64_t first, uint64_t end, uint64_t hash);
void dps__known_forget (uint64_t buffer, uint64_t first, uint64_t end);
void dps__traced_clear (void);

/* trace_fill.c: kinds of calls, each written once; and F of the format, for operands that replay has not got. */

typedef struct DpsFillText {
    char text[96]; /* F, "" when none is needed */
} DpsFillText;

/** Begin: keys the hashes by chance. ids: token ids are written as they are. Errors: IO, LIMIT. */
DpsStatus dps__fills_begin (int ids, DpsError *err);
/** The graph's code of an op; DPS_OP_COUNT: a vendor's own. */
DpsOpCode dps__fill_op (const DpsOp *op);
/** The number of the op's kind, or -1: the record has ended. */
int64_t dps__trace_case (const DpsOp *op);
/** Operand i, which the call reads: what replay is to put there. What lies in a device's own memory is brought by its copy. */
void dps__fill_look (const DpsExecDevice *d, const DpsOp *op, uint32_t i, DpsFillText *out);
/** After a call: replay has what it wrote. */
void dps__fill_wrote (const DpsExecDevice *d, const DpsView *v);
/** Rows that are packed: the weight's seed, the same for both orientations. */
void dps__fill_packed (DpsTracedBuffer *b, const DpsView *from, int64_t row, uint32_t orientation);
void dps__fills_clear (void);

#endif
