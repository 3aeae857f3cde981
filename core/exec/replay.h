/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.h: run a record (trace.h) again on one backend, or on two side by side. Numbers are drawn from the record's seeds; what a call wrote the next
 * ones read, and with two backends both go on from what the second (the one believed) wrote, so that a difference is one call's own. Every call is
 * checked as --validate does when DIAPASON_VALIDATE is set.
 */
#ifndef DPS_EXEC_REPLAY_H
#define DPS_EXEC_REPLAY_H

#include "exec/exec.h"

typedef struct DpsReplayOptions {
    const char *path;    /* names the record in errors */
    const char *backend; /* the one in question */
    const char *against; /* the one believed; NULL: none, calls are only run */
    double tolerance;    /* largest difference over largest number of an output; 0: 1e-3, and 2e-2 where bf16 or f16 take part */
    uint64_t memory;     /* bytes of a record's live buffers, on each backend, at most; 0: half of the machine's */
    void (*progress) (void *ctx, double share);
    void *ctx;
} DpsReplayOptions;

/** What came of one op. */
typedef struct DpsReplayOp {
    uint64_t calls, failed;
    double worst; /* over the calls, where there is a backend to believe */
    uint64_t worst_call;
    double seconds, against_seconds;
} DpsReplayOp;

typedef struct DpsReplayFailure {
    uint64_t call;
    char op[40], device[64], operands[360], reason[1000];
} DpsReplayFailure;

typedef struct DpsReplay {
    DpsReplayOp ops[DPS_OP_COUNT];
    uint64_t calls, failed;
    DpsReplayFailure first; /* when failed > 0 */
    char recorded_on[64], ids[16];
    char end[8];                /* "closed", "limit", or "cut": the process died in the last call */
    char recorded_failure[480]; /* what failed when it was recorded, "" when nothing did */
    uint64_t recorded_failed_call, last_call;
} DpsReplay;

/**
 * Replay a record of len bytes. A call that fails or differs is in *out, not an error. Errors: those of the record (FORMAT, VERSION, LIMIT with the
 * line), NOT_FOUND (a backend), NOMEM. [init]
 */
DpsStatus dps_replay (const DpsRegistry *reg, const char *data, size_t len, const DpsReplayOptions *o, DpsReplay *out, DpsError *err);

#endif
