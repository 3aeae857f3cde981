/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm.c: a communicator of NCCL's, from its making to its end, on the GPU of number rank modulo the GPUs this process sees. Communicators do not
 * block: every call comes back at once and is polled, so that abort, from any thread, ends it.
 */
#include <string.h>

#include "comm.h"

CudaGiven *cuda_given_ref (CudaGiven *g)
{
    if (g)
        atomic_fetch_add (&g->refs, 1);
    return g;
}

void cuda_given_unref (CudaGiven *g)
{
    if (g && atomic_fetch_sub (&g->refs, 1) == 1)
        dps_free (g);
}

DpsStatus cuda_comm_cancelled (const struct DpsComm *c, DpsError *err)
{
    return dps_fail (err, DPS_ERR_CANCELLED, "%s: rank %u: the communicator was aborted", c->dev->name, c->rank);
}

DpsStatus cuda_comm_stop (const struct DpsComm *c, DpsError *err)
{
    if (!cuda_should_stop ())
        return DPS_OK;
    return dps_fail (err, DPS_ERR_CANCELLED, "%s: rank %u was asked to stop while it waited for another rank", c->dev->name, c->rank);
}

/* Two ranks on one GPU are an invalid usage of NCCL: a group that this machine cannot have. */
static DpsStatus failed (const struct DpsComm *c, NcclResult r, DpsError *err)
{
    static const char *const names[] = {
        "ok", "unhandled CUDA error", "system error", "internal error", "invalid argument", "invalid usage", "remote error"};
    DpsStatus st = r == (NcclResult)NCCL_INVALID_USAGE ? DPS_ERR_UNSUPPORTED : DPS_ERR_DEVICE;
    dps_fail (err, st, "%s: rank %u: NCCL: %s (%u)%s. Hint: NCCL_DEBUG=INFO says more", c->dev->name, c->rank,
              (uint32_t)r < sizeof names / sizeof *names ? names[(uint32_t)r] : "unknown error", (unsigned)r,
              st == DPS_ERR_UNSUPPORTED ? ", as of two ranks on one GPU" : "");
    if (err)
        err->vendor_code = (int32_t)r;
    return st;
}

DpsStatus cuda_comm_settle (struct DpsComm *c, NcclResult r, DpsError *err)
{
    int64_t end = dps_queue_now_ms () + c->timeout_ms;
    while (r == (NcclResult)NCCL_IN_PROGRESS) {
        pthread_mutex_lock (&c->lock);
        NcclResult asked = c->comm ? cuda_api.nccl.async_error (c->comm, &r) : (NcclResult)NCCL_OK;
        int gone = !c->comm;
        pthread_mutex_unlock (&c->lock);
        if (gone)
            return cuda_comm_cancelled (c, err);
        if (asked != (NcclResult)NCCL_OK)
            return failed (c, asked, err);
        if (r == (NcclResult)NCCL_IN_PROGRESS)
            DPS_TRY (cuda_comm_stop (c, err));
        if (r == (NcclResult)NCCL_IN_PROGRESS && dps_queue_now_ms () >= end)
            return dps_fail (err, DPS_ERR_TIMEOUT, "%s: rank %u: another rank did not answer within %lld ms", c->dev->name, c->rank,
                             (long long)c->timeout_ms);
        if (r == (NcclResult)NCCL_IN_PROGRESS)
            dps_queue_pause ();
    }
    return r == (NcclResult)NCCL_OK ? DPS_OK : failed (c, r, err);
}

DpsStatus cuda_comm_unique_id (void *buf, size_t cap, size_t *out_len, DpsError *err)
{
    NcclId id;
    if (cap < sizeof id)
        return dps_fail (err, DPS_ERR_LIMIT, "cuda: an identifier has %zu bytes, there is room for %zu", sizeof id, cap);
    NcclResult r = cuda_api.nccl.unique_id (&id);
    if (r != (NcclResult)NCCL_OK)
        return dps_fail (err, DPS_ERR_DEVICE, "cuda: NCCL makes no identifier (%u). Hint: NCCL_DEBUG=INFO says more", (unsigned)r);
    memcpy (buf, &id, sizeof id);
    *out_len = sizeof id;
    return DPS_OK;
}

