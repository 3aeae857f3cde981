/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h: the chunks of a packed weight. */
#ifndef DPS_CPU_PACK_H
#define DPS_CPU_PACK_H

#include "cpu.h"
#include "dnnl.h"

typedef struct CpuChunk {
    int64_t first, n; /* rows [first, first + n) of the weight */
    uint64_t offset;  /* bytes from the start of the packed buffer */
    const DnnlLayout *layout;
} CpuChunk;

int cpu_is_packed (const DpsView *w);
/** Chunk `chunk` of a weight (O,K). */
DpsStatus cpu_chunk_at (int64_t O, int64_t K, uint32_t dtype, uint32_t orientation, int64_t chunk, CpuChunk *out, DpsError *err);

#endif
