/* SPDX-License-Identifier: Apache-2.0 */
/* host_buffer.h: the buffers of a backend that works in the host's memory: slots of its table as they stand. */
#ifndef DPS_BASE_HOST_BUFFER_H
#define DPS_BASE_HOST_BUFFER_H

#include "base/status.h"
#include "diapason/backend.h"

struct DpsBuffer {
    unsigned char *data;
    uint64_t bytes;
};

/** DpsBackend.alloc: see there. dev is not looked at. */
DpsStatus dps_host_buffer_alloc (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err);
/** DpsBackend.free: see there. */
void dps_host_buffer_free (struct DpsDevice *dev, struct DpsBuffer *b);

#endif