void cuda_comm_abort (struct DpsComm *c)
{
    atomic_store (&c->given->aborted, 1);
    pthread_mutex_lock (&c->lock);
    NcclComm comm = c->comm;
    c->comm = NULL;
    if (comm)
        cuda_api.nccl.abort (comm); /* ends its kernels too */
    pthread_mutex_unlock (&c->lock);
}

void cuda_comm_destroy (struct DpsComm *c)
{
    if (!c)
        return;
    if (c->dev)
        cuda_api.cu.context_use (c->dev->context);
    if (c->comm)
        cuda_api.nccl.abort (c->comm); /* ncclCommDestroy would wait for the others */
    if (c->dev)
        cuda_queue_deinit (&c->queue);
    cuda_given_unref (c->given);
    pthread_mutex_destroy (&c->lock);
    dps_free (c);
}

static DpsStatus timeout_of_host (int64_t *out_ms, DpsError *err)
{
    char value[24] = "";
    const char *s = value;
    *out_ms = 0;
    if (!cuda_host.config_get || !cuda_host.config_get (dps_str ("cuda.collective_timeout_ms"), value, sizeof value))
        *out_ms = 600000;
    for (; *s >= '0' && *s <= '9' && *out_ms < 1000000000; s++)
        *out_ms = *out_ms * 10 + (*s - '0');
    return !*s && *out_ms > 0
               ? DPS_OK
               : dps_fail (err, DPS_ERR_INVALID,
                           "cuda: DIAPASON_CUDA_COLLECTIVE_TIMEOUT_MS is '%s', expected milliseconds, 1 to 1000000000", value);
}

static DpsStatus join (struct DpsComm *c, const void *id, DpsError *err)
{
    NcclId key;
    NcclConfig config;
    memcpy (&key, id, sizeof key);
    memset (&config, 0, sizeof config);
    config.size = sizeof config;
    config.magic = 0xcafebeef;
    config.version = NCCL_CONFIG_VERSION;
    config.blocking = 0;
    DPS_TRY (cuda_device ((int)(c->rank % (uint32_t)cuda_devices ()), &c->dev, err));
    DPS_TRY (cuda_enter (c->dev, err));
    DPS_TRY (cuda_queue_init (&c->queue, c->dev, 0, err));
    return cuda_comm_settle (c, cuda_api.nccl.init (&c->comm, (int)c->n_ranks, key, (int)c->rank, &config), err);
}

DpsStatus cuda_comm_init (const void *id, size_t id_len, uint32_t rank, uint32_t n_ranks, struct DpsComm **out, DpsError *err)
{
    if (id_len != sizeof (NcclId) || rank >= n_ranks)
        return dps_fail (err, DPS_ERR_INVALID,
                         "cuda: rank %u of %u with an identifier of %zu bytes; expected %zu bytes and a rank below %u", rank, n_ranks,
                         id_len, sizeof (NcclId), n_ranks);
    struct DpsComm *c = dps_calloc (1, sizeof *c);
    CudaGiven *given = c ? dps_calloc (1, sizeof *given) : NULL;
    if (!given || pthread_mutex_init (&c->lock, NULL)) {
        dps_free (given);
        dps_free (c);
        return dps_fail (err, DPS_ERR_NOMEM, "cuda: no memory for a communicator");
    }
    atomic_store (&given->refs, 1);
    c->given = given;
    c->rank = rank;
    c->n_ranks = n_ranks;
    DpsStatus st = timeout_of_host (&c->timeout_ms, err);
    if (st == DPS_OK)
        st = join (c, id, err);
    if (st == DPS_OK)
        *out = c;
    else
        cuda_comm_destroy (c);
    return st;
}
