/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay_memory.h: what stands in memory while a record is replayed, once for each backend: the record's buffers; weights, in the form of the backend
 * at hand; and numbers drawn from the record's seeds. Internal to the stage.
 */
#ifndef DPS_EXEC_REPLAY_MEMORY_H
#define DPS_EXEC_REPLAY_MEMORY_H

#include "exec/trace_read.h"

enum { DPS_REPLAY_SIDES = 2 };

typedef struct DpsReplayBuffer {
    uint64_t id, bytes;
    DpsBlock block[DPS_REPLAY_SIDES];
} DpsReplayBuffer;

struct DpsReplayWeight;

typedef struct DpsReplaySide {
    DpsExec ex;
    struct DpsReplayWeight **weights;
    size_t n_weights, capacity;
} DpsReplaySide;

typedef struct DpsReplayMemory {
    DpsTrace trace;
    DpsReplaySide sides[DPS_REPLAY_SIDES];
    int n_sides;
    DpsReplayBuffer *buffers;
    size_t n_buffers, capacity;
    uint64_t bytes, limit; /* of the record's buffers and the weights of one side */
} DpsReplayMemory;

/** One call as a side sees it. */
typedef struct DpsReplayOperands {
    DpsView views[DPS_OPERANDS_MAX];
    const DpsView *list[DPS_OPERANDS_MAX];
    uint64_t bytes[DPS_OPERANDS_MAX];
    void *own[DPS_OPERANDS_MAX]; /* memory of the host, for this call */
} DpsReplayOperands;

/** Buffer `id` of the record begins, or ends. Errors: FORMAT, LIMIT, NOMEM. */
DpsStatus dps__replay_alloc (DpsReplayMemory *m, uint64_t id, uint64_t bytes, DpsError *err);
DpsStatus dps__replay_drop (DpsReplayMemory *m, uint64_t id, DpsError *err);

/** The operands of a call, filled as it says. Release in any case. Errors: FORMAT, LIMIT, NOMEM; the backend's, of packing. */
DpsStatus dps__replay_place (DpsReplayMemory *m, int side, const DpsTraceCall *c, DpsReplayOperands *out, DpsError *err);
void dps__replay_release (DpsReplayOperands *x);
/** Numbers as a fill says, into a contiguous operand. Errors: FORMAT. */
DpsStatus dps__replay_fill (const DpsReplayMemory *m, const DpsTraceFill *f, const DpsView *v, uint64_t bytes, DpsError *err);

void dps__replay_close (DpsReplayMemory *m);

#endif
