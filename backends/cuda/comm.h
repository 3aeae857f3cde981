/* SPDX-License-Identifier: Apache-2.0 */
/* comm.h: one rank's communicator, between the file that keeps it (comm.c) and the one that works with it (collective.c). */
#ifndef DPS_BACKENDS_CUDA_COMM_H
#define DPS_BACKENDS_CUDA_COMM_H

#include "cuda.h"

struct DpsComm {
    struct DpsDevice *dev;
    struct DpsQueue queue; /* of calls without one */
    uint32_t rank, n_ranks;
    int64_t timeout_ms;
    pthread_mutex_t lock; /* of comm: abort frees it under a caller's feet */
    NcclComm comm;        /* NULL after abort */
    CudaGiven *given;
};

/* Slots of DpsCollective. */
DpsStatus cuda_comm_unique_id (void *buf, size_t cap, size_t *out_len, DpsError *err);
DpsStatus cuda_comm_init (const void *id, size_t id_len, uint32_t rank, uint32_t n_ranks, struct DpsComm **out, DpsError *err);
void cuda_comm_abort (struct DpsComm *c);
void cuda_comm_destroy (struct DpsComm *c);

/**
 * What a call of NCCL's that answered r came to, polled while it is in progress. Errors: CANCELLED after abort or where the host should stop, TIMEOUT
 * when another rank does not answer, DEVICE. [any]
 */
DpsStatus cuda_comm_settle (struct DpsComm *c, NcclResult r, DpsError *err);
DpsStatus cuda_comm_cancelled (const struct DpsComm *c, DpsError *err);
/** CANCELLED where the host should stop, with a message; else OK. For those who wait for another rank. [any] */
DpsStatus cuda_comm_stop (const struct DpsComm *c, DpsError *err);

#endif
