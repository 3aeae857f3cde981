/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "launch.h"

DpsStatus dps_queue_check_copy (const char *who, const DpsView *from, const DpsView *to, DpsError *err)
{
    int same = from->rank == to->rank;
    for (uint32_t i = 0; same && i < from->rank; i++)
        same = from->shape[i] == to->shape[i];
    if (!same)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: a copy of %lld elements of rank %u onto %lld of rank %u; one shape is expected", who,
                         (long long)dps_view_count (from), from->rank, (long long)dps_view_count (to), to->rank);
    if (from->dtype != to->dtype || !dps_launch_bytes (from->dtype))
        return dps_fail (err, DPS_ERR_DTYPE, "%s: a copy from dtype %u to %u; one dtype of fixed size is expected, the op 'copy' casts",
                         who, from->dtype, to->dtype);
    if (!dps_view_contiguous (from) || !dps_view_contiguous (to))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: a copy of a strided window; contiguous ones are expected", who);
    return DPS_OK;
}

int64_t dps_queue_now_ms (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void dps_queue_pause (void)
{
    const struct timespec pause = {0, 50000};
    nanosleep (&pause, NULL);
}

DpsStatus dps_queue_poll (const DpsQueues *queues, struct DpsEvent *event, int64_t timeout_ms, const char *who, DpsError *err)
{
    int64_t end = dps_queue_now_ms () + timeout_ms;
    for (;;) {
        uint32_t done = 0;
        DPS_TRY (queues->query (event, &done, err));
        if (done)
            return DPS_OK;
        if (dps_queue_now_ms () >= end)
            return dps_fail (err, DPS_ERR_TIMEOUT, "%s: the work before an event goes on after %lld ms", who, (long long)timeout_ms);
        dps_queue_pause ();
    }
}
