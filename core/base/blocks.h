/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.h: GGUF's element types: plain numbers, and blocks in which some numbers share a scale. Read by the gguf format, and by backends that
 * multiply with weights still in their blocks (quant.h).
 */
#ifndef DPS_BASE_BLOCKS_H
#define DPS_BASE_BLOCKS_H

#include "diapason/diapason.h"

enum { DPS_BLOCK_MAX = 256 /* elements of the largest block */ };

/** `elements` values in `bytes` bytes; 1 for plain numbers. decode writes n_blocks × elements floats. */
typedef struct DpsBlockType {
    const char *name; /* "Q4_K" */
    uint32_t gguf;    /* GGUF's number */
    uint32_t elements, bytes;
    void (*decode) (const unsigned char *blocks, uint64_t n_blocks, float *out);
} DpsBlockType;

/** The type with GGUF's number, or with this name; NULL: none. [any] */
const DpsBlockType *dps_block_type (uint32_t gguf);
const DpsBlockType *dps_block_type_named (DpsStr name);

/** Elements [first, first + n) of a row of blocks; neither needs to be a multiple of anything. [any] */
void dps_block_decode (const DpsBlockType *type, const unsigned char *blocks, uint64_t first, uint64_t n, float *out);

#endif
