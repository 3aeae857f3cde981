/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h: what the parts of the safetensors plugin share.
 *
 * Bytes of a file: u64 little-endian n; n bytes of a JSON object {"__metadata__": {string: string}, NAME: {"dtype": "F32", "shape": [..],
 * "data_offsets": [begin, end]}, …}, maybe padded with spaces; then the data, which the offsets cover without hole or overlap.
 */
#ifndef DPS_SAFETENSORS_FILE_H
#define DPS_SAFETENSORS_FILE_H

#include "base/file.h"
#include "diapason/diapason.h"

/* Limits of what is read and written. A reader of a header within them takes at most 8 × header + 1 MiB. */
enum { MAX_HEADER = 100 * 1000 * 1000, MAX_RANK = 8, MAX_NAME = 1024, MAX_META = 65536 };

typedef struct Entry {
    uint32_t name, name_len; /* into names */
    uint32_t shape;          /* into shapes */
    uint8_t rank, dtype;     /* dtype: index into the table of dtype.c */
    uint64_t begin, end;     /* in the data */
} Entry;

typedef struct Pair {
    uint32_t key, key_len, value, value_len; /* into names */
} Pair;

struct DpsFormatFile {
    char *path;
    DpsMap map;
    const unsigned char *data;
    uint64_t data_bytes;
    Entry *entries; /* in file order */
    size_t n_entries, entry_capacity;
    Pair *meta;
    size_t n_meta, meta_capacity;
    int64_t *shapes;
    size_t n_shapes, shape_capacity;
    DpsBuf names; /* unescaped names and metadata */
};

/** Element types: name as in the file, bytes of one element. */
typedef struct Dtype {
    const char *name;
    uint32_t bytes;
} Dtype;
/** By index, NULL past the last. */
const Dtype *dtype_at (size_t i);
/** Index of a name, or -1. */
int dtype_find (const char *name, size_t len);
/** n elements at src (unaligned) as f32; 0 when the dtype has no such reading. */
int dtype_to_f32 (int dtype, const unsigned char *src, uint64_t n, float *dst);

/** Parse and check the header of a mapped file: f->path and f->map are set; the data itself is not touched. */
DpsStatus header_parse (struct DpsFormatFile *f, DpsError *err);
/** Free what header_parse allocated. */
void header_free (struct DpsFormatFile *f);

DpsStatus writer_create (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err);
DpsStatus writer_write (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err);
DpsStatus writer_finish (struct DpsFormatWriter *w, DpsError *err);
void writer_abandon (struct DpsFormatWriter *w);

#endif
