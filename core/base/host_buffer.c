/* SPDX-License-Identifier: Apache-2.0 */
#include "base/host_buffer.h"

#include "base/mem.h"

DpsStatus dps_host_buffer_alloc (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    (void)dev;
    struct DpsBuffer *b = dps_calloc (1, sizeof *b);
    unsigned char *data = b ? dps_aligned_alloc (64, bytes ? bytes : 1, 1) : NULL;
    if (!data) {
        dps_free (b);
        return dps_fail (err, DPS_ERR_NOMEM, "host memory: none for a buffer of %llu bytes", (unsigned long long)bytes);
    }
    *b = (struct DpsBuffer){data, bytes};
    *out = b;
    if (out_host)
        *out_host = data;
    return DPS_OK;
}

void dps_host_buffer_free (struct DpsDevice *dev, struct DpsBuffer *b)
{
    (void)dev;
    if (!b)
        return;
    dps_free (b->data);
    dps_free (b);
}
