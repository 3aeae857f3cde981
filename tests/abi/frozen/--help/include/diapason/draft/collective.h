/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collective.h: `dps.collective/1`: communication between processes, each call on a communicator and a stream. Since: ABI 0.1.
 *
 * Every rank makes the same calls in the same order, with the same shapes and dtypes. Sums are made in rank order: the same bits on every
 * rank and every run. in and out may be the same view; otherwise they do not overlap. Buffers are those of DpsQueue's backend, or host
 * memory when the queue is NULL: the call has then ended when it returns. On a queue, errors come as DpsQueues says.
 */
#ifndef DIAPASON_COLLECTIVE_H
#define DIAPASON_COLLECTIVE_H

#include "diapason/draft/stream.h"

#define DPS_COLLECTIVE_ID "dps.collective/1"

struct DpsComm; /* a group of processes, this one among them */

enum { DPS_REDUCE_SUM = 0, DPS_REDUCE_MAX = 1, DPS_REDUCE_MIN = 2 };

/**
 * R is the number of ranks, n a number of elements.
 * Thread: unique_id, init, destroy [init]; abort [any]; all others [stream-serial].
 * Errors: SHAPE, DTYPE, UNSUPPORTED, INVALID (no such rank), DEVICE; CANCELLED after abort; TIMEOUT when a rank does not answer. After any of the
 * last three the communicator is good for destroy only.
 */
typedef struct DpsCollective {
    size_t size;

    /** An identifier rank 0 makes and the others receive through the host's kv store; at most 256 bytes. *out_len ≤ cap. */
    DpsStatus (*unique_id) (void *buf, size_t cap, size_t *out_len, DpsError *err);
    /** Join; returns when all n_ranks have. id is borrowed until return. Owns: *out, freed with destroy. */
    DpsStatus (*init) (const void *id, size_t id_len, uint32_t rank, uint32_t n_ranks, struct DpsComm **out, DpsError *err);

    /** out (n) = in of all ranks, reduced (DPS_REDUCE_*). */
    DpsStatus (*all_reduce) (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t reduce, struct DpsQueue *q, DpsError *err);
    /** in (R·n) reduced; rank r keeps elements [r·n, (r+1)·n) in out (n). */
    DpsStatus (*reduce_scatter) (struct DpsComm *c, const DpsView *in, const DpsView *out, uint32_t reduce, struct DpsQueue *q,
                                 DpsError *err);
    /** out (R·n): the in (n) of rank 0, 1, … one after the other. */
    DpsStatus (*all_gather) (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err);
    /** Block s of in (R·n) goes to rank s; block s of out came from rank s. */
    DpsStatus (*all_to_all) (struct DpsComm *c, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err);
    /** buf of rank `root` to everybody's buf. */
    DpsStatus (*broadcast) (struct DpsComm *c, const DpsView *buf, uint32_t root, struct DpsQueue *q, DpsError *err);
    /** To and from one rank; pairs match in order. A send may wait for its recv. */
    DpsStatus (*send) (struct DpsComm *c, const DpsView *buf, uint32_t to, struct DpsQueue *q, DpsError *err);
    DpsStatus (*recv) (struct DpsComm *c, const DpsView *buf, uint32_t from, struct DpsQueue *q, DpsError *err);

    /** Unblock every call of this process on c, on any thread or queue; each returns CANCELLED. May be called twice. */
    void (*abort) (struct DpsComm *c);
    /** Leave and free, also after abort or an error; waits for nobody. NULL is fine. */
    void (*destroy) (struct DpsComm *c);
} DpsCollective;

#endif
