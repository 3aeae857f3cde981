/* SPDX-License-Identifier: Apache-2.0 */
/* collective.h: `dps.collective/1`: communication between processes, each call on a communicator and a stream. */
#ifndef DIAPASON_COLLECTIVE_H
#define DIAPASON_COLLECTIVE_H

#include "diapason/draft/types.h"

#define DPS_COLLECTIVE_ID "dps.collective/1"

struct DpsComm;
struct DpsQueue; /* a stream of the backend that owns the buffers; NULL: synchronous, host memory */

enum { DPS_REDUCE_SUM = 0, DPS_REDUCE_MAX = 1, DPS_REDUCE_MIN = 2 };

/**
 * Counts are elements of `dtype`. Sums are made in rank order: the same bits on every rank and every run.
 * Thread: [stream-serial]; abort is [any] and must unblock every other call, which then returns CANCELLED.
 */
typedef struct DpsCollective {
    size_t size;
    /** An identifier rank 0 makes and the others receive through the host's kv store. */
    DpsStatus (*unique_id) (void *buf, size_t cap, size_t *out_len, DpsError *err);
    DpsStatus (*init) (const void *id, size_t id_len, uint32_t rank, uint32_t n_ranks, struct DpsComm **out, DpsError *err);
    DpsStatus (*all_reduce) (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t reduce, struct DpsQueue *q, DpsError *err);
    DpsStatus (*reduce_scatter) (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t reduce, struct DpsQueue *q,
                                 DpsError *err);
    DpsStatus (*all_gather) (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err);
    DpsStatus (*all_to_all) (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err);
    DpsStatus (*broadcast) (struct DpsComm *c, const DpsView *buf, uint32_t root, struct DpsQueue *q, DpsError *err);
    DpsStatus (*send) (struct DpsComm *c, const DpsView *buf, uint32_t to, struct DpsQueue *q, DpsError *err);
    DpsStatus (*recv) (struct DpsComm *c, const DpsView *buf, uint32_t from, struct DpsQueue *q, DpsError *err);
    void (*abort) (struct DpsComm *c);
    void (*destroy) (struct DpsComm *c);
} DpsCollective;

#endif
