/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h: what the parts of the GGUF plugin share.
 *
 * Bytes of a file, little-endian: "GGUF", u32 version (2 or 3), u64 tensors, u64 key-values; per key-value: string key, u32 type, value; per
 * tensor: string name, u32 dimensions, u64 ne[] (innermost first), u32 type, u64 offset; padding to general.alignment (32); data.
 * A string is u64 length and bytes; an array u32 element type, u64 count and elements.
 */
#ifndef DPS_GGUF_FILE_H
#define DPS_GGUF_FILE_H

#include "base/blocks.h"
#include "base/file.h"
#include "diapason/diapason.h"

enum {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};

enum { MAX_DIMS = 4, MAX_NAME = 1024 };

typedef struct Tensor {
    DpsStr name; /* in the map */
    const DpsBlockType *type;
    uint32_t rank;
    int64_t shape[MAX_DIMS];   /* row-major: ne reversed */
    uint64_t n, bytes, offset; /* offset from the start of the file */
} Tensor;

struct DpsFormatFile {
    char *path;
    DpsMap map;
    DpsMeta *meta;
    size_t n_meta;
    Tensor *tensors;
    size_t n_tensors;
    uint64_t data; /* offset of the data section */
};

/** Parse and check everything before the data: f->path and f->map are set. Memory: at most 8 × header + 64 KiB. */
DpsStatus gguf_parse (struct DpsFormatFile *f, DpsError *err);
/** Free what gguf_parse allocated. */
void gguf_free (struct DpsFormatFile *f);

#endif
